"""The script of a fake camera: the options after the question mark, as one value.

``fps=30&stall@100&freeze@200+60&black@300&unplug@400+2s&swap@500`` plays at 30 frames a second, with
a fault at each of those frames. A fault may last: ``+60`` for so many frames, ``+2s`` for so long.

==========  ========================================================  ==============================
fault       from frame N on                                           without a duration
==========  ========================================================  ==============================
``stall``   ``read()`` blocks, as in a driver that hangs              until the camera is closed
``freeze``  the same picture again and again, with new timestamps     until the next freeze or black,
                                                                      or the camera is reopened
``black``   a dark picture with a sensor's noise                      until the next freeze or black
``unplug``  the camera is lost, and cannot be opened for that time    two seconds
``swap``    the pictures are turned upside down and negative          for good
==========  ========================================================  ==============================

Frames are counted over all openings of the camera, in any process, so each fault happens once: a
camera that was lost at frame 400 continues with frame 401 when it is reopened. ``repeat=N`` restarts
the script after every N frames.

``queue=100ms`` is no fault, but imitates a driver with several buffers: every frame has that age when
it is delivered, and its timestamp shows it.

Its state is 16 bytes in a temporary file, mapped by each process that has the camera open: it survives
a killed process. The process that created the file removes it at its end; if that process is killed,
the next one removes it.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import mmap
import os
import re
import struct
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from edge_sdk.errors import SourceSpecError

FaultKind = Literal["stall", "freeze", "black", "unplug", "swap"]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
OPTIONS = ("fps", "loop", "queue", "repeat", "size")

UNPLUGGED_S = 2.0
_FAULT = re.compile(
    r"(?P<kind>[a-z]+)@(?P<at>\d{1,12})(?:\+(?P<lasts>\d{1,9}(?:\.\d{1,9})?)(?P<unit>s?))?"
)
_QUEUE = re.compile(r"(\d{1,5})ms")
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_MAX_FPS = 10_000.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault.

    Attributes:
        kind: of the fault.
        at: number of the first affected frame, from 0.
        lasts: frames for ``freeze``, ``black`` and ``swap``, seconds for ``stall`` and ``unplug``;
            None: the default in the table above.
    """

    kind: FaultKind
    at: int
    lasts: float | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """How a fake camera plays its pictures.

    Attributes:
        fps: frames per second; None (``max``): as fast as they are read.
        loop: restart at the end; otherwise the camera ends there.
        size: ``(width, height)`` that every picture is resized to; None: that of the first.
        faults: the scripted faults, in any order.
        repeat: the faults recur after so many frames; None: they happen once.
        queue_ms: age of every frame when it is delivered.
    """

    fps: float | None = 30.0
    loop: bool = True
    size: tuple[int, int] | None = None
    faults: tuple[Fault, ...] = ()
    repeat: int | None = None
    queue_ms: int = 0


class PictureFault(NamedTuple):
    """The faults visible in one frame."""

    frozen: bool
    black: bool
    swapped: bool


def picture_fault(replay: Replay, number: int, opened_at: int) -> PictureFault:
    """The faults in frame ``number`` of a camera that was opened at frame ``opened_at``."""
    start = number - number % replay.repeat if replay.repeat else 0
    past = [fault for fault in replay.faults if start + fault.at <= number]
    lasting = [f for f in past if f.lasts is None or number < start + f.at + f.lasts]
    covering = [f for f in past if f.kind in ("freeze", "black")]
    last = max(covering, key=lambda fault: fault.at, default=None)
    holds = last if last in lasting else None
    return PictureFault(
        frozen=holds is not None and holds.kind == "freeze" and opened_at <= start + holds.at,
        black=holds is not None and holds.kind == "black",
        swapped=any(fault.kind == "swap" for fault in lasting),
    )


def blocking_fault(replay: Replay, number: int) -> Fault | None:
    """The stall or unplugging that starts at this frame."""
    place = number % replay.repeat if replay.repeat else number
    broken = (f for f in replay.faults if f.at == place and f.kind in ("stall", "unplug"))
    return next(broken, None)


def parse_replay(text: str) -> Replay:
    """Reads ``fps=30&stall@100...``; an empty text is the default.

    Raises:
        SourceSpecError: an unknown option, or an invalid value.
    """
    words = [word for word in text.split("&") if word]
    values = dict(word.split("=", 1) for word in words if "=" in word)
    for word in words:
        name = re.split("[=@]", word, maxsplit=1)[0]
        if name not in ((*OPTIONS,) if "=" in word else FAULTS):
            raise _unknown(word, name)
    fps = _fps(values.get("fps", "30"))
    faults = tuple(_fault(word, fps) for word in words if "=" not in word)
    repeat = _count("repeat", values["repeat"]) if "repeat" in values else None
    if repeat is not None and (late := [f for f in faults if f.at >= repeat]):
        raise SourceSpecError(
            f"repeat={repeat} restarts before {late[0].kind}@{late[0].at} is reached; "
            "make repeat larger than every fault's frame"
        )
    return Replay(
        fps=fps,
        loop=_yes(values.get("loop", "yes")),
        size=_size(values["size"]) if "size" in values else None,
        faults=faults,
        repeat=repeat,
        queue_ms=_milliseconds(values["queue"]) if "queue" in values else 0,
    )


