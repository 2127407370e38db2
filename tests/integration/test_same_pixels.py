"""Training, calibration, validation and the device: the same file is the same pixels to all four."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.testing import FakeEngine
from edge_sdk.types import Tensor
from edge_sdk.vision.images import read_image
from edge_sdk.vision.preprocess import CROPS, Preprocessing
from host_tools.data.layouts import find_pictures
from host_tools.data.load import Dataset, Loading, load_dataset
from host_tools.data.pictures import Decoded, decode_all
from host_tools.data.split import SplitRule
from host_tools.predict import ArtifactPredictor, KerasPredictor
from host_tools.quantize.calibrate import drawn

pytestmark = pytest.mark.computes

Image = pytest.importorskip("PIL.Image", reason="the extra [host] is not installed")

_ALL_IN_TRAINING = SplitRule(validation=0.0, test=0.0, seed=1)
_CLASSES = 10


def _photo(seed: int, width: int = 61, height: int = 43) -> Any:
    """Smooth colours with fine noise on them: what resizing, rounding and rotation all show in."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 200 // width, y * 200 // height, (x + y) % 200], axis=-1)
    return Image.fromarray((smooth + random.integers(0, 55, smooth.shape)).astype(np.uint8))


def _saved(picture: Any, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def _rotated(orientation: int) -> Any:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def _translucent(picture: Any) -> Any:
    with_alpha = picture.copy()
    with_alpha.putalpha(picture.convert("L"))
    return with_alpha


_FILES = {
    "plain.jpg": _saved(_photo(0), "JPEG"),
    "progressive.jpg": _saved(_photo(1), "JPEG", progressive=True),
    "turned.jpg": _saved(_photo(2), "JPEG", exif=_rotated(6)),
    "mirrored.jpg": _saved(_photo(3), "JPEG", exif=_rotated(5)),
    "gray.jpg": _saved(_photo(4).convert("L"), "JPEG"),
    "cmyk.jpg": _saved(_photo(5).convert("CMYK"), "JPEG"),
    "gray.png": _saved(_photo(6).convert("L"), "PNG"),
    "deep.png": _saved(
        Image.fromarray(np.random.default_rng(7).integers(0, 2**16, (43, 61), np.uint16)), "PNG"
    ),
    "palette.png": _saved(_photo(8).quantize(16), "PNG"),
    "alpha.png": _saved(_translucent(_photo(9)), "PNG"),
    "alpha.webp": _saved(_translucent(_photo(10)), "WEBP", lossless=True),
    "lossy.webp": _saved(_photo(11), "WEBP"),
    "plain.bmp": _saved(_photo(12), "BMP"),
    "plain.gif": _saved(_photo(13).quantize(32), "GIF"),
    "plain.tiff": _saved(_photo(14), "TIFF"),
    "model-sized.png": _saved(_photo(15, 32, 32), "PNG"),
    "large.jpg": _saved(_photo(16, 640, 480), "JPEG"),
    "one-wide.png": _saved(_photo(17, 1, 50), "PNG"),
}


class _RecordingModel:
    """In place of a Keras model: keeps what it is fed."""

    def __init__(self) -> None:
        self.batches: list[NDArray[np.float32]] = []

    def predict_on_batch(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(batch.copy())
        return np.full((len(batch), _CLASSES), 1 / _CLASSES, np.float32)


def _recording(artifact: Artifact) -> tuple[Classifier, list[Tensor]]:
    seen: list[Tensor] = []

    def answer(tensor: Tensor) -> Tensor:
        seen.append(tensor.copy())
        return np.full((1, _CLASSES), 1 / _CLASSES, np.float32)

    return Classifier(artifact, FakeEngine(answer)), seen


def _hashable(pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[bytes]:
    return sorted(picture.tobytes() for picture in pictures)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, digit_pictures: Path) -> Path:
    """Two classes: files of every kind, and real digits."""
    folder = tmp_path_factory.mktemp("pictures")
    for kind in ("made", "real"):
        (folder / kind).mkdir()
    for name, data in _FILES.items():
        (folder / "made" / name).write_bytes(data)
    for digit in digit_pictures.rglob("*.png"):
        (folder / "real" / f"{digit.parent.name}.png").write_bytes(digit.read_bytes())
    return folder


_PREPROCESSINGS = [Preprocessing(32, 32, channels, crop) for channels in (3, 1) for crop in CROPS]


@pytest.fixture(
    params=_PREPROCESSINGS, ids=lambda how: f"{how.crop}-{'rgb' if how.channels == 3 else 'gray'}"
)
def artifact(request: pytest.FixtureRequest, int8_artifact: Path) -> Artifact:
    """The golden artifact, prepared for in every way; its stored input is the plain pixel."""
    return replace(Artifact.open(int8_artifact), preprocessing=request.param)


@pytest.fixture
def dataset(artifact: Artifact, pictures: Path) -> Dataset:
    """The pictures as training sees them."""
    loading = Loading(artifact.preprocessing, _ALL_IN_TRAINING)
    dataset = load_dataset(find_pictures(pictures), loading)
    assert dataset.unreadable == ()
    assert len(dataset.splits["train"]) == len(_FILES) + _CLASSES
    return dataset


def _decoded(dataset: Dataset) -> list[Decoded]:
    """As validation reads them, in the order of training."""
    found = [item for item in decode_all(dataset.folder.pictures) if isinstance(item, Decoded)]
    assert tuple(item.picture for item in found) == dataset.splits["train"].pictures
    return found


def test_the_device_sees_what_training_saw(artifact: Artifact, dataset: Dataset) -> None:
    classifier, seen = _recording(artifact)
    for picture in dataset.splits["train"].pictures:
        classifier.classify(read_image(picture.path))
    for picture, tensor, trained in zip(
        dataset.splits["train"].pictures, seen, dataset.splits["train"].pixels(), strict=True
    ):
        assert tensor.dtype == np.uint8
        np.testing.assert_array_equal(tensor[0], trained, err_msg=picture.path.name)


def test_calibration_sees_what_training_saw(dataset: Dataset) -> None:
    training = dataset.splits["train"]
    calibration = drawn(training, dataset.classes, len(training), seed=3)
    *pictures, black, white = calibration.anchored()
    assert (black.max(), white.min()) == (0, 255)
    assert _hashable(pictures) == _hashable(training.pixels())


def test_validation_of_an_artifact_sees_what_training_saw(
    artifact: Artifact, dataset: Dataset
) -> None:
    classifier, seen = _recording(artifact)
    predictor = ArtifactPredictor(classifier)
    for item in _decoded(dataset):
        predictor.see(item)
    np.testing.assert_array_equal(np.concatenate(seen), dataset.splits["train"].pixels())


def test_validation_of_a_keras_model_sees_what_training_saw(
    artifact: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    model = _RecordingModel()
    predictor = KerasPredictor(
        tmp_path / "model.keras", model, artifact.labels, artifact.preprocessing
    )
    for item in _decoded(dataset):
        predictor.see(item)
    assert len(predictor.scores()) == len(dataset.splits["train"])
    np.testing.assert_array_equal(np.concatenate(model.batches), dataset.splits["train"].pixels())


def test_the_float_artifact_is_fed_the_same_numbers(
    float16_artifact: Path, int8_artifact: Path, pictures: Path
) -> None:
    wide, wide_seen = _recording(Artifact.open(float16_artifact))
    narrow, narrow_seen = _recording(Artifact.open(int8_artifact))
    for path in sorted(pictures.rglob("*.*")):
        wide.classify(read_image(path))
        narrow.classify(read_image(path))
    assert wide_seen[0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(wide_seen), np.concatenate(narrow_seen))


def test_the_pictures_tell_a_decoder_of_another_kind_apart(pictures: Path) -> None:
    # Without EXIF rotation, and with alpha blended instead of dropped, others would pass, too.
    turned = read_image(pictures / "made" / "turned.jpg").pixels
    assert turned.shape == (61, 43, 3)
    dropped = np.asarray(Image.open(pictures / "made" / "alpha.png").convert("RGB"))
    np.testing.assert_array_equal(read_image(pictures / "made" / "alpha.png").pixels, dropped)
