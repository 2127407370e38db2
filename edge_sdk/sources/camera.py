"""``open_camera``: the door for programs that want frames from a camera, for months."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from edge_sdk.errors import SourceSpecError
from edge_sdk.sources.specification import SourceSpec, parse_source
from edge_sdk.sources.supervised import SupervisedSource

_log = logging.getLogger("edgecls.sources")

_STILL_S = 5.0
# A stream's encoder skips what does not move, until the next key frame and a few more.
_STILL_STREAM_S = 30.0


def open_camera(
    spec: str | SourceSpec = "auto",
    *,
    size: tuple[int, int] | None = None,
    stall_s: float = 2.5,
    give_up_s: float | None = 60.0,
    frozen_s: float | Literal["auto"] | None = "auto",
    changed_s: float | None = 20.0,
    max_pixels: int | None = None,
    say: Callable[[str], None] = _log.info,
) -> SupervisedSource:
    """Opens a camera in a process of its own, and opens it again whenever it hangs or is unplugged.

        with open_camera("fake:photos/?fps=30") as camera:
            frame = camera.read()

    Call it before you handle SIGTERM yourself: it returns when the camera is open or is found to be
    missing, which takes a second mostly, and 15 at most.

    Args:
        spec: ``auto``, ``picamera[:N]``, ``webcam[:N]``, ``/dev/videoN``, a URL, ``fake:PATH?...``,
            or what ``parse_source`` made of one. A file is delivered whole and in order.
        size: ``(width, height)`` of the model's input in pixels; the camera gives at least that.
        stall_s: seconds without a frame after which a camera counts as hanging.
        give_up_s: seconds without a camera after which ``read()`` raises ``SourceLostError``; None:
            it is waited for without end.
        frozen_s: seconds of the very same picture that make it frozen; None: it may stand still;
            ``"auto"``: 5, and 30 for streams.
        changed_s: seconds that a picture must stand still before another one counts as changed;
            None: it may change.
        max_pixels: larger frames are refused; None: those of more than 64 megapixels.
        say: is told in a sentence which camera was chosen, where something was to be chosen.

    Raises:
        SourceSpecError: ``spec`` names no source, or seconds that are none.
        CameraNotFoundError: there is no such camera, or its package is missing.
        UnsupportedSystemError: this is not Linux.
        SourceError: it could not be opened otherwise.
    """
    if isinstance(spec, str):
        spec = parse_source(spec)
    for name, seconds, least in (
        ("stall_s", stall_s, 0.1),
        ("give_up_s", give_up_s, 0),
        ("frozen_s", None if frozen_s == "auto" else frozen_s, 0),
        ("changed_s", changed_s, 0),
    ):
        if seconds is not None and not seconds >= least:  # NaN is not, either
            raise SourceSpecError(
                f"open_camera: {name}={seconds}; expected seconds, at least {least:g}"
            )
    if frozen_s == "auto":
        frozen_s = _STILL_STREAM_S if spec.kind == "stream" else _STILL_S
    return SupervisedSource(
        spec,
        size=size,
        stall_s=stall_s,
        give_up_s=give_up_s,
        frozen_s=frozen_s,
        changed_s=changed_s,
        max_pixels=max_pixels,
        say=say,
    )
