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

# One that takes longer waits for something that will not come.
_PATIENCE_S = 15.0


def close_together(sinks: Sequence[Sink], patience_s: float = _PATIENCE_S) -> None:
    """Closes every sink, whatever becomes of the others; one that hangs is left behind.

    Raises:
        Exception: what the first of those that failed raised.
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
        except RuntimeError:  # a limit of tasks: one after the other, then
            close(place, sinks[place])
    until = time.monotonic() + patience_s
    for thread, sink in zip(threads, sinks, strict=True):
        if thread.ident is not None:
            thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            _log.warning("%s does not close; it is left behind", type(sink).__name__)
    if failures:
        raise failures[min(failures)]


# A source that gives nothing but such frames is broken: nobody is helped by a record of each.
BROKEN_FRAMES_MAX = 100
# The longest sleep between two looks at whether to stop.
_NAP_S = 0.2
# What a source says when no frame tells any more whether something is still there.
_BLIND = ("lost", "stalled")

Stop = threading.Event | Callable[[], bool]


class Classifies(Protocol):
    """What ``run`` needs of a classifier: a ``Classifier``, or one that wraps it."""

    @property
    def artifact(self) -> Artifact:
        """What the model is."""
        ...

    def classify(self, frame: Frame) -> Prediction:
        """What the model says about a frame."""
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

    A frame that cannot be read becomes a ``HealthRecord``, and the loop goes on; so does what source,
    classifier and sinks tell of themselves (``TellsHealth``), for every sink. With events, whatever
    ends the run, each label that is there leaves.

    Args:
        source: where frames come from.
        classifier: what classifies them.
        sinks: where the records go, in this order; a ``FrameSink`` sees the frames as well.
        top_k: how many labels each record ranks.
        threshold: best score (0..1) below which the label is None; None: the artifact's own.
        limit: stop after so many frames were classified; None: never.
        attention: which frames are looked at, and which parts; None: all of each.
        decisions: labels that may be answers, smoothing, events; None: none of it.
        stop: an event that is set, or a function that returns True, when the run is to end; asked
            between frames, at least twice a second.
        statistics: filled as the run goes on, for other threads to read.

    Raises:
        SourceLostError: the source is gone for good.
        FrameError: the source gives nothing but frames that are no pictures.
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
    return loop.run(limit, _asked(stop))


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
        self._telling = _telling(source, classifier, sinks)
        self._broken = 0
        self._fitted = classifier.artifact  # the source was opened for this model
        self._unseen = False  # no frame has been answered by a model that needs larger ones
        self._forgiven: tuple[type[Exception], ...] = ()  # by a sink, once the run has failed

    def run(self, limit: int | None, asked_to_stop: Callable[[float], bool]) -> RunStatistics:
        self._statistics.begin()
        try:
            self._turn(limit, asked_to_stop)
        except (Exception, KeyboardInterrupt):
            # What ended the run matters more; the sinks that still work hear of the end.
            self._forgiven = (SinkError, OSError)
            self._tell_end()
            raise
        else:
            self._tell_end()
        finally:
            self._step()
            self._statistics.end()
        return self._statistics.now()

    def _turn(self, limit: int | None, asked_to_stop: Callable[[float], bool]) -> None:
        classified, wait_s = 0, 0.0
        while (limit is None or classified < limit) and not asked_to_stop(wait_s):
            self._step()
            self._tell_health()
            wait_s = min(self._pace.wait_s(time.monotonic()), _NAP_S)
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
        """Classifies a frame, or parts of it; False where nothing in it was worth that."""
        now_s = time.monotonic()
        self._name = frame.name or self._name
        if not self._pace.takes(now_s):
            self._statistics.skip()
            return False
        seen = False
        for region, part in self._parts(frame):
            gate = self._gates.get(region)
            if gate is None or gate.passes(part, now_s):
                if not self._answer(part, region, capture_ms):
                    break
                seen = True
        if seen:
            if self._unseen:
                self._check_size(frame)
            self._statistics.frame()
        else:
            self._statistics.skip()
        return seen

    def _parts(self, frame: Frame) -> Iterator[tuple[Region | None, Frame]]:
        for region in self._regions:
            yield region, frame if region is None else view(frame, region)

    def _answer(self, frame: Frame, region: Region | None, capture_ms: float) -> bool:
        """Writes what the model says; False where the source has larger frames for a new model."""
        prediction = self._classifier.classify(frame)
        if self._classifier.artifact is not self._fitted and self._ask_for_larger():
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
        """Whether the source will give larger frames, which a model that took over needs."""
        old, new = self._fitted.preprocessing, self._classifier.artifact.preprocessing
        self._fitted = self._classifier.artifact
        if new.width <= old.width and new.height <= old.height:
            return False
        self._unseen = True
        return isinstance(self._source, SizedSource) and self._source.ask_for(
            (new.width, new.height)
        )

    def _check_size(self, frame: Frame) -> None:
        """Says where a larger model took over and pictures stay too small for it."""
        how, (width, height) = self._fitted.preprocessing, frame.size
        self._unseen = False
        if width < how.width or height < how.height:
            detail = (
                f"{width} x {height} pixels are less than the model's {how.width} x {how.height}: "
                "its pictures are enlarged; open the source for that size, or take a smaller model"
            )
            self._trouble(Health("enlarged", detail), frame.name)

    def _tell_health(self) -> None:
        for part, name, sees in self._telling:
            for health in part.take_health():
                self._trouble(health, name)
                if sees and health.what in _BLIND:
                    for stream in self._streams.values():
                        self._end(stream)

    def _tell_end(self) -> None:
        """The last health reports, and that what was seen is seen no more."""
        self._tell_health()
        for stream in self._streams.values():
            self._end(stream)

    def _end(self, stream: DecisionStream) -> None:
        for event in stream.end():
            self._write(event)

    def _unreadable(self, name: str, reason: str) -> None:
        self._trouble(Health("unreadable", reason), name, unreadable=True)

    def _trouble(self, health: Health, name: str = "", *, unreadable: bool = False) -> None:
        record = HealthRecord(
            utc_now(), name or self._name, health.what, redact_text(health.detail)
        )
        self._statistics.trouble(record, unreadable=unreadable)
        self._write(record)

    def _write(self, record: Record) -> None:
        for sink in self._sinks:
            with contextlib.suppress(*self._forgiven):
                sink.write(record)


def _telling(
    source: FrameSource, classifier: Classifies, sinks: Sequence[Sink]
) -> list[tuple[TellsHealth, str, bool]]:
    """Who is asked how it is, what it is called ("": as the source), and whether it sees."""
    telling: list[tuple[TellsHealth, str, bool]] = [
        (part, "", part is source) for part in (source, classifier) if isinstance(part, TellsHealth)
    ]
    telling += [
        (sink, str(getattr(sink, "name", type(sink).__name__)), False)
        for sink in sinks
        if isinstance(sink, TellsHealth)
    ]
    return telling


def _asked(stop: Stop | None) -> Callable[[float], bool]:
    """A function that sleeps for so many seconds, less if need be, and says whether to stop."""
    if isinstance(stop, threading.Event):
        return lambda wait_s: stop.wait(wait_s) if wait_s > 0 else stop.is_set()

    def asked(wait_s: float) -> bool:
        if wait_s > 0:
            time.sleep(wait_s)
        return stop is not None and stop()

    return asked
