"""What a check says: severity, what, why it matters, the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edge_sdk.device.doctor.context import Context

Severity = Literal["error", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        severity: error: something needed is missing or broken; warning: it works, and worse or for
            less long than it could; note: worth knowing; ok: looked at, nothing wrong.
        what: was found.
        why: it matters.
        fix: a command to paste, or None.
    """

    severity: Severity
    what: str
    why: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of a finding."""
        return {"severity": self.severity, "what": self.what, "why": self.why, "fix": self.fix}


# A check yields nothing where what it looks at does not concern the machine.
Check: TypeAlias = Callable[[Context], Iterator[Finding]]


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity, otherwise in the order given."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
