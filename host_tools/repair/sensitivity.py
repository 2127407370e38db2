"""Which operators cost an int8 model its accuracy: some are left in float in turn.

An operator alone in float has weights that are not rounded; what it reads and writes still is,
where its neighbours are int8. So each is tried together with its readers, too: then the tensor
between them stays in float.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from host_tools.progress import progress
from host_tools.quantize.activations import Observed
from host_tools.quantize.graph import Graph, Operator
from host_tools.quantize.int8 import Treatment, rounded_model
from host_tools.quantize.softmax import append_softmax
from host_tools.repair.answers import answers, divergence

# They compute nothing of their own that rounding could spoil.
_MOVES = ("PAD", "RESHAPE", "MAX_POOL_2D", "TRANSPOSE", "SQUEEZE")
_PICTURES = 64
_FEWEST_PICTURES = 8
_MOST_READERS = 3
# So many of the most sensitive groups are left in float one by one.
_EVERY_STEP = 4


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
    limits: Mapping[str, tuple[float, float]],
    treatment: Treatment,
    pixels: NDArray[np.uint8],
    seconds: float,
) -> tuple[Sensitivity, ...]:
    """Leaves every operator in float, alone and with its readers; the most per operator first.

    Args:
        model, seen, limits: a float network, its channels equalised but its biases not corrected:
            which are depends on what stays in float. What was observed of it, and its ranges.
        treatment: whether biases are, and what else stays in float.
        pixels: ``(N, H, W, C)`` uint8 training pictures; as many are used as time allows.
        seconds: the search ends by then, with the operators that it came to.
    """
    packed = model.pack()
    started = time.perf_counter()
    some = pixels[:_FEWEST_PICTURES]

    def scores(kept: tuple[str, ...], pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return answers(
            rounded_model(model, seen, limits, replace(treatment, kept_float=kept)), pictures
        )

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


def steps(
    sensitive: Sequence[Sensitivity], already: Sequence[str], most: float
) -> list[tuple[str, ...]]:
    """Names of more and more operators to leave in float, the most sensitive ones first.

    Every step at first, then when there are a quarter more; in any case, at the end, all that may be.

    Args:
        sensitive: the most sensitive first.
        already: names that are in float anyhow; they are not among those returned.
        most: so many names at most.
    """
    found: list[tuple[str, ...]] = []
    added: list[str] = []
    for number, group in enumerate(one for one in sensitive if one.gain > 0):
        more = [name for name in group.names if name not in (*already, *added)]
        if len(added) + len(more) > most:
            break
        added += more
        before = len(found[-1]) if found else 0
        if more and (number < _EVERY_STEP or len(added) >= 1.25 * before):
            found.append(tuple(added))
    if added and found[-1] != tuple(added):
        found.append(tuple(added))
    return found


def _groups(model: Graph, kept: tuple[str, ...]) -> Iterator[tuple[Operator, ...]]:
    for operator in model.operators:
        if operator.kind in _MOVES or operator.name in kept:
            continue
        yield (operator,)
        readers = [one for one in model.consumers(operator.output) if one.name not in kept]
        if 0 < len(readers) <= _MOST_READERS:
            yield (operator, *readers)
