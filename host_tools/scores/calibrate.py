"""Score calibration: runs artifacts, fits temperatures and thresholds, reports and writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ConversionError, ValidationError
from edge_sdk.plain import to_plain
from edge_sdk.vision.images import MAX_PIXELS
from host_tools.data.layouts import find_pictures
from host_tools.data.load import Dataset
from host_tools.extras import require
from host_tools.package import set_scores
from host_tools.predict import Opening, open_classifier, recorded_rule
from host_tools.recipe import ScoresRecipe
from host_tools.scores.fit import FitRequest, Fitted, Goal, Mean, ScoreFigures, ScoreFit, Share, fit
from host_tools.scores.gather import Gathered, ScoredPictures, gather, gather_prepared


def to_json(done: list[Calibrated]) -> dict[str, Any]:
    """The JSON object of ``edgecls calibrate-scores --json``; ``docs/json.md`` lists its keys."""
    return {
        "schema": 1,
        "type": "score_calibration",
        "artifacts": [
            artifact_json(one.path, one.format, one.fitted, written=one.written) for one in done
        ],
    }


def artifact_json(path: Path, format_: str, fitted: Fitted, *, written: bool) -> dict[str, Any]:
    """One artifact of it."""
    goal, few, temperature = fitted.request.goal, fitted.too_few, fitted.temperature
    return {
        "path": str(path),
        "format": format_,
        "temperature": {
            "value": temperature.value,
            "ci95": to_plain(temperature.ci95),
            "n": temperature.n,
            "mistakes": temperature.mistakes,
            "reason": temperature.reason,
        },
        "threshold": {
            "value": None if few else fitted.threshold,
            "goal": goal.kind if goal else None,
            "wanted": goal.wanted if goal else None,
            "needed": few.needed if few else None,
        },
        "before": _score_fit_json(fitted.before),
        "after": _score_fit_json(fitted.after),
        "fit": _figures(fitted.fit),
        "report": _figures(fitted.report),
        "verdict": fitted.verdict,
        "written": written,
    }


def to_lines(done: list[Calibrated]) -> Iterator[str]:
    """The same as text."""
    for one in done:
        fitted, figures = one.fitted, one.fitted.report
        temperature = fitted.temperature
        yield f"{one.path}  verdict {fitted.verdict}{'' if one.written else ', not written'}"
        interval = ""
        if temperature.ci95:
            interval = f"  ({temperature.ci95[0]:.3f} to {temperature.ci95[1]:.3f})"
        yield f"  temperature         {temperature.value:.3f}{interval}"
        if fitted.too_few:
            yield f"  threshold           none: {_too_few(fitted)}"
        elif fitted.request.goal:
            yield f"  threshold           {fitted.threshold:.4f}  for {in_words(fitted)}"
        yield f"  on the {figures.accuracy.n:,} pictures reported on, with 95 % intervals:"
        rows = [
            ("accuracy", figures.accuracy),
            ("coverage", figures.coverage),
            ("selective accuracy", figures.selective_accuracy),
            ("wrong ones caught", figures.wrong_caught),
            ("false accepts", figures.false_accepts),
        ]
        for name, measured in rows:
            if measured is not None:
                yield f"    {name:<18}  {share_text(measured)}"
        for name, before, after in (
            ("ECE", fitted.before.ece, fitted.after.ece),
            ("NLL", fitted.before.nll, fitted.after.nll),
        ):
            yield f"    {name:<18}  {mean_text(before)}, with the temperature {mean_text(after)}"


def in_words(fitted: Fitted) -> str:
    """The goal."""
    goal = fitted.request.goal
    assert goal is not None
    wanted = f"{100 * goal.wanted:g} %"
    return {
        "coverage": f"at least {wanted} of known pictures answered",
        "false_accept": f"at most {wanted} of unknown pictures answered",
        "accuracy": f"at least {wanted} of the answers right",
    }[goal.kind]


def advice(fitted: Fitted) -> str | None:
    """What to do where the verdict is not *pass*; None where it is."""
    if fitted.verdict == "fail":
        return (
            f"{in_words(fitted)} holds on the pictures that chose the threshold, and not on the "
            "others: they are of another kind; choose it on pictures like those the model will see"
        )
    if fitted.verdict == "inconclusive":
        return _too_few(fitted) if fitted.too_few else fitted.temperature.reason
    return None


def share_text(measured: Share) -> str:
    """``94.10 % (93.62 to 94.55), 9,410 of 10,000``."""
    if measured.value is None or measured.ci95 is None:
        return "none of none"
    low, high = (100 * end for end in measured.ci95)
    share = f"{100 * measured.value:.2f} % ({low:.2f} to {high:.2f})"
    return f"{share}, {measured.count:,} of {measured.n:,}"


def mean_text(measured: Mean) -> str:
    """``0.0412 (0.0380 to 0.0450)``."""
    return f"{measured.value:.4f} ({measured.ci95[0]:.4f} to {measured.ci95[1]:.4f})"


def _too_few(fitted: Fitted) -> str:
    few = fitted.too_few
    assert few is not None
    of = f"{few.n:,} pictures to choose by"
    if few.needed is None:
        return (
            f"no threshold on {of} can guarantee {in_words(fitted)} and still answer known ones; give "
            "more pictures, or a lower goal"
        )
    return f"{of} are too few to guarantee {in_words(fitted)}; at least {few.needed:,} are needed"


def _score_fit_json(measured: ScoreFit) -> dict[str, Any]:
    return {"nll": to_plain(measured.nll), "ece": to_plain(measured.ece)}


def _figures(figures: ScoreFigures) -> dict[str, Any]:
    return {
        name: to_plain(getattr(figures, name))
        for name in (
            "accuracy",
            "coverage",
            "selective_accuracy",
            "wrong_caught",
            "false_accepts",
        )
    }


Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """One artifact: its scores, what was fitted on them, and whether that was written."""

    path: Path
    format: str
    gathered: Gathered
    fitted: Fitted
    written: bool


def calibrate_scores(
    artifacts: Sequence[Path],
    data: Path,
    request: FitRequest,
    *,
    unknown: Sequence[Path] = (),
    layout: str = "auto",
    fresh: bool = False,
    opening: Opening | None = None,
    max_pixels: int = MAX_PIXELS,
    write: bool = True,
    note: Note = lambda _: None,
) -> list[Calibrated]:
    """Fits on the artifacts' own scores, and writes what holds into their manifests.

    Args:
        artifacts: of ours, at least one.
        data: labelled pictures.
        request: what to fit.
        unknown: folders and files of pictures of other things than the model's classes.
        layout: of ``data``, see ``find_pictures``.
        fresh: the models were not trained on any of ``data``: one half is to fit on, the other to
            report on. Otherwise the splits are those of the training.
        opening: the backend, and its threads.
        max_pixels: larger pictures are left out.
        write: False: report the result without writing it.
        note: called with each message for the user.

    Raises:
        ArtifactError: a model that does not open.
        ConversionError: a model that edgecls did not make: there is no manifest to write into.
        ValidationError: classes that are not labels, or a model without recorded splits.
        DatasetError: a folder that is not a data set, or has no pictures to fit or report on.
        MissingExtraError: SciPy is not installed.
        WriteError: the disk is full; the artifact stays as it was.
    """
    require("scipy.stats")  # before a thousand pictures are read
    for path in artifacts:
        _require_own(path)
    folder = find_pictures(data, layout)
    with ExitStack() as stack:
        classifiers = [
            stack.enter_context(open_classifier(path, opening or Opening(), note))
            for path in artifacts
        ]
        rule = None
        if not fresh:
            rules = {recorded_rule(classifier.artifact) for classifier in classifiers}
            rule = next(iter(rules))
            if len(rules) > 1 or rule is None:
                raise ValidationError(
                    f"{', '.join(map(str, artifacts))}: record no split of their training pictures, "
                    "or different ones; name artifacts of one recipe, or give --data pictures that "
                    "they were not trained on, and --split all"
                )
        pictures = ScoredPictures(folder, rule, tuple(unknown), max_pixels)
        gathered = gather(classifiers, pictures, note)
        formats = [classifier.artifact.format for classifier in classifiers]
    return [
        _one(path, format_, part, request, "all" if fresh else "validation", write, note)
        for path, format_, part in zip(artifacts, formats, gathered, strict=True)
    ]


def calibrate_built(
    artifacts: Sequence[Path], dataset: Dataset, recipe: ScoresRecipe, note: Note = lambda _: None
) -> None:
    """The same for artifacts just converted, by their recipe, on the data set of the training.

    What cannot be guaranteed is left out with a message.

    Args:
        artifacts, dataset: made from it, and loaded for them.
        recipe: what to fit; it may be nothing.
        note: called with what was fitted.

    Raises:
        DatasetError: no validation or no test pictures.
        WriteError: the disk is full.
    """
    if recipe == ScoresRecipe():
        return
    goal = None
    if recipe.coverage is not None:
        goal = Goal("coverage", recipe.coverage)
    elif recipe.accuracy is not None:
        goal = Goal("accuracy", recipe.accuracy)
    request = FitRequest(recipe.temperature, goal)
    for path in artifacts:
        with Classifier.open(path) as classifier:
            format_, gathered = classifier.artifact.format, gather_prepared(classifier, dataset)
        done = _one(path, format_, gathered, request, "validation", True, note)
        if (why := advice(done.fitted)) is not None:
            note(f"{path}: scores are left as they are: {why}")


def _one(
    path: Path,
    format_: str,
    gathered: Gathered,
    request: FitRequest,
    split: str,
    write: bool,
    note: Note,
) -> Calibrated:
    fitted = fit(gathered, request)
    if request.temperature and fitted.temperature.reason:
        note(f"{path}: the temperature stays 1: {fitted.temperature.reason}")
    written = write and fitted.verdict == "pass"
    if written:
        _note_dropped(path, fitted, note)
        entry = artifact_json(path, format_, fitted, written=True)
        record = {"split": split} | {
            key: value for key, value in entry.items() if key not in ("path", "format", "written")
        }
        set_scores(path, fitted.temperature.value, fitted.threshold, record)
        note(f"wrote temperature and threshold into {path}")
    return Calibrated(path, format_, gathered, fitted, written)


def _note_dropped(path: Path, fitted: Fitted, note: Note) -> None:
    """Reports a dropped threshold: it was chosen for the scores before the new temperature."""
    manifest = Artifact.open(path).manifest
    if manifest is not None and manifest.threshold > 0 and fitted.request.goal is None:
        note(
            f"{path}: its threshold of {manifest.threshold:.3g} is removed, since it was chosen for "
            f"scores at temperature {manifest.temperature:.3g}; to set one again, run "
            "calibrate-scores with a goal, as in --coverage 0.95"
        )


def _require_own(path: Path) -> None:
    if Artifact.open(path).manifest is None:
        raise ConversionError(
            f"{path}: not an artifact of edgecls, so it has no manifest to keep a temperature and a "
            "threshold in; expected what edgecls convert writes; give --threshold to edgecls run"
        )
