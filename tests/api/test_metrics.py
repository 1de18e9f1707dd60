import asyncio
import logging

import pytest

from helpers.service import wait_for
from shoe_classifier.api.metrics import RequestMetrics, write_minutes
from shoe_classifier.types import MinuteMetrics


class Rows:
    """A store that keeps minutes, and refuses as many as it is told to."""

    def __init__(self, failures: int = 0):
        self.rows: list[MinuteMetrics] = []
        self.failures = failures

    def add_minute(self, row: MinuteMetrics) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("full")
        self.rows.append(row)


def test_totals() -> None:
    metrics = RequestMetrics()
    assert (metrics.total, metrics.average_ms) == (0, 0.0)
    metrics.count("/x", "GET", 200, 0.002)
    metrics.count("/x", "GET", 404, 0.004)
    assert (metrics.total, metrics.average_ms) == (2, 3.0)
    assert metrics.uptime_seconds >= 0
    assert metrics.registry.get_sample_value("shoe_request_seconds_count", {"path": "/x"}) == 2


def test_predictions_are_counted_by_label_and_decision() -> None:
    metrics = RequestMetrics()
    metrics.count_prediction("Boot", "accepted")
    labels = {"label": "Boot", "decision": "accepted"}
    assert metrics.registry.get_sample_value("shoe_predictions_total", labels) == 1


def test_gauges_of_the_store() -> None:
    class Store:
        def state(self) -> dict[str, object]:
            return {
                "error": None,
                "outbox": {"rows": 3, "bytes": 4, "oldest_seconds": 5, "waits_because": "ConnectError"},
            }

        def count_unprocessed(self) -> int:
            return 7

    metrics = RequestMetrics()
    metrics.read_store(Store())  # type: ignore[arg-type]
    values = [metrics.registry.get_sample_value("shoe_outbox", {"what": what}) for what in ("rows", "bytes")]
    assert values == [3, 4]
    assert metrics.registry.get_sample_value("shoe_unprocessed_pictures") == 7


def test_a_row_per_minute_while_there_is_traffic() -> None:
    store = Rows()
    status = "loading"

    async def run() -> None:
        nonlocal status
        metrics = RequestMetrics()
        task = asyncio.create_task(write_minutes(metrics, store, lambda: status, 0.01))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert store.rows == []
        metrics.count("/x", "GET", 200, 0.002)
        metrics.count("/x", "GET", 200, 0.004)
        await asyncio.to_thread(wait_for, lambda: store.rows)
        status = "ready"
        metrics.count("/x", "GET", 200, 0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    rows = [(row.request_count, row.avg_response_time, row.model_uptime_status) for row in store.rows]
    assert rows == [(2, 3.0, "loading"), (1, 1.0, "ready")]


def test_a_row_that_cannot_be_written_does_not_end_the_counting(caplog: pytest.LogCaptureFixture) -> None:
    store = Rows(failures=1)

    async def run() -> None:
        metrics = RequestMetrics()
        task = asyncio.create_task(write_minutes(metrics, store, lambda: "ready", 0.01))  # type: ignore[arg-type]
        metrics.count("/x", "GET", 200, 0.002)
        await asyncio.to_thread(wait_for, lambda: store.failures == 0)
        metrics.count("/x", "GET", 200, 0.002)
        await asyncio.to_thread(wait_for, lambda: store.rows)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "could not be recorded" in caplog.text
    assert [row.request_count for row in store.rows] == [1]
