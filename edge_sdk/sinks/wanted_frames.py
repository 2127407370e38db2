"""Which frames are worth keeping for the next training."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.errors import SinkSpecError
from edge_sdk.records import FrameRecord


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which frames are kept: whichever of these holds. None switches one off.

    Attributes:
        below_score: the best score (0..1) is below this.
        below_margin: the best two scores are closer than this.
        per_hour: so many an hour whatever the model says, evenly spread: the uncertain ones alone
            would teach it a crooked world.
    """

    below_score: float | None = 0.6
    below_margin: float | None = None
    per_hour: float | None = None


def is_uncertain(record: FrameRecord, wanted: Wanted) -> bool:
    """Whether score or margin make a frame worth keeping."""
    if not record.topk:
        return False
    best = record.topk[0].score
    if wanted.below_score is not None and best < wanted.below_score:
        return True
    if wanted.below_margin is None or len(record.topk) < 2:
        return False
    return best - record.topk[1].score < wanted.below_margin


def check(wanted: Wanted, max_bytes: int) -> None:
    """Looks at what somebody asked for.

    Raises:
        SinkSpecError: a score or number out of range, or nothing is wanted at all.
    """
    if wanted == Wanted(None, None, None):
        raise SinkSpecError(
            "no frame would ever be kept; name a score, a margin, or so many per hour"
        )
    for what, value in (("score", wanted.below_score), ("margin", wanted.below_margin)):
        if value is not None and not 0 <= value <= 1:
            raise SinkSpecError(f"a {what} of {value}; expected 0 to 1, as in 0.6")
    if wanted.per_hour is not None and not 0 < wanted.per_hour <= 3600:
        raise SinkSpecError(f"{wanted.per_hour} frames per hour; expected more than 0, up to 3600")
    if max_bytes < 1:
        raise SinkSpecError(f"a quota of {max_bytes} bytes; expected 1 or more")
