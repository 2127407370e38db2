"""Closing several sinks at the same time: each may wait a moment for its network."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from edge_sdk.ports import Sink


def close_together(sinks: Sequence[Sink]) -> None:
    """Closes every sink, whatever becomes of the others.

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
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[min(failures)]
