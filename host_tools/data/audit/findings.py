"""The findings of an examination, each with a reason and a remedy."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from host_tools.data.audit.duplicates import CopyGroup
from host_tools.data.audit.examine import Examination
from host_tools.data.layouts.listing import first_few
from host_tools.data.pictures import SPLITS, Picture, Split


@dataclass(frozen=True, slots=True)
class Pair:
    """Two copies, for a person to compare.

    Attributes:
        kind: ``exact``: the same pixels; ``near``: the same appearance.
        first, second: indices of the pictures.
        likeness: correlation of their edges; 1 for exact copies.
        leak: whether they are in different ready splits.
        conflict: whether they are in different classes.
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
    """Readable pictures of every class, by split."""
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
    """Groups of exact copies that are in several classes."""
    return [g for g in seen.exact if len({seen.pictures[i].label for i in g.members}) > 1]


def across_groups(seen: Examination) -> list[CopyGroup]:
    """Groups of exact copies whose members have several group names, such as patients."""
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


Severity = Literal["error", "warning", "note"]

TINY_PX = 32
LONG_RATIO = 4
IMBALANCED = 10


@dataclass(frozen=True, slots=True)
class DataFinding:
    """One finding of the audit.

    Attributes:
        severity: error: figures measured on this data set would be wrong; warning: they may be, or
            pictures are lost; note: information.
        what: the fault.
        why: its effect.
        fix: what to do about it, or None.
    """

    severity: Severity
    what: str
    why: str
    fix: str | None


def findings(seen: Examination) -> tuple[DataFinding, ...]:
    """All findings, errors first."""
    found = [
        *_leaks(seen),
        *_files(seen),
        *_copies(seen),
        *_classes(seen),
        *_shapes(seen),
    ]
    order = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _leaks(seen: Examination) -> Iterator[DataFinding]:
    why = "a model is tested on pictures it was trained on, and the measured accuracy is too high"
    exact = leaked(seen, seen.exact)
    if exact:
        yield DataFinding(
            "error",
            f"{_n(exact, 'picture', 'pictures')} of validation or test with an exact copy in an earlier "
            f"split ({_first(seen, exact)})",
            why,
            "delete them from one of the splits, or put all pictures into one folder per class and let "
            "edgecls split them: it keeps copies together",
        )
    near = leaked(seen, seen.near.groups) - exact if seen.near else set()
    if near:
        yield DataFinding(
            "error",
            f"{_n(near, 'picture', 'pictures')} of validation or test with a near copy in an earlier "
            f"split ({_first(seen, near)})",
            why,
            "look at the pairs with --page data-check.html, and delete one of each, preferably in "
            "training; --near 0 looks for exact copies only",
        )
    groups = straddling(seen)
    if groups:
        yield DataFinding(
            "error",
            f"{_n(groups, 'group has', 'groups have')} pictures in several splits ({first_few(groups)})",
            "pictures of one patient or scene are alike; the accuracy on a known group is too high",
            "move every group to one split, or remove the split column and let edgecls split by group",
        )


def _files(seen: Examination) -> Iterator[DataFinding]:
    if seen.unreadable:
        first = seen.unreadable[0]
        yield DataFinding(
            "warning",
            f"{_n(seen.unreadable, 'picture', 'pictures')} cannot be read (first {first.picture.path}: "
            f"{first.reason})",
            "training leaves them out",
            "copy them again, or delete them",
        )
    if seen.misnamed:
        first_misnamed = seen.misnamed[0]
        yield DataFinding(
            "note",
            f"{_n(seen.misnamed, 'picture is', 'pictures are')} of another format than the name says "
            f"(first {first_misnamed.path}: {first_misnamed.kind})",
            "edgecls reads them all the same; other programs may not",
            "rename them",
        )
    strays = seen.strays
    if strays.unsupported:
        yield DataFinding(
            "warning",
            f"{_n(strays.unsupported, 'picture is', 'pictures are')} in a format that edgecls does not "
            f"read (first {strays.unsupported[0]})",
            "training does not read them",
            "convert them to JPEG or PNG",
        )
    if strays.unlabelled:
        yield DataFinding(
            "warning",
            f"{_n(strays.unlabelled, 'picture belongs', 'pictures belong')} to no class "
            f"(first {strays.unlabelled[0]})",
            "the layout does not read them, nor does training",
            "move them to the folder of their class (or name them in the table), or delete them",
        )
    if strays.others:
        yield DataFinding(
            "note",
            f"{_n(strays.others, 'file is', 'files are')} not read (first {strays.others[0]})",
            "they are part of no layout; a misplaced label file would be listed here, too",
            None,
        )


