"""Opens what is to be compared, chooses the pictures, and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_sdk.artifact import Artifact
from edge_sdk.engines import backend_for
from edge_sdk.errors import DelegateError, ValidationError, WrongBackendError
from edge_sdk.vision.images import MAX_PIXELS
from host_tools.data.layouts import find_pictures
from host_tools.data.pictures import (
    Decoded,
    Picture,
    PictureFolder,
    Unreadable,
    decode_all,
    file_digest,
)
from host_tools.data.split import SplitRule, decoded_split
from host_tools.predict import (
    ARTIFACT_SUFFIXES,
    ArtifactPredictor,
    Opening,
    Predictor,
    SavedPredictor,
    SavedScores,
    load_scores,
    open_classifier,
    open_model,
    recorded_rule,
)
from host_tools.progress import progress
from host_tools.validate.measure import compare
from host_tools.validate.results import Budget, Validation


def pictures_of(
    folder: PictureFolder,
    split: str | None,
    rule: SplitRule | None,
    max_pixels: int,
    say: Callable[[str], None],
) -> Iterator[Decoded | Unreadable]:
    """The decoded pictures of one split; without ready splits all are decoded to find them.

    Args:
        folder: the data set.
        split: ``train``, ``validation``, ``test`` or ``all``. None: test, where the folder or the
            model's recipe has such a split, else all.
        rule: how the model's pictures were split; None where it does not say.
        max_pixels: larger pictures are ``Unreadable``.
        say: told which split it is.

    Raises:
        ValidationError: nothing says which pictures the split has.
    """
    ready = folder.ready_splits
    chosen = split or ("test" if rule is not None or "test" in ready else "all")
    if chosen != "all" and rule is None and chosen not in ready:
        raise ValidationError(
            f"{folder.root}: has no {chosen} split of its own, and the model does not say how it "
            "was split for training; use --split all, or a folder with train and test in it"
        )
    say(f"validating on the {chosen} split of {folder.root}")
    return decoded_split(folder, chosen, rule, max_pixels, "validating")


def decoded(pictures: Sequence[Picture], max_pixels: int) -> Iterator[Decoded | Unreadable]:
    """Pictures one after another, with progress on a terminal."""
    return progress(decode_all(pictures, max_pixels), "validating", len(pictures))


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
    any_preprocessing: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Validation:
    """Measures what each artifact lost against the reference, on the same pictures.

    Args:
        artifacts: ``.tflite`` or ``.onnx`` files.
        reference: a ``.keras`` file or run directory, a ``.tflite`` or ``.onnx``, or saved scores
            (``.npz``).
        data: labelled pictures.
        layout: how they lie there, see ``find_pictures``.
        split: ``train``, ``validation``, ``test`` or ``all``. Default: the pictures whose scores
            were saved; else test, where the folder or the model's recipe has such a split; else
            all.
        budget: for the verdicts.
        opening: for models edgecls did not make.
        max_pixels: larger pictures are left out.
        any_preprocessing: compare models even where they look at pictures differently.
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
        predictors = []
        for path in artifacts:
            predictors.append(ArtifactPredictor(open_classifier(path, opening, say)))
            stack.callback(predictors[-1].close)
        other, other_rule = _open_reference(reference, opening, predictors[0], say)
        stack.callback(other.close)
        rule = other_rule or first_rule(predictor.artifact for predictor in predictors)
        if split is None and isinstance(other, SavedPredictor):
            pictures: Sequence[Picture] = [p for p in folder.pictures if other.knows(p)]
            say(f"{len(pictures)} of the {len(other)} pictures with saved scores are in {data}")
            chosen_pictures = decoded(pictures, max_pixels)
        else:
            chosen_pictures = pictures_of(folder, split, rule, max_pixels, say)
            if isinstance(other, SavedPredictor):
                chosen_pictures = _known(chosen_pictures, other)
        result = compare(
            other,
            predictors,
            chosen_pictures,
            folder.classes,
            budget or Budget(),
            any_preprocessing=any_preprocessing,
        )
        _say_if_other_data(predictors, result, say)
        return result


def scores_of(comparison: Validation) -> SavedScores:
    """The reference's scores, ready to be saved for a device."""
    pictures = comparison.pictures
    return SavedScores(
        reference=comparison.reference_path,
        labels=comparison.labels,
        files=tuple(map(file_digest, progress(pictures, "hashing pictures", len(pictures)))),
        scores=comparison.reference_scores,
        preprocessing=comparison.preprocessing,
    )


def _open_reference(
    path: Path, opening: Opening, first: Predictor, say: Callable[[str], None]
) -> tuple[Predictor, SplitRule | None]:
    if path.suffix == ".npz":
        return SavedPredictor(path, load_scores(path)), None
    if path.suffix in ARTIFACT_SUFFIXES:
        opening = _for_reference(path, opening, say)
    predictor = open_model(path, opening, first, say)
    return predictor, predictor.rule


def _for_reference(path: Path, opening: Opening, say: Callable[[str], None]) -> Opening:
    """The backend is the artifacts'; a reference that it does not run has its own on the CPU."""
    try:
        backend_for(Artifact.open(path), opening.backend)
    except (DelegateError, WrongBackendError):
        say(f"{path}: backend {opening.backend} does not run it; the reference runs on the CPU")
        return replace(opening, backend="cpu")
    return opening


def first_rule(artifacts: Iterable[Artifact]) -> SplitRule | None:
    """How the pictures of the first artifact that says so were split for training."""
    rules = (recorded_rule(artifact) for artifact in artifacts)
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


def _say_if_other_data(
    predictors: Sequence[ArtifactPredictor], result: Validation, say: Callable[[str], None]
) -> None:
    for predictor in predictors:
        manifest = predictor.artifact.manifest
        try:
            known = manifest.provenance["data"]["fingerprints"] if manifest else {}
        except (KeyError, TypeError):
            continue
        if known and result.fingerprint not in known.values():
            say(
                f"{predictor.path}: these are other pictures than the splits it was made "
                "with; the figures describe them, not the training data set"
            )
            return
