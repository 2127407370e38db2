"""The machine as checks see it, tests of devices, disks and packages, and ``Finding``.

Packages are loaded in a child process: one built for another processor, numpy or C library may print
pages of text or crash the process, and not only raise.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from edge_sdk.machine.board import System
from edge_sdk.machine.load import shortage

_PIECE_BYTES = 1 << 16
_MOST_BYTES = 4 << 20
_MOST_S = 2.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Result of the disk test of a folder.

    Attributes:
        folder: the requested one, or its closest existing parent.
        free_bytes: for this user.
        written_mb_per_s: 10⁶ bytes a second, each piece flushed to the disk; None if nothing could
            be written.
        error: ``errno`` of the attempt to write, 0 on success.
    """

    folder: Path
    free_bytes: int
    written_mb_per_s: float | None
    error: int


def open_device(path: Path) -> int:
    """``errno`` of opening a device to read and write, 0 on success."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0


def try_disk(folder: Path) -> Disk:
    """Writes up to 4 MB for up to 2 s to a temporary file."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
    except OSError as error:
        return Disk(folder, 0, None, error.errno or 0)
    written, piece = 0, os.urandom(_PIECE_BYTES)
    try:
        with tempfile.NamedTemporaryFile(prefix=".edgecls-doctor-", dir=folder) as file:
            started = time.perf_counter()
            while written < min(_MOST_BYTES, free // 2):
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                written += len(piece)
                if time.perf_counter() - started > _MOST_S:
                    break
            seconds = time.perf_counter() - started
    except OSError as error:
        return Disk(folder, free, None, error.errno or 0)
    return Disk(folder, free, written / 1e6 / seconds if written else None, 0)


_TIMEOUT_S = 60.0
# Start of problems that do not concern the package.
_NOT_STARTED, _NOT_IN_TIME = "no process could be started", "it did not load within"
# The root cause is the reason; the exceptions above it are the package's own advice.
_MODULE = """
import importlib, json, sys
answer = {"version": None, "problem": None, "missing": None}
try:
    module = importlib.import_module(sys.argv[1])
    package = sys.modules[sys.argv[1].split(".")[0]]
    version = getattr(package, "__version__", None)
    answer["version"] = version if isinstance(version, str) else None
except BaseException as error:
    while (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__
    answer["problem"] = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        answer["missing"] = error.name
print()
print(json.dumps(answer))
"""
# edgetpu_version() of edgetpu_c.h returns a text that contains RuntimeVersion(N).
_LIBRARY = """
import ctypes, json, sys
answer = {"version": None, "problem": None, "missing": None}
try:
    library = ctypes.CDLL(sys.argv[1])
    if not hasattr(library, "tflite_plugin_create_delegate"):
        answer["problem"] = "it has no tflite_plugin_create_delegate"
    elif hasattr(library, "edgetpu_version"):
        library.edgetpu_version.restype = ctypes.c_char_p
        answer["version"] = (library.edgetpu_version() or b"").decode("utf-8", "replace")
except OSError as error:
    answer["problem"] = str(error)
print()
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Result of loading a module or a library.

    Attributes:
        version: its own version string; None: none.
        problem: why it does not load, in one line; None if it loads.
        missing: the module that was not found, which may be one that it needs.
    """

    version: str | None = None
    problem: str | None = None
    missing: str | None = None


def load_module(name: str) -> Loaded:
    """Imports a module in a child process, without the current folder on its path."""
    return _in_child(_MODULE, name)


def load_library(path: str) -> Loaded:
    """Loads a TensorFlow Lite delegate's library in a child process, without making a delegate."""
    return _in_child(_LIBRARY, path)


def _in_child(script: str, argument: str) -> Loaded:
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", script, argument],
            capture_output=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Loaded(problem=f"{_NOT_IN_TIME} {_TIMEOUT_S:g} s")
    except OSError as error:
        lacking = shortage(error)
        reason = error.strerror or str(error)
        return Loaded(
            problem=f"{_NOT_STARTED} ({f'{reason}: {lacking.what}' if lacking else reason})"
        )
    if child.returncode < 0:
        number = -child.returncode
        known = {s.value: s.name for s in signal.Signals}
        return Loaded(problem=f"it crashes with {known.get(number, f'signal {number}')}")
    try:
        answer = json.loads(child.stdout.decode("utf-8", "replace").strip().split("\n")[-1])
        return Loaded(answer["version"], _first_line(answer["problem"]), answer["missing"])
    except (ValueError, KeyError, TypeError):
        return Loaded(problem=f"it ends Python with exit code {child.returncode}")


def _first_line(text: str | None) -> str | None:
    if text is None:
        return None
    return next((line.strip() for line in text.split("\n") if line.strip()), "no reason is given")


def remedy(problem: str, reinstall: str) -> tuple[str, str]:
    """The cause of a problem of loading, and the command that fixes it.

    Args:
        problem: of a ``Loaded``.
        reinstall: the command that reinstalls the package.
    """
    if match := re.search(r"(/\S+): cannot allocate memory in static TLS block", problem):
        why = "it is loaded after the space for thread-local variables is used up; preload it"
        return why, f"export LD_PRELOAD={match[1]}"
    for pattern, reason in _REASONS:
        if re.search(pattern, problem):
            return reason, reinstall
    if problem.startswith(_NOT_STARTED):
        return "it was not tested: this machine refuses another process", "ulimit -u; free -m"
    if problem.startswith(_NOT_IN_TIME):
        return (
            "the cause is unknown; it may be a busy machine or a slow disk",
            "edgecls doctor",
        )
    return (
        "the cause is unknown; often a file is missing or damaged, or it was built for another system",
        reinstall,
    )


_REASONS = (
    (
        r"numpy\.dtype size changed|compiled using NumPy 1|multiarray|_ARRAY_API|numpy\.core",
        "it was built for another major version of numpy than the one installed",
    ),
    (
        r"GLIBC(XX)?_\d|version `",
        "it was built for a newer system; a wheel from the package index supports older ones",
    ),
    (r"SIGILL", "it was built for a processor with instructions that this one lacks"),
    (r"ELF|[Ee]xec format", "it was built for another processor, or for 32 instead of 64 bits"),
)


@dataclass(frozen=True, slots=True)
class Python:
    """The Python that runs edgecls.

    Attributes:
        version: such as ``(3, 11, 2)``.
        bits: 32 or 64.
        machine: the kernel's name: ``aarch64``, ``armv7l``, ``x86_64``.
        libc: ``glibc`` or ``musl``, and its version, such as ``("glibc", "2.36")``.
        executable: its path.
        prefix: of the virtual environment, or of the installation.
        is_environment: whether it is a virtual environment.
        standard_library: the folder, in which a distribution may forbid pip.
    """

    version: tuple[int, int, int]
    bits: int
    machine: str
    libc: tuple[str, str]
    executable: str
    prefix: Path
    is_environment: bool
    standard_library: Path


@dataclass(frozen=True, slots=True)
class User:
    """The user that runs edgecls.

    Attributes:
        name: of the user.
        is_root: has all permissions.
        groups: those of this session; ``/etc/group`` may have gained others since.
    """

    name: str
    is_root: bool
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """The options of ``edgecls doctor``.

    Attributes:
        models: model files.
        mqtt: a broker's URL, None: none.
        unit: the name of the systemd unit.
        folder: of spools and other files.
    """

    models: tuple[Path, ...] = ()
    mqtt: str | None = None
    unit: str = "edgecls"
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class Context:
    """The machine as checks see it.

    Attributes:
        options: of the command line.
        python, user: those that run edgecls.
        system: files and commands.
        environment: environment variables.
        distribution: the version of an installed distribution, None: not installed.
        load: imports a module, see ``load_module``.
        load_library: loads a shared library, see there.
        open_device: ``errno`` of opening a device, 0: it may be opened.
        disk: tests the disk of a folder.
        now: the time, with its zone.
    """

    options: DoctorOptions
    python: Python
    user: User
    system: System = field(default_factory=System)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    distribution: Callable[[str], str | None] = lambda name: _distribution(name)
    load: Callable[[str], Loaded] = load_module
    load_library: Callable[[str], Loaded] = load_library
    open_device: Callable[[Path], int] = open_device
    disk: Callable[[Path], Disk] = try_disk
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def pip(self, arguments: str) -> str:
        """The command that runs this environment's pip."""
        return f"{shlex.quote(self.python.executable)} -m pip {arguments}"


def this_machine(options: DoctorOptions) -> Context:
    """The context of this machine; each module is loaded once."""
    return Context(options, this_python(), this_user(), load=_once_each(load_module))


def _once_each(load: Callable[[str], Loaded]) -> Callable[[str], Loaded]:
    """Caches results; concurrent calls with one name load it once."""
    remembered, locks = functools.cache(load), dict[str, threading.Lock]()

    def once(name: str) -> Loaded:
        with locks.setdefault(name, threading.Lock()):
            return remembered(name)

    return once


def this_python() -> Python:
    """The Python that runs edgecls."""
    name, version = platform.libc_ver()
    if not name and list(Path("/lib").glob("ld-musl-*")):
        name = "musl"
    return Python(
        version=sys.version_info[:3],
        bits=64 if sys.maxsize > 2**32 else 32,
        machine=platform.machine(),
        libc=(name, version),
        executable=sys.executable,
        prefix=Path(sys.prefix),
        is_environment=sys.prefix != sys.base_prefix,
        standard_library=Path(sysconfig.get_path("stdlib")),
    )


def this_user() -> User:
    """The current user; users and groups without a name, as in containers, by number."""
    import pwd

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    numbers = (os.getegid(), *os.getgroups())
    return User(name, os.geteuid() == 0, frozenset(_group(number) for number in numbers))


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _distribution(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


Severity = Literal["error", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        severity: error: a requirement is missing or broken; warning: works, with a risk or at a loss
            of speed; note: information; ok: passed.
        what: what was found.
        why: why it matters.
        fix: a command to paste, or None.
    """

    severity: Severity
    what: str
    why: str
    fix: str | None = None


# A check yields nothing if it does not apply to the machine.
Check: TypeAlias = Callable[[Context], Iterator[Finding]]


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorts by severity, and keeps the order within one."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
