"""Source specifications of ``--camera`` and ``--source``: parsed into a value, and opened.

A specification is a small frozen value that can be sent to another process and opened there, any
number of times. It may contain a password (in a URL), which is never printed.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_sdk.errors import CameraNotFoundError, SourceSpecError
from edge_sdk.redaction import redact
from edge_sdk.sources.faults import Replay, parse_replay

if TYPE_CHECKING:
    from edge_sdk.ports import FrameSource

SourceKind = Literal["auto", "picamera", "webcam", "stream", "fake", "video", "folder"]

FORMS = (
    "auto, picamera[:N], webcam[:N], /dev/videoN, rtsp://..., http://..., "
    "fake:PATH?fps=30&stall@100, or an existing video, picture or folder"
)
STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https")
# The same list as images.EXTENSIONS, repeated because that module loads OpenCV.
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_log = logging.getLogger("edgecls.sources")


@dataclass(frozen=True, slots=True, repr=False)
class SourceSpec:
    """Where frames come from, before anything is opened.

    ``str()`` and ``repr()`` omit user names, passwords and tokens; ``target`` contains them.

    Attributes:
        kind: the kind of source.
        target: a camera's number (empty: the first one), a device, a URL, a path.
        replay: the script of a fake camera; None for other kinds.
        memory: a file that keeps a fake camera's state between openings, so that faults happen
            once; empty: none. Not compared.
    """

    kind: SourceKind
    target: str = ""
    replay: Replay | None = None
    memory: str = field(default="", compare=False)
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.kind == "stream":
            return redact(self.target)
        return self.text or (f"{self.kind}:{self.target}" if self.target else self.kind)

    def __repr__(self) -> str:
        return f"<SourceSpec {self.kind} {self}>"

    @property
    def live(self) -> bool:
        """Whether it is a camera or a stream, which produces frames whether or not they are read."""
        return self.kind not in ("video", "folder")


def parse_source(text: str) -> SourceSpec:
    """Parses a source specification; opens nothing and does not load OpenCV.

    Args:
        text: ``auto``, ``picamera[:N]``, ``webcam[:N]``, ``/dev/videoN``, an ``rtsp`` or ``http``
            URL, ``fake:PATH?OPTIONS`` (see ``edge_sdk.sources.faults``), or the path of a video, a
            picture or a folder.

    Raises:
        SourceSpecError: none of these.
    """
    kind, colon, rest = text.partition(":")
    if text == "auto":
        return SourceSpec("auto", text=text)
    if kind in ("picamera", "webcam") and not (colon and rest.startswith("//")):
        if colon and not re.fullmatch(r"\d{1,3}", rest):
            raise SourceSpecError(
                f"{text!r}: expected a camera's number after the colon, as in {kind}:0; "
                f"or {kind} alone for the first one"
            )
        return SourceSpec(kind, rest, text=text)  # type: ignore[arg-type]  # one of the two
    if kind == "fake" and colon:
        return _fake(text, rest)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return _stream(text, kind.lower())
    if text.startswith("/dev/"):
        return SourceSpec("webcam", text, text=text)
    return _path(text)


def _fake(text: str, rest: str) -> SourceSpec:
    path, _, options = rest.rpartition("?") if "?" in rest else (rest, "", "")
    replay = parse_replay(options)
    if not path or not Path(path).exists():
        raise SourceSpecError(
            f"{text!r}: there is no file or folder {path!r} to play; expected fake:PATH?OPTIONS with "
            "a folder of pictures or a video, as in fake:photos/?fps=30&stall@100"
        )
    from edge_sdk.sources.faults import new_memory

    return SourceSpec("fake", path, replay, new_memory(), text)


def _stream(text: str, scheme: str) -> SourceSpec:
    if scheme not in STREAM_SCHEMES:
        raise SourceSpecError(
            f"{redact(text)}: {scheme}:// is no supported scheme; expected one of {FORMS}"
        )
    if not re.match(r"[a-z]+://[^/?#\s]+", text, re.IGNORECASE) or re.search(r"[\x00-\x20]", text):
        raise SourceSpecError(
            f"{redact(text)}: a URL needs a host and has no spaces, as in "
            f"{scheme}://camera.local:8554/stream (write %20 for a space, %40 for an @ in a password)"
        )
    return SourceSpec("stream", text)


def _path(text: str) -> SourceSpec:
    path = Path(text)
    try:
        found = bool(text) and path.exists()
    except (OSError, ValueError):  # a name too long, a null byte
        found = False
    if not found:
        raise SourceSpecError(
            f"{redact(text)!r} is no source, and there is no such file; expected one of {FORMS}"
        )
    picture = path.is_dir() or path.suffix.lower() in _PICTURES
    return SourceSpec("folder" if picture else "video", text, text=text)


def open_source(
    spec: SourceSpec | str,
    size: tuple[int, int] | None = None,
    *,
    max_pixels: int | None = None,
    note: Callable[[str], None] = _log.info,
) -> FrameSource:
    """Opens a source in this process, without supervision: if its driver hangs, so does the reader.

    Args:
        spec: text as for ``parse_source``, or its result.
        size: ``(width, height)`` of the model's input in pixels. A camera is set to at least that,
            over its whole field of view; None: about 640 x 480.
        max_pixels: limit on the pixels of pictures and frames; None: 64 megapixels.
        note: called with a sentence about the choice of a camera, if there was one.

    Raises:
        SourceSpecError: the text is invalid.
        CameraNotFoundError: no such camera, or its package is missing.
        SourceNotFoundError: no such file, or no picture in it.
        UnreadableImageError: a file that is no video.
    """
    if isinstance(spec, str):
        spec = parse_source(spec)
    if spec.kind == "auto":
        return _open_first(size, max_pixels, note)
    if spec.kind == "picamera":
        from edge_sdk.sources.picamera import PiCamera

        return PiCamera(int(spec.target) if spec.target else None, size=size, note=note)
    from edge_sdk.vision.limits import MAX_PIXELS

    most = MAX_PIXELS if max_pixels is None else max_pixels
    if spec.kind == "webcam":
        from edge_sdk.sources.webcam import Webcam

        return Webcam(spec.target, size=size, max_pixels=most, note=note)
    if spec.kind == "stream":
        from edge_sdk.sources.network import NetworkStream

        return NetworkStream(spec.target, max_pixels=most)
    if spec.kind == "fake":
        from edge_sdk.sources.fake import FakeCamera

        return FakeCamera(spec.target, spec.replay or Replay(), memory=spec.memory)
    if spec.kind == "video":
        from edge_sdk.sources.video import VideoSource

        return VideoSource(spec.target, max_pixels=most)
    from edge_sdk.sources.folder import FolderSource

    return FolderSource(spec.target, max_pixels=most)


def _open_first(
    size: tuple[int, int] | None, max_pixels: int | None, note: Callable[[str], None]
) -> FrameSource:
    """The Pi camera, else the first webcam."""
    reasons = []
    for kind in ("picamera", "webcam"):
        try:
            source = open_source(SourceSpec(kind), size, max_pixels=max_pixels, note=note)
        except CameraNotFoundError as error:
            reasons.append(f"{kind}: {error}")
            continue
        with contextlib.suppress(AttributeError):
            note(f"camera: {source.name}")  # type: ignore[attr-defined]
        return source
    raise CameraNotFoundError(
        "no camera was found.\n  "
        + "\n  ".join(reasons)
        + "\n  Plug one in, or name one: --camera SPEC "
        f"with one of {FORMS}"
    )
