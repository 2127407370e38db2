"""Names for classes that are known by their WordNet identifiers, as in ``n01440764``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def class_names(wnids: Sequence[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """A name for every identifier: its first word, as in "tench" for "tench, Tinca tinca".

    An identifier without words is its own name. Two classes of one name (ImageNet has two cranes)
    are told apart by their identifiers, as in "crane (n03126707)".
    """
    names = [words.get(wnid, "").split(",")[0].strip() or wnid for wnid in wnids]
    count = Counter(names)
    return tuple(
        name if count[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, wnids, strict=True)
    )
