"""Opens what is to be compared, chooses the pictures, and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ValidationError
from edge_sdk.images import MAX_PIXELS
from host_tools.data.decode import Decoded, Unreadable, decode_all
from host_tools.data.layouts import find_pictures
from host_tools.data.load import SplitRule, split_of
from host_tools.data.pictures import Picture, PictureFolder, Split, file_digest
from host_tools.data.prepare import split_rule
from host_tools.keras_files import load_keras
from host_tools.opening import Opening, open_classifier, recorded_rule
from host_tools.progress import progress
from host_tools.recipe import preprocessing_of
from host_tools.run_directory import find_trained
from host_tools.validate.compare import Budget, Comparison, compare
from host_tools.validate.predictors import (
    ArtifactPredictor,
    KerasPredictor,
    Predictor,
    SavedPredictor,
)
from host_tools.validate.scores import SavedScores, load_scores


def validate(
    artifacts: Sequence[Path],
    reference: Path,
    data: Path,
    *,
    layout: str = "auto",
    split: str | None = None,
    budget: Budget | None = None,
    opening: Opening | None = None,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Measures what each artifact lost against the reference, on the same pictures.

    Args:
        artifacts: ``.tflite`` files.
        reference: a ``.keras`` file or run directory, a ``.tflite``, or saved scores (``.npz``).
        data: labelled pictures.
        layout: how they lie there, see ``find_pictures``.
        split: ``train``, ``validation``, ``test`` or ``all``. Default: the pictures whose scores
            were saved; else test, where the folder or the model's recipe has such a split; else
            all.
        budget: for the verdicts.
        opening: for models edgecls did not make.
        max_pixels: larger pictures are left out.
        say: told what a person should know.

    Raises:
        ArtifactError: a model that does not open.
        ValidationError: things that cannot be compared.
        DatasetError: a folder that is no data set.
        MissingExtraError: a Keras reference without the extra ``[host]``.
    """
    folder = find_pictures(data, layout)
    opening = opening or Opening()
    with ExitStack() as stack:
        predictors = [
            stack.enter_context(open_classifier(path, opening, say)) for path in artifacts
        ]
        other, other_rule = _open_reference(reference, opening, predictors[0], say)
        stack.callback(other.close)
        rule = other_rule or _recorded_rule(predictors)
        if split is None and isinstance(other, SavedPredictor):
            pictures: Sequence[Picture] = [p for p in folder.pictures if other.knows(p)]
            say(f"{len(pictures)} of the {len(other)} pictures with saved scores are in {data}")
            chosen_pictures = _decoded(pictures, max_pixels)
        else:
            chosen = split or _default_split(folder, rule)
            say(f"validating on the {chosen} split of {data}")
            chosen_pictures = _pictures(folder, chosen, rule, max_pixels)
            if isinstance(other, SavedPredictor):
                chosen_pictures = _known(chosen_pictures, other)
        result = compare(
            other,
            [ArtifactPredictor(classifier) for classifier in predictors],
            chosen_pictures,
            folder.classes,
            budget or Budget(),
        )
        _say_if_other_data(predictors, result, say)
        return result


def scores_of(comparison: Comparison) -> SavedScores:
    """The reference's scores, ready to be saved for a device."""
    return SavedScores(
        reference=comparison.reference_path,
        labels=comparison.labels,
        files=tuple(file_digest(picture) for picture in comparison.pictures),
        scores=comparison.reference_scores,
    )


def _open_reference(
    path: Path, opening: Opening, first: Classifier, say: Callable[[str], None]
) -> tuple[Predictor, SplitRule | None]:
    if path.suffix == ".tflite":
        if opening.backend.startswith("edgetpu") and not Artifact.open(path).needs_edgetpu:
            opening = replace(opening, backend="cpu")
            say(f"{path}: not compiled for the Edge TPU; the reference runs on the CPU")
        classifier = open_classifier(path, opening, say)
        return ArtifactPredictor(classifier), _recorded_rule([classifier])
    if path.suffix == ".npz":
        return SavedPredictor(path, load_scores(path)), None
    trained = find_trained(path)
    # A bare .keras file has neither labels nor preprocessing; the artifact made from it has both.
    labels = trained.labels or first.labels
    how = preprocessing_of(trained.recipe) if trained.recipe else first.artifact.preprocessing
    model = load_keras(trained.path)
    if model.outputs[0].shape[-1] != len(labels):
        raise ValidationError(
            f"{path}: gives {model.outputs[0].shape[-1]} scores, the artifact has {len(labels)} labels"
        )
    rule = split_rule(trained.recipe) if trained.recipe else None
    return KerasPredictor(trained.path, model, labels, how), rule


def _recorded_rule(classifiers: Sequence[Classifier]) -> SplitRule | None:
    """How the first artifact that says so was split."""
    rules = (recorded_rule(classifier.artifact) for classifier in classifiers)
    return next((rule for rule in rules if rule is not None), None)


def _known(
    pictures: Iterator[Decoded | Unreadable], saved: SavedPredictor
) -> Iterator[Decoded | Unreadable]:
    for item in pictures:
        if not isinstance(item, Unreadable) and not saved.knows(item.picture):
            raise ValidationError(
                f"{item.picture.path}: its scores were not saved in {saved.path}; leave --split off "
                "to validate on the pictures whose scores were"
            )
        yield item


def _default_split(folder: PictureFolder, rule: SplitRule | None) -> str:
    return "test" if rule is not None or "test" in folder.ready_splits else "all"


def _decoded(pictures: Sequence[Picture], max_pixels: int) -> Iterator[Decoded | Unreadable]:
    return progress(decode_all(pictures, max_pixels), "validating", len(pictures))


def _pictures(
    folder: PictureFolder, split: str, rule: SplitRule | None, max_pixels: int
) -> Iterator[Decoded | Unreadable]:
    """The pictures of one split; without ready splits all are decoded to find them."""
    ready = folder.ready_splits
    if split == "all":
        return _decoded(folder.pictures, max_pixels)
    if rule is None and split not in ready:
        raise ValidationError(
            f"{folder.root}: has no {split} split of its own, and the model does not say how it was "
            "split for training; use --split all, or a folder with train and test in it"
        )
    rule = rule or SplitRule(0.0, 0.0, 0)
    source: Split = "train" if split not in ready else split
    candidates = [p for p in folder.pictures if p.split is None or p.split == source]
    return (
        item
        for item in _decoded(candidates, max_pixels)
        if isinstance(item, Unreadable) or split_of(item.picture, item.digest, ready, rule) == split
    )


def _say_if_other_data(
    classifiers: Sequence[Classifier], result: Comparison, say: Callable[[str], None]
) -> None:
    for classifier in classifiers:
        manifest = classifier.artifact.manifest
        try:
            known = manifest.provenance["data"]["fingerprints"] if manifest else {}
        except (KeyError, TypeError):
            continue
        if known and result.fingerprint not in known.values():
            say(
                f"{classifier.artifact.path}: these are other pictures than the splits it was made "
                "with; the figures describe them, not the training data set"
            )
            return
