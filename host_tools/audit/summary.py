"""An examination as JSON and as a table for people; see ``docs/json.md``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from host_tools.audit.facts import (
    Pair,
    conflicts,
    counts,
    imbalance,
    leaked,
    pairs,
    straddling,
)
from host_tools.data.audit.examine import Examination
from host_tools.data.audit.findings import LONG_RATIO, TINY_PX, Finding
from host_tools.data.pictures import SPLITS, Picture

# What turns the direction of writing, and may make "gpj.exe" of "exe.jpg".
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

# Of long lists JSON names these many and says how many there are.
MOST_NAMED = 100


def to_json(seen: Examination, found: Sequence[Finding]) -> dict[str, Any]:
    """The object of type ``data_check``."""
    short, long = seen.sizes.min(axis=1), seen.sizes.max(axis=1)
    strays = seen.strays
    every = pairs(seen)
    exact_leaks = leaked(seen, seen.exact)
    near_leaks = leaked(seen, seen.near.groups) - exact_leaks if seen.near else set()
    return {
        "schema": 1,
        "type": "data_check",
        "path": str(seen.folder.root),
        "layout": seen.folder.layout,
        "n": len(seen.pictures),
        "ready_splits": [split for split in SPLITS if split in seen.folder.ready_splits],
        "classes": class_rows(seen),
        "imbalance": imbalance(seen),
        "size_px": {"width": _spread(seen, 0), "height": _spread(seen, 1)},
        "tiny": int((short < TINY_PX).sum()),
        "elongated": int((long > LONG_RATIO * short).sum()),
        "gray": int(seen.gray.sum()),
        "unreadable": [{"path": str(u.picture.path), "reason": u.reason} for u in seen.unreadable],
        "misnamed": _named([{"path": str(m.path), "kind": m.kind} for m in seen.misnamed]),
        "not_read": {
            "foreign": _paths(strays.foreign),
            "unlabelled": _paths(strays.unlabelled),
            "others": _paths(strays.others),
        },
        "exact_copies": {
            "groups": len(seen.exact),
            "pictures": sum(len(group.members) for group in seen.exact),
            "conflicts": len(conflicts(seen)),
            "leaks": len(exact_leaks),
        },
        "near_copies": None
        if seen.near is None
        else {
            "groups": len(seen.near.groups),
            "pictures": sum(len(group.members) for group in seen.near.groups),
            "leaks": len(near_leaks),
            "bits": seen.near.bits,
            "likeness_asked": seen.near.asked,
            "complete": seen.near.complete,
        },
        "pairs": _named([_pair(seen, pair) for pair in every]),
        "straddling_groups": _named(straddling(seen)),
        "findings": [asdict(finding) for finding in found],
    }


def class_rows(seen: Examination) -> list[dict[str, Any]]:
    """Of every class its label, its readable pictures, and those of every ready split."""
    ready = [split for split in SPLITS if split in seen.folder.ready_splits]
    return [
        {"label": name, "n": sum(count.values()), "splits": {s: count[s] for s in ready}}
        for name, count in zip(seen.folder.classes, counts(seen), strict=True)
    ]


def to_lines(seen: Examination, found: Sequence[Finding]) -> list[str]:
    """A table of classes, sizes, and the findings."""
    ready = [split for split in SPLITS if split in seen.folder.ready_splits]
    rows = [["class", "pictures", *ready]]
    classes = class_rows(seen)
    for row in classes[:MOST_NAMED]:
        splits = [f"{row['splits'][split]:,}" for split in ready]
        rows.append([printable(row["label"]), f"{row['n']:,}", *splits])
    sums = [sum(p.split == split for p in seen.pictures) for split in ready]
    rows.append(["all", f"{len(seen.pictures):,}", *(f"{n:,}" for n in sums)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    width, height = _spread(seen, 0), _spread(seen, 1)
    if len(classes) > MOST_NAMED:
        lines.insert(-1, f"... and {len(classes) - MOST_NAMED} more classes; --json has them all")
    lines += [
        "",
        f"layout {seen.folder.layout}; width {_told(width)}, height {_told(height)} pixels",
        "",
    ]
    for finding in found:
        lines.append(f"{finding.severity}: {printable(finding.what)}")
        lines.append(f"  why: {printable(finding.why)}")
        if finding.fix:
            lines.append(f"  fix: {printable(finding.fix)}")
    return lines if found else [*lines, "nothing to complain about"]


def printable(text: str) -> str:
    """Text without the control characters that a file's name may hold, and a terminal would obey."""
    return "".join("?" if unicodedata.category(c) == "Cc" or c in _TURNING else c for c in text)


def _spread(seen: Examination, side: int) -> dict[str, int]:
    values = sorted(int(value) for value in seen.sizes[:, side])
    return {"min": values[0], "median": values[len(values) // 2], "max": values[-1]}


def _told(spread: dict[str, int]) -> str:
    if spread["min"] == spread["max"]:
        return str(spread["min"])
    return f"{spread['min']} to {spread['max']} (median {spread['median']})"


def _named(entries: Sequence[Any]) -> dict[str, Any]:
    return {"n": len(entries), "first": list(entries[:MOST_NAMED])}


def _paths(paths: Sequence[Path]) -> dict[str, Any]:
    return _named([str(path) for path in paths])


def _pair(seen: Examination, pair: Pair) -> dict[str, Any]:
    sides = (seen.pictures[pair.first], seen.pictures[pair.second])
    return {
        "kind": pair.kind,
        "likeness": pair.likeness,
        "leak": pair.leak,
        "conflict": pair.conflict,
        "pictures": [_place(seen, picture) for picture in sides],
    }


def _place(seen: Examination, picture: Picture) -> dict[str, Any]:
    label = seen.folder.classes[picture.label]
    return {"path": str(picture.path), "label": label, "split": picture.split}
