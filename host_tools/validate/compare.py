"""``compare``: one pass over the pictures, every model asked about each, figures at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge_sdk.errors import ValidationError
from host_tools.data.decode import Decoded, Unreadable
from host_tools.data.load import fingerprint
from host_tools.data.pictures import Picture
from host_tools.predict import ArtifactPredictor, Predictor
from host_tools.validate.comparable import check_labels, check_preprocessing, label_indices
from host_tools.validate.measure import measure
from host_tools.validate.results import Budget, Comparison

__all__ = ["Budget", "Comparison", "compare"]


def compare(
    reference: Predictor,
    artifacts: Sequence[ArtifactPredictor],
    pictures: Iterable[Decoded | Unreadable],
    classes: tuple[str, ...],
    budget: Budget,
    *,
    any_preprocessing: bool = False,
) -> Comparison:
    """Asks every model about every picture.

    Args:
        reference: what the artifacts are measured against.
        artifacts: at least one.
        pictures: decoded, with ``picture.label`` an index into ``classes``.
        classes: of the data set; each must be a label of the models.
        budget: for the verdicts.
        any_preprocessing: models that look at pictures differently are wanted.

    Raises:
        ValidationError: different labels or preprocessing, a class that no label names, or no
            pictures.
    """
    check_labels(reference, artifacts)
    if not any_preprocessing:
        check_preprocessing(reference, artifacts)
    truth_of = label_indices(reference, classes)
    kept: list[Picture] = []
    digests: list[str] = []
    unreadable: list[Unreadable] = []
    for item in pictures:
        if isinstance(item, Unreadable):
            unreadable.append(item)
            continue
        for predictor in (reference, *artifacts):
            predictor.see(item)
        kept.append(item.picture)
        digests.append(item.digest)
    if not kept:
        raise ValidationError("no picture to validate on; choose another --split or --data")
    truth = np.array([truth_of[picture.label] for picture in kept], np.int64)
    scores = reference.scores()
    return Comparison(
        reference_path=reference.path,
        accuracy=float((scores.argmax(axis=1) == truth).mean()),
        n=len(kept),
        preprocessing=reference.preprocessing,
        artifacts=tuple(measure(predictor, reference, truth, budget) for predictor in artifacts),
        labels=reference.labels,
        truth=truth,
        reference_scores=scores,
        pictures=tuple(kept),
        fingerprint=fingerprint(classes, [picture.label for picture in kept], digests),
        unreadable=tuple(unreadable),
    )
