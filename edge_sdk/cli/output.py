"""What the device commands print: records for people, notes on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from edge_sdk.artifact import Artifact
from edge_sdk.terminal import one_line
from edge_sdk.types import (
    ClassificationRecord,
    ErrorRecord,
    EventRecord,
    FrameRecord,
    HealthRecord,
    Record,
)

# An unchanged answer is printed again after this long: a terminal without output looks hung.
_REPEAT_S = 10.0


class TextLines:
    """A sink for people: one line per answer on standard output, errors on standard error."""

    def write(self, record: Record) -> None:
        """Prints one line."""
        match record:
            case FrameRecord():
                _echo(f"{_place(record)}  {_answer(record)}  {_total_ms(record):.1f} ms")
            case EventRecord():
                _echo(f"{_place(record)}  {_event(record)}")
            case ClassificationRecord():
                _echo(f"{record.path}  {_answer(record)}")
            case ErrorRecord():
                _echo(f"{record.path}: {record.error}", err=True)
            case HealthRecord():
                _echo(f"{record.source}: {record.what}: {record.detail}", err=True)

    def close(self) -> None:
        """Does nothing: there is no resource to release."""


class LiveText:
    """A sink for people with a camera: a line when the answer changes, and one every 10 s.

    One line per frame is too fast to read and fills a log.

    Args:
        clock: monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines = TextLines()
        self._printed: dict[str | None, tuple[str | None, float]] = {}

    def write(self, record: Record) -> None:
        """Prints a record, unless it repeats the last answer of its region within 10 s."""
        if not isinstance(record, FrameRecord):
            self._lines.write(record)
            return
        now_s = self._clock()
        label, printed_s = self._printed.get(record.region, (None, -_REPEAT_S))
        if label == record.label and now_s - printed_s < _REPEAT_S:
            return
        self._printed[record.region] = record.label, now_s
        age = "" if record.age_ms is None else f", {record.age_ms:.0f} ms old"
        where = f"  {record.region}" if record.region else ""
        text = f"{record.ts[11:19]}{where}  {_answer(record)}  {_total_ms(record):.1f} ms{age}"
        _echo(text)

    def close(self) -> None:
        """Does nothing: there is no resource to release."""


def _echo(text: str, *, err: bool = False) -> None:
    """Prints one line per record, whatever characters names and labels contain."""
    click.echo(one_line(text), err=err)


def _place(record: FrameRecord | EventRecord) -> str:
    return f"{record.source} [{record.region}]" if record.region else record.source


def _total_ms(record: FrameRecord) -> float:
    return record.preprocess_ms + record.inference_ms + record.postprocess_ms


def _event(record: EventRecord) -> str:
    if record.what == "left":
        return f"{record.label} left after {record.seconds:.1f} s"
    return f"{record.label} appeared ({record.score:.2f})"


def _answer(record: FrameRecord | ClassificationRecord) -> str:
    best = f"{record.label if record.label is not None else 'unknown'} {record.score:.3f}"
    skip = 1 if record.label is not None else 0
    others = ", ".join(f"{label} {score:.3f}" for label, score in record.topk[skip:])
    return f"{best}  ({others})" if others else best


def echo_notes(artifact: Artifact) -> None:
    """Prints on standard error what was assumed about a model."""
    for note in artifact.notes:
        click.echo(f"Note: {note}", err=True)
