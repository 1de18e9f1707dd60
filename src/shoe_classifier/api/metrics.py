"""Counts requests: for Prometheus, for `/status`, and one row per minute for the records."""

import asyncio
import logging
import math
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.services.review_queue import ReviewQueue
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import Decision, MinuteMetrics, utc_now

logger = logging.getLogger(__name__)

_QUALITY = {
    "accuracy": "Share right of the predictions of 7 days that were drawn at random and reviewed.",
    "accuracy_low": "Lower end of its 95 % interval.",
    "accuracy_high": "Upper end of its 95 % interval.",
    "reviewed": "Number of those predictions.",
    "drift_score": "How well recent pictures are told from held-out ones; 0.5 without a difference.",
    "drift_raised": "1 while recent pictures differ too much.",
    "unknown_rate": "Share of the newest 400 predictions that are unknown.",
    "uncertain_rate": "Share of the newest 400 predictions that are uncertain.",
}
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class RequestMetrics:
    """The counters of one app, since it was built."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "shoe_request_seconds", "Time to answer.", ["path"], buckets=_BUCKETS, registry=self.registry
        )
        self._requests = Counter("shoe_requests", "Answers.", ["path", "method", "status"], registry=self.registry)
        self._decisions = Counter("shoe_predictions", "Predictions.", ["label", "decision"], registry=self.registry)
        self._refusals = Counter("shoe_refusals", "What limits refused.", ["reason"], registry=self.registry)
        self._unprocessed = Gauge("shoe_unprocessed_pictures", "Pictures to learn from.", registry=self.registry)
        self._outbox = Gauge("shoe_outbox", "What waits to be sent to Supabase.", ["what"], registry=self.registry)
        self._quality = {name: Gauge(f"shoe_{name}", text, registry=self.registry) for name, text in _QUALITY.items()}
        self._to_review = Gauge("shoe_to_review", "Predictions to look at.", ["kind"], registry=self.registry)
        self._started = time.time()
        self._total = 0
        self._total_seconds = 0.0
        self._written = (0, 0.0)

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the app was built."""
        return round(time.time() - self._started, 1)

    @property
    def total(self) -> int:
        """The number of requests answered."""
        return self._total

    @property
    def average_ms(self) -> float:
        """Mean time to answer, in milliseconds; 0 before the first request."""
        return round(self._total_seconds / self._total * 1e3, 3) if self._total else 0.0

    def count(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count one response."""
        self._total += 1
        self._total_seconds += seconds
        self._seconds.labels(path).observe(seconds)
        self._requests.labels(path, method, status).inc()

    def count_prediction(self, label: str, decision: Decision) -> None:
        """Count one prediction."""
        self._decisions.labels(label, decision).inc()

    def count_refusal(self, reason: str) -> None:
        """Count what a limit refused; `reason` names the limit."""
        self._refusals.labels(reason).inc()

    def read_store(self, store: Store) -> bool:
        """Set the gauges of the store to what it reports now. Returns whether it answers."""
        state = store.state()
        for what in ("rows", "bytes", "oldest_seconds") if "outbox" in state else ():
            self._outbox.labels(what).set(state["outbox"][what])
        if state.get("error"):
            return False
        self._unprocessed.set(store.count_unprocessed())
        return True

    def read_quality(self, monitor: Monitor, queue: ReviewQueue) -> None:
        """Set the gauges of quality to what the monitor reports now; those that are not known are NaN."""
        for name, value in monitor.newest().items():
            self._quality[name].set(math.nan if value is None else value)
        for kind, count in queue.counts().items():
            self._to_review.labels(kind).set(count)

    def take_minute(self, status: str) -> MinuteMetrics | None:
        """The traffic since the last call, or None when there was none."""
        count, seconds = self._total - self._written[0], self._total_seconds - self._written[1]
        self._written = (self._total, self._total_seconds)
        return MinuteMetrics(utc_now(), count, round(seconds / count * 1e3, 3), status) if count else None


async def write_minutes(metrics: RequestMetrics, store: Store, status: Callable[[], str], seconds: float = 60) -> None:
    """Write a row per minute while there is traffic, until cancelled; the rest is written then."""
    try:
        while True:
            await asyncio.sleep(seconds)
            minute = metrics.take_minute(status())
            if minute:
                try:
                    await asyncio.to_thread(store.add_minute, minute)
                except Exception:  # a full disk now must not stop the counting for good
                    logger.exception("A minute of traffic could not be recorded.")
    finally:
        minute = metrics.take_minute(status())
        if minute:
            store.add_minute(minute)
