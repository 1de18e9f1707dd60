"""What every store must do: the same tests for SQLite, and for a real PostgreSQL behind a real PostgREST."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.service import make_settings, wait_for
from shoe_classifier.errors import NotFound
from shoe_classifier.services.factories import open_store
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    CANCELLING,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingPicture,
    new_id,
    picture_path,
    utc_now,
)


@pytest.fixture(params=["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    overrides = request.getfixturevalue("project") if request.param == "supabase" else {}
    settings = make_settings(tmp_path, **overrides)
    settings.dataset_dir.mkdir()
    store = open_store(settings)
    store.start()
    assert store.problems() == []
    yield store
    store.close()


def prediction(name: str = "Boot", picture: bytes | None = None) -> PredictionRecord:
    path = picture_path(hashlib.sha256(picture).hexdigest(), ".jpg") if picture else None
    return PredictionRecord(new_id(), path, name, 0.9, "accepted", {"Shoe": 0.1, "Boot": 0.9}, "v1", 1.5, utc_now())


def training(folder: Path, content: bytes, label: str = "Boot") -> tuple[TrainingPicture, Path]:
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / f"{sha256}.jpg"
    file.write_bytes(content)
    path = picture_path(sha256, ".jpg")
    return TrainingPicture(new_id(), path, sha256, label, False, "train", "zip", new_id(), utc_now()), file


def added(store: Store, folder: Path, count: int) -> list[TrainingPicture]:
    rows, files = zip(*(training(folder, f"picture {i}".encode()) for i in range(count)), strict=True)
    assert len(store.add_training(rows, files)) == count
    return list(rows)


def version(name: str) -> ModelVersion:
    file_path = f"versions/{name}.h5"
    return ModelVersion(name, f"sha-{name}", ["b", "a"], {"accuracy": 0.9}, None, "candidate", file_path, utc_now())


def test_rows_come_back_as_they_were(store: Store) -> None:
    row = prediction()
    store.add_prediction(row, None)
    assert store.predictions(10, None) == [row]
    assert list(store.predictions(10, None)[0].probabilities) == ["Shoe", "Boot"]


def test_pages_walk_through_all_rows_newest_first(store: Store) -> None:
    rows = [prediction() for _ in range(25)]
    for row in rows:
        store.add_prediction(row, None)
    seen: list[PredictionRecord] = []
    while page := store.predictions(10, seen[-1].id if seen else None):
        seen += page
    assert seen == rows[::-1]


def test_ids_grow_also_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_pictures_are_kept_once_under_their_hash(store: Store) -> None:
    rows = [prediction(picture=b"one"), prediction(picture=b"one")]
    for row in rows:
        store.add_prediction(row, b"one")
    sha256 = hashlib.sha256(b"one").hexdigest()
    path = f"images/{sha256[:2]}/{sha256}.jpg"
    assert store.find_picture(sha256) == (path, b"one")
    assert list(store.pictures([path, path])) == [b"one", b"one"]
    wait_for(lambda: set(store.urls([path])) == {path})
    with pytest.raises(NotFound):
        store.find_picture("f" * 64)
    with pytest.raises(NotFound):
        list(store.pictures(["images/none.jpg"]))


def test_training_rows_and_their_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 12)
    assert store.training_data(5, None) == rows[:-6:-1]
    assert store.training_data(100, rows[5].id) == rows[4::-1]
    assert list(store.pictures([row.image_path for row in rows])) == [f"picture {i}".encode() for i in range(12)]
    assert (store.unprocessed(), store.processed(), store.count_unprocessed()) == (rows, [], 12)


def test_the_same_picture_is_added_once(store: Store, tmp_path: Path) -> None:
    (row, file), (again, copy) = training(tmp_path, b"1"), training(tmp_path, b"1", "Shoe")
    assert store.add_training([row], [file]) == {row.id}
    copy.write_bytes(b"1")
    assert store.add_training([again], [copy]) == set()
    assert store.labels_of([row.sha256, "none"]) == {row.sha256: "Boot"}
    assert store.labels_of([]) == {}
    assert store.training_labels() == {"Boot": 1}


def test_the_end_of_a_job_goes_together_with_what_it_changed(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    store.save_version(version("v1"))
    job = RetrainJob()
    assert store.start_job(job)
    assert store.report_job(replace(job, state="running", progress=0.5))
    done = replace(job, state="published", phase="published", metrics={"accuracy": 1.0}, model_version="v1")
    store.finish_job(done, {rows[0].id: "Boot", rows[1].id: "Boot", rows[2].id: "as it was called before"})
    assert [row.id for row in store.unprocessed()] == [rows[2].id]
    assert [row.id for row in store.processed()] == [rows[0].id, rows[1].id]
    assert store.job(job.job_id) == done
    live = store.live_version()
    assert live and live.version == "v1" and store.last_live() == "sha-v1"


def test_one_version_is_live(store: Store) -> None:
    assert store.live_version() is None
    for name in ("v1", "v2"):
        store.save_version(version(name))
        store.set_live(name)
    assert {row.version: row.state for row in store.versions()} == {"v1": "archived", "v2": "live"}
    found = store.version_with("sha-v1")
    assert found and found == replace(version("v1"), state="archived", created_at=found.created_at)
    assert store.version("none") is None
    assert store.drop_model(found)
    live = store.version("v2")
    assert live and not store.drop_model(live)
    assert [row.state for row in store.versions() if row.version == "v1"] == ["deleted"]


def test_a_job_can_be_cancelled_from_elsewhere(store: Store) -> None:
    job = RetrainJob(state="running")
    assert store.start_job(job)
    assert store.report_job(replace(job, message="Half."))
    store.request_cancel(job.job_id)
    assert not store.report_job(replace(job, message="More."))
    found = store.job(job.job_id)
    assert found and (found.phase, found.message) == (CANCELLING, "Half.")
    assert store.job("none") is None


def test_unfinished_jobs_fail_at_the_next_start(store: Store) -> None:
    done, running = RetrainJob(), RetrainJob()
    assert store.start_job(done)
    store.finish_job(replace(done, state="rejected"), {})
    assert store.start_job(running)
    store.fail_unfinished_jobs("stopped")
    assert [job.state for job in store.jobs(10, None)] == ["failed", "rejected"]
    found = store.job(running.job_id)
    assert found and found.error == "stopped" and found.finished_at
    assert store.jobs(10, running.job_id) == store.jobs(10, None)[1:]


def test_threads_share_the_store(store: Store) -> None:
    threads = [
        threading.Thread(target=lambda: [store.add_prediction(prediction(), None) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.predictions(1000, None)) == 200


def test_a_minute_of_traffic(store: Store) -> None:
    row = MinuteMetrics(utc_now(), 5, 1.5, "ready")
    store.add_minute(row)
    wait_for(lambda: store.minutes(10) == [row])


def test_one_row(store: Store, tmp_path: Path) -> None:
    row = prediction()
    store.add_prediction(row, None)
    assert (store.prediction(row.id), store.prediction("none"), store.prediction(new_id())) == (row, None, None)
    learnt = added(store, tmp_path, 1)[0]
    assert store.training_picture(learnt.id) == store.training_with(learnt.sha256) == learnt
    assert (store.training_picture("none"), store.training_with("none")) == (None, None)


def test_training_pictures_are_relabelled_and_deleted(store: Store, tmp_path: Path) -> None:
    first, second = added(store, tmp_path, 2)
    job = RetrainJob()
    store.start_job(job)
    store.finish_job(replace(job, state="rejected"), {first.id: "Boot", second.id: "Boot"})
    store.relabel(first.id, "Shoe")
    assert store.unprocessed() == [replace(first, shoe_class="Shoe")]
    store.delete_training(second)
    assert [row.id for row in store.training_data(10, None)] == [first.id]
    with pytest.raises(NotFound):
        list(store.pictures([second.image_path]))
