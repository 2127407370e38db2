"""What every peer is given: the same frames, and the same network in the format that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import public_model
from benchmarks.peers.onnx_model import write_onnx
from edge_sdk import read_image
from edge_sdk.vision.preprocess import Crop, Preprocessing, preprocess

FRAME_PX = (1280, 720)
_PICTURES = ("cat_720p.jpg", "owl.jpg", "parrot.jpg", "hot_dog.jpg", "sunflower.bmp")


@dataclass(frozen=True, slots=True)
class Material:
    """Files that workers open.

    Attributes:
        models: by name: ``squash`` and ``center`` are artifacts of ours, ``onnx-int8`` and
            ``onnx-float32`` the same network for others.
        labels: a text file, a label per line.
        frames: ``(720, 1280, 3)`` uint8 RGB each, as ``.npy``.
        tensors: by crop: the same frames as the network's input ``(1, 224, 224, 3)`` uint8.
    """

    models: dict[str, Path]
    labels: Path
    frames: tuple[Path, ...]
    tensors: dict[str, tuple[Path, ...]]


def write_material(folder: Path) -> Material:
    """Makes all of it in a folder; about a minute, most of it tf2onnx."""
    crops: tuple[Crop, ...] = ("squash", "center")
    models = {crop: folder / f"mobilenet_{crop}.tflite" for crop in crops}
    for crop in crops:
        public_model.write_mobilenet_artifact(models[crop], crop)
    models |= {name: folder / f"{name}.onnx" for name in ("onnx-int8", "onnx-float32")}
    write_onnx(models["squash"], models["onnx-int8"], models["onnx-float32"])
    labels = folder / "labels.txt"
    labels.write_bytes((public_model.PUBLIC_DATA / public_model.LABELS).read_bytes())

    frames, tensors = [], {crop: [] for crop in crops}
    for name in _PICTURES:
        picture = read_image(public_model.PUBLIC_DATA / "images" / name)
        frame = preprocess(picture, Preprocessing(*FRAME_PX))
        frames.append(_saved(folder / f"{name}.npy", frame))
        for crop in crops:
            tensor = preprocess(frame, Preprocessing(224, 224, crop=crop))[np.newaxis]
            tensors[crop].append(_saved(folder / f"{name}.{crop}.npy", tensor))
    return Material(
        models, labels, tuple(frames), {crop: tuple(paths) for crop, paths in tensors.items()}
    )


def _saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path
