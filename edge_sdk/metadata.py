"""TFLite Metadata, read: the flatbuffer in which a model names its labels and its normalisation.

Field numbers follow the public ``metadata_schema.fbs``; ``host_tools/tflite_metadata.py`` writes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sdk.errors import CorruptArtifactError
from edge_sdk.flatbuffer import DAMAGE, INT8, UINT8, Node, root
from edge_sdk.vision.tensors import Normalization


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of TFLite Metadata that concerns a classifier.

    Attributes:
        name, description: of the model, empty where not given.
        normalization: of its input, None where not given.
        files: names of all associated files.
        labels_file: the one that holds the labels of the output, None where not given.
    """

    name: str
    description: str
    normalization: Normalization | None
    files: tuple[str, ...]
    labels_file: str | None


def read_metadata(buffer: bytes, name: str) -> Metadata:
    """Reads a TFLite Metadata flatbuffer.

    Raises:
        CorruptArtifactError: it is damaged.
    """
    try:
        return _metadata(root(buffer))
    except DAMAGE as error:
        raise CorruptArtifactError(f"{name}: its TFLite Metadata is damaged ({error})") from error


def _metadata(model: Node) -> Metadata:
    graph = next(model.children(3), None)
    inputs = list(graph.children(2)) if graph else []
    outputs = list(graph.children(3)) if graph else []
    files = [node.text(0) for node in model.children(6)]
    files += [node.text(0) for node in graph.children(4)] if graph else []
    for tensor in (*inputs, *outputs):
        files += [node.text(0) for node in tensor.children(6)]
    labels = [
        node.text(0)
        for tensor in outputs
        for node in tensor.children(6)
        if node.number(2, INT8) == 2  # TENSOR_AXIS_LABELS
    ]
    units = [unit for tensor in inputs for unit in tensor.children(4)]
    return Metadata(
        name=model.text(0),
        description=model.text(1),
        normalization=next((n for n in map(_normalization, units) if n), None),
        files=tuple(files),
        labels_file=labels[0] if labels else None,
    )


def _normalization(unit: Node) -> Normalization | None:
    options = unit.child(1)
    if unit.number(0, UINT8) != 1 or options is None:  # 1: NormalizationOptions
        return None
    mean, std = options.array(0, "<f4"), options.array(1, "<f4")
    if (
        len(mean) != len(std)
        or len(mean) not in (1, 3)
        or 0.0 in std
        or not all(map(math.isfinite, mean + std))
    ):
        raise ValueError(f"normalisation with mean {mean} and std {std}")
    return Normalization(tuple(mean), tuple(std))
