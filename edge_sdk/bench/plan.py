"""What a benchmark measures: the plan, the models opened for it, and the pictures they classify."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.bench.results import PictureSet
from edge_sdk.classifier import Classifier
from edge_sdk.engines import backend_for, parse_backend, runtime_version
from edge_sdk.engines.operators import xnnpack_share
from edge_sdk.errors import NoFrameYetError, SourceNotFoundError, UnreadableImageError
from edge_sdk.ports import FrameSource
from edge_sdk.sources.folder import list_images
from edge_sdk.types import Frame
from edge_sdk.vision.images import EXTENSIONS, read_image
from edge_sdk.vision.preprocess import Crop

_NO_XNNPACK = ("litert-noxnnpack", "onnx", "edgetpu")


@dataclass(frozen=True, slots=True)
class OpeningOptions:
    """How a model is opened: what ``Classifier.open`` takes.

    Attributes:
        path, backend, threads: as for ``Classifier.open``.
        labels: one per class, for a third-party model without labels; None: its own.
        normalize, crop: for third-party models; None: from the file.
    """

    path: Path
    backend: str = "cpu"
    threads: int = 1
    labels: tuple[str, ...] | None = None
    normalize: str | None = None
    crop: Crop | None = None

    def artifact(self) -> Artifact:
        """Reads the file."""
        return Artifact.open(
            self.path, labels=self.labels, normalize=self.normalize, crop=self.crop
        )

    def open(self) -> Classifier:
        """Opens the model."""
        return Classifier.open(
            self.path,
            self.backend,
            threads=self.threads,
            labels=self.labels,
            normalize=self.normalize,
            crop=self.crop,
        )


@dataclass(frozen=True, slots=True, eq=False)
class OpenedModel:
    """An open model.

    Attributes:
        classifier: closed by the owner of this object.
        opening: with numbers as labels, if the file has none and none were given.
        backend: the one that runs it, never ``cpu`` for an ``.onnx``.
        runtime: package and version.
        xnnpack: whether its kernels are used; None if unknown.
        load_ms: time of opening, with libraries loaded.
        note: for the reader, may be empty.
    """

    classifier: Classifier
    opening: OpeningOptions
    backend: str
    runtime: str
    xnnpack: bool | None
    load_ms: float
    note: str


def open_to_measure(opening: OpeningOptions) -> OpenedModel:
    """Opens a model twice: the first time, untimed, loads libraries and checks the file.

    Raises:
        ArtifactError: the file is missing, damaged or not a classifier.
        EngineError: its backend is unknown or not installed.
    """
    artifact = opening.artifact()
    if not artifact.labels:  # the labels do not affect timings, so numbers suffice
        opening = replace(opening, labels=tuple(map(str, range(max(artifact.output.shape)))))
    opening.open().close()
    began = time.perf_counter()
    classifier = opening.open()
    load_ms = 1000 * (time.perf_counter() - began)
    try:
        backend = backend_for(artifact, opening.backend)
        used, note = _xnnpack(artifact, backend, opening.threads)
        return OpenedModel(
            classifier,
            opening,
            backend,
            runtime_version(backend),
            used,
            load_ms,
            note,
        )
    except BaseException:
        classifier.close()
        raise


def _xnnpack(artifact: Artifact, backend: str, threads: int) -> tuple[bool | None, str]:
    """Whether XNNPACK is used, and a note for the reader."""
    name = parse_backend(backend).name
    if name in _NO_XNNPACK:
        return False, ""
    share = xnnpack_share(artifact.data, name, threads=threads)
    return (None, "") if share is None else (share.used, share.note)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera for measuring the age of answers.

    Attributes:
        name: its specification, without passwords.
        open: opens it for ``(width, height)`` of a model's input.
    """

    name: str
    open: Callable[[tuple[int, int]], FrameSource]


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """The measurements of a benchmark.

    Attributes:
        openings: the models, each with a backend and a number of threads.
        seconds: time limit of warm timing for each.
        precision_percent: warm timing ends earlier if half the 95 % interval of every median is
            within this.
        seed: of the order of models, and of the choice of pictures.
        data: a folder of pictures; None: those of the camera, else of each artifact's self-test.
        camera: None: ages are not measured.
        cold_starts: fresh processes per model; 0: none.
        cores: throughput is measured with 1 to this many threads; 0: it is not.
        operators: time single operators.
        sustained_s: seconds of work without a pause; 0: none.
        energy: read the machine's energy counter, if there is one.
    """

    openings: tuple[OpeningOptions, ...]
    seconds: float = 10.0
    precision_percent: float = 1.0
    seed: int = 0
    data: Path | None = None
    camera: Camera | None = None
    cold_starts: int = 5
    cores: int = 0
    operators: bool = True
    sustained_s: float = 0.0
    energy: bool = True


