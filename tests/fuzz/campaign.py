"""Thousands of damaged and forged model files through ``edgecls classify``, and the outcome of each.

``python -m tests.fuzz.campaign --count 10000 --out build/fuzz.jsonl`` runs them, goes on where it was
stopped, and prints a summary. The command runs inside a worker process, so that a model that kills its
opener is seen: the worker is gone. Six models are damaged: three of ours in ``tests/golden``, three of
other people where ``EDGECLS_TEST_DATA`` has them, else ours without their manifests.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.fuzz.damage import Base, damaged, read_base

_TESTS = Path(__file__).parents[1]
_OURS = ("digits_int8.tflite", "digits_float16.tflite", "digits_onnx_int8.onnx")
_THEIRS = (
    "mlperf_tiny_resnet8_int8.tflite",
    "mlperf_tiny_resnet8_float.tflite",
    "mobilenet_v1_0.25_128_quant.tflite",
)
_PICTURE = _TESTS / "golden" / "digits" / "7"
# What is promised: nothing takes longer, nothing takes more.
LIMIT_S, LIMIT_MB = 30.0, 1000.0
# The worker is ended then: it hangs.
_HANGS_S = 90.0
# As much as engines differ, see SELFTEST_TOLERANCE.
_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        number: of the file.
        base: what it was made of.
        forged: a manifest vouches for it.
        ended: ``exit N``; ``died N`` where the process died by a signal, ``hung``, or ``raised`` with
            an error that is none of ours.
        wrong: damage to a file of ours gave another answer, in silence.
        seconds: how long it took.
        peak_mb: the most memory that the process held; of its children the most until now.
        said: the last line on standard error.
    """

    number: int
    base: str
    forged: bool
    ended: str
    wrong: bool
    seconds: float
    peak_mb: float
    said: str

    @property
    def fault(self) -> bool:
        """Whether it breaks a promise."""
        return (
            not self.ended.startswith("exit")
            or self.wrong
            or self.seconds > LIMIT_S
            or self.peak_mb > LIMIT_MB
        )


def bases() -> list[Base]:
    """The sound files."""
    ours = [read_base(_TESTS / "golden" / name) for name in _OURS]
    given = os.environ.get("EDGECLS_TEST_DATA", _TESTS.parents[1] / "shared" / "data")
    folder = Path(given) / "models"
    theirs = [read_base(folder / name) for name in _THEIRS if (folder / name).is_file()]
    return (ours + (theirs or [_stripped(base) for base in ours[:2]] + ours[2:]))[:6]


def _stripped(base: Base) -> Base:
    """A file of ours as another tool writes it: without metadata, which would ask for the rest."""
    from host_tools.tflite import pack_model, unpack_model

    unpacked = unpack_model(base.data[: base.model_bytes])
    unpacked.metadata = []
    model = pack_model(unpacked)
    return replace(
        base, name=f"{base.name} stripped", data=model, model_bytes=len(model), ours=False
    )


def is_forged(number: int) -> bool:
    """Every second round over the models."""
    return number // 6 % 2 == 1


# The worker: opens one file after another with the real command.


def _work(folder: Path) -> None:
    from click.testing import CliRunner

    from host_tools.cli import main as edgecls

    # What a library prints must not be taken for a word of ours.
    words = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    models = bases()
    labels = []
    for index, base in enumerate(models):
        path = folder / f"labels{index}.txt"
        path.write_text("".join(f"{number}\n" for number in range(base.classes)))
        labels.append(path)
    picture = next(_PICTURE.glob("*.png"))
    sound: dict[int, dict[str, float]] = {}

    def classify(base_index: int, data: bytes, forged: bool) -> tuple[str, dict[str, float], str]:
        base = models[base_index]
        ending = ".onnx" if base.data[4:8] != b"TFL3" else ".tflite"
        path = folder / f"model{ending}"
        path.write_bytes(data)
        command = ["classify", str(path), str(picture), "--json", "--top-k", "1000"]
        if not base.ours and not forged:
            command += ["--labels", str(labels[base_index]), "--normalize", "raw"]
        result = CliRunner().invoke(edgecls, command)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return f"raised {type(result.exception).__name__}", {}, str(result.exception)
        scores = {}
        if result.exit_code == 0:
            answer = json.loads(result.stdout.splitlines()[0])
            scores = {each["label"]: each["score"] for each in answer["topk"]}
        said = (result.stderr.strip().splitlines() or [""])[-1]
        return f"exit {result.exit_code}", scores, said.replace(str(folder), "")[:300]

    for index, base in enumerate(models):
        sound[index] = classify(index, base.data, forged=False)[1]
        assert sound[index], f"{base.name} does not answer"
    print("ready", file=words, flush=True)
    for line in sys.stdin:
        number = int(line)
        index = number % len(models)
        forged = is_forged(number)
        data = damaged(models[index], number, forged=forged)
        _forget_peak()
        began = time.monotonic()
        ended, scores, said = classify(index, data, forged)
        seconds = time.monotonic() - began
        expected = sound[index]
        wrong = bool(
            models[index].ours
            and not forged
            and ended == "exit 0"
            and (
                scores.keys() != expected.keys()
                or any(abs(scores[label] - expected[label]) > _TOLERANCE for label in expected)
            )
        )
        reply = {
            "number": number,
            "base": models[index].name,
            "forged": forged,
            "ended": ended,
            "wrong": wrong,
            "seconds": round(seconds, 3),
            "peak_mb": round(_peak_mb(), 1),
            "said": said,
        }
        print(json.dumps(reply), file=words, flush=True)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def _peak_mb() -> float:
    import resource

    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(own, children) / 1024


