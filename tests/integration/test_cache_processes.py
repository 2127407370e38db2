"""The cache of decoded pictures when processes are killed, meet, or find the disk full."""

from __future__ import annotations

import gc
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk.errors import WriteError
from edge_sdk.vision.images import read_image
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data import cache as caches
from host_tools.data.cache import CachePlace, PictureCache, Sizes, open_cache
from host_tools.data.layouts import find_pictures
from host_tools.data.pictures import Picture, PictureFolder

pytest.importorskip("filelock", reason="the extra [host] is not installed")

_SIZES = Sizes(Preprocessing(16, 12), Preprocessing(20, 15))
_COUNT = 30

# A process that opens the cache of a folder. Each decoded picture leaves a byte in a file; where a
# gate is named, decoding the tenth picture waits until it exists. `worst` runs before the rest.
_PROCESS = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data import pictures as reading
from host_tools.data.cache import CachePlace, open_cache
from host_tools.data.cache import Sizes
from host_tools.data.layouts import find_pictures

pictures, place, decoded, gate, worst = sys.argv[1:]
read = reading.read_picture

def counted(picture, max_pixels):
    with open(decoded, "ab") as file:
        file.write(b"x")
    if gate and Path(decoded).stat().st_size >= 10:
        print("in the middle", flush=True)
        while not Path(gate).exists():
            time.sleep(0.01)
    return read(picture, max_pixels)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

