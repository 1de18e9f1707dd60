from collections.abc import Iterator

import pytest

from helpers.supabase_stack import Stack, token
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.row_reader import RowReader, decode
from shoe_classifier.storage.tables import RETRAIN_JOBS, SYSTEM_METRICS, TRAINING_DATA
from shoe_classifier.types import MinuteMetrics


@pytest.fixture
def reader(stack: Stack) -> Iterator[RowReader]:
    client = SupabaseClient(stack.gateway.url, token("service_role"), 10)
    yield RowReader(client)
    client.close()


def add(stack: Stack, count: int) -> None:
    """Training rows whose ids end in 1, 2, … `count`; every second one is processed."""
    stack.sql(
        "insert into public.\"Training_Data\" select ('019a0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,"
        " 'images/x', 'sha' || n, 'hat', n % 2 = 0, 'train', 'zip', gen_random_uuid(), now()"
        f" from generate_series(1, {count}) n"
    )


def numbers(rows: list[object]) -> list[int]:
    return [int(row.id[-12:]) for row in rows]  # type: ignore[attr-defined]


def test_times_are_formatted_as_everywhere() -> None:
    row = {
        "id": "only in Supabase",
        "timestamp": "2026-11-24T12:00:00.5+02:00",
        "request_count": 5,
        "avg_response_time": 1.5,
        "model_uptime_status": "ready",
    }
    assert decode(SYSTEM_METRICS, row) == MinuteMetrics("2026-11-24T10:00:00.500Z", 5, 1.5, "ready")


@pytest.mark.supabase
def test_more_rows_than_an_answer_holds(reader: RowReader, stack: Stack) -> None:
    add(stack, 2500)
    assert numbers([*reader.newest(TRAINING_DATA, 2300)]) == list(range(2500, 200, -1))
    assert numbers([*reader.all(TRAINING_DATA, "is_processed", True)]) == list(range(2, 2501, 2))


@pytest.mark.supabase
def test_a_page(reader: RowReader, stack: Stack) -> None:
    add(stack, 10)
    (seventh,) = reader.newest(TRAINING_DATA, 1, before="019a0000-0000-7000-8000-000000000008")
    assert numbers([seventh]) == [7]
    assert numbers([*reader.newest(TRAINING_DATA, 100, before=seventh.id)]) == [6, 5, 4, 3, 2, 1]


@pytest.mark.supabase
def test_one_row(reader: RowReader, stack: Stack) -> None:
    add(stack, 3)
    found = reader.one(TRAINING_DATA, "sha256", "sha2")
    assert found and found == reader.one(TRAINING_DATA, "id", found.id)
    assert reader.one(TRAINING_DATA, "sha256", "none") is None


@pytest.mark.supabase
def test_what_is_no_uuid_is_not_looked_up(reader: RowReader, stack: Stack) -> None:
    stack.gateway.reset()
    assert reader.one(TRAINING_DATA, "id", "none") is None
    assert reader.one(RETRAIN_JOBS, "job_id", "1' or '1'='1") is None
    assert not stack.gateway.calls
