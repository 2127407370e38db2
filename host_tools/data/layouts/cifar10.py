"""CIFAR-10 as its authors distribute it: python or binary batches, in a folder or in the archive.

A pickle is a program: it may call any function it names. Here the few names that a numpy array needs
resolve to inert records of their arguments, and every other name is refused. Not even numpy's own
functions are called with arguments from the file.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError
from host_tools.data.pictures import Picture, PictureFolder, Split, check_found
from host_tools.download import bounded_downloads
from host_tools.extras import require


class PicklingRefusedError(Exception):
    """A pickle that is damaged, or holds more than plain data."""


class _PickledObject:
    """The arguments and state that a pickle gives for an array, a dtype or a type."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes so where the protocol is one of Python 2's.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledObject,
    ("numpy._core.multiarray", "_reconstruct"): _PickledObject,
    ("numpy", "ndarray"): _PickledObject,
    ("numpy", "dtype"): _PickledObject,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which plain data does not need"
            )
        return _KNOWN[module, name]


def load(data: bytes) -> Any:
    """The data in a pickle; text of Python 2 comes as bytes, arrays as input for ``uint8_array``.

    Raises:
        PicklingRefusedError: damaged, or more than plain data.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # pickle may raise any exception, by its documentation
        raise PicklingRefusedError(str(error) or type(error).__name__) from error


def uint8_array(pickled: Any) -> NDArray[np.uint8]:
    """The array in a pickle.

    Raises:
        PicklingRefusedError: it is none, or of another type.
    """
    try:
        _, shape, dtype, fortran, content = pickled.state
        if dtype.arguments[0] not in ("u1", b"u1"):
            raise PicklingRefusedError(f"an array of {dtype.arguments[0]!r} instead of uint8")
        flat: NDArray[np.uint8] = np.frombuffer(content, np.uint8)
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise PicklingRefusedError(f"no uint8 array ({error})") from error


_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
_SPLITS: dict[str, Split] = {f"data_batch_{number}": "train" for number in range(1, 6)}
_SPLITS["test_batch"] = "test"
_BINARY = ".bin"
_META = {"": "batches.meta", _BINARY: "batches.meta.txt"}
_FILES = frozenset([name + ending for name in _SPLITS for ending in _META] + [*_META.values()])
_FOLDERS = (".", "cifar-10-batches-py", "cifar-10-batches-bin")
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_ROW_BYTES = 3 * 32 * 32
# A batch of the original is 31 MB; a larger file is not a batch.
_MAX_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """A batch: its path, ``(N, 32, 32, 3)`` uint8 RGB pixels and as many class indices."""

    path: Path
    pixels: NDArray[np.uint8]
    labels: Sequence[int]


def looks_like(root: Path) -> bool:
    """An archive by its name, or a folder with batches in it or in the archive's own folder."""
    if root.is_file():
        return root.name.lower().endswith(_ARCHIVES)
    return root.is_dir() and _batch_folder(root) is not None


def read(root: Path) -> PictureFolder:
    """Reads the batches into memory, an archive without unpacking it.

    Classes are in CIFAR-10's own order. The five training batches are the training split, the test
    batch is the test split.

    Raises:
        DatasetError: no batches, one of the six is missing or damaged, or they hold code.
        OSError: a file cannot be read.
    """
    files = dict(_archived(root) if root.is_file() else _in_folder(root))
    by_name = {path.name: path for path in files}
    ending = _BINARY if f"test_batch{_BINARY}" in by_name and "test_batch" not in by_name else ""
    missing = [name + ending for name in _SPLITS if name + ending not in by_name]
    if missing:
        raise DatasetError(
            f"{root}: {', '.join(missing)} missing; expected the six batches of CIFAR-10, "
            "data_batch_1 to data_batch_5 and test_batch (.bin); get cifar-10-python.tar.gz again and "
            "give its path, or unpack archives of anything else"
        )
    meta = by_name.get(_META[ending])
    classes = _class_names(meta, files[meta]) if meta else _CLASSES
    batches = {}
    for name in _SPLITS:
        path = by_name[name + ending]
        decode = _binary_batch if ending else _python_batch
        batches[name] = decode(path, files.pop(path))
    return _picture_folder(root, classes, batches)


def download() -> PictureFolder:
    """CIFAR-10 through Keras, which downloads it once into its own folder and checks its hash.

    Raises:
        DatasetError: it could not be downloaded.
        MissingExtraError: Keras is not installed.
    """
    root = Path("cifar10")
    datasets = require("keras").datasets
    try:
        with bounded_downloads():
            training, test = datasets.cifar10.load_data()
    except Exception as error:  # Keras raises a bare Exception without a network
        raise DatasetError(
            f"{root}: there is no such folder, and Keras could not download CIFAR-10 ({error}); get "
            "cifar-10-python.tar.gz elsewhere and give its path in place of the word cifar10"
        ) from error
    shares = [*zip(*(np.split(array, 5) for array in training), strict=True), test]
    batches = {
        name: _Batch(root / name, _last_axis_rgb(pixels), labels.ravel().tolist())
        for name, (pixels, labels) in zip(_SPLITS, shares, strict=True)
    }
    return _picture_folder(root, _CLASSES, batches)


