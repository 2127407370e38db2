"""Names for the files of a folder: safe everywhere, and none given twice."""

from __future__ import annotations

import re

# Room for a counter and an ending within the 255 bytes of a file name, four bytes a letter.
_LONGEST = 40


class FileNames:
    """Hands out names that differ even where capitals do not count."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, *parts: str, ending: str = "") -> str:
        """``part_part.ending``, with a number behind it where that is taken."""
        base = "_".join(safe(part) for part in parts)
        name, count = base + ending, 1
        while name.casefold() in self._given:
            count += 1
            name = f"{base}-{count}{ending}"
        self._given.add(name.casefold())
        return name


def safe(text: str) -> str:
    """Letters, digits, dots and dashes of ``text``, a line for anything else; never hidden."""
    return re.sub(r"[^\w.-]+", "_", text)[:_LONGEST].lstrip(".") or "_"
