"""The user's description of a third-party model: ``--labels`` and ``--normalize``."""

from __future__ import annotations

import math
from pathlib import Path

from edge_sdk.errors import UndescribedArtifactError
from edge_sdk.files import read_text
from edge_sdk.vision.tensors import RAW, SYMMETRIC, UNIT, Normalization

_NORMALIZATIONS = {"raw": RAW, "unit": UNIT, "symmetric": SYMMETRIC}


def parse_normalization(text: str) -> Normalization:
    """``raw``, ``unit``, ``symmetric`` or ``MEAN,STD`` as a ``Normalization``.

    Raises:
        UndescribedArtifactError: none of these.
    """
    if text in _NORMALIZATIONS:
        return _NORMALIZATIONS[text]
    try:
        mean, std = (float(part) for part in text.split(","))
        if std == 0 or not math.isfinite(mean) or not math.isfinite(std):
            raise ValueError(text)
    except ValueError as error:
        raise UndescribedArtifactError(
            f"--normalize {text}: expected raw, unit, symmetric, or two numbers as in 127.5,127.5"
        ) from error
    return Normalization((mean,), (std,))


def parse_labels(text: str) -> tuple[str, ...]:
    """One label per line; a leading index is dropped if every line has one (``0 daisy``)."""
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    parts = [line.split(maxsplit=1) for line in lines]
    if parts and all(len(p) == 2 and p[0].rstrip(":") == str(i) for i, p in enumerate(parts)):
        return tuple(p[1] for p in parts)
    return tuple(lines)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The labels in a text file, see ``parse_labels``.

    Raises:
        UndescribedArtifactError: the file cannot be read as text.
    """
    try:
        return parse_labels(read_text(path, "utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UndescribedArtifactError(
            f"--labels {path}: cannot be read as UTF-8 text ({error}); expected one label per line, "
            f"convert an older file with iconv -f latin1 -t utf-8 {path} > labels.txt"
        ) from error
