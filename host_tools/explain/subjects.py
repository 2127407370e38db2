"""The models that are explained, opened: what they score, and how they want their pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_sdk.artifact import Artifact
from edge_sdk.artifact.description import parse_normalization, read_labels
from edge_sdk.errors import UndescribedArtifactError, ValidationError
from edge_sdk.vision.preprocess import Preprocessing
from edge_sdk.vision.tensors import RAW
from host_tools.data.prepare import split_rule
from host_tools.data.split import SplitRule
from host_tools.explain.scorers import ArtifactScorer, KerasScorer, Scorer
from host_tools.opening import Opening, open_classifier, recorded_rule
from host_tools.quantize.convert import input_shape
from host_tools.recipe import preprocessing_of
from host_tools.run_directory import find_trained
from host_tools.third_party.keras import load_keras

_ARTIFACTS = (".tflite", ".onnx")


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
    order = sorted(range(len(paths)), key=lambda i: paths[i].suffix not in _ARTIFACTS)
    opened: dict[int, Subject] = {}
    try:
        for i in order:
            other = next(iter(opened.values()), None)
            if paths[i].suffix in _ARTIFACTS:
                fitting = _for_this_file(paths[i], paths, opening, say)
                opened[i] = _open_artifact(paths[i], fitting, say)
            else:
                opened[i] = _open_keras(paths[i], opening, other, say)
        subjects = tuple(opened[i] for i in range(len(paths)))
        if len(subjects) == 2:
            _check_comparable(*subjects)
            if subjects[0].name.casefold() == subjects[1].name.casefold():
                subjects = (subjects[0], replace(subjects[1], name=f"{subjects[1].name}-2"))
    except BaseException:
        for subject in opened.values():
            subject.scorer.close()
        raise
    return subjects


def _for_this_file(
    path: Path, paths: tuple[Path, ...], opening: Opening, say: Callable[[str], None]
) -> Opening:
    """On the Edge TPU the other file, not compiled for it, runs on the CPU."""
    if len(paths) == 1 or not opening.backend.startswith("edgetpu"):
        return opening
    compiled = [Artifact.open(p).needs_edgetpu for p in paths if p.suffix in _ARTIFACTS]
    if not any(compiled) or Artifact.open(path).needs_edgetpu:
        return opening
    say(f"{path}: not compiled for the Edge TPU; it runs on the CPU")
    return replace(opening, backend="cpu")


def _open_artifact(path: Path, opening: Opening, say: Callable[[str], None]) -> Subject:
    classifier = open_classifier(path, opening, say)
    artifact = classifier.artifact
    return Subject(
        path.stem,
        str(path),
        artifact.labels,
        artifact.preprocessing,
        ArtifactScorer(classifier),
        recorded_rule(artifact),
    )


def _open_keras(
    path: Path, opening: Opening, other: Subject | None, say: Callable[[str], None]
) -> Subject:
    trained = find_trained(path)
    model = load_keras(trained.path)
    height, width, channels = input_shape(model)
    normalization = RAW
    if trained.recipe is not None and trained.labels is not None:
        labels, how = trained.labels, preprocessing_of(trained.recipe)
        if (how.height, how.width, how.channels) != (height, width, channels):
            raise ValidationError(
                f"{trained.path}: takes {width} x {height} x {channels} pixels, the recipe beside it "
                f"says {how.width} x {how.height} x {how.channels}; keep a model with its own recipe"
            )
    else:
        labels = _labels_of_bare(path, opening, other)
        crop = opening.crop or (other.preprocessing.crop if other else None)
        how = Preprocessing(width, height, channels, crop or "squash")
        if crop is None:
            say(
                f"{path}: no recipe beside it; pictures are squashed to {width}x{height} "
                "(choose with --crop squash|center|letterbox)"
            )
        if opening.normalize is None:
            say(f"{path}: no recipe beside it; it is given pixels of 0..255 (see --normalize)")
        else:
            normalization = parse_normalization(opening.normalize)
    if model.outputs[0].shape[-1] != len(labels):
        raise ValidationError(
            f"{path}: gives {model.outputs[0].shape[-1]} scores for {len(labels)} labels; give its "
            "own with --labels FILE"
        )
    return Subject(
        _name_of(path, trained.path),
        str(path),
        labels,
        how,
        KerasScorer(model, trained.path, normalization),
        split_rule(trained.recipe) if trained.recipe else None,
    )


def _labels_of_bare(path: Path, opening: Opening, other: Subject | None) -> tuple[str, ...]:
    if opening.labels is not None:
        return read_labels(opening.labels)
    if other is not None:
        return other.labels
    raise UndescribedArtifactError(
        f"{path}: no recipe.toml and labels.txt beside it, so nothing says what its scores are "
        "called; give --labels FILE with one label per line, or the run directory"
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
