"""Writing files so that a reader sees the old content or the new, never half of either.

And the folders of a user's own: for what can be made again, for what must last, and which of them
nobody else can have written into.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.errors import WriteError

# No room, a quota, a disk that fails, or one that the system has made read-only because it fails.
_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes ``data`` beside ``path``, flushes it to the disk, and renames it over ``path``.

    Text is written as UTF-8. Missing parent folders are made.

    Raises:
        WriteError: no space, no permission, or a folder in the way; the temporary file is gone and
            whatever stood at ``path`` before still stands.
    """
    import tempfile

    content = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(
            f"{path}: could not be written ({error.strerror or error}). "
            "Nothing half-written remains; free some space or choose another folder with --out."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def cache_folder(name: str) -> Path:
    """The user's folder for what can be made again: ``$XDG_CACHE_HOME`` or ``~/.cache``, edgecls.

    A user without a home gets a folder below the system's temporary one, which only this user may
    look into.

    Args:
        name: of the folder within it, which need not exist.

    Raises:
        WriteError: no home, and the temporary folder of that name belongs to another user.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "edgecls" / name
    home = _home()
    if home is not None:
        return home / ".cache" / "edgecls" / name
    import tempfile  # 8 ms that opening a model does not need

    own = Path(tempfile.gettempdir()) / f"edgecls-{os.getuid()}"
    with private_folder(own):
        return own / name


def state_folder() -> Path:
    """The user's folder for what must last: ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME`` or ``~``.

    systemd's ``StateDirectory=`` where a service has one, else ``$XDG_STATE_HOME/edgecls``, else
    ``~/.local/state/edgecls``; it need not exist.

    Raises:
        WriteError: this user has no home.
    """
    services = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if services:
        return Path(services)
    base = os.environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "edgecls"
    home = _home()
    if home is None:
        raise WriteError(
            "no folder for what must last: this user has no home; set XDG_STATE_HOME or STATE_DIRECTORY"
        )
    return home / ".local" / "state" / "edgecls"


@contextlib.contextmanager
def private_folder(path: Path) -> Iterator[int]:
    """A folder into which only this user (and root) can have written; made where it is missing.

    Its content may be believed. Names are to be looked up relative to the descriptor: the path may be
    another folder a moment later.

    Yields:
        A descriptor of the folder, closed at the end.

    Raises:
        WriteError: it cannot be made or opened, belongs to another user, or others may write to it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise WriteError(
            f"{path}: no folder for this user alone ({error.strerror or error}); set XDG_CACHE_HOME "
            "to a folder that you may write to"
        ) from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise WriteError(
                f"{path}: belongs to another user (number {status.st_uid}), so what it holds is not "
                "believed; remove it, or set XDG_CACHE_HOME to a folder of your own"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise WriteError(
                f"{path}: other users may write to it (mode {stat.S_IMODE(status.st_mode):o}), so what "
                f"it holds is not believed; rm -r it, it is made again"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home, as in containers
        return None
    return home if home.is_absolute() else None


def is_disk_trouble(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that the disk is full or fails for now.

    Such an error may pass by itself. A path that is wrong or forbidden does not.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_TROUBLE:
            return True
        error = error.__cause__
    return False


def _umask() -> int:
    # mkstemp makes files for the owner's eyes only; artifacts are meant to be shared like any file.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself can be lost in a power cut. Some file systems cannot do it; the
    # new content stands by now, so that is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
