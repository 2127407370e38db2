"""A Keras classifier as the converter sees it: its calls in order, and which become one operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.errors import ConversionError
from host_tools.extras import require

# Layers whose kernel is multiplied with what they read.
MATRICES = ("Conv2D", "DepthwiseConv2D", "Dense")
# TensorFlow Lite computes ReLU and ReLU6 together with what comes before them, if it is one of these.
_FUSING = (*MATRICES, "BatchNormalization", "Add", "Subtract", "Multiply", "AveragePooling2D")
# They are there for the training alone.
ABSENT = ("Dropout", "SpatialDropout2D", "Identity")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a layer, or of a plain operation such as a sum, in a functional model.

    Attributes:
        operation: what is called; a layer used twice has two calls.
        inputs: the tensors it reads.
        output: the tensor it makes, the first where there are several.
    """

    operation: Any
    inputs: tuple[Any, ...]
    output: Any

    @property
    def kind(self) -> str:
        """The name of the layer's class."""
        return type(self.operation).__name__


class Calls:
    """All calls of a functional model, in the order in which Keras makes them to copy it.

    Args:
        model: a functional ``keras.Model``.
    """

    def __init__(self, model: Any) -> None:
        by_depth = model._nodes_by_depth  # Keras lists calls nowhere else
        self.all = tuple(
            Call(node.operation, tuple(node.input_tensors), node.output_tensors[0])
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if node.operation and not node.is_input
        )
        self._makers = {id(call.output): call for call in self.all}
        self._readers: dict[int, list[Call]] = {}
        for call in self.all:
            for tensor in call.inputs:
                self._readers.setdefault(id(tensor), []).append(call)

    def readers(self, call: Call) -> list[Call]:
        """The calls that read its output."""
        return self._readers.get(id(call.output), [])

    def before(self, call: Call) -> Call | None:
        """The call that makes the first tensor it reads; None where that is the picture."""
        return self._makers.get(id(call.inputs[0])) if call.inputs else None

    def ends(self, call: Call) -> bool:
        """Whether its output is a tensor of the converted model, not fused into what reads it."""
        readers = self.readers(call)
        return len(readers) != 1 or not _fuses(call, readers[0])

    def fused(self, call: Call) -> Iterator[Call]:
        """The calls that become one operator with this one, from this one backwards."""
        yield call
        before = self.before(call)
        if before is not None and not self.ends(before):
            yield from self.fused(before)

    def folded(self, layer: Any) -> bool:
        """Whether a BatchNorm disappears into the weights before it."""
        calls = [call for call in self.all if call.operation is layer]
        return all(len(list(self.fused(call))) > 1 for call in calls)

    def folding(self, call: Call) -> Call | None:
        """The call of the BatchNorm that disappears into this one's weights, if there is one."""
        readers = self.readers(call)
        if len(readers) != 1 or readers[0].kind != "BatchNormalization":
            return None
        return readers[0] if _fuses(call, readers[0]) else None

    def added_before(self, call: Call) -> float:
        """What a Rescaling adds to the pixels that a call reads, where it becomes part of its bias.

        The converter folds one number alone, and only where no zeros are put around the picture.
        """
        before = self.before(call) if call.kind in MATRICES else None
        while before is not None and before.kind in ABSENT:
            before = self.before(before)
        if before is None or before.kind != "Rescaling":
            return 0.0
        layer = before.operation
        alone = np.ndim(layer.scale) == np.ndim(layer.offset) == 0
        if not alone or getattr(call.operation, "padding", "valid") != "valid":
            return 0.0
        return float(layer.offset)


def up_to_logits(model: Any) -> Any:
    """A copy of a classifier without its softmax; the weights are fresh, in the same order.

    Args:
        model: a functional or sequential ``keras.Model`` that ends in a softmax.

    Raises:
        ConversionError: a model within the model.
    """
    keras = require("keras")
    functional = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    last = functional.layers[-1]
    for layer in functional.layers:
        if isinstance(layer, keras.Model):
            raise ConversionError(
                f"{model.name}: its layer {layer.name!r} is a model of its own, expected layers alone; "
                "call that model's layers one by one where the network is built, and train it again"
            )

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if layer is last and "activation" in config:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(functional, clone_function=copied)
    if isinstance(last, keras.layers.Softmax):
        return keras.Model(copy.inputs[0], copy.layers[-1].input, name=model.name)
    return copy


def is_linear(operation: Any) -> bool:
    """Whether a layer has no activation of its own, or a linear one."""
    name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    return bool(name == "linear")


def _fuses(first: Call, second: Call) -> bool:
    """Whether the converter makes one operator of two, if nobody else reads the first."""
    if not is_linear(first.operation):
        return False
    if second.kind == "BatchNormalization":
        return first.kind in MATRICES
    if first.kind not in _FUSING:
        return False
    layer = second.operation
    if second.kind == "ReLU":
        plain = not layer.negative_slope and not layer.threshold
        return plain and layer.max_value in (None, 6.0)
    if second.kind == "Activation":
        return getattr(layer.activation, "__name__", "") in ("relu", "relu6")
    return second.kind in ("Relu", "Relu6")  # keras.ops
