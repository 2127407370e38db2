"""The report of Google's Edge TPU compiler, read; its words are quoted as they come.

It is that of ``edgetpu_compiler -s``, version 16.0: a line with the version, a few lines of sizes,
then a table of operator, count and status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_MAPPED = "Mapped to Edge TPU"
_ROW = re.compile(r"^(\S+)\s+(\d{1,9})\s{2,}(\S.*?)\s*$", re.MULTILINE)
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_SIZE = re.compile(
    r"^(On-chip|Off-chip) memory used for .*?:\s*([\d.]+)\s*([KMG]?i?B)", re.MULTILINE
)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# Statuses seen in public logs of the compiler, by how they begin.
_MEANINGS = {
    "Operation not supported": "the Edge TPU has no such operator: edgecls edgetpu check",
    "Operation version not supported": "the file is newer than the compiler of 2021",
    "Operation is working on an unsupported data type": "not 8 bits; the float softmax at the end of our "
    "artifacts is so on purpose",
    "More than one subgraph is not supported": "it follows an operator that is not mapped",
    "Operation is otherwise supported, but not mapped": "often a tensor too large; Google does not say",
    "Tensor has unsupported rank": "more than three dimensions, the batch aside",
    "Filter, bias, or other param is not constant": "weights are computed, not stored",
}


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A line of the compiler's table.

    Attributes:
        operator: as ``CONV_2D``.
        count: how many of it.
        status: in the compiler's words.
    """

    operator: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """They run on the Edge TPU."""
        return self.status == _MAPPED

    @property
    def meaning(self) -> str:
        """The status in plain words; empty where they say it all, or nothing is known."""
        return next((text for s, text in _MEANINGS.items() if self.status.startswith(s)), "")


@dataclass(frozen=True, slots=True)
class CompilerReport:
    """What the compiler says of its work.

    Attributes:
        version: of the compiler, empty where it does not say.
        rows: its table.
        on_chip_bytes, off_chip_bytes: weights cached on the Edge TPU, and those fetched for every
            picture; None where it does not say.
    """

    version: str
    rows: tuple[ReportRow, ...]
    on_chip_bytes: int | None
    off_chip_bytes: int | None

    @property
    def mapped(self) -> int:
        """How many operators run on the Edge TPU."""
        return sum(row.count for row in self.rows if row.mapped)

    @property
    def total(self) -> int:
        """How many operators the model has."""
        return sum(row.count for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """For an artifact's provenance."""
        return {
            "compiler": self.version,
            "mapped": self.mapped,
            "total": self.total,
            "on_chip_bytes": self.on_chip_bytes,
            "off_chip_bytes": self.off_chip_bytes,
            "operators": [
                {"operator": row.operator, "n": row.count, "status": row.status}
                for row in self.rows
            ],
        }


def parse_report(text: str) -> CompilerReport:
    """Reads what the compiler printed and logged.

    The table stands in both, or in the log alone; the first that can be read counts.
    """
    version = _VERSION.search(text)
    header = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
    tables = [_ROW.findall(table) for table in header.split(text)[1:]]
    rows = tuple(
        ReportRow(operator, int(count), status)
        for operator, count, status in next((table for table in tables if table), [])
    )
    sizes = {where: round(float(n) * _UNITS[unit]) for where, n, unit in _sizes(text)}
    return CompilerReport(
        version.group(1) if version else "", rows, sizes.get("On-chip"), sizes.get("Off-chip")
    )


def _sizes(text: str) -> list[tuple[str, str, str]]:
    return [
        (where, number, unit)
        for where, number, unit in _SIZE.findall(text)
        if unit in _UNITS and re.fullmatch(r"\d+(\.\d+)?", number)
    ]
