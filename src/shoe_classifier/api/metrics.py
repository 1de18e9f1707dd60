"""Counts requests: for Prometheus, for `/status`, and a row a minute for the records."""

import asyncio
import logging
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import MinuteMetrics, utc_now

logger = logging.getLogger(__name__)

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class RequestMetrics:
    """Counters of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.seconds = Histogram(
            "shoe_request_seconds", "Time to answer.", ["path"], buckets=_BUCKETS, registry=self.registry
        )
        self.requests = Counter("shoe_requests", "Answers.", ["path", "method", "status"], registry=self.registry)
        self.decisions = Counter("shoe_predictions", "Predictions.", ["label", "decision"], registry=self.registry)
        self.unprocessed = Gauge("shoe_unprocessed_pictures", "Pictures to learn from.", registry=self.registry)
        self.waiting = Gauge("shoe_outbox", "What waits to be sent to Supabase.", ["what"], registry=self.registry)
        self.total = 0
        self.total_seconds = 0.0
        self._written = (0, 0.0)

    def count(self, path: str, method: str, status: int, seconds: float) -> None:
        """Take note of one answer."""
        self.total += 1
        self.total_seconds += seconds
        self.seconds.labels(path).observe(seconds)
        self.requests.labels(path, method, status).inc()

    def take_minute(self, status: str) -> MinuteMetrics | None:
        """What came since the last call, or None when nothing did."""
        count, seconds = self.total - self._written[0], self.total_seconds - self._written[1]
        self._written = (self.total, self.total_seconds)
        return MinuteMetrics(utc_now(), count, round(seconds / count * 1e3, 3), status) if count else None


async def write_minutes(metrics: RequestMetrics, store: Store, status: Callable[[], str], seconds: float = 60) -> None:
    """Write a row a minute while there is traffic; runs until it is cancelled, and then writes the rest."""
    try:
        while True:
            await asyncio.sleep(seconds)
            minute = metrics.take_minute(status())
            if minute:
                try:
                    await asyncio.to_thread(store.add_minute, minute)
                except Exception:  # a full disk now must not end the counting for good
                    logger.exception("A minute of traffic could not be written down.")
    finally:
        minute = metrics.take_minute(status())
        if minute:
            store.add_minute(minute)


class CountRequests:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, request_metrics: RequestMetrics):
        self._app = app
        self._metrics = request_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, seconds = 500, None

        async def watch(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":  # not the end: a stream of events lasts as long as it is read
                status, seconds = message["status"], time.perf_counter() - started
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            path = getattr(scope.get("route"), "path", "none")  # the route's pattern, so that labels stay few
            self._metrics.count(path, scope["method"], status, seconds or time.perf_counter() - started)


class StripTrailingSlash:
    """ASGI middleware: `/x/` is `/x`, without a redirect that would lose an upload's body."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)
