"""The structure of a network: layers with parameters, resolutions with receptive fields.

The receptive field of a unit is the side of the square of input pixels that affect it. Through a
layer with a kernel of k pixels, dilated by d, and stride s it grows by d (k - 1) times the jump
between neighbouring units, and the jump grows s-fold (Araujo, Norris and Sim 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from host_tools.models.head import FEATURES


@dataclass(frozen=True, slots=True)
class LayerAnatomy:
    """One layer.

    Attributes:
        name, kind: its own name and that of its class.
        shape: of its output without the batch.
        parameters: of the layer, statistics included.
        trained: whether the last stage trained it.
        receptive_field: side in pixels; 0: it sees all of the input.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    trained: bool
    receptive_field: int


@dataclass(frozen=True, slots=True)
class StageAnatomy:
    """Layers in a row that work at one resolution.

    Attributes:
        height, width: of their feature maps; 0 for vectors.
        channels: of the last of them.
        layers: with parameters.
        parameters: of all of them.
        receptive_field: of the last of them, as for a layer.
    """

    height: int
    width: int
    channels: int
    layers: int
    parameters: int
    receptive_field: int


def layers_of(network: Any) -> tuple[LayerAnatomy, ...]:
    """Every layer of a functional ``keras.Model``, in the order of computation."""
    fields: dict[str, _Field] = {}
    rows = []
    for operation in network.operations:  # its layers, and plain additions between them
        shape = _shape(operation.output)
        parents = [fields[parent.name] for parent in _parents(operation)]
        fields[operation.name] = _field(operation, parents, shape)
        rows.append(
            LayerAnatomy(
                operation.name,
                type(operation).__name__,
                shape,
                sum(math.prod(weight.shape) for weight in getattr(operation, "weights", ())),
                bool(getattr(operation, "trainable_weights", ())),
                fields[operation.name].side,
            )
        )
    return tuple(rows)


def stages_of_network(layers: Sequence[LayerAnatomy]) -> tuple[StageAnatomy, ...]:
    """The layers grouped by the resolution they work at, the head last.

    A branch over the whole feature map (squeeze and excitation) counts where it joins, and
    so does padding, whose odd resolution is that of one layer.
    """
    names = [layer.name for layer in layers]
    end = names.index(FEATURES) if FEATURES in names else len(layers)
    groups: list[list[LayerAnatomy]] = []
    for position, layer in enumerate(layers[:end]):
        aside = _is_point(layer) and any(not _is_point(later) for later in layers[position:end])
        if groups and (aside or layer.shape[:2] == groups[-1][0].shape[:2]):
            groups[-1].append(layer)
        elif groups and not any(earlier.parameters for earlier in groups[-1]):
            groups[-1] = [layer]
        else:
            groups.append([layer])
    return tuple(_stage(group) for group in (*groups, layers[end:]) if group)


@dataclass(frozen=True, slots=True)
class _Field:
    """Side of the receptive field and jump between units, in pixels; side 0: all of the input."""

    side: int
    jump: float
    spatial: bool


def _field(layer: Any, parents: list[_Field], shape: tuple[int, ...]) -> _Field:
    spatial = len(shape) == 3 and shape[:2] != (1, 1)
    if not parents:
        return _Field(1, 1, spatial)
    if not spatial:
        return _Field(0, 0, False)
    # A vector that scales channels adds nothing to what a unit sees around it.
    maps = [parent for parent in parents if parent.spatial] or parents
    side, jump = max(parent.side for parent in maps), max(parent.jump for parent in maps)
    kernel, stride = _window(layer)
    return _Field(round(side + (kernel - 1) * jump), jump * stride, True)


def _window(layer: Any) -> tuple[int, float]:
    """Kernel, dilation included, and stride of a layer along its height."""
    size = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if not isinstance(size, tuple):
        return 1, 1
    dilation = getattr(layer, "dilation_rate", (1, 1))
    dilation = dilation[0] if isinstance(dilation, tuple) else dilation
    strides = getattr(layer, "strides", None) or size
    stride = strides[0] if isinstance(strides, tuple) else strides
    return (size[0] - 1) * dilation + 1, stride


def _parents(layer: Any) -> Iterator[Any]:
    for node in layer._inbound_nodes[:1]:  # Keras has no public API for it
        for parent in node.parent_nodes:
            yield parent.operation


def _shape(output: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in output.shape[1:])


def _is_point(layer: LayerAnatomy) -> bool:
    return len(layer.shape) != 3 or layer.shape[:2] == (1, 1)


def _stage(group: Sequence[LayerAnatomy]) -> StageAnatomy:
    last = next((layer for layer in reversed(group) if not _is_point(layer)), group[-1])
    height, width = last.shape[:2] if len(last.shape) == 3 else (0, 0)
    return StageAnatomy(
        height,
        width,
        last.shape[-1],
        sum(layer.parameters > 0 for layer in group),
        sum(layer.parameters for layer in group),
        last.receptive_field,
    )
