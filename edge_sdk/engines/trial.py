"""The first run of a model, in a child process with limits; a pass is recorded.

A damaged or hostile model can crash the interpreter, run for ever or take all memory, and so stop the
process that loads it; a manifest gives no protection, since anyone can write one. So a child with
limits first loads and runs a file, unless it passed before with the same bytes, runtime, version,
machine and user.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_sdk.errors import CorruptArtifactError, EngineError, WriteError
from edge_sdk.files import cache_folder, private_folder
from edge_sdk.systems import (
    HAS_OWNERS,
    O_NOFOLLOW,
    O_NONBLOCK,
    end_with,
    lower_priority,
    machine_names,
    user_number,
)

if TYPE_CHECKING:
    from edge_sdk.artifact import Artifact

# From the start of the child to its result. The slowest board that LiteRT supports needs some seconds
# for its imports from an uncached SD card.
TIMEOUT_S = 25
# Memory of the child beyond that of Python, OpenCV and the runtime: a constant, plus a multiple of the
# file for the bytes, the interpreter's copy, weights packed for XNNPACK, and tensors.
_SPARE_BYTES, _COPIES = 512 << 20, 6
# The child's share of free memory; the rest is for the waiting program.
_MEMORY_SHARE = 0.75
_LEAST_BYTES = 64 << 20
# Used while a loop runs on the same cores: the loop has priority.
_BACKGROUND_NICE = 10
# A proof takes some hundred bytes; the oldest are removed first.
_MAX_PROOFS = 1_000
# The child's messages on standard output.
_STARTED, _PASSED, _REFUSED, _UNREAD = b"started\n", b"passed\n", b"refused ", b"unread "

_background: contextvars.ContextVar[bool] = contextvars.ContextVar("background", default=False)


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Models opened in this thread get a low priority, so that a loop keeps its rate.

    The child has a lower priority, and reads a file before this process does: parsing a large or hostile
    one here would hold the GIL and stall the loop.
    """
    token = _background.set(True)
    try:
        yield
    finally:
        _background.reset(token)


def try_first_in_background(path: Path, backend: str) -> None:
    """Within ``in_background``, tries a file before this process parses it; else does nothing.

    Other faults (the wrong kind of backend, labels) are reported when it is opened.

    Raises:
        ArtifactNotFoundError, UnsupportedArtifactError: see ``container.read_bytes``.
        CorruptArtifactError, EngineError: see ``try_in_child``.
    """
    if not _background.get():
        return
    from edge_sdk.artifact.container import read_bytes
    from edge_sdk.artifact.onnx import is_onnx
    from edge_sdk.engines import load_runtime

    data = read_bytes(path)
    if is_onnx(data, str(path)):
        backend = "onnx"
    elif backend == "onnx" or backend.startswith("edgetpu"):
        backend = "cpu"
    sha256 = hashlib.sha256(data).hexdigest()
    try_in_child(data, sha256, backend, load_runtime(backend), str(path))


def try_in_child(model: bytes, sha256: str, backend: str, runtime: str, name: str) -> float:
    """Reads, loads and runs ``model`` in a child process; returns at once if it passed before.

    The child does not import from the current folder (``-P``). It ends by itself at its timeout, even
    if this process has ended before.

    Args:
        model: the bytes of the file.
        sha256: of those bytes.
        backend: a CPU backend.
        runtime: its package and version; another version needs its own trial.
        name: the file's name in errors.

    Returns:
        How long the trial took, in seconds; 0 where none was needed.

    Raises:
        CorruptArtifactError: the child crashed, timed out or took too much memory, or the engine
            refused the model.
        EngineError: no child could be started; the model was not tested.
    """
    if not HAS_OWNERS:  # no folder that can be trusted: tried each time
        started = time.monotonic()
        _try(model, backend, name)
        return time.monotonic() - started
    proof = f"{sha256} {backend} {runtime} {_machine()}\n".encode()
    try:
        folder = cache_folder("proved")
        if _is_proved(folder, proof):
            return 0.0
    except WriteError as error:
        _log("warning", "trials are not recorded, each start repeats them: %s", error)
        folder = None
    started = time.monotonic()
    _try(model, backend, name)
    took_s = time.monotonic() - started
    _log("info", "%s: tried in a child process, %.2f s", name, took_s)
    if folder is not None:
        _remember(folder, proof)
    return took_s


