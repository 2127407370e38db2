"""A classifier whose model file can be replaced while it runs.

The file is checked between frames, at most once per interval. A new one is opened in a thread, golden
self-test included, while the old model keeps running; the swap happens between two frames. A file that
does not open is refused, and the old model stays until the file changes again.

Replace a model by renaming a complete file over it. A file written in place is safe too, but is opened
only once it has not changed for one interval, and is refused if it is still incomplete then.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.engines.trial import in_background
from edge_sdk.errors import ArtifactNotFoundError, EdgeClsError
from edge_sdk.last_good import CopyWriter, LastGood
from edge_sdk.types import Frame, Health, Prediction

_log = logging.getLogger("edgecls.hotswap")

# How long ``close`` waits for a model that is being opened.
_CLOSE_S = 1.0


class _Stamp(NamedTuple):
    """Identifies a version of the file at a path without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int


class ReloadingClassifier:
    """Classifies with the newest good model at a path. For one thread, like ``Classifier``.

    Args:
        path: the model file.
        open_model: opens it, as ``Classifier.open`` does; later calls come from another thread.
        interval_s: seconds between checks of the file.
        fits: called with the labels of a new model; raises ValueError with the reason where they
            do not fit.
        last_good: where a copy of the active model is kept. A first model that is bad or does not
            fit is replaced by that copy, and a health record reports it. None: no copy is kept or
            used.
        clock: monotonic seconds, for tests.

    Raises:
        ArtifactError, EngineError: as ``open_model``, for the first model.
    """

    def __init__(
        self,
        path: str | Path,
        open_model: Callable[[Path], Classifier] = Classifier.open,
        *,
        interval_s: float = 1.0,
        fits: Callable[[tuple[str, ...]], None] = lambda _: None,
        last_good: LastGood | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path)
        self._open_model = open_model
        self._interval_s = interval_s
        self._fits = fits
        self._clock = clock
        self._tried = _stamp(self._path)  # before it is opened, so that a later change is noticed
        self._waiting: _Stamp | None = None
        self._last_good = last_good
        self._copying: CopyWriter | None = None
        self._health: list[Health] = []
        self._current = self._open_first()
        self._look_s = clock() + interval_s
        self._reload_requested = threading.Event()
        self._opening: _Opening | None = None

    @property
    def artifact(self) -> Artifact:
        """The active model."""
        return self._current.artifact

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the active model."""
        return self._current.labels

    def reload(self) -> None:
        """Opens the file again at the next frame, changed or not; callable from any thread."""
        self._reload_requested.set()

    def classify(self, frame: Frame | NDArray[np.uint8]) -> Prediction:
        """Classifies one frame with the active model, see ``Classifier.classify``."""
        self._check_file()
        return self._current.classify(frame)

    def take_health(self) -> Sequence[Health]:
        """The model's health records since the last call.

        ``model swapped``, ``model refused``; ``last good model`` where the first one was bad, and
        ``model not kept`` where the active one could not be copied.

        Checks the file too, so that a model is replaced even while no frames arrive.
        """
        self._check_file()
        health, self._health = self._health, []
        return health

    def _open_first(self) -> Classifier:
        """The model at the path; if it is bad or does not fit, the last good one."""
        if self._last_good is None:
            return self._open_model(self._path)
        classifier = None
        try:
            classifier = self._open_model(self._path)
            reason = self._misfit(classifier)
        except ArtifactNotFoundError:  # usually a mistyped path
            raise
        except EdgeClsError as error:
            failed, reason = error, str(error)
        if not reason and classifier is not None:
            self._keep(classifier)
            return classifier
        kept = self._open_kept(self._last_good, reason)
        if kept is not None:
            if classifier is not None:
                classifier.close()
            return kept
        if classifier is None:
            raise failed
        return classifier  # the caller checks the labels again, and its error states what to type

    def _open_kept(self, last_good: LastGood, reason: str) -> Classifier | None:
        path = last_good.find()
        if path is None:
            return None
        try:
            classifier = self._open_model(path)
        except EdgeClsError as error:
            _log.info("the last good copy %s does not open either: %s", path, error)
            return None
        if self._misfit(classifier):
            classifier.close()
            return None
        digest = classifier.artifact.sha256[:12]
        detail = f"using the last good copy {digest}, {path}: {reason}"
        # Logged before a camera is open; the loop's health record has the reason.
        _log.warning("%s: bad model, using the last good copy %s", self._path, digest)
        self._health.append(Health("last good model", detail))
        return classifier

    def _misfit(self, classifier: Classifier) -> str:
        """Why an open model cannot be used; empty if it can."""
        try:
            if classifier.artifact.manifest is None:  # an edgecls artifact has passed its self-test
                _try_out(classifier)
            self._fits(classifier.labels)
        except (EdgeClsError, ValueError) as error:
            return f"{self._path}: {error}"
        return ""

    def _keep(self, classifier: Classifier) -> None:
        if self._last_good is not None:
            artifact = classifier.artifact
            self._copying = CopyWriter(
                self._last_good, artifact.data, artifact.sha256, after=self._copying
            )

    def _check_file(self) -> None:
        if self._copying is not None and self._copying.done():
            if self._copying.problem:
                self._health.append(Health("model not kept", self._copying.problem))
            self._copying = None
        if self._opening is not None:
            if self._opening.done:
                self._change(self._opening)
                self._opening = None
            return
        now_s = self._clock()
        if self._reload_requested.is_set():
            self._reload_requested.clear()
            self._open(_stamp(self._path))
        elif now_s >= self._look_s:
            self._look_s = now_s + self._interval_s
            stamp = _stamp(self._path)
            if stamp is None or stamp == self._tried:
                self._waiting = None
            elif stamp == self._waiting:  # unchanged since the last check: it is complete
                self._open(stamp)
            else:
                self._waiting = stamp

    def _open(self, stamp: _Stamp | None) -> None:
        self._waiting, self._tried = None, stamp
        self._opening = _Opening(self._path, self._open_model)

    def _change(self, opening: _Opening) -> None:
        if opening.classifier is None:
            self._refuse(opening.reason)
            return
        try:
            self._fits(opening.classifier.labels)
        except ValueError as error:
            opening.classifier.close()
            self._refuse(f"{self._path}: {error}")
            return
        old, self._current = self._current, opening.classifier
        detail = f"{self._path}: {old.artifact.sha256[:12]} -> {self._current.artifact.sha256[:12]}"
        if old.labels != self._current.labels:
            detail += f"; other labels: {len(self._current.labels)} instead of {len(old.labels)}"
        _log.info("%s", detail)
        self._health.append(Health("model swapped", detail))
        old.close()
        self._keep(self._current)

    def _refuse(self, why: str) -> None:
        reason = f"the old model stays active: {why}"
        _log.info("%s", reason)  # the health record below is the warning
        self._health.append(Health("model refused", reason))

    def close(self) -> None:
        """Closes the model, and one being opened once it is open; a second call does nothing."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.abandon()
        if self._copying is not None:
            self._copying.done(_CLOSE_S)
        self._current.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Opening:
    """One attempt to open a model, in its own thread."""

    def __init__(self, path: Path, open_model: Callable[[Path], Classifier]) -> None:
        self.classifier: Classifier | None = None
        self.reason = ""
        self._path = path
        self._open_model = open_model
        self._abandoned = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="edgecls-reload", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the attempt has ended, with a classifier or with a reason."""
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            with in_background():
                classifier = self._open_model(self._path)
            try:
                _try_out(classifier)
            except BaseException:
                classifier.close()
                raise
        except EdgeClsError as error:
            self.reason = str(error)
            return
        except Exception as error:  # noqa: BLE001  # whatever a bad file does to a parser, the old model stays
            _log.exception("a model could not be opened")
            self.reason = f"{self._path}: {type(error).__name__}: {error}"
            return
        with self._lock:
            if not self._abandoned:
                self.classifier = classifier
                return
        classifier.close()

    def abandon(self) -> None:
        """The model is not needed any more: it is closed as soon as it is open."""
        with self._lock:
            self._abandoned = True
            classifier, self.classifier = self.classifier, None
        if classifier is not None:
            classifier.close()
        self._thread.join(_CLOSE_S)


def _stamp(path: Path) -> _Stamp | None:
    """None where there is no file, as for a moment while files are moved."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return _Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return None


def _try_out(classifier: Classifier) -> None:
    """One inference before the swap: a model without a self-test may return NaN."""
    how = classifier.artifact.preprocessing
    classifier.classify(np.full((how.height, how.width, 3), 128, np.uint8))
