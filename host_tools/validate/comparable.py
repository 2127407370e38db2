"""Whether models may be compared at all: the same classes, and the same look at the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge_sdk.errors import ValidationError
from edge_sdk.vision.preprocess import Preprocessing


class Model(Protocol):
    """What must fit before two models are asked anything."""

    @property
    def path(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """None: not known, as of scores that were saved without it."""
        ...


def check_labels(first: Model, others: Sequence[Model]) -> None:
    """Makes sure that the scores of all models mean the same classes.

    Raises:
        ValidationError: other labels, or another order of them.
    """
    for other in others:
        if other.labels != first.labels:
            raise ValidationError(
                f"{other.path} and {first.path} have different labels or another order of them"
                f"{_where(first.labels, other.labels)}; only models of the same classes can be "
                "compared (--labels FILE names a foreign model's)"
            )


def label_indices(model: Model, classes: Sequence[str]) -> list[int]:
    """The index of its label for each class of a data set.

    Raises:
        ValidationError: a class that is not exactly one label.
    """
    unknown = [name for name in classes if model.labels.count(name) != 1]
    if unknown:
        raise ValidationError(
            f"the data has the class {', '.join(unknown[:5])}, which is not exactly one label of "
            f"{model.path} ({', '.join(model.labels[:5])}, ...); the folders must be named "
            "like the labels (--labels FILE names a foreign model's)"
        )
    return [model.labels.index(name) for name in classes]


def check_preprocessing(first: Model, others: Sequence[Model]) -> None:
    """Makes sure that all models get to see the same pixels.

    A difference of size, crop or colours costs points of its own, more than a conversion does.
    What is not known is not compared.

    Raises:
        ValidationError: two models were made for different pictures.
    """
    for other in others:
        if None not in (first.preprocessing, other.preprocessing) and (
            first.preprocessing != other.preprocessing
        ):
            raise ValidationError(
                f"{other.path} is given {words(other.preprocessing)}, {first.path} "
                f"{words(first.preprocessing)}: the drop would be that of the pictures, not of the "
                "conversion; compare models of the same preprocessing (--crop sets a foreign "
                "model's), or add --any-preprocessing if this is what you want to know"
            )


def words(how: Preprocessing | None) -> str:
    """A preprocessing for people."""
    if how is None:
        return "unknown pictures"
    colours = "RGB" if how.channels == 3 else "gray"
    return f"pictures of {how.width} x {how.height} {colours} pixels, {how.crop}"


def _where(first: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(first) != len(other):
        return f" ({len(other)} and {len(first)} of them)"
    i = next(i for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b)
    return f" (number {i} is {other[i]!r} and {first[i]!r})"
