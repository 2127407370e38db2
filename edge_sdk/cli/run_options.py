"""Options of ``run``: source, sampling and decisions, each collected into one value."""

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
_GIVE_UP_S = 60.0
_VARIABLE = "EDGECLS_CAMERA"
# Options with a required value: without it they take the next argument, such as the model.
_WITH_VALUE = {
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
            except SourceNotFoundError as error:  # such as a camera whose driver crashes: exit 5
                raise CameraNotFoundError(str(error)) from error
        from edge_sdk.sources.folder import open_files

        return open_files(self.paths, max_pixels=self.max_pixels)


class _GiveUpSeconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
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
        _check_swallowed_option(values)
        typed = camera is not None
        if camera is None and not paths:
            camera = os.environ.get(_VARIABLE) or None
        spec = parse_camera(camera, model, typed=typed) if camera is not None else None
        if model is None:
            _check_swallowed_model(values)
            raise click.UsageError(
                "Missing argument 'MODEL' (and there is none in $EDGECLS_MODEL); "
                "edgecls run MODEL --camera, or edgecls run MODEL --source PATH"
            )
        if (camera is None) == (not paths):
            raise click.UsageError(
                "Missing option '--camera' or '--source': give one of them, as in edgecls run "
                f"{model} --camera"
                if camera is None
                else "--camera and --source exclude each other; give one of them"
            )
        return function(source=Source(spec, paths, max_pixels, give_up_s), **values)

    camera = click.option(
        "--camera",
        metavar="[SPEC]",
        is_flag=False,
        flag_value="auto",
        help=f"A camera, see above; without SPEC: auto. Set a URL with a password in ${_VARIABLE}, or in "
        "a file: --camera @FILE.",
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
        type=_GiveUpSeconds(),
        default=f"{_GIVE_UP_S:g}",
        show_default=True,
        help="Exit with 6 after this long without the camera; never: wait without limit.",
    )
    return camera(source(give_up(collected)))


def _check_swallowed_option(values: dict[str, Any]) -> None:
    """Raises UsageError if an option has taken the next option as its value."""
    for name, (option, word) in _WITH_VALUE.items():
        taken = values.get(name)
        if taken is not None and str(taken).startswith("--"):
            raise click.UsageError(f"{option} got {taken}, expected {word}: type {option} {word}")


def _check_swallowed_model(values: dict[str, Any]) -> None:
    """Raises UsageError if an option has taken the model as its value."""
    for name, (option, word) in _WITH_VALUE.items():
        taken = values.get(name)
        if taken is not None and str(taken).lower().endswith(_MODEL_ENDINGS):
            from edge_sdk.redaction import redact

            raise click.UsageError(
                f"{option} {redact(str(taken))}: that is a model, expected {word}; type: "
                f"edgecls run {redact(str(taken))} {option} {word} --camera"
            )


def parse_camera(text: str, model: Path | None = None, *, typed: bool = False) -> SourceSpec:
    """Reads ``--camera``: a camera's specification, or ``@FILE`` with one in it.

    Args:
        text: what was given.
        model: None: ``text`` may be the model.
        typed: it is on the command line, which every user of the machine can read.

    Raises:
        UsageError: it names no camera (if it may be the model, the message gives the right order of
            arguments); it has a password and ``typed``; it is a file that other users may read.
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
            "every user of this machine, in the list of processes; write the URL into a file (chmod "
            f"600) and type --camera @FILE, or set {_VARIABLE}=URL and omit --camera"
        )
    if not spec.live:
        raise click.UsageError(
            f"--camera {redact(text)}: a file is not a camera; for files type edgecls run MODEL "
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
        help="Classify at most this many frames per second.",
    )
    roi = click.option(
        "--roi",
        "regions",
        metavar="X,Y,W,H",
        multiple=True,
        help="Classify this region, in fractions of the picture; NAME=X,Y,W,H names it. May be given "
        "several times.",
    )
    motion = click.option(
        "--motion", is_flag=True, help="Classify only on motion, and at least every 10 s."
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
            raise click.UsageError(f"--smooth {smooth} has its own thresholds; omit --threshold")
        return function(decisions=Decisions(allow, deny, smoothing, events), **values)

    smooth = click.option(
        "--smooth",
        metavar="HOW",
        help="Combine several frames: majority:N, exponential:WEIGHT or "
        "hysteresis:ENTER,LEAVE[,FRAMES].",
    )
    allow = click.option(
        "--allow", metavar="LABEL", multiple=True, help="Answer with these labels only."
    )
    deny = click.option(
        "--deny", metavar="LABEL", multiple=True, help="Never answer with these labels."
    )
    events = click.option(
        "--events", is_flag=True, help='Also report what appeared, and what left "after 3.2 s".'
    )
    return smooth(allow(deny(events(collected))))
