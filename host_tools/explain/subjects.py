"""What is explained: the models, opened, and the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.errors import (
    SourceNotFoundError,
    UnreadableImageError,
    ValidationError,
)
from edge_sdk.sources.folder import list_images
from edge_sdk.types import ErrorRecord
from edge_sdk.vision.images import MAX_PIXELS, read_image
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.layouts import find_pictures
from host_tools.data.pictures import Decoded, Picture, PictureFolder, Unreadable, read_picture
from host_tools.data.split import SplitRule, decoded_split
from host_tools.predict import (
    ARTIFACT_SUFFIXES,
    BATCH,
    ArtifactPredictor,
    KerasPredictor,
    Opening,
    Scorer,
    open_model,
)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """An open model.

    Attributes:
        name: what files made for it are called.
        path: as it was given.
        labels: one per score.
        preprocessing: from a picture to its input.
        scorer: asks it.
        rule: how its pictures were split for training; None where it does not say.
    """

    name: str
    path: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    scorer: Scorer
    rule: SplitRule | None


def open_subjects(
    model: Path,
    against: Path | None,
    opening: Opening,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Subject, ...]:
    """Opens one model, or two that can be compared.

    Args:
        model: a run directory, a ``.keras`` file, a ``.tflite`` or an ``.onnx``.
        against: another.
        opening: for models edgecls did not make.
        say: told what was assumed.

    Raises:
        ArtifactError: a model that does not open, or that labels or a range must be given for.
        EngineError: the backend is missing, or is not the one the file was compiled for.
        ValidationError: a model that contradicts its run directory, or two that differ in labels
            or in how they take pictures.
        ConversionError: a Keras model that is no image classifier.
        MissingExtraError: a Keras model without the extra ``[host]``.
    """
    paths = (model,) if against is None else (model, against)
    # An artifact knows labels and preprocessing, which a bare .keras file takes from it.
    order = sorted(range(len(paths)), key=lambda i: paths[i].suffix not in ARTIFACT_SUFFIXES)
    opened: dict[int, ArtifactPredictor | KerasPredictor] = {}
    try:
        for i in order:
            other = next(iter(opened.values()), None)
            fitting = opening
            if paths[i].suffix in ARTIFACT_SUFFIXES:
                fitting = _for_this_file(paths[i], paths, opening, say)
            opened[i] = open_model(paths[i], fitting, other, say)
        subjects = tuple(_subject(paths[i], opened[i]) for i in range(len(paths)))
        if len(subjects) == 2:
            _check_comparable(*subjects)
            if subjects[0].name.casefold() == subjects[1].name.casefold():
                subjects = (subjects[0], replace(subjects[1], name=f"{subjects[1].name}-2"))
    except BaseException:
        for predictor in opened.values():
            predictor.close()
        raise
    return subjects


def _for_this_file(
    path: Path, paths: tuple[Path, ...], opening: Opening, say: Callable[[str], None]
) -> Opening:
    """On the Edge TPU the other file, not compiled for it, runs on the CPU."""
    if len(paths) == 1 or not opening.backend.startswith("edgetpu"):
        return opening
    compiled = [Artifact.open(p).needs_edgetpu for p in paths if p.suffix in ARTIFACT_SUFFIXES]
    if not any(compiled) or Artifact.open(path).needs_edgetpu:
        return opening
    say(f"{path}: not compiled for the Edge TPU; it runs on the CPU")
    return replace(opening, backend="cpu")


def _subject(given: Path, predictor: ArtifactPredictor | KerasPredictor) -> Subject:
    return Subject(
        _name_of(given, Path(predictor.path)),
        str(given),
        predictor.labels,
        predictor.preprocessing,
        predictor,
        predictor.rule,
    )


def _name_of(given: Path, file: Path) -> str:
    """A run is called by its folder: every model in one is called model.keras."""
    if given.is_dir() or file.name == "model.keras":
        return file.parent.resolve().name or "model"
    return file.stem


def _check_comparable(first: Subject, second: Subject) -> None:
    if first.labels != second.labels:
        raise ValidationError(
            f"{first.path} and {second.path} have different labels or another order of them; only "
            "models of the same classes can be compared"
        )
    if first.preprocessing != second.preprocessing:
        raise ValidationError(
            f"{first.path} is given pictures of {_words(first.preprocessing)}, {second.path} "
            f"{_words(second.preprocessing)}; their maps lie on different pixels and cannot be "
            "compared (--crop sets how a foreign model's pictures are cut); explain them one by one"
        )


def _words(how: Preprocessing) -> str:
    colours = "RGB" if how.channels == 3 else "gray"
    return f"{how.width} x {how.height} {colours} pixels, {how.crop}"


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedPicture:
    """A picture as the models see it.

    Attributes:
        path: where it came from.
        pixels: ``(H, W, C)`` uint8 of the models' input size.
        truth: its label, None where it is not known.
    """

    path: str
    pixels: NDArray[np.uint8]
    truth: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """Which pictures of a data set.

    Attributes:
        data: where they are.
        layout: how they lie there, see ``find_pictures``.
        split: ``train``, ``validation``, ``test`` or ``all``; None: test where there is one.
        worst: this many of the first model's mistakes, those with the highest scores.
        flips: this many that the first model has right and the second wrong.
        max_pixels: larger pictures are left out.
    """

    data: Path
    layout: str = "auto"
    split: str | None = None
    worst: int = 0
    flips: int = 0
    max_pixels: int = MAX_PIXELS


def list_named(paths: Sequence[Path]) -> list[Path]:
    """The picture files among files and folders.

    Raises:
        SourceNotFoundError: none.
    """
    files = [file for path in paths for file in (list_images(path) if path.is_dir() else [path])]
    if not files:
        raise SourceNotFoundError(f"{', '.join(map(str, paths))}: no pictures there")
    return files


def read_named(
    files: Sequence[Path], how: Preprocessing, max_pixels: int = MAX_PIXELS
) -> Iterator[ExplainedPicture | ErrorRecord]:
    """Reads one picture after another; one that cannot be read gives a record of that."""
    for file in files:
        try:
            frame = read_image(file, max_pixels=max_pixels)
        except UnreadableImageError as error:
            yield ErrorRecord(str(file), error.reason)
        else:
            yield ExplainedPicture(str(file), preprocess(frame, how), None)


def find_mistakes(
    search: Search, subjects: Sequence[Subject], say: Callable[[str], None] = lambda _: None
) -> tuple[ExplainedPicture, ...]:
    """Asks the models about every picture of a split, and picks those they get wrong.

    Returns:
        The worst mistakes, then the flips, each picture once; fewer than asked for where there are
        no more.

    Raises:
        DatasetError: a folder that is no data set.
        ValidationError: classes that the models do not know, no such split, or no pictures.
    """
    folder = find_pictures(search.data, search.layout)
    model = subjects[0]
    unknown = [name for name in folder.classes if model.labels.count(name) != 1]
    if unknown:
        raise ValidationError(
            f"{search.data}: has the class {', '.join(unknown[:5])}, which is not exactly one label "
            f"of {model.path} ({', '.join(model.labels[:5])}, ...); the folders must be named like "
            "the labels (--labels FILE names a foreign model's)"
        )
    rule = next((subject.rule for subject in subjects if subject.rule is not None), None)
    known = rule is not None or "test" in folder.ready_splits
    split = search.split or ("test" if known else "all")
    say(f"looking for mistakes in the {split} split of {search.data}")
    left_out: list[Unreadable] = []
    members = _members(folder, split, rule, search.max_pixels, left_out)
    pictures, scores = _ask(members, subjects)
    if left_out:
        how_many = "1 picture cannot be read and is" if len(left_out) == 1 else ""
        how_many = how_many or f"{len(left_out)} pictures cannot be read and are"
        say(f"{how_many} left out, such as {left_out[0].picture.path}: {left_out[0].reason}")
    if not pictures:
        raise ValidationError(
            f"{search.data}: no picture of the {split} split can be read; choose another --split"
        )
    truth = np.array([model.labels.index(folder.classes[p.label]) for p in pictures])
    worst = _worst(scores[0], truth)
    say(f"{model.path}: {len(worst)} of {len(pictures)} pictures wrong")
    chosen = [int(i) for i in worst[: search.worst]]
    if search.flips:
        flips = _flips(scores[0], scores[1], truth)
        say(f"{len(flips)} pictures are right there and wrong in {subjects[1].path}")
        chosen += [int(i) for i in flips[: search.flips] if i not in chosen]
    return tuple(
        ExplainedPicture(
            str(pictures[i].path),
            preprocess(read_picture(pictures[i], search.max_pixels), model.preprocessing),
            model.labels[truth[i]],
        )
        for i in chosen
    )


def _worst(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows answered wrongly, the highest score first."""
    wrong = np.flatnonzero(scores.argmax(axis=1) != truth)
    return wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")]


