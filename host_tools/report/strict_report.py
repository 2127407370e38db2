"""Typed access to a ``report.json``, which an earlier version or a careless editor may have written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError


@dataclass(frozen=True, slots=True)
class ReportReader:
    """An object of a report. What is absent or null in it is None, or empty.

    Attributes:
        value: the object.
        file: it is from.
        where: it stands in the report, such as ``evaluation.``; empty for the whole.

    Raises:
        ConversionError: a value is of another kind than the one it is read as.
    """

    value: Any
    file: Path
    where: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            raise self.wrong("", self.value, "an object")

    def text(self, key: str) -> str | None:
        """A string."""
        found: str | None = self._get(key, (str,), "text")
        return found

    def number(self, key: str) -> float | None:
        """A number that is not infinite."""
        found: float | None = self._get(key, (int, float), "a number")
        if found is not None and not math.isfinite(found):
            raise self.wrong(key, found, "a finite number")
        return found

    def share(self, key: str) -> float | None:
        """A number in 0..1."""
        found = self.number(key)
        if found is not None and not 0 <= found <= 1:
            raise self.wrong(key, found, "a number from 0 to 1")
        return found

    def whole(self, key: str) -> int | None:
        """A whole number from 0 on."""
        found: int | None = self._get(key, (int,), "a whole number")
        if found is not None and found < 0:
            raise self.wrong(key, found, "a whole number from 0 on")
        return found

    def entries(self, key: str) -> list[Any]:
        """A list of anything."""
        return self._get(key, (list,), "a list") or []

    def inside(self, key: str) -> ReportReader:
        """An object within this one."""
        found = self._get(key, (dict,), "an object")
        return ReportReader({} if found is None else found, self.file, f"{self.where}{key}.")

    def each(self, key: str) -> list[ReportReader]:
        """A list of objects."""
        return [
            ReportReader(entry, self.file, f"{self.where}{key}[{place}].")
            for place, entry in enumerate(self.entries(key))
        ]

    def wrong(self, key: str, value: Any, expected: str) -> ConversionError:
        """The error that says so of one value."""
        name = f"{self.where}{key}".removesuffix(".")
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:59] + "…"
        return ConversionError(
            f"{self.file}: damaged ({name or 'all of it'} is {shown}, expected {expected}); train again"
        )

    def _get(self, key: str, kinds: tuple[type, ...], expected: str) -> Any:
        value = self.value.get(key)
        # To Python true is a number.
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise self.wrong(key, value, expected)
        return value
