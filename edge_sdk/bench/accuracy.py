"""Accuracy beside latency, from ``edgecls validate --json`` on the same files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from edge_sdk.bench.results import ModelResult
from edge_sdk.errors import BaselineError
from edge_sdk.files import TEXT_BYTES, read_file
from edge_sdk.plain import from_plain

_AGAIN = "give the output of edgecls validate ARTIFACT --reference MODEL --data DIR --json"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One artifact of a validation.

    Attributes:
        path, size_bytes: of the file.
        accuracy: 0..1.
        drop_points: accuracy drop against the reference, in points; None if it was not measured.
        drop_ci95: its 95 % interval.
        n: pictures.
    """

    path: str
    size_bytes: int
    accuracy: float
    drop_points: float | None = None
    drop_ci95: tuple[float, float] | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"an accuracy of {self.accuracy}, expected 0 to 1")


def read_accuracies(path: Path) -> tuple[Accuracy, ...]:
    """The artifacts of a validation report.

    Raises:
        BaselineError: the file is missing, damaged, or not a validation report.
    """
    try:
        content = json.loads(read_file(path, TEXT_BYTES))
    except OSError as error:
        raise BaselineError(
            f"{path}: cannot be read ({error.strerror or error}); {_AGAIN}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: not JSON ({error}); {_AGAIN}") from error
    return parse_accuracies(content, str(path))


def parse_accuracies(content: object, name: str) -> tuple[Accuracy, ...]:
    """The artifacts of a parsed validation report; ``name`` is used in errors.

    Raises:
        BaselineError: it is not a validation report, or damaged.
    """
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or kind != "validation":
        raise BaselineError(f"{name}: is of type {kind!r:.60}, expected a validation; {_AGAIN}")
    try:
        n = content["reference"].get("n")
        return tuple(from_plain(Accuracy, {**entry, "n": n}) for entry in content["artifacts"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{name}: damaged or edited ({error!r:.120}); {_AGAIN}") from error


def accuracy_of(model: ModelResult, accuracies: Sequence[Accuracy]) -> Accuracy | None:
    """The accuracy of the file with the same name and size; None if there is none."""
    name = PurePath(model.path).name
    return next(
        (
            known
            for known in accuracies
            if PurePath(known.path).name == name and known.size_bytes == model.size_bytes
        ),
        None,
    )
