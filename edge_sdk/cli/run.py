"""``edgecls run``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

if TYPE_CHECKING:
    from contextlib import ExitStack

    from edge_sdk.cli.run_options import Source
    from edge_sdk.hotswap import ReloadingClassifier
    from edge_sdk.loop.decisions import Decisions
    from edge_sdk.loop.sampling import Attention
    from edge_sdk.loop.statistics import LiveStatistics, RunStatistics
    from edge_sdk.ports import Sink
    from edge_sdk.sinks.spool import Spool, SpoolStatistics
    from edge_sdk.sinks.web.uploads import Uploads


class SinkOptions(NamedTuple):
    """The sink options of the command line; None where an option was not given."""

    log_file: Path | None
    mqtt: str | None
    webhook: str | None
    metrics: str | None
    save_frames: Path | None
    web: str | None
    spool: Path | None
    service: str | None = None

    def open(
        self, stack: ExitStack, statistics: LiveStatistics, *, as_json: bool, live: bool
    ) -> list[Sink]:
        """Opens all sinks; ``stack`` closes them.

        Spools come first: a process killed between two sinks has then printed no record that its spool
        lacks. With a camera, only a failure of standard output ends the run; with files, a failure of
        the log file does too, because a batch needs a complete log.
        """
        from edge_sdk.cli.output import LiveText, TextLines
        from edge_sdk.loop.run import close_together
        from edge_sdk.sinks.extra import as_extra
        from edge_sdk.sinks.jsonl import JsonLines, open_json_lines

        sinks: list[Sink] = []
        stack.callback(lambda: close_together(sinks))
        spools = self._open_spools(sinks)
        if self.log_file is not None:
            log_file = self.log_file
            sinks.append(
                as_extra(log_file.name, lambda: open_json_lines(log_file))
                if live
                else open_json_lines(log_file)
            )
        sinks.append(JsonLines() if as_json else LiveText() if live else TextLines())
        if self.save_frames is not None:
            from edge_sdk.sinks.save_frames import open_save_frames

            folder = self.save_frames
            sinks.append(as_extra(folder.name, lambda: open_save_frames(folder)))
        if self.metrics is not None:
            from edge_sdk.sinks.metrics import open_metrics

            place = self.metrics
            sinks.append(
                as_extra(
                    "metrics",
                    lambda: open_metrics(
                        place,
                        dropped=lambda: statistics.dropped,
                        spools={name: _statistics_of(spool) for name, spool in spools.items()},
                    ),
                )
            )
        return sinks

    def open_page(
        self, statistics: LiveStatistics, open_uploads: Callable[[], Uploads]
    ) -> list[Sink]:
        """Opens the web page if ``--web`` is set, and prints its URL; a list of one sink or none."""
        if self.web is None:
            return []
        from edge_sdk.sinks.extra import as_extra
        from edge_sdk.sinks.web.sink import open_web

        page = open_web(self.web, statistics, uploads=open_uploads())
        click.echo(f"web page: {page}", err=True)
        return [as_extra("web page", lambda: page)]

    def _open_spools(self, sinks: list[Sink]) -> dict[str, Spool]:
        spools: dict[str, Spool] = {}
        if self.mqtt is not None:
            from edge_sdk.sinks.mqtt import open_mqtt

            spool = open_mqtt(self.mqtt, service=self.service, spool_path=self._spool("mqtt"))
            sinks.append(spool)
            spools["mqtt"] = spool
        if self.webhook is not None:
            from edge_sdk.sinks.webhook import open_webhook

            spool = open_webhook(
                self.webhook, service=self.service, spool_path=self._spool("webhook")
            )
            sinks.append(spool)
            spools["webhook"] = spool
        return spools

    def _spool(self, kind: str) -> Path | None:
        """The spool file of a receiver: with two receivers, each has its own."""
        if self.spool is None or self.mqtt is None or self.webhook is None:
            return self.spool
        return self.spool.with_name(f"{self.spool.name}.{kind}")


def _statistics_of(spool: Spool) -> Callable[[], SpoolStatistics]:
    return lambda: spool.statistics


def sink_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``SinkOptions``, given to the callback as ``sinks``."""

    @wraps(function)
    def collected(**values: Any) -> Any:
        sinks = SinkOptions(*(values.pop(name) for name in SinkOptions._fields))
        if sinks.spool is not None and sinks.mqtt is None and sinks.webhook is None:
            raise click.UsageError(
                "--spool FILE holds records for --mqtt or --webhook; add one of them"
            )
        return function(sinks=sinks, **values)

    log_file = click.option(
        "--log-file",
        metavar="PATH",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Append JSON lines to a file, rotated at 16 MB; five old files are kept.",
    )
    mqtt = click.option(
        "--mqtt",
        metavar="URL",
        help="Send records to a broker: mqtt://HOST[:PORT][/TOPIC], mqtts:// encrypts. Name and "
        "password: $EDGECLS_MQTT_USERNAME, $EDGECLS_MQTT_PASSWORD.",
    )
    webhook = click.option(
        "--webhook",
        metavar="URL",
        help="POST records to a server. Token: $EDGECLS_WEBHOOK_TOKEN.",
    )
    metrics = click.option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve Prometheus metrics at /metrics; a port alone: on this machine only.",
    )
    save_frames = click.option(
        "--save-frames",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Keep uncertain pictures for the next training, 1 GB at most.",
    )
    web = click.option(
        "--web",
        metavar="[HOST:]PORT",
        help="Serve a live page; a port alone: on this machine only. Another HOST needs "
        "$EDGECLS_WEB_TOKEN.",
    )
    spool = click.option(
        "--spool",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Keep records for --mqtt or --webhook here until they are delivered, one process per file; "
        "with both, FILE.mqtt and FILE.webhook  [default: a file per URL in this user's state folder].",
    )
    service = click.option(
        "--name",
        "service",
        metavar="NAME",
        help="Name of this run among others on this device: in topics, records and Home Assistant "
        " [default: $EDGECLS_SERVICE, which edgecls service install sets].",
    )
    return log_file(mqtt(webhook(spool(service(metrics(save_frames(web(collected))))))))


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
    help="Keep a copy of the last good model, and start with it if MODEL is bad.",
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

    MODEL may be set in $EDGECLS_MODEL. It may be replaced during the run (rename the new file over
    the old one, or send SIGHUP): a good model takes over between two frames, a bad one is refused, and
    the next start uses a copy of the last good one.

    \b
    SPEC is one of
      auto             the Pi camera, else the first webcam (this is the default)
      picamera[:N]     webcam[:N]     /dev/videoN     rtsp://...     http://...
      fake:PATH?fps=30&stall@100      pictures or a video, played as a camera with faults

    A picture that cannot be read is reported, the run continues, and with --source the exit code is
    1. Ctrl-C and SIGTERM stop the run cleanly.

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
    """Classifies viewers' pictures as the loop classifies frames, with a second copy of the model."""
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
