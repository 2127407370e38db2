"""Whose a spool is, and where it stands.

A name is taken by binding an abstract Unix socket: it is seen by every user and through the private
folders that systemd gives a service, leaves no file, and is free as soon as its process has ended,
however that was. Where there are no such sockets (anything but Linux) every claim succeeds. A user of
the machine could take a name to keep a run from starting; who may do that may as well stop a camera.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import struct
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from edge_sdk import systems
from edge_sdk.errors import SinkSpecError, SpoolInUseError, WriteError

_ASIDE = 5
_SERVICE = re.compile(r"[A-Za-z0-9_-]{1,48}")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def default_spool(kind: str, target: str, service: str | None = None) -> Path:
    """Where records for ``target`` wait unless somebody says otherwise.

    systemd's ``StateDirectory=`` where a service has one, else ``$XDG_STATE_HOME/edgecls``, else
    ``~/.local/state/edgecls``.

    Args:
        kind: ``mqtt``, ``webhook``.
        target: the URL; each has a spool of its own.
        service: see ``service_name``; each has spools of its own where several share a folder.

    Raises:
        SinkSpecError: this user has no home.
    """
    services = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if services:
        return Path(services) / _spool_name(kind, target)
    base = os.environ.get("XDG_STATE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise SinkSpecError(
            "no place for the records that wait: this user has no home; name a file for the spool, "
            "or set STATE_DIRECTORY"
        ) from error
    return (
        folder / "edgecls" / _spool_name(kind, target if service is None else f"{service} {target}")
    )


def _spool_name(kind: str, target: str) -> str:
    return f"{kind}-{hashlib.sha256(target.encode('utf-8', 'replace')).hexdigest()[:12]}.spool"


def device_name(given: str | None = None) -> str:
    """What records say they come from: as given, ``$EDGECLS_DEVICE``, or the name of the host."""
    return given or os.environ.get("EDGECLS_DEVICE") or socket.gethostname() or "edgecls"


def service_name(given: str | None = None) -> str | None:
    """What tells several runs on one device apart: their topics, records and spools.

    Args:
        given: such as in ``--name``; None: ``$EDGECLS_SERVICE``; else, where systemd has started the
            process, the name of its ``StateDirectory=`` without ``edgecls-``, so that services that
            were installed before are told apart as well.

    Returns:
        None where there is no name: the one run of a device.

    Raises:
        SinkSpecError: the name has letters that a topic or a file name should not have.
    """
    name = given or os.environ.get("EDGECLS_SERVICE")
    if not name and os.environ.get("INVOCATION_ID"):
        folder = Path(os.environ.get("STATE_DIRECTORY", "").split(":")[0]).name
        name = folder.removeprefix("edgecls").removeprefix("-")
        name = name if _SERVICE.fullmatch(name) else None
    if not name:
        return None
    if not _SERVICE.fullmatch(name):
        raise SinkSpecError(
            f"the name {name!r} of this run; expected at most 48 letters, digits, - and _, as in "
            "--name gate or EDGECLS_SERVICE=gate"
        )
    return name


def publisher_name(device: str, service: str | None) -> str:
    """The device, or the one of several services on it: ``pi``, ``pi-gate``."""
    return device if service is None else f"{device}-{service}"


def records_boot_id(boot: str, identity: str) -> str:
    """What the records of one spool carry as ``boot_id``: of this start, and of no other spool.

    Two spools of one machine count on their own. Were the machine's own boot id in their records,
    two records could have the same number.

    Args:
        boot: ``boot_id()``.
        identity: of the spool's database.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{boot}:{identity}"))


def boot_id() -> str:
    """This start of the machine; of this process, where the system has no name for it."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return str(uuid.uuid4())


def lock(path: Path) -> tuple[int, bool]:
    """Takes a spool for this process, until the descriptor is closed or the process ends.

    Returns:
        The descriptor, and whether there has been a spool here before.

    Raises:
        SpoolInUseError: it is taken.
        WriteError: no file can be made here.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = beside.exists()
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | systems.O_BINARY, 0o600)
    except OSError as error:
        raise WriteError(
            f"{path}: no spool can be made here ({error.strerror or error}); name a file in a folder "
            "that may be written to"
        ) from error
    try:
        systems.lock(descriptor)
    except OSError as error:
        holder = systems.read_at(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise SpoolInUseError(
            f"{path}: the spool is in use by process {holder or 'unknown'}; a spool serves one "
            "process, stop that one or name another file with --spool FILE"
        ) from error
    with contextlib.suppress(OSError):  # a full disk: the number of this process is not there
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor, known


def unlock(path: Path, descriptor: int, *, forget: bool = False) -> None:
    """Gives a spool back.

    Args:
        path: as in ``lock``.
        descriptor: what ``lock`` gave.
        forget: no spool came to be here, leave no trace.
    """
    if forget and systems.MOVES_OPEN_FILES:  # before another process can take it
        _beside(path).unlink(missing_ok=True)
    os.close(descriptor)
    if forget and not systems.MOVES_OPEN_FILES:
        with contextlib.suppress(PermissionError):  # another process has taken it meanwhile
            _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}-lock")


def put_aside(path: Path) -> Path:
    """Renames a damaged database and its log, under a name that is free; the new name.

    A disk that fails damages one after the other: the fifth and all after it take one name.

    Raises:
        OSError: the folder does not allow it.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists() and number < _ASIDE:
        number += 1
    with contextlib.suppress(FileNotFoundError):  # only its log is left from an attempt before
        os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            os.replace(log, aside.with_name(aside.name + suffix))
    return aside


def first_number() -> int:
    """Where a new spool begins to count: microseconds since the machine started, whatever its clock.

    A spool that was set aside or deleted is followed by one with higher numbers, so that within one
    ``boot_id`` no number comes twice (while there are fewer than a million records a second).
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # counts while asleep, too
    return (time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)) // 1000


_WAITING = 64  # nobody accepts them: whoever asks looks at the number of the process and leaves
_ASK_S = 0.2


class NameTakenError(Exception):
    """Another run has the name.

    Attributes:
        name: that is taken.
        process: its number; None: unknown.
    """

    def __init__(self, name: str, process: int | None) -> None:
        super().__init__(name, process)
        self.name = name
        self.process = process


class Claim:
    """Holds names until it is closed or the process ends.

    Args:
        names: any texts; the same text is held once per machine (network namespace).

    Raises:
        NameTakenError: one of them is held elsewhere, and none is held by this claim then.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for name in names:
                self._take(name)
        except BaseException:
            self.close()
            raise

    def _take(self, name: str) -> None:
        if not hasattr(socket, "AF_UNIX"):
            return
        address = f"\0edgecls-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(address)
            one.listen(_WAITING)
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE:
                return  # macOS, or a sandbox without such sockets: better a run than none
            raise NameTakenError(name, _holder(address)) from error
        self._sockets.append(one)

    def close(self) -> None:
        """Gives the names back; a second call does nothing."""
        while self._sockets:
            self._sockets.pop().close()


def _holder(address: str) -> int | None:
    """The process that listens at an address."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_ASK_S)
        one.connect(address)
        size = struct.calcsize("3i")
        process, _, _ = struct.unpack(
            "3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return int(process)
    return None
