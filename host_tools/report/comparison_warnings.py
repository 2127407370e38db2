"""Why the figures of several runs may not be comparable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from host_tools.report.runs import ComparedRun

K = TypeVar("K")
V = TypeVar("V")
Named = tuple[str, ComparedRun]


def warnings(runs: Sequence[ComparedRun], names: Sequence[str]) -> tuple[str, ...]:
    """A sentence or two for each reason.

    Args:
        runs, names: the runs, and what each is called.
    """
    named = list(zip(names, runs, strict=True))
    return (
        *_not_evaluated(named),
        *_different_splits(named),
        *_different_data(named),
        *_different_pictures(named),
        *_repeated(named),
    )


def _not_evaluated(named: Sequence[Named]) -> Iterator[str]:
    without = [name for name, run in named if not run.n]
    if without:
        yield f"Evaluated on no pictures: {', '.join(without)}."


def _different_splits(named: Sequence[Named]) -> Iterator[str]:
    splits = _shared((run.split, name) for name, run in named if run.n and run.split)
    if len(splits) > 1:
        which = "; ".join(f"{split}: {', '.join(who)}" for split, who in splits.items())
        yield (
            f"Evaluated on different splits ({which}). The figures are not of the same pictures; "
            "edgecls train evaluates on validation, edgecls build on test."
        )


def _different_data(named: Sequence[Named]) -> Iterator[str]:
    data = _shared((run.fingerprint, name) for name, run in named if run.fingerprint)
    if len(data) > 1:
        which = "; ".join(f"{mark[:12]}: {', '.join(who)}" for mark, who in data.items())
        yield (
            f"Different data sets, by their fingerprints ({which}). A difference may come from the "
            "pictures."
        )


def _different_pictures(named: Sequence[Named]) -> Iterator[str]:
    """Of one data set and a split of one name: those with another seed or share of it."""
    kinds = _shared(
        ((run.fingerprint, run.split), (run.split_fingerprint, name))
        for name, run in named
        if run.n and run.fingerprint and run.split_fingerprint
    )
    for (_, split), marked in kinds.items():
        pictures = _shared(marked)
        if len(pictures) > 1:
            which = "; ".join(", ".join(who) for who in pictures.values())
            yield (
                f"The {split} split has not the same pictures in all runs ({which}): data.seed, "
                "data.validation or data.test differs."
            )


def _repeated(named: Sequence[Named]) -> Iterator[str]:
    repeated = _shared(((run.identity, repr(run.seed)), name) for name, run in named if run.recipe)
    for same in repeated.values():
        if len(same) > 1:
            yield (
                f"The same recipe, seed and data: {', '.join(same)}. They are no independent "
                "repetitions, and make a standard deviation too small."
            )


def _shared(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The second members of pairs by their first ones."""
    shared: dict[K, list[V]] = {}
    for key, value in pairs:
        shared.setdefault(key, []).append(value)
    return shared
