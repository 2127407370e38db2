"""``open_camera``: frames from a camera for programs that run for months."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from edge_sdk.errors import SourceSpecError
from edge_sdk.sources.specification import SourceSpec, parse_source
from edge_sdk.sources.supervised import SupervisedSource

_log = logging.getLogger("edgecls.sources")

_STILL_S = 5.0
# A stream's encoder repeats static parts until the next key frame or a few later.
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
    note: Callable[[str], None] = _log.info,
) -> SupervisedSource:
    """Opens a camera in a child process, and reopens it whenever it hangs or is unplugged.

        with open_camera("fake:photos/?fps=30") as camera:
            frame = camera.read()

    Call it before you install a handler for SIGTERM: it returns once the camera is open or found
    missing, usually after a second, after 15 at most.

    Args:
        spec: ``auto``, ``picamera[:N]``, ``webcam[:N]``, ``/dev/videoN``, a URL, ``fake:PATH?...``,
            or a result of ``parse_source``. All frames of a file are delivered, in order.
        size: ``(width, height)`` of the model's input in pixels; frames are at least that large.
        stall_s: seconds without a frame after which a camera counts as stalled.
        give_up_s: seconds without a camera after which ``read()`` raises ``SourceLostError``; None:
            no limit.
        frozen_s: seconds of identical frames after which the camera counts as frozen; None: no
            check; ``"auto"``: 5, and 30 for streams.
        changed_s: seconds that a picture must be still before another one counts as changed;
            None: no check.
        max_pixels: limit on a frame's pixels; None: 64 megapixels.
        note: called with a sentence about the choice of a camera, if there was one.

    Raises:
        SourceSpecError: ``spec`` is invalid, or a number of seconds is too small.
        CameraNotFoundError: there is no such camera, or its package is missing.
        UnsupportedSystemError: this is not Linux.
        SourceError: it could not be opened for another reason.
    """
    if isinstance(spec, str):
        spec = parse_source(spec)
    for name, seconds, least in (
        ("stall_s", stall_s, 0.1),
        ("give_up_s", give_up_s, 0),
        ("frozen_s", None if frozen_s == "auto" else frozen_s, 0),
        ("changed_s", changed_s, 0),
    ):
        if seconds is not None and not seconds >= least:  # false for NaN too
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
        note=note,
    )
