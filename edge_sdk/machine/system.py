"""A machine's files and commands; a test gives a folder and answers of its own."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 5.0
_LONGEST_BYTES = 1_000_000  # a file of /proc or /sys has no size that could be asked for first


def _output(command: Sequence[str]) -> str | None:
    """What a command prints; None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class System:
    """Where facts about a machine are read.

    Attributes:
        root: in front of every absolute path: ``/``, or a folder that looks like a machine.
        output: runs a command and gives what it prints, or None where it is missing, fails or
            takes longer than five seconds.
    """

    root: Path = Path("/")
    output: Callable[[Sequence[str]], str | None] = _output

    def path(self, absolute: str) -> Path:
        """``/proc/stat`` within the root."""
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str | None:
        """The stripped text of a small file; None where it cannot be read.

        Device trees end their strings with NUL, which is left out.
        """
        try:
            with self.path(absolute).open("rb") as file:
                data = file.read(_LONGEST_BYTES)
        except OSError:
            return None
        return data.decode(errors="replace").replace("\0", "").strip()

    def number(self, absolute: str) -> float | None:
        """The number that a file holds; None where there is none, or none that is finite."""
        try:
            number = float(self.text(absolute) or "")
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def paths(self, pattern: str) -> list[Path]:
        """All paths that match an absolute glob pattern, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def names(self, pattern: str) -> list[str]:
        """The same as absolute names within the machine, for ``text`` and ``number``."""
        return [f"/{path.relative_to(self.root).as_posix()}" for path in self.paths(pattern)]
