"""Cold start and memory: fresh processes that open a model, answer once, and tell about themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edge_sdk
from edge_sdk.bench.opening import Opening
from edge_sdk.errors import BenchmarkError

_TIMEOUT_S = 300
# Memory may still grow after the first answer: buffers of later runs.
_RUNS_AFTER = 5
# What a program on a device does, and no more: whatever else were imported would be measured, too.
# Peak memory is VmHWM and not ru_maxrss, which a child inherits from whoever started it.
_CHILD = """
import json, sys, time
asked = json.loads(sys.argv[1])
from edge_sdk import Classifier
classifier = Classifier.open(asked["path"], asked["backend"], threads=asked["threads"], **asked["how"])
if asked["picture"]:
    from edge_sdk import read_image
    frame = read_image(asked["picture"])
else:
    import numpy as np
    from edge_sdk import Frame
    shape = classifier.artifact.input.shape[1:]
    manifest = classifier.artifact.manifest
    pixels = manifest.selftest.pixels[0] if manifest else np.full(shape, 128, np.uint8)
    gray = shape[2] == 1
    frame = Frame(np.ascontiguousarray(pixels[:, :, 0] if gray else pixels), "gray" if gray else "rgb")
classifier.classify(frame)
answered = time.monotonic_ns()
for _ in range(asked["more"]):
    classifier.classify(frame)
try:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
except (OSError, StopIteration):
    peak = None
print(json.dumps([answered, peak]))
"""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Of one fresh process.

    Attributes:
        ms: from its start to its first answer.
        peak_rss_bytes: the most memory that it held; None where the system does not say.
    """

    ms: float
    peak_rss_bytes: int | None


def cold_start(opening: Opening, picture: Path | None) -> ColdStart:
    """Starts a fresh process, which classifies one picture.

    Files may be in the cache of the disk, and bytecode compiled: the first call of all sees to that,
    and does not count. The child does not import from the current folder (``-P``).

    Args:
        opening: what it opens.
        picture: a file that it decodes; None: the self-test's first, or a gray one.

    Raises:
        BenchmarkError: it failed or hung.
    """
    asked = {
        "path": str(opening.path),
        "backend": opening.backend,
        "threads": opening.threads,
        "how": {
            "labels": None if opening.labels is None else list(opening.labels),
            "normalize": opening.normalize,
            "crop": opening.crop,
        },
        "picture": None if picture is None else str(picture),
        "more": _RUNS_AFTER,
    }
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps(asked)]
    # Where this package was not installed but is run from its folder, the child must find it, too.
    here = str(Path(edge_sdk.__file__).parents[1])
    given = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, given] if given else [here])}
    began = time.monotonic_ns()
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(
            f"{opening.path}: a fresh process gave no answer within {_TIMEOUT_S} s"
        ) from error
    lines = child.stdout.decode("utf-8", "replace").strip().splitlines()
    if child.returncode != 0 or not lines:
        said = child.stderr.decode("utf-8", "replace").strip().splitlines() or ["no word"]
        raise BenchmarkError(
            f"{opening.path}: a fresh process could not classify with it ({said[-1]})"
        )
    try:
        answered, peak = map(int, json.loads(lines[-1]))
    except (ValueError, TypeError) as error:  # a library that prints at the end
        raise BenchmarkError(
            f"{opening.path}: a fresh process ended with {lines[-1][:80]!r} instead of its figures; "
            "see what prints there"
        ) from error
    return ColdStart((answered - began) / 1e6, peak)


def median_ms(starts: tuple[float, ...]) -> float | None:
    """The median of some cold starts; None of none."""
    return float(np.median(starts)) if starts else None
