"""The tests that compute, once more with other arithmetic: `.ci/arithmetic`, `make test-arithmetic`.

    python -m tests.arithmetic [NAME...]

Another processor adds in another order, and rounds elsewhere. Each variant here sets what the
libraries offer to behave as on such a processor; nothing of the project is set. Of x86-64 alone: on
another architecture there is nothing to switch, which is said, and exit code 77.

What may differ, and by how much, is written in the tests: int8 logits of XNNPACK are the same bit
for bit on all of them, float scores within 1e-5 (`tests/device/outputs.py`); LiteRT's own kernels,
without XNNPACK, differ by up to 16 counts of 256.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_NOTHING_TRIED = 77
_DEVICE = ("tests/contract/test_engines.py", "tests/slim/test_classify.py")
_GOLDEN = ("tests/golden/digits_int8.tflite", "tests/golden/digits_float16.tflite")
_COUNTS = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
# Of numpy's names for what it dispatches on, and of OpenCV's: all, and those beyond AVX2.
_AVX512 = re.compile(r"AVX512|X86_V4")
_ANY = re.compile("")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute.

    Attributes:
        name: for people and for the command line.
        environment: set for the tests.
        tests: paths, and options of pytest's.
        emulated: a processor of QEMU's, on which the golden checks run; empty: this one.
        needs: flags of /proc/cpuinfo without which the variant is left out.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = ("tests",)
    emulated: str = ""
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a variant; ``left_out`` is the reason where it was not tried."""

    variant: Variant
    counts: Mapping[str, int]
    seconds: float
    failed: bool
    left_out: str = ""


def variants() -> tuple[Variant, ...]:
    """All of them, from the most to the least tests."""
    return (
        Variant("SSE4", _processor("SSE41", "Nehalem", _ANY)),
        Variant(
            "AVX2",
            _processor("AVX2", "Haswell", _AVX512),
            needs=frozenset({"avx2", "fma"}),
        ),
        Variant("no oneDNN", {"TF_ENABLE_ONEDNN_OPTS": "0"}, ("tests/integration",)),
        Variant(
            "no XNNPACK",
            tests=("tests/integration", "tests/contract", "tests/slim", "--without-xnnpack"),
        ),
        Variant("QEMU Nehalem", tests=_DEVICE, emulated="Nehalem"),
        Variant("QEMU max", tests=_DEVICE, emulated="max"),
    )


def _processor(onednn: str, openblas: str, beyond: re.Pattern[str]) -> dict[str, str]:
    """The settings of all libraries that choose their code by the processor.

    Args:
        onednn: the most that oneDNN may use.
        openblas: whose kernels OpenBLAS takes.
        beyond: of the features that numpy and OpenCV have code for, those to do without.
    """
    return {
        "ONEDNN_MAX_CPU_ISA": onednn,
        "OPENBLAS_CORETYPE": openblas,
        "NPY_DISABLE_CPU_FEATURES": " ".join(filter(beyond.search, _numpy_features())),
        "OPENCV_CPU_DISABLE": ",".join(filter(beyond.search, _opencv_features())),
    }


def _numpy_features() -> list[str]:
    """What numpy dispatches on here; it warns when others are disabled."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return [name for name in __cpu_dispatch__ if __cpu_features__[name]]


def _opencv_features() -> list[str]:
    """The same for OpenCV, by its own names; those in use have a star before them."""
    import cv2

    marked: list[str] = re.findall(r"\*(\S+)", cv2.getCPUFeaturesLine())
    return [name for name in marked if not name.endswith("?")]


def _run(variant: Variant, folder: Path) -> Outcome:
    flags = _flags()
    if missing := sorted(variant.needs - flags):
        return Outcome(variant, {}, 0, False, f"this processor lacks {', '.join(missing)}")
    work = _emulated if variant.emulated else _here
    if variant.emulated and shutil.which("qemu-x86_64") is None:
        return Outcome(variant, {}, 0, False, "QEMU is not installed: apt-get install qemu-user")
    sys.stdout.write(f"\n== {variant.name} ==\n")
    for name, value in variant.environment.items():
        sys.stdout.write(f"{name}={value}\n")
    sys.stdout.flush()
    started = time.monotonic()
    said, codes = work(variant, folder)
    counts = {what.rstrip("s"): int(number) for number, what in _COUNTS.findall(said)}
    return Outcome(variant, counts, time.monotonic() - started, any(codes))


def _here(variant: Variant, folder: Path) -> tuple[str, list[int]]:
    processors = ("-n", "2", "--dist", "loadfile")
    selection = ("-m", "computes and not slow")
    return _pytest(variant, (sys.executable,), (*processors, *selection))


def _emulated(variant: Variant, folder: Path) -> tuple[str, list[int]]:
    """The golden checks, and that the models answer as they do on this machine."""
    qemu = ("qemu-x86_64", "-cpu", variant.emulated, sys.executable)
    said, codes = _pytest(variant, qemu, ("-n", "0"))
    script = "tests/device/outputs.py"
    answers = []
    for name, python in (("emulated", qemu), ("here", (sys.executable,))):
        answers.append(str(folder / f"{variant.emulated}-{name}.npz"))
        command = (*python, script, "record", answers[-1], *_GOLDEN)
        done = subprocess.run(command, cwd=_ROOT, check=False, stderr=subprocess.DEVNULL)
        codes.append(done.returncode)
    if not any(codes[1:]):
        compared = (sys.executable, script, "compare", *answers)
        codes.append(subprocess.run(compared, cwd=_ROOT, check=False).returncode)
    return said, codes


def _pytest(
    variant: Variant, python: tuple[str, ...], options: tuple[str, ...]
) -> tuple[str, list[int]]:
    """Runs pytest; its last line, and its exit code."""
    command = (*python, "-m", "pytest", "-q", "--no-header", *options, *variant.tests)
    environment = {**os.environ, **variant.environment}
    said = ""
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            said = line if _COUNTS.search(line) else said
    return said, [process.returncode]


def _flags() -> frozenset[str]:
    """What the processor can do, as Linux has it."""
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def _table(outcomes: list[Outcome]) -> str:
    rows = [("variant", "passed", "failed", "skipped", "seconds", "")]
    for one in outcomes:
        failed = one.counts.get("failed", 0) + one.counts.get("error", 0)
        counts = (one.counts.get("passed", 0), failed, one.counts.get("skipped", 0))
        numbers = ("-",) * 4 if one.left_out else (*map(str, counts), f"{one.seconds:.0f}")
        note = one.left_out and f"left out: {one.left_out}"
        rows.append((one.variant.name, *numbers, note or ("FAILED" if one.failed else "")))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(_right, row[1:5], widths[1:]), row[5]]).rstrip()
        for row in rows
    )


_right: Callable[[str, int], str] = str.rjust


def main() -> None:
    """Runs the variants that are named, or all; exits 1 where one fails."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
        sys.stdout.write("its arithmetic cannot be switched: this is no x86-64 with Linux\n")
        sys.exit(_NOTHING_TRIED)
    names = sys.argv[1:]
    known = {variant.name: variant for variant in variants()}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no variant is called {unknown[0]!r}; choose of {', '.join(map(repr, known))}")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [_run(known[name], Path(folder)) for name in names or known]
    sys.stdout.write(f"\n{_table(outcomes)}\n")
    sys.exit(any(one.failed for one in outcomes))


if __name__ == "__main__":
    main()
