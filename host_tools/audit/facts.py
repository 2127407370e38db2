"""Figures that findings, the table, the page and JSON share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from host_tools.data.audit.duplicates import CopyGroup
from host_tools.data.audit.examine import Examination
from host_tools.data.pictures import SPLITS, Picture, Split


@dataclass(frozen=True, slots=True)
class Pair:
    """Two copies, to be looked at.

    Attributes:
        kind: ``exact``: the same pixels; ``near``: the same to look at.
        first, second: indices of the pictures.
        likeness: correlation of their edges; 1 for exact copies.
        leak: whether they stand in different ready splits.
        conflict: whether they stand in different classes.
    """

    kind: Literal["exact", "near"]
    first: int
    second: int
    likeness: float
    leak: bool
    conflict: bool


def split_by_chance(seen: Examination) -> bool:
    """Whether edgecls cuts a split from these pictures itself, as it does where one is missing."""
    return not {"validation", "test"} <= seen.folder.ready_splits


def counts(seen: Examination) -> list[Counter[Split | None]]:
    """Of every class the pictures that can be read, by split."""
    by_class: list[Counter[Split | None]] = [Counter() for _ in seen.folder.classes]
    for picture in seen.pictures:
        by_class[picture.label][picture.split] += 1
    return by_class


def imbalance(seen: Examination) -> float | None:
    """Pictures of the largest class per picture of the smallest, in training; None without some."""
    trained = [count["train"] + count[None] for count in counts(seen)]
    return max(trained) / min(trained) if min(trained) else None


def leaked(seen: Examination, groups: Sequence[CopyGroup]) -> set[int]:
    """Pictures of validation or test that have a copy in a split before theirs."""
    late: set[int] = set()
    for group in groups:
        places = {index: _place(seen.pictures[index]) for index in group.members}
        first = min(places.values())
        late.update(index for index, place in places.items() if place > first)
    return late


def conflicts(seen: Examination) -> list[CopyGroup]:
    """Groups of exact copies that stand in several classes."""
    return [g for g in seen.exact if len({seen.pictures[i].label for i in g.members}) > 1]


def across_groups(seen: Examination) -> list[CopyGroup]:
    """Groups of exact copies whose members are said to be of several groups, such as patients."""
    return [
        copies
        for copies in seen.exact
        if len({seen.pictures[i].group for i in copies.members} - {None}) > 1
    ]


def pairs(seen: Examination) -> list[Pair]:
    """The links that hold groups together: leaks first, then conflicts, the most alike first."""
    found = []
    for group in seen.exact:
        first = group.members[0]
        found += [_pair(seen, "exact", first, other, 1.0) for other in group.members[1:]]
    for group in seen.near.groups if seen.near else ():
        found += [_pair(seen, "near", k.first, k.second, k.likeness) for k in group.links]
    return sorted(found, key=lambda pair: (not pair.leak, not pair.conflict, -pair.likeness))


def straddling(seen: Examination) -> list[str]:
    """Groups, such as patients, with pictures in several ready splits."""
    places: dict[str, set[int]] = defaultdict(set)
    for picture in seen.pictures:
        if picture.group is not None:
            places[picture.group].add(_place(picture))
    return sorted(group for group, where in places.items() if len(where) > 1)


def _place(picture: Picture) -> int:
    return 0 if picture.split is None else SPLITS.index(picture.split)


def _pair(
    seen: Examination, kind: Literal["exact", "near"], first: int, second: int, likeness: float
) -> Pair:
    a, b = seen.pictures[first], seen.pictures[second]
    return Pair(kind, first, second, likeness, _place(a) != _place(b), a.label != b.label)