def _picture_folder(
    root: Path, classes: tuple[str, ...], batches: dict[str, _Batch]
) -> PictureFolder:
    for batch in batches.values():
        odd = [label for label in batch.labels if not 0 <= label < len(classes)]
        if odd:
            raise DatasetError(
                f"{batch.path}: is damaged: {len(odd)} labels such as {odd[0]} are none of the "
                f"{len(classes)} classes; unpack the archive again"
            )
    pictures = tuple(
        Picture(batch.path / f"{number:05d}", label, _SPLITS[name], pixels=pixels)
        for name, batch in batches.items()
        for number, (pixels, label) in enumerate(zip(batch.pixels, batch.labels, strict=True))
    )
    check_found(root, classes, pictures)
    return PictureFolder(root, classes, pictures, "cifar10")


def _batch_folder(root: Path) -> Path | None:
    candidates = [root / name for name in _FOLDERS]
    return next((c for c in candidates if any((c / name).is_file() for name in _FILES)), None)


def _in_folder(root: Path) -> Iterator[tuple[Path, bytes]]:
    folder = _batch_folder(root) or root
    for path in sorted(folder / name for name in _FILES):
        if path.is_file():
            with path.open("rb") as file:
                yield path, _bounded(path, file)


def _archived(root: Path) -> Iterator[tuple[Path, bytes]]:
    """The files of the archive that are CIFAR-10's, as if it were a folder."""
    try:
        with tarfile.open(root, "r:" if root.name.lower().endswith(".tar") else "r:gz") as archive:
            for member in archive:
                path = root / Path(member.name).name
                # Only a file has contents; a link may lead anywhere.
                if member.isfile() and path.name in _FILES:
                    file = archive.extractfile(member)
                    assert file is not None
                    yield path, _bounded(path, file)
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise DatasetError(
            f"{root}: is cut off or damaged ({error}); expected the archive of CIFAR-10; download it "
            "again"
        ) from error


def _bounded(path: Path, file: IO[bytes]) -> bytes:
    data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise DatasetError(
            f"{path}: is larger than {_MAX_BYTES:,} bytes; a batch of CIFAR-10 has 31 million; "
            "download the archive again"
        )
    return data


def _damaged(path: Path, reason: object) -> DatasetError:
    return DatasetError(
        f"{path}: is not a batch of CIFAR-10, or damaged: {reason}; download the archive again, from its "
        "authors' page"
    )


def _python_dict(path: Path, data: bytes, *keys: bytes) -> list[object]:
    try:
        content = load(data)
    except PicklingRefusedError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or not all(key in content for key in keys):
        raise _damaged(path, f"expected a dict with {' and '.join(map(repr, keys))}")
    return [content[key] for key in keys]


def _python_batch(path: Path, data: bytes) -> _Batch:
    pickled, labels = _python_dict(path, data, b"data", b"labels")
    try:
        rows = uint8_array(pickled)
    except PicklingRefusedError as error:
        raise _damaged(path, error) from error
    if rows.ndim != 2 or rows.shape[1] != _ROW_BYTES:
        raise _damaged(path, f"pixels in the shape {rows.shape}, expected (10000, {_ROW_BYTES})")
    if not isinstance(labels, list) or not all(
        isinstance(label, int) and 0 <= label <= 255 for label in labels
    ):
        raise _damaged(path, "its labels are not a list of numbers from 0 to 255")
    if len(labels) != len(rows):
        raise _damaged(path, f"{len(labels)} labels for {len(rows)} pictures")
    return _Batch(path, _pixels(rows), labels)


def _binary_batch(path: Path, data: bytes) -> _Batch:
    if not data or len(data) % (1 + _ROW_BYTES):
        raise _damaged(path, f"{len(data):,} bytes, expected {1 + _ROW_BYTES} for every picture")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + _ROW_BYTES)
    return _Batch(path, _pixels(rows[:, 1:]), rows[:, 0].tolist())


def _class_names(path: Path, data: bytes) -> tuple[str, ...]:
    """The class names of either kind of ``batches.meta``."""
    names: object = [name.strip() for name in data.splitlines() if name.strip()]
    if path.name == _META[""]:
        (names,) = _python_dict(path, data, b"label_names")
    try:
        if not isinstance(names, list) or not names:
            raise TypeError("not a list of names")
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except (TypeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _pixels(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows of three planes as one contiguous ``(N, 32, 32, 3)``."""
    return _last_axis_rgb(rows.reshape(-1, 3, 32, 32))


def _last_axis_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(N, 3, 32, 32)``, as Keras may be configured to give it, or ``(N, 32, 32, 3)``."""
    if pixels.shape[1] == 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels)
