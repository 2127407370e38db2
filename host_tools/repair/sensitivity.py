"""Which operators cost an int8 model its accuracy: some are left in float in turn.

An operator alone in float has weights that are not rounded; what it reads and writes still is,
where its neighbours are int8. So each is tried together with its readers, too: then the tensor
between them stays in float.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.progress import progress
from host_tools.quantize.activations import Observed, ranges
from host_tools.quantize.bias_correction import correct_biases
from host_tools.quantize.graph import Graph, Operator
from host_tools.quantize.int8 import Treatment
from host_tools.quantize.integer import quantize_int8
from host_tools.quantize.softmax import append_softmax
from host_tools.repair.answers import answers, divergence

# They compute nothing of their own that rounding could spoil.
_MOVES = ("PAD", "RESHAPE", "MAX_POOL_2D", "TRANSPOSE", "SQUEEZE")
_PICTURES = 64
_FEWEST_PICTURES = 8
_MOST_READERS = 3


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What leaving some operators in float gains.

    Attributes:
        names: of one operator, or of one and its readers.
        kind: of the first.
        gain: share (-inf..1) of the int8 model's divergence from the float one that goes away.
    """

    names: tuple[str, ...]
    kind: str
    gain: float


def sensitivities(
    model: Graph,
    seen: Mapping[str, Observed],
    treatment: Treatment,
    pixels: NDArray[np.uint8],
    seconds: float,
) -> tuple[Sensitivity, ...]:
    """Leaves every operator in float, alone and with its readers; the most per operator first.

    Args:
        model, seen: as of ``host_tools.quantize.int8.treated``, its biases not corrected: which are
            depends on what stays in float.
        treatment: whether biases are, and what else stays in float.
        pixels: ``(N, H, W, C)`` uint8 training pictures; as many are used as time allows.
        seconds: the search ends by then, with the operators that it came to.
    """
    packed = model.pack()
    limits = ranges(seen, treatment.ranges)
    started = time.perf_counter()
    some = pixels[:_FEWEST_PICTURES]

    def scores(kept: tuple[str, ...], pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        corrected = Graph.copy_of(model)
        if treatment.corrected:
            correct_biases(corrected, seen, kept)
        flatbuffer = quantize_int8(corrected.pack(), limits, kept_float=kept)
        return answers(append_softmax(flatbuffer), pictures)

    scores(treatment.kept_float, some)
    groups = list(_groups(model, treatment.kept_float))
    each = (time.perf_counter() - started) / _FEWEST_PICTURES
    affordable = int(seconds / 2 / max(each, 1e-6) / max(len(groups), 1))
    pictures = pixels[: min(_PICTURES, max(_FEWEST_PICTURES, affordable))]
    reference = answers(append_softmax(packed), pictures)
    whole = divergence(reference, scores(treatment.kept_float, pictures))
    found = []
    for group in progress(groups, "trying operators in float", len(groups)):
        if time.perf_counter() - started > seconds:
            break
        names = tuple(one.name for one in group)
        left = divergence(reference, scores((*treatment.kept_float, *names), pictures))
        gain = 1 - left / whole if whole > 0 else 0.0
        found.append(Sensitivity(names, group[0].kind, gain))
    return tuple(sorted(found, key=lambda one: -one.gain / len(one.names)))


def _groups(model: Graph, kept: tuple[str, ...]) -> Iterator[tuple[Operator, ...]]:
    for operator in model.operators:
        if operator.kind in _MOVES or operator.name in kept:
            continue
        yield (operator,)
        readers = [one for one in model.consumers(operator.output) if one.name not in kept]
        if 0 < len(readers) <= _MOST_READERS:
            yield (operator, *readers)
