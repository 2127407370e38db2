"""The loop as a service: signals, systemd, and an end within two seconds.

The work runs in its own thread. The main thread only waits for signals, so that no driver and no disk
can delay one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Generic, TypeVar

from edge_sdk.systems import WakeUp


class Notifier:
    """Sends states to the service manager that started this process, if any.

    A message that cannot be delivered is dropped: the service manager's watchdog notices a silence.

    Args:
        environment: read for ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment) if self._address else None
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> None:
        """Reports that the loop begins; ``status`` is a line for ``systemctl status``."""
        self._send("READY=1", status)

    def alive(self, status: str = "") -> None:
        """Reports progress; must be called within ``watchdog_s`` seconds of the last call."""
        self._send("WATCHDOG=1", status)

    def stopping(self) -> None:
        """Reports that the service is stopping."""
        self._send("STOPPING=1")

    def _send(self, state: str, status: str = "") -> None:
        if self._socket is None:
            return
        lines = [state, *([f"STATUS={' '.join(status.split())}"] if status else [])]
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)

    def close(self) -> None:
        """Closes the socket; later states are dropped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(text: str) -> str:
    if not hasattr(socket, "AF_UNIX"):  # Windows, which systemd never runs
        return ""
    if text.startswith("@"):  # an abstract socket
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds within which ``alive`` must be called; None: no watchdog."""
    try:
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
        period_s = int(environment["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return None
    return period_s if pid == os.getpid() and period_s > 0 else None


T = TypeVar("T")

_log = logging.getLogger("edgecls.service")

# After a signal the process ends within two seconds; work that has not ended by then is abandoned.
END_S = 1.8
_WARN_S = 0.05
_BEAT_S = 0.5
INTERRUPTED = 130
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none


class Service:
    """Runs work and handles signals and systemd's watchdog.

    SIGTERM and Ctrl-C set ``stop``, which the work checks. If it does not end in time, the process
    ends without it: records in progress are lost, but none is truncated, since each is written as a
    whole. A second Ctrl-C ends the process at once.

    Args:
        steps: a count that grows while the work makes progress; only then is systemd's watchdog fed.
        status: one line for ``systemctl status``.
        hangup: called on SIGHUP, in the main thread.
        notifier: for systemd; None: one from the environment.

    Attributes:
        stop: set when the work must end.
    """

    def __init__(
        self,
        *,
        steps: Callable[[], int],
        status: Callable[[], str] = str,
        hangup: Callable[[], None] = lambda: None,
        notifier: Notifier | None = None,
    ) -> None:
        self.stop = threading.Event()
        self._steps = steps
        self._status = status
        self._hangup = hangup
        self._notifier = notifier or Notifier()
        self._ready = False
        self._signals: list[int] = []
        self._wake_up = WakeUp()

    def ready(self) -> None:
        """Call it from the work once everything is open."""
        self._ready = True
        self._notifier.ready(self._status())

    def run(self, work: Callable[[], T]) -> T:
        """Runs the work; once per service.

        Raises:
            KeyboardInterrupt: Ctrl-C; raised after the work has ended.
            Exception: raised by the work.
        """
        worker = _Worker(work, self._wake_up.wake)
        try:
            if threading.current_thread() is not threading.main_thread():
                return work()  # only the main thread can handle signals
            with self._handling_signals():
                worker.start()
                self._supervise(worker)
        finally:
            self._notifier.close()
            if worker.done:
                worker.join()  # its last wake-up uses the sockets
            self._wake_up.close()
        if signal.SIGINT in self._signals:
            raise KeyboardInterrupt
        return worker.result()

    def _supervise(self, worker: _Worker[T]) -> None:
        handled, ends_s = 0, float("inf")
        beat = _Heartbeat(self._notifier, self._steps, self._status)
        while not worker.done:
            # Until a signal, the end of the work, or a timeout.
            self._wake_up.wait(max(0.0, min(_BEAT_S, beat.every_s, ends_s - time.monotonic())))
            while handled < len(self._signals):
                if self._signals[handled] == HANGUP:
                    self._hangup()
                elif not self.stop.is_set():
                    ends_s = time.monotonic() + END_S
                    self.stop.set()
                    self._notifier.stopping()
                handled += 1
            if time.monotonic() >= ends_s and not worker.done:
                self._abandon()
            if self._ready and not self.stop.is_set():
                beat.beat()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # No locks here: the main thread may hold them.
        if number == signal.SIGINT and number in self._signals:
            os._exit(INTERRUPTED)
        self._signals.append(number)
        self._wake_up.wake()

    def _abandon(self) -> None:
        # In a thread: a full pipe at standard error may block the write, and may be why the work hangs.
        warning = threading.Thread(target=_warn_abandoned, daemon=True)
        warning.start()
        warning.join(_WARN_S)
        os._exit(INTERRUPTED if signal.SIGINT in self._signals else 0)

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        # SIGHUP stays ignored under nohup.
        if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:
            before[HANGUP] = signal.getsignal(HANGUP)
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _warn_abandoned() -> None:
    _log.warning("the work did not end within %.1f s and is abandoned", END_S)
    sys.stderr.flush()


class _Heartbeat:
    """Feeds systemd's watchdog while the work makes progress."""

    def __init__(
        self, notifier: Notifier, steps: Callable[[], int], status: Callable[[], str]
    ) -> None:
        self._notifier = notifier
        self._steps = steps
        self._status = status
        self._last = -1
        self._next_s = 0.0
        # Three times per watchdog interval, so that a late one does no harm.
        self.every_s = notifier.watchdog_s / 3 if notifier.watchdog_s else float("inf")

    def beat(self) -> None:
        now_s, steps = time.monotonic(), self._steps()
        if now_s >= self._next_s and steps != self._last and self._notifier.watchdog_s:
            self._last, self._next_s = steps, now_s + self.every_s * 0.9
            self._notifier.alive(self._status())


class _Worker(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[], T], wake: Callable[[], None]) -> None:
        super().__init__(name="edgecls-work", daemon=True)
        self._work = work
        self._wake = wake
        self._value: T | None = None
        self._error: BaseException | None = None
        self.done = False

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001  # it is raised again in the main thread
            self._error = error
        self.done = True
        self._wake()

    def result(self) -> T:
        """Returns the work's result or raises its error."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # None only where T allows it
