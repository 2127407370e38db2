"""The lint of a representative dataset: faults that TensorFlow's converter accepts silently.

``docs/calibration.md`` has the table of codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.container import read_container
from edge_sdk.errors import ArtifactError, ConversionError
from edge_sdk.vision.images import MAX_PIXELS
from host_tools.data.load import Dataset
from host_tools.data.pictures import SPLITS, Split
from host_tools.quantize.activations import Observed, RangeGrowth, observe, range_growth
from host_tools.quantize.calibrate import (
    CalibrationSet,
    PixelStatistics,
    drawn_from,
    read_folder,
    statistics_from,
    statistics_of,
    statistics_of_split,
)
from host_tools.quantize.graph import Graph
from host_tools.recipe import Recipe, preprocessing_of
from host_tools.run_directory import RunDirectory, TrainedModel

Severity = Literal["error", "warning"]

# TensorFlow's guide to post-training quantisation asks for "around ~100-500 samples".
FEW = 100
# A set of which more than this share are copies is smaller than it looks.
REPEATED = 0.1
# How far the set's mean may be from the training split's, in standard deviations of its pixels, and
# by what factor the standard deviations may differ. Single classes of CIFAR-10, TrashNet and
# tiny-imagenet stay within 0.28 and 1.23; divided by 255, standardised or mean-subtracted sets of
# them are beyond one or the other (docs/calibration.md).
_SHIFT = 0.5
_SPREAD = 1.5
# Below this number of pictures neither is compared, and any difference of means must exceed
# this many standard errors.
_COMPARABLE = 10
_STANDARD_ERRORS = 4.0
# Red less blue shows the order of channels only where the split's colour cast exceeds this share
# of the deviation between pictures, and this many of 255 counts.
_CAST = 0.25
_CAST_COUNTS = 3.0
# Of an activation's range, the part that the second half of the pictures added. Sound draws of 100
# and more pictures stay about or below a quarter (docs/calibration.md).
UNSTABLE = 1 / 3
# Codes of sets that resemble a few pictures, not the whole split.
_ALIKE = ("one-class", "repeated")


@dataclass(frozen=True, slots=True)
class Rule:
    """The meaning of a code.

    Attributes:
        severity: error: the conversion stops; warning: a message.
        meaning: the fault in a few words.
        remedy: what to do about it.
    """

    severity: Severity
    meaning: str
    remedy: str


RULES: dict[str, Rule] = {
    "one-class": Rule(
        "error",
        "every picture is of one class",
        "take pictures of every class: --data DIR alone draws them evenly from the training split",
    ),
    "repeated": Rule(
        "error",
        "the same picture is in the set several times",
        "delete the copies and put other pictures there; edgecls data check DIR lists copies",
    ),
    "too-few": Rule(
        "warning",
        "fewer pictures than ranges need",
        "add pictures, or raise --calibration-images where there are more",
    ),
    "value-range": Rule(
        "error",
        "the pixels are not raw 0..255 as in training: normalised twice, or not at all",
        "give the pictures as they come from the camera; normalisation is part of the network",
    ),
    "channels-swapped": Rule(
        "error",
        "the colours fit the training pictures' in the order B, G, R, not R, G, B",
        "write the pictures again in R, G, B (OpenCV's imwrite takes B, G, R)",
    ),
    "overlap": Rule(
        "error",
        "pictures that accuracy is measured on, or chosen by, set the ranges",
        "take them out of the set: --data DIR with --split train draws none of them",
    ),
    "unstable-range": Rule(
        "warning",
        "the range of an activation still grows as pictures are added",
        "add pictures, or raise --calibration-images until this goes away",
    ),
}


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A fault of a calibration set.

    Attributes:
        code: a key of ``RULES``.
        reason: what was found.
    """

    code: str
    reason: str

    @property
    def severity(self) -> Severity:
        """Whether it stops the conversion."""
        return RULES[self.code].severity

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return RULES[self.code].remedy


@dataclass(frozen=True, slots=True)
class LintResult:
    """The result of the lint.

    Attributes:
        findings: in the order of ``RULES``.
        skipped: codes that could not be checked, and why.
    """

    findings: tuple[LintFinding, ...]
    skipped: dict[str, str]