# Decoded in advance and kept in memory: too many for the caches, few enough for a small board.
_MOST = 16
_MOST_BYTES = 48_000_000

MADE_UP = "timed on synthetic pictures: the file has no self-test; give real ones with --data DIR"
SMALL = (
    "timed on pictures of the model's input size (its self-test): larger ones take longer to "
    "preprocess; give some with --data DIR"
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ChosenPictures:
    """Frames in memory, and their description for the report.

    Attributes:
        frames: at least one.
        described: their description.
        files: their files; empty without files.
        unreadable: messages on omitted pictures.
        note: for the reader, may be empty.
    """

    frames: tuple[Frame, ...]
    described: PictureSet
    files: tuple[Path, ...] = ()
    unreadable: tuple[str, ...] = ()
    note: str = ""


def pictures_of_folder(folder: Path, seed: int) -> ChosenPictures:
    """A random sample of the pictures of a folder, decoded to RGB.

    Raises:
        SourceNotFoundError: ``folder`` does not exist, or has no readable picture.
    """
    files = list(list_images(folder))
    if not files:
        raise SourceNotFoundError(
            f"{folder}: no pictures found there (expected {' '.join(EXTENSIONS)}, in subfolders too); "
            "give --data a folder of pictures, or omit it"
        )
    np.random.default_rng(seed).shuffle(files)
    frames: list[Frame] = []
    taken, unreadable, held = [], [], 0
    for file in files:
        try:
            frame = read_image(file, index=len(frames))
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        frames.append(frame)
        taken.append(file)
        held += frame.pixels.nbytes
        if len(frames) == _MOST or held > _MOST_BYTES:
            break
    if not frames:
        raise SourceNotFoundError(
            f"{folder}: none of its {len(files)} pictures can be read, the first because "
            f"{unreadable[0]}; edgecls data check {folder} lists them"
        )
    described = PictureSet("data", str(folder), len(frames), _size(frames[0]))
    return ChosenPictures(tuple(frames), described, tuple(taken), tuple(unreadable))


def pictures_of_camera(source: FrameSource, name: str) -> ChosenPictures:
    """The next frames of a camera, copied.

    Raises:
        SourceNotFoundError: it gives no frame.
        SourceError: it is lost.
    """
    frames: list[Frame] = []
    while len(frames) < _MOST and sum(f.pixels.nbytes for f in frames) < _MOST_BYTES:
        try:
            frame = source.read()
        except (NoFrameYetError, UnreadableImageError):
            continue
        if frame is None:
            break
        frames.append(dataclasses.replace(frame, pixels=frame.pixels.copy()))
    if not frames:
        raise SourceNotFoundError(
            f"{name}: gave no picture; test it with edgecls run MODEL --camera"
        )
    return ChosenPictures(tuple(frames), PictureSet("camera", name, len(frames), _size(frames[0])))


def pictures_of_artifact(artifact: Artifact) -> ChosenPictures:
    """The inputs of its golden self-test, else synthetic ones of the model's input size."""
    how = artifact.preprocessing
    if artifact.manifest is not None and len(artifact.manifest.selftest.pixels):
        pixels = artifact.manifest.selftest.pixels
        origin, note = "self-test", SMALL
    else:
        pixels = made_up(how.height, how.width, how.channels)
        origin, note = "made-up", MADE_UP
    frames = tuple(as_frame(one, index) for index, one in enumerate(pixels))
    return ChosenPictures(
        frames, PictureSet(origin, "", len(frames), (how.width, how.height)), note=note
    )


def as_frame(pixels: NDArray[np.uint8], index: int = 0) -> Frame:
    """A frame of model input pixels ``(H, W, C)``: RGB, or gray if C is 1."""
    if pixels.shape[2] == 1:
        return Frame(np.ascontiguousarray(pixels[:, :, 0]), "gray", index)
    return Frame(np.ascontiguousarray(pixels), "rgb", index)


def made_up(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """``(4, H, W, C)``: deterministic gradients in four directions."""
    across = np.linspace(0, 255, width, dtype=np.float32)[None, :, None]
    down = np.linspace(0, 255, height, dtype=np.float32)[:, None, None]
    tint = np.linspace(0.4, 1.0, channels, dtype=np.float32)
    both = (
        (across + down) / 2 * tint,
        (255 - across + down) / 2 * tint,
        np.abs(across - down) * tint,
        (255 - np.abs(across - down)) * tint,
    )
    return np.stack([np.broadcast_to(one, (height, width, channels)) for one in both]).astype(
        np.uint8
    )


def _size(frame: Frame) -> tuple[int, int]:
    height, width = frame.pixels.shape[:2]
    return width, height * 2 // 3 if frame.format == "i420" else height
