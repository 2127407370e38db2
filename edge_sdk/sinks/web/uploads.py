"""Classifies pictures that viewers upload."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from edge_sdk.artifact import Artifact
from edge_sdk.errors import EdgeClsError, UnreadableImageError
from edge_sdk.loop.decisions import Decisions, DecisionStream, Seen
from edge_sdk.types import Frame, Prediction, public_json, public_text
from edge_sdk.vision.images import decode_image

_LOG = logging.getLogger("edgecls.web")

# Twice the size of a phone's picture.
MAX_BYTES = 20_000_000
# Twice the default of phones, 12 million.
MAX_PIXELS = 25_000_000
# 25 megapixels as JPEG, PNG, BMP or TIFF; fewer of formats that need more memory per pixel.
MAX_MEMORY_BYTES = 160_000_000
# Low limits: the loop has priority.
PER_SECOND, BURST = 2.0, 5
_AT_ONCE = 2
_CLOSE_S = 0.5


class UploadModel(Protocol):
    """The model for uploads, as a ``Classifier``."""

    @property
    def artifact(self) -> Artifact:
        """The artifact of the model."""
        ...

    def classify(self, frame: Frame) -> Prediction:
        """Classifies a frame."""
        ...

    def close(self) -> None:
        """Closes the engine."""
        ...


class UploadReply(NamedTuple):
    """An HTTP status and the JSON of the reply."""

    status: int
    content: dict[str, Any]


class Uploads:
    """Decodes and classifies viewers' pictures, one at a time, with its own copy of the model.

    The model is opened with the first picture, and again after the loop has changed its model.

    Args:
        open_model: opens it.
        current: SHA-256 of the model that the loop uses.
        threshold: best score (0..1) below which the label is None; None: the artifact's own.
        decisions: allowed labels; smoothing over several frames is not applied.
        top_k: how many labels an answer ranks.
        max_pixels: refuse larger pictures before they are decoded.
        clock: monotonic seconds, for tests.
    """

    def __init__(
        self,
        open_model: Callable[[], UploadModel],
        current: Callable[[], str],
        *,
        threshold: float | None = None,
        decisions: Decisions | None = None,
        top_k: int = 5,
        max_pixels: int = MAX_PIXELS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_model = open_model
        self._current = current
        self._threshold = threshold
        decisions = decisions or Decisions()
        self._decisions = Decisions(decisions.allow, decisions.deny)
        self._top_k = top_k
        self._max_pixels = min(max_pixels, MAX_PIXELS)
        self._clock = clock
        self._allowance, self._counted_s = float(BURST), clock()
        self._one = threading.Lock()
        self._count = threading.Lock()
        self._places = threading.Semaphore(_AT_ONCE)
        self._model: UploadModel | None = None
        self._closed = False

    @property
    def limits(self) -> dict[str, int]:
        """Limits that the page checks before an upload."""
        return {"bytes": MAX_BYTES, "pixels": self._max_pixels}

    def allows(self) -> bool:
        """Counts an attempt; False: the rate limit is exceeded."""
        now_s = self._clock()
        with self._count:
            earned = (now_s - self._counted_s) * PER_SECOND
            self._allowance = min(float(BURST), self._allowance + earned)
            self._counted_s = now_s
            if self._allowance < 1:
                return False
            self._allowance -= 1
            return True

    @contextlib.contextmanager
    def place(self) -> Iterator[bool]:
        """Reserves memory for a picture; False: none is available."""
        free = self._places.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._places.release()

    def classify(self, data: bytes) -> UploadReply:
        """Classifies the bytes of an image file."""
        with self._one:
            if self._closed:
                return UploadReply(503, {"error": "The run has ended."})
            try:
                frame = decode_image(
                    data,
                    name="the picture",
                    max_pixels=self._max_pixels,
                    most_bytes=MAX_MEMORY_BYTES,
                )
                return self._answer(frame)
            except UnreadableImageError as error:
                reason = error.reason.split(";")[0]  # the rest is advice for the command line
                return UploadReply(422, {"error": f"This picture cannot be used: {reason}."})
            except EdgeClsError as error:
                _LOG.warning("a viewer's picture could not be classified: %s", error)
                return UploadReply(
                    500, {"error": f"The model could not answer: {public_text(str(error))}"}
                )

    def _answer(self, frame: Frame) -> UploadReply:
        model = self._opened()
        prediction = model.classify(frame)
        stream = DecisionStream(prediction.labels, self._decisions, self._top_k)
        threshold = prediction.threshold if self._threshold is None else self._threshold
        path = str(model.artifact.path)
        seen = Seen(0, frame.name, None, 0.0, None, path, time.monotonic())
        record, _ = stream.records(prediction, threshold, seen)
        height, width = frame.pixels.shape[:2]
        return UploadReply(200, {**public_json(record), "width": width, "height": height})

    def _opened(self) -> UploadModel:
        if self._model is not None and self._model.artifact.sha256 == self._current():
            return self._model
        try:
            model = self._open_model()
        except EdgeClsError:
            if self._model is None:
                raise
            return self._model  # the loop refuses the new file as well
        old, self._model = self._model, model
        if old is not None:
            old.close()
        return model

    def close(self) -> None:
        """Closes the model, unless it is still classifying after 0.5 s."""
        self._closed = True
        if self._one.acquire(timeout=_CLOSE_S):
            try:
                if self._model is not None:
                    self._model.close()
                    self._model = None
            finally:
                self._one.release()
