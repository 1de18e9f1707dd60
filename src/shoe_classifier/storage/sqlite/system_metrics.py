"""The rows of `System_Metrics`."""

from shoe_classifier.storage.sqlite.records import Records, insert
from shoe_classifier.storage.tables import SYSTEM_METRICS
from shoe_classifier.types import MinuteMetrics


class SystemMetrics(Records):
    """See `protocols.MetricsStore`."""

    def add_minute(self, row: MinuteMetrics) -> None:
        with self._db.transaction() as db:
            insert(db, SYSTEM_METRICS, row, "insert or replace")

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        return self._page(SYSTEM_METRICS, limit, None)
