"""The overhead of edgecls over the bare minimum: ``python -m benchmarks.ratios [--json FILE]``.

Each measure runs ours and the bare counterpart in turns and takes the median of the paired ratios:
other load on the machine affects both, and a short disturbance affects one pair, not the result.

Exit code 1 says that a target is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.public_model import (
    CAT,
    GOLDEN,
    LABELS,
    MOBILENET,
    PUBLIC_DATA,
    ROOT,
    write_mobilenet_artifact,
)
from edge_sdk.machine.facts import read_machine
from edge_sdk.plain import to_plain

CLASSIFY_TARGET = 1.10
YUV_TARGET = 1.05
COLD_START_TARGET = 1.3

# The same program with edgecls, and without it.
OURS = """
import sys
from edge_sdk import Classifier, read_image
with Classifier.open(sys.argv[1]) as classifier:
    print(int(classifier.classify(read_image(sys.argv[2])).scores.argmax()))
"""
BARE = """
import sys
import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
_, height, width, _ = entry["shape"]
pixels = cv2.resize(cv2.imread(sys.argv[2], cv2.IMREAD_COLOR_RGB), (int(width), int(height)))
if entry["dtype"] == np.int8:
    pixels = (pixels ^ 0x80).view(np.int8)
interpreter.set_tensor(entry["index"], pixels[np.newaxis])
interpreter.invoke()
print(int(interpreter.get_tensor(result["index"]).argmax()))
"""
BARE_IMPORTS = "import numpy, cv2"
HELP = "import sys; sys.argv = ['edgecls', '--help']; from host_tools.cli import main; main()"
_MODULES = "; import sys; print(*sorted(sys.modules))"


@dataclass(frozen=True)
class Row:
    """One measure; times in milliseconds, ``*_quartiles`` the lower and the upper one.

    ``cpu_ratio`` compares processor time, which other processes disturb less; None inside a process.
    """

    name: str
    ours_ms: float
    bare_ms: float
    ratio: float
    ratio_quartiles: tuple[float, float]
    cpu_ratio: float | None
    pairs: int
    target: float | None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.ratio <= self.target


def _row(
    name: str,
    ours: Callable[[], tuple[float, float]],
    bare: Callable[[], tuple[float, float]],
    pairs: int,
    target: float | None = None,
) -> Row:
    """Measures ``pairs`` pairs; ours and bare return their wall and processor milliseconds."""
    ours(), bare()  # fills the caches of files, bytecode and the processor
    times = np.empty((pairs, 2, 2))
    for pair in range(pairs):
        # The second of a pair finds warmer caches, or the data of the first.
        for side in (0, 1) if pair % 2 else (1, 0):
            times[pair, side] = (ours, bare)[side]()
    wall, cpu = times[:, :, 0], times[:, :, 1]
    ratios = wall[:, 0] / wall[:, 1]
    low, middle, high = (float(x) for x in np.percentile(ratios, (25, 50, 75)))
    return Row(
        name,
        ours_ms=round(float(np.median(wall[:, 0])), 3),
        bare_ms=round(float(np.median(wall[:, 1])), 3),
        ratio=round(middle, 3),
        ratio_quartiles=(round(low, 3), round(high, 3)),
        cpu_ratio=round(float(np.median(cpu[:, 0] / cpu[:, 1])), 3) if cpu.all() else None,
        pairs=pairs,
        target=target,
    )


def measure_classify(pairs: int) -> list[Row]:
    """One frame through ``Classifier.classify``, and the interpreter's ``invoke`` alone.

    From 1280x720 RGB, and as a camera's small stream comes: 320x240 YUV420.
    """
    import cv2
    from ai_edge_litert.interpreter import Interpreter

    from edge_sdk import Classifier, Frame, read_image

    large = read_image(PUBLIC_DATA / CAT)
    pixels = cv2.resize(large.pixels[:, 160:1120], (320, 240), interpolation=cv2.INTER_AREA)
    small = Frame(cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420), "i420")  # type: ignore[arg-type]
    rows = []
    # Only the crop that artifacts of ours have by default has a target.
    for size, frame, crop, target in (
        ("1280x720", large, "center", CLASSIFY_TARGET),
        ("1280x720", large, "squash", None),
        ("320x240 YUV420", small, "center", YUV_TARGET),
    ):
        classifier = Classifier.open(
            PUBLIC_DATA / MOBILENET,
            labels=PUBLIC_DATA / LABELS,
            normalize="symmetric",
            crop=crop,  # type: ignore[arg-type]  # one of the two above
        )
        best = classifier.classify(frame).top(1)[0].label
        assert "cat" in best, best
        interpreter = Interpreter(model_path=str(PUBLIC_DATA / MOBILENET), num_threads=1)
        interpreter.allocate_tensors()
        pixels = classifier._preprocess(frame)  # the real input: zeros could be faster
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], classifier._encode(pixels)
        )
        name = f"classify {size}, crop={crop} / invoke"
        classify = _timed(
            lambda classifier=classifier, frame=frame: classifier.classify(frame)  # type: ignore[misc]
        )
        rows.append(_row(name, classify, _timed(interpreter.invoke), pairs, target))
        classifier.close()
    return rows


def _timed(work: Callable[[], Any]) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        started = time.perf_counter_ns()
        work()
        # Processor time of so short a stretch is below the clock's resolution on some systems.
        return (time.perf_counter_ns() - started) / 1e6, 0.0

    return measure


class Processes:
    """Runs programs in fresh interpreters that find their bytecode cached, as installed ones do.

    Without the cache a checkout would be compiled at each start where PYTHONDONTWRITEBYTECODE is
    set, and an installed package never is.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(folder),
        }

    def output(self, program: str, *arguments: Path) -> str:
        """What the program prints."""
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout

    def timed(self, program: str, *arguments: Path) -> Callable[[], tuple[float, float]]:
        """A measurement of one run, from the start of the process to its end."""

        def measure() -> tuple[float, float]:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.perf_counter_ns()
            self.output(program, *arguments)
            wall = (time.perf_counter_ns() - started) / 1e6
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return wall, cpu * 1e3

        return measure


