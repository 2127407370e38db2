"""The systemd unit that keeps ``edgecls run`` alive."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.doctor.packages import broken
from edge_sdk.errors import ServiceError
from edge_sdk.systemd_unit.control import Answer, Host

_MANY_RESTARTS = 3


def unit(context: Context) -> Iterator[Finding]:
    """Its state, where it is installed."""
    if broken(context):  # which is why it does not run
        return
    from edge_sdk.device.unit_state import unit_state

    name = context.asked.unit
    quoted = shlex.quote(name)
    try:
        state = unit_state(_host(context), name)
    except ServiceError:  # not a machine that systemd has started
        return
    if not state.installed:
        return
    because = f": {state.reason}" if state.reason else ""
    log = f"journalctl -u {quoted} -n 50 --no-pager"
    if state.state == "failed":
        yield Finding(
            "error",
            f"the service {name} has failed{because}",
            "nothing is classified; its last words say more",
            log,
        )
    elif not state.is_running and state.reason.startswith("systemd cannot read"):
        yield Finding(
            "error",
            f"the service {name} cannot start{because}",
            "nothing is classified until its file is mended",
            f"systemd-analyze verify /etc/systemd/system/{quoted}.service",
        )
    elif state.restarts >= _MANY_RESTARTS:
        yield Finding(
            "warning",
            f"the service {name} was restarted {state.restarts} times{because}",
            "something ends it again and again; its last words say what",
            log,
        )
    elif state.state == "stopped":
        yield Finding(
            "warning",
            f"the service {name} is installed and stopped",
            "nothing is classified",
            f"sudo systemctl start {quoted}",
        )
    elif not state.at_boot:
        yield Finding(
            "warning",
            f"the service {name} runs, but does not start with the machine",
            "a power cut would end it for good",
            f"sudo systemctl enable {quoted}",
        )
    else:
        yield Finding("ok", f"the service {name} is {state.state}", "it keeps edgecls run alive")


def _host(context: Context) -> Host:
    def systemctl(words: Sequence[str]) -> Answer:
        printed = context.system.output(("systemctl", *words))
        return Answer(0 if printed is not None else 1, printed or "")

    return Host(context.system.root, systemctl)