def _flips(
    first: NDArray[np.float32], second: NDArray[np.float32], truth: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows that the first answers rightly and the second does not, its highest score first."""
    flipped = (first.argmax(axis=1) == truth) & (second.argmax(axis=1) != truth)
    rows = np.flatnonzero(flipped)
    return rows[np.argsort(-second[rows].max(axis=1), kind="stable")]


def _members(
    folder: PictureFolder,
    split: str,
    rule: SplitRule | None,
    max_pixels: int,
    left_out: list[Unreadable],
) -> Iterator[Decoded]:
    """The readable pictures of one split; without ready splits all are decoded to find them.

    Those that cannot be read are added to ``left_out``.
    """
    ready = folder.ready_splits
    if split != "all" and split not in ready and rule is None:
        raise ValidationError(
            f"{folder.root}: has no {split} split of its own, and the model does not say how it was "
            "split for training; use --split all, or a folder with train and test in it"
        )
    for item in decoded_split(folder, split, rule, max_pixels, "looking for mistakes"):
        if isinstance(item, Unreadable):
            left_out.append(item)
        else:
            yield item


def _ask(
    items: Iterator[Decoded], subjects: Sequence[Subject]
) -> tuple[list[Picture], list[NDArray[np.float32]]]:
    """Every model's ``(N, classes)`` scores; the pictures themselves are not kept."""
    how = subjects[0].preprocessing
    pictures: list[Picture] = []
    parts: list[list[NDArray[np.float32]]] = [[] for _ in subjects]
    waiting: list[NDArray[np.uint8]] = []

    def ask() -> None:
        batch = np.stack(waiting)
        for subject, part in zip(subjects, parts, strict=True):
            part.append(subject.scorer.score(batch))
        waiting.clear()

    for item in items:
        pictures.append(item.picture)
        waiting.append(preprocess(item.frame, how))
        if len(waiting) == BATCH:
            ask()
    if waiting:
        ask()
    return pictures, [np.concatenate(part or [np.empty((0, 0), np.float32)]) for part in parts]
