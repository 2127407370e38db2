"""The table of checks, and ``examine``, which runs them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from edge_sdk.device.doctor import board, cameras, coral, installation, service
from edge_sdk.device.doctor.context import Check, Context, Finding, worst_first

_LOG = logging.getLogger("edgecls.doctor")
# Most wait for a child process, a disk or a network.
_AT_ONCE = 4

CHECKS: tuple[Check, ...] = (
    installation.board,
    installation.version,
    installation.wheels,
    installation.environment,
    installation.emulation,
    installation.numpy,
    installation.opencv,
    installation.flatbuffers,
    installation.litert,
    installation.tflite_runtime,
    installation.onnxruntime,
    cameras.picamera2,
    cameras.connected,
    cameras.permission,
    cameras.busy,
    cameras.webcams,
    coral.library,
    coral.usb,
    coral.pci,
    board.throttling,
    board.heat,
    board.governor,
    board.room,
    board.swap,
    board.spool,
    board.date,
    board.synchronized,
    service.unit,
    service.reachable,
    service.models,
)


def examine(context: Context, checks: tuple[Check, ...] = CHECKS) -> tuple[Finding, ...]:
    """Runs all checks; returns findings by severity, errors first."""
    with ThreadPoolExecutor(_AT_ONCE, "doctor") as pool:
        results = pool.map(lambda check: tuple(_run(check, context)), checks)
        return worst_first(finding for found in results for finding in found)


def _run(check: Check, context: Context) -> Iterator[Finding]:
    """A check's findings; an exception in the check is a finding, too."""
    try:
        yield from check(context)
    except Exception as error:  # noqa: BLE001  # an unusual machine may raise anything
        name = f"{check.__module__.rpartition('.')[2]}.{getattr(check, '__name__', 'check')}"
        _LOG.debug("%s failed", name, exc_info=True)
        yield Finding(
            "warning",
            f"the check {name} failed ({type(error).__name__}: {error})",
            "its result is unknown; this is a bug, please report the output of the command",
            "edgecls -vv doctor",
        )
