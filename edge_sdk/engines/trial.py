"""One trial of a model in a child process, remembered.

A damaged or hostile model can crash the interpreter, keep it busy for ever or take all memory, and
with it whoever loaded it; a manifest does not help, since anyone can write one. So a file is first
loaded and run by a child with limits, unless that went well before: the same bytes, the same runtime
and version, the same machine, the same user.
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

# From the start of the child to its word. The slowest board that LiteRT runs on needs some seconds for
# its imports from a cold card.
TIMEOUT_S = 25
# The child may take so much on top of what Python, OpenCV and the runtime take, and so many times the
# file: the bytes, the interpreter's copy, weights packed for XNNPACK, tensors.
_SPARE_BYTES, _COPIES = 512 << 20, 6
# Of the memory there is, at most this share: the rest is for the program that waits.
_MEMORY_SHARE = 0.75
_LEAST_BYTES = 64 << 20
# While a loop runs on the same cores, which has the machine first.
_BACKGROUND_NICE = 10
# Proofs are some hundred bytes each; the oldest go first.
_MAX_PROOFS = 1_000
# The child's words on standard output.
_STARTED, _PASSED, _REFUSED, _UNREAD = b"started\n", b"passed\n", b"refused ", b"unread "

_background: contextvars.ContextVar[bool] = contextvars.ContextVar("background", default=False)


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Models that this thread opens leave the processor to others: a loop goes on meanwhile.

    The child has a lower priority, and a file is read by it before it is read here: a large or hostile
    one would keep Python's lock from the loop.
    """
    token = _background.set(True)
    try:
        yield
    finally:
        _background.reset(token)


