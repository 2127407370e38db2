"""Saves frames with uncertain answers, for the next training."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import queue
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.files import is_disk_trouble, write_atomically
from edge_sdk.systems import NOT_IN_NAMES
from edge_sdk.types import Frame, FrameRecord, Health, Record
from edge_sdk.vision.preprocess import Preprocessing, preprocess


def folder_name(label: str) -> str:
    """``label`` as a folder name; unchanged if every file system allows it."""
    plain = re.sub(f"[{NOT_IN_NAMES}]", "_", label).strip()
    plain = plain.encode("utf-8", "replace")[:120].decode("utf-8", "ignore")
    return f"_{plain}" if not plain or plain.startswith((".", "-")) else plain


def file_name(record: FrameRecord) -> str:
    """``20260314T150926.535Z_0.53_bottle_can_f1234.jpg``: time, score, top-2 labels, frame."""
    try:
        when = dt.datetime.fromisoformat(record.ts).astimezone(dt.UTC)
        stamp = f"{when:%Y%m%dT%H%M%S}.{when.microsecond // 1000:03d}Z"
    except (ValueError, OverflowError):
        stamp = re.sub(r"[^0-9A-Za-z.-]", "", record.ts)[:32] or "undated"
    best = "_".join(re.sub(r"[^0-9A-Za-z-]+", "-", ranked.label)[:24] for ranked in record.topk[:2])
    return f"{stamp}_{record.score:.2f}_{best}_f{record.frame}.jpg"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which frames are saved: those that meet any of these conditions. None switches one off.

    Attributes:
        below_score: the best score (0..1) is below this.
        below_margin: the best two scores are closer than this.
        per_hour: frames per hour whatever the answer, evenly spread: uncertain frames alone would be
            a biased training set.
    """

    below_score: float | None = 0.6
    below_margin: float | None = None
    per_hour: float | None = None


def is_uncertain(record: FrameRecord, wanted: Wanted) -> bool:
    """Whether a frame meets the condition on score or margin."""
    if not record.topk:
        return False
    best = record.topk[0].score
    if wanted.below_score is not None and best < wanted.below_score:
        return True
    if wanted.below_margin is None or len(record.topk) < 2:
        return False
    return best - record.topk[1].score < wanted.below_margin


def check(wanted: Wanted, max_bytes: int) -> None:
    """Checks the settings.

    Raises:
        SinkSpecError: a score or number out of range, or no condition is set.
    """
    if wanted == Wanted(None, None, None):
        raise SinkSpecError(
            "no condition is set, so no frame would be saved; set below_score, below_margin or "
            "per_hour"
        )
    for what, value in (("score", wanted.below_score), ("margin", wanted.below_margin)):
        if value is not None and not 0 <= value <= 1:
            raise SinkSpecError(f"a {what} of {value}; expected 0 to 1, as in 0.6")
    if wanted.per_hour is not None and not 0 < wanted.per_hour <= 3600:
        raise SinkSpecError(f"{wanted.per_hour} frames per hour; expected more than 0, up to 3600")
    if max_bytes < 1:
        raise SinkSpecError(f"a quota of {max_bytes} bytes; expected 1 or more")


__all__ = ["SaveFrames", "SavedFrames", "Wanted", "open_save_frames"]

_QUALITY = 95  # keeps chroma and edges close to the camera's, for training
_THUMBNAIL_PX, _REMEMBERED = 16, 8
# Difference of two 16x16 gray thumbnails, 0..255: camera noise averages to well below 1 there, and
# exposure drifts by a few levels; an object that appears or leaves changes the squares it covers.
_SAME_LEVEL = 12
_SAME_SCENE_SQUARES = 2
_RESCAN_S = 60.0
_MAX_REPORTS = 16
_CLOSE_S = 5.0
_FAILURE_AGAIN_S = 600.0
_NO_LABEL = "unsorted"

Layout = Literal["by-label", "unsorted"]
_Job = tuple[Frame, FrameRecord] | Literal["count"] | None


