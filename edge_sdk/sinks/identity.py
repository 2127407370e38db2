"""Names, locks and default paths of spools and publishers.

A name is claimed by binding an abstract Unix socket: it is visible to every user and through the
private folders that systemd gives a service, leaves no file, and is released when its process ends,
even by a crash. Without such sockets (any system but Linux) every claim succeeds. A local user could
claim a name to keep a run from starting; such a user could also occupy the camera.
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
    """The default file of the spool for ``target``.

    In systemd's ``StateDirectory=`` if the service has one, else ``$XDG_STATE_HOME/edgecls``, else
    ``~/.local/state/edgecls``.

    Args:
        kind: ``mqtt``, ``webhook``.
        target: the URL; each has its own spool.
        service: see ``service_name``; each has its own spools where several share a folder.

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
            "no folder for the spool: this user has no home; name a file with --spool FILE, or set "
            "STATE_DIRECTORY"
        ) from error
    return (
        folder / "edgecls" / _spool_name(kind, target if service is None else f"{service} {target}")
    )


def _spool_name(kind: str, target: str) -> str:
    return f"{kind}-{hashlib.sha256(target.encode('utf-8', 'replace')).hexdigest()[:12]}.spool"


def device_name(given: str | None = None) -> str:
    """The ``device`` of records: as given, ``$EDGECLS_DEVICE``, or the name of the host."""
    return given or os.environ.get("EDGECLS_DEVICE") or socket.gethostname() or "edgecls"


def service_name(given: str | None = None) -> str | None:
    """The name that distinguishes several runs on one device, in topics, records and spools.

    Args:
        given: such as in ``--name``; None: ``$EDGECLS_SERVICE``; else, where systemd has started the
            process, the name of its ``StateDirectory=`` without ``edgecls-``, so that services
            installed by older versions have distinct names as well.

    Returns:
        None if there is no name: the only run of a device.

    Raises:
        SinkSpecError: the name has characters that a topic or a file name should not have.
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
    """The ``boot_id`` in the records of one spool: unique to this boot and this spool.

    Each spool numbers its own records. With the machine's own boot id in them, records of two spools
    could have the same key.

    Args:
        boot: ``boot_id()``.
        identity: of the spool's database.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{boot}:{identity}"))


def boot_id() -> str:
    """ID of this boot of the machine; of this process, if the system has none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return str(uuid.uuid4())


def lock(path: Path) -> tuple[int, bool]:
    """Locks a spool for this process, until the descriptor is closed or the process ends.

    Returns:
        The descriptor, and whether a spool existed here before.

    Raises:
        SpoolInUseError: another process holds the lock.
        WriteError: no file can be created here.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = beside.exists()
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | systems.O_BINARY, 0o600)
    except OSError as error:
        raise WriteError(
            f"{path}: no spool can be created here ({error.strerror or error}); name a file in a "
            "writable folder"
        ) from error
    try:
        systems.lock(descriptor)
    except OSError as error:
        holder = systems.read_at(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise SpoolInUseError(
            f"{path}: the spool is in use by process {holder or 'unknown'}; expected one process per "
            "spool, stop that process or name another file with --spool FILE"
        ) from error
    with contextlib.suppress(OSError):  # a full disk: the file then lacks the process ID
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor, known


def unlock(path: Path, descriptor: int, *, forget: bool = False) -> None:
    """Unlocks a spool.

    Args:
        path: as in ``lock``.
        descriptor: from ``lock``.
        forget: no spool was created here; delete the lock file.
    """
    if forget and systems.MOVES_OPEN_FILES:  # before another process can lock it
        _beside(path).unlink(missing_ok=True)
    os.close(descriptor)
    if forget and not systems.MOVES_OPEN_FILES:
        with contextlib.suppress(PermissionError):  # another process has locked it meanwhile
            _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}-lock")


def put_aside(path: Path) -> Path:
    """Renames a damaged database and its log to a free name; returns the new path.

    A failing disk damages one database after the other: from the fifth on they share one name.

    Raises:
        OSError: the folder does not allow it.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists() and number < _ASIDE:
        number += 1
    with contextlib.suppress(FileNotFoundError):  # an earlier attempt has left only the log
        os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            os.replace(log, aside.with_name(aside.name + suffix))
    return aside


def first_number() -> int:
    """The first number of a new spool: microseconds since boot, independent of the wall clock.

    A spool that replaces a renamed or deleted one has higher numbers, so that no number repeats within
    one ``boot_id`` (at fewer than a million records a second).
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # counts during suspend, too
    return (time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)) // 1000


_BACKLOG = 64  # connections are not accepted: a client reads the process ID and disconnects
_CONNECT_S = 0.2


class NameTakenError(Exception):
    """Another run holds the name.

    Attributes:
        name: the name.
        process: ID of the process that holds it; None: unknown.
    """

    def __init__(self, name: str, process: int | None) -> None:
        super().__init__(name, process)
        self.name = name
        self.process = process


class Claim:
    """Holds names until it is closed or the process ends.

    Args:
        names: any texts; each is held once per machine (network namespace).

    Raises:
        NameTakenError: another claim holds one of them; this claim then holds none.
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
            one.listen(_BACKLOG)
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE:
                return  # macOS, or a sandbox without such sockets: run without the check
            raise NameTakenError(name, _holder(address)) from error
        self._sockets.append(one)

    def close(self) -> None:
        """Releases the names; a second call does nothing."""
        while self._sockets:
            self._sockets.pop().close()


def _holder(address: str) -> int | None:
    """The process that listens at an address."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_CONNECT_S)
        one.connect(address)
        size = struct.calcsize("3i")
        process, _, _ = struct.unpack(
            "3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return int(process)
    return None
