"""Scores saved by a host, for a device that cannot run the float model itself."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ArtifactNotFoundError, ValidationError
from edge_sdk.files import write_atomically
from edge_sdk.vision.preprocess import CROPS, Preprocessing
from host_tools.arrays_file import read_arrays

_SCHEMA = 1
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
        {} if how is None else {"preprocessing": np.array(json.dumps(asdict(how)))}
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
            preprocessing=_preprocessing(file.get("preprocessing")),
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


def _preprocessing(text: NDArray[Any] | None) -> Preprocessing | None:
    if text is None:
        return None
    read = json.loads(str(text))
    how = Preprocessing(
        int(read["width"]), int(read["height"]), int(read["channels"]), read["crop"]
    )
    if how.crop not in CROPS:
        raise ValueError(f"no crop is called {how.crop!r}")
    return how
