"""What was fitted, as JSON and as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_tools.scores.figures import Belief, Figures, Mean, Share
from host_tools.scores.fit import Fitted

if TYPE_CHECKING:
    from host_tools.scores.stage import Calibrated


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
    goal, few, temperature = fitted.wish.goal, fitted.too_few, fitted.temperature
    return {
        "path": str(path),
        "format": format_,
        "temperature": {
            "value": temperature.value,
            "ci95": list(temperature.ci95) if temperature.ci95 else None,
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
        "before": _belief(fitted.before),
        "after": _belief(fitted.after),
        "fit": _figures(fitted.fit),
        "report": _figures(fitted.report),
        "verdict": fitted.verdict,
        "written": written,
    }


def to_lines(done: list[Calibrated]) -> Iterator[str]:
    """The same for a person."""
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
        elif fitted.wish.goal:
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
    goal = fitted.wish.goal
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
            f"{in_words(fitted)} was promised by the pictures it was chosen on, and does not hold on the "
            "others: they are of another kind; choose by pictures like those the model will see"
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
            f"no threshold on {of} can promise {in_words(fitted)} and still answer known ones; give more "
            "pictures, or want less of it"
        )
    return f"{of} are too few to promise {in_words(fitted)}; at least {few.needed:,} are needed"


def _belief(belief: Belief) -> dict[str, Any]:
    return {"nll": _plain(belief.nll), "ece": _plain(belief.ece)}


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        name: _plain(getattr(figures, name))
        for name in (
            "accuracy",
            "coverage",
            "selective_accuracy",
            "wrong_caught",
            "false_accepts",
        )
    }


def _plain(measured: Share | Mean | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    plain = asdict(measured)
    return plain | {"ci95": list(plain["ci95"]) if plain["ci95"] else None}
