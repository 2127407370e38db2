"""The cache of decoded pictures: exact, built once, never stale, rebuilt when damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError, WriteError
from edge_sdk.types import Frame
from edge_sdk.vision.images import MAX_PIXELS, read_image
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data import cache
from host_tools.data import cache as caches
from host_tools.data.cache import CachePlace, PictureCache, Sizes, open_built, open_cache, sizes_for
from host_tools.data.layouts import find_pictures
from host_tools.data.load import Loading, load_dataset
from host_tools.data.pictures import Picture, PictureFolder
from host_tools.data.split import SplitRule

filelock = pytest.importorskip("filelock", reason="the extra [host] is not installed")

_EXACT = Preprocessing(16, 12)
_SIZES = Sizes(_EXACT, Preprocessing(20, 15))
_SAME = Sizes(_EXACT, _EXACT)


def _photo(seed: int, width: int = 50, height: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _save(path: Path, seed: int, width: int = 50, height: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), _photo(seed, width, height))


def _held(*pictures: NDArray[np.uint8]) -> PictureFolder:
    """A data set of pictures that are no files of their own, as in CIFAR-10's archive."""
    held = tuple(
        Picture(Path(f"batch/{i:05d}"), i % 2, None, pixels=pixels)
        for i, pixels in enumerate(pictures)
    )
    return PictureFolder(Path("batch"), ("a", "b"), held)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three pictures each, all of different sizes, and one that is cut off."""
    folder = tmp_path / "pictures"
    for i in range(6):
        _save(folder / "ab"[i % 2] / f"{i}.png", i, 50 - 3 * i, 30 + 4 * i)
    cut = folder / "a" / "cut.png"
    cut.write_bytes((folder / "a" / "0.png").read_bytes()[:-200])
    return folder


@pytest.fixture
def place(tmp_path: Path) -> CachePlace:
    return CachePlace(tmp_path / "caches")


def _built(place: CachePlace) -> list[Path]:
    """The folders of all caches, whole or not."""
    return sorted(path for path in place.folder.iterdir() if path.is_dir())


def _same(one: PictureCache, other: PictureCache) -> bool:
    return (
        np.array_equal(one.exact, other.exact)
        and np.array_equal(one.large, other.large)
        and one.pictures == other.pictures
        and one.digests == other.digests
        and one.unreadable == other.unreadable
    )


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After this call, decoding a picture fails the test."""

    def explode(*_: object) -> Iterator[object]:
        raise AssertionError("a picture was decoded")

    return lambda: monkeypatch.setattr(cache, "decode_all", explode)


# Contents


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("crop", ["center", "squash", "letterbox"])
def test_every_picture_is_what_the_device_would_see(
    crop: str, channels: int, root: Path, place: CachePlace
) -> None:
    sizes = Sizes(
        Preprocessing(16, 12, channels, crop),  # type: ignore[arg-type]
        Preprocessing(20, 15, channels, crop),  # type: ignore[arg-type]
    )
    cache = open_cache(find_pictures(root), sizes, place)
    assert len(cache.pictures) == len(cache.exact) == len(cache.large) == 6
    for picture, exact, large in zip(cache.pictures, cache.exact, cache.large, strict=True):
        frame = read_image(picture.path)
        assert np.array_equal(exact, preprocess(frame, sizes.exact))
        assert np.array_equal(large, preprocess(frame, sizes.large))


def test_a_second_opening_decodes_nothing(
    root: Path, place: CachePlace, no_decoding: Callable[[], None]
) -> None:
    folder = find_pictures(root)
    first = open_cache(folder, _SIZES, place)
    no_decoding()
    assert _same(open_cache(folder, _SIZES, place), first)


def test_pictures_are_mapped_and_not_held_in_memory(root: Path, place: CachePlace) -> None:
    cache = open_cache(find_pictures(root), _SIZES, place)
    assert not cache.exact.flags.owndata
    assert not cache.exact.flags.writeable


