"""Flips: a page of the pictures whose answer a conversion changed, with both heat maps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import EdgeClsError, ExplanationError
from edge_sdk.files import write_atomically
from edge_sdk.plain import to_plain
from edge_sdk.types import SCHEMA, Ranked, top_k
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools import pages
from host_tools.data.pictures import Picture, read_picture
from host_tools.explain.grad_cam import GradCam
from host_tools.explain.heat import (
    SIGNED,
    agreement,
    css_gradient,
    enlarged,
    full_colour,
    overlay,
    png,
)
from host_tools.explain.methods import Method, Methods
from host_tools.explain.subjects import Subject, open_subjects
from host_tools.predict import KerasPredictor, Opening
from host_tools.progress import progress
from host_tools.run_directory import taken
from host_tools.validate.results import ArtifactResult, Validation

Way = Literal["right_to_wrong", "wrong_to_wrong", "wrong_to_right"]
# The most harmful first.
WAYS: tuple[Way, ...] = ("right_to_wrong", "wrong_to_wrong", "wrong_to_right")
_TOP = 3


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """The answer of one model to a picture.

    Attributes:
        topk: its three best labels.
        margin: the best score less the second best, 0..1.
        truth_score: of the true class, 0..1.
    """

    topk: tuple[Ranked, ...]
    margin: float
    truth_score: float


@dataclass(frozen=True, slots=True, eq=False)
class Flip:
    """A picture that the artifact answers differently than the reference.

    Attributes:
        picture: which.
        path: of its file, relative to the data folder; no more of the path is shown.
        truth: its label.
        way: the direction of the flip.
        reference, artifact: the answer of each.
    """

    picture: Picture
    path: str
    truth: str
    way: Way
    reference: GivenAnswer
    artifact: GivenAnswer

    def to_json(self) -> dict[str, Any]:
        """An entry of ``flips.json``."""
        return {
            "path": self.path,
            "truth": self.truth,
            "way": self.way,
            "reference": to_plain(self.reference),
            "artifact": to_plain(self.artifact),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """All flips of one artifact, the most harmful first."""

    result: ArtifactResult
    flips: tuple[Flip, ...]

    @property
    def counts(self) -> dict[Way, int]:
        """The number of flips in each direction."""
        return {way: sum(flip.way == way for flip in self.flips) for way in WAYS}


def find_changed(comparison: Validation, root: Path) -> tuple[Changed, ...]:
    """The flips of every artifact.

    Right to wrong comes first, then wrong to another wrong, then wrong to right; within each, the
    answer with the artifact's highest score, which a threshold would not reject.

    Args:
        comparison: of a validation.
        root: the data folder.
    """
    return tuple(_changed(comparison, result, root) for result in comparison.artifacts)


def to_json(comparison: Validation, changed: Sequence[Changed]) -> dict[str, Any]:
    """The object of ``flips.json``, see docs/json.md."""
    return {
        "schema": SCHEMA,
        "type": "flips",
        "reference": comparison.reference_path,
        "n": comparison.n,
        "artifacts": [
            {
                "path": one.result.path,
                **one.counts,
                "flips": [flip.to_json() for flip in one.flips],
            }
            for one in changed
        ],
    }


def _changed(comparison: Validation, result: ArtifactResult, root: Path) -> Changed:
    flips = [
        _flip(comparison, int(row), scores, root)
        for row, scores in zip(result.flipped, result.flipped_scores, strict=True)
    ]
    flips.sort(key=lambda flip: (WAYS.index(flip.way), -flip.artifact.topk[0].score))
    return Changed(result, tuple(flips))


def _flip(comparison: Validation, row: int, scores: NDArray[np.float32], root: Path) -> Flip:
    truth, picture = int(comparison.truth[row]), comparison.pictures[row]
    before = comparison.reference_scores[row]
    way: Way = "wrong_to_wrong"
    if int(before.argmax()) == truth:
        way = "right_to_wrong"
    elif int(scores.argmax()) == truth:
        way = "wrong_to_right"
    return Flip(
        picture,
        _from_root(picture.path, root),
        comparison.labels[truth],
        way,
        _given_answer(before, comparison.labels, truth),
        _given_answer(scores, comparison.labels, truth),
    )


def _given_answer(scores: NDArray[np.float32], labels: tuple[str, ...], truth: int) -> GivenAnswer:
    best = [Ranked(labels[i], float(scores[i])) for i in top_k(scores, _TOP)]
    return GivenAnswer(tuple(best), best[0].score - best[1].score, float(scores[truth]))


def _from_root(path: Path, root: Path) -> str:
    folder = root if root.is_dir() else root.parent
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return path.name if path.is_absolute() else path.as_posix()


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
    """A flip shown on the page.

    Attributes:
        flip: the answers.
        pixels: the picture as the models see it, ``(H, W, C)`` uint8.
        maps: heat maps of the reference's answer; empty where the time limit was reached.
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
    note: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[ShownFlip, ...]:
    """Reads the pictures again, and draws heat maps of both models.

    Every map explains the reference's answer: the evidence of each part of the picture for the answer
    that the artifact no longer gives. Occlusion is done for both models, Grad-CAM for a Keras reference.

    Args:
        flips: the most harmful first; the first are mapped first.
        reference: as for ``validate``; saved scores have no model to explain.
        artifact: the model file.
        preprocessing: the artifact's.
        opening: as for ``validate``.
        seconds: for all maps together; flips without maps keep their picture and scores.
        max_pixels: as for ``validate``.
        note: called with the reason where there are no maps.
        clock: in seconds.

    Raises:
        UnreadableImageError: a picture that was readable is gone.
    """
    with ExitStack() as stack:
        subjects: tuple[Subject, ...] = ()
        if flips and seconds > 0:
            subjects = _opened(reference, artifact, opening, note)
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
    reference: Path, artifact: Path, opening: Opening, note: Callable[[str], None]
) -> tuple[Subject, ...]:
    try:
        if reference.suffix == ".npz":
            note("the reference is saved scores, so there are heat maps of the artifact alone")
            return open_subjects(artifact, None, opening)
        return open_subjects(reference, artifact, opening)
    except EdgeClsError as error:
        note(f"no heat maps: {error}")
        return ()


