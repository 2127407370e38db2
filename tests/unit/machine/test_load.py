"""CPU quotas: control groups of both versions, of containers, slices and machines without any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.machine.board import System
from edge_sdk.machine.load import Quota, limited_memory, read_quota, usable_memory_bytes

_NONE = Quota(None, None)
_V1 = "sys/fs/cgroup/cpu"
_V2 = "sys/fs/cgroup"
_STAT_V2 = "usage_usec 9\nnr_periods 7\nnr_throttled 3\nthrottled_usec {}\n"


def _machine(root: Path, files: dict[str, str]) -> System:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8", errors="surrogateescape")
    return System(root, lambda _: None)


def _v1(group: str, quota: str, stopped: str = "0", period: str = "100000") -> dict[str, str]:
    return {
        f"{_V1}{group}/cpu.cfs_quota_us": quota,
        f"{_V1}{group}/cpu.cfs_period_us": period,
        f"{_V1}{group}/cpu.stat": f"nr_periods 5\nnr_throttled 2\nthrottled_time {stopped}\n",
    }


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        # A container sees its own group as the root.
        ("0::/\n", {f"{_V2}/cpu.max": "150000 100000\n"}, Quota(1.5, None)),
        (
            "0::/\n",
            {f"{_V2}/cpu.max": "50000 100000", f"{_V2}/cpu.stat": _STAT_V2.format(2_500_000)},
            Quota(0.5, 2.5),
        ),
        ("0::/\n", {f"{_V2}/cpu.max": "max 100000"}, _NONE),
        # A service in a slice that has less.
        (
            "0::/system.slice/edgecls.service\n",
            {
                f"{_V2}/system.slice/cpu.max": "100000 100000",
                f"{_V2}/system.slice/cpu.stat": _STAT_V2.format(1_000_000),
                f"{_V2}/system.slice/edgecls.service/cpu.max": "200000 100000",
                f"{_V2}/system.slice/edgecls.service/cpu.stat": _STAT_V2.format(500_000),
            },
            Quota(1.0, 1.5),
        ),
        # Version 1: the path of the host, of which the container sees nothing but its own files.
        ("4:cpu,cpuacct:/docker/af01\n0::/\n", _v1("", "25000", "3000000000"), Quota(0.25, 3.0)),
        ("7:cpuset:/x\n1:cpu:/pod/a\n", _v1("/pod/a", "300000") | _v1("", "-1"), Quota(3.0, 0.0)),
        ("1:cpu:/\n", _v1("", "-1"), _NONE),
        ("7:cpuset:/x\n", _v1("", "25000"), _NONE),
        ("0::/../../etc\n", {f"{_V2}/cpu.max": "70000 100000"}, Quota(0.7, None)),
        ("", {f"{_V2}/cpu.max": "70000 100000"}, _NONE),
        ("0::/\n", {f"{_V2}/cpu.max": "0 100000"}, _NONE),
        ("0::/\n", {f"{_V2}/cpu.max": "1000 0"}, _NONE),
    ],
)
def test_the_least_of_all_groups_counts(
    groups: str, files: dict[str, str], expected: Quota, tmp_path: Path
) -> None:
    system = _machine(tmp_path, {"proc/self/cgroup": groups} | files)
    assert read_quota(system) == pytest.approx(expected)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_rubbish_is_no_quota_or_one_of_finite_numbers(
    tmp_path_factory: pytest.TempPathFactory, groups: str, limit: str, stat: str
) -> None:
    root = tmp_path_factory.mktemp("machine")
    files = {"proc/self/cgroup": f"0::/{groups}", f"{_V2}/cpu.max": limit, f"{_V2}/cpu.stat": stat}
    quota = read_quota(_machine(root, files))
    assert quota.cores is None or 0 < quota.cores < 1e20
    assert quota.stopped_s is None or 0 <= quota.stopped_s < 1e20


_SPEND = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
for _ in range(5_000_000):
    pass
from edge_sdk.machine.load import read_quota
from edge_sdk.machine.board import System
print(*read_quota(System()))
"""


def test_a_real_quota_is_seen() -> None:
    group = Path(f"/sys/fs/cgroup/cpu/edgecls-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group of version 1 can be made")
    try:
        (group / "cpu.cfs_quota_us").write_text("20000")
        command = [sys.executable, "-c", _SPEND, str(group)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        group.rmdir()
    cores, stopped_s = (float(value) for value in told.split())
    assert cores == 0.2
    assert stopped_s > 0


_MEMINFO = {"proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n"}
_AVAILABLE = 2_048_000_000
_LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max data size             {data}            unlimited            bytes     \n"
    "Max address space         {space}            unlimited            bytes     \n"
)
_STATUS = {"proc/self/status": "Name:\tpython\nVmSize:\t  100000 kB\nVmData:\t   50000 kB\n"}


