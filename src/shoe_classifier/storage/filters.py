"""Filters of rows as conditions on columns, which each store words in its own language."""

from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from shoe_classifier.types import PredictionFilter, TrainingFilter

# Ids begin with the time at which they were made, so a range of them is searched without an index of its own. The rows'
# own times decide: they are a little later, and clocks are set.
_SLACK = timedelta(hours=1)


class Condition(NamedTuple):
    """A column, how it is compared, and with what."""

    column: str
    operator: Literal["=", ">=", "<"]
    value: Any


def conditions_of(rows: PredictionFilter | TrainingFilter) -> list[Condition]:
    """Return the conditions that rows must meet to pass a filter."""
    if isinstance(rows, PredictionFilter):
        values: dict[str, Any] = {
            "predicted_class": rows.label,
            "decision": rows.decision,
            "model_version": rows.version,
        }
        time_column = "created_at"
    else:
        values = {"shoe_class": rows.label, "split": rows.split, "is_processed": rows.learnt}
        time_column = "uploaded_at"
    conditions = [Condition(column, "=", value) for column, value in values.items() if value is not None]
    if rows.since:
        conditions += [Condition("id", ">=", _id_at(rows.since, -_SLACK)), Condition(time_column, ">=", rows.since)]
    if rows.until:
        conditions += [Condition("id", "<", _id_at(rows.until, _SLACK)), Condition(time_column, "<", rows.until)]
    return conditions


def _id_at(time: str, shift: timedelta) -> str:
    """The smallest UUIDv7 of a time, moved by a shift."""
    milliseconds = int((datetime.fromisoformat(time).timestamp() + shift.total_seconds()) * 1000)
    digits = f"{max(0, milliseconds):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"
