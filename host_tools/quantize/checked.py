"""Calibration pictures as a conversion takes them: chosen, looked at, and on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.container import read_container
from edge_sdk.errors import ArtifactError, ConversionError
from edge_sdk.vision.images import MAX_PIXELS
from host_tools.data.load import Dataset
from host_tools.data.pictures import SPLITS, Split
from host_tools.quantize.activations import Observed, observe
from host_tools.quantize.calibrate import CalibrationSet, drawn_from, read_folder
from host_tools.quantize.graph import Graph
from host_tools.quantize.lint import LintResult, Yardstick, lint
from host_tools.quantize.pixel_statistics import (
    PixelStatistics,
    statistics_from,
    statistics_of_split,
)
from host_tools.quantize.ranges import RangeGrowth, range_growth
from host_tools.recipe import Recipe, preprocessing_of
from host_tools.run_directory import RunDirectory, TrainedModel

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """Which pictures a person wants the ranges set by.

    Attributes:
        split: of the data set to draw them from.
        folder: of pictures to take instead, None to draw from the data set.
        ignored: codes of the lint that shall not stop the conversion.
        max_pixels: larger pictures of the folder are left out.
    """

    split: Split = "train"
    folder: Path | None = None
    ignored: tuple[str, ...] = ()
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True, eq=False)
class CheckedCalibration:
    """Pictures that passed the lint.

    Attributes:
        pixels: ``(N + 2, H, W, C)`` uint8, the last two black and white.
        observed: what the float network computes on them.
        record: for the artifact's provenance: which pictures they are, and what the lint said.
    """

    pixels: NDArray[np.uint8]
    observed: Mapping[str, Observed]
    record: dict[str, Any]


def checked_calibration(
    graph: Graph,
    trained: TrainedModel,
    recipe: Recipe,
    labels: tuple[str, ...],
    dataset: Dataset | None,
    count: int,
    request: CalibrationRequest,
    say: Say,
) -> CheckedCalibration | None:
    """Chooses calibration pictures, and stops at what the lint calls an error.

    Args:
        graph: of the float model.
        trained: where it comes from.
        recipe, labels: of the model.
        dataset: the one it was trained on, as far as known.
        count: how many pictures, at most.
        request: from where.
        say: told of warnings, and of what could not be looked for.

    Returns:
        None where there is neither a data set nor a folder.

    Raises:
        ConversionError: no pictures, or a finding of severity error that is not to be ignored.
    """
    seed = recipe.data.seed
    if request.folder is not None:
        chosen = read_folder(
            *(request.folder, preprocessing_of(recipe), labels, count, seed),
            max_pixels=request.max_pixels,
            say=say,
        )
    elif dataset is not None:
        chosen = drawn_from(dataset, request.split, count, seed)
        if chosen.left_out:
            say(
                f"{chosen.left_out} pictures are copies of others, in this split or another, and are "
                "not calibrated with"
            )
    else:
        return None
    training = statistics_of_split(dataset.splits["train"]) if dataset else _recorded(trained)
    evaluated = None
    if dataset is not None:
        evaluated = {
            digest for name in SPLITS if name != "train" for digest in dataset.splits[name].digests
        }
    pixels = chosen.anchored()

    @cache
    def observed() -> Mapping[str, Observed]:
        return observe(graph, pixels)

    def growth(_: CalibrationSet) -> Sequence[RangeGrowth]:
        return range_growth(observed())

    result = lint(chosen, Yardstick(len(labels), training, evaluated, growth))
    for line in _said(result, request, chosen):
        say(line)
    fatal = [
        finding
        for finding in result.findings
        if finding.severity == "error" and finding.code not in request.ignored
    ]
    if fatal:
        told = "; ".join(f"{f.code}: {f.reason}; {f.remedy}" for f in fatal)
        flags = " ".join(f"--ignore-lint {finding.code}" for finding in fatal)
        raise ConversionError(
            f"these pictures cannot be calibrated with: {told} ({flags} converts with them nevertheless)"
        )
    return CheckedCalibration(pixels, observed(), _record(chosen, training, result, request))


def _said(result: LintResult, request: CalibrationRequest, chosen: CalibrationSet) -> Iterator[str]:
    for finding in result.findings:
        if finding.code in request.ignored:
            yield f"calibration: {finding.code} ignored: {finding.reason}"
        elif finding.severity == "warning":
            yield f"calibration warning: {finding.code}: {finding.reason}; {finding.remedy}"
    if chosen.split is None:  # of a draw from the training split there is less to doubt
        for code, why in result.skipped.items():
            if code not in request.ignored:
                yield f"calibration: {code} was not looked for: {why}"


def _record(
    chosen: CalibrationSet,
    training: PixelStatistics | None,
    result: LintResult,
    request: CalibrationRequest,
) -> dict[str, Any]:
    return {
        "split": chosen.split,
        "pictures": len(chosen),
        "per_class": None
        if chosen.labels is None
        else dict(sorted(Counter(chosen.labels).items())),
        "seed": chosen.seed,
        "copies_left_out": chosen.left_out,
        "training_pixels": training.to_json() if training else None,
        "lint": {
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity,
                    "reason": finding.reason,
                    "ignored": finding.code in request.ignored,
                }
                for finding in result.findings
            ],
            "not_looked_for": result.skipped,
        },
    }


def _recorded(trained: TrainedModel) -> PixelStatistics | None:
    """The training pixels as an earlier conversion of the same run recorded them."""
    if trained.recipe is None:
        return None
    run = RunDirectory(trained.path.parent)
    trained_on = run.read_report().get("data", {}).get("fingerprint")
    for path in sorted((*run.path.glob("*.tflite"), *run.path.glob("*.onnx"))):
        try:
            manifest = read_container(path).manifest
            if manifest is None or manifest.provenance["data"]["fingerprint"] != trained_on:
                continue
            return statistics_from(manifest.provenance["calibration"]["training_pixels"])
        except (ArtifactError, KeyError, TypeError, ValueError):
            continue  # of an older version, not ours, or damaged: nothing to compare with
    return None
