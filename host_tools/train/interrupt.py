"""Ctrl-C that cannot get lost.

Python raises ``KeyboardInterrupt`` wherever it happens to be. Within a destructor it prints the
exception and drops it, and TensorFlow's iterators have destructors that take a while, at the end of
every epoch.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupt_kept() -> Iterator[Callable[[], None]]:
    """Remembers Ctrl-C meanwhile.

    Yields:
        What raises ``KeyboardInterrupt`` where there was one that got lost. It does nothing outside
        of the main thread, and where somebody else sees to the signal.
    """
    asked = False

    def handle(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield check
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
