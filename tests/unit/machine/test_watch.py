"""What invalidates a measurement: faults injected into a machine of files while it is watched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.machine.board import System
from edge_sdk.machine.watch import Conditions, Watch
from edge_sdk.plain import from_plain, to_plain

_CPU = "/sys/devices/system/cpu"
_ZONE = "/sys/class/thermal/thermal_zone0"
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Board:
    """A quiet four-core board whose time, files and firmware a test moves on."""

    cores = 4

    def __init__(self, root: Path) -> None:
        self.root, self.now_s, self.own_s = root, 100.0, 10.0
        self.busy_s, self.stolen_s, self.pages = 50.0, 0.0, 0
        self.throttled: str | None = "throttled=0x0"
        self.write("/proc/device-tree/model", "Raspberry Pi 4 Model B\0")
        self.write(f"{_CPU}/online", "0-3")
        self.write(f"{_CPU}/cpu0/cpufreq/scaling_governor", "performance")
        self.write(f"{_CPU}/cpu0/cpufreq/scaling_driver", "cpufreq-dt")
        self.clock(1800)
        self.heat(50)
        self.voltage(low=False)
        self.pass_time(0)

    def write(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def clock(self, mhz: float) -> None:
        self.write(f"{_CPU}/cpu0/cpufreq/scaling_cur_freq", str(int(mhz * 1000)))

    def heat(self, celsius: float) -> None:
        self.write(f"{_ZONE}/type", "cpu-thermal")
        self.write(f"{_ZONE}/temp", str(int(celsius * 1000)))

    def voltage(self, *, low: bool) -> None:
        self.write("/sys/class/hwmon/hwmon0/name", "rpi_volt")
        self.write("/sys/class/hwmon/hwmon0/in0_lcrit_alarm", str(int(low)))

    def pass_time(
        self, seconds: float, *, own: float = 1.0, others: float = 0.0, stolen: float = 0.0
    ) -> None:
        """So many seconds in which so many cores were busy with what."""
        self.now_s += seconds
        self.own_s += own * seconds
        self.busy_s += (own + others) * seconds
        self.stolen_s += stolen * seconds
        ticks = os.sysconf("SC_CLK_TCK")
        busy, lost = round(self.busy_s * ticks), round(self.stolen_s * ticks)
        self.write("/proc/stat", f"cpu  {busy} 0 0 99999 0 0 0 {lost} 0 0\n")
        self.write("/proc/vmstat", f"pswpin {self.pages}\npswpout {self.pages}\n")

    def watch(self) -> Watch:
        def output(command: Sequence[str]) -> str | None:
            return self.throttled if tuple(command) == ("vcgencmd", "get_throttled") else None

        return Watch(System(self.root, output), clock=lambda: self.now_s, own_s=lambda: self.own_s)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def _run(
    board: Board, fault: Callable[[int], object] = lambda _: None, **work: float
) -> Conditions:
    """Ten seconds of work; the fault may do something before each."""
    watch = board.watch()
    watch.start()
    for second in range(10):
        fault(second)
        board.pass_time(1.0, **work)
        watch.sample()
    return watch.finish()


def test_a_quiet_board_is_valid(board: Board) -> None:
    conditions = _run(board)
    assert conditions.invalid_reasons == ()
    assert conditions.notes == ()
    assert len(conditions.readings) == 12  # before, ten, and after
    assert conditions.others == pytest.approx(0, abs=0.02)
    assert conditions.before.at_s == 0
    assert conditions.after.at_s == 10
    assert {reading.clock_mhz for reading in conditions.during} == {1800}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("stopped_s", "valid"), [(0.05, True), (0.4, False)])
def test_a_cpu_quota_that_stops_the_process(
    board: Board, version: int, stopped_s: float, valid: bool
) -> None:
    group = "/sys/fs/cgroup/cpu/docker/1" if version == 1 else "/sys/fs/cgroup/docker/1"
    board.write(
        "/proc/self/cgroup", ["9:cpuset:/x\n4:cpu,cpuacct:/docker/1\n", "0::/docker/1"][version - 1]
    )
    if version == 1:
        board.write(f"{group}/cpu.cfs_quota_us", "150000")
        board.write(f"{group}/cpu.cfs_period_us", "100000")
    else:
        board.write(f"{group}/cpu.max", "150000 100000")

    def fault(second: int) -> None:
        seconds = 7 + (stopped_s if second > 4 else 0)  # seven of them are of before
        stopped = (
            f"throttled_time {seconds * 1e9:.0f}"
            if version == 1
            else f"throttled_usec {seconds * 1e6:.0f}"
        )
        board.write(f"{group}/cpu.stat", f"nr_periods 9\nnr_throttled 2\n{stopped}\n")

    fault(0)
    conditions = _run(board, fault)
    assert conditions.after.stopped_s == pytest.approx(stopped_s)
    assert (conditions.invalid_reasons == ()) is valid
    if not valid:
        assert "a CPU quota stopped the process for 0.4 s of 10" in conditions.invalid_reasons[0]


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (0x1, "under-voltage"),
        (0x2, "throttled: the firmware capped the clock"),
        (0x4, "throttled: the firmware slowed the board down"),
        (0x8, "too hot: the firmware's soft temperature limit"),
        # It came and went between two readings: only the bits since boot tell.
        (0x10000, "under-voltage"),
        (0x40000, "throttled: the firmware slowed the board down"),
    ],
)
def test_a_flag_of_the_firmware_in_the_middle(board: Board, bits: int, said: str) -> None:
    def fault(second: int) -> None:
        board.throttled = (
            f"throttled={bits if second == 5 or (bits > 0xF and second > 5) else 0:#x}"
        )

    (reason,) = _run(board, fault).invalid_reasons
    assert reason.startswith(said)


def test_what_happened_before_is_a_note_and_no_reason(board: Board) -> None:
    board.throttled = "throttled=0x50000"
    conditions = _run(board)
    assert conditions.invalid_reasons == ()
    assert conditions.notes == ("before this measurement, since boot: under-voltage, throttled",)


def test_a_flag_that_is_set_from_the_start(board: Board) -> None:
    board.throttled = "throttled=0x50005"
    reasons = _run(board).invalid_reasons
    assert [reason.split(":")[0] for reason in reasons] == ["under-voltage", "throttled"]


def test_under_voltage_by_the_kernels_sensor_alone(board: Board) -> None:
    board.throttled = None  # no vcgencmd

    def fault(second: int) -> None:
        board.voltage(low=second == 3)

    (reason,) = _run(board, fault).invalid_reasons
    assert reason.startswith("under-voltage")


def test_x86_cores_that_were_throttled(board: Board) -> None:
    counter = f"{_CPU}/cpu0/thermal_throttle/core_throttle_count"
    board.write(counter, "7")
    assert _run(board).invalid_reasons == ()
    (reason,) = _run(board, lambda second: board.write(counter, str(7 + second))).invalid_reasons
    assert "throttled by heat 9 times" in reason


def test_a_clock_that_falls(board: Board) -> None:
    (reason,) = _run(
        board, lambda second: board.clock(1800 if second < 6 else 1000)
    ).invalid_reasons
    assert reason.startswith("clock fell: from 1800 to 1000 MHz in 5 of 11 readings")


def test_a_clock_that_rises_from_idle_or_wanders_is_fine(board: Board) -> None:
    board.clock(600)
    assert _run(board, lambda second: board.clock(1800 - 20 * second)).invalid_reasons == ()
    one_reading = _run(board, lambda second: board.clock(600 if second == 4 else 1800))
    assert one_reading.invalid_reasons == ()


@pytest.mark.parametrize(
    ("governor", "driver", "valid"),
    [
        ("powersave", "cpufreq-dt", False),
        ("powersave", "intel_pstate", True),
        ("powersave", "amd-pstate-epp", True),
        ("performance", "cpufreq-dt", True),
    ],
)
def test_the_governor(board: Board, governor: str, driver: str, valid: bool) -> None:
    board.write(f"{_CPU}/cpu0/cpufreq/scaling_governor", governor)
    board.write(f"{_CPU}/cpu0/cpufreq/scaling_driver", driver)
    reasons = _run(board).invalid_reasons
    assert (reasons == ()) is valid
    assert valid or reasons[0].startswith("governor powersave")


def test_a_governor_that_follows_the_load_is_a_note(board: Board) -> None:
    board.write(f"{_CPU}/cpu0/cpufreq/scaling_governor", "ondemand")
    conditions = _run(board)
    assert conditions.invalid_reasons == ()
    assert conditions.notes[0].startswith("governor ondemand")


def test_heat(board: Board) -> None:
    assert _run(board, lambda second: board.heat(70 + second)).invalid_reasons == ()
    (reason,) = _run(board, lambda second: board.heat(75 + second)).invalid_reasons
    assert reason.startswith("too hot: 84 °C, and the processor is throttled from 80 °C")


@settings(max_examples=25)
@given(st.floats(0, 4), st.floats(0, 4))
def test_load_of_others_but_not_our_own(
    tmp_path_factory: pytest.TempPathFactory, own: float, others: float
) -> None:
    board = Board(tmp_path_factory.mktemp("board"))
    conditions = _run(board, own=own, others=others)
    assert conditions.others == pytest.approx(others, abs=0.05)
    if abs(others - 0.8) > 0.05:  # a fifth of four cores
        said = [reason for reason in conditions.invalid_reasons if "other processes" in reason]
        assert bool(said) is (others > 0.8)


def test_a_host_that_takes_cores_away(board: Board) -> None:
    assert _run(board, stolen=0.1).invalid_reasons == ()
    (reason,) = _run(board, stolen=0.5).invalid_reasons
    assert reason == "overloaded: the host used 0.5 of 4 cores for other guests"


def test_swapping(board: Board) -> None:
    def fault(megabytes: float) -> Callable[[int], None]:
        def swap(_: int) -> None:
            board.pages += int(megabytes * 1e6 / _PAGE / 2 / 10)

        return swap

    assert _run(board, fault(0.5)).invalid_reasons == ()
    (reason,) = _run(board, fault(50)).invalid_reasons
    assert reason.startswith("swapping: 50 MB")


def test_emulation(board: Board) -> None:
    task = board.root / "proc/self/task/1"
    task.mkdir(parents=True)
    (task / "exe").symlink_to("/not/here/qemu-aarch64-static")
    (reason,) = _run(board).invalid_reasons
    assert reason.startswith("emulated by qemu-aarch64")


def test_everything_at_once_is_told(board: Board) -> None:
    board.throttled = "throttled=0xf000f"
    board.heat(85)
    board.pages = 0

    def fault(second: int) -> None:
        board.pages += 10_000
        board.clock(600 if second > 5 else 1800)

    reasons = _run(board, fault, others=3.0).invalid_reasons
    assert [reason.split(":")[0] for reason in reasons] == [
        *("under-voltage", "throttled", "throttled", "too hot", "clock fell"),
        *("too hot", "overloaded", "swapping"),
    ]


def test_sampling_is_limited(board: Board) -> None:
    watch = board.watch()
    first = watch.start()
    assert first.others is None
    board.pass_time(0.5)
    assert watch.sample() is None
    board.pass_time(0.6)
    assert watch.sample() is not None
    assert len(watch.finish().readings) == 3


def test_a_watch_can_be_started_again(board: Board) -> None:
    watch = board.watch()
    board.throttled = "throttled=0x4"
    watch.start()
    assert watch.invalid_reasons() != ()
    board.throttled = "throttled=0x0"
    watch.start()
    board.pass_time(1)
    assert watch.invalid_reasons() == ()


def test_a_watch_that_was_not_started(board: Board) -> None:
    with pytest.raises(RuntimeError, match="before"):
        board.watch().sample()
    with pytest.raises(RuntimeError, match="before"):
        board.watch().finish()


def test_a_machine_that_tells_nothing_is_not_called_invalid(tmp_path: Path) -> None:
    watch = Watch(System(tmp_path, lambda _: None))
    watch.start()
    conditions = watch.finish()
    assert conditions.invalid_reasons == ()
    assert len(conditions.notes) == 3  # clock, temperature, others


def test_conditions_survive_json(board: Board) -> None:
    board.throttled = "throttled=0x50005"
    conditions = _run(board)
    content = json.loads(json.dumps(to_plain(conditions), allow_nan=False))
    assert from_plain(Conditions, content) == conditions


def test_this_machine_can_be_watched() -> None:
    watch = Watch(every_s=0.0)
    watch.start()
    assert watch.sample() is not None
    assert from_plain(Conditions, json.loads(json.dumps(to_plain(watch.finish()))))
