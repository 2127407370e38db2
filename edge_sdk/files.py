"""Files: reads with a size limit, and atomic writes.

Also a user's own folders: the cache, the persistent state, and the check that no other user can have
written to one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.errors import WriteError
from edge_sdk.systems import HAS_OWNERS, O_BINARY, O_NONBLOCK, open_folder, user_number

# Disk full, over quota, I/O errors, or remounted read-only after I/O errors.
_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
# For labels, recipes, tables of scores.
TEXT_BYTES = 64_000_000
_PIECE_BYTES = 1_000_000
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def read_file(path: str | Path, most_bytes: int) -> bytes:
    """Reads a file whose size is limited.

    A pipe would block, and a device such as ``/dev/zero`` never ends: both are refused by their type,
    before anything is read.

    Args:
        path: a regular file, or a link to one.
        most_bytes: the largest file that is read.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, is no regular file, or is larger; ``strerror`` fits into a message,
            as in ``is a pipe, expected a file; copy its output into one``.
    """
    _check_regular(os.stat(path), path)  # noqa: PTH116  # a third of Path.stat's time
    # Without O_NONBLOCK, opening blocks for ever if a pipe has replaced the file.
    descriptor = os.open(path, os.O_RDONLY | O_NONBLOCK | O_BINARY)
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        _check_regular(found, path)
        size = found.st_size
        content = _read(file, size, most_bytes) if size <= most_bytes else b""
    if max(size, len(content)) > most_bytes:
        size_found = size_text(max(size, len(content)))
        reason = (
            f"has {size_found}, expected {size_text(most_bytes)} at most; is it the right file?"
        )
        raise OSError(errno.EFBIG, reason, str(path))
    return content


def read_text(path: str | Path, encoding: str = "utf-8", *, most_bytes: int = TEXT_BYTES) -> str:
    """Reads a text file with universal newlines; errors as for ``read_file``.

    Raises:
        UnicodeDecodeError: it is not in ``encoding``.
    """
    text = read_file(path, most_bytes).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(file: io.FileIO, size: int, most_bytes: int) -> bytes:
    content = file.read(size + 1) or b""  # one more: files of /proc report 0, others may grow
    if len(content) == size:
        return content
    pieces = [content]
    while content and sum(map(len, pieces)) <= most_bytes:
        content = file.read(_PIECE_BYTES) or b""
        pieces.append(content)
    return b"".join(pieces)


def _check_regular(found: os.stat_result, path: str | Path) -> None:
    for test, kind in _KINDS:
        if test(found.st_mode):
            number = errno.EISDIR if test is stat.S_ISDIR else errno.EINVAL
            way = "name a file in it" if test is stat.S_ISDIR else "copy its output into one"
            raise OSError(number, f"is {kind}, expected a file; {way}", str(path))


def size_text(size_bytes: float) -> str:
    """A number of bytes for a person, in powers of 1000: ``0 bytes``, ``1.5 kB``, ``64 MB``.

    Three digits at most, and 0 only for 0 bytes.
    """
    size = float(size_bytes)
    if abs(size) < 999.5:
        return "1 byte" if round(size) == 1 else f"{size:.0f} bytes"
    unit = ""
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007  # used below
        size /= 1000
        if abs(size) < 999.5:
            break
    return f"{size:.1f} {unit}" if abs(size) < 9.95 else f"{size:.0f} {unit}"


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes ``data`` beside ``path``, flushes it to the disk, and renames it over ``path``.

    Text is written as UTF-8. Missing parent folders are made.

    Raises:
        WriteError: no space, no permission, or ``path`` is a folder; the temporary file is removed and
            the old content of ``path`` stays.
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
            "No partial file remains; free some space or choose another folder with --out."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def cache_folder(name: str) -> Path:
    """The user's cache folder: ``edgecls`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    A user without a home gets a folder in the system's temporary one, with access for this user
    only.

    Args:
        name: of the folder within it, which may not exist yet.

    Raises:
        WriteError: no home, and the temporary folder of that name belongs to another user.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "edgecls" / name
    home = _home()
    if home is not None:
        return home / ".cache" / "edgecls" / name

    import tempfile  # takes 8 ms, which opening a model does not need

    own = Path(tempfile.gettempdir()) / f"edgecls-{user_number()}"
    with private_folder(own):
        return own / name


def state_folder() -> Path:
    """The user's folder for persistent state: ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME`` or ``~``.

    systemd's ``StateDirectory=`` if the service has one, else ``$XDG_STATE_HOME/edgecls``, else
    ``~/.local/state/edgecls``; it may not exist yet.

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
            "no folder for persistent state: this user has no home; set XDG_STATE_HOME or STATE_DIRECTORY"
        )
    return home / ".local" / "state" / "edgecls"


@contextlib.contextmanager
def private_folder(path: Path) -> Iterator[int]:
    """A folder to which only this user (and root) can have written; created if missing.

    Its content can be trusted. Look names up relative to the descriptor: the path may refer to another
    folder a moment later.

    Yields:
        A descriptor of the folder, closed at the end.

    Raises:
        WriteError: it cannot be created or opened, belongs to another user, or others may write to it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        descriptor = open_folder(path) if HAS_OWNERS else -1
    except OSError as error:
        raise WriteError(
            f"{path}: no private folder for this user ({error.strerror or error}); set XDG_CACHE_HOME "
            "to a folder that you may write to"
        ) from error
    if descriptor < 0:  # Windows: a user's profile is private
        yield descriptor
        return
    try:
        status = os.fstat(descriptor)
        if status.st_uid != user_number():
            raise WriteError(
                f"{path}: belongs to another user (number {status.st_uid}), so its content is not "
                "trusted; remove it, or set XDG_CACHE_HOME to a folder of your own"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise WriteError(
                f"{path}: other users may write to it (mode {stat.S_IMODE(status.st_mode):o}), so its "
                "content is not trusted; rm -r it, it is created again"
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
    """Whether an error, or one of its causes, means that the disk is full or failing.

    Such an error may be temporary. A wrong path or a missing permission is not.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_TROUBLE:
            return True
        error = error.__cause__
    return False


def _umask() -> int:
    # mkstemp creates files that only the owner may read; artifacts get the usual permissions.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself can be lost in a power cut. Some file systems cannot do it; the
    # new content is complete by now, so that is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
