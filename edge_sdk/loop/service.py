"""A loop as a service: signals, systemd, and an end within two seconds.

The work is done by a thread of its own. The main thread does nothing but listen, so that no driver
and no disk can keep a signal from being heard.
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
    """Sends states to the service manager that started this process; to nobody if none did.

    A message that cannot be delivered is lost in silence: whoever watches notices soon enough.

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
        """Everything is open, the loop begins; with a line for ``systemctl status``."""
        self._send("READY=1", status)

    def alive(self, status: str = "") -> None:
        """The loop has got on since the last time; within ``watchdog_s`` seconds of the last call."""
        self._send("WATCHDOG=1", status)

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, state: str, status: str = "") -> None:
        if self._socket is None:
            return
        lines = [state, *([f"STATUS={' '.join(status.split())}"] if status else [])]
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)

    def close(self) -> None:
        """Lets go of the socket; states are sent to nobody from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(text: str) -> str:
    if not hasattr(socket, "AF_UNIX"):  # Windows, which systemd never runs
        return ""
    if text.startswith("@"):  # a name that is no file
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds within which ``alive`` must be called; None: nobody waits for it."""
    try:
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
        period_s = int(environment["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return None
    return period_s if pid == os.getpid() and period_s > 0 else None


T = TypeVar("T")

_log = logging.getLogger("edgecls.service")

# Who asked for the end waits two seconds; a work that has not ended by then is left where it is.
END_S = 1.8
_SAY_S = 0.05
_BEAT_S = 0.5
INTERRUPTED = 130
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none


class Service:
    """Does some work under the eyes of whoever started the process.

    SIGTERM and Ctrl-C set ``stop``, which the work looks at. Where it does not end in time, the
    process ends without it, which loses what was under way but tears nothing: records are written
    whole. A second Ctrl-C ends at once.

    Args:
        steps: a count that grows while the work gets on; systemd's watchdog is fed only then.
        status: one line for ``systemctl status``.
        hangup: called upon SIGHUP, in the main thread.
        notifier: of systemd; None: as the environment says.

    Attributes:
        stop: set when the work is to end.
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
        """To be called by the work when everything is open."""
        self._ready = True
        self._notifier.ready(self._status())

    def run(self, work: Callable[[], T]) -> T:
        """Does the work; once per service.

        Raises:
            KeyboardInterrupt: Ctrl-C; the work has ended before.
            Exception: what the work raised.
        """
        worker = _Worker(work, self._wake_up.wake)
        try:
            if threading.current_thread() is not threading.main_thread():
                return work()  # signals are for the program's main thread, which is not ours
            with self._listening():
                worker.start()
                self._attend(worker)
        finally:
            self._notifier.close()
            if worker.done:
                worker.join()  # its last word goes through the sockets
            self._wake_up.close()
        if signal.SIGINT in self._signals:
            raise KeyboardInterrupt
        return worker.result()

    def _attend(self, worker: _Worker[T]) -> None:
        heard, ends_s = 0, float("inf")
        beat = _Heartbeat(self._notifier, self._steps, self._status)
        while not worker.done:
            # Until a signal comes, the work is done, or the time is over.
            self._wake_up.wait(max(0.0, min(_BEAT_S, beat.every_s, ends_s - time.monotonic())))
            while heard < len(self._signals):
                if self._signals[heard] == HANGUP:
                    self._hangup()
                elif not self.stop.is_set():
                    ends_s = time.monotonic() + END_S
                    self.stop.set()
                    self._notifier.stopping()
                heard += 1
            if time.monotonic() >= ends_s and not worker.done:
                self._leave()
            if self._ready and not self.stop.is_set():
                beat.beat()

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        # Nothing here may take a lock: the main thread may be holding it.
        if number == signal.SIGINT and number in self._signals:
            os._exit(INTERRUPTED)
        self._signals.append(number)
        self._wake_up.wake()

    def _leave(self) -> None:
        # By a thread, since nobody may read standard error any more, which may be why it hangs.
        word = threading.Thread(target=_say_left, daemon=True)
        word.start()
        word.join(_SAY_S)
        os._exit(INTERRUPTED if signal.SIGINT in self._signals else 0)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        # Ignored already: nohup, so it was asked for.
        if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:
            before[HANGUP] = signal.getsignal(HANGUP)
        for number in before:
            signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _say_left() -> None:
    _log.warning("did not end within %.1f s, and is left where it is", END_S)
    sys.stderr.flush()


class _Heartbeat:
    """Feeds systemd's watchdog, but only while the work gets on."""

    def __init__(
        self, notifier: Notifier, steps: Callable[[], int], status: Callable[[], str]
    ) -> None:
        self._notifier = notifier
        self._steps = steps
        self._status = status
        self._last = -1
        self._next_s = 0.0
        # Three times within the time allowed, so that a late one does no harm.
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
        """What the work gave; raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # None only where T allows it
