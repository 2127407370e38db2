"""Any model, opened and asked for scores: an artifact, a Keras model, scores that were saved."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.artifact.description import parse_normalization, read_labels
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ArtifactNotFoundError, UndescribedArtifactError, ValidationError
from edge_sdk.files import write_atomically
from edge_sdk.plain import from_plain, to_plain
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Crop, Preprocessing, preprocess
from edge_sdk.vision.tensors import RAW, Normalization
from host_tools.arrays_file import read_arrays
from host_tools.data.load import split_rule
from host_tools.data.pictures import Decoded, Picture, file_digest
from host_tools.data.split import SplitRule
from host_tools.recipe import preprocessing_of
from host_tools.run_directory import find_trained
from host_tools.third_party.keras import input_shape, load_keras

_SCHEMA = 1
# Files that a classifier of the device opens.
ARTIFACT_SUFFIXES = (".tflite", ".onnx")
# DamagedArraysError is a ValueError; the rest is of arrays that do not fit.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True, slots=True, eq=False)
class SavedScores:
    """What the file holds.

    Attributes:
        reference: the model the scores come from.
        labels: C names.
        files: SHA-256 of N picture files, in hexadecimal.
        scores: ``(N, C)`` float32 probabilities.
        preprocessing: that the pictures went through; None where the file does not say.
    """

    reference: str
    labels: tuple[str, ...]
    files: tuple[str, ...]
    scores: NDArray[np.float32]
    preprocessing: Preprocessing | None = None


def save_scores(path: Path, saved: SavedScores) -> None:
    """Writes scores as ``.npz``, atomically.

    Raises:
        WriteError: the disk is full.
    """
    how = saved.preprocessing
    more: dict[str, Any] = (
        {} if how is None else {"preprocessing": np.array(json.dumps(to_plain(how)))}
    )
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        **more,
        schema=np.array(_SCHEMA),
        reference=np.array(saved.reference),
        labels=np.array(saved.labels),
        files=np.array(saved.files),
        scores=saved.scores,
    )
    write_atomically(path, buffer.getvalue())


def load_scores(path: Path) -> SavedScores:
    """Reads what ``save_scores`` wrote.

    Raises:
        ArtifactNotFoundError: no such file.
        ValidationError: damaged, or of a newer schema.
    """
    if not path.is_file():
        raise ArtifactNotFoundError(f"{path}: there is no such file of scores")
    try:
        file = read_arrays(path)
        if int(file["schema"]) > _SCHEMA:
            raise ValidationError(
                f"{path}: written by a newer edgecls; pip install --upgrade edgecls"
            )
        saved = SavedScores(
            reference=str(file["reference"]),
            labels=tuple(str(label) for label in file["labels"]),
            files=tuple(str(digest) for digest in file["files"]),
            scores=np.asarray(file["scores"], np.float32),
            preprocessing=(
                from_plain(Preprocessing, json.loads(str(file["preprocessing"])))
                if "preprocessing" in file
                else None
            ),
        )
    except ValidationError:
        raise
    except _DAMAGE as error:
        raise ValidationError(
            f"{path}: not scores saved by edgecls validate --save-scores ({error})"
        ) from error
    if saved.scores.shape != (len(saved.files), len(saved.labels)):
        raise ValidationError(
            f"{path}: {saved.scores.shape} scores for {len(saved.files)} pictures and "
            f"{len(saved.labels)} labels; save them again"
        )
    if not np.isfinite(saved.scores).all():
        raise ValidationError(f"{path}: holds scores that are no numbers; save them again")
    return saved


@dataclass(frozen=True, slots=True)
class Opening:
    """How models are opened: the backend, and what foreign ones do not say of themselves."""

    backend: str = "cpu"
    threads: int = 1
    labels: Path | None = None
    normalize: str | None = None
    crop: Crop | None = None


def open_classifier(path: Path, opening: Opening, say: Callable[[str], None]) -> Classifier:
    """Opens a ``.tflite`` and says what was assumed about it.

    Raises:
        ArtifactError: a file that does not open, or that labels or a range must be given for.
        EngineError: the backend is missing, or is not the one the file was compiled for.
    """
    classifier = Classifier.open(
        path,
        opening.backend,
        threads=opening.threads,
        labels=opening.labels,
        normalize=opening.normalize,
        crop=opening.crop,
    )
    for note in classifier.artifact.notes:
        say(note)
    return classifier


def recorded_rule(artifact: Artifact) -> SplitRule | None:
    """How the artifact's pictures were split for training; provenance of any version will do."""
    try:
        data: Any = artifact.manifest.provenance["recipe"]["data"] if artifact.manifest else {}
        return SplitRule(float(data["validation"]), float(data["test"]), int(data["seed"]))
    except (KeyError, TypeError, ValueError):
        return None


