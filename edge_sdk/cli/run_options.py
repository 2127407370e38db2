"""What ``run`` looks at and what it makes of it: options of its own, put together as values."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edge_sdk.errors import CameraNotFoundError, SourceNotFoundError, SourceSpecError

if TYPE_CHECKING:
    from edge_sdk.ports import FrameSource
    from edge_sdk.sources.specification import SourceSpec

_ORDER = "the order is: edgecls run MODEL --camera [SPEC]"
_PATIENCE_S = 60.0
_VARIABLE = "EDGECLS_CAMERA"
# Options that take a word: without it they take the model, which stands behind them.
_TAKERS = {
    "web": ("--web", "[HOST:]PORT"),
    "metrics": ("--metrics", "[HOST:]PORT"),
    "mqtt": ("--mqtt", "URL"),
    "webhook": ("--webhook", "URL"),
    "log_file": ("--log-file", "PATH"),
    "save_frames": ("--save-frames", "DIR"),
    "spool": ("--spool", "FILE"),
    "service": ("--name", "NAME"),
    "labels": ("--labels", "FILE"),
}
_MODEL_ENDINGS = (".tflite", ".onnx")


class Source(NamedTuple):
    """Where frames come from: a camera, or files."""

    camera: SourceSpec | None
    paths: tuple[Path, ...]
    max_pixels: int
    give_up_s: float | None

    @property
    def live(self) -> bool:
        """Whether it is a camera."""
        return self.camera is not None

    def open(self, size: tuple[int, int]) -> FrameSource:
        """Opens it for a model whose input is ``size``: ``(width, height)`` in pixels."""
        if self.camera is not None:
            from edge_sdk.sources.camera import open_camera

            try:
                return open_camera(
                    self.camera,
                    size=size,
                    give_up_s=self.give_up_s,
                    max_pixels=self.max_pixels,
                    note=lambda text: click.echo(text, err=True),
                )
            except SourceNotFoundError as error:  # such as one whose driver crashes: exit 5, too
                raise CameraNotFoundError(str(error)) from error
        from edge_sdk.sources.folder import open_files

        return open_files(self.paths, max_pixels=self.max_pixels)


class _Patience(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Seconds, or ``never``, which gives None."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value == "never":
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):  # NaN is neither
            self.fail(f"{value!r}: expected seconds, 0 or more, or the word never", param, ctx)
        return seconds


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--camera``, ``--source``, ``--give-up``, given to the callback as ``source``."""

    @wraps(function)
    def collected(**values: Any) -> Any:
        import os

        names = ("camera", "paths", "max_pixels", "give_up_s")
        camera, paths, max_pixels, give_up_s = (values.pop(name) for name in names)
        model = values["model"]
        _look_for_eaten(values)
        typed = camera is not None
        if camera is None and not paths:
            camera = os.environ.get(_VARIABLE) or None
        spec = parse_camera(camera, model, typed=typed) if camera is not None else None
        if model is None:
            _find_model(values)
            raise click.UsageError(
                "Missing argument 'MODEL' (and there is none in $EDGECLS_MODEL); "
                "edgecls run MODEL --camera, or edgecls run MODEL --source PATH"
            )
        if (camera is None) == (not paths):
            raise click.UsageError(
                "Missing option '--camera' or '--source': give one of both, as in edgecls run "
                f"{model} --camera"
                if camera is None
                else "--camera and --source exclude each other; give one of both"
            )
        return function(source=Source(spec, paths, max_pixels, give_up_s), **values)

    camera = click.option(
        "--camera",
        metavar="[SPEC]",
        is_flag=False,
        flag_value="auto",
        help=f"A camera, see above; without SPEC: auto. A URL with a password stands in ${_VARIABLE}, or "
        "in a file: --camera @FILE.",
    )
    source = click.option(
        "--source",
        "paths",
        metavar="PATH",
        type=click.Path(path_type=Path, exists=True),
        multiple=True,
        help="A folder of pictures, a picture or a video; may be given several times.",
    )
    give_up = click.option(
        "--give-up",
        "give_up_s",
        metavar="SECONDS",
        type=_Patience(),
        default=f"{_PATIENCE_S:g}",
        show_default=True,
        help="Exit with 6 after so long without the camera; never: wait for it without end.",
    )
    return camera(source(give_up(collected)))


def _look_for_eaten(values: dict[str, Any]) -> None:
    """Says which option has taken the next one for its word."""
    for name, (option, word) in _TAKERS.items():
        taken = values.get(name)
        if taken is not None and str(taken).startswith("--"):
            raise click.UsageError(f"{option} takes {word} behind it, and got {taken}")


def _find_model(values: dict[str, Any]) -> None:
    """Says which option has taken the model, where one has."""
    for name, (option, word) in _TAKERS.items():
        taken = values.get(name)
        if taken is not None and str(taken).lower().endswith(_MODEL_ENDINGS):
            from edge_sdk.redaction import redact

            raise click.UsageError(
                f"{option} {redact(str(taken))}: that is a model, and {option} takes {word} behind it; "
                f"as in edgecls run {redact(str(taken))} {option} {word} --camera"
            )