def _methods(subjects: Sequence[Subject]) -> Methods:
    cams = {}
    for subject in subjects:
        if isinstance(subject.scorer, KerasPredictor):
            try:
                cams[subject.name] = GradCam(subject.scorer)
            except ExplanationError:
                continue  # a network without feature maps; occlusion needs none
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


_WORDS = {
    "right_to_wrong": "right to wrong",
    "wrong_to_wrong": "wrong to another wrong",
    "wrong_to_right": "wrong to right",
}
# Larger pictures are photographs: JPEG takes a third of the size.
_PNG_SIDE_PX = 96
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One artifact: all of its flips, and those that are shown."""

    changed: Changed
    shown: tuple[ShownFlip, ...]


def check_extras() -> None:
    """Checks that a page can be written, before minutes of validation.

    Raises:
        MissingExtraError: the extra ``[host]`` is not installed.
    """
    pages.check_installed()
    css_gradient(SIGNED)


def write_page(path: Path, comparison: Validation, sections: Sequence[Section]) -> None:
    """Writes the page; pictures and maps are embedded.

    Raises:
        MissingExtraError: Jinja is not installed.
        WriteError: the disk is full.
    """
    pages.write_page(
        path,
        "flips.html",
        reference=_name(comparison.reference_path),
        comparison=comparison,
        sections=sections,
        ways=WAYS,
        words=_WORDS,
        gradient=css_gradient(SIGNED),
        picture=_data_url,
        changed=any(section.changed.flips for section in sections),
        mapped=any(shown.maps for section in sections for shown in section.shown),
    )


def _name(path: str) -> str:
    """The name of a model: its folder's for a run directory's model.keras."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}" if file.name == "model.keras" else file.name


def _data_url(pixels: NDArray[np.uint8]) -> str:
    """``(H, W, C)`` uint8 as a data URL, enlarged where it is small."""
    large = enlarged(pixels)
    if max(pixels.shape[:2]) <= _PNG_SIDE_PX:
        return pages.data_url(png(large), "png")
    _, data = cv2.imencode(
        ".jpg",
        np.ascontiguousarray(large[:, :, ::-1]),  # OpenCV writes BGR
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    )
    return pages.data_url(data.tobytes(), "jpeg")


def write_flips(
    comparison: Validation,
    reference: Path,
    artifacts: Sequence[Path],
    data: Path,
    out: Path,
    opening: Opening,
    *,
    max_flips: int,
    seconds: float,
    max_pixels: int = MAX_PIXELS,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes the page and the list of every picture whose answer changed.

    Args:
        comparison: the result of ``validate`` for these models.
        reference, artifacts, data, opening, max_pixels: as they were given to it.
        out: folder for both files.
        max_flips: at most so many pictures of each artifact on the page; the list has all.
        seconds: for all heat maps together.
        note: called with each message for the user.

    Returns:
        The page.

    Raises:
        FolderInUseError: another process writes into ``out``.
        WriteError: the disk is full, or ``out`` is no folder.
    """
    with taken(out, "--flips"):
        changed = find_changed(comparison, data)
        # The list first: it is fast.
        write_atomically(out / "flips.json", json.dumps(to_json(comparison, changed)).encode())
        sections = [
            Section(
                one,
                draw_flips(
                    one.flips[:max_flips],
                    reference,
                    artifact,
                    one.result.preprocessing,
                    opening,
                    seconds=seconds / len(artifacts),
                    max_pixels=max_pixels,
                    note=note,
                ),
            )
            for one, artifact in zip(changed, artifacts, strict=True)
        ]
        page = out / "index.html"
        write_page(page, comparison, sections)
    return page