# The driver: starts workers, and sees what becomes of them.


class _Worker:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.campaign", "--work", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_TESTS.parent,
            env={**os.environ, "XDG_CACHE_HOME": str(self._folder / "cache")},
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the worker does not start; run it with --work FOLDER to see why")
        return process

    def run(self, number: int) -> dict[str, Any]:
        """One file; a worker that it killed is replaced."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        began = time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], _HANGS_S)
        line = process.stdout.readline() if ready else ""
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        process.kill()
        code = process.wait()
        process.stdin.close()
        process.stdout.close()
        self._process = self._start()
        return {
            "number": number,
            "base": "",
            "forged": is_forged(number),
            "ended": f"died {code}" if ready else "hung",
            "wrong": False,
            "seconds": round(time.monotonic() - began, 3),
            "peak_mb": 0.0,
            "said": "",
        }

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_HANGS_S)
        self._process.stdout.close()


def campaign(numbers: Iterator[int], folder: Path) -> Iterator[Outcome]:
    """Runs files by their numbers, one after another.

    Args:
        numbers: which files.
        folder: for files and memories of trials; may be thrown away afterwards.
    """
    worker = _Worker(folder)
    try:
        for number in numbers:
            yield Outcome(**worker.run(number))
    finally:
        worker.close()


def summary(outcomes: list[Outcome]) -> str:
    """A table, and every broken promise."""
    lines = []
    for forged in (False, True):
        for base in sorted({outcome.base for outcome in outcomes}):
            group = [o for o in outcomes if o.base == base and o.forged == forged]
            ends = ", ".join(f"{n} {e}" for e, n in Counter(o.ended for o in group).most_common())
            lines.append(f"{base}{', forged' if forged else ''}: {len(group)} files: {ends}")
    lines.append(
        f"{len(outcomes)} files: {sum(o.ended.startswith('died') for o in outcomes)} deaths, "
        f"{sum(o.ended == 'hung' for o in outcomes)} hung, "
        f"{sum(o.ended.startswith('raised') for o in outcomes)} tracebacks, "
        f"{sum(o.wrong for o in outcomes)} of ours silently wrong, "
        f"longest {max(o.seconds for o in outcomes):.1f} s, "
        f"most memory {max(o.peak_mb for o in outcomes):.0f} MB"
    )
    lines += [f"FAULT {outcome}" for outcome in outcomes if outcome.fault]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--share", default="1/1", help="N/M: the Nth of M processes")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz.jsonl"))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        _work(arguments.work)
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.touch()
    known = [Outcome(**json.loads(line)) for line in arguments.out.read_text().splitlines()]
    done = {outcome.number for outcome in known}
    nth, of = (int(part) for part in arguments.share.split("/"))
    numbers = (n for n in range(arguments.count) if n % of == nth - 1 and n not in done)
    with (
        tempfile.TemporaryDirectory() as folder,
        arguments.out.open("a", encoding="utf-8") as out,
    ):
        for outcome in campaign(numbers, Path(folder)):
            known.append(outcome)
            values = {name: getattr(outcome, name) for name in Outcome.__slots__}
            out.write(json.dumps(values) + "\n")
            out.flush()
    sys.stdout.write(summary(known) + "\n")
    sys.exit(any(outcome.fault for outcome in known))


if __name__ == "__main__":
    main()