def try_first_in_background(path: Path, backend: str) -> None:
    """Within ``in_background``, tries a file before anything of it is looked at; else does nothing.

    What is wrong with it otherwise (another kind of backend, labels) is for whoever opens it.

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
    """Reads, loads and runs ``model`` in a fresh process; returns at once if that went well before.

    The child does not import from the current folder (``-P``), whatever lies there. It ends by itself
    when its time is over, also where this process does not live so long.

    Args:
        model: the bytes of the file.
        sha256: of those bytes.
        backend: a CPU backend.
        runtime: its package and version: another version gets a trial of its own.
        name: what to call the file in errors.

    Returns:
        How long the trial took, in seconds; 0 where none was needed.

    Raises:
        CorruptArtifactError: the child crashed, hung or took too much memory, or the engine refused
            the model.
        EngineError: no child could be started, which says nothing about the model.
    """
    if not HAS_OWNERS:  # no folder that can be checked: tried each time
        started = time.monotonic()
        _try(model, backend, name)
        return time.monotonic() - started
    proof = f"{sha256} {backend} {runtime} {_machine()}\n".encode()
    try:
        folder = cache_folder("proved")
        if _is_proved(folder, proof):
            return 0.0
    except WriteError as error:
        _log("warning", "trials are not remembered, each start takes one more: %s", error)
        folder = None
    started = time.monotonic()
    _try(model, backend, name)
    took_s = time.monotonic() - started
    _log("info", "%s: tried in a process of its own, %.2f s", name, took_s)
    if folder is not None:
        _remember(folder, proof)
    return took_s


def _log(level: Literal["info", "warning"], *message: object) -> None:
    import logging  # 5 ms that a proved model does not need

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
            # A proof that a power cut leaves torn is no proof, so there is nothing to rename.
            descriptor = os.open(
                _name(proof),
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | O_NOFOLLOW | O_NONBLOCK,
                0o600,
                dir_fd=place,
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(proof)
            _forget_oldest(place)
    except OSError as error:  # a read-only home, a full disk: the next start tries again
        _log("warning", "this trial is not remembered, the next start takes one more: %s", error)


def _forget_oldest(place: int) -> None:
    names = os.listdir(place)
    if len(names) <= _MAX_PROOFS:
        return
    with contextlib.suppress(FileNotFoundError):  # another process does the same
        ages = {name: os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime for name in names}
        for name in sorted(names, key=ages.__getitem__)[:-_MAX_PROOFS]:
            os.unlink(name, dir_fd=place)


def _name(proof: bytes) -> str:
    return hashlib.sha256(proof).hexdigest()


def _machine() -> str:
    """What tells this machine and its processor from others that may share a home or a disk image."""
    parts = machine_names()
    with contextlib.suppress(OSError):
        parts.append(Path("/etc/machine-id").read_bytes())
    with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb") as file:
        # Of the first processor, without its clock rate, which changes.
        lines = file.read(4096).split(b"\n\n")[0].splitlines()
        parts += [line for line in lines if line.startswith(_PROCESSOR)]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


_PROCESSOR = (b"model name", b"flags", b"Features", b"CPU ")


def _try(model: bytes, backend: str, name: str) -> None:
    import subprocess  # 10 ms that only a first trial needs

    paths = os.pathsep.join(p for p in sys.path if p)
    # One thread: each more reserves memory that counts for the limit.
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
                f"{name}: the process that tries a model first did not start within {TIMEOUT_S} s; "
                "the machine is busy, try again"
            ) from error
        raise CorruptArtifactError(
            f"{name}: one inference did not end within {TIMEOUT_S} s; the file is damaged, or the "
            "model is too slow for this machine: copy or convert it again"
        ) from error
    except OSError as error:
        raise EngineError(
            f"{name}: no process could be started to try it first ({error.strerror or error}); free "
            "some memory, or raise the limit of tasks, and try again"
        ) from error
    if child.returncode == 0 and child.stdout == _STARTED + _PASSED:
        return
    lines = (child.stderr.decode("utf-8", "replace").strip() or "no word").split("\n")
    if _STARTED not in child.stdout:
        how = f"signal {-child.returncode}" if child.returncode < 0 else lines[-1]
        raise EngineError(
            f"{name}: the process that tries a model first did not start ({how}); edgecls doctor says "
            "what is wrong with the installation"
        )
    said = child.stdout.partition(_STARTED)[2]
    if child.returncode < 0:
        how = f"crashed it with signal {-child.returncode}"
    elif said.startswith(_UNREAD):  # nothing has run
        raise CorruptArtifactError(
            f"{name}: {said.removeprefix(_UNREAD).decode('utf-8', 'replace')}"
        )
    elif said.startswith(_REFUSED):
        how = said.removeprefix(_REFUSED).decode("utf-8", "replace").strip()
    else:
        how = lines[-1]
    raise CorruptArtifactError(
        f"{name}: the interpreter cannot run it ({how}); the file is damaged or not for this "
        "runtime, copy or convert it again"
    )


# What the child does.


def answer() -> None:
    """The child: reads a model from standard input and says on standard output what came of it."""
    backend, name, parent, nice = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    words = os.dup(1)
    end_with(parent, TIMEOUT_S + 5)
    lower_priority(nice)
    # Natively printed warnings may be endless; and nothing but our words goes to the parent.
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    from edge_sdk.artifact import Artifact  # and OpenCV with it
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
        if not artifact.needs_edgetpu:  # whose device serves one process at a time
            _run(artifact, backend)
    except (EdgeClsError, MemoryError, ValueError) as error:
        reason = str(error).removeprefix(f"{name}: ").strip().split("\n")[0] or "out of memory"
        os.write(words, word + reason.encode("utf-8", "replace")[:500])
        os._exit(1)
    os.write(words, _PASSED)
    os._exit(0)  # without what an interpreter does at its end, which a damaged model may crash


def _limit_memory(model_bytes: int) -> None:
    """Of what is allocated from now on; a shared library's pages do not count."""
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
            raise CorruptArtifactError("its output is not of the shape that the file says")
    if artifact.manifest is not None and artifact.normalization is not None:
        encode = Encoder(spec, artifact.normalization)
        for pixels in artifact.manifest.selftest.pixels:
            engine.infer(encode(np.ascontiguousarray(pixels)))  # what it answers, the parent checks
