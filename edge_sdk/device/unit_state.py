"""How a unit is, in words."""

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
    1: "it went wrong",
    2: "a wrong option, or there is no model file",
    5: "a package, the Edge TPU or the camera is missing",
    6: "the camera was lost and did not come back",
    7: "the model file is bad",
    200: "its working folder is missing",
    203: "the program is missing or may not be started",
    216: "one of its groups does not exist",
    226: "a folder that it should see does not exist",
    243: "a file with credentials is missing",
}
_RESULTS = {
    "watchdog": "it hung, and was ended after 30 s without a sign of life",
    "timeout": "it did not start, or did not end, in time",
    "oom-kill": "there was too little memory",
    "start-limit-hit": "it was started too often in a short time, and is given up",
    "resources": "systemd could not set it up",
    "core-dump": "it crashed",
    "signal": "it was killed",
}


@dataclass(frozen=True, slots=True)
class UnitState:
    """What systemd says of a unit.

    Attributes:
        name: of the unit.
        installed: whether there is one.
        state: ``running``, ``starting``, ``waiting`` (to be started again), ``stopped``, ``failed``.
        at_boot: whether it starts with the machine.
        since: when it became what it is, as systemd writes it; empty: unknown.
        restarts: since it was started by hand or with the machine.
        exit_code: of the last process that ended; 0 if none did, or it ended well.
        reason: why it is not running, or ran into trouble before; empty: nothing known.
        says: its own line: frames, rate, what it sees.
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
        """Whether it does its work at this moment."""
        return self.state == "running"

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return {"schema": SCHEMA, "type": "service", **to_plain(self)}

    def sentences(self) -> list[str]:
        """For people, what matters first."""
        if not self.installed:
            return [f"{self.name} is not installed; type: edgecls service install MODEL --camera"]
        since = f" since {self.since}" if self.since and self.is_running else ""
        lines = [f"{self.name} is {_STATES.get(self.state, self.state)}{since}"]
        if self.reason:
            lines[0] += f": {self.reason}" if not self.is_running else f"; before, {self.reason}"
        if self.says and self.is_running:
            lines.append(f"it says: {self.says}")
        if self.restarts:
            lines.append(f"it was started again {self.restarts} times")
        if self.memory_bytes is not None:
            lines.append(f"it takes {size_text(self.memory_bytes)} of memory")
        boot = (
            "it starts with the machine" if self.at_boot else "it does not start with the machine"
        )
        lines.append(boot if self.at_boot else f"{boot}; type: sudo systemctl enable {self.name}")
        if not self.is_running:
            lines.append(f"its last words: journalctl -u {self.name} -n 50 --no-pager")
            lines.append(
                f"to try again: sudo systemctl reset-failed {self.name}; "
                f"sudo systemctl start {self.name}"
            )
        return lines


_STATES = {
    "running": "running",
    "starting": "starting; its camera is not open yet",
    "waiting": "not running, and will be started again within half a minute",
    "stopped": "stopped",
    "failed": "not running, and will not be started again",
}


def unit_state(host: Host, name: str) -> UnitState:
    """Asks systemd.

    Raises:
        SystemdNotFoundError: it does not run here.
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
        # Without memory control groups, as Raspberry Pi OS starts, systemd says 2^64 - 1.
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
