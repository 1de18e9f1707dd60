import pytest

from shoe_classifier.storage.filters import Days, conditions_of, split_days
from shoe_classifier.types import PredictionFilter, TrainingFilter

TIME = "2026-11-25T10:00:00.000Z"


def test_times_are_bounds_of_ids_with_room_for_clocks() -> None:
    conditions = conditions_of(PredictionFilter(since=TIME, until=TIME))
    assert [(column, operator) for column, operator, _ in conditions] == [
        ("id", ">="),
        ("created_at", ">="),
        ("id", "<"),
        ("created_at", "<"),
    ]
    since, until = conditions[0].value, conditions[2].value
    assert int(until.replace("-", "")[:12], 16) - int(since.replace("-", "")[:12], 16) == 2 * 3_600_000


def test_times_before_1970_are_bounds_too() -> None:
    assert conditions_of(TrainingFilter(since="0001-01-01T00:00:00.000Z"))[0].value.startswith("00000000-0000")


@pytest.mark.parametrize(
    ("since", "until", "days", "edges"),
    [
        (None, None, Days(None, None), []),
        ("2026-11-20T00:00:00.000Z", "2026-11-25T00:00:00.000Z", Days("2026-11-20", "2026-11-25"), []),
        ("2026-11-20T00:00:00.001Z", None, Days("2026-11-21", None), [("2026-11-20T00:00:00.001Z", "2026-11-21")]),
        (None, TIME, Days(None, "2026-11-25"), [("2026-11-25", TIME)]),
        (
            "2026-11-24T23:00:00.000Z",
            TIME,
            Days("2026-11-25", "2026-11-25"),
            [("2026-11-24T23:00:00.000Z", "2026-11-25"), ("2026-11-25", TIME)],
        ),
        ("2026-11-25T09:00:00.000Z", TIME, Days("2026-11-26", "2026-11-26"), [("2026-11-25T09:00:00.000Z", TIME)]),
        ("9999-12-31T10:00:00.000Z", None, Days("9999-12-31", None), [("9999-12-31T10:00:00.000Z", "9999-12-31")]),
    ],
)
def test_whole_days_and_parts_of_days(
    since: str | None, until: str | None, days: Days, edges: list[tuple[str, str]]
) -> None:
    def time(text: str) -> str:
        return text if "T" in text else f"{text}T00:00:00.000Z"

    parts = [conditions_of(PredictionFilter("Boot", since=time(start), until=time(end))) for start, end in edges]
    assert split_days(PredictionFilter("Boot", since=since, until=until)) == (days, parts)