def parse_camera(text: str, model: Path | None = None, *, typed: bool = False) -> SourceSpec:
    """Reads ``--camera``: a camera's specification, or ``@FILE`` with one in it.

    Args:
        text: what was given.
        model: None: ``text`` may have been meant as the model.
        typed: it stands on the command line, where everyone on the machine can read it.

    Raises:
        UsageError: it names no camera; where it may be the model, with the right order of words. A
            password that was typed; a file that others may read.
    """
    from edge_sdk.redaction import holds_secret, redact
    from edge_sdk.sources.specification import parse_source

    if text.startswith("@"):
        from edge_sdk.errors import SinkSpecError
        from edge_sdk.sinks.address import read_secret

        try:
            text, typed = read_secret(Path(text[1:])), False
        except SinkSpecError as error:
            raise click.UsageError(f"--camera {text}: {error}") from error

    if model is None and text.lower().endswith(_MODEL_ENDINGS):
        raise click.UsageError(
            f"--camera {redact(text)}: that is a model, not a camera; {_ORDER}, as in edgecls run "
            f"{redact(text)} --camera"
        )
    try:
        spec = parse_source(text)
    except SourceSpecError as error:
        raise click.UsageError(f"--camera: {error}. If it is the model, {_ORDER}") from error
    if typed and spec.kind == "stream" and holds_secret(text):
        raise click.UsageError(
            f"--camera {redact(text)}: a user, a password or a token on a command line can be read by "
            "everyone on this machine, in the list of processes; write the URL into a file (chmod 600) "
            f"and type --camera @FILE, or set {_VARIABLE}=URL and leave --camera away"
        )
    if not spec.live:
        raise click.UsageError(
            f"--camera {redact(text)}: a file is no camera; for files it is edgecls run MODEL "
            f"--source {redact(text)}; if it is the model, {_ORDER}"
        )
    return spec


def attention_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--every``, ``--max-fps``, ``--roi``, ``--motion``, given as ``attention``."""

    @wraps(function)
    def collected(**values: Any) -> Any:
        from edge_sdk.loop.sampling import Attention, Motion, parse_region

        every, max_fps, regions, motion = (
            values.pop(name) for name in ("every", "max_fps", "regions", "motion")
        )
        try:
            attention = Attention(
                every=every,
                max_fps=max_fps,
                regions=tuple(parse_region(text) for text in regions),
                motion=Motion() if motion else None,
            )
        except ValueError as error:
            raise click.UsageError(f"--roi, --max-fps: {error}") from error
        return function(attention=attention, **values)

    every = click.option(
        "--every",
        metavar="N",
        type=click.IntRange(min=1),
        default=1,
        help="Classify the first of every N frames only.",
    )
    max_fps = click.option(
        "--max-fps",
        metavar="F",
        type=click.FloatRange(min=0, min_open=True),
        help="Classify at most so many frames per second.",
    )
    roi = click.option(
        "--roi",
        "regions",
        metavar="X,Y,W,H",
        multiple=True,
        help="Classify this part, in shares of the picture; NAME=X,Y,W,H names it. May be given "
        "several times.",
    )
    motion = click.option(
        "--motion", is_flag=True, help="Classify only where something moved, and every 10 s."
    )
    return every(max_fps(roi(motion(collected))))


def decision_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--smooth``, ``--allow``, ``--deny``, ``--events``, given as ``decisions``."""

    @wraps(function)
    def collected(**values: Any) -> Any:
        from edge_sdk.loop.decisions import Decisions, Hysteresis, Unsmoothed, parse_smoothing

        smooth, allow, deny, events = (
            values.pop(name) for name in ("smooth", "allow", "deny", "events")
        )
        try:
            smoothing = parse_smoothing(smooth) if smooth else Unsmoothed()
        except ValueError as error:
            raise click.UsageError(f"--smooth: {error}") from error
        if isinstance(smoothing, Hysteresis) and values["threshold"] is not None:
            raise click.UsageError(
                f"--smooth {smooth} has thresholds of its own; leave --threshold off"
            )
        return function(decisions=Decisions(allow, deny, smoothing, events), **values)

    smooth = click.option(
        "--smooth",
        metavar="HOW",
        help="Answer from several frames: majority:N, exponential:WEIGHT or "
        "hysteresis:ENTER,LEAVE[,FRAMES].",
    )
    allow = click.option(
        "--allow", metavar="LABEL", multiple=True, help="Answer with these labels only."
    )
    deny = click.option(
        "--deny", metavar="LABEL", multiple=True, help="Never answer with these labels."
    )
    events = click.option(
        "--events", is_flag=True, help='Also say what appeared, and what left "after 3.2 s".'
    )
    return smooth(allow(deny(events(collected))))
