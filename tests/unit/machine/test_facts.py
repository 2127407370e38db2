"""What a machine says about itself: folders that look like machines, sound ones and odd ones."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.machine.board import (
    System,
    board_name,
    container,
    core_count,
    cpu_name,
    emulator,
    hypervisor,
    one_line,
    operating_system,
)
from edge_sdk.machine.facts import Machine, read_machine
from edge_sdk.machine.load import (
    read_cpu_times,
    read_load_average,
    read_memory,
    read_swapped_mb,
)
from edge_sdk.machine.power import (
    THROTTLE_BITS,
    Throttling,
    read_clocks,
    read_driver,
    read_governor,
    read_heat,
    read_throttle_count,
    read_throttling,
    read_undervoltage,
)
from edge_sdk.machine.watch import Conditions
from edge_sdk.plain import PlainError, from_plain, to_plain

_A72 = "processor\t: {n}\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"
_PI = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "".join(_A72.format(n=n) for n in range(4))
    + "Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "proc/stat": "cpu  100 10 50 1000 5 1 2 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n",
    "proc/loadavg": "0.52 0.41 0.30 1/234 5678\n",
    "proc/meminfo": "MemTotal: 3882000 kB\nMemFree: 1 kB\nMemAvailable: 3000000 kB\n"
    "SwapTotal: 102396 kB\nSwapFree: 51198 kB\n",
    "proc/vmstat": "nr_free_pages 1\npswpin 10\npswpout 20\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/online": "0-3\n",
    **{
        f"sys/devices/system/cpu/cpu{n}/cpufreq/{name}": value
        for n in range(4)
        for name, value in (
            ("scaling_governor", "ondemand\n"),
            ("scaling_driver", "cpufreq-dt\n"),
            ("scaling_cur_freq", f"{1_500_000 + 100_000 * n}\n"),
            ("scaling_max_freq", "1800000\n"),
            ("cpuinfo_max_freq", "1800000\n"),
        )
    },
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48686\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon0/temp1_input": "49000\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
}
_VCGENCMD = {
    "get_throttled": "throttled=0x50000",
    "measure_clock arm": "frequency(48)=1500398464",
    "measure_temp": "temp=47.2'C",
}


def _machine(
    root: Path, files: dict[str, str | bytes] | None = None, firmware: dict[str, str] | None = None
) -> System:
    for name, content in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def output(command: Sequence[str]) -> str | None:
        if command[0] == "vcgencmd":
            return (firmware or {}).get(" ".join(command[1:]))
        return None

    return System(root, output)


def _pi(root: Path) -> System:
    return _machine(root, dict(_PI), _VCGENCMD)


def test_a_raspberry_pi(tmp_path: Path) -> None:
    machine = read_machine(_pi(tmp_path), version={"ai-edge-litert": "2.3.0"}.get)
    assert machine.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert (machine.cpu, machine.cores) == ("Cortex-A72", 4)
    assert 1 <= machine.usable_cores <= 4
    assert (machine.governor, machine.driver) == ("ondemand", "cpufreq-dt")
    # Of the firmware, which measures; the kernel's file says what was asked for.
    assert machine.clock_mhz == pytest.approx(1500.398464)
    assert (machine.clock_max_mhz, machine.clock_allowed_mhz) == (1800, 1800)
    assert (machine.temperature_c, machine.temperature_limit_c) == (49.0, 80.0)
    assert machine.throttling == Throttling(0x50000, (), ("under-voltage", "throttled"))
    assert machine.undervoltage is False
    assert machine.memory_mb == pytest.approx(3882000 * 1024 / 1e6)
    assert machine.swap_used_mb == pytest.approx(51198 * 1024 / 1e6)
    assert machine.load == (0.52, 0.41, 0.30)
    assert machine.packages == {"ai-edge-litert": "2.3.0"}
    assert machine.os == "Debian GNU/Linux 12 (bookworm)"
    assert (machine.virtualised, machine.container) == (None, None)


def test_facts_survive_json(tmp_path: Path) -> None:
    machine = read_machine(_pi(tmp_path))
    content = json.loads(json.dumps(to_plain(machine)))
    assert content["throttling"]["bits"] == "0x50000"
    assert from_plain(Machine, {**content, "of a later version": 1}) == machine


def test_this_machine_answers() -> None:
    machine = read_machine()
    assert machine.cores >= 1
    assert machine.packages["numpy"]
    assert from_plain(Machine, json.loads(json.dumps(to_plain(machine)))) == machine


def test_an_empty_machine_says_nothing(tmp_path: Path) -> None:
    machine = read_machine(_machine(tmp_path), version=lambda _: None)
    told = {
        key
        for key, value in to_plain(machine).items()
        if value is not None and value not in ({}, [])
    }
    assert told == {"cores", "usable_cores", "architecture", "kernel", "python"}


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\0",
            b"\xff\xfe\x00\x01" * 500,
            b"nan\n",
            b"inf",
            b"-1",
            b"9" * 400,
            b"0x",
            b":::\n",
        ),
        *(
            b"a: b\ncpu cpu cpu cpu cpu cpu cpu cpu cpu\n",
            b"cpu  1 2 3 4 5 6 7 99999999999999999999999\n",
        ),
        *(
            b"pswpin\npswpout x\npswpin 1 2\n",
            "Raspberry Pi\u202e\x1b[31m".encode(),
            b"CPU part: 0xd08\n" * 3,
        ),
        b"CPU implementer: zz\nCPU part: yy\n",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_rubbish_in_every_file_does_no_harm(tmp_path: Path, content: bytes) -> None:
    firmware = dict.fromkeys(_VCGENCMD, content.decode(errors="replace"))
    machine = read_machine(_machine(tmp_path, dict.fromkeys(_PI, content), firmware))
    told = json.dumps(to_plain(machine), allow_nan=False)
    assert from_plain(Machine, json.loads(told)) == machine
    for text in (machine.board, machine.cpu, machine.governor, machine.os):
        assert text is None or (text.isprintable() and len(text) <= 120)
    assert machine.throttling is None


def test_files_that_are_folders_do_no_harm(tmp_path: Path) -> None:
    for name in _PI:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert read_machine(_machine(tmp_path)).board is None


def test_facts_of_before_there_were_quotas_can_be_read() -> None:
    content = to_plain(read_machine())
    del content["quota_cores"]
    assert from_plain(Machine, content).quota_cores is None


@pytest.mark.parametrize("key", [key for key in to_plain(read_machine()) if key != "quota_cores"])
def test_facts_without_a_key_are_refused(key: str) -> None:
    content = to_plain(read_machine())
    del content[key]
    with pytest.raises(PlainError, match=f"{key} is missing"):
        from_plain(Machine, content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("cores", "4"), ("cores", True), ("cores", None), ("clock_mhz", "fast"), ("board", 1)),
        *(("load", [1, 2]), ("load", "abc"), ("throttling", []), ("throttling", {"bits": "x"})),
        *(("packages", []), ("packages", {"numpy": 2}), ("undervoltage", 1), ("os", ["Debian"])),
        *(("temperature_c", float("nan")), ("memory_mb", float("inf"))),
    ],
)
def test_facts_of_the_wrong_kind_are_refused(key: str, value: object) -> None:
    with pytest.raises(PlainError, match=key):
        from_plain(Machine, {**to_plain(read_machine()), key: value})


def test_two_machines_differ_by_what_makes_them_fast(tmp_path: Path) -> None:
    pi = read_machine(_pi(tmp_path / "4"))
    other = dict(_PI) | {"proc/device-tree/model": "Raspberry Pi 5", "etc/os-release": ""}
    five = read_machine(_machine(tmp_path / "5", other, _VCGENCMD))
    assert pi.differences(pi) == ()
    assert pi.differences(five) == ("board Raspberry Pi 4 Model B Rev 1.4 against Raspberry Pi 5",)


# --- board and processor


def test_dmi_names_without_fillers(tmp_path: Path) -> None:
    dmi = {
        "sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "sys/class/dmi/id/product_name": "To Be Filled By O.E.M.\n",
    }
    assert board_name(_machine(tmp_path, dmi)) == "LENOVO"


def test_an_x86_processor_and_cores_of_several_kinds(tmp_path: Path) -> None:
    x86 = "processor: 0\nvendor_id: GenuineIntel\nmodel name : Intel(R)  N100\ncpu MHz : 1996.2\n"
    system = _machine(tmp_path / "x86", {"proc/cpuinfo": x86})
    assert cpu_name(system) == "Intel(R) N100"
    assert read_clocks(system).now == pytest.approx(1996.2)
    little = "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd05\n" * 2
    odd = "processor: 1\nCPU implementer: 0x61\nCPU part: 0x022\n"
    assert cpu_name(_machine(tmp_path / "arm", {"proc/cpuinfo": little + odd})) == (
        "2 \N{MULTIPLICATION SIGN} Cortex-A55, "
        "1 \N{MULTIPLICATION SIGN} Arm implementer 0x61 part 0x022"
    )


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3", 4), ("0", 1), ("0-1,4-7", 6), ("0,2,4", 3), ("3-1", None), ("x-y", None)],
)
def test_cores_that_are_on(tmp_path: Path, text: str, cores: int | None) -> None:
    system = _machine(tmp_path, {"sys/devices/system/cpu/online": text})
    assert core_count(system) == (cores or os.cpu_count())


@given(st.text())
def test_one_line_is_fit_to_print(text: str) -> None:
    shown = one_line(text)
    assert shown is None or (shown.isprintable() and 0 < len(shown) <= 120)


def test_the_operating_system_without_a_file(tmp_path: Path) -> None:
    assert operating_system(_machine(tmp_path)) is None


# --- clocks and heat


def test_without_firmware_the_fastest_core_counts(tmp_path: Path) -> None:
    system = _machine(tmp_path, dict(_PI))
    assert read_clocks(system) == (1800, 1800, 1800)


def test_cores_with_several_governors(tmp_path: Path) -> None:
    other = {"sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "performance"}
    system = _machine(tmp_path, dict(_PI) | other)
    assert read_governor(system) == "ondemand, performance"
    assert read_driver(system) == "cpufreq-dt"


def test_other_thermometers_are_left_out(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/type": "BAT0",
        "sys/class/thermal/thermal_zone0/temp": "99000",
        "sys/class/hwmon/hwmon0/name": "nvme",
        "sys/class/hwmon/hwmon0/temp1_input": "88000",
    }
    assert read_heat(_machine(tmp_path / "disk", files)) == (None, None)
    files["sys/class/thermal/thermal_zone0/temp"] = "-274000"  # a sensor that is switched off
    files["sys/class/thermal/thermal_zone0/type"] = "x86_pkg_temp"
    assert read_heat(_machine(tmp_path / "off", files)) == (None, None)
    assert read_heat(_machine(tmp_path / "firmware", {}, _VCGENCMD)).now == 47.2


def test_the_kernels_passive_trip_point_is_the_limit(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    files = {
        f"{zone}/type": "x86_pkg_temp",
        f"{zone}/temp": "51000",
        f"{zone}/trip_point_0_type": "passive",
        f"{zone}/trip_point_0_temp": "0",
        f"{zone}/trip_point_1_type": "passive",
        f"{zone}/trip_point_1_temp": "95000",
        f"{zone}/trip_point_2_type": "critical",
        f"{zone}/trip_point_2_temp": "90000",
    }
    assert read_heat(_machine(tmp_path, files)) == (51.0, 95.0)


# --- power


def test_the_bits_of_get_throttled_by_their_official_meaning() -> None:
    # https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
    official = {
        0x1: "under-voltage",
        0x2: "arm frequency capped",
        0x4: "throttled",
        0x8: "soft temperature limit",
    }
    for bit, name in official.items():
        assert Throttling.decode(bit) == Throttling(bit, (name,), ())
        assert Throttling.decode(bit << 16) == Throttling(bit << 16, (), (name,))
    assert Throttling.decode(0) == Throttling(0, (), ())


@given(st.integers(0, 2**32 - 1))
def test_throttling_survives_json(bits: int) -> None:
    told = Throttling.decode(bits)
    assert from_plain(Throttling, json.loads(json.dumps(to_plain(told)))) == told
    assert len(told.now) + len(told.since_boot) == sum(
        bits >> bit & 1 for low, _ in THROTTLE_BITS for bit in (low, low + 16)
    )


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "throttled=",
            "throttled=0xzz",
            "VCHI initialization failed",
            "error=1",
            "throttled=-1",
        ),
        "throttled=0x" + "f" * 100,
    ],
)
def test_a_firmware_that_does_not_answer(tmp_path: Path, text: str) -> None:
    assert read_throttling(_machine(tmp_path, {}, {"get_throttled": text})) is None


def test_older_kernels_give_the_bits_as_a_file(tmp_path: Path) -> None:
    files = {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"}
    told = read_throttling(_machine(tmp_path, files))
    assert told is not None
    assert told.now == ("under-voltage", "throttled")


@pytest.mark.parametrize(("text", "alarm"), [("1", True), ("0", False), ("", None), ("?", None)])
def test_the_voltage_sensor(tmp_path: Path, text: str, alarm: bool | None) -> None:
    files = {
        "sys/class/hwmon/hwmon7/name": "rpi_volt",
        "sys/class/hwmon/hwmon7/in0_lcrit_alarm": text,
    }
    assert read_undervoltage(_machine(tmp_path, files)) is alarm


def test_throttling_of_x86_cores_is_added_up(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "3",
        "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "x",
    }
    assert read_throttle_count(_machine(tmp_path, files)) == 5
    assert read_throttle_count(_machine(tmp_path / "none")) is None


# --- load


def test_busy_and_stolen_time(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    system = _machine(tmp_path, {"proc/stat": "cpu  100 10 50 1000 5 1 2 33 7 7\n"})
    times = read_cpu_times(system)
    assert times is not None
    assert times.busy == pytest.approx((100 + 10 + 50 + 1 + 2) / ticks)
    assert times.stolen == pytest.approx(33 / ticks)


def test_load_memory_and_swap_of_a_machine_that_has_none(tmp_path: Path) -> None:
    system = _machine(tmp_path)
    assert read_cpu_times(system) is None
    assert read_load_average(system) is None
    assert read_memory(system) == (None, None, None, None)
    assert read_swapped_mb(system) is None


def test_swapped_pages_are_counted_both_ways(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    assert read_swapped_mb(_pi(tmp_path)) == pytest.approx(30 * page / 1e6)


# --- real or not


def _link(root: Path, target: str) -> System:
    task = root / "proc/self/task/42"
    task.mkdir(parents=True)
    (task / "exe").symlink_to(target)
    return _machine(root, dict(_PI))


def test_user_mode_qemu_is_seen_through_a_thread(tmp_path: Path) -> None:
    system = _link(tmp_path / "qemu", "/not/here/qemu-aarch64-static")
    assert emulator(system, "aarch64") == "qemu-aarch64"
    assert emulator(_link(tmp_path / "real", "/usr/bin/python3.11"), "aarch64") is None


def test_a_processor_of_another_kind_gives_an_emulator_away(tmp_path: Path) -> None:
    x86 = _machine(tmp_path / "x86", {"proc/cpuinfo": "vendor_id : GenuineIntel\n"})
    assert emulator(x86, "aarch64") == "an emulator on an x86 processor"
    assert emulator(x86, "x86_64") is None
    arm = _pi(tmp_path / "arm")
    assert emulator(arm, "x86_64") == "an emulator on an Arm processor"
    assert emulator(arm, "aarch64") is None
    mac = _machine(tmp_path / "mac", {"proc/cpuinfo": "vendor_id : VirtualApple\n"})
    assert emulator(mac, "x86_64") == "rosetta"
    assert emulator(_machine(tmp_path / "none"), "riscv64") is None


@pytest.mark.parametrize(
    ("files", "guest"),
    [
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, "qemu"),
        ({"sys/class/dmi/id/product_name": "KVM Virtual Machine"}, "kvm"),
        ({"sys/class/dmi/id/sys_vendor": "innotek GmbH"}, "virtualbox"),
        ({"sys/class/dmi/id/sys_vendor": "Amazon EC2"}, "amazon ec2"),
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({"proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "linux,kvm"),
        ({"proc/device-tree/model": "linux,dummy-virt\0"}, "qemu"),
        ({"proc/cpuinfo": "flags : fpu hypervisor sse2\n"}, "a hypervisor that gives no name"),
        ({"proc/cpuinfo": "flags : fpu sse2\n", "sys/class/dmi/id/sys_vendor": "Dell Inc."}, None),
        ({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}, None),
    ],
)
def test_guests(tmp_path: Path, files: dict[str, str | bytes], guest: str | None) -> None:
    assert hypervisor(_machine(tmp_path, files)) == guest


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"run/.containerenv": ""}, "podman"),
        ({".dockerenv": ""}, "docker"),
        ({"run/systemd/container": "lxc\n"}, "lxc"),
        ({}, None),
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str | bytes], kind: str | None) -> None:
    assert container(_machine(tmp_path, files)) == kind


def test_conditions_without_readings_are_refused() -> None:
    content = dict.fromkeys(
        ("governor", "driver", "temperature_limit_c", "others", "stolen", "emulated")
    )
    with pytest.raises(ValueError, match="without a reading"):
        from_plain(
            Conditions, {**content, "cores": 4, "readings": [], "invalid_reasons": [], "notes": []}
        )
