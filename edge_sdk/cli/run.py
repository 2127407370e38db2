"""``edgecls run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_sdk.cli.options import (
    ModelOptions,
    json_option,
    max_megapixels_option,
    model_options,
    threshold_option,
    top_k_option,
)
from edge_sdk.cli.run_options import attention_options, decision_options, source_options
from edge_sdk.cli.run_sinks import SinkOptions, sink_options

if TYPE_CHECKING:
    from edge_sdk.answers import Decisions
    from edge_sdk.attention import Attention
    from edge_sdk.cli.run_options import Source
    from edge_sdk.hotswap import ReloadingClassifier
    from edge_sdk.loop.statistics import LiveStatistics, RunStatistics
    from edge_sdk.sinks.web.uploads import Uploads


@click.command()
@click.argument(
    "model", type=click.Path(path_type=Path), envvar="EDGECLS_MODEL", required=False, default=None
)
@source_options
@max_megapixels_option
@model_options
@top_k_option
@threshold_option
@click.option(
    "--last-good/--no-last-good",
    default=True,
    show_default=True,
    help="Keep a copy of a good model, and start with it where MODEL is bad.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many frames.")
@attention_options
@decision_options
@json_option
@sink_options
def run(
    model: Path,
    source: Source,
    options: ModelOptions,
    top_k: int,
    threshold: float | None,
    last_good: bool,
    limit: int | None,
    attention: Attention,
    decisions: Decisions,
    as_json: bool,
    sinks: SinkOptions,
) -> None:
    """Classify every frame of a camera, or of pictures and videos, one line each.

    MODEL may also stand in $EDGECLS_MODEL. It may be replaced while this runs (rename the new file
    over the old one, or send SIGHUP): a good one takes over between two frames, a bad one is refused,
    and the next start uses a copy of the last good one.

    \b
    SPEC is one of
      auto             the Pi camera, else the first webcam (this is the default)
      picamera[:N]     webcam[:N]     /dev/videoN     rtsp://...     http://...
      fake:PATH?fps=30&stall@100      pictures or a video, played as a camera with faults

    A picture that cannot be read is reported, the loop goes on, and with --source the exit code is
    1. Ctrl-C and SIGTERM end cleanly.

    \b
    Example:
      edgecls run trash_int8.tflite --camera
      edgecls run trash_int8.tflite --source photos/ --json
    """
    from edge_sdk.loop.run import run as run_pipeline
    from edge_sdk.loop.service import Service
    from edge_sdk.loop.statistics import LiveStatistics

    statistics = LiveStatistics()
    models: list[ReloadingClassifier] = []

    def reload_model() -> None:
        for classifier in models:
            classifier.reload()

    service = Service(
        steps=lambda: statistics.steps, status=lambda: _status(statistics), hangup=reload_model
    )

    def work() -> RunStatistics:
        from contextlib import ExitStack

        with ExitStack() as stack:
            classifier = stack.enter_context(
                options.open_reloading(model, decisions.check, last_good=last_good)
            )
            models.append(classifier)
            _check(decisions, classifier.labels)
            opened = sinks.open(stack, statistics, as_json=as_json, live=source.live)
            opened += sinks.open_page(
                statistics,
                lambda: _uploads(
                    classifier, source, options, threshold, decisions=decisions, top_k=top_k
                ),
            )
            how = classifier.artifact.preprocessing
            frames = source.open((how.width, how.height))
            stack.callback(frames.close)
            service.ready()
            return run_pipeline(
                frames,
                classifier,
                opened,
                top_k=top_k,
                threshold=threshold,
                limit=limit,
                attention=attention,
                decisions=decisions,
                stop=service.stop,
                statistics=statistics,
            )

    try:
        done = service.run(work)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_summary(statistics.now())) from None
    click.echo(_summary(done), err=True)
    if done.unreadable and not source.live:
        raise click.exceptions.Exit(1)


def _uploads(
    running: ReloadingClassifier,
    source: Source,
    options: ModelOptions,
    threshold: float | None,
    *,
    decisions: Decisions,
    top_k: int,
) -> Uploads:
    """Answers viewers' pictures as the loop answers frames, with a second copy of its model."""
    from edge_sdk.sinks.web.uploads import Uploads

    return Uploads(
        lambda: options.open_quietly(running.artifact.path),
        lambda: running.artifact.sha256,
        threshold=threshold,
        decisions=decisions,
        top_k=top_k,
        max_pixels=source.max_pixels,
    )


def _check(decisions: Decisions, labels: tuple[str, ...]) -> None:
    try:
        decisions.check(labels)
    except ValueError as error:
        raise click.UsageError(f"--allow, --deny: {error}") from error


def _summary(done: RunStatistics) -> str:
    rate = done.frames / done.seconds if done.seconds else 0.0
    parts = [
        f"{done.frames} frames in {done.seconds:.1f} s ({rate:.0f} per second)",
        f"{done.unreadable} unreadable",
    ]
    for count, word in ((done.dropped, "dropped"), (done.skipped, "skipped")):
        if count:
            parts.append(f"{count} {word}")
    return ", ".join(parts)


def _status(statistics: LiveStatistics) -> str:
    now: Any = statistics.now()
    last = f"; {now.last.label or 'unknown'} {now.last.score:.2f}" if now.last else ""
    return f"{now.frames} frames, {now.fps:.1f} per second{last}"
