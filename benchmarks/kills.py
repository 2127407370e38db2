"""Repeated kills of processes, and full disks: what is lost, incomplete, or does not start again.

    python -m benchmarks.kills [--kills 1000] [--full 200] [--seed 1] [--work DIR]

Half of the kills fall on a spool, the rest on `run`, `train` and `convert`: each is started, killed
(SIGKILL) at a random moment, checked, and started again where it stopped. A full disk is a small
file system in memory of this process' own (no root needed where Linux allows user namespaces), with
a random number of bytes free: the command must end with a message or continue, leave no incomplete
file, and do its work once there is space.

Counted: records or epochs that were confirmed and are gone (lost), files or lines that cannot be
read (torn), and starts that end by themselves (down). Every point is a line in WORK/outcomes.jsonl;
the same command with the same WORK continues where it was interrupted. Exit code 1: something was
counted.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

_ROOT = Path(__file__).parents[1]
_MODEL = _ROOT / "tests/golden/digits_int8.tflite"
_PICTURES = _ROOT / "tests/golden/digits"
# Of ten points, how many fall on which subject.
_SHARES = {"spool": 5, "run": 3, "train": 1, "convert": 1}
_PATIENCE_S = 180.0
_INSIDE = "EDGECLS_KILLS_INSIDE"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One point.

    Attributes:
        kind: ``kill`` or ``full``.
        subject: ``spool``, ``run``, ``train``, ``convert``.
        number: of the point within its kind.
        lost, torn, down: see the module.
        note: what was found, or the last words of a process.
    """

    kind: str
    subject: str
    number: int
    lost: int
    torn: int
    down: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a subject's files says."""

    lost: int = 0
    torn: int = 0
    note: str = ""


# A process with everything imported, which starts code as its children: importing takes longer than
# the code to be killed. A line of JSON in, the child's process id out.
_NURSERY = """
import ctypes, importlib, json, os, signal, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives the harness
    signal.alarm(600)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for path, number in ((job["output"], 1), (job["said"], 2)):
        os.dup2(os.open(path, flags, 0o666), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(job["environment"])
    sys.argv[1:] = job["words"]
    code = 70
    try:
        exec(job["code"], {"__name__": "child"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback
        traceback.print_exc()
    sys.stdout.flush(); sys.stderr.flush()
    with open(job["result"] + ".new", "w") as done:
        done.write(str(code))
    os.rename(job["result"] + ".new", job["result"])
    os._exit(code)
"""
_DEVICE = (
    "edge_sdk.loop.run",
    "edge_sdk.sinks.webhook",
    "edge_sdk.engines.litert",
    "host_tools.cli",
)
_HOST = ("tensorflow", "keras", "sklearn", "matplotlib.pyplot", "jinja2", "host_tools.workflow")
_CLI = "from host_tools.cli import main\nmain(prog_name='edgecls')"

# Writes numbered records into a spool that delivers into a file. The second argument: "away" (the
# receiver never answers), "there", or "empty" (write nothing, end when nothing waits).
_WRITER = """
import json, os, sys, time
from edge_sdk.errors import DeliveryError
from edge_sdk.types import ErrorRecord
from edge_sdk.sinks.sender import Delivery
from edge_sdk.sinks.spool import Spool
folder, mode, spool, start, stop, pause = sys.argv[1:]
flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
received = os.open(folder + "/received", flags)
progress = os.open(folder + "/progress", flags)
class Sender:
    window = 20
    def deliver(self, parcels):
        if mode == "away":
            raise DeliveryError("away")
        for parcel in parcels:
            os.write(received, parcel.body + b"\\n")
        return Delivery(tuple(parcel.seq for parcel in parcels))
    def close(self):
        pass
sink = Spool(spool, Sender(), device="door", linger_s=0.2)
for i in range(int(start), int(stop)):
    sink.write(ErrorRecord(str(i), "x" * 200))
    os.write(progress, b"%d\\n" % i)
    time.sleep(float(pause))
until = time.monotonic() + 60
while mode == "empty" and sink.statistics.depth and time.monotonic() < until:
    time.sleep(0.01)
sink.close()
now = sink.statistics
print(json.dumps([now.depth, now.unwritten, now.dropped, now.damaged, now.blocked]), flush=True)
"""


