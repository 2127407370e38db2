"""Explains one picture after another with every method; each result is written at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import WriteError
from edge_sdk.files import write_atomically
from edge_sdk.plain import to_plain
from edge_sdk.types import SCHEMA, ErrorRecord, Ranked, top_k
from host_tools import pages
from host_tools.explain.heat import (
    DIFFERENCE,
    SIGNED,
    HeatMap,
    agreement,
    css_gradient,
    enlarged,
    full_colour,
    overlay,
    png,
)
from host_tools.explain.methods import Method, Methods
from host_tools.explain.subjects import ExplainedPicture, Subject
from host_tools.progress import progress
from host_tools.run_directory import taken

# Leaves room for a counter and an extension within the 255 bytes of a file name, four bytes a letter.
_LONGEST = 40


class FileNames:
    """Gives file names that differ even on a case-insensitive file system."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, *parts: str, ending: str = "") -> str:
        """``part_part.ending``, with a number appended where that is taken."""
        base = "_".join(safe(part) for part in parts)
        name, count = base + ending, 1
        while name.casefold() in self._given:
            count += 1
            name = f"{base}-{count}{ending}"
        self._given.add(name.casefold())
        return name


def safe(text: str) -> str:
    """Letters, digits, dots and dashes of ``text``, an underscore for others; never a hidden file."""
    return re.sub(r"[^\w.-]+", "_", text)[:_LONGEST].lstrip(".") or "_"


_TOP = 3


@dataclass(frozen=True, slots=True)
class SubjectAnswer:
    """The answer of one model.

    Attributes:
        model: its path.
        topk: its best labels.
        score: of the class that is explained, 0..1.
    """

    model: str
    topk: tuple[Ranked, ...]
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class MapFile:
    """One heat map and its image file."""

    model: str
    file: Path
    heat: HeatMap


@dataclass(frozen=True, slots=True)
class Difference:
    """How two models' maps differ.

    Attributes:
        file: shows the second's less the first's.
        agreement: Spearman's rank correlation of the two, see ``heat.agreement``.
    """

    file: Path
    agreement: float | None


@dataclass(frozen=True, slots=True, eq=False)
class MethodResult:
    """The result of one method.

    Attributes:
        method: which.
        maps: one for each model that it supports.
        difference: where it supports both models, else None.
        full_colour: the magnitude that is drawn in the deepest colour.
    """

    method: Method
    maps: tuple[MapFile, ...]
    difference: Difference | None
    full_colour: float


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The explanation of one picture by every method.

    Attributes:
        shown: the picture.
        picture: the file that shows it as the models see it.
        label: the class that is explained, the same for every model.
        answers: of each model.
        methods: in order.
    """

    shown: ExplainedPicture
    picture: Path
    label: str
    answers: tuple[SubjectAnswer, ...]
    methods: tuple[MethodResult, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``; see docs/json.md."""
        return {
            "schema": SCHEMA,
            "type": "explanation",
            "path": self.shown.path,
            "truth": self.shown.truth,
            "class": self.label,
            "picture": str(self.picture),
            "models": [
                {
                    "path": answer.model,
                    "topk": to_plain(answer.topk),
                    "score": answer.score,
                }
                for answer in self.answers
            ],
            "methods": [_method_json(result) for result in self.methods],
        }


def _method_json(result: MethodResult) -> dict[str, Any]:
    difference = result.difference
    return {
        "method": result.method,
        "maps": [
            {
                "model": drawn.model,
                "file": str(drawn.file),
                "evaluations": drawn.heat.evaluations,
                "seconds": drawn.heat.seconds,
                "base_score": drawn.heat.base_score,
            }
            for drawn in result.maps
        ],
        "difference": None if difference is None else str(difference.file),
        "agreement": None if difference is None else difference.agreement,
    }


def explain(
    pictures: Iterable[ExplainedPicture | ErrorRecord],
    subjects: Sequence[Subject],
    methods: Methods,
    out: Path,
    *,
    seconds: float,
    label: str | None = None,
    total: int = 0,
    on_result: Callable[[Explanation | ErrorRecord], None] = lambda _: None,
) -> Path | None:
    """Explains pictures, and writes maps and the page.

    Args:
        pictures: as the models see them; those that could not be read are passed on.
        subjects: one model, or two to be compared.
        methods: the methods to apply.
        out: folder for everything written.
        seconds: for each picture, model and method.
        label: the class to explain; None: what the first model answers.
        total: how many pictures, for the progress bar.
        on_result: called with each result once its files are written.

    Returns:
        The page; None where no picture could be read. An interruption leaves a page of what is
        done by then.

    Raises:
        FolderInUseError: another process writes into ``out``.
        WriteError: the disk is full, or ``out`` is not a folder.
    """
    with taken(out):
        return _explain(pictures, subjects, methods, out, seconds, label, total, on_result)


