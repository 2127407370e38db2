"""edgecls beside other ways to run the same network on the same frames.

    benchmarks/peers/make_environments DIR
    python -m benchmarks.peers.compare DIR [--json FILE] [--markdown FILE]

One 1280x720 RGB frame to its top five, one thread. All workers stay alive; in every round each runs
a block of frames, in a random order, and only ratios within a round are compared, so that other load
affects all alike. Then fresh processes, again in random order, from their start to their
first answer. Every answer is checked before anything is timed, and again at each cold start.

Exit codes: 0, 1 where a worker fails or answers differently, 3 where a target is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import public_model
from benchmarks.peers.contestants import CONTESTANTS, OURS_CENTER, RAW, Contestant
from benchmarks.peers.material import write_material
from benchmarks.peers.measure import Arena, Plan, WrongAnswerError
from benchmarks.peers.processes import Surroundings, WorkerError
from benchmarks.peers.table import markdown, rows_of, targets_of, to_json
from edge_sdk.machine.facts import Machine, read_machine


def main() -> int:
    """Measures, prints, writes."""
    arguments = _arguments()
    if not public_model.PUBLIC_DATA.is_dir():
        print(
            f"no public data at {public_model.PUBLIC_DATA}; see CONTRIBUTING.md, or set "
            "EDGECLS_TEST_DATA",
            file=sys.stderr,
        )
        return 1
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})  # workers inherit it
    plan = Plan(arguments.rounds, arguments.runs, arguments.starts, arguments.seed)
    before = read_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _note("models and frames")
        material = write_material(folder)
        arena = Arena(
            arguments.environments.resolve(),
            material,
            _chosen(arguments.only),
            Surroundings(folder),
            plan,
            _note,
        )
        try:
            measured = arena.measure()
        except (WorkerError, WrongAnswerError) as error:
            print(error, file=sys.stderr)
            return 1
    rows = rows_of(measured)
    targets = targets_of(rows)
    text = markdown(rows, targets)
    after = read_machine()
    text += (
        f"\nLoad before and after: {_load(before)} and {_load(after)}, on {before.cores} cores.\n"
    )
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, "utf-8")
    if arguments.json:
        content = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": before.to_json(),
            "load_after": after.load,
            "plan": {"rounds": plan.rounds, "runs": plan.runs, "starts": plan.starts},
            "core": arguments.core,
            **to_json(rows, targets),
            "packages": {name: one.packages for name, one in measured.items()},
            "rounds_ms": {
                name: [round(statistics.median(block), 4) for block in one.blocks_ms]
                for name, one in measured.items()
            },
            "cold_starts_ms": {
                name: [round(ms, 2) for ms in one.cold_start_ms] for name, one in measured.items()
            },
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0 if all(target.met for target in targets) else 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environments", type=Path, metavar="DIR", help="made by make_environments")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=20, help="frames in a block")
    parser.add_argument("--starts", type=int, default=21, help="fresh processes of each")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--core", type=int, help="the one core for all workers")
    parser.add_argument("--only", metavar="WORD", help="those with this word in a row's name")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="rows, targets, the median of each round"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables")
    return parser.parse_args()


def _chosen(word: str | None) -> tuple[Contestant, ...]:
    """All, or those with a word in their name, ours and the bare one among them always."""
    if word is None:
        return CONTESTANTS
    return tuple(
        one
        for one in CONTESTANTS
        if one in (RAW, OURS_CENTER) or word.casefold() in one.name.casefold()
    )


def _load(machine: Machine) -> str:
    """Of the last minute; ours alone is 1."""
    return "unknown" if machine.load is None else f"{machine.load[0]:.1f}"


def _note(what: str) -> None:
    print(what, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