@dataclass(frozen=True, slots=True)
class LintReference:
    """What a calibration set is compared with.

    Attributes:
        classes: how many the model has.
        training: pixels of its training split, None where unknown.
        evaluated: digests of the pictures it is validated and tested on, None where unknown.
        growth: measures how far activation ranges grow, see ``range_growth``; None: do not.
    """

    classes: int
    training: PixelStatistics | None
    evaluated: Collection[str] | None
    growth: Callable[[CalibrationSet], Sequence[RangeGrowth]] | None


class _UncheckedError(Exception):
    """Why a code cannot be checked."""


def lint(calibration: CalibrationSet, reference: LintReference) -> LintResult:
    """Checks for every fault of ``RULES``, and lists the codes that cannot be checked."""
    found: list[LintFinding] = []
    skipped: dict[str, str] = {}
    for code in RULES:
        try:
            reason = _CHECKS[code](calibration, reference, {finding.code for finding in found})
        except _UncheckedError as why:
            skipped[code] = str(why)
            continue
        if reason is not None:
            found.append(LintFinding(code, reason))
    return LintResult(tuple(found), skipped)


def _one_class(calibration: CalibrationSet, _: LintReference, __: set[str]) -> str | None:
    if calibration.labels is None:
        raise _UncheckedError("the pictures are not labelled")
    if len(set(calibration.labels)) > 1 or len(calibration) == 1:
        return None
    return f"all {len(calibration)} pictures are of {calibration.labels[0]!r}"


def _repeated(calibration: CalibrationSet, _: LintReference, __: set[str]) -> str | None:
    counts = Counter(calibration.digests)
    copies = len(calibration) - len(counts)
    if copies <= REPEATED * len(calibration):
        return None
    most = max(counts.values())
    return (
        f"{copies} of {len(calibration)} pictures are copies of others, pixel for pixel; one "
        f"occurs {most} times"
    )


def _too_few(calibration: CalibrationSet, reference: LintReference, _: set[str]) -> str | None:
    wanted = max(FEW, reference.classes)
    if len(calibration) >= wanted:
        return None
    why = f", one of each of {wanted} classes" if wanted > FEW else ""
    return f"{len(calibration)} pictures, expected at least {wanted}{why}"


def _value_range(
    calibration: CalibrationSet, reference: LintReference, before: set[str]
) -> str | None:
    seen, training = statistics_of(calibration.pixels), reference.training
    if seen.lowest < 0 or seen.highest > 255:
        return f"pixels from {seen.lowest:g} to {seen.highest:g}, expected 0 to 255"
    if seen.highest <= 1 and (training is None or training.highest > 1):
        return f"no pixel is above {seen.highest:g}, expected 0 to 255"
    if training is None:
        raise _UncheckedError("the training split's pixels are not known, only 0..1 is ruled out")
    if not before.isdisjoint(_ALIKE):
        raise _UncheckedError("the pictures are too alike to represent the training split")
    if len(calibration) < _COMPARABLE:
        raise _UncheckedError(f"{len(calibration)} pictures are too few to compare")
    standard_error = training.picture_mean_std / np.sqrt(len(calibration))
    allowed = max(_SHIFT * max(training.std, 1.0), _STANDARD_ERRORS * standard_error)
    ratio = max(seen.std, 1.0) / max(training.std, 1.0)
    if (
        abs(seen.overall_mean - training.overall_mean) <= allowed
        and 1 / _SPREAD <= ratio <= _SPREAD
    ):
        return None
    return (
        f"pixels with mean {seen.overall_mean:.1f} and standard deviation {seen.std:.1f}, in training "
        f"{training.overall_mean:.1f} and {training.std:.1f}"
    )


def _channels_swapped(
    calibration: CalibrationSet, reference: LintReference, before: set[str]
) -> str | None:
    training = reference.training
    if calibration.pixels.shape[-1] == 1:
        raise _UncheckedError("a gray model has no order of channels")
    if training is None:
        raise _UncheckedError("the training split's pixels are not known")
    if not before.isdisjoint({*_ALIKE, "value-range"}):
        raise _UncheckedError("another fault changes the colours")
    cast = abs(training.red_less_blue)
    if cast < max(_CAST_COUNTS, _CAST * training.red_less_blue_std):
        raise _UncheckedError(
            "red and blue of the training split are too alike to distinguish them"
        )
    seen = np.array(statistics_of(calibration.pixels).mean)
    expected = np.array(training.mean)
    # Brightness is independent of the order.
    seen, expected = seen - seen.mean(), expected - expected.mean()
    as_rgb = float(np.linalg.norm(seen - expected))
    as_bgr = float(np.linalg.norm(seen - expected[::-1]))
    standard_error = training.red_less_blue_std / np.sqrt(len(calibration))
    moved = abs((seen[0] - seen[2]) - training.red_less_blue)
    if as_bgr >= as_rgb / 2 or moved <= _STANDARD_ERRORS * standard_error:
        return None
    return (
        f"red is on average {seen[0] - seen[2]:+.1f} from blue, in training "
        f"{training.red_less_blue:+.1f}"
    )


