"""What is classified while it is timed: real pictures where there are any, and said so where not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.bench.parts import Pictures
from edge_sdk.errors import NoFrameYetError, SourceNotFoundError, UnreadableImageError
from edge_sdk.ports import FrameSource
from edge_sdk.sources.folder import list_images
from edge_sdk.types import Frame
from edge_sdk.vision.images import EXTENSIONS, read_image

# Decoded beforehand and held: enough that no cache holds them all, little for a small board.
_MOST = 16
_MOST_BYTES = 48_000_000

MADE_UP = "timed on made-up pictures: the file carries no self-test; give real ones with --data DIR"
SMALL = (
    "timed on pictures of the model's own size (its self-test): a camera's take longer to prepare; "
    "give some with --data DIR"
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Frames in memory, and what a report says about them.

    Attributes:
        frames: at least one.
        described: the report's words.
        files: where they were read from; empty where from nowhere.
        unreadable: pictures that were left out, as sentences.
        note: what a reader must know; empty where nothing.
    """

    frames: tuple[Frame, ...]
    described: Pictures
    files: tuple[Path, ...] = ()
    unreadable: tuple[str, ...] = ()
    note: str = ""


def pictures_of_folder(folder: Path, seed: int) -> Chosen:
    """A few pictures of a folder, drawn by chance, decoded to RGB.

    Raises:
        SourceNotFoundError: there is nothing at ``folder``, or no picture that can be read.
    """
    files = list(list_images(folder))
    if not files:
        raise SourceNotFoundError(
            f"{folder}: no pictures there (looked for {' '.join(EXTENSIONS)}, in folders within it "
            "too); give --data a folder of pictures, or leave it out"
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
    described = Pictures("data", str(folder), len(frames), _size(frames[0]))
    return Chosen(tuple(frames), described, tuple(taken), tuple(unreadable))


def pictures_of_camera(source: FrameSource, name: str) -> Chosen:
    """The next frames of a camera, copied.

    Raises:
        SourceNotFoundError: it gives none.
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
        raise SourceNotFoundError(f"{name}: gave no picture; look at it with edgecls run MODEL")
    return Chosen(tuple(frames), Pictures("camera", name, len(frames), _size(frames[0])))


def pictures_of_artifact(artifact: Artifact) -> Chosen:
    """The inputs of its golden self-test, else made-up ones of the model's size."""
    how = artifact.preprocessing
    if artifact.manifest is not None and len(artifact.manifest.selftest.pixels):
        pixels = artifact.manifest.selftest.pixels
        origin, note = "self-test", SMALL
    else:
        pixels = made_up(how.height, how.width, how.channels)
        origin, note = "made-up", MADE_UP
    frames = tuple(as_frame(one, index) for index, one in enumerate(pixels))
    return Chosen(frames, Pictures(origin, "", len(frames), (how.width, how.height)), note=note)


def as_frame(pixels: NDArray[np.uint8], index: int = 0) -> Frame:
    """A frame of model input pixels ``(H, W, C)``: RGB, or gray where C is 1."""
    if pixels.shape[2] == 1:
        return Frame(np.ascontiguousarray(pixels[:, :, 0]), "gray", index)
    return Frame(np.ascontiguousarray(pixels), "rgb", index)


def made_up(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """``(4, H, W, C)``: shades that run across, each turned another way; the same every time."""
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
