"""Filters of rows as conditions on columns, which each store words in its own language."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from shoe_classifier.types import PredictionFilter, TrainingFilter, first_id

# Ids begin with the time at which they were made, so a range of them is searched without an index of its own. The rows'
# own times decide: they are a little later, and clocks are set.
_SLACK = timedelta(hours=1)


class Condition(NamedTuple):
    """A column, how it is compared, and with what."""

    column: str
    operator: Literal["=", ">", ">=", "<"]
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


class Days(NamedTuple):
    """The days (UTC) from `first` on and before `last`, as `2026-11-25`; None where there is no bound."""

    first: str | None
    last: str | None


def split_days(rows: PredictionFilter) -> tuple[Days, list[list[Condition]]]:
    """Split a filter into the whole days that it chooses, and the conditions of its parts of days."""
    start, end = rows.since and _day_of(rows.since, round_up=True), rows.until and _day_of(rows.until)
    if start and end and start > end:  # both within one day
        return Days(start, start), [conditions_of(rows)]
    edges = [replace(rows, until=_start_of(start))] if start and rows.since != _start_of(start) else []
    edges += [replace(rows, since=_start_of(end))] if end and rows.until != _start_of(end) else []
    return Days(start, end), [conditions_of(edge) for edge in edges]


def _day_of(time: str, *, round_up: bool = False) -> str:
    """The day of a time, or with `round_up` the first one that begins no earlier."""
    day = datetime.fromisoformat(time).date()
    later = round_up and time != _start_of(f"{day}") and day < day.max  # the calendar ends with the year 9999
    return f"{day + timedelta(days=later)}"


def _start_of(day: str) -> str:
    return f"{day}T00:00:00.000Z"


def _id_at(time: str, shift: timedelta) -> str:
    return first_id(datetime.fromisoformat(time), shift)