def _copies(seen: Examination) -> Iterator[DataFinding]:
    odd = conflicts(seen)
    if odd:
        group = odd[0]
        names = sorted({seen.folder.classes[seen.pictures[i].label] for i in group.members})
        yield DataFinding(
            "warning",
            f"{_n(odd, 'picture has', 'pictures have')} exact copies in several classes "
            f"(first {seen.pictures[group.members[0]].path}: {' and '.join(names)})",
            "one of the labels is wrong, and the model cannot learn both",
            "delete the wrong ones",
        )
    spare = sum(len(group.members) - 1 for group in seen.exact)
    if spare:
        yield DataFinding(
            "note",
            f"{spare:,} {'picture is an' if spare == 1 else 'pictures are'} exact "
            f"{'copy' if spare == 1 else 'copies'} of others",
            "they count more than others in training; splits that edgecls cuts keep them together",
            "delete all but one",
        )
    mixed_up = across_groups(seen)
    if mixed_up:
        first = seen.pictures[mixed_up[0].members[0]].path
        names = sorted({seen.pictures[i].group or "" for i in mixed_up[0].members} - {""})
        yield DataFinding(
            "warning",
            f"{_n(mixed_up, 'picture has', 'pictures have')} exact copies in several groups "
            f"(first {first}: {' and '.join(names)})",
            "splits that edgecls cuts keep these groups together; one of the names may be wrong",
            "correct the names of the groups in the table, or delete the copies",
        )
    if seen.near is None:
        return
    if not seen.near.complete:
        yield DataFinding(
            "note",
            "nearly all pictures look alike, and not all pairs were compared",
            "there may be more near copies than are listed here",
            "a smaller --near compares fewer pairs",
        )
    together = [g for g in seen.near.groups if not leaked(seen, [g])]
    alike = {index for group in together for index in group.members}
    if alike:
        chance = split_by_chance(seen)
        mixed = sum(len({seen.pictures[i].label for i in g.members}) > 1 for g in together)
        classes = f"; {mixed} of the groups are in several classes" if mixed else ""
        yield DataFinding(
            "warning" if chance or mixed else "note",
            f"{len(alike):,} pictures are near copies of each other, in "
            f"{_n(together, 'group', 'groups')} ({_first(seen, alike)}{classes})",
            "edgecls cuts the missing splits at random and may separate them; the measured accuracy "
            "is then too high"
            if chance
            else "they count more than others in training",
            "look at the pairs with --page data-check.html, and keep one picture of each group",
        )


def _classes(seen: Examination) -> Iterator[DataFinding]:
    names = seen.folder.classes
    by_class = counts(seen)
    if len(names) < 2:
        yield DataFinding(
            "warning",
            f"only one class, {names[0]}",
            "a classifier needs at least two",
            "put a folder of other pictures beside it",
        )
    ready = seen.folder.ready_splits
    for split in SPLITS:
        lacking = [n for n, c in zip(names, by_class, strict=True) if not c[split]]
        if split in ready and lacking:
            yield DataFinding(
                "warning",
                f"no pictures that can be read in {split} for {first_few(lacking)}",
                "training stops there"
                if split == "train"
                else "the model's accuracy on them cannot be measured",
                f"add some to {split}",
            )
    emptied = [n for n, c in zip(names, by_class, strict=True) if not c]
    if emptied and not ready:
        yield DataFinding(
            "warning",
            f"no picture that can be read for {first_few(emptied)}",
            "training stops there",
            "copy them again, or delete the class",
        )
    ratio = imbalance(seen)
    if ratio is not None and ratio >= IMBALANCED:
        trained = [count["train"] + count[None] for count in by_class]
        most, least = trained.index(max(trained)), trained.index(min(trained))
        yield DataFinding(
            "note",
            f"{names[most]} has {max(trained):,} training pictures, {names[least]} has "
            f"{min(trained):,}: {ratio:.0f} to 1",
            "a model reaches a high accuracy by naming the large classes only",
            'set training.class_weights = "balanced" in the recipe, and judge by the class-by-class '
            "figures",
        )


def _shapes(seen: Examination) -> Iterator[DataFinding]:
    short, long = seen.sizes.min(axis=1), seen.sizes.max(axis=1)
    for odd, what, why, fix in (
        (
            short < TINY_PX,
            f"under {TINY_PX} pixels high or wide",
            "they show little detail once they are enlarged",
            "check that they are not thumbnails or icons",
        ),
        (
            long > LONG_RATIO * short,
            f"more than {LONG_RATIO} times as long as wide",
            "the centre crop shows a small part of them",
            "crop them to the object, or delete them",
        ),
    ):
        rows = odd.nonzero()[0]
        if len(rows):
            first = rows[0]
            yield DataFinding(
                "note",
                f"{_n(rows, 'picture is', 'pictures are')} {what} (first {seen.pictures[first].path}: "
                f"{seen.sizes[first, 0]} x {seen.sizes[first, 1]})",
                why,
                fix,
            )
    share = seen.gray.mean()
    if 0 < share < 1:
        n = int(seen.gray.sum())
        first = int(seen.gray.argmax())
        yield DataFinding(
            "note",
            f"{n:,} of {len(seen.gray):,} pictures {'is' if n == 1 else 'are'} without colours (first "
            f"{seen.pictures[first].path})",
            "harmless where they are spread over the classes; otherwise a model learns gray as a class",
            None,
        )


def _n(things: Collection[object], one: str, many: str) -> str:
    return f"{len(things):,} {one if len(things) == 1 else many}"


def _first(seen: Examination, pictures: Collection[int]) -> str:
    """Path of the first of some pictures."""
    return f"first {seen.pictures[min(pictures)].path}"
