"""How far the ranges of a network's activations still move when more pictures are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from host_tools.extras import require
from host_tools.progress import progress
from host_tools.quantize.calibrate import CalibrationSet

_BATCH = 16
# The converter folds these into the operator before them, whose own sum is never quantised.
_FOLDED = ("BatchNormalization", "ReLU", "Dropout")
_FOLDED_ACTIVATIONS = ("relu", "relu6", "linear")


@dataclass(frozen=True, slots=True)
class RangeGrowth:
    """The range of one activation tensor.

    Attributes:
        tensor: the layer that computes it.
        half: lowest and highest value over the first half of the pictures, zero included as
            TensorFlow Lite's quantiser does.
        whole: over all of them.
    """

    tensor: str
    half: tuple[float, float]
    whole: tuple[float, float]

    @property
    def share(self) -> float:
        """The part of the whole range that the first half of the pictures did not show, 0..1."""
        width = self.whole[1] - self.whole[0]
        return 1 - (self.half[1] - self.half[0]) / width if width > 0 else 0.0


def range_growth(model: Any, calibration: CalibrationSet) -> tuple[RangeGrowth, ...]:
    """Runs the float model on every picture, and watches the activations that int8 quantises.

    The black and the white picture that calibration adds count for both halves.

    Args:
        model: a Keras classifier.
        calibration: at least two pictures, in the order of their draw.

    Returns:
        Per tensor, the least settled one first.
    """
    keras = require("keras")
    watched = list(_quantised(model))
    ends = [
        extreme(tensor, axis=tuple(range(1, len(tensor.shape))))
        for extreme in (keras.ops.min, keras.ops.max)
        for _, tensor in watched
    ]
    extremes = keras.Model(model.inputs[0], ends)
    pixels = calibration.anchored()
    seen = []
    for start in progress(
        range(0, len(pixels), _BATCH), "measuring ranges", -(-len(pixels) // _BATCH)
    ):
        batch = pixels[start : start + _BATCH].astype(np.float32)
        seen.append(np.array(extremes(batch, training=False), np.float64))
    # (2, tensors, N + 2): the lowest and highest value of every picture.
    values = np.concatenate(seen, axis=-1).reshape(2, len(watched), -1)
    pictures, anchors = values[..., :-2], values[..., -2:]
    half = np.concatenate([pictures[..., : pictures.shape[-1] // 2], anchors], axis=-1)
    found = [
        RangeGrowth(name, _range(half[:, i]), _range(values[:, i]))
        for i, (name, _) in enumerate(watched)
    ]
    return tuple(sorted(found, key=lambda growth: -growth.share))


def _range(extremes: Any) -> tuple[float, float]:
    return min(0.0, float(extremes[0].min())), max(0.0, float(extremes[1].max()))


def _quantised(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and symbolic tensors of the activations that become 8-bit tensors, the last one first.

    By the history of tensors, as a layer's own ``output`` may be that of another model it is part
    of. Sub-models count as one layer.
    """
    waiting, seen = [model.outputs[0]], {id(model.outputs[0])}
    consumers: dict[int, list[Any]] = {}
    for current in waiting:  # grows as it is passed through
        operation, node = _made_by(current)
        for before in node.input_tensors:
            consumers.setdefault(id(before), []).append(operation)
            if id(before) not in seen:
                seen.add(id(before))
                waiting.append(before)
    for tensor in waiting:
        operation, node = _made_by(tensor)
        after = consumers.get(id(tensor), [])
        if not node.input_tensors or _is_softmax(operation) or "float" not in str(tensor.dtype):
            continue
        if after and all(_is_folded(one) for one in after):
            continue
        yield operation.name, tensor


def _made_by(tensor: Any) -> tuple[Any, Any]:
    operation, index, _ = tensor._keras_history  # Keras has no public way to ask
    return operation, operation._inbound_nodes[index]


def _activation_of(operation: Any) -> str:
    return getattr(getattr(operation, "activation", None), "__name__", "")


def _is_softmax(operation: Any) -> bool:
    return type(operation).__name__ == "Softmax" or _activation_of(operation) == "softmax"


def _is_folded(operation: Any) -> bool:
    kind = type(operation).__name__
    return kind in _FOLDED or (
        kind == "Activation" and _activation_of(operation) in _FOLDED_ACTIVATIONS
    )
