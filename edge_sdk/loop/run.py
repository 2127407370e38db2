"""``run``: pulls frames from a source and pushes predictions into sinks."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from edge_sdk.artifact import Artifact
from edge_sdk.errors import FrameError, NoFrameYetError, SinkError, UnreadableImageError
from edge_sdk.loop.decisions import Decisions, DecisionStream, Seen
from edge_sdk.loop.sampling import Attention, MotionGate, Pace, Region, view
from edge_sdk.loop.statistics import LiveStatistics, RunStatistics
from edge_sdk.ports import FrameSink, FrameSource, LiveSource, Sink, SizedSource, TellsHealth
from edge_sdk.redaction import redact_text
from edge_sdk.types import Frame, Health, HealthRecord, Prediction, Record, utc_now

_log = logging.getLogger(__name__)

# How long sinks may take to close; one that takes longer hangs.
_PATIENCE_S = 15.0


def close_together(sinks: Sequence[Sink], patience_s: float = _PATIENCE_S) -> None:
    """Closes every sink, even if others fail; one that hangs is abandoned.

    Raises:
        Exception: the first error of a sink.
    """
    failures: dict[int, Exception] = {}

    def close(place: int, sink: Sink) -> None:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001  # raised again below
            failures[place] = error

    threads = [
        threading.Thread(target=close, args=(place, sink), name="edgecls-close", daemon=True)
        for place, sink in enumerate(sinks)
    ]
    for place, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError:  # no thread can be started: close one after the other
            close(place, sinks[place])
    until = time.monotonic() + patience_s
    for thread, sink in zip(threads, sinks, strict=True):
        if thread.ident is not None:
            thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            _log.warning(
                "%s does not close within %g s; it is abandoned", type(sink).__name__, patience_s
            )
    if failures:
        raise failures[min(failures)]


# After so many invalid frames in a row the source is broken, and the run ends.
BROKEN_FRAMES_MAX = 100
# The longest sleep between two checks of ``stop``.
_SLEEP_MAX_S = 0.2
# Health of a source without frames: present labels leave.
_BLIND = ("lost", "stalled")

Stop = threading.Event | Callable[[], bool]


class Classifies(Protocol):
    """What ``run`` needs of a classifier: a ``Classifier``, or one that wraps it."""

    @property
    def artifact(self) -> Artifact:
        """The model file."""
        ...

    def classify(self, frame: Frame) -> Prediction:
        """Classifies a frame."""
        ...


def run(
    source: FrameSource,
    classifier: Classifies,
    sinks: Sequence[Sink],
    *,
    top_k: int = 5,
    threshold: float | None = None,
    limit: int | None = None,
    attention: Attention | None = None,
    decisions: Decisions | None = None,
    stop: Stop | None = None,
    statistics: LiveStatistics | None = None,
) -> RunStatistics:
    """Classifies frames until the source ends; source, classifier and sinks stay open.

    A frame that cannot be read becomes a ``HealthRecord``, and the loop continues. Health reported by
    the source, the classifier and the sinks (``TellsHealth``) is written to every sink. With events,
    each present label leaves at the end of the run, whatever the cause.

    Args:
        source: where frames come from.
        classifier: what classifies them.
        sinks: where the records go, in this order; a ``FrameSink`` sees the frames as well.
        top_k: how many labels each record ranks.
        threshold: best score (0..1) below which the label is None; None: the artifact's own.
        limit: stop after so many frames were classified; None: never.
        attention: which frames are classified, and which parts; None: all of each.
        decisions: labels that may be answers, smoothing, events; None: none of them.
        stop: ends the run: an event once it is set, or a function once it returns True; checked
            between frames, at least twice a second.
        statistics: updated during the run, for other threads to read.

    Raises:
        SourceLostError: the source is gone for good.
        FrameError: the source delivers only invalid frames.
        EngineError: an inference failed.
        SinkError: a record could not be written.
        ValueError: ``decisions`` names labels that the model does not have.
    """
    decisions = decisions or Decisions()
    decisions.check(classifier.artifact.labels)
    loop = _Loop(
        source,
        classifier,
        sinks,
        attention or Attention(),
        lambda labels: DecisionStream(labels, decisions, top_k),
        threshold,
        statistics or LiveStatistics(),
    )
    return loop.run(limit, _stop_check(stop))


class _Loop:
    def __init__(
        self,
        source: FrameSource,
        classifier: Classifies,
        sinks: Sequence[Sink],
        attention: Attention,
        open_stream: Callable[[tuple[str, ...]], DecisionStream],
        threshold: float | None,
        statistics: LiveStatistics,
    ) -> None:
        self._source = source
        self._live = source if isinstance(source, LiveSource) else None
        self._classifier = classifier
        self._sinks = sinks
        self._viewers = [sink for sink in sinks if isinstance(sink, FrameSink)]
        self._pace = Pace(attention)
        self._regions: tuple[Region | None, ...] = attention.regions or (None,)
        motion = attention.motion
        self._gates = {region: MotionGate(motion) for region in self._regions} if motion else {}
        self._open_stream = open_stream
        self._streams: dict[Region | None, DecisionStream] = {}
        self._threshold = threshold
        self._statistics = statistics
        self._name = str(getattr(source, "name", ""))
        self._reporters = _health_reporters(source, classifier, sinks)
        self._broken = 0
        self._sized_for = classifier.artifact  # the source was opened for this model
        self._unchecked_size = (
            False  # a larger model is active, and no frame was classified with it yet
        )
        self._ignored: tuple[type[Exception], ...] = ()  # of sinks, once the run has failed

    def run(self, limit: int | None, must_stop: Callable[[float], bool]) -> RunStatistics:
        self._statistics.begin()
        try:
            self._iterate(limit, must_stop)
        except (Exception, KeyboardInterrupt):
            # The first error is raised; sinks that still work get the last records.
            self._ignored = (SinkError, OSError)
            self._report_end()
            raise
        else:
            self._report_end()
        finally:
            self._step()
            self._statistics.end()
        return self._statistics.now()

    def _iterate(self, limit: int | None, must_stop: Callable[[float], bool]) -> None:
        classified, wait_s = 0, 0.0
        while (limit is None or classified < limit) and not must_stop(wait_s):
            self._step()
            self._report_health()
            wait_s = min(self._pace.wait_s(time.monotonic()), _SLEEP_MAX_S)
            if wait_s > 0:
                continue
            started = time.perf_counter_ns()
            try:
                frame = self._source.read()
                if frame is None:
                    break
                classified += self._take(frame, (time.perf_counter_ns() - started) / 1e6)
                self._broken = 0
            except NoFrameYetError:
                continue
            except UnreadableImageError as error:
                self._unreadable(error.name, error.reason)
            except FrameError as error:
                self._broken += 1
                self._unreadable(self._name, str(error))
                if self._broken >= BROKEN_FRAMES_MAX:
                    raise

    def _step(self) -> None:
        self._statistics.step(0 if self._live is None else self._live.dropped)

    def _take(self, frame: Frame, capture_ms: float) -> bool:
        """Classifies a frame or its regions; False if the motion gate let none pass."""
        now_s = time.monotonic()
        self._name = frame.name or self._name
        if not self._pace.takes(now_s):
            self._statistics.skip()
            return False
        seen = False
        for region, part in self._views(frame):
            gate = self._gates.get(region)
            if gate is None or gate.passes(part, now_s):
                if not self._answer(part, region, capture_ms):
                    break
                seen = True
        if seen:
            if self._unchecked_size:
                self._check_size(frame)
            self._statistics.frame()
        else:
            self._statistics.skip()
        return seen

    def _views(self, frame: Frame) -> Iterator[tuple[Region | None, Frame]]:
        for region in self._regions:
            yield region, frame if region is None else view(frame, region)

    def _answer(self, frame: Frame, region: Region | None, capture_ms: float) -> bool:
        """Writes the records of a frame; False if the source will deliver larger frames instead."""
        prediction = self._classifier.classify(frame)
        if self._classifier.artifact is not self._sized_for and self._ask_for_larger():
            return False
        age_ms = None
        if frame.timestamp_ns is not None:
            age_ms = (time.monotonic_ns() - frame.timestamp_ns) / 1e6
        stream = self._streams.get(region)
        if stream is not None and stream.labels != prediction.labels:  # a new model
            self._end(stream)
            stream = None
        if stream is None:
            stream = self._streams[region] = self._open_stream(prediction.labels)
        record, events = stream.records(
            prediction,
            prediction.threshold if self._threshold is None else self._threshold,
            Seen(
                frame.index,
                frame.name,
                None if region is None else str(region),
                capture_ms,
                age_ms,
                str(self._classifier.artifact.path),
                time.monotonic(),
            ),
        )
        self._write(record)
        for event in events:
            self._write(event)
        self._statistics.answer(record)
        for viewer in self._viewers:
            viewer.see(frame, record)
        return True

    def _ask_for_larger(self) -> bool:
        """Whether the source will deliver larger frames, as a new model needs them."""
        old, new = self._sized_for.preprocessing, self._classifier.artifact.preprocessing
        self._sized_for = self._classifier.artifact
        if new.width <= old.width and new.height <= old.height:
            return False
        self._unchecked_size = True
        return isinstance(self._source, SizedSource) and self._source.ask_for(
            (new.width, new.height)
        )

    def _check_size(self, frame: Frame) -> None:
        """Reports pictures that are too small for a new, larger model."""
        how, (width, height) = self._sized_for.preprocessing, frame.size
        self._unchecked_size = False
        if width < how.width or height < how.height:
            detail = (
                f"{width} x {height} pixels are less than the model's {how.width} x {how.height}: "
                "its pictures are enlarged; open the source for that size, or use a smaller model"
            )
            self._write_health(Health("enlarged", detail), frame.name)

    def _report_health(self) -> None:
        for part, name, sees in self._reporters:
            for health in part.take_health():
                self._write_health(health, name)
                if sees and health.what in _BLIND:
                    for stream in self._streams.values():
                        self._end(stream)

    def _report_end(self) -> None:
        """Writes the last health records and ends every stream."""
        self._report_health()
        for stream in self._streams.values():
            self._end(stream)

    def _end(self, stream: DecisionStream) -> None:
        for event in stream.end():
            self._write(event)

    def _unreadable(self, name: str, reason: str) -> None:
        self._write_health(Health("unreadable", reason), name, unreadable=True)

    def _write_health(self, health: Health, name: str = "", *, unreadable: bool = False) -> None:
        record = HealthRecord(
            utc_now(), name or self._name, health.what, redact_text(health.detail)
        )
        self._statistics.trouble(record, unreadable=unreadable)
        self._write(record)

    def _write(self, record: Record) -> None:
        for sink in self._sinks:
            with contextlib.suppress(*self._ignored):
                sink.write(record)


def _health_reporters(
    source: FrameSource, classifier: Classifies, sinks: Sequence[Sink]
) -> list[tuple[TellsHealth, str, bool]]:
    """The objects that report health, the name of each ("": the source's), whether it is the source."""
    reporters: list[tuple[TellsHealth, str, bool]] = [
        (part, "", part is source) for part in (source, classifier) if isinstance(part, TellsHealth)
    ]
    reporters += [
        (sink, str(getattr(sink, "name", type(sink).__name__)), False)
        for sink in sinks
        if isinstance(sink, TellsHealth)
    ]
    return reporters


def _stop_check(stop: Stop | None) -> Callable[[float], bool]:
    """A function that sleeps for at most so many seconds and returns whether to stop."""
    if isinstance(stop, threading.Event):
        return lambda wait_s: stop.wait(wait_s) if wait_s > 0 else stop.is_set()

    def must_stop(wait_s: float) -> bool:
        if wait_s > 0:
            time.sleep(wait_s)
        return stop is not None and stop()

    return must_stop
