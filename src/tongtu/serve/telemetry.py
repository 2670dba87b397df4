"""What the service tells of itself: metrics for Prometheus, figures for the dashboard, and logs of one JSON object a line."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_RECENT = 2_000  # latencies a route that percentiles are taken of
_QUIET = 1.0  # seconds between two lines on requests that were sent away


class Telemetry:
    """Counts requests, keeps recent latencies, and holds the metrics of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("tongtu_requests", "Requests answered", ("route", "status"), registry=self.registry)
        self.seconds = Histogram("tongtu_request_seconds", "Seconds to an answer", ("route",), buckets=_BUCKETS, registry=self.registry)
        self.events = Counter("tongtu_events", "Events acknowledged", ("kind",), registry=self.registry)
        self.model = Gauge("tongtu_model_info", "Models that are served", ("name", "version"), registry=self.registry)
        self.figures: dict[str, Gauge] = {}
        self.began = time.time()
        self.tally: Tally[tuple[str, int]] = Tally()
        self.recent: dict[str, deque[float]] = {}
        self.overlaps: dict[str, deque[float]] = {}
        self._children: dict[Any, Any] = {}
        self._sent_away, self._told = 0, 0.0

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request is answered."""
        self.tally[route, status] += 1
        counter = self._children.get((route, status))
        if counter is None:
            counter = self._children[route, status] = self.requests.labels(route, str(status))
        counter.inc()
        if status in (429, 503):
            return
        timer = self._children.get(route)
        if timer is None:
            timer = self._children[route] = self.seconds.labels(route)
            self.recent[route] = deque(maxlen=_RECENT)
        timer.observe(seconds)
        self.recent[route].append(seconds)

    def worth_a_line(self, status: int) -> bool:
        """Whether to log a request: those that were sent away come by the thousand, and one line a second tells of them."""
        if status not in (429, 503):
            return True
        now = time.monotonic()
        if now - self._told < _QUIET:
            return False
        self._told = now
        return True

    def taken(self, new: int, known: int) -> None:
        """Events were acknowledged."""
        self.events.labels("new").inc(new)
        self.events.labels("duplicate").inc(known)

    def shadowed(self, pair: str, overlap: float) -> None:
        """A shadow answered as far alike as `overlap` says."""
        self.overlaps.setdefault(pair, deque(maxlen=_RECENT)).append(overlap)

    def models(self, served: Mapping[str, str]) -> None:
        """The versions that answer now, by name."""
        self.model.clear()
        for name, version in served.items():
            self.model.labels(name, version).set(1)

    def exposition(self, figures: Mapping[str, Any]) -> bytes:
        """All metrics as Prometheus reads them, with further figures of now."""
        for name, value in figures.items():
            if not isinstance(value, int | float):
                continue
            if name not in self.figures:
                self.figures[name] = Gauge(f"tongtu_{name}", name.replace("_", " "), registry=self.registry)
            self.figures[name].set(value)
        return generate_latest(self.registry)

    def summary(self) -> dict[str, Any]:
        """Requests by route and status, percentiles of recent latencies in milliseconds, overlap of shadows."""
        return {
            "uptime_seconds": round(time.time() - self.began, 1),
            "requests": [{"route": route, "status": status, "count": count} for (route, status), count in sorted(self.tally.items())],
            "latency_ms": {route: _percentiles(values) for route, values in sorted(self.recent.items()) if values},
            "shadow_overlap": {pair: {"mean": sum(values) / len(values), "count": len(values)} for pair, values in self.overlaps.items() if values},
        }


def _percentiles(values: deque[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}


def open_logs(kind: str) -> Callable[..., None]:
    """Write logs to standard error and give back the function that writes one: `log("event", key=value)`."""
    renderer: Any = structlog.processors.JSONRenderer(serializer=orjson.dumps) if kind == "json" else structlog.dev.ConsoleRenderer(colors=False)
    factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer) if kind == "json" else structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    logger = structlog.get_logger().bind()
    _forward(logger)

    def log(event: str, level: str = "info", **facts: Any) -> None:
        getattr(logger, level)(event, **facts)

    return log


class _Forward(logging.Handler):
    """Warnings of the libraries in the same form as ours. Their own messages never hold headers."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.WARNING)
        self.logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(self.logger, level)(record.getMessage(), source=record.name, **({"exc_info": record.exc_info} if record.exc_info else {}))


def _forward(logger: Any) -> None:
    for name in ("uvicorn", "uvicorn.error", "asyncio", "sqlalchemy", "alembic"):
        source = logging.getLogger(name)
        source.handlers[:] = [_Forward(logger)] if name != "uvicorn.error" else []
        source.propagate = name == "uvicorn.error"
        source.setLevel(logging.WARNING)