def open_model(
    path: Path,
    opening: Opening,
    other: Predictor | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ArtifactPredictor | KerasPredictor:
    """Opens a model that can be asked about pictures, and says what was assumed about it.

    Args:
        path: a ``.tflite`` or ``.onnx`` file, a run directory or a ``.keras`` file.
        opening: for models edgecls did not make.
        other: an open model of the same classes. A ``.keras`` file without a run directory takes
            labels and crop from it where ``opening`` does not give them.
        say: is given a sentence for each assumption.

    Raises:
        ArtifactError: a file that does not open, or that labels or a range must be given for.
        EngineError: the backend is missing, or is not the one the file was compiled for.
        ValidationError: a Keras model that contradicts its run directory or its labels, or whose
            scores are not probabilities.
        ConversionError: a Keras model that is not an image classifier.
        MissingExtraError: a Keras model without the extra ``[host]``.
    """
    if path.suffix in ARTIFACT_SUFFIXES:
        return ArtifactPredictor(open_classifier(path, opening, say))
    predictor = _open_keras(path, opening, other, say)
    predictor.warm_up()
    return predictor


def _open_keras(
    path: Path, opening: Opening, other: Predictor | None, say: Callable[[str], None]
) -> KerasPredictor:
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
        known = other.preprocessing if other else None
        crop = opening.crop or (known.crop if known else None)
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
    rule = split_rule(trained.recipe) if trained.recipe else None
    return KerasPredictor(trained.path, model, labels, how, normalization, rule)


def _labels_of_bare(path: Path, opening: Opening, other: Predictor | None) -> tuple[str, ...]:
    if opening.labels is not None:
        return read_labels(opening.labels)
    if other is not None:
        return other.labels
    raise UndescribedArtifactError(
        f"{path}: no recipe.toml and labels.txt beside it, so nothing says what its scores are "
        "called; give --labels FILE with one label per line, or the run directory"
    )


_FIRST = 64


class Rows:
    """One ``(N, columns)`` float32 array that grows in place: as much memory as it needs, hardly more.

    100,000 pictures of 1,000 classes are 400 MB, of ten classes 4 MB.
    """

    def __init__(self, columns: int) -> None:
        self._kept = np.empty((_FIRST, columns), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: NDArray[np.float32]) -> None:
        """Takes ``(n, columns)`` more."""
        needed = self._count + len(rows)
        if needed > len(self._kept):
            # A quarter more than needed. What ``all`` gave before is a part of the old array.
            bigger = np.empty((needed + needed // 4, self._kept.shape[1]), np.float32)
            bigger[: self._count] = self._kept[: self._count]
            self._kept = bigger
        self._kept[self._count : needed] = rows
        self._count = needed

    def all(self) -> NDArray[np.float32]:
        """``(N, columns)``, all that came in so far."""
        return self._kept[: self._count]


_BATCH = 64
# How far from 1 a softmax in half precision may add up to.
_NO_PROBABILITIES = 0.02
# Pictures in one call of ``Scorer.score`` where a time limit is watched: enough for a processor to be
# busy, few enough to look at the clock between.
BATCH = 16


class Scorer(Protocol):
    """Scores pictures that have the model's input size already."""

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(N, H, W, C)`` uint8 pixels to ``(N, labels)`` float32 probabilities."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class Predictor(Protocol):
    """Is shown pictures one by one, and keeps scores, never pictures: those are large."""

    @property
    def path(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """None: not known."""
        ...

    @property
    def temperature(self) -> float:
        """That the scores are tempered with; 1: not at all."""
        ...

    def see(self, item: Decoded) -> None:
        """Takes the next picture; its frame is not kept."""
        ...

    def scores(self) -> NDArray[np.float32]:
        """``(N, labels)`` probabilities of the N pictures seen."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class ArtifactPredictor:
    """The very ``Classifier`` that the device runs."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._scores = Rows(len(classifier.labels))

    @property
    def artifact(self) -> Artifact:
        return self.classifier.artifact

    @property
    def path(self) -> str:
        return str(self.artifact.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classifier.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.artifact.preprocessing

    @property
    def temperature(self) -> float:
        return self.classifier.temperature

    @property
    def rule(self) -> SplitRule | None:
        """How its pictures were split for training; None where it does not say."""
        return recorded_rule(self.artifact)

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As ``Scorer.score``; preprocessing leaves pictures of the input's size as they are.

        Raises:
            EngineError: the inference failed, or gave something that is no number.
        """
        return np.stack([self.classifier.classify(_frame(picture)).scores for picture in pixels])

    def see(self, item: Decoded) -> None:
        self._scores.add(self.classifier.classify(item.frame).scores[np.newaxis])

    def scores(self) -> NDArray[np.float32]:
        return self._scores.all()

    def close(self) -> None:
        self.classifier.close()


def _frame(picture: NDArray[np.uint8]) -> Frame:
    return Frame(picture[:, :, 0], "gray") if picture.shape[2] == 1 else Frame(picture, "rgb")


class KerasPredictor:
    """A Keras model behind the device's preprocessing, asked in batches.

    Args:
        path: its file, for messages.
        model: a ``keras.Model`` from ``(N, H, W, C)`` to ``(N, C)`` probabilities.
        labels: one per score.
        preprocessing: from a picture to pixels.
        normalization: from pixels to what the model takes. Ours take pixels.
        rule: how its pictures were split for training; None where it does not say.
    """

    temperature = 1.0

    def __init__(
        self,
        path: Path,
        model: Any,
        labels: tuple[str, ...],
        preprocessing: Preprocessing,
        normalization: Normalization = RAW,
        rule: SplitRule | None = None,
    ) -> None:
        self._path = path
        self.model = model
        self.rule = rule
        self._labels = labels
        self._preprocessing = preprocessing
        self._mean = np.array(normalization.mean, np.float32)
        self._std = np.array(normalization.std, np.float32)
        self._waiting: list[NDArray[np.uint8]] = []
        self._scores = Rows(len(labels))

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self._preprocessing

    def warm_up(self) -> None:
        """Asks about black pictures, so that later calls take their usual time.

        Keras compiles for the first size of a batch, and for any size at the second.

        Raises:
            ValidationError: as ``score``.
        """
        how = self._preprocessing
        for count in (1, 2):
            self.score(np.zeros((count, how.height, how.width, how.channels), np.uint8))

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model takes for ``(N, H, W, C)`` uint8 pixels: the same shape, float32."""
        encoded: NDArray[np.float32] = (pixels.astype(np.float32) - self._mean) / self._std
        return encoded

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As ``Scorer.score``, all pictures in one batch.

        Raises:
            ValidationError: the model answers with NaN, or with something other than probabilities.
        """
        scores = np.asarray(self.model.predict_on_batch(self.encode(pixels)), np.float32)
        if not np.isfinite(scores).all():
            raise ValidationError(f"{self._path}: answers with NaN; train it again")
        if (scores < 0).any() or np.abs(scores.sum(axis=1) - 1).max() > _NO_PROBABILITIES:
            raise ValidationError(
                f"{self._path}: its scores are no probabilities (one picture's add up to "
                f"{scores[0].sum():.3g}, expected 1); add keras.layers.Softmax() and save it again"
            )
        return scores

    def see(self, item: Decoded) -> None:
        self._waiting.append(preprocess(item.frame, self._preprocessing))
        if len(self._waiting) == _BATCH:
            self._ask()

    def scores(self) -> NDArray[np.float32]:
        if self._waiting:
            self._ask()
        return self._scores.all()

    def _ask(self) -> None:
        self._scores.add(self.score(np.stack(self._waiting)))
        self._waiting.clear()

    def close(self) -> None:
        """Nothing to give back."""


class SavedPredictor:
    """Scores that a host saved, found again by the SHA-256 of the file."""

    temperature = 1.0

    def __init__(self, path: Path, saved: SavedScores) -> None:
        self._path = path
        self._saved = saved
        self._rows = dict(zip(saved.files, saved.scores, strict=True))
        self._scores = Rows(len(saved.labels))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._saved.labels

    @property
    def preprocessing(self) -> Preprocessing | None:
        return self._saved.preprocessing

    def knows(self, picture: Picture) -> bool:
        """Whether the scores of this very file were saved."""
        try:
            return file_digest(picture) in self._rows
        except OSError:  # cannot be read: decoding it reports that
            return False

    def see(self, item: Decoded) -> None:
        self._scores.add(self._rows[file_digest(item.picture)][np.newaxis])

    def scores(self) -> NDArray[np.float32]:
        return self._scores.all()

    def close(self) -> None:
        """Nothing to give back."""