reading.read_picture = counted
exec(worst)
print("ready", flush=True)
cache = open_cache(
    find_pictures(Path(pictures)),
    Sizes(Preprocessing(16, 12), Preprocessing(20, 15)),
    CachePlace(Path(place)),
    note=lambda message: print(message, flush=True),
)
print("opened", len(cache.pictures), flush=True)
"""

# The worst moments to be killed in.
_MOMENTS = {
    "while-pixels-are-written": (
        "from host_tools.data import cache\n"
        "add = cache._Writer.add\n"
        "cache._Writer.add = (\n"
        "    lambda self, frame: self._count == 17 and (self._file.flush(), die())"
        " or add(self, frame))"
    ),
    "before-the-index": "np.savez = die",
    "while-the-index-is-written": (
        "save = np.savez\n"
        "def half(file, **index):\n"
        "    save(file, **index)\n"
        "    file.truncate(file.tell() // 2)\n"
        "    die()\n"
        "np.savez = half"
    ),
    "before-the-index-is-on-disk": "os.fsync = die",
    "before-the-cache-appears": "Path.rename = die",
}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(_COUNT):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), random.integers(0, 256, (40, 50, 3), np.uint8))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> CachePlace:
    return CachePlace(tmp_path / "caches")


@pytest.fixture
def start(pictures: Path, place: CachePlace, tmp_path: Path) -> Iterator[Start]:
    """Starts a process that opens the cache; none outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(gate: str | Path = "", worst: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _PROCESS, str(pictures), str(place.folder)),
                *(str(tmp_path / "decoded"), str(gate), worst),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def _hears(process: subprocess.Popen[str], word: str) -> None:
    """Reads what a process says until it says this."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"the process ended without a word of {word!r}")


def _named(place: CachePlace, suffix: str) -> list[Path]:
    return [path for path in place.folder.glob("*") if path.is_dir() and path.suffix == suffix]


def _check_right(cache: PictureCache) -> None:
    assert len(cache.pictures) == len(cache.exact) == len(cache.large) == _COUNT
    for picture, exact, large in zip(cache.pictures, cache.exact, cache.large, strict=True):
        frame = read_image(picture.path)
        assert np.array_equal(exact, preprocess(frame, _SIZES.exact))
        assert np.array_equal(large, preprocess(frame, _SIZES.large))


def _check_built_anew(pictures: Path, place: CachePlace) -> None:
    said: list[str] = []
    _check_right(open_cache(find_pictures(pictures), _SIZES, place, note=said.append))
    assert not said
    assert len(_named(place, "")) == 1
    assert not _named(place, ".unfinished")


# Killed


@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_process_killed_at_the_worst_moment_leaves_no_cache(
    moment: str, start: Start, pictures: Path, place: CachePlace
) -> None:
    process = start(worst=_MOMENTS[moment])
    assert process.wait(60) == -signal.SIGKILL
    assert not _named(place, "")
    assert _named(place, ".unfinished")
    _check_built_anew(pictures, place)


def test_processes_killed_at_any_moment_leave_no_cache(
    start: Start, pictures: Path, place: CachePlace
) -> None:
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04):
        process = start()
        _hears(process, "ready")
        time.sleep(delay)
        process.kill()
        process.wait(60)
        # Under its final name it is whole, and said to be.
        if place.folder.exists() and _named(place, ""):
            break
    _check_built_anew(pictures, place)


# Two at once


def test_of_two_processes_one_builds_and_the_other_waits(
    start: Start, tmp_path: Path, place: CachePlace
) -> None:
    gate = tmp_path / "gate"
    first = start(gate)
    _hears(first, "in the middle")
    second = start()
    _hears(second, "waiting")
    gate.touch()
    _hears(second, f"opened {_COUNT}")
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (tmp_path / "decoded").stat().st_size == _COUNT
    assert len(_named(place, "")) == 1
    assert not _named(place, ".unfinished")


def test_who_waits_for_a_process_that_is_killed_builds_it(
    start: Start, tmp_path: Path, pictures: Path, place: CachePlace
) -> None:
    first = start(tmp_path / "gate")
    _hears(first, "in the middle")
    second = start()
    _hears(second, "waiting")
    first.kill()
    _hears(second, f"opened {_COUNT}")
    _check_built_anew(pictures, place)


def test_what_another_process_is_building_is_not_removed_for_room(
    start: Start, tmp_path: Path, place: CachePlace
) -> None:
    gate = tmp_path / "gate"
    process = start(gate)
    _hears(process, "in the middle")
    (theirs,) = _named(place, ".unfinished")
    small = CachePlace(place.folder, limit_bytes=2 * _SIZES.bytes_per_picture)
    open_cache(_held(2, 40, 50), _SIZES, small)
    assert theirs.exists()
    gate.touch()
    _hears(process, f"opened {_COUNT}")
    assert len(_named(place, "")) == 2


# A full disk


def _held(count: int, height: int, width: int) -> PictureFolder:
    random = np.random.default_rng(count)
    held = tuple(
        Picture(
            *(Path(f"batch/{i}"), i % 2, None),
            pixels=random.integers(0, 256, (height, width, 3), np.uint8),
        )
        for i in range(count)
    )
    return PictureFolder(Path("batch"), ("a", "b"), held)


def _mounted(folder: Path) -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "edgecls-test", str(folder)]
    return (
        os.geteuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode
    )


@contextmanager
def _limited_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """2 MB in a folder: a file system of its own, or a limit that the kernel keeps."""
    folder.mkdir()
    if not _mounted(folder):
        with _limited_files():
            yield
        return
    try:
        yield
    finally:
        gc.collect()  # what is mapped is in use
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_leaves_nothing_half_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There was space at the check: another process fills the disk meanwhile.
    plenty = caches.shutil.disk_usage(tmp_path)._replace(free=10**12)
    monkeypatch.setattr(caches.shutil, "disk_usage", lambda _: plenty)
    place = CachePlace(tmp_path / "disk")
    sizes = Sizes(Preprocessing(64, 64), Preprocessing(64, 64))
    with _small_disk(place.folder):
        with pytest.raises(WriteError, match="--cache DIR") as failed:
            open_cache(_held(400, 64, 64), sizes, place)
        assert str(place.folder) in str(failed.value)
        assert re.search("No space left|File too large", str(failed.value))
        assert not [path for path in place.folder.iterdir() if path.is_dir()]
        cache = open_cache(_held(100, 64, 64), sizes, place)
        assert np.array_equal(cache.exact, [p.pixels for p in cache.pictures])
        del cache


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(place: CachePlace) -> None:
    huge = Preprocessing(10**6, 10**6)
    with pytest.raises(WriteError, match="--cache DIR"):
        open_cache(_held(4, 8, 8), Sizes(huge, huge), CachePlace(place.folder, 2**62))
    assert not [path for path in place.folder.iterdir() if path.is_dir()]
