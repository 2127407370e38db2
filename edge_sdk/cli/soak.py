"""``edgecls soak``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_sdk.cli.group import GATE_FAILED, GATE_INCONCLUSIVE
from edge_sdk.cli.options import ModelOptions, json_option, model_options
from edge_sdk.cli.run_options import parse_camera

if TYPE_CHECKING:
    from edge_sdk.device.soak import Growth, Sample, SoakReport

# 2 MB in 100 minutes, 30 MB a day: a board with 512 MB has room for that until the next update.
_MEMORY_KB = 20.0
# One in 20 minutes: indistinguishable from none within the interval of a short run.
_COUNT = 0.05


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--minutes",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Duration; a slow leak needs hours.",
)
@click.option(
    "--camera",
    metavar="[SPEC]",
    is_flag=False,
    flag_value="auto",
    help="A camera as for run; without: noise pictures at full speed.",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option(
    "--max-growth",
    metavar="KB",
    type=click.FloatRange(min=0),
    default=_MEMORY_KB,
    show_default=True,
    help="Allowed memory growth per minute.",
)
@model_options
@json_option
def soak(
    model: Path,
    minutes: float,
    camera: str | None,
    limit: int | None,
    max_growth: float,
    options: ModelOptions,
    as_json: bool,
) -> None:
    """Run for a while and measure whether memory, descriptors or threads grow.

    Answers are written as JSON lines to a temporary file. Growth is reported as a slope with its 95 %
    interval, after a warm-up: pass if the interval's upper end is within the limit, fail (exit code
    3) if its lower end is above the limit, else inconclusive (4).

    \b
    Example:
      edgecls soak trash_int8.tflite --minutes 60 --camera
    """
    import json

    from edge_sdk.device.soak import judge
    from edge_sdk.loop.service import Service
    from edge_sdk.loop.statistics import LiveStatistics

    spec = None if camera is None else parse_camera(camera, model, typed=True)
    statistics = LiveStatistics()
    service = Service(steps=lambda: statistics.steps)

    def work() -> list[Sample]:
        import tempfile
        from contextlib import ExitStack

        from edge_sdk.device.soak import Noise
        from edge_sdk.device.soak import soak as run_soak
        from edge_sdk.sinks.jsonl import open_json_lines

        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecls-soak-"))
            classifier = stack.enter_context(options.open_reloading(model))
            sink = open_json_lines(Path(folder) / "answers.jsonl", max_bytes=1_000_000, keep=1)
            stack.callback(sink.close)
            how = classifier.artifact.preprocessing
            source: Any = Noise()
            if spec is not None:
                from edge_sdk.sources.camera import open_camera

                source = open_camera(spec, size=(how.width, how.height))
            stack.callback(source.close)
            service.ready()
            return run_soak(
                source,
                classifier,
                [sink],
                seconds=minutes * 60,
                stop=service.stop,
                statistics=statistics,
                limit=limit,
            )

    report = judge(
        service.run(work),
        {
            "rss_bytes": max_growth * 1024,
            "private_bytes": max_growth * 1024,
            "descriptors": _COUNT,
            "threads": _COUNT,
        },
    )
    if as_json:
        click.echo(json.dumps({**report.to_json(), "model": str(model)}))
    else:
        _print(report)
    if report.verdict != "pass":
        raise click.exceptions.Exit(GATE_FAILED if report.verdict == "fail" else GATE_INCONCLUSIVE)


def _print(report: SoakReport) -> None:
    click.echo(f"{report.frames} frames in {report.seconds / 60:.1f} minutes: {report.verdict}")
    for growth in report.growths:
        scale, unit = (1024, " kB") if growth.name.endswith("_bytes") else (1, "")
        click.echo(
            f"  {growth.name.removesuffix('_bytes'):<12}{growth.first / scale:>10.0f} -> "
            f"{growth.last / scale:.0f}{unit}, {_slope(growth, scale)}{unit} per minute"
            + (f"  {growth.verdict}" if growth.verdict else "")
        )


def _slope(growth: Growth, scale: int) -> str:
    value, low, high = (x / scale for x in growth.per_minute)
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
