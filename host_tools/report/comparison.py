"""Several runs side by side: their figures, those of repetitions together, and what differs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from edge_sdk.errors import ValidationError
from edge_sdk.plain import to_plain
from host_tools.recipe import literal
from host_tools.report.runs import FIGURES, ComparedRun, read_run

# Separators before the number of a repetition.
_SEPARATORS = " -_./"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the repetitions that have it.

    Attributes:
        mean: arithmetic.
        sd: sample standard deviation (n - 1 in the denominator); None with one value.
        n: values.
    """

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Group:
    """Repetitions: runs on the same pictures whose recipes differ in ``training.seed`` alone.

    Attributes:
        name: the common prefix of its runs' names, else the recipe's name; no two are the same.
        members: indices of its runs.
        seeds: different ones among them, at least two.
        figures: by name, in the order of ``FIGURES``; None where no run has it.
    """

    name: str
    members: tuple[int, ...]
    seeds: int
    figures: Mapping[str, Spread | None]


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Runs of the same classes.

    Attributes:
        runs: at least two, in the order given.
        names: of the runs, each different: the ends of their paths.
        groups: of repetitions.
        differing: recipe keys that are not the same for all, with each run's value as TOML; None
            where its recipe has none.
        warnings: why figures may not be comparable, a sentence each.
    """

    runs: tuple[ComparedRun, ...]
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    differing: Mapping[str, tuple[str | None, ...]]
    warnings: tuple[str, ...]

    @property
    def recipes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Groups, and the runs outside of them: a name and the indices of its runs for each.

        They are in the order of their first runs.
        """
        found = [(group.name, group.members) for group in self.groups]
        grouped = {member for _, members in found for member in members}
        found += [(name, (place,)) for place, name in enumerate(self.names) if place not in grouped]
        return tuple(sorted(found, key=lambda recipe: recipe[1][0]))

    def to_json(self) -> dict[str, Any]:
        """As ``edgecls compare --json`` prints it, see docs/json.md."""
        return {
            "schema": 1,
            "type": "comparison",
            "runs": [
                {
                    "path": str(run.path),
                    "name": name,
                    "recipe": run.title,
                    "seed": run.seed,
                    "split": run.split,
                    "n": run.n,
                    "data_fingerprint": run.fingerprint,
                    "accuracy_ci95": run.accuracy_ci95,
                    **to_plain(run.figures),
                }
                for name, run in zip(self.names, self.runs, strict=True)
            ],
            "groups": [
                {
                    "name": group.name,
                    "runs": [str(self.runs[member].path) for member in group.members],
                    "seeds": [self.runs[member].seed for member in group.members],
                    **to_plain(group.figures),
                }
                for group in self.groups
            ],
            "differing": self.differing,
            "warnings": self.warnings,
        }


def compare_runs(paths: Sequence[Path]) -> RunComparison:
    """Reads runs and puts them side by side.

    Args:
        paths: at least two run directories, each another one.

    Raises:
        ValidationError: runs of different classes.
        EdgeClsError: see ``read_run``.
    """
    runs = tuple(read_run(path) for path in paths)
    _check_classes(runs)
    names = short_names(paths)
    return RunComparison(
        runs, names, groups_of(runs, names), differing(runs), warnings(runs, names)
    )


def short_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The shortest ends of paths that are unique, all with the same number of folders.

    Args:
        paths: no two of the same folder.
    """
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts))):
        names = tuple("/".join(part[-length:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, paths))


def groups_of(runs: Sequence[ComparedRun], names: Sequence[str]) -> tuple[Group, ...]:
    """Finds the repetitions with several seeds among runs, in the order of their first ones.

    Args:
        runs, names: the runs, and what each is called.
    """
    found: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(run.identity, []).append(place)
    groups = []
    for members in found.values():
        seeds = {repr(runs[member].seed) for member in members}
        if len(seeds) > 1:
            name = _common([names[member] for member in members]) or runs[members[0]].title
            groups.append(Group(name, tuple(members), len(seeds), _figures(runs, members)))
    used = Counter(group.name for group in groups)
    return tuple(
        group
        if used[group.name] == 1
        else replace(group, name=f"{names[group.members[0]]} and {len(group.members) - 1} more")
        for group in groups
    )


def _figures(runs: Sequence[ComparedRun], members: Sequence[int]) -> dict[str, Spread | None]:
    return {
        key: spread([getattr(runs[member].figures, key) for member in members]) for key in FIGURES
    }


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and sample standard deviation of the values that are known; None without any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, len(known))


def differing(runs: Sequence[ComparedRun]) -> dict[str, tuple[str | None, ...]]:
    """Recipe keys that some runs have differently, in the order of the recipe."""
    keys = dict.fromkeys(key for run in runs for key in run.recipe)
    values = {
        key: tuple(literal(run.recipe[key]) if key in run.recipe else None for run in runs)
        for key in keys
    }
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def _common(names: Sequence[str]) -> str:
    """What names begin with together, without the numbers of repetitions."""
    start = names[0]
    while not all(name.startswith(start) for name in names):
        start = start[:-1]
    if all(name[len(start) :].isdigit() for name in names):
        start = start.rstrip("0123456789")  # of run11 and run12
    return start.rstrip(_SEPARATORS)


def _check_classes(runs: Sequence[ComparedRun]) -> None:
    known = [run for run in runs if run.labels is not None]
    for run in known[1:]:
        first = known[0]
        ours, theirs = first.labels or (), run.labels or ()
        for place in range(max(len(ours), len(theirs))):
            a, b = (
                repr(labels[place]) if place < len(labels) else "missing"
                for labels in (ours, theirs)
            )
            if a != b:
                raise ValidationError(
                    f"{first.path} and {run.path} have different classes: label {place} is {a} in the "
                    f"first and {b} in the second; compare runs of the same classes"
                )


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
                f"The same recipe, seed and data: {', '.join(same)}. They are not independent "
                "repetitions, and make a standard deviation too small."
            )


def _shared(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The second members of pairs by their first ones."""
    shared: dict[K, list[V]] = {}
    for key, value in pairs:
        shared.setdefault(key, []).append(value)
    return shared