class Nursery:
    """Starts code quickly, see ``_NURSERY``.

    Args:
        work: folder for the output of its children.
        modules: imported once.
    """

    def __init__(self, work: Path, modules: tuple[str, ...]) -> None:
        self._work = work
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(
        self, *words: object, code: str = _CLI, output: Path | None = None, **environment: str
    ) -> Child:
        """Starts ``edgecls WORDS``, or other code."""
        assert self._process.stdin is not None
        said, result = self._work / "said.txt", self._work / "result"
        said.unlink(missing_ok=True)
        result.unlink(missing_ok=True)
        job = {
            "code": code,
            "words": [str(word) for word in words],
            "said": str(said),
            "output": str(output or said),
            "result": str(result),
            "environment": environment,
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Child(int(self._read()), said, result)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class Child:
    """A command that was started."""

    process: int
    said: Path
    result: Path

    def alive(self) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, 0)
            return True
        return False

    def kill(self) -> bool:
        """``kill -9``; False where it had ended by itself."""
        killed = self.alive()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        self._gone()
        return killed and not self.result.exists()

    def code(self) -> int | None:
        """Its exit code once it has ended; None: it was killed, or did not end in time."""
        self._gone()
        self.kill()
        return int(self.result.read_text()) if self.result.exists() else None

    def _gone(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        while self.alive() and time.monotonic() < until:
            time.sleep(0.01)

    def words(self) -> str:
        return self.said.read_text("utf-8", "replace") if self.said.exists() else ""


class SpoolSubject:
    """Records through a spool: each one written arrives, and no two have the same mark."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._folder, self._nursery = folder, nursery

    def kill(self, chance: random.Random) -> tuple[bool, str]:
        progress = self._folder / "progress"
        before = _size(progress)
        child = self._start("there", self._next(), 1_000_000, 0.001)
        if chance.random() < 0.85:  # else while it opens the database
            _wait(lambda: _size(progress) > before or not child.alive())
            time.sleep(chance.uniform(0.0, 0.3))
        else:
            time.sleep(chance.uniform(0.0, 0.1))
        return _killed(child)

    def look(self) -> Found:
        return Found(torn=len(_torn_lines(self._folder / "received")))

    def end(self) -> Found:
        code = self._start("empty", 0, 0).code()
        received = _lines(self._folder / "received")
        written = {int(line) for line in _text(self._folder / "progress").split()}
        marks: dict[tuple[str, int], str] = {}
        doubled = 0
        for record in received:
            mark = record["boot_id"], record["seq"]
            doubled += marks.setdefault(mark, record["path"]) != record["path"]
        gone = written - {int(record["path"]) for record in received}
        note = f"{len(written)} written, {len(received)} received, {doubled} marks of two records"
        return Found(len(gone) + doubled + (code != 0), 0, note)

    def full(self, disk: Path, free_up: Callable[[], None]) -> tuple[Found, bool]:
        before, count = self._next(), 300
        spool = disk / "s.spool"
        child = self._start("away", before, before + count, spool=spool)
        if child.code() != 0:
            return Found(note=child.words()[-300:]), True
        _, unwritten, dropped, damaged, _ = json.loads(child.words().splitlines()[-1])
        free_up()
        down = self._start("empty", 0, 0, spool=spool).code() != 0
        arrived = {int(record["path"]) for record in _lines(self._folder / "received")}
        missing = sum(i not in arrived for i in range(before, before + count))
        counted = unwritten + dropped + damaged
        # What is gone and counted is what a full disk costs.
        note = f"{missing} not stored, {counted} counted"
        return Found(abs(missing - counted), self.look().torn, note), down

    def _next(self) -> int:
        return max(map(int, _text(self._folder / "progress").split()), default=-2) + 2

    def _start(
        self, mode: str, start: int, stop: int, pause_s: float = 0.0, spool: Path | None = None
    ) -> Child:
        place = spool or self._folder / "s.spool"
        return self._nursery.start(self._folder, mode, place, start, stop, pause_s, code=_WRITER)


class RunSubject:
    """``run``: whatever was printed is delivered, every line of every file is whole."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._folder, self._nursery = folder, nursery
        self._output = folder / "out.jsonl"
        self._server = _Server(("127.0.0.1", 0), _handler(folder))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def kill(self, chance: random.Random) -> tuple[bool, str]:
        before = _size(self._output)
        words = [word for _ in range(400) for word in ("--source", _PICTURES)]
        child = self._start(self._folder, *words)
        if chance.random() < 0.85:
            _wait(lambda: _size(self._output) > before or not child.alive())
        time.sleep(chance.uniform(0.0, 0.5))
        return _killed(child)

    def look(self) -> Found:
        names = ("out.jsonl", "log.jsonl", "received")
        return Found(torn=sum(len(_torn_lines(self._folder / name)) for name in names))

    def end(self) -> Found:
        printed = {(line["ts"], line["frame"]) for line in _frames(self._output)}
        child = self._start(
            self._folder, "--camera", f"fake:{_PICTURES}?fps=2", "--give-up", "never"
        )
        received = self._folder / "received"
        missing = printed
        until = time.monotonic() + _PATIENCE_S
        while missing and child.alive() and time.monotonic() < until:
            time.sleep(0.5)
            missing = printed - {(line["ts"], line["frame"]) for line in _frames(received)}
        child.kill()
        return Found(len(missing), self.look().torn, f"{len(printed)} frames printed")

    def full(self, disk: Path, free_up: Callable[[], None]) -> tuple[Found, bool]:
        torn = 0
        log = disk / "log.jsonl"
        camera = ("--camera", f"fake:{_PICTURES}?fps=100", "--limit", "60")
        for _ in range(2):
            child = self._start(disk, *camera, "--save-frames", disk / "frames")
            code, words = child.code(), child.words()
            torn += sum(len(_torn_lines(path)) for path in (log, self._output))
            if code != 0 or "Traceback" in words:
                return Found(torn=torn, note=words[-300:]), True
            free_up()
        return Found(torn=torn, note=f"{len(_lines(log))} lines in the log"), False

    def _start(self, disk: Path, *words: object) -> Child:
        sinks = ("--webhook", self._url, "--spool", disk / "w.spool")
        given = ("run", _MODEL, "--json", *sinks, "--log-file", disk / "log.jsonl", *words)
        return self._nursery.start(*given, output=self._output)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is what this is about."""


def _handler(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # its name there
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # its sender was killed in between, and sends it again
                return
            with (folder / "received").open("ab", 0) as file:
                file.write(body + b"\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """In silence."""

    return Handler


class TrainSubject:
    """A training: no epoch that was reported is gone, and every file can be read."""

    def __init__(self, folder: Path, nursery: Nursery, data: Path) -> None:
        self._folder, self._nursery, self._data = folder, nursery, data
        self._reported = 0
        self._rounds = 0

    def kill(self, chance: random.Random) -> tuple[bool, str]:
        child = self._start(self._out(), 60)
        if chance.random() < 0.85:  # the critical moments are between the epochs
            _wait(lambda: "epoch " in child.words() or not child.alive())
        time.sleep(chance.uniform(0.0, 2.5))
        down, words = _killed(child)
        lines = [line for line in child.words().splitlines() if line.startswith("epoch ")]
        epochs = [int(line.split()[1].split("/")[0]) for line in lines]
        self._reported = max([self._reported, *epochs])
        if child.result.exists() and not down:  # it has come to its end: the next begins elsewhere
            self._rounds, self._reported = self._rounds + 1, 0
        return down, words

    def look(self) -> Found:
        return _look_at_run(self._out(), self._reported)

    def end(self) -> Found:
        code = self._start(self._folder / "last", 2).code()
        found = _look_at_run(self._folder / "last", 2)
        return Found(found.lost + (code != 0), found.torn, "a last training, whole")

    def full(self, disk: Path, free_up: Callable[[], None]) -> tuple[Found, bool]:
        child = self._start(disk / "run", 2)
        code = child.code()
        words = child.words()
        found = _look_at_run(disk / "run", 0)
        if code not in (0, 1) or "Traceback" in words:
            return Found(torn=found.torn, note=words[-300:]), True
        free_up()
        again = self._start(disk / "run", 2)
        down = again.code() != 0
        found = _look_at_run(disk / "run", 2)
        note = again.words()[-300:] if down else f"exit code {code} while it was full"
        return Found(found.lost, found.torn, note), down

    def _out(self) -> Path:
        return self._folder / f"run-{self._rounds}"

    def _start(self, out: Path, epochs: int) -> Child:
        return self._nursery.start(
            *("train", "digits", "--data", self._data, "--out", out, "--resume"),
            *("--set", f"training.epochs={epochs}", "--set", "training.patience=0"),
            # Not on the small disk: the cache of pictures wants more room left than it has.
            XDG_CACHE_HOME=str(self._folder / "cache"),
        )


def _look_at_run(out: Path, reported: int) -> Found:
    """Whether the files of a run directory can be read, and hold what was reported."""
    torn, notes, done = 0, [], 0
    readers: dict[str, Callable[[Path], object]] = {
        "model.keras": lambda path: zipfile.ZipFile(path).testzip(),
        "report.json": lambda path: json.loads(path.read_text()),
        "recipe.toml": lambda path: tomllib.loads(path.read_text()),
        "reference_scores.npz": lambda path: zipfile.ZipFile(path).testzip(),
    }
    for name, read in readers.items():
        if (out / name).exists():
            try:
                assert read(out / name) is not False
            except Exception as error:  # noqa: BLE001  # whatever is wrong is counted
                torn += 1
                notes.append(f"{name}: {error}")
    if (out / "checkpoint.npz").exists():
        try:
            with np.load(out / "checkpoint.npz") as arrays:
                done = json.loads(str(arrays["progress"]))["epochs_done"]
        except Exception as error:  # noqa: BLE001
            torn += 1
            notes.append(f"checkpoint.npz: {error}")
    return Found(max(0, reported - done), torn, "; ".join(notes))


class ConvertSubject:
    """A conversion: an artifact is whole or not there."""

    def __init__(self, folder: Path, nursery: Nursery, data: Path) -> None:
        self._folder, self._nursery, self._data = folder, nursery, data
        self._run = folder / "trained"
        self._seconds = 6.0

    def _ready(self) -> None:
        if not (self._run / "report.json").exists():
            words = ("train", "digits", "--data", self._data, "--out", self._run, "--resume")
            assert self._nursery.start(*words, "--set", "training.epochs=2").code() == 0
        if not (self._folder / "out").exists():
            began = time.monotonic()
            assert self._start(self._folder / "out").code() == 0
            self._seconds = time.monotonic() - began

    def kill(self, chance: random.Random) -> tuple[bool, str]:
        self._ready()
        child = self._start(self._folder / "out")
        time.sleep(chance.uniform(0.0, self._seconds))
        return _killed(child)

    def look(self) -> Found:
        return _look_at_artifacts(self._folder / "out")

    def end(self) -> Found:
        self._ready()
        code = self._start(self._folder / "out").code()
        found = self.look()
        return Found(int(code != 0), found.torn, found.note)

    def full(self, disk: Path, free_up: Callable[[], None]) -> tuple[Found, bool]:
        self._ready()
        child = self._start(disk / "out")
        code, words = child.code(), child.words()
        torn = _look_at_artifacts(disk / "out").torn
        if code not in (0, 1) or "Traceback" in words:
            return Found(torn=torn, note=words[-300:]), True
        free_up()
        again = self._start(disk / "out")
        down = again.code() != 0
        torn += _look_at_artifacts(disk / "out").torn
        note = again.words()[-300:] if down else f"exit code {code} while it was full"
        return Found(torn=torn, note=note), down

    def _start(self, out: Path) -> Child:
        formats = ("--format", "float16", "--format", "int8")
        return self._nursery.start(
            "convert", self._run, "--data", self._data, "--out", out, *formats
        )


def _look_at_artifacts(out: Path) -> Found:
    from edge_sdk import Artifact
    from edge_sdk.errors import ArtifactError

    torn, notes = 0, []
    for path in out.glob("*.tflite") if out.exists() else ():
        try:
            Artifact.open(path)
        except ArtifactError as error:
            torn += 1
            notes.append(str(error))
    return Found(torn=torn, note="; ".join(notes))


def _killed(child: Child) -> tuple[bool, str]:
    """Kills a child; whether it had ended by itself, and not well, with its last words."""
    if child.kill() or child.code() == 0:
        return False, ""
    return True, child.words()[-300:]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _frames(path: Path) -> list[dict[str, Any]]:
    return [line for line in _lines(path) if line["type"] == "frame"]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _torn_lines(path: Path) -> list[bytes]:
    """Lines of a file that are no JSON objects; a rest without an end is one of them."""
    torn = []
    content = path.read_bytes() if path.exists() else b""
    for line in content.split(b"\n"):
        try:
            if line:
                json.loads(line)
        except ValueError:
            torn.append(line)
    return torn + ([b""] if content and not content.endswith(b"\n") else [])


def _lines(path: Path) -> list[dict[str, Any]]:
    torn = set(_torn_lines(path))
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content.split(b"\n") if line and line not in torn]


def _wait(true: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not true() and time.monotonic() < until:
        time.sleep(0.02)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int, free_bytes: int) -> Iterator[Callable[[], None]]:
    """A file system with so much room; gives what makes all of it free."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=0777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    filler = folder / "filler"
    try:
        with filler.open("wb") as file:
            state = os.statvfs(folder)
            rest = state.f_bavail * state.f_frsize - free_bytes
            with contextlib.suppress(OSError):
                file.write(bytes(max(0, rest)))
        yield lambda: filler.unlink(missing_ok=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _subject(count: int, number: int) -> str:
    """Which subject a point falls on: blocks, so that each is started over and over."""
    for name, share in _SHARES.items():
        block = max(1, count * share // sum(_SHARES.values()))
        if number < block:
            return name
        number -= block
    return "spool"


class Harness:
    """Goes through the points, and remembers those that are done.

    Args:
        work: folder for everything.
        seed: of the random moments.
        note: gets a line of text per point.
    """

    def __init__(self, work: Path, seed: int, note: Callable[[str], None]) -> None:
        self._work, self._seed, self._note = work, seed, note
        self._file = work / "outcomes.jsonl"
        self.outcomes = [Outcome(**line) for line in _lines(self._file)]
        self._nurseries: dict[tuple[str, ...], Nursery] = {}
        self._subjects: dict[str, Any] = {}

    def kills(self, count: int) -> None:
        """Kills so many processes."""
        done = {outcome.number for outcome in self.outcomes if outcome.kind == "kill"}
        for number in (n for n in range(count) if n not in done):
            name = _subject(count, number)
            subject = self._open(name)
            # The same moments for a seed, also where an interrupted harness continues.
            down, words = subject.kill(random.Random(f"{self._seed} {number}"))
            found = subject.look()
            note = words or found.note
            self._record(Outcome("kill", name, number, found.lost, found.torn, int(down), note))
        for name in dict.fromkeys(_subject(count, number) for number in range(count)):
            found = self._open(name).end()
            self._record(Outcome("end", name, count, found.lost, found.torn, 0, found.note))

    def full_disks(self, count: int) -> None:
        """Fills so many disks; inside of a mount namespace of our own."""
        needed = {"spool": 400_000, "run": 1_000_000, "train": 3_000_000, "convert": 300_000}
        done = {outcome.number for outcome in self.outcomes if outcome.kind == "full"}
        for number in (n for n in range(count) if n not in done):
            name = _subject(count, number)
            subject = self._open(name)
            free = random.Random(f"{self._seed} full {number}").randrange(needed[name])
            with small_disk(self._work / "disk", 64_000_000, free) as free_up:
                found, down = subject.full(self._work / "disk", free_up)
            note = f"{free} bytes free: {found.note}"
            self._record(Outcome("full", name, number, found.lost, found.torn, int(down), note))

    def _nursery(self, modules: tuple[str, ...]) -> Nursery:
        if modules not in self._nurseries:
            self._nurseries[modules] = Nursery(self._work, modules)
        return self._nurseries[modules]

    def _open(self, name: str) -> Any:
        if name in self._subjects:
            return self._subjects[name]
        folder = self._work / name
        folder.mkdir(parents=True, exist_ok=True)
        if name in ("train", "convert"):
            from host_tools.data.digits import write_digits

            data = write_digits(self._work / "pictures")
            kind = TrainSubject if name == "train" else ConvertSubject
            self._subjects[name] = kind(folder, self._nursery(_HOST), data)
        else:
            plain = SpoolSubject if name == "spool" else RunSubject
            self._subjects[name] = plain(folder, self._nursery(_DEVICE))
        return self._subjects[name]

    def _record(self, outcome: Outcome) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        self.outcomes.append(outcome)
        if outcome.lost or outcome.torn or outcome.down:
            self._note(f"{outcome}")

    def close(self) -> None:
        for nursery in self._nurseries.values():
            nursery.close()


def table(outcomes: list[Outcome]) -> str:
    """The sums, a line per kind and subject."""
    rows = ["kind  subject   points  lost  torn  down"]
    for key in dict.fromkeys((outcome.kind, outcome.subject) for outcome in outcomes):
        these = [outcome for outcome in outcomes if (outcome.kind, outcome.subject) == key]
        lost, torn, down = (
            sum(getattr(outcome, name) for outcome in these) for name in ("lost", "torn", "down")
        )
        rows.append(f"{key[0]:<5} {key[1]:<9} {len(these):>6} {lost:>5} {torn:>5} {down:>5}")
    return "\n".join(rows)


def can_mount() -> bool:
    """Whether this user may have a file system of its own."""
    program = shutil.which("unshare")
    return (
        program is not None
        and not subprocess.run(
            [*_namespace(program), "true"], capture_output=True, check=False
        ).returncode
    )


def _namespace(program: str) -> list[str]:
    return [program, "--user", "--map-root-user", "--mount"]


def full_disks_inside(count: int, seed: int, work: Path, out: IO[str] | None = None) -> int:
    """Runs ``full_disks`` in a process that may mount; its exit code."""
    words = ["--kills", "0", "--full", str(count), "--seed", str(seed), "--work", str(work)]
    return subprocess.run(
        [
            *_namespace(shutil.which("unshare") or "unshare"),
            sys.executable,
            "-m",
            "benchmarks.kills",
            *words,
        ],
        check=False,
        cwd=_ROOT,
        env={**os.environ, _INSIDE: "1"},
        stdout=out,
    ).returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--full", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="kept, and gone on with  [default: thrown away]")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        harness = Harness(work.absolute(), given.seed, lambda text: print(text, flush=True))
        stack.callback(harness.close)
        if os.environ.get(_INSIDE):
            harness.full_disks(given.full)
            return
        harness.kills(given.kills)
        if given.full and not can_mount():
            sys.exit(
                "this user may mount nothing of its own (user namespaces); --full 0 leaves it out"
            )
        if given.full:
            full_disks_inside(given.full, given.seed, work.absolute())
        outcomes = [Outcome(**line) for line in _lines(work / "outcomes.jsonl")]
    print(table(outcomes))
    sys.exit(any(outcome.lost or outcome.torn or outcome.down for outcome in outcomes))


if __name__ == "__main__":
    main()