def _explain(
    pictures: Iterable[ExplainedPicture | ErrorRecord],
    subjects: Sequence[Subject],
    methods: Methods,
    out: Path,
    seconds: float,
    label: str | None,
    total: int,
    on_result: Callable[[Explanation | ErrorRecord], None],
) -> Path | None:
    done: list[Explanation] = []
    names = FileNames()
    page = out / names.new("index", ending=".html")
    failed = False
    try:
        for shown in progress(pictures, "explaining", total):
            if isinstance(shown, ExplainedPicture):
                done.append(_explain_one(shown, subjects, methods, out, names, seconds, label))
                on_result(done[-1])
            else:
                on_result(shown)
    except WriteError:
        failed = True
        raise
    finally:
        if done and not failed:
            write_page(page, done, subjects, seconds, label)
    return page if done else None


def _explain_one(
    shown: ExplainedPicture,
    subjects: Sequence[Subject],
    methods: Methods,
    out: Path,
    names: FileNames,
    seconds: float,
    label: str | None,
) -> Explanation:
    scores = [subject.scorer.score(shown.pixels[np.newaxis])[0] for subject in subjects]
    labels = subjects[0].labels
    index = int(scores[0].argmax()) if label is None else labels.index(label)
    stem = names.new(Path(shown.path).stem)
    picture = out / names.new(stem, "input", ending=".png")
    write_atomically(picture, png(enlarged(shown.pixels)))
    results = []
    for method in methods.names:
        found = methods.maps(method, subjects, shown.pixels, index, seconds, Path(shown.path).name)
        pairs = [(s, heat) for s, heat in zip(subjects, found, strict=True) if heat is not None]
        results.append(_draw(method, shown.pixels, pairs, out, names, stem))
    return Explanation(
        shown,
        picture,
        labels[index],
        tuple(
            SubjectAnswer(
                subject.path,
                tuple(Ranked(labels[i], float(row[i])) for i in top_k(row, _TOP)),
                float(row[index]),
            )
            for subject, row in zip(subjects, scores, strict=True)
        ),
        tuple(results),
    )


def _draw(
    method: Method,
    pixels: NDArray[np.uint8],
    found: Sequence[tuple[Subject, HeatMap]],
    out: Path,
    names: FileNames,
    stem: str,
) -> MethodResult:
    maps = [heat.values for _, heat in found]
    if method == "grad-cam":
        # Sums of activations, in units of the network's own: only their shapes can be compared.
        maps = [values / full_colour([values]) for values in maps]
    deepest = full_colour(maps)
    drawn = []
    for (subject, heat), values in zip(found, maps, strict=True):
        file = out / names.new(stem, subject.name, method, ending=".png")
        write_atomically(file, png(enlarged(overlay(pixels, values, deepest, SIGNED))))
        drawn.append(MapFile(subject.path, file, heat))
    difference = None
    if len(maps) == 2:
        file = out / names.new(stem, "difference", method, ending=".png")
        change = overlay(pixels, maps[1] - maps[0], deepest, DIFFERENCE)
        write_atomically(file, png(enlarged(change)))
        difference = Difference(file, agreement(*maps))
    return MethodResult(method, tuple(drawn), difference, deepest)


# Method, its name in print, and what it does.
_LEGEND = {
    "grad-cam": (
        "Grad-CAM",
        (
            "weights the channels of the last feature map by the gradient of the class; fast and "
            "coarse, and it shows only evidence for the class. Its strength has "
            "no unit: each map is drawn to its own peak."
        ),
    ),
    "occlusion": (
        "Occlusion",
        (
            "covers one part of the picture after another with the mean colour, and shows by how much "
            "the class's score falls."
        ),
    ),
    "shap": (
        "SHAP",
        (
            "shows and hides (blurs) parts in many combinations, and divides the score among them "
            "(Shapley values): their sum is the picture's score less that of the blurred picture."
        ),
    ),
}


def write_page(
    path: Path,
    explanations: Sequence[Explanation],
    subjects: Sequence[Subject],
    seconds: float,
    label: str | None,
) -> None:
    """Writes the page; pictures and maps are embedded.

    Args:
        path: of the page.
        explanations: at least one.
        subjects: the models.
        seconds: that each picture, model and method had.
        label: the requested class, None: the first model's answers.

    Raises:
        MissingExtraError: Jinja is not installed.
        WriteError: the disk is full.
    """
    used = {result.method for explanation in explanations for result in explanation.methods}
    pages.write_page(
        path,
        "explanation.html",
        explanations=explanations,
        names={subject.path: subject.name for subject in subjects},
        models=subjects,
        legend={method: words for method, words in _LEGEND.items() if method in used},
        seconds=seconds,
        requested=label,
        signed=css_gradient(SIGNED),
        difference=css_gradient(DIFFERENCE),
        picture=lambda file: pages.data_url(file.read_bytes(), "png"),
    )