def measure_cold_start(processes: Processes, folder: Path, pairs: int) -> list[Row]:
    """A fresh process that classifies one picture, with us and with LiteRT and OpenCV alone."""
    cases = [("digits 32x32 int8", GOLDEN / "digits_int8.tflite", GOLDEN / "digits/3/0003.png")]
    if PUBLIC_DATA.is_dir():
        artifact = folder / "mobilenet.tflite"
        write_mobilenet_artifact(artifact)
        cases.append(("MobileNetV2 1.0 224 int8", artifact, PUBLIC_DATA / CAT))
    rows = []
    for name, model, picture in cases:
        answers = [processes.output(program, model, picture) for program in (OURS, BARE)]
        assert answers[0] == answers[1], f"{name}: ours says {answers[0]}, bare {answers[1]}"
        rows.append(
            _row(
                f"cold start, {name}",
                processes.timed(OURS, model, picture),
                processes.timed(BARE, model, picture),
                pairs,
                COLD_START_TARGET,
            )
        )
    return rows


def measure_imports(processes: Processes, pairs: int) -> tuple[list[Row], dict[str, Any]]:
    """Fresh processes that only import; and what they have in ``sys.modules`` beside Python's own."""
    bare = processes.timed(BARE_IMPORTS)
    programs = {
        "import edge_sdk": "import edge_sdk",
        "edge_sdk.Classifier": "import edge_sdk; edge_sdk.Classifier",
        "edgecls --help": HELP,
    }
    rows = [
        _row(f"{name} / import numpy, cv2", processes.timed(program), bare, pairs)
        for name, program in programs.items()
    ]
    bare_modules = set(processes.output(BARE_IMPORTS + _MODULES).split())
    python_modules = set(processes.output("pass" + _MODULES).split())
    loaded = {
        name: set(processes.output(programs[name] + _MODULES).split())
        for name in list(programs)[:2]
    }
    return rows, {
        "import numpy, cv2": len(bare_modules - python_modules),
        **{name: len(modules - python_modules) for name, modules in loaded.items()},
        "edge_sdk.Classifier beyond numpy, cv2": sorted(
            name for name in loaded["edge_sdk.Classifier"] - bare_modules if "._" not in name
        ),
    }


def _print_table(rows: list[Row]) -> None:
    print(
        f"{'':48} {'ours ms':>9} {'bare ms':>9} {'ratio':>6}  {'quartiles':>11} {'cpu':>5} target met?"
    )
    for row in rows:
        low, high = row.ratio_quartiles
        target = "-" if row.target is None else f"{row.target:.2f}"
        met = {None: "-", True: "yes", False: "NO"}[row.met]
        if row.target is not None and low <= row.target <= high:
            met += " (within the noise)"
        cpu = "-" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}"
        print(
            f"{row.name:48} {row.ours_ms:9.2f} {row.bare_ms:9.2f} {row.ratio:6.3f}  "
            f"{low:5.2f}-{high:5.2f} {cpu:>5} {target:>6} {met}"
        )


def main() -> int:
    """Measures, prints, writes; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="edgecls beside the bare minimum")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--frames", type=int, default=400, help="pairs of classify and invoke")
    parser.add_argument("--starts", type=int, default=25, help="pairs of cold starts")
    arguments = parser.parse_args()

    rows: list[Row] = []
    # Above the number of cores, other processes disturbed the measurement.
    load_before = os.getloadavg()[0]
    machine = to_plain(read_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = name  # trials of third-party models must leave no records
        processes = Processes(folder / "bytecode")
        if PUBLIC_DATA.is_dir():
            rows += measure_classify(arguments.frames)
        else:
            print("no public data, see CONTRIBUTING.md: classify is not measured", file=sys.stderr)
        rows += measure_cold_start(processes, folder, arguments.starts)
        imports, modules = measure_imports(processes, arguments.starts)
        rows += imports
    _print_table(rows)
    print("modules beside Python's own:", {k: v for k, v in modules.items() if isinstance(v, int)})
    if arguments.json:
        content = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": machine,
            "load_before_and_after": [round(x, 1) for x in (load_before, os.getloadavg()[0])],
            "rows": [{**asdict(row), "met": row.met} for row in rows],
            "modules": modules,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