def test_pictures_held_in_memory_are_cached_too(
    place: CachePlace, no_decoding: Callable[[], None]
) -> None:
    photos = [_photo(i) for i in range(5)]
    first = open_cache(_held(*photos), _SIZES, place)
    expected = [preprocess(photo, _EXACT) for photo in photos]
    assert np.array_equal(first.exact, expected)
    no_decoding()
    assert _same(open_cache(_held(*photos), _SIZES, place), first)


def test_unreadable_pictures_are_remembered_with_their_reason(
    root: Path, place: CachePlace, no_decoding: Callable[[], None]
) -> None:
    folder = find_pictures(root)
    (left_out,) = open_cache(folder, _SAME, place).unreadable
    assert left_out.picture.path == root / "a" / "cut.png"
    assert "cut off" in left_out.reason
    no_decoding()
    assert open_cache(folder, _SAME, place).unreadable == (left_out,)


def test_a_data_set_without_a_readable_picture_is_cached_as_such(
    tmp_path: Path, place: CachePlace, no_decoding: Callable[[], None]
) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        _save(tmp_path / "broken" / name, 0)
        os.truncate(tmp_path / "broken" / name, 100)
    folder = find_pictures(tmp_path / "broken")
    with pytest.raises(DatasetError, match="4 could not be read"):
        load_dataset(folder, Loading(_EXACT, SplitRule(0, 0, 0), place=place))
    said: list[str] = []
    cache = open_cache(folder, _SIZES, place)
    assert cache.exact.shape == (0, 12, 16, 3)
    assert cache.large.shape == (0, 15, 20, 3)
    assert len(cache.unreadable) == 4
    no_decoding()
    assert _same(open_cache(folder, _SIZES, place, note=said.append), cache)
    assert not said


def test_equal_sizes_are_kept_once(root: Path, place: CachePlace) -> None:
    cache = open_cache(find_pictures(root), _SAME, place)
    assert cache.large is cache.exact
    (folder,) = _built(place)
    assert sorted(path.name for path in folder.iterdir()) == ["exact", "index.npz"]


# How large