@dataclass(frozen=True, slots=True)
class SavedFrames:
    """Counts of a ``SaveFrames``: frames saved, and skipped by reason."""

    saved: int
    same_scene: int
    no_room: int
    failed: int


def open_save_frames(
    folder: str | Path,
    *,
    below_score: float | None = 0.6,
    below_margin: float | None = None,
    per_hour: float | None = None,
    max_bytes: int = 1_000_000_000,
    layout: Layout = "by-label",
) -> SaveFrames:
    """The sink for ``--save-frames DIR``, see ``SaveFrames`` and ``Wanted``.

    Raises:
        SinkSpecError, WriteError: see ``SaveFrames``.
    """
    wanted = Wanted(below_score, below_margin, per_hour)
    return SaveFrames(folder, wanted, max_bytes=max_bytes, layout=layout)


class SaveFrames:
    """Writes frames as JPEG files, in the layout that training reads; a ``FrameSink``.

    There is a folder per label with the pictures that the model gave that label; a person moves the
    wrong ones and trains. Each file name has time, score and top-2 labels. With ``unsorted`` all
    pictures are in one folder, for labelling without the model's bias.

    A thread encodes and writes. A frame is skipped while the thread is busy, or if it shows the same
    scene as one of the last few. No picture is deleted: at the quota, or with too little space on the
    disk, saving stops until pictures are removed.

    ``take_health`` reports ``no room for pictures``, ``room for pictures again`` and ``picture not
    kept``.

    Args:
        folder: created if absent.
        wanted: which frames; None: those with a score below 0.6.
        layout: ``by-label`` or ``unsorted``.
        max_bytes: of all pictures below ``folder``.
        min_free_bytes: space that stays free on the disk.
        min_interval_s: between two pictures.

    Attributes:
        name: the folder's, for health reports.

    Raises:
        SinkSpecError: a score or number out of range, or no condition is set.
        WriteError: the folder cannot be created or written to.
    """

    def __init__(
        self,
        folder: str | Path,
        wanted: Wanted | None = None,
        *,
        layout: Layout = "by-label",
        max_bytes: int = 1_000_000_000,
        min_free_bytes: int = 500_000_000,
        min_interval_s: float = 5.0,
    ) -> None:
        wanted = wanted or Wanted()
        check(wanted, max_bytes)
        self._folder = Path(folder)
        self.name = self._folder.name or str(folder)
        self._wanted = wanted
        self._layout = layout
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._min_interval_s = min_interval_s
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._folder, os.W_OK | os.X_OK)
        except OSError as error:
            if not is_disk_trouble(error):
                raise WriteError(
                    f"{folder}: cannot be created ({error.strerror or error}); name a writable folder"
                ) from error
            writable = True  # created with the first picture
        if not writable:
            raise WriteError(f"{folder}: is not writable; name another folder")
        self._used, self._scanned_s = _used_bytes(self._folder), time.monotonic()
        self._last_s = self._last_sample_s = -float("inf")
        self._seen: deque[NDArray[np.int16]] = deque(maxlen=_REMEMBERED)
        self._saved = self._same_scene = self._no_room = self._failed = 0
        self._full = self._reported_full = self._closed = False
        self._failed_s = -float("inf")
        self._health: deque[Health] = deque(maxlen=_MAX_REPORTS)
        self._jobs: queue.Queue[_Job] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="edgecls-save", daemon=True)
        self._thread.start()

    @property
    def statistics(self) -> SavedFrames:
        """Its counts so far."""
        return SavedFrames(self._saved, self._same_scene, self._no_room, self._failed)

    def take_health(self) -> Sequence[Health]:
        """The reports since the last call."""
        reports = []
        while self._health:  # the writing thread may append to it
            reports.append(self._health.popleft())
        return reports

    def write(self, record: Record) -> None:  # noqa: ARG002
        """Does nothing: a record has no pixels.

        Raises:
            WriteError: the sink is closed.
        """
        if self._closed:
            raise WriteError("this sink is closed")

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """Saves a copy of the frame if its answer meets a condition.

        Raises:
            WriteError: the sink is closed.
        """
        self.write(record)
        now = time.monotonic()
        if now - self._last_s < self._min_interval_s or self._jobs.full():
            return
        sample = self._is_sample(now)
        if not (sample or is_uncertain(record, self._wanted)):
            return
        if not self._has_room(now):
            self._no_room += 1
            return
        thumbnail = _thumbnail(frame)
        if any(_is_same(thumbnail, seen) for seen in self._seen):
            self._same_scene += 1
            return
        self._seen.append(thumbnail)
        self._last_s = now
        if sample:
            self._last_sample_s = now
        copy = Frame(frame.pixels.copy(), frame.format, frame.index, frame.timestamp_ns, frame.name)
        self._jobs.put_nowait((copy, record))

    def close(self) -> None:
        """Finishes the current picture, within 5 s each step; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=_CLOSE_S)
            self._thread.join(_CLOSE_S)

    def _is_sample(self, now: float) -> bool:
        per_hour = self._wanted.per_hour
        return per_hour is not None and now - self._last_sample_s >= 3600 / per_hour

    def _has_room(self, now: float) -> bool:
        if self._full and now - self._scanned_s >= _RESCAN_S:  # pictures may have been removed
            self._scanned_s, self._full = now, False
            self._jobs.put_nowait("count")  # slow on a full SD card
            return False
        try:
            free = shutil.disk_usage(_existing(self._folder)).free
        except OSError as error:  # the disk fails, or was removed
            self._fails(error)
            return False
        self._full = self._used >= self._max_bytes or free < self._min_free_bytes
        if self._full and not self._reported_full:
            self._health.append(
                Health(
                    "no room for pictures",
                    f"{self._used // 10**6} of {self._max_bytes // 10**6} MB used, "
                    f"{free // 10**6} MB free on the disk; remove some pictures to continue",
                )
            )
        elif self._reported_full and not self._full:
            self._health.append(Health("room for pictures again", f"{free // 10**6} MB free"))
        self._reported_full = self._full
        return not self._full

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if job == "count":
                    self._used = _used_bytes(self._folder)
                else:
                    self._used += self._save(*job)
                    self._saved += 1
            except Exception as error:  # noqa: BLE001  # saving is optional: the loop continues
                self._fails(error)

    def _fails(self, error: Exception) -> None:
        self._failed += 1
        now = time.monotonic()
        if now - self._failed_s >= _FAILURE_AGAIN_S:
            self._failed_s = now
            self._health.append(Health("picture not kept", f"{error}"))

    def _save(self, frame: Frame, record: FrameRecord) -> int:
        label = record.topk[0].label if record.topk else None
        known = self._layout == "by-label" and record.label is not None
        folder = self._folder / (folder_name(label) if known and label is not None else _NO_LABEL)
        jpeg = _jpeg(frame)
        path = folder / file_name(record)
        number = 2
        while path.exists():  # the clock was set back, and the frame has the same number
            path = folder / f"{Path(file_name(record)).stem}-{number}.jpg"
            number += 1
        write_atomically(path, jpeg)
        return len(jpeg)


def _existing(folder: Path) -> Path:
    """The folder, or its closest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_same(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    changed = np.count_nonzero(np.abs(one - other) > _SAME_LEVEL)
    return bool(changed <= _SAME_SCENE_SQUARES)


def _thumbnail(frame: Frame) -> NDArray[np.int16]:
    how = Preprocessing(_THUMBNAIL_PX, _THUMBNAIL_PX, channels=1, crop="squash")
    return preprocess(frame, how).astype(np.int16)


def _jpeg(frame: Frame) -> bytes:
    height, width = frame.pixels.shape[:2]
    if frame.format == "i420":
        height = height * 2 // 3
    channels = 1 if frame.format == "gray" else 3
    pixels = preprocess(frame, Preprocessing(width, height, channels, "squash"))[..., ::-1]
    stored = np.ascontiguousarray(pixels)  # OpenCV's encoder takes blue first
    done, data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise WriteError(f"frame {frame.index}: cannot be encoded as JPEG")
    return data.tobytes()


def _used_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed meanwhile
                total += Path(place, name).lstat().st_size
    return total