def _memory_v1(group: str, limit: int, usage: int, stat: str = "") -> dict[str, str]:
    folder = f"{_V2}/memory{group}"
    return {
        f"{folder}/memory.limit_in_bytes": str(limit),
        f"{folder}/memory.usage_in_bytes": str(usage),
        f"{folder}/memory.stat": stat,
    }


def _memory_v2(
    group: str, limit: str, usage: int, stat: str = "", high: str = "max"
) -> dict[str, str]:
    folder = f"{_V2}{group}"
    return {
        f"{folder}/memory.max": limit,
        f"{folder}/memory.high": high,
        f"{folder}/memory.current": str(usage),
        f"{folder}/memory.stat": stat,
    }


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, None),
        ("", _MEMINFO, _AVAILABLE),
        ("0::/\n", {**_MEMINFO, **_memory_v2("/", "max", 9_000_000)}, _AVAILABLE),
        # A container sees its own group as the root; caches that can be dropped count as left.
        ("0::/\n", {**_MEMINFO, **_memory_v2("/", "512000000", 200_000_000)}, 312_000_000),
        (
            "0::/\n",
            {
                **_MEMINFO,
                **_memory_v2("/", "512000000", 500_000_000, "anon 1\ninactive_file 90000000"),
            },
            102_000_000,
        ),
        # A service that may have more than its slice.
        (
            "0::/a.slice/b.service\n",
            {
                **_MEMINFO,
                **_memory_v2("/a.slice", "300000000", 250_000_000),
                **_memory_v2("/a.slice/b.service", "900000000", 1_000_000),
            },
            50_000_000,
        ),
        (
            "0::/b\n",
            {**_MEMINFO, **_memory_v2("/b", "max", 40_000_000, high="100000000")},
            60_000_000,
        ),
        # More than allowed already.
        ("0::/b\n", {**_MEMINFO, **_memory_v2("/b", "100000000", 120_000_000)}, 0),
        # Version 1: "no limit" is a huge number, and the groups above may be out of sight.
        ("4:memory:/x\n", {**_MEMINFO, **_memory_v1("/x", 9223372036854771712, 5)}, _AVAILABLE),
        ("4:memory:/x\n", {**_MEMINFO, **_memory_v1("", 100_000_000, 30_000_000)}, 70_000_000),
        (
            "4:memory:/x\n",
            _memory_v1("/x", 9223372036854771712, 100, "hierarchical_memory_limit 1100\n"),
            1000,
        ),
        # ulimit -v and -d.
        (
            "",
            {"proc/self/limits": _LIMITS.format(data="unlimited", space=202_400_000), **_STATUS},
            100_000_000,
        ),
        (
            "",
            {"proc/self/limits": _LIMITS.format(data=61_200_000, space="unlimited"), **_STATUS},
            10_000_000,
        ),
        ("nonsense\n0::/../..\n", {f"{_V2}/memory.current": "-3", "proc/meminfo": "x"}, None),
    ],
)
def test_memory_that_may_still_be_taken(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int | None
) -> None:
    system = _machine(tmp_path, {"proc/self/cgroup": groups, **files})
    assert usable_memory_bytes(system) == expected


def test_memory_of_this_machine_follows_a_limit_of_the_process() -> None:
    code = (
        "import resource\n"
        "from edge_sdk.machine.load import usable_memory_bytes\n"
        "from edge_sdk.machine.board import System\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, resource.RLIM_INFINITY))\n"
        "print(usable_memory_bytes(System()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert 0 < int(done.stdout) < 1 << 29


_LIMITED = """
import resource
from edge_sdk.machine.load import limited_memory
from edge_sdk.machine.board import System
usual = resource.getrlimit(resource.RLIMIT_DATA)
with limited_memory(System(), 50_000_000):
    kept = bytearray(10_000_000)
    try:
        bytearray(300_000_000)
    except MemoryError:
        print("refused")
assert resource.getrlimit(resource.RLIMIT_DATA) == usual
print(len(bytearray(300_000_000)))
"""


def test_memory_can_be_limited_for_a_while() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["refused", "300000000"]


def test_without_a_proc_there_is_no_limit(tmp_path: Path) -> None:
    import resource

    usual = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(_machine(tmp_path, {}), 1):
        assert resource.getrlimit(resource.RLIMIT_DATA) == usual