@pytest.mark.parametrize(
    ("widths", "kept"),
    [((20, 20, 20), 20), ((19, 19, 19), 16), ((19, 20, 20), 20), ((19, 19, 20), 16), ((), 16)],
    ids=["large-enough", "too-small", "most-large", "most-small", "none"],
)
def test_pictures_are_kept_larger_where_most_are_large_enough(
    widths: tuple[int, ...], kept: int
) -> None:
    folder = _held(*(_photo(i, width, 15) for i, width in enumerate(widths)))
    sizes = sizes_for(folder, _EXACT, 0.25, MAX_PIXELS)
    assert sizes.exact == _EXACT
    assert sizes.large == replace(_EXACT, width=kept, height=kept * 3 // 4)


def test_without_a_margin_pictures_are_kept_once() -> None:
    assert sizes_for(_held(_photo(0), _photo(1)), _EXACT, 0.0, MAX_PIXELS) == _SAME


def test_the_size_depends_on_readable_pictures_alone(root: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        (root / "b" / name).write_bytes(b"no picture")
    sizes = sizes_for(find_pictures(root), _EXACT, 0.25, MAX_PIXELS)
    assert (sizes.large.width, sizes.large.height) == (20, 15)


# Never stale


def _touched(root: Path) -> None:
    os.utime(root / "a" / "0.png", ns=(1, 1))


def _replaced(root: Path) -> None:
    path = root / "a" / "0.png"
    when = path.stat().st_mtime_ns
    _save(path, 99, 44, 44)
    os.utime(path, ns=(when, when))


def _added(root: Path) -> None:
    _save(root / "b" / "new.png", 98)


def _removed(root: Path) -> None:
    (root / "a" / "0.png").unlink()


def _mended(root: Path) -> None:
    shutil.copy(root / "a" / "0.png", root / "a" / "cut.png")


@pytest.mark.parametrize("change", [_touched, _replaced, _added, _removed, _mended])
def test_other_files_are_another_cache(
    change: Callable[[Path], None], root: Path, place: CachePlace
) -> None:
    open_cache(find_pictures(root), _SAME, place)
    change(root)
    cache = open_cache(find_pictures(root), _SAME, place)
    assert len(_built(place)) == 2
    for picture, exact in zip(cache.pictures, cache.exact, strict=True):
        assert np.array_equal(exact, preprocess(read_image(picture.path), _EXACT))


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(replace(_EXACT, crop="squash"), replace(_SIZES.large, crop="squash")),
        Sizes(replace(_EXACT, channels=1), replace(_SIZES.large, channels=1)),
        Sizes(replace(_EXACT, width=17), _SIZES.large),
        Sizes(_EXACT, replace(_SIZES.large, width=21)),
        _SAME,
    ],
    ids=["crop", "channels", "width", "margin", "no-margin"],
)
def test_other_preprocessing_is_another_cache(sizes: Sizes, root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    open_cache(folder, _SIZES, place)
    cache = open_cache(folder, sizes, place)
    assert len(_built(place)) == 2
    frame = read_image(cache.pictures[0].path)
    assert np.array_equal(cache.exact[0], preprocess(frame, sizes.exact))
    assert np.array_equal(cache.large[0], preprocess(frame, sizes.large))


def test_another_limit_of_pixels_is_another_cache(root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    assert len(open_cache(folder, _SAME, place).pictures) == 6
    strict = open_cache(folder, _SAME, place, max_pixels=1600)
    assert {picture.path.name for picture in strict.pictures} == {"0.png", "1.png"}
    assert len(strict.unreadable) == 5


def test_another_version_is_another_cache(
    root: Path, place: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_pictures(root)
    open_cache(folder, _SAME, place)
    monkeypatch.setattr(cv2, "__version__", "99.0")
    open_cache(folder, _SAME, place)
    assert len(_built(place)) == 2


def test_a_copy_of_the_folder_is_cached_with_its_own_paths(root: Path, place: CachePlace) -> None:
    first = open_cache(find_pictures(root), _SAME, place)
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    second = open_cache(find_pictures(copy), _SAME, place)
    assert second.digests == first.digests
    assert np.array_equal(second.exact, first.exact)
    assert all(picture.path.is_relative_to(copy) for picture in second.pictures)


def test_the_same_bytes_in_another_shape_are_another_cache(place: CachePlace) -> None:
    wide = _photo(0, width=30, height=20)
    high = wide.reshape(30, 20, 3)
    open_cache(_held(wide), _SAME, place)
    cache = open_cache(_held(high), _SAME, place)
    assert np.array_equal(cache.exact[0], preprocess(high, _EXACT))


# Damage


def _flip(path: Path, position: int, bits: int = 0xFF) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def _check_mended(folder: PictureFolder, place: CachePlace, whole: PictureCache) -> None:
    said: list[str] = []
    assert _same(open_cache(folder, _SIZES, place, note=said.append), whole)
    assert len(said) == 1
    assert "damaged" in said[0]
    assert len(_built(place)) == 1
    assert _same(open_cache(folder, _SIZES, place, note=said.append), whole)
    assert len(said) == 1


def _copied(cache: PictureCache) -> PictureCache:
    return replace(cache, exact=cache.exact.copy(), large=cache.large.copy())


_DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "garbage": lambda path: path.write_bytes(_photo(1).tobytes()[: path.stat().st_size]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a-folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("exact", "large", "index.npz")
        for damage in _DAMAGES
        if (name, damage) != ("index.npz", "longer")  # a zip archive may be followed by anything
    ],
)
def test_a_damaged_file_is_reported_and_rebuilt(
    name: str, damage: str, root: Path, place: CachePlace
) -> None:
    folder = find_pictures(root)
    whole = _copied(open_cache(folder, _SIZES, place))
    (built,) = _built(place)
    _DAMAGES[damage](built / name)
    _check_mended(folder, place, whole)


@pytest.mark.parametrize("name", ["exact", "large"])
@pytest.mark.parametrize("where", [0.0, 0.1, 0.45, 0.55, 0.9, 1.0])
def test_a_flipped_byte_anywhere_is_noticed(name: str, where: float, place: CachePlace) -> None:
    # More pictures than one checksum covers, and not a multiple of that.
    folder = _held(*(_photo(i, 8, 6) for i in range(600)))
    whole = _copied(open_cache(folder, _SIZES, place))
    (built,) = _built(place)
    size = (built / name).stat().st_size
    _flip(built / name, round(where * (size - 1)), 0x01)
    _check_mended(folder, place, whole)


def test_a_flipped_bit_of_the_index_is_noticed_or_harmless(root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    whole = open_cache(folder, _SIZES, place)
    (built,) = _built(place)
    index = built / "index.npz"
    data = index.read_bytes()
    directory = data.index(b"PK\1\2")
    flips = [(i, 1 << i % 8) for i in range(0, directory, 11)]
    flips += [(i, 0x01) for i in range(directory, len(data))]
    noticed = 0
    for position, bits in flips:
        broken = bytearray(data)
        broken[position] ^= bits
        index.write_bytes(broken)
        opened = open_built([built], folder, _SIZES)
        assert opened is None or _same(opened, whole)
        noticed += opened is None
    assert noticed > len(flips) / 2


def test_the_index_of_another_cache_is_rejected(root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    other = CachePlace(place.folder.with_name("others"))
    open_cache(_held(*(_photo(50 + i) for i in range(7))), _SIZES, other)
    whole = _copied(open_cache(folder, _SIZES, place))
    (built,), (other_cache,) = _built(place), _built(other)
    shutil.copy(other_cache / "index.npz", built / "index.npz")
    _check_mended(folder, place, whole)


def test_rows_swapped_within_a_cache_are_noticed(root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    whole = _copied(open_cache(folder, _SIZES, place))
    (built,) = _built(place)
    swapped = whole.exact[::-1].tobytes()
    (built / "exact").write_bytes(swapped)
    _check_mended(folder, place, whole)


# Room


def _needs(sizes: Sizes, count: int) -> int:
    return sizes.bytes_per_picture * count


def test_what_is_larger_than_the_limit_is_refused(root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    needed = _needs(_SIZES, len(folder.pictures))
    assert needed == (16 * 12 + 20 * 15) * 3 * 7
    with pytest.raises(DatasetError, match="--cache-limit"):
        open_cache(folder, _SIZES, replace(place, limit_bytes=needed - 1))
    assert _built(place) == []
    open_cache(folder, _SIZES, replace(place, limit_bytes=needed))
    assert len(_built(place)) == 1


def _three(place: CachePlace) -> tuple[list[PictureFolder], list[Path], int]:
    """Three caches, the first used longest ago, and how much one of them takes on disk."""
    folders = [_held(_photo(i), _photo(i + 10)) for i in range(3)]
    paths: list[Path] = []
    for folder in folders:
        before = set(_built(place)) if paths else set()
        open_cache(folder, _SIZES, place)
        paths += set(_built(place)) - before
    for age, path in zip((300, 200, 100), paths, strict=True):
        used = path.stat().st_mtime - age
        os.utime(path, (used, used))
    size = max(sum(file.stat().st_size for file in path.iterdir()) for path in paths)
    return folders, paths, size


def test_the_least_recently_used_goes_first(place: CachePlace) -> None:
    _, paths, size = _three(place)
    limited = replace(place, limit_bytes=3 * size + 100)
    open_cache(_held(_photo(77), _photo(78)), _SIZES, limited)
    assert [path.exists() for path in paths] == [False, True, True]


def test_opening_is_using(place: CachePlace) -> None:
    folders, paths, size = _three(place)
    open_cache(folders[0], _SIZES, place)
    limited = replace(place, limit_bytes=3 * size + 100)
    open_cache(_held(_photo(77), _photo(78)), _SIZES, limited)
    assert [path.exists() for path in paths] == [True, False, True]


def test_as_many_go_as_must(place: CachePlace) -> None:
    _, paths, size = _three(place)
    limited = replace(place, limit_bytes=2 * size)
    open_cache(_held(_photo(77), _photo(78)), _SIZES, limited)
    assert [path.exists() for path in paths] == [False, False, True]


def test_an_evicted_cache_can_still_be_read_by_a_process_that_has_it_open(
    place: CachePlace,
) -> None:
    open_ = open_cache(_held(_photo(0), _photo(1)), _SIZES, place)
    expected = [preprocess(_photo(i), _EXACT) for i in range(2)]
    limited = replace(place, limit_bytes=_needs(_SIZES, 2))
    open_cache(_held(_photo(2), _photo(3)), _SIZES, limited)
    assert len(_built(place)) == 1
    assert np.array_equal(open_.exact, expected)


def test_what_a_killed_process_left_makes_room_too(place: CachePlace) -> None:
    left = place.folder / ("0" * 32 + ".unfinished")
    left.mkdir(parents=True)
    (left / "exact").write_bytes(bytes(5000))
    limited = replace(place, limit_bytes=_needs(_SIZES, 2))
    open_cache(_held(_photo(0), _photo(1)), _SIZES, limited)
    assert not left.exists()


def test_what_is_no_cache_is_never_removed(place: CachePlace) -> None:
    # --cache may name any folder, also one with other files.
    other_folder = place.folder / "holiday"
    other_folder.mkdir(parents=True)
    (other_folder / "photo.jpg").write_bytes(bytes(5000))
    os.utime(other_folder, (1, 1))
    limited = replace(place, limit_bytes=_needs(_SIZES, 2))
    open_cache(_held(_photo(0), _photo(1)), _SIZES, limited)
    assert (other_folder / "photo.jpg").exists()


def test_a_cache_that_somebody_takes_up_while_room_is_made_stays(
    place: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = place.folder / ("0" * 32 + ".unfinished")
    left.mkdir(parents=True)
    theirs = filelock.FileLock(place.folder / f"{left.stem}.lock")
    plenty = shutil.disk_usage(place.folder)._replace(free=10**12)
    answers = iter([plenty._replace(free=0)])

    def disk_usage(_: Path) -> object:
        if not theirs.is_locked:
            theirs.acquire(timeout=0)
        return next(answers, plenty)

    monkeypatch.setattr(caches.shutil, "disk_usage", disk_usage)
    try:
        open_cache(_held(_photo(0), _photo(1)), _SIZES, place)
    finally:
        theirs.release()
    assert left.exists()


def test_nothing_is_locked_once_a_cache_is_open_or_refused(root: Path, place: CachePlace) -> None:
    folder = find_pictures(root)
    # A reference to the error keeps its stack frames alive.
    with pytest.raises(DatasetError) as refused:
        open_cache(folder, _SIZES, replace(place, limit_bytes=1))
    open_cache(folder, _SIZES, place)
    (lock,) = place.folder.glob("*.lock")
    with filelock.FileLock(lock, timeout=0):
        assert refused.value


def test_a_disk_without_room_is_reported_before_anything_is_written(
    root: Path, place: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(root)._replace(free=10_000)
    monkeypatch.setattr(caches.shutil, "disk_usage", lambda _: full)
    with pytest.raises(WriteError, match="--cache DIR"):
        open_cache(find_pictures(root), _SIZES, place)
    assert _built(place) == []


def test_a_place_that_cannot_be_written_is_an_error_of_ours(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="--cache DIR"):
        open_cache(find_pictures(root), _SIZES, CachePlace(tmp_path / "file" / "caches"))


def test_an_interrupt_while_building_leaves_nothing(
    root: Path, place: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_cache(find_pictures(root), _SIZES, place)
    assert _built(place) == []
    open_cache(find_pictures(root), _SIZES, place)
    assert len(_built(place)) == 1


# Several disks


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CachePlace:
    """Three folders that act as disks, the second without room, the third with twice as much."""
    place = CachePlace(tmp_path / "a", more=(tmp_path / "b", tmp_path / "c"))
    room = [10**6, 0, 2 * 10**6]
    monkeypatch.setattr(caches, "_room", lambda place: room[: len(place.folders)])
    return place


def _parts(place: CachePlace, kind: str) -> list[int]:
    """Bytes of the one cache in each folder."""
    paths = [next(each.glob(f"*/{kind}")) for each in place.folders]
    return [path.stat().st_size for path in paths]


def test_a_cache_on_several_disks_holds_what_one_would(
    root: Path, place: CachePlace, disks: CachePlace, no_decoding: Callable[[], None]
) -> None:
    folder = find_pictures(root)
    whole = open_cache(folder, _SIZES, place)
    spread = open_cache(folder, _SIZES, disks)
    assert _same(spread, whole)
    assert spread.exact[np.array([5, 0, 3])].tolist() == whole.exact[[5, 0, 3]].tolist()
    no_decoding()
    assert _same(open_cache(folder, _SIZES, disks), whole)


def test_each_disk_holds_pictures_by_its_room(disks: CachePlace) -> None:
    open_cache(_held(*(_photo(i) for i in range(9))), _SIZES, disks)
    one = 16 * 12 * 3
    assert _parts(disks, "exact") == [3 * one, 0, 6 * one]


def test_other_disks_are_another_cache(root: Path, disks: CachePlace) -> None:
    folder = find_pictures(root)
    whole = open_cache(folder, _SIZES, disks)
    fewer = replace(disks, more=disks.more[1:])
    assert _same(open_cache(folder, _SIZES, fewer), whole)
    assert len(_built(disks)) == 2


@pytest.mark.parametrize("which", [0, 2])
def test_a_part_that_is_lost_or_damaged_is_made_again(which: int, disks: CachePlace) -> None:
    folder = _held(*(_photo(i) for i in range(9)))
    whole = open_cache(folder, _SIZES, disks)
    expected = np.array(whole.exact)
    path = next(disks.folders[which].glob("*/exact"))
    path.write_bytes(bytes(path.stat().st_size))
    said: list[str] = []
    assert np.array_equal(open_cache(folder, _SIZES, disks, note=said.append).exact, expected)
    assert "damaged" in said[0]
    shutil.rmtree(path.parent)
    assert np.array_equal(open_cache(folder, _SIZES, disks).exact, expected)


def test_all_parts_of_an_old_cache_go(disks: CachePlace) -> None:
    open_cache(_held(*(_photo(i) for i in range(9))), _SIZES, disks)
    limited = replace(disks, limit_bytes=_needs(_SIZES, 9))
    open_cache(_held(*(_photo(i) for i in range(20, 29))), _SIZES, limited)
    for each in disks.folders:
        assert len([path for path in each.iterdir() if path.is_dir()]) == 1


def test_an_interrupt_leaves_no_part_behind(
    disks: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(cache._Writer):
        def add(self, frame: Frame) -> None:
            if self._count == 2:
                raise KeyboardInterrupt
            super().add(frame)

    monkeypatch.setattr(cache, "_Writer", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_cache(_held(*(_photo(i) for i in range(9))), _SIZES, disks)
    for each in disks.folders:
        assert [path for path in each.iterdir() if path.is_dir()] == []


def test_two_folders_of_one_disk_have_its_room_once(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = caches._room(CachePlace(tmp_path / "a", more=(tmp_path / "b",)))
    assert first > 0
    assert second == 0