def _log(level: Literal["info", "warning"], *message: object) -> None:
    import logging  # takes 5 ms, which a proved model does not need

    logging.getLogger("edgecls.trial").log(logging.getLevelNamesMapping()[level.upper()], *message)


def _is_proved(folder: Path, proof: bytes) -> bool:
    with private_folder(folder) as place:
        try:
            descriptor = os.open(_name(proof), os.O_RDONLY | O_NOFOLLOW | O_NONBLOCK, dir_fd=place)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            own = stat.S_ISREG(status.st_mode) and status.st_uid == user_number()
            return own and file.read(len(proof) + 1) == proof


def _remember(folder: Path, proof: bytes) -> None:
    try:
        with private_folder(folder) as place:
            # No rename needed: a proof left incomplete by a power cut is invalid.
            descriptor = os.open(
                _name(proof),
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | O_NOFOLLOW | O_NONBLOCK,
                0o600,
                dir_fd=place,
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(proof)
            _forget_oldest(place)
    except OSError as error:  # a read-only home, a full disk: the next start repeats the trial
        _log("warning", "this trial is not recorded, the next start repeats it: %s", error)


def _forget_oldest(place: int) -> None:
    names = os.listdir(place)
    if len(names) <= _MAX_PROOFS:
        return
    with contextlib.suppress(FileNotFoundError):  # another process removed it
        ages = {name: os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime for name in names}
        for name in sorted(names, key=ages.__getitem__)[:-_MAX_PROOFS]:
            os.unlink(name, dir_fd=place)


def _name(proof: bytes) -> str:
    return hashlib.sha256(proof).hexdigest()


def _machine() -> str:
    """Identifies this machine and its processor among others that share a home or a disk image."""
    parts = machine_names()
    with contextlib.suppress(OSError):
        parts.append(Path("/etc/machine-id").read_bytes())
    with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb") as file:
        # The first processor only, without its clock rate, which varies.
        lines = file.read(4096).split(b"\n\n")[0].splitlines()
        parts += [line for line in lines if line.startswith(_PROCESSOR)]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


_PROCESSOR = (b"model name", b"flags", b"Features", b"CPU ")


def _try(model: bytes, backend: str, name: str) -> None:
    import subprocess  # takes 10 ms, which only a first trial needs

    paths = os.pathsep.join(p for p in sys.path if p)
    # One thread: each further one reserves memory that counts towards the limit.
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    nice = _BACKGROUND_NICE if _background.get() else 0
    script = "from edge_sdk.engines.trial import answer; answer()"
    kind = "x.onnx" if name.endswith(".onnx") else "x"
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", script, backend, kind, str(os.getpid()), str(nice)],
            input=model,
            capture_output=True,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        if _STARTED not in (error.stdout or b""):
            raise EngineError(
                f"{name}: the child process for the first trial did not start within {TIMEOUT_S} s; "
                "the machine is busy, try again"
            ) from error
        raise CorruptArtifactError(
            f"{name}: one inference did not end within {TIMEOUT_S} s; the file is damaged, or the "
            "model is too slow for this machine: copy or convert it again"
        ) from error
    except OSError as error:
        raise EngineError(
            f"{name}: no child process could be started for the first trial ({error.strerror or error}); "
            "free some memory, or raise the limit on tasks, and try again"
        ) from error
    if child.returncode == 0 and child.stdout == _STARTED + _PASSED:
        return
    lines = (child.stderr.decode("utf-8", "replace").strip() or "no message").split("\n")
    if _STARTED not in child.stdout:
        how = f"signal {-child.returncode}" if child.returncode < 0 else lines[-1]
        raise EngineError(
            f"{name}: the child process for the first trial did not start ({how}); run edgecls doctor "
            "to check the installation"
        )
    result = child.stdout.partition(_STARTED)[2]
    if child.returncode < 0:
        how = f"it crashed with signal {-child.returncode}"
    elif result.startswith(_UNREAD):  # the file could not be read, nothing has run
        raise CorruptArtifactError(
            f"{name}: {result.removeprefix(_UNREAD).decode('utf-8', 'replace')}"
        )
    elif result.startswith(_REFUSED):
        how = result.removeprefix(_REFUSED).decode("utf-8", "replace").strip()
    else:
        how = lines[-1]
    raise CorruptArtifactError(
        f"{name}: the interpreter cannot run it ({how}); the file is damaged or not for this "
        "runtime, copy or convert it again"
    )


# The child's side.


def answer() -> None:
    """The child: reads a model from standard input and writes the result to standard output."""
    backend, name, parent, nice = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    words = os.dup(1)
    end_with(parent, TIMEOUT_S + 5)
    lower_priority(nice)
    # Native warnings may be endless, and only our messages may reach the parent.
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    from edge_sdk.artifact import Artifact  # loads OpenCV too
    from edge_sdk.engines import load_runtime
    from edge_sdk.errors import EdgeClsError

    load_runtime(backend)
    os.write(words, _STARTED)
    model = sys.stdin.buffer.read()
    _limit_memory(len(model))
    word = _UNREAD
    try:
        artifact = Artifact.parse(model, name)
        word = _REFUSED
        if not artifact.needs_edgetpu:  # its device serves one process at a time
            _run(artifact, backend)
    except (EdgeClsError, MemoryError, ValueError) as error:
        reason = str(error).removeprefix(f"{name}: ").strip().split("\n")[0] or "out of memory"
        os.write(words, word + reason.encode("utf-8", "replace")[:500])
        os._exit(1)
    os.write(words, _PASSED)
    os._exit(0)  # skips destructors, which may crash after a damaged model


def _limit_memory(model_bytes: int) -> None:
    """Limits memory allocated from now on; the pages of shared libraries do not count."""
    try:
        import resource
    except ImportError:  # Windows
        return

    from edge_sdk.machine.board import System
    from edge_sdk.machine.load import usable_memory_bytes

    spare = _SPARE_BYTES + _COPIES * model_bytes
    room = usable_memory_bytes(System())
    if room is not None:
        spare = min(spare, max(_LEAST_BYTES, int(_MEMORY_SHARE * room)))
    held = System().text("/proc/self/status") or ""
    used = [int(line.split()[1]) * 1024 for line in held.splitlines() if line.startswith("VmData")]
    if used:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = used[0] + spare
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _run(artifact: Artifact, backend: str) -> None:
    import numpy as np

    from edge_sdk.engines import open_engine
    from edge_sdk.vision.tensors import Encoder

    spec, engine = artifact.input, open_engine(artifact.data, backend)
    shape, kind = spec.shape, np.dtype(spec.dtype)
    low, high = (0, 255) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    noise = np.random.default_rng(0).integers(low, high, shape, endpoint=True)
    for tensor in (np.full(shape, low, kind), np.full(shape, high, kind), noise.astype(kind)):
        stored = engine.infer(tensor)
        if stored.shape != artifact.output.shape or stored.dtype != artifact.output.dtype:
            raise CorruptArtifactError("its output does not have the shape that the file declares")
    if artifact.manifest is not None and artifact.normalization is not None:
        encode = Encoder(spec, artifact.normalization)
        for pixels in artifact.manifest.selftest.pixels:
            engine.infer(encode(np.ascontiguousarray(pixels)))  # the parent checks the scores
