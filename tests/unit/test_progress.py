"""Progress: a bar on a terminal, a line every half minute in a log, silence for short work."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import time

import pytest

from host_tools import progress as progress_module
from host_tools.progress import EVERY_S, Meter, progress, working


class _Clock:
    """Seconds that the test lets pass."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _after(seconds: float, *, done: int, total: int | None, unit: str = "") -> list[str]:
    """Lines of a log in which everything done so far took so long."""
    clock, log = _Clock(), io.StringIO()
    meter = Meter("reading", total, unit, stream=log, clock=clock)
    clock.now += seconds
    meter.advance(done)
    return log.getvalue().splitlines()


def test_a_log_gets_a_line_twice_a_minute_and_one_at_the_end() -> None:
    clock, log = _Clock(), io.StringIO()
    meter = Meter("reading pictures", 96_023, stream=log, clock=clock)
    for _ in range(96_023):
        clock.now += 1 / 64  # 25 minutes
        meter.advance()
    meter.close()
    lines = log.getvalue().splitlines()
    assert len(lines) == 50 + 1
    assert lines[0] == "reading pictures: 1,920 of 96,023, 64/s, about 25 min left"
    assert lines[24] == "reading pictures: 48,000 of 96,023, 64/s, about 13 min left"
    assert lines[-1] == "reading pictures: 96,023 of 96,023 in 25 min"


def test_short_work_leaves_no_line_in_a_log() -> None:
    clock, log = _Clock(), io.StringIO()
    meter = Meter("reading", 100, stream=log, clock=clock)
    for _ in range(100):
        clock.now += EVERY_S / 101
        meter.advance()
    meter.close()
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "done", "total", "unit", "line"),
    [
        (30, 1, 4, "", "reading: 1 of 4, 30 s each, about 90 s left"),
        (300, 1, 4, "", "reading: 1 of 4, 5 min each, about 15 min left"),
        (60, 60, None, "", "reading: 60, 1/s"),
        (36_000, 10, 20, "", "reading: 10 of 20, 60 min each, about 10.0 h left"),
        (30, 6_000_000, 90_000_000, "B", "reading: 6.0 MB of 90.0 MB, 0.2 MB/s, about 7 min left"),
        (30, 0, 90_000_000, "B", "reading: 0.0 MB of 90.0 MB, 0.0 MB/s"),
        (30, 7, 4, "", "reading: 7 of 4, 4 s each, about 0 s left"),
    ],
)
def test_a_line_says_amount_rate_and_what_is_left(
    seconds: float, done: int, total: int | None, unit: str, line: str
) -> None:
    assert _after(seconds, done=done, total=total, unit=unit) == [line]
    assert _after(EVERY_S - 0.1, done=done, total=total, unit=unit) == []


def test_a_terminal_gets_a_bar_that_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="the extra [host] is not installed")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(range(5), "reading", 5)) == [0, 1, 2, 3, 4]
    shown = terminal.getvalue()
    assert "reading" in shown
    assert "\n" not in shown
    assert shown.split("\r")[-1].strip() == ""


def test_progress_that_is_not_taken_to_its_end_ends_silently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    def items() -> object:
        try:
            yield from range(5)
        finally:
            closed.append("items")

    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    shown = progress(items(), "reading", 5)  # type: ignore[arg-type]
    assert next(shown) == 0
    shown.close()
    del shown
    assert closed == ["items"]
    assert log.getvalue() == ""


def test_the_last_item_counts_where_no_further_one_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress_module, "EVERY_S", 0.0)
    shown = progress(range(3), "reading", 3)
    assert list(itertools.islice(shown, 3)) == [0, 1, 2]
    shown.close()
    assert log.getvalue().splitlines()[-1].startswith("reading: 3 of 3 in ")


def test_work_without_known_progress_shows_activity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress_module, "EVERY_S", 0.01)
    with working("converting"):
        while "\n" not in log.getvalue():
            time.sleep(0.001)
    lines = log.getvalue().splitlines()
    assert lines[0] == "converting: 0 s so far"
    time.sleep(0.05)
    assert log.getvalue().splitlines() == lines  # it has ended


def test_a_log_is_written_while_standard_error_is_muted() -> None:
    script = (
        "import time\n"
        "from host_tools import progress\n"
        "from host_tools.extras import muted\n"
        "progress.EVERY_S = 0.02\n"
        "with progress.working('converting'), muted():\n"
        "    time.sleep(0.5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "converting: 0 s so far\n" in done.stderr
    assert done.stdout == ""


def test_short_work_of_a_converter_logs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with pytest.raises(ValueError, match="broken"), working("converting"):
        raise ValueError("broken")
    assert log.getvalue() == ""
