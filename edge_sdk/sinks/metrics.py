"""Metrics for Prometheus, through prometheus_client (extra ``[metrics]``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from edge_sdk.errors import SinkNotInstalledError, WriteError
from edge_sdk.sinks.address import host_and_port, is_loopback, version
from edge_sdk.sinks.http_message import RefusedError, Reply, Request
from edge_sdk.sinks.http_server import BoundedServer, Connection, Limits
from edge_sdk.sinks.spool import SpoolStatistics
from edge_sdk.types import FrameRecord, HealthRecord, Record

try:
    import prometheus_client as prometheus
    from prometheus_client import core, exposition
except ImportError:
    prometheus = None  # type: ignore[assignment]

_LOG = logging.getLogger("edgecls.metrics")
_EXAMPLE = "127.0.0.1:9464"
# Each label is a permanent series in every Prometheus server: labels beyond these share one.
_MAX_LABELS = 100
_OTHERS = "(others)"
_UNKNOWN = "(unknown)"
# From a small network on a Coral (2 ms) to a large one on a Pi 3.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# Two Prometheus servers and a person; a page costs a few milliseconds.
_LIMITS = Limits(connections=8, per_second=10, burst=16)
_PATHS = ("/", "/metrics")


def open_metrics(
    place: str,
    *,
    dropped: Callable[[], int] | None = None,
    spools: Mapping[str, Callable[[], SpoolStatistics]] | None = None,
) -> Metrics:
    """The sink for ``--metrics HOST:PORT``; a port alone listens on this machine only.

    Raises:
        SinkSpecError: no such place.
        SinkNotInstalledError, WriteError: see ``Metrics``.
    """
    host, port = host_and_port(place, example=_EXAMPLE)
    return Metrics(host, port, dropped=dropped, spools=spools)


class Metrics:
    """Counts records, and answers ``GET /metrics`` in its own threads, eight at most.

    The page has no password: listen on loopback, the default, or in a network whose users may all know
    the camera's answers.

    Args:
        host: address to listen at.
        port: 0 takes a free one, see ``port``.
        dropped: number of frames that a live source has dropped, called for each scrape.
        spools: ``{"mqtt": lambda: spool.statistics}``, called for each scrape.

    Attributes:
        port: where it listens.

    Raises:
        SinkNotInstalledError: prometheus_client is missing.
        SinkSpecError, WriteError: see ``BoundedServer``.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9464,
        *,
        dropped: Callable[[], int] | None = None,
        spools: Mapping[str, Callable[[], SpoolStatistics]] | None = None,
    ) -> None:
        if prometheus is None:
            raise SinkNotInstalledError(
                "metrics need the package prometheus-client, which is not installed; type: "
                "pip install 'edgecls[metrics]'"
            )
        registry = prometheus.CollectorRegistry()
        self._count(registry)
        registry.register(_ScrapedMetrics(dropped, dict(spools or {})))
        prometheus.ProcessCollector(registry=registry)
        self._labels: set[str] = set()
        self._kinds: set[str] = set()
        self._closed = False
        self._registry = registry
        self._server = BoundedServer(host, port, self._answer, _LIMITS, option="--metrics")
        self._server.start()
        self.port = self._server.port
        if not is_loopback(host):
            _LOG.warning(
                "%s:%d: every host that can reach this address can read the metrics",
                host,
                self.port,
            )

    def _count(self, registry: Any) -> None:
        about = prometheus.Info("edgecls", "Version of edgecls", registry=registry)
        about.info({"version": version()})
        self._frames = prometheus.Counter("edgecls_frames", "Frames classified", registry=registry)
        self._last = prometheus.Gauge(
            "edgecls_last_frame_timestamp_seconds", "Time of the last frame", registry=registry
        )
        self._stages = prometheus.Histogram(
            "edgecls_stage_seconds",
            "Duration of a stage",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._age = prometheus.Histogram(
            "edgecls_decision_age_seconds",
            "From the sensor to the answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self._answers = prometheus.Counter(
            "edgecls_answers", "Frames by answer", ("label",), registry=registry
        )
        self._health = prometheus.Counter(
            "edgecls_health", "Reports about sources and sinks", ("what",), registry=registry
        )
        self._records = prometheus.Counter(
            "edgecls_records", "Records by type", ("type",), registry=registry
        )

    def write(self, record: Record) -> None:
        """Counts one record.

        Raises:
            WriteError: the sink is closed.
        """
        if self._closed:
            raise WriteError("this sink is closed")
        self._records.labels(record.type).inc()
        if isinstance(record, FrameRecord):
            self._write_frame(record)
        elif isinstance(record, HealthRecord):
            self._health.labels(_bounded(record.what, self._kinds)).inc()

    def _write_frame(self, record: FrameRecord) -> None:
        self._frames.inc()
        self._last.set_to_current_time()
        for stage in ("capture", "preprocess", "inference", "postprocess"):
            self._stages.labels(stage).observe(getattr(record, f"{stage}_ms") / 1000)
        if record.age_ms is not None:
            self._age.observe(record.age_ms / 1000)
        label = _UNKNOWN if record.label is None else _bounded(record.label, self._labels)
        self._answers.labels(label).inc()

    def close(self) -> None:
        """Stops listening; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._server.stop()

    def _answer(self, request: Request, _: Connection) -> Reply:
        if request.path not in _PATHS or request.method == "POST":
            raise RefusedError(HTTPStatus.NOT_FOUND, "The metrics are at /metrics.")
        encode, kind = exposition.choose_encoder(request.headers.get("accept", ""))
        return Reply(HTTPStatus.OK, kind, encode(self._registry))


class _ScrapedMetrics:
    """Metrics that are read for each scrape."""

    def __init__(
        self,
        dropped: Callable[[], int] | None,
        spools: dict[str, Callable[[], SpoolStatistics]],
    ) -> None:
        self._dropped = dropped
        self._spools = spools

    def describe(self) -> list[Any]:
        """No metrics: the collector is not read at registration."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metric families, for prometheus_client."""
        if self._dropped is not None:
            yield core.CounterMetricFamily(
                "edgecls_dropped_frames",
                "Frames replaced by a newer one before they were read",
                self._dropped(),
            )
        waiting = core.GaugeMetricFamily(
            "edgecls_spool_records", "Records waiting for delivery", labels=("sink",)
        )
        used = core.GaugeMetricFamily(
            "edgecls_spool_bytes", "Size of the waiting records", labels=("sink",)
        )
        stuck = core.GaugeMetricFamily(
            "edgecls_spool_stuck", "1 while nothing can be delivered", labels=("sink",)
        )
        done = core.CounterMetricFamily(
            "edgecls_spool_finished", "Records by outcome", labels=("sink", "how")
        )
        for name, statistics in self._spools.items():
            now = statistics()
            waiting.add_metric((name,), now.depth)
            used.add_metric((name,), now.used_bytes)
            stuck.add_metric((name,), float(bool(now.standstill)))
            for how in ("delivered", "dropped", "refused", "unwritten", "damaged"):
                done.add_metric((name, how), getattr(now, how))
        if self._spools:
            yield from (waiting, used, stuck, done)


def _bounded(text: str, known: set[str]) -> str:
    """``text`` as a label value: valid UTF-8, at most ``_MAX_LABELS`` distinct ones."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    if plain not in known:
        if len(known) >= _MAX_LABELS:
            return _OTHERS
        known.add(plain)
    return plain
