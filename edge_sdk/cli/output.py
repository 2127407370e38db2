"""What the device commands print: records for people, notes on stderr."""

from __future__ import annotations

import click

from edge_sdk.artifact import Artifact
from edge_sdk.records import ClassificationRecord, ErrorRecord, FrameRecord, HealthRecord, Record


class TextLines:
    """A sink for people: one line per answer on standard output, troubles on standard error."""

    def write(self, record: Record) -> None:
        """Prints one line."""
        match record:
            case FrameRecord():
                total = record.preprocess_ms + record.inference_ms + record.postprocess_ms
                click.echo(f"{record.source}  {_answer(record)}  {total:.1f} ms")
            case ClassificationRecord():
                click.echo(f"{record.path}  {_answer(record)}")
            case ErrorRecord():
                click.echo(f"{record.path}: {record.error}", err=True)
            case HealthRecord():
                click.echo(f"{record.source}: {record.what}: {record.detail}", err=True)

    def close(self) -> None:
        """Nothing to give back."""


def _answer(record: FrameRecord | ClassificationRecord) -> str:
    best = f"{record.label if record.label is not None else 'unknown'} {record.score:.3f}"
    skip = 1 if record.label is not None else 0
    others = ", ".join(f"{label} {score:.3f}" for label, score in record.topk[skip:])
    return f"{best}  ({others})" if others else best


def echo_notes(artifact: Artifact) -> None:
    """Tells on standard error what was assumed about a model."""
    for note in artifact.notes:
        click.echo(f"Note: {note}", err=True)
