"""Heat maps of the pictures that flipped, of both models, for as long as there is time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import EdgeClsError, ExplanationError
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.pictures import read_picture
from host_tools.explain.draw import SIGNED, overlay
from host_tools.explain.grad_cam import GradCam
from host_tools.explain.heat import agreement, full_colour
from host_tools.explain.methods import Method, Methods
from host_tools.explain.scorers import KerasScorer
from host_tools.explain.subjects import Subject, open_subjects
from host_tools.opening import Opening
from host_tools.progress import progress
from host_tools.validate.flips import Flip


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMap:
    """A heat map over its picture, for people.

    Attributes:
        title: method and model.
        pixels: ``(H, W, 3)`` uint8 RGB.
    """

    title: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ShownFlip:
    """A flip that stands on the page.

    Attributes:
        flip: what was said.
        pixels: the picture as the models see it, ``(H, W, C)`` uint8.
        maps: where the evidence for the reference's answer lies; empty where there was no time.
        agreement: Spearman's rank correlation of the two models' occlusion maps, -1..1.
    """

    flip: Flip
    pixels: NDArray[np.uint8]
    maps: tuple[DrawnMap, ...]
    agreement: float | None


def draw_flips(
    flips: Sequence[Flip],
    reference: Path,
    artifact: Path,
    preprocessing: Preprocessing,
    opening: Opening,
    *,
    seconds: float,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[ShownFlip, ...]:
    """Reads the pictures again, and maps what each model looks at in them.

    Every map explains the reference's answer: how much each part of the picture speaks for what the
    artifact no longer says. Occlusion is done for both models, Grad-CAM for a Keras reference.

    Args:
        flips: the most harmful first; the first are mapped first.
        reference: as for ``validate``; saved scores have no model to look into.
        artifact: the model file.
        preprocessing: the artifact's.
        opening: as for ``validate``.
        seconds: for all maps together; what is left without keeps its picture and scores.
        max_pixels: as for ``validate``.
        say: told why there are no maps.
        clock: in seconds.

    Raises:
        UnreadableImageError: a picture that could be read has gone.
    """
    with ExitStack() as stack:
        subjects: tuple[Subject, ...] = ()
        if flips and seconds > 0:
            subjects = _opened(reference, artifact, opening, say)
            for subject in subjects:
                stack.callback(subject.scorer.close)
        methods = _methods(subjects)
        started = clock()
        shown = []
        for number, flip in _counted(flips):
            pixels = preprocess(read_picture(flip.picture, max_pixels), preprocessing)
            left = seconds - (clock() - started)
            share = left / max(1, (len(flips) - number) * len(subjects))
            maps: tuple[DrawnMap, ...] = ()
            same = None
            if subjects and left > 0:
                maps, same = _maps(flip, subjects, methods, pixels, share)
            shown.append(ShownFlip(flip, pixels, maps, same))
    return tuple(shown)


def _counted(flips: Sequence[Flip]) -> Iterator[tuple[int, Flip]]:
    return progress(enumerate(flips), "drawing flips", len(flips))


def _opened(
    reference: Path, artifact: Path, opening: Opening, say: Callable[[str], None]
) -> tuple[Subject, ...]:
    try:
        if reference.suffix == ".npz":
            say("the reference is saved scores, so there are heat maps of the artifact alone")
            return open_subjects(artifact, None, opening)
        return open_subjects(reference, artifact, opening)
    except EdgeClsError as error:
        say(f"no heat maps: {error}")
        return ()


def _methods(subjects: Sequence[Subject]) -> Methods:
    cams = {}
    for subject in subjects:
        if isinstance(subject.scorer, KerasScorer):
            try:
                cams[subject.name] = GradCam(subject.scorer)
            except ExplanationError:
                continue  # a network without feature maps; occlusion asks for none
    names: tuple[Method, ...] = ("occlusion", "grad-cam") if cams else ("occlusion",)
    return Methods(names, cams)


def _maps(
    flip: Flip,
    subjects: Sequence[Subject],
    methods: Methods,
    pixels: NDArray[np.uint8],
    seconds: float,
) -> tuple[tuple[DrawnMap, ...], float | None]:
    index = subjects[0].labels.index(flip.reference.topk[0].label)
    drawn = []
    same = None
    for method in methods.names:
        found = methods.maps(method, subjects, pixels, index, seconds, flip.path)
        pairs = [(s, heat.values) for s, heat in zip(subjects, found, strict=True) if heat]
        deepest = full_colour([values for _, values in pairs])
        if method == "occlusion" and len(pairs) == 2:
            same = agreement(pairs[0][1], pairs[1][1])
        title = "Grad-CAM" if method == "grad-cam" else "Occlusion"
        drawn += [
            DrawnMap(f"{title}, {subject.name}", overlay(pixels, values, deepest, SIGNED))
            for subject, values in pairs
        ]
    return tuple(drawn), same
