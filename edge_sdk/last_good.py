"""The last model at a path that was good, kept where a restart finds it.

A running loop refuses a bad model and keeps the old one, whose file is then no longer on the disk. So
the active model is copied into the user's state folder, one copy per path; the name of the copy
contains its SHA-256.
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

# Copies of different paths; the oldest are removed first.
_MAX_COPIES = 8


_NAME = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{64}(\.tflite|\.onnx)?")


@dataclass(frozen=True, slots=True)
class LastGood:
    """The copy of the last good model at a path.

    Attributes:
        model: the path as given to commands.
        folder: holds all copies; only this user may write to it.
    """

    model: Path
    folder: Path

    @classmethod
    def of(cls, model: Path) -> LastGood:
        """The copy in the user's state folder, see ``files.state_folder``.

        Raises:
            WriteError: this user has no home.
        """
        return cls(model, state_folder() / "last-good")

    def keep(self, data: bytes, sha256: str) -> None:
        """Stores this model as the copy; an older copy is replaced once this one is complete.

        Args:
            data: of the model file.
            sha256: of ``data``, in hexadecimal.

        Raises:
            WriteError: the disk is full, or others may write to the folder; an older copy stays.
        """
        suffix = self.model.suffix if self.model.suffix in (".tflite", ".onnx") else ""
        target = self.folder / f"{self._key}.{sha256}{suffix}"
        with private_folder(self.folder):
            if not _is_whole(target):
                write_atomically(target, data)
        with contextlib.suppress(OSError):
            self._tidy(target)

    def find(self) -> Path | None:
        """The copy; None where it is missing or damaged, or other users may have written it."""
        if not self.folder.is_dir():
            return None
        with contextlib.suppress(OSError), private_folder(self.folder):
            copies = [path for path in _copies(self.folder) if path.name.startswith(self._key)]
            return next((path for path in copies if _is_whole(path)), None)
        return None

    @property
    def _key(self) -> str:
        # The path as given, links unresolved: a link whose target changes is one path.
        return hashlib.sha256(os.fsencode(self.model.absolute())).hexdigest()[:16]

    def _tidy(self, newest: Path) -> None:
        """Removes older copies of this path, incomplete files, and the oldest other copies."""
        others = [path for path in _copies(self.folder) if path != newest]
        old = [path for path in others if path.name.startswith(self._key)]
        old += [path for path in others if path not in old][_MAX_COPIES - 1 :]
        old += self.folder.glob(f".{self._key}.*")
        for path in old:
            path.unlink(missing_ok=True)


class CopyWriter:
    """Writes the copy in its own thread, so that neither a start nor a loop waits for the disk.

    Args:
        last_good: the copy to write.
        data: of the model file.
        sha256: of ``data``, in hexadecimal.
        after: an earlier write for the same path; this one waits for it, so the later copy stays.
    """

    def __init__(
        self, last_good: LastGood, data: bytes, sha256: str, after: CopyWriter | None = None
    ) -> None:
        self.problem = ""
        self._after = after
        self._thread = threading.Thread(
            target=self._work, args=(last_good, data, sha256), name="edgecls-keep", daemon=True
        )
        self._thread.start()

    def done(self, wait_s: float | None = 0.0) -> bool:
        """Whether the copy is written, or ``problem`` states why not; None: wait until it is."""
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
    """All copies, newest first."""
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
