"""Ctrl-C during a training: it takes effect at any moment."""

from __future__ import annotations

import signal
import threading

import pytest

from host_tools.train.fit import interrupt_kept


class _Slow:
    """Something whose destructor is interrupted; Python drops the exception there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_within_a_destructor_is_not_lost() -> None:
    with interrupt_kept() as check:
        check()
        slow = _Slow()
        del slow
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_elsewhere_it_comes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interrupt_kept():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_and_beside_another_handler_nothing_is_touched() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_kept() as check:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            check()
    finally:
        signal.signal(signal.SIGINT, before)
    seen: list[object] = []

    def elsewhere() -> None:
        with interrupt_kept():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
