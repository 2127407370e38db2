"""Keeps a machine's figures, and shows new ones beside them.

    python -m benchmarks.reference_file ROWS.json RATIOS.json [--write NAME]

ROWS is what ``pytest benchmarks --benchmark-json`` wrote, RATIOS what ``benchmarks.ratios --json``
did. Prints every row beside the file in ``reference/`` that is of this machine, where there is one;
``--write NAME`` keeps the new figures as ``reference/NAME.json``: medians, quartiles and numbers of
runs, without the single timings.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edge_sdk.machine.facts import Machine
from edge_sdk.plain import from_plain

_FOLDER = Path(__file__).parent / "reference"
SCHEMA = 1


def compact(rows: dict[str, Any], ratios: dict[str, Any]) -> dict[str, Any]:
    """The figures worth keeping.

    Args:
        rows: pytest-benchmark's file, times in seconds.
        ratios: that of ``benchmarks.ratios``, times in milliseconds.

    Returns:
        a JSON object; ``groups`` has microseconds by group and name.
    """
    groups: dict[str, dict[str, Any]] = {}
    for row in rows["benchmarks"]:
        stats = row["stats"]
        groups.setdefault(row["group"], {})[row["name"].removeprefix("test_")] = {
            "median_us": _microseconds(stats["median"]),
            "quartiles_us": [_microseconds(stats["q1"]), _microseconds(stats["q3"])],
            "rounds": stats["rounds"],
        }
    return {
        "schema": SCHEMA,
        "date": rows["datetime"][:10],
        "machine": rows["machine_info"]["edgecls"],
        "groups": groups,
        "ratios": {
            key: ratios[key] for key in ("date", "load_before_and_after", "rows", "modules")
        },
    }


def reference_for(machine: Machine, folder: Path = _FOLDER) -> dict[str, Any] | None:
    """The kept figures of a machine like this one; None where there are none."""
    for path in sorted(folder.glob("*.json")):
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if content.get("schema") == SCHEMA and not machine.differences(
            from_plain(Machine, content["machine"])
        ):
            return content
    return None


def main() -> int:
    """Prints the table; writes where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, metavar="ROWS.json")
    parser.add_argument("ratios", type=Path, metavar="RATIOS.json")
    parser.add_argument("--write", metavar="NAME", help="keep them as reference/NAME.json")
    arguments = parser.parse_args()
    new = compact(*(json.loads(p.read_text("utf-8")) for p in (arguments.rows, arguments.ratios)))
    old = reference_for(from_plain(Machine, new["machine"]))
    print(f"beside {old['date']}" if old else "no figures of this machine are kept yet")
    for group, rows in new["groups"].items():
        print(f"\n{group}")
        for name, row in rows.items():
            print(f"  {name:40} {row['median_us']:12,.1f} us  {_beside(row, old, group, name)}")
    if arguments.write:
        path = _FOLDER / f"{arguments.write}.json"
        path.write_text(json.dumps(new, indent=1) + "\n", "utf-8")
        print(f"\nwrote {path}")
    return 0


def _beside(row: dict[str, Any], old: dict[str, Any] | None, group: str, name: str) -> str:
    known = old["groups"].get(group, {}).get(name) if old else None
    return f"{row['median_us'] / known['median_us']:5.2f} x" if known else ""


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 2)


if __name__ == "__main__":
    sys.exit(main())
