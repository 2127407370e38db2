"""How long a camera is waited for: pure arithmetic, without a clock."""

from __future__ import annotations

import pytest

from edge_sdk.retry import STABLE_S, BackOff, Silence


def test_waits_grow_up_to_the_longest() -> None:
    back_off = BackOff(lambda: 0.0)
    assert [back_off.failed() for _ in range(6)] == [0.5, 1.0, 2.0, 3.5, 3.5, 3.5]


def test_a_wait_is_shortened_by_up_to_a_quarter() -> None:
    back_off = BackOff(lambda: 1.0)
    assert [back_off.failed() for _ in range(4)] == [0.375, 0.75, 1.5, 2.625]
    waits = [BackOff().failed() for _ in range(100)]
    assert 0.375 <= min(waits) < max(waits) <= 0.5


def test_what_works_for_long_enough_starts_over_and_what_dies_sooner_does_not() -> None:
    back_off = BackOff(lambda: 0.0)
    back_off.failed()
    back_off.failed()
    back_off.works(100.0)
    back_off.works(100.0 + STABLE_S - 0.1)
    assert back_off.failed() == 2.0
    back_off.works(200.0)  # what worked before the failure does not count
    back_off.works(200.0 + STABLE_S - 0.1)
    assert back_off.failed() == 3.5
    back_off.works(300.0)
    back_off.works(300.0 + STABLE_S)
    assert back_off.failed() == 0.5


def test_silence_is_too_long_only_for_a_reader_that_has_listened() -> None:
    silence = Silence(2.5, since_s=100.0)
    assert silence.seconds(102.0) == 2.0
    # The reader was away for a minute: the child may have been sending all the time.
    assert not silence.too_long(160.0)
    silence.listened(0.1)
    assert not silence.too_long(160.1)
    silence.listened(0.1)
    assert silence.too_long(160.2)


def test_listening_does_not_make_silence_longer_than_it_is() -> None:
    silence = Silence(2.5, since_s=100.0)
    silence.listened(2.4)
    assert not silence.too_long(102.4)
    silence.listened(0.1)
    assert silence.too_long(102.5)


def test_a_limit_below_the_least_time_to_listen_is_listened_for_as_long() -> None:
    silence = Silence(0.125, since_s=100.0)
    assert not silence.too_long(100.125)
    silence.listened(0.125)
    assert silence.too_long(100.125)


@pytest.mark.parametrize(("now_s", "expected"), [(100.0, 2.5), (102.0, 0.5), (160.0, 0.2)])
def test_it_is_listened_until_the_limit_and_at_least_a_moment(
    now_s: float, expected: float
) -> None:
    assert Silence(2.5, since_s=100.0).patience(now_s) == pytest.approx(expected)
