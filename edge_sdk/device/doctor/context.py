"""What checks may ask of a machine; a test gives answers of its own."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shlex
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge_sdk.doctor.loading import Loaded, load_library, load_module
from edge_sdk.doctor.probing import Disk, look_at_disk, open_device
from edge_sdk.machine.system import System


@dataclass(frozen=True, slots=True)
class Python:
    """The Python that runs us.

    Attributes:
        version: such as ``(3, 11, 2)``.
        bits: 32 or 64.
        machine: the kernel's word: ``aarch64``, ``armv7l``, ``x86_64``.
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
    """Who asks.

    Attributes:
        name: of the user.
        is_root: everything may be opened.
        groups: those of this session; ``/etc/group`` may have gained others since.
    """

    name: str
    is_root: bool
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user named.

    Attributes:
        models: model files.
        mqtt: a broker's URL, None: none.
        unit: the name of the systemd unit.
        folder: where records wait and files are written.
    """

    models: tuple[Path, ...] = ()
    mqtt: str | None = None
    unit: str = "edgecls"
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class Context:
    """A machine, as far as checks look at it.

    Attributes:
        asked: what the user named.
        python, user: who runs.
        system: files and commands.
        environment: environment variables.
        distribution: the version of an installed distribution, None: not installed.
        load: imports a module, see ``load_module``.
        load_library: loads a shared library, see there.
        open_device: ``errno`` of opening a device, 0: it may be opened.
        disk: looks at the disk of a folder.
        now: the time, with its zone.
    """

    asked: Asked
    python: Python
    user: User
    system: System = field(default_factory=System)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    distribution: Callable[[str], str | None] = lambda name: _distribution(name)
    load: Callable[[str], Loaded] = load_module
    load_library: Callable[[str], Loaded] = load_library
    open_device: Callable[[Path], int] = open_device
    disk: Callable[[Path], Disk] = look_at_disk
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def pip(self, arguments: str) -> str:
        """The command that runs this very environment's pip."""
        return f"{shlex.quote(self.python.executable)} -m pip {arguments}"


def this_machine(asked: Asked) -> Context:
    """The machine that we run on; each module is loaded once."""
    return Context(asked, this_python(), this_user(), load=_once_each(load_module))


def _once_each(load: Callable[[str], Loaded]) -> Callable[[str], Loaded]:
    """Remembers answers; who asks while another one waits for the same answer waits, too."""
    remembered, locks = functools.cache(load), dict[str, threading.Lock]()

    def once(name: str) -> Loaded:
        with locks.setdefault(name, threading.Lock()):
            return remembered(name)

    return once


def this_python() -> Python:
    """The Python that runs us."""
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
    """Who asks; a number stands for what has no name, as in containers."""
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
