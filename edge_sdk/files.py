"""Writing files so that a reader sees the old content or the new, never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
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

    Args:
        name: of the folder within it, which need not exist.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in containers
        folder = Path(tempfile.gettempdir())
    return folder / "edgecls" / name


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
