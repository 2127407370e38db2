"""The last model at a path that was good, kept where a restart finds it.

A running loop refuses a bad model and goes on with the old one, of which nothing is left on the disk
then. So the model that answers is copied into the user's state folder, one copy for each path; the
copy's name holds its SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import WriteError
from edge_sdk.files import private_folder, state_folder, write_atomically

# Of different paths; the copies that were made longest ago go first.
_MAX_COPIES = 8


_NAME = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{64}(\.tflite|\.onnx)?")


@dataclass(frozen=True, slots=True)
class LastGood:
    """The copy of the last good model at a path.

    Attributes:
        model: the path that is given to commands.
        folder: of all copies; only this user may write to it.
    """

    model: Path
    folder: Path

    @classmethod
    def of(cls, model: Path) -> LastGood:
        """In the user's state folder, see ``files.state_folder``.

        Raises:
            WriteError: this user has no home.
        """
        return cls(model, state_folder() / "last-good")

    def keep(self, data: bytes, sha256: str) -> None:
        """Makes sure that the copy is this one; takes another one's place only once it is whole.

        Args:
            data: of the model file.
            sha256: of ``data``, in hexadecimal.

        Raises:
            WriteError: the disk is full, or the folder is not this user's alone; an older copy stays.
        """
        suffix = self.model.suffix if self.model.suffix in (".tflite", ".onnx") else ""
        target = self.folder / f"{self._key}.{sha256}{suffix}"
        with private_folder(self.folder):
            if not _is_whole(target):
                write_atomically(target, data)
        with contextlib.suppress(OSError):
            self._tidy(target)

    def find(self) -> Path | None:
        """The copy; None where there is none, it is damaged, or others may have written it."""
        if not self.folder.is_dir():
            return None
        with contextlib.suppress(OSError), private_folder(self.folder):
            copies = [path for path in _copies(self.folder) if path.name.startswith(self._key)]
            return next((path for path in copies if _is_whole(path)), None)
        return None

    @property
    def _key(self) -> str:
        # As it was typed: a link to a file of changing name is one path.
        return hashlib.sha256(os.fsencode(self.model.absolute())).hexdigest()[:16]

    def _tidy(self, newest: Path) -> None:
        """Removes older copies of this path, what an interrupted write left, and the oldest others."""
        others = [path for path in _copies(self.folder) if path != newest]
        old = [path for path in others if path.name.startswith(self._key)]
        old += [path for path in others if path not in old][_MAX_COPIES - 1 :]
        old += self.folder.glob(f".{self._key}.*")
        for path in old:
            path.unlink(missing_ok=True)


class Keeping:
    """Keeps a copy in a thread of its own, so that neither a start nor a loop waits for the disk.

    Args:
        last_good: where.
        data: of the model file.
        sha256: of ``data``, in hexadecimal.
        after: an earlier one for the same path, which is waited for: the later copy stays.
    """

    def __init__(
        self, last_good: LastGood, data: bytes, sha256: str, after: Keeping | None = None
    ) -> None:
        self.problem = ""
        self._after = after
        self._thread = threading.Thread(
            target=self._work, args=(last_good, data, sha256), name="edgecls-keep", daemon=True
        )
        self._thread.start()

    def done(self, wait_s: float | None = 0.0) -> bool:
        """Whether the copy is kept, or ``problem`` says why it is not; None waits until then."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _work(self, last_good: LastGood, data: bytes, sha256: str) -> None:
        if self._after is not None:
            self._after.done(None)
            self._after = None
        try:
            last_good.keep(data, sha256)
        except WriteError as error:
            self.problem = str(error)


def _copies(folder: Path) -> list[Path]:
    """The newest first."""
    found = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == path.name.split(".")[1]
    except OSError:
        return False
