import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shoe_classifier.errors import NotFound
from shoe_classifier.store.base import (
    Minute,
    ModelVersion,
    Prediction,
    RetrainJob,
    TrainingPicture,
    new_id,
    now,
)
from shoe_classifier.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    store.close()


def prediction(name: str = "Boot") -> Prediction:
    return Prediction(new_id(), None, name, 0.9, "accepted", {"Boot": 0.9, "Shoe": 0.1}, "v1", 1.5, now())


def training(store: SqliteStore, content: bytes, label: str = "Boot") -> TrainingPicture:
    sha256 = hashlib.sha256(content).hexdigest()
    path = store.save_picture(sha256, ".jpg", content)
    return TrainingPicture(new_id(), path, sha256, label, False, "train", "zip", new_id(), now())


def version(name: str) -> ModelVersion:
    return ModelVersion(name, f"sha-{name}", ["a", "b"], {"accuracy": 0.9}, None, "candidate", f"{name}.h5", now())


def test_rows_come_back_as_they_were(store: SqliteStore) -> None:
    row = prediction()
    store.add_prediction(row)
    assert store.predictions(10, None) == [row]


def test_pages_walk_through_all_rows_newest_first(store: SqliteStore) -> None:
    rows = [prediction() for _ in range(25)]
    for row in rows:
        store.add_prediction(row)
    seen: list[Prediction] = []
    while page := store.predictions(10, seen[-1].id if seen else None):
        seen += page
    assert seen == rows[::-1]


def test_ids_grow_also_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_a_million_rows_page_as_a_search_not_a_scan(store: SqliteStore) -> None:
    plan = store._select("explain query plan select * from Predict where id < ? order by id desc limit ?", "f", 5)
    assert "SEARCH" in plan[0]["detail"]
    assert not any("TEMP B-TREE" in row["detail"] for row in plan)


def test_pictures_are_kept_once_under_their_hash(store: SqliteStore, tmp_path: Path) -> None:
    first = store.save_picture("ab12", ".jpg", b"one")
    waiting = tmp_path / "waiting"
    waiting.write_bytes(b"one")
    assert store.save_picture("ab12", ".jpg", waiting) == first == "images/ab/ab12.jpg"
    assert store.find_picture("ab12").read_bytes() == b"one"
    assert store.picture_file(first).read_bytes() == b"one"
    with pytest.raises(NotFound):
        store.find_picture("ffff")
    with pytest.raises(NotFound):
        store.picture_file("images/none.jpg")


def test_the_same_picture_is_added_once(store: SqliteStore) -> None:
    row = training(store, b"1")
    again = replace(row, id=new_id(), shoe_class="Shoe")
    assert store.add_training([row]) == {row.id}
    assert store.add_training([again]) == set()
    assert store.labels_of([row.sha256, "none"]) == {row.sha256: "Boot"}
    assert store.training_labels() == {"Boot": 1}


def test_many_pictures_are_flushed_together(store: SqliteStore) -> None:
    rows = [training(store, bytes([i])) for i in range(12)]
    assert len(store.add_training(rows)) == 12


def test_marking_goes_together_with_the_job(store: SqliteStore) -> None:
    rows = [training(store, bytes([i])) for i in range(3)]
    store.add_training(rows)
    job = RetrainJob(state="published", metrics={"accuracy": 1.0})
    store.mark_processed([rows[0].id, rows[1].id], job)
    assert [row.id for row in store.unprocessed()] == [rows[2].id]
    assert [row.id for row in store.processed()] == [rows[0].id, rows[1].id]
    assert store.count_unprocessed() == 1
    assert store.job(job.job_id) == job


def test_one_version_is_live(store: SqliteStore) -> None:
    for name in ("v1", "v2"):
        store.save_version(version(name))
        store.set_live(name)
    assert {row.version: row.state for row in store.versions()} == {"v1": "archived", "v2": "live"}
    found = store.version_with("sha-v1")
    assert found and found.version == "v1"
    assert store.version("none") is None


def test_unfinished_jobs_fail_at_the_next_start(store: SqliteStore) -> None:
    running, done = RetrainJob(state="running"), RetrainJob(state="published")
    store.save_job(running)
    store.save_job(done)
    store.fail_unfinished_jobs("stopped")
    assert [job.state for job in store.jobs(10, None)] == ["published", "failed"]
    found = store.job(running.job_id)
    assert found and found.error == "stopped" and found.finished_at


def test_failed_transaction_leaves_nothing(store: SqliteStore) -> None:
    row = training(store, b"1")
    with pytest.raises(sqlite3.IntegrityError):
        store.add_training([row, replace(row, id=new_id(), sha256="other", shoe_class=None)])  # type: ignore[arg-type]
    assert store.training_data(10, None) == []


def test_threads_share_the_store(store: SqliteStore) -> None:
    threads = [
        threading.Thread(target=lambda: [store.add_prediction(prediction()) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.predictions(1000, None)) == 200


def test_rows_outlive_the_connection(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    row = training(store, b"1")
    store.add_training([row])
    store.add_minute(Minute(now(), 5, 1.5, "ready"))
    store.close()
    again = SqliteStore(tmp_path)
    assert again.training_data(1, None) == [row]
    again.close()
