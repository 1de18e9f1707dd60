"""The rows of `System_Metrics`, in both stores."""

from helpers.service import wait_for
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import MinuteMetrics, utc_now


def test_a_minute_of_traffic(store: Store) -> None:
    row = MinuteMetrics(utc_now(), 5, 1.5, "ready")
    store.add_minute(row)
    wait_for(lambda: store.minutes(10) == [row])