def _unknown(word: str, name: str) -> SourceSpecError:
    known = [*(f"{option}=" for option in OPTIONS), *(f"{fault}@" for fault in FAULTS)]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return SourceSpecError(
        f"a fake camera has no option {word!r}; expected {' '.join(known)}, as in "
        f"fake:DIR?fps=30&stall@100&unplug@400+2s.{hint}"
    )


def _fault(word: str, fps: float | None) -> Fault:
    match = _FAULT.fullmatch(word)
    if match is None:
        raise SourceSpecError(
            f"{word!r} is no fault: expected KIND@FRAME, KIND@FRAME+FRAMES or KIND@FRAME+SECONDSs, "
            "as in stall@100, freeze@200+60 or unplug@400+2s"
        )
    kind, at = cast("FaultKind", match["kind"]), int(match["at"])
    if match["lasts"] is None:
        return Fault(kind, at)
    lasts = float(match["lasts"])
    in_seconds = kind in ("stall", "unplug")
    if in_seconds == bool(match["unit"]):
        return Fault(kind, at, lasts)
    if fps is None:
        unit = "seconds, as in +2s" if in_seconds else "frames, as in +60"
        raise SourceSpecError(f"{word!r}: with fps=max a {kind} is given in {unit}")
    return Fault(kind, at, lasts / fps if in_seconds else lasts * fps)


def _fps(text: str) -> float | None:
    if text == "max":
        return None
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0.0 < fps <= _MAX_FPS:
        raise SourceSpecError(
            f"fps={text}: expected frames per second above 0 and up to {_MAX_FPS:g}, or max"
        )
    return fps


def _count(name: str, text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,11}", text):
        raise SourceSpecError(f"{name}={text}: expected a number of frames, as in {name}=100")
    return int(text)


def _milliseconds(text: str) -> int:
    match = _QUEUE.fullmatch(text)
    if match is None:
        raise SourceSpecError(
            f"queue={text}: expected a whole number of milliseconds, as in queue=100ms"
        )
    return int(match[1])


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise SourceSpecError(f"loop={text}: expected loop=yes or loop=no")
    return text == "yes"


def _size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SourceSpecError(f"size={text}: expected WIDTHxHEIGHT in pixels, as in size=640x480")
    return int(match[1]), int(match[2])


def describe(faults: Sequence[Fault]) -> str:
    """The faults as a text again, durations in their own units."""
    return "&".join(f"{f.kind}@{f.at}" + _lasting(f) for f in faults)


def _lasting(fault: Fault) -> str:
    if fault.lasts is None:
        return ""
    return f"+{fault.lasts:g}" + ("s" if fault.kind in ("stall", "unplug") else "")


_LAYOUT = struct.Struct("=qq")


_PREFIX = "edgecls-fake-"


class FakeState:
    """The number of frames so far, and the time at which the camera is plugged in again.

    Args:
        path: of the file; empty: the state ends with this object.
    """

    def __init__(self, path: str = "") -> None:
        if path:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(descriptor, _LAYOUT.size)  # zeros in a new file
                self._map = mmap.mmap(descriptor, _LAYOUT.size)
            finally:
                os.close(descriptor)
        else:
            self._map = mmap.mmap(-1, _LAYOUT.size)

    @property
    def number(self) -> int:
        """The number of the next frame."""
        return int(_LAYOUT.unpack_from(self._map)[0])

    @property
    def back_at_ns(self) -> int:
        """Monotonic time before which the camera is unplugged."""
        return int(_LAYOUT.unpack_from(self._map)[1])

    def put(self, number: int, back_at_ns: int) -> None:
        """Stores both."""
        _LAYOUT.pack_into(self._map, 0, number, back_at_ns)

    def close(self) -> None:
        """Closes the file."""
        self._map.close()


def new_memory() -> str:
    """The path of a state file, which is created when it is opened."""
    folder = Path(tempfile.gettempdir())
    processes = Path("/proc")
    # Stale files can be found only with a list of processes.
    for left in folder.glob(f"{_PREFIX}*-*") if processes.is_dir() else ():
        maker = left.name.removeprefix(_PREFIX).partition("-")[0]
        if maker.isdecimal() and not (processes / maker).exists():
            _remove(str(left))
    path = str(folder / f"{_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:12]}")
    atexit.register(_remove, path)
    return path


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
