"""Closing several sinks at the same time: each may wait a moment for its network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from edge_sdk.ports import Sink

_log = logging.getLogger(__name__)

# One that takes longer waits for something that will not come.
_PATIENCE_S = 15.0


def close_together(sinks: Sequence[Sink], patience_s: float = _PATIENCE_S) -> None:
    """Closes every sink, whatever becomes of the others; one that hangs is left behind.

    Raises:
        Exception: what the first of those that failed raised.
    """
    failures: dict[int, Exception] = {}

    def close(place: int, sink: Sink) -> None:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001  # raised again below
            failures[place] = error

    threads = [
        threading.Thread(target=close, args=(place, sink), name="edgecls-close", daemon=True)
        for place, sink in enumerate(sinks)
    ]
    for place, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError:  # a limit of tasks: one after the other, then
            close(place, sinks[place])
    until = time.monotonic() + patience_s
    for thread, sink in zip(threads, sinks, strict=True):
        if thread.ident is not None:
            thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            _log.warning("%s does not close; it is left behind", type(sink).__name__)
    if failures:
        raise failures[min(failures)]
