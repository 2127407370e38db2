"""The state of a unit, as text and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_sdk.device.unit_install import Host, show
from edge_sdk.files import size_text
from edge_sdk.plain import to_plain
from edge_sdk.types import SCHEMA

_KEYS = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts"),
    *("ExecMainStatus", "ActiveEnterTimestamp", "StatusText", "MemoryCurrent"),
)
# Of edgecls itself, then systemd's own (systemd.exec(5), "Process exit codes").
_MEANINGS = {
    1: "an error",
    2: "a wrong option, or no model file",
    5: "a package, the Edge TPU or the camera is missing",
    6: "the camera was lost and did not come back",
    7: "the model file is bad",
    200: "its working folder is missing",
    203: "the program is missing or may not be started",
    216: "one of its groups does not exist",
    226: "a folder that it needs does not exist",
    243: "a file with credentials is missing",
}
_RESULTS = {
    "watchdog": "it hung, and was killed by the watchdog after 30 s",
    "timeout": "it did not start, or did not stop, in time",
    "oom-kill": "it ran out of memory",
    "start-limit-hit": "it was started too often in a short time",
    "resources": "systemd could not set it up",
    "core-dump": "it crashed",
    "signal": "it was killed",
}


@dataclass(frozen=True, slots=True)
class UnitState:
    """The state of a unit, from systemd.

    Attributes:
        name: of the unit.
        installed: whether there is one.
        state: ``running``, ``starting``, ``waiting`` (for a restart), ``stopped``, ``failed``.
        at_boot: whether it starts at boot.
        since: when it entered this state, as systemd writes it; empty: unknown.
        restarts: since it was started by a user or at boot.
        exit_code: of the last process that ended; 0 if none did, or it succeeded.
        reason: why it is not running, or failed before; empty: unknown.
        says: its status line: frames, rate, label.
        memory_bytes: of all its processes; None: unknown.
    """

    name: str
    installed: bool
    state: str
    at_boot: bool
    since: str
    restarts: int
    exit_code: int
    reason: str
    says: str
    memory_bytes: int | None

    @property
    def is_running(self) -> bool:
        """Whether it is running."""
        return self.state == "running"

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return {"schema": SCHEMA, "type": "service", **to_plain(self)}

    def sentences(self) -> list[str]:
        """The state as lines of text, the most important first."""
        if not self.installed:
            return [f"{self.name} is not installed; type: edgecls service install MODEL --camera"]
        since = f" since {self.since}" if self.since and self.is_running else ""
        lines = [f"{self.name} is {_STATES.get(self.state, self.state)}{since}"]
        if self.reason:
            lines[0] += f": {self.reason}" if not self.is_running else f"; before, {self.reason}"
        if self.says and self.is_running:
            lines.append(f"status: {self.says}")
        if self.restarts:
            lines.append(f"restarts: {self.restarts}")
        if self.memory_bytes is not None:
            lines.append(f"memory: {size_text(self.memory_bytes)}")
        lines.append(
            "it starts at boot"
            if self.at_boot
            else f"it does not start at boot; type: sudo systemctl enable {self.name}"
        )
        if not self.is_running:
            lines.append(f"its log: journalctl -u {self.name} -n 50 --no-pager")
            lines.append(
                f"to try again: sudo systemctl reset-failed {self.name}; "
                f"sudo systemctl start {self.name}"
            )
        return lines


_STATES = {
    "running": "running",
    "starting": "starting; its camera is not open yet",
    "waiting": "not running; it restarts within 30 s",
    "stopped": "stopped",
    "failed": "not running, and not restarted",
}


def unit_state(host: Host, name: str) -> UnitState:
    """Reads the state from systemd.

    Raises:
        SystemdNotFoundError: systemd is not running here.
    """
    found = show(host, name, _KEYS)
    exit_code = _number(found.get("ExecMainStatus")) or 0
    memory = _number(found.get("MemoryCurrent"))
    return UnitState(
        name=name,
        installed=found.get("LoadState") not in (None, "not-found"),
        state=_state(found.get("ActiveState", ""), found.get("SubState", "")),
        at_boot=found.get("UnitFileState") in ("enabled", "enabled-runtime"),
        since=found.get("ActiveEnterTimestamp", ""),
        restarts=_number(found.get("NRestarts")) or 0,
        exit_code=exit_code,
        reason=_reason(found.get("LoadState", ""), found.get("Result", ""), exit_code),
        says=found.get("StatusText", ""),
        # Without memory control groups, the default of Raspberry Pi OS, systemd reports 2^64 - 1.
        memory_bytes=memory if memory is not None and memory < 1 << 62 else None,
    )


def _state(active: str, sub: str) -> str:
    if sub == "auto-restart":
        return "waiting"
    states = {"active": "running", "activating": "starting", "failed": "failed"}
    return states.get(active, "stopped")


def _reason(load: str, result: str, exit_code: int) -> str:
    if load not in ("loaded", "not-found", ""):
        return f"systemd cannot read the unit ({load})"
    exited = f"exit code {exit_code}" if exit_code else ""
    if exit_code in _MEANINGS:
        exited += f", {_MEANINGS[exit_code]}"
    if result in ("success", ""):
        return ""
    if result == "exit-code":
        return exited
    known = _RESULTS.get(result, result)
    return f"{known} ({exited})" if exited and result == "start-limit-hit" else known


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
