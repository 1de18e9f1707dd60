"""The rows of `System_Metrics`, which go through this machine's outbox."""

from dataclasses import asdict

import orjson

from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.tables import SYSTEM_METRICS
from shoe_classifier.types import MinuteMetrics, new_id


class SystemMetrics(Records):
    """See `protocols.MetricsStore`."""

    def add_minute(self, row: MinuteMetrics) -> None:
        row_id = new_id()
        self._outbox.add("System_Metrics", orjson.dumps({"id": row_id, **asdict(row)}).decode(), row_id)

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        return self._rows.newest(SYSTEM_METRICS, limit)