def _overlap(calibration: CalibrationSet, reference: LintReference, _: set[str]) -> str | None:
    if reference.evaluated is None:
        raise _UncheckedError("without --data the validation and test pictures are not known")
    known = sum(digest in reference.evaluated for digest in calibration.digests)
    if not known:
        return None
    return f"{known} of {len(calibration)} pictures are in the validation or test split, pixel for pixel"


def _unstable_range(
    calibration: CalibrationSet, reference: LintReference, before: set[str]
) -> str | None:
    if reference.growth is None:
        raise _UncheckedError("not measured")
    if before:
        raise _UncheckedError(
            f"not measured on a set that is found to be {' and '.join(sorted(before))}"
        )
    moved = [growth for growth in reference.growth(calibration) if growth.share > UNSTABLE]
    if not moved:
        return None
    worst = moved[0]
    half = len(calibration) // 2
    more = f", as do {len(moved) - 1} more" if len(moved) > 1 else ""
    return (
        f"{worst.tensor} goes from {worst.half[0]:.3g}..{worst.half[1]:.3g} on the first {half} pictures "
        f"to {worst.whole[0]:.3g}..{worst.whole[1]:.3g} on all {len(calibration)}{more}"
    )


_Check = Callable[[CalibrationSet, LintReference, set[str]], str | None]
_CHECKS: dict[str, _Check] = {
    "one-class": _one_class,
    "repeated": _repeated,
    "too-few": _too_few,
    "value-range": _value_range,
    "channels-swapped": _channels_swapped,
    "overlap": _overlap,
    "unstable-range": _unstable_range,
}


Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """Which pictures the user chose for calibration.

    Attributes:
        split: of the data set to draw them from.
        folder: of pictures to take instead, None to draw from the data set.
        ignored: codes of the lint that do not stop the conversion.
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
        observed: the float network's activations on them.
        record: for the artifact's provenance: which pictures, and the result of the lint.
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
    note: Note,
) -> CheckedCalibration | None:
    """Chooses calibration pictures, and stops at what the lint calls an error.

    Args:
        graph: of the float model.
        trained: where it comes from.
        recipe, labels: of the model.
        dataset: the one it was trained on, as far as known.
        count: how many pictures, at most.
        request: from where.
        note: called with warnings, and with what could not be checked.

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
            note=note,
        )
    elif dataset is not None:
        chosen = drawn_from(dataset, request.split, count, seed)
        if chosen.left_out:
            note(
                f"{chosen.left_out} pictures are copies of others, in this split or another, and are "
                "left out of the calibration"
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

    result = lint(chosen, LintReference(len(labels), training, evaluated, growth))
    for line in _messages(result, request, chosen):
        note(line)
    fatal = [
        finding
        for finding in result.findings
        if finding.severity == "error" and finding.code not in request.ignored
    ]
    if fatal:
        faults = "; ".join(f"{f.code}: {f.reason}; {f.remedy}" for f in fatal)
        flags = " ".join(f"--ignore-lint {finding.code}" for finding in fatal)
        raise ConversionError(
            f"these pictures cannot set the ranges: {faults} ({flags} converts anyway)"
        )
    return CheckedCalibration(pixels, observed(), _record(chosen, training, result, request))


def _messages(
    result: LintResult, request: CalibrationRequest, chosen: CalibrationSet
) -> Iterator[str]:
    for finding in result.findings:
        if finding.code in request.ignored:
            yield f"calibration: {finding.code} ignored: {finding.reason}"
        elif finding.severity == "warning":
            yield f"calibration warning: {finding.code}: {finding.reason}; {finding.remedy}"
    if chosen.split is None:  # a draw from the training split needs no such list
        for code, why in result.skipped.items():
            if code not in request.ignored:
                yield f"calibration: {code} was not checked: {why}"


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
