"""Every layout in miniature, made from real digits, and the errors of faulty data sets."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk import read_image
from edge_sdk.errors import DatasetError
from host_tools.data.layouts import LAYOUTS, cifar10, find_pictures
from host_tools.data.layouts import cifar10 as cifar10_module
from host_tools.data.pictures import PictureFolder, read_picture

_CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
_BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
_ODD_NAMES = [' "quoted"', "<script>alert(1)", "🦆", "a, b; c", "Größe", "--help", "1"]


@pytest.fixture(scope="session")
def digit(digit_pictures: Path) -> Callable[[int], Path]:
    """The file of a real picture of a digit."""
    return lambda number: next((digit_pictures / str(number)).glob("*.png"))


@pytest.fixture
def put(digit: Callable[[int], Path]) -> Callable[..., Path]:
    """Copies real pictures to the given places, folders made on the way."""

    def put_there(root: Path, *places: str) -> Path:
        for number, place in enumerate(places):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(digit(number % 10), root / place)
        return root

    return put_there


Put = Callable[..., Path]


def _labels_by_path(folder: PictureFolder) -> dict[str, tuple[str, str | None]]:
    """Label and split of each picture, by its path below the root."""
    return {
        picture.path.relative_to(folder.root).as_posix(): (
            folder.classes[picture.label],
            picture.split,
        )
        for picture in folder.pictures
    }


# Folders


def test_folders_of_any_names_are_classes(tmp_path: Path, put: Put) -> None:
    put(tmp_path, *(f"{name}/1.png" for name in _ODD_NAMES))
    folder = find_pictures(tmp_path)
    assert folder.layout == "folders"
    assert folder.classes == tuple(sorted(_ODD_NAMES))
    assert not folder.ready_splits


def test_a_thousand_classes(tmp_path: Path, put: Put) -> None:
    put(tmp_path, *(f"class {i:03d}/1.png" for i in range(1000)))
    folder = find_pictures(tmp_path)
    assert len(folder.classes) == 1000
    assert [picture.label for picture in folder.pictures] == list(range(1000))


def test_cinic10_has_three_ready_splits(tmp_path: Path, put: Put) -> None:
    put(tmp_path, *(f"{s}/{c}/1.png" for s in ("train", "valid", "test") for c in _CIFAR_CLASSES))
    folder = find_pictures(tmp_path)
    assert (folder.layout, folder.classes) == ("folders", tuple(_CIFAR_CLASSES))
    assert folder.ready_splits == {"train", "validation", "test"}
    assert _labels_by_path(folder)["valid/ship/1.png"] == ("ship", "validation")


def test_a_class_beside_the_splits_is_not_passed_over(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "train/a/1.png", "val/a/2.png", "holdout/a/3.png")
    with pytest.raises(DatasetError, match="holdout is beside the splits and is not a split"):
        find_pictures(tmp_path)


def test_hidden_files_and_other_files_are_no_pictures(tmp_path: Path, put: Put) -> None:
    put(
        tmp_path, "a/1.PNG", "a/.2.png", "a/.cache/3.png", "a/deep/4.jpeg", "a/notes.txt", "b/1.png"
    )
    assert set(_labels_by_path(find_pictures(tmp_path))) == {"a/1.PNG", "a/deep/4.jpeg", "b/1.png"}


def test_a_link_to_a_class_folder_is_followed(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "elsewhere", "1.png")
    put(tmp_path / "data", "a/1.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    assert set(_labels_by_path(find_pictures(tmp_path / "data"))) == {"a/1.png", "b/1.png"}


def test_a_link_that_leads_back_is_not_followed_for_ever(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert set(_labels_by_path(find_pictures(tmp_path))) == {"a/1.png", "b/1.png"}


@pytest.mark.parametrize("place", ["loop", "a/loop.png"])
def test_a_link_to_itself_is_named_and_the_rest_read(
    place: str, tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / place).symlink_to(tmp_path / place)
    assert set(_labels_by_path(find_pictures(tmp_path))) == {"a/1.png", "b/1.png"}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == f"{tmp_path / place}: left out, a symbolic link that loops; remove it"


@pytest.mark.parametrize("place", ["", "b", "b/inner"])
def test_a_folder_that_may_not_be_read_is_an_error(
    place: str, tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permissions do not stop root, which tests may run as.
    real = os.scandir

    def guarded(path: Path | str) -> object:
        if Path(path) == tmp_path / place:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    put(tmp_path, "a/1.png", "b/inner/1.png")
    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DatasetError, match=r"cannot be read \(Permission denied\).*chmod"):
        find_pictures(tmp_path)


# Which layout


def test_an_unknown_layout_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'imagenet-100' \(did you mean imagenet100\?\)"):
        find_pictures(tmp_path, "imagenet-100")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "folders"])
def test_a_requested_layout_that_is_not_there_is_refused(
    layout: str, tmp_path: Path, put: Put
) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    with pytest.raises(DatasetError, match=f"is not in the layout {layout}; expected"):
        find_pictures(tmp_path, layout)


def test_a_requested_layout_wins(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "results.csv").write_text("file,label\n1.png,x\n")
    assert find_pictures(tmp_path).layout == "csv"
    assert find_pictures(tmp_path, "folders").classes == ("a", "b")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such folder"):
        find_pictures(tmp_path / "nowhere")


def test_a_file_that_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"photos\.zip: a file, not a data set; expected a"):
        find_pictures(tmp_path / "photos.zip")


# ImageNet-100


@pytest.fixture
def imagenet100(tmp_path: Path, put: Put) -> Path:
    """Four classes in two parts; two of them are cranes."""
    put(
        tmp_path,
        *("train.X1/n03126707/n03126707_1.JPEG", "train.X1/n01440764/n01440764_1.JPEG"),
        *("train.X2/n02012849/n02012849_1.JPEG", "train.X2/n01440764/n01440764_2.JPEG"),
        *("val.X/n01440764/v1.JPEG", "val.X/n02012849/v2.JPEG", "val.X/n03126707/v3.JPEG"),
    )
    labels = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane"}
    (tmp_path / "Labels.json").write_text(json.dumps({**labels, "n09999999": "nothing here"}))
    return tmp_path


def test_imagenet100(imagenet100: Path) -> None:
    folder = find_pictures(imagenet100)
    assert folder.layout == "imagenet100"
    assert folder.classes == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert folder.ready_splits == {"train", "test"}
    paths = _labels_by_path(folder)
    assert len(paths) == 7
    assert paths["train.X1/n01440764/n01440764_1.JPEG"] == ("tench", "train")
    assert paths["train.X2/n01440764/n01440764_2.JPEG"] == ("tench", "train")
    assert paths["val.X/n03126707/v3.JPEG"] == ("crane (n03126707)", "test")


def test_imagenet100_without_some_or_any_labels(imagenet100: Path) -> None:
    (imagenet100 / "Labels.json").write_text('{"n02012849": "crane"}')
    assert find_pictures(imagenet100).classes == ("n01440764", "crane", "n03126707")
    (imagenet100 / "Labels.json").unlink()
    assert find_pictures(imagenet100).classes == ("n01440764", "n02012849", "n03126707")


def test_imagenet100_with_a_part_missing(imagenet100: Path) -> None:
    shutil.rmtree(imagenet100 / "train.X2")
    with pytest.raises(DatasetError, match=r"1 classes of val\.X are in none .* n02012849; unpack"):
        find_pictures(imagenet100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"n01440764": "tench', "is damaged.*Unterminated string"),
        (b'{"n01440764": "\xff"}', "is damaged.*utf-8"),
        (b"[" * 100_000, "is damaged.*recursion"),
        (b'["tench"]', "is not a table of names"),
        (b'{"n01440764": 3}', "is not a table of names"),
    ],
)
def test_damaged_labels_of_imagenet100(content: bytes, reason: str, imagenet100: Path) -> None:
    (imagenet100 / "Labels.json").write_bytes(content)
    with pytest.raises(DatasetError, match=f"Labels.json: {reason}"):
        find_pictures(imagenet100)


# Tiny ImageNet


@pytest.fixture
def tiny(tmp_path: Path, put: Put) -> Path:
    """Two classes, boxes and an unlabelled test split as in the original."""
    put(
        tmp_path,
        *("train/n02002724/images/n02002724_0.JPEG", "train/n01443537/images/n01443537_0.JPEG"),
        *("val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG"),
    )
    (tmp_path / "train/n01443537/n01443537_boxes.txt").write_text(
        "n01443537_0.JPEG\t0\t10\t63\t58\n"
    )
    (tmp_path / "wnids.txt").write_text("n02002724\nn01443537\n")
    words = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02002724\tblack stork\n"
    (tmp_path / "words.txt").write_text(words)
    lines = "val_0.JPEG\tn02002724\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t1\t2\t3\t4\n"
    (tmp_path / "val/val_annotations.txt").write_text(lines)
    return tmp_path


def test_tiny_imagenet(tiny: Path) -> None:
    folder = find_pictures(tiny)
    assert (folder.layout, folder.classes) == ("tiny-imagenet", ("goldfish", "black stork"))
    assert _labels_by_path(folder) == {
        "train/n01443537/images/n01443537_0.JPEG": ("goldfish", "train"),
        "train/n02002724/images/n02002724_0.JPEG": ("black stork", "train"),
        "val/images/val_0.JPEG": ("black stork", "test"),
        "val/images/val_1.JPEG": ("goldfish", "test"),
    }


def test_tiny_imagenet_without_words(tiny: Path) -> None:
    (tiny / "words.txt").unlink()
    assert find_pictures(tiny).classes == ("n01443537", "n02002724")


def test_tiny_imagenet_without_val(tiny: Path) -> None:
    shutil.rmtree(tiny / "val")
    folder = find_pictures(tiny)
    assert (folder.layout, folder.ready_splits) == ("tiny-imagenet", {"train"})


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("", "2 pictures are in val/images and not in this file: val_0.JPEG, val_1.JPEG;"),
        ("val_0.JPEG\tn01443537\t1\n", "1 pictures are in val/images and not in this file"),
        (
            "val_0.JPEG\tn01443537\nval_1.JPEG\tn9\n",
            r"1 .*a class that train lacks: val_1.JPEG \(n9\)",
        ),
        (
            "".join(f"{i}.JPEG\tn01443537\n" for i in range(5)),
            "5 pictures are not in val/images: 0.JPEG, 1.JPEG, 2.JPEG, ...;",
        ),
        ("../../x.JPEG\tn01443537\n", "1 pictures are not in val/images"),
        ("val_0.JPEG n01443537\n", "line 1 reads 'val_0.JPEG n01443537'; expected a name, a tab"),
        ("val_0.JPEG\tn01443537\nval_0.JPEG\tn02002724\n", "line 2 reads"),
        ("val_0.JPEG\t\udcff\n", "is not UTF-8 text"),
    ],
)
def test_annotations_that_do_not_fit(lines: str, reason: str, tiny: Path) -> None:
    (tiny / "val/val_annotations.txt").write_bytes(lines.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=f"val_annotations.txt: {reason}"):
        find_pictures(tiny)


def test_missing_annotations(tiny: Path) -> None:
    (tiny / "val/val_annotations.txt").unlink()
    with pytest.raises(
        DatasetError, match=r"val_annotations.txt: there is no such file, and the labels"
    ):
        find_pictures(tiny)


# CIFAR-10


@pytest.fixture(scope="session")
def rows(digit: Callable[[int], Path]) -> NDArray[np.uint8]:
    """Ten digits, each channel of its own brightness, as rows of three planes."""
    pixels = np.stack([read_image(digit(i)).pixels for i in range(10)])
    assert pixels.shape == (10, 32, 32, 3)
    return (pixels // (1, 2, 3)).astype(np.uint8).transpose(0, 3, 1, 2).reshape(10, 3072)


@pytest.fixture
def batches(tmp_path: Path, rows: NDArray[np.uint8]) -> Path:
    """Six python batches of ten pictures."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in _BATCHES:
        _write_batch(folder / name, rows)
    meta = {b"label_names": [name.encode() for name in _CIFAR_CLASSES], b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


@pytest.fixture
def binary(tmp_path: Path, rows: NDArray[np.uint8]) -> Path:
    """The same as binary batches."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    labels = np.arange(10, dtype=np.uint8)[:, None]
    for name in _BATCHES:
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, rows]).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(_CIFAR_CLASSES) + "\n\n")
    return folder


def _write_batch(
    path: Path, data: object, labels: Sequence[object] = range(10), protocol: int = 2
) -> None:
    content = {b"batch_label": b"batch", b"labels": list(labels), b"data": data}
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def _check_cifar10(folder: PictureFolder, rows: NDArray[np.uint8]) -> None:
    assert (folder.layout, folder.classes) == ("cifar10", tuple(_CIFAR_CLASSES))
    assert [picture.label for picture in folder.pictures] == 6 * list(range(10))
    assert [picture.split for picture in folder.pictures] == 50 * ["train"] + 10 * ["test"]
    for picture, row in zip(folder.pictures[50:], rows, strict=True):
        pixels = read_picture(picture).pixels
        assert pixels.flags.c_contiguous
        assert np.array_equal(pixels, row.reshape(3, 32, 32).transpose(1, 2, 0))


def test_cifar10_in_a_folder(batches: Path, rows: NDArray[np.uint8]) -> None:
    for root in (batches, batches.parent):
        folder = find_pictures(root)
        _check_cifar10(folder, rows)
        assert folder.pictures[3].path == batches / "data_batch_1" / "00003"
        assert folder.pictures[59].path == batches / "test_batch" / "00009"
        assert len({picture.path for picture in folder.pictures}) == 60


def test_cifar10_in_binary(binary: Path, rows: NDArray[np.uint8]) -> None:
    for root in (binary, binary.parent):
        folder = find_pictures(root)
        _check_cifar10(folder, rows)
        assert folder.pictures[3].path == binary / "data_batch_1.bin" / "00003"


@pytest.mark.parametrize("kind", ["batches", "binary"])
@pytest.mark.parametrize("ending", [".tar.gz", ".tgz", ".tar"])
def test_cifar10_in_its_archive(
    kind: str, ending: str, request: pytest.FixtureRequest, rows: NDArray[np.uint8]
) -> None:
    contents: Path = request.getfixturevalue(kind)
    archive = contents.parent / f"any name{ending}"
    with tarfile.open(archive, "w" if ending == ".tar" else "w:gz") as tar:
        tar.add(contents, contents.name)
        tar.add(__file__, "cifar-10-batches-py/readme.html")
    shutil.rmtree(contents)
    folder = find_pictures(archive)
    _check_cifar10(folder, rows)
    assert folder.pictures[3].path.parent.parent == archive
    assert list(contents.parent.iterdir()) == [archive]  # nothing is unpacked


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar10_pickled_again(protocol: int, batches: Path, rows: NDArray[np.uint8]) -> None:
    _write_batch(batches / "test_batch", rows, protocol=protocol)
    _check_cifar10(find_pictures(batches), rows)


def test_cifar10_as_python_2_pickled_it(batches: Path, rows: NDArray[np.uint8]) -> None:
    def string(data: bytes) -> bytes:
        return b"S'" + "".join(f"\\x{byte:02x}" for byte in data).encode() + b"'\n"

    labels = b"(l" + b"".join(b"I%d\na" % label for label in range(10))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I10\nI3072\nt"
    )
    array += b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
    array += string(rows.tobytes()) + b"tb"
    content = b"(dS'labels'\n" + labels + b"sS'data'\n" + array + b"s."
    (batches / "test_batch").write_bytes(content)
    _check_cifar10(find_pictures(batches), rows)


def test_cifar10_without_its_names(batches: Path, rows: NDArray[np.uint8]) -> None:
    (batches / "batches.meta").unlink()
    _check_cifar10(find_pictures(batches), rows)


class _Payload:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("where", ["whole", "data", "labels", "meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_in_it_is_refused(
    where: str, protocol: int, batches: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    evil = _Payload(os.system, f"touch {shlex.quote(str(marker))}")
    contents = {
        "whole": evil,
        "data": {b"data": evil, b"labels": []},
        "labels": {b"data": b"x", b"labels": [evil]},
        "meta": {b"label_names": [evil]},
    }
    victim = batches / ("batches.meta" if where == "meta" else "data_batch_2")
    victim.write_bytes(pickle.dumps(contents[where], protocol=protocol))
    with pytest.raises(DatasetError, match=rf"{victim.name}: .*it names \w+\.system"):
        find_pictures(batches)
    assert not marker.exists()
    pickle.loads(victim.read_bytes())  # the payload is real: an ordinary unpickler runs it
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"cnumpy\nload\n.",  # a numpy function that is no array
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",  # a dotted path out of a known name
        b"cnumpy\nndarray\n(I100000000000000\ntR(cnumpy\nndarray\nb.",
        b"Pidentifier\n.",
        b"(" * 1000,
    ],
)
def test_a_pickle_of_anything_else_is_refused(content: bytes, batches: Path) -> None:
    (batches / "data_batch_2").write_bytes(content)
    with pytest.raises(DatasetError, match="data_batch_2: is not a batch of CIFAR-10, or damaged"):
        find_pictures(batches)


def test_no_codec_is_looked_up_for_a_pickle() -> None:
    # Looking one up imports a module.
    with pytest.raises(cifar10_module.PicklingRefusedError, match="bytes in the encoding 'rot13'"):
        cifar10_module.load(b"c_codecs\nencode\n(Vx\nVrot13\ntR.")


def test_numpy_is_never_called_by_a_pickle() -> None:
    # An array of a type that numpy would allocate.
    stated = cifar10_module.load(pickle.dumps(np.zeros(3, object), protocol=2))
    assert not isinstance(stated, np.ndarray)
    with pytest.raises(cifar10_module.PicklingRefusedError, match="instead of uint8"):
        cifar10_module.uint8_array(stated)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": [*range(9), 10]}, r"1 labels such as 10 are none of the 10 classes"),
        ({"labels": [*range(9), -1]}, "not a list of numbers from 0 to 255"),
        ({"labels": [*range(9), "3"]}, "not a list of numbers from 0 to 255"),
        ({"labels": [*range(9), 10**5000]}, "not a list of numbers from 0 to 255"),
        ({"labels": range(9)}, "9 labels for 10 pictures"),
        ({"data": np.zeros((10, 1024), np.uint8)}, r"in the shape \(10, 1024\)"),
        ({"data": np.zeros(30720, np.uint8)}, r"in the shape \(30720,\)"),
        ({"data": np.zeros((10, 3072), np.float32)}, "an array of 'f4' instead of uint8"),
        ({"data": [1, 2]}, "no uint8 array"),
    ],
)
def test_a_batch_that_is_not_right(
    change: dict[str, object], reason: str, batches: Path, rows: NDArray[np.uint8]
) -> None:
    _write_batch(batches / "data_batch_4", **{"data": rows, **change})  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=f"data_batch_4: .*{reason}"):
        find_pictures(batches)


def test_a_batch_with_the_wrong_keys(batches: Path) -> None:
    (batches / "data_batch_4").write_bytes(pickle.dumps({b"fine_labels": []}))
    with pytest.raises(DatasetError, match=r"data_batch_4: .*expected a dict with b'data' and"):
        find_pictures(batches)


@pytest.mark.parametrize("kept", [0.55, 0.999])
def test_a_truncated_batch(kept: float, batches: Path, binary: Path) -> None:
    for path in (batches / "data_batch_5", binary / "data_batch_5.bin"):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(
            DatasetError, match=f"{path.name}: is not a batch of CIFAR-10, or damaged"
        ):
            find_pictures(path.parent)


def test_a_label_out_of_range_in_binary(binary: Path) -> None:
    content = bytearray((binary / "test_batch.bin").read_bytes())
    content[3073] = 255
    (binary / "test_batch.bin").write_bytes(content)
    with pytest.raises(DatasetError, match=r"test_batch\.bin: is damaged: 1 labels such as 255"):
        find_pictures(binary)


def test_names_that_are_none(batches: Path, binary: Path) -> None:
    (batches / "batches.meta").write_bytes(pickle.dumps({b"label_names": 7}))
    with pytest.raises(DatasetError, match=r"batches\.meta: .*not a list of names"):
        find_pictures(batches)
    (binary / "batches.meta.txt").write_bytes(b"airpl\xffne\n")
    with pytest.raises(DatasetError, match=r"batches\.meta\.txt: .*utf-8"):
        find_pictures(binary)


def test_missing_batches_are_named(batches: Path) -> None:
    (batches / "data_batch_3").unlink()
    (batches / "test_batch").unlink()
    with pytest.raises(DatasetError, match="data_batch_3, test_batch missing; expected the six"):
        find_pictures(batches)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar"])
def test_a_damaged_archive(ending: str, batches: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"cifar{ending}"
    with tarfile.open(archive, "w" if ending == ".tar" else "w:gz") as tar:
        tar.add(batches, batches.name)
    content = archive.read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive at all"):
        archive.write_bytes(damaged)
        with pytest.raises(DatasetError, match=f"cifar{ending}: is cut off or damaged"):
            find_pictures(archive)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as tar:
        tar.add(__file__, "photos/1.jpg")
        link = tarfile.TarInfo("photos/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(
        DatasetError, match=r"missing; expected the six .* unpack archives of anyth"
    ):
        find_pictures(tmp_path / "photos.tar.gz")


def test_a_file_that_says_it_is_larger_than_a_batch(
    batches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "_MAX_BYTES", 1000)
    with pytest.raises(DatasetError, match="is larger than 1,000 bytes"):
        find_pictures(batches)


def _keras(load_data: Callable[[], object]) -> Callable[[str], object]:
    datasets = SimpleNamespace(cifar10=SimpleNamespace(load_data=load_data))
    return lambda name: SimpleNamespace(datasets=datasets)


@pytest.mark.parametrize("channels", ["last", "first"])
def test_the_word_cifar10_asks_keras(
    channels: str,
    rows: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("keras", reason="the extra [host] is not installed")

    def load_data() -> object:
        sys.stdout.write("Downloading data")
        pixels = rows.reshape(10, 3, 32, 32)
        if channels == "last":
            pixels = pixels.transpose(0, 2, 3, 1)
        labels = np.arange(10, dtype=np.uint8)[:, None]
        return (np.concatenate([pixels] * 5), np.concatenate([labels] * 5)), (pixels, labels)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar10, "require", _keras(load_data))
    folder = find_pictures("cifar10")
    _check_cifar10(folder, rows)
    assert folder.pictures[13].path == Path("cifar10/data_batch_2/00003")
    assert capsys.readouterr().out == ""


def test_a_download_that_fails_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("keras", reason="the extra [host] is not installed")

    def load_data() -> object:
        raise Exception("URL fetch failure")  # what Keras raises

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar10, "require", _keras(load_data))
    with pytest.raises(DatasetError, match=r"\(URL fetch failure\); get cifar-10-python\.tar\.gz"):
        find_pictures("cifar10")
    with pytest.raises(DatasetError, match="there is no such folder"):
        find_pictures("cifar10", "folders")


def test_a_folder_called_cifar10_is_a_folder(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "cifar10", "a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path)
    assert find_pictures("cifar10").classes == ("a", "b")


# Tables


@pytest.fixture
def siim(tmp_path: Path, put: Put) -> Path:
    """SIIM's melanomas in miniature, its other tables included."""
    put(tmp_path, *(f"jpeg/train/ISIC_{i}.jpg" for i in range(4)), "jpeg/test/ISIC_9.jpg")
    (tmp_path / "train.csv").write_text(
        "image_name,patient_id,sex,age_approx,diagnosis,benign_malignant,target\n"
        "ISIC_2,IP_1,male,45.0,unknown,benign,0\n"
        "ISIC_1,IP_1,male,45.0,melanoma,malignant,1\n"
        "ISIC_0,,female,,nevus,benign,0\n"
        "ISIC_3,IP_2,female,50.0,unknown,benign,0\n"
    )
    (tmp_path / "test.csv").write_text("image_name,patient_id,sex\nISIC_9,IP_3,male\n")
    (tmp_path / "sample_submission.csv").write_text("image_name,target\nISIC_9,0\n")
    return tmp_path


def _table(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_bytes(text.encode())
    return root / name


def test_siim(siim: Path) -> None:
    for root in (siim, siim / "train.csv"):
        folder = find_pictures(root)
        assert (folder.root, folder.layout) == (siim, "csv")
        assert folder.classes == ("benign", "malignant")
        assert _labels_by_path(folder) == {
            f"jpeg/train/ISIC_{i}.jpg": ("malignant" if i == 1 else "benign", None)
            for i in range(4)
        }
        assert [picture.group for picture in folder.pictures] == [None, "IP_1", "IP_1", "IP_2"]


def test_one_column_per_class(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "Input/ISIC_1.jpg", "Input/ISIC_2.jpg", "Input/ISIC_2_superpixels.png")
    _table(tmp_path, "image,MEL,NV,UNK\nISIC_1,0.0,1.0,0.0\nISIC_2,1,0,0\n", "GroundTruth.csv")
    _table(tmp_path, "image,age_approx,lesion_id\nISIC_1,55.0,a\nISIC_2,30.0,b\n", "Metadata.csv")
    folder = find_pictures(tmp_path)
    assert folder.classes == ("MEL", "NV")
    assert _labels_by_path(folder) == {
        "Input/ISIC_1.jpg": ("NV", None),
        "Input/ISIC_2.jpg": ("MEL", None),
    }


@pytest.mark.parametrize("cells", ["0,0", "1,1", "1,yes", "1,"])
def test_columns_of_0_and_1_must_have_a_single_1(cells: str, tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png", "2.png")
    _table(tmp_path, f"image,MEL,NV\n1,0,1\n2,{cells}\n")
    with pytest.raises(
        DatasetError, match=r"line 3: '2' is of \d classes.* a single 1 in the colu"
    ):
        find_pictures(tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["csv", "TSV"])
def test_delimiters(delimiter: str, ending: str, tmp_path: Path, put: Put) -> None:
    put(tmp_path, "a/1.png", "a/2.png")
    lines = ["\ufeffFilename|Label|notes", "", "a/1.png|cat| x", "2.png | dog |", "||"]
    text = "\r\n".join(lines).replace("|", delimiter)
    folder = find_pictures(_table(tmp_path, text, f"x.{ending}"))
    assert _labels_by_path(folder) == {"a/1.png": ("cat", None), "a/2.png": ("dog", None)}


def test_labels_of_any_characters(tmp_path: Path, put: Put) -> None:
    names = [name.strip() for name in _ODD_NAMES]
    put(tmp_path, *(f"{i}.png" for i in range(len(names))))
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    text = "".join(f"{i},{name}\n" for i, name in enumerate(quoted))
    folder = find_pictures(_table(tmp_path, f"image,label\n{text}"))
    assert folder.classes == tuple(sorted(names))
    assert folder.classes[folder.pictures[1].label] == names[1]


def test_a_label_on_two_lines_is_refused(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png")
    with pytest.raises(DatasetError, match="cannot be written as a line of labels"):
        find_pictures(_table(tmp_path, 'image,label\n1,"a\nb"\n'))


def test_a_column_of_splits(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    _table(tmp_path, "image,label,split\n1,a,Train\n2,a,valid\n3,a,testing\n")
    folder = find_pictures(tmp_path)
    assert [picture.split for picture in folder.pictures] == ["train", "validation", "test"]


def test_an_unknown_split(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png")
    with pytest.raises(DatasetError, match="line 2: the fold '3' is none of train, training, val"):
        find_pictures(_table(tmp_path, "image,label,fold\n1,a,3\n"))


def test_the_same_row_twice_counts_once(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "a/1.png", "a/2.png")
    _table(tmp_path, "image,label\n1,cat\n1.png,cat\na/1.png,cat\n2,dog\n")
    assert len(find_pictures(tmp_path).pictures) == 2


@pytest.mark.parametrize("row", ["dog,train,p1", "cat,test,p1", "cat,train,p2"])
def test_rows_at_odds(row: str, tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png")
    _table(tmp_path, f"image,label,split,patient\n1,cat,train,p1\n1.png,{row}\n")
    with pytest.raises(
        DatasetError, match=r"line 3: '1.png' is .* here and cat / train / p1 before"
    ):
        find_pictures(tmp_path)


def test_missing_pictures_are_counted(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png")
    rows = "".join(f"{i},a\n" for i in range(1, 7))
    _table(tmp_path, f"image,label\n{rows}")
    message = (
        r"5 pictures are not below .*: '2' \(line 3\), '3' \(line 4\), '4' \(line 5\), \.\.\.; "
    )
    with pytest.raises(DatasetError, match=message + "expected a file for every row; put the"):
        find_pictures(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc/x.jpg", "/etc/x.jpg", "a/../../x.jpg", "..\\x.jpg", "C:\\x.jpg"]
)
def test_a_name_must_not_lead_out_of_the_folder(name: str, tmp_path: Path, put: Put) -> None:
    put(tmp_path, "x.jpg", "data/1.png")
    with pytest.raises(DatasetError, match=r"line 2: the picture .* is outside of the table's"):
        find_pictures(_table(tmp_path / "data", f"image,label\n{name},a\n"))


def test_a_name_of_two_pictures_is_not_guessed(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "a/1.png", "b/1.png", "c/2.jpg", "c/2.png")
    for name in ("1", "1.png", "2"):
        with pytest.raises(
            DatasetError, match=f"line 2: the picture '{name}' may be any of .*; exp"
        ):
            find_pictures(_table(tmp_path, f"image,label\n{name},x\n"))
    text = "image,label\na/1,x\nb\\1.png,y\n2.jpg,y\nc/2.png,x\n"
    assert _labels_by_path(find_pictures(_table(tmp_path, text))) == {
        "a/1.png": ("x", None),
        "b/1.png": ("y", None),
        "c/2.jpg": ("y", None),
        "c/2.png": ("x", None),
    }


def test_pictures_behind_a_link_beside_the_table(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "disk", "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pictures").symlink_to(tmp_path / "disk")
    _table(tmp_path / "data", "image,label\n1,a\n")
    assert set(_labels_by_path(find_pictures(tmp_path / "data"))) == {"pictures/1.png"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"image,label\n1,cat\n1,\n", "line 3: the label of '1' is empty; write it"),
        (b"image,label\n1\n", "line 2: the label of '1' is empty"),
        (b"image,label\n1,tench, Tinca tinca\n", "line 2 .*3 cells where the first line has 2"),
        (b"image,label\n1," + b"x" * 200_000 + b"\n", "line 2 .*field larger than field limit"),
        (b"image,label\n1,caf\xe9\n", "is not UTF-8 text"),
        ("image,label\n1,a\n".encode("utf-16"), "is not UTF-8 text"),
        (b"image,label\n1,a\0\n", "is not UTF-8 text .it has zero bytes"),
        (b"image,label\n", "no rows; expected names of columns"),
        (b"", "no rows"),
        (
            b"1.png,cat\n2.png,dog\n",
            r"no columns of a data set among 1.png, cat; expected one for",
        ),
        (b"photo,label\n1,cat\n", "no columns of a data set among photo, label"),
        (b"image,age\n1,55\n", "no columns of a data set among image, age"),
    ],
)
def test_a_table_that_is_not_right(content: bytes, reason: str, tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"x\.csv: {reason}"):
        find_pictures(tmp_path / "x.csv")


def test_two_tables_are_not_guessed(tmp_path: Path, put: Put) -> None:
    put(tmp_path, "1.png")
    _table(tmp_path, "image,label\n1,a\n", "x.csv")
    _table(tmp_path, "image,label\n1,b\n", "y.csv")
    with pytest.raises(
        DatasetError, match=r"2 tables .*: x\.csv, y\.csv; expected one, or one calle"
    ):
        find_pictures(tmp_path)


def test_a_table_of_other_things_beside_class_folders_is_left_alone(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    _table(tmp_path, "name,price\nx,3\n", "prices.csv")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    _table(tmp_path, "image,label\n", "empty.csv")
    _table(tmp_path, "image,label\n1,tench, Tinca tinca\n", "wide.csv")
    assert find_pictures(tmp_path).layout == "folders"
