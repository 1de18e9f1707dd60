from datetime import UTC, datetime, timedelta, timezone

from shoe_classifier.types import (
    EXTENSIONS,
    FINISHED,
    MEDIA_TYPES,
    TYPE_OF_EXTENSION,
    RetrainJob,
    new_id,
    picture_path,
    picture_url,
    to_iso,
    utc_now,
)


def test_ids_grow_also_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_times_are_utc_with_milliseconds() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=2)))
    assert to_iso(time) == "2026-01-02T01:04:05.678Z"
    assert to_iso(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"


def test_now_is_now() -> None:
    before = to_iso(datetime.now(UTC))
    assert before <= utc_now() <= to_iso(datetime.now(UTC))


def test_a_picture_has_one_path_and_one_address() -> None:
    path = picture_path("ab" + "c" * 62, ".jpg")
    assert path == f"images/ab/ab{'c' * 62}.jpg"
    assert picture_url(path) == f"/files/ab{'c' * 62}"


def test_each_picture_format_has_an_extension_and_a_media_type() -> None:
    assert EXTENSIONS.keys() == MEDIA_TYPES.keys()
    assert len(TYPE_OF_EXTENSION) == len(EXTENSIONS)
    assert TYPE_OF_EXTENSION[".jpg"] == "image/jpeg"


def test_a_job_is_finished_in_its_last_states_only() -> None:
    assert not RetrainJob().finished
    assert not RetrainJob(state="running").finished
    assert all(RetrainJob(state=state).finished for state in FINISHED)
