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

MODEL_FILE = Path(__file__)  # no store looks into a model file


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
    found: list[PredictionRecord] = []
    while page := store.predictions(10, found[-1].id if found else None):
        found += page
    assert found == rows[::-1]


def test_a_review_is_kept_wherever_the_row_is(store: Store) -> None:
    """For Supabase, the row may be in the outbox, on its way, or stored."""
    rows = [prediction(), prediction()]
    for row in rows:
        store.add_prediction(row, None)
    reviewed = [replace(rows[0], reviewed_label="Shoe"), rows[1]]
    reviewed = [replace(row, review_kind="random", reviewed_at="2026-11-25T10:00:00.000Z") for row in reviewed]
    for row in [*reviewed, *reviewed]:
        store.review_prediction(row.id, row.reviewed_label, "random", "2026-11-25T10:00:00.000Z")
        assert store.prediction(row.id) == row
    wait_for(lambda: not store.state().get("outbox", {}).get("rows"))
    assert store.predictions(10, None) == reviewed[::-1]
    store.review_prediction(rows[0].id, "Boot", "uncertain", "2026-11-26T10:00:00.000Z")
    found = store.prediction(rows[0].id)
    assert found and (found.reviewed_label, found.review_kind) == ("Boot", "uncertain")
    for unknown in (new_id(), "none"):
        with pytest.raises(NotFound, match=unknown):
            store.review_prediction(unknown, "Shoe", "random", "2026-11-25T10:00:00.000Z")


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


def published(store: Store, name: str, learned: list[TrainingPicture], parent: str | None = None) -> RetrainJob:
    """Publish a version that learned these pictures, as a retrain does."""
    job = RetrainJob()
    assert store.start_job(job)
    prepare(store, name, learned, parent)
    done = replace(job, state="published", phase="published", metrics={"accuracy": 1.0}, model_version=name)
    store.finish_job(done)
    return done


def prepare(store: Store, name: str, learned: list[TrainingPicture], parent: str | None = None) -> None:
    labels = {row.id: row.shoe_class for row in learned}
    store.prepare_publication(replace(version(name), parent=parent), MODEL_FILE, labels)


def ids(rows: list[TrainingPicture]) -> list[str]:
    return [row.id for row in rows]


def test_a_candidate_is_kept_but_not_live(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    store.save_version(replace(version("v1"), state="live"))
    row = replace(version("v2"), state="archived")
    for _ in range(2):
        store.prepare_publication(row, MODEL_FILE, {rows[0].id: "Boot"})
    kept, live = store.version("v2"), store.live_version()
    assert kept == replace(row, state="candidate")
    assert live and live.version == "v1"
    assert store.count_unprocessed() == 2


def test_preparing_a_version_again_does_not_take_it_out_of_service(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 1)
    published(store, "v1", rows)
    prepare(store, "v1", rows)
    live = store.live_version()
    assert live and live.version == "v1" and store.processed() == [replace(rows[0], is_processed=True)]


def test_a_published_job_takes_its_version_live_with_what_it_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    done = published(store, "v1", rows[:2])
    assert (ids(store.processed()), ids(store.unprocessed())) == (ids(rows[:2]), [rows[2].id])
    assert store.job(done.job_id) == done
    live = store.live_version()
    assert live and live.version == "v1" and store.last_live() == "sha-v1"


def test_a_rejected_job_leaves_all_as_it_was(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    published(store, "v1", rows[:1])
    job = RetrainJob()
    assert store.start_job(job)
    prepare(store, "v2", rows, parent="v1")
    store.finish_job(replace(job, state="rejected", model_version="v2"))
    live = store.live_version()
    assert live and live.version == "v1" and ids(store.processed()) == [rows[0].id]


def test_a_job_cannot_publish_a_version_that_was_not_prepared(store: Store) -> None:
    store.save_version(version("v1"))
    store.set_live("v1")
    job = RetrainJob()
    assert store.start_job(job)
    with pytest.raises(NotFound):
        store.finish_job(replace(job, state="published", model_version="none"))
    kept, live = store.job(job.job_id), store.live_version()
    assert kept and kept.state == "queued" and live and live.version == "v1"


def test_a_rollback_makes_pictures_wait_again_and_rolling_forward_does_not(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 4)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:2], parent="v1")
    published(store, "v3", rows[2:3], parent="v2")
    assert ids(store.processed()) == ids(rows[:3])
    store.set_live("v1")
    assert (ids(store.processed()), ids(store.unprocessed())) == (ids(rows[:1]), ids(rows[1:]))
    store.set_live("v3")
    assert (ids(store.processed()), ids(store.unprocessed())) == (ids(rows[:3]), ids(rows[3:]))


def test_a_version_does_not_know_what_its_siblings_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:2], parent="v1")
    store.set_live("v1")
    published(store, "v3", rows[2:3], parent="v1")
    assert ids(store.processed()) == [rows[0].id, rows[2].id]


def test_a_picture_relabelled_during_a_job_is_not_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    job = RetrainJob()
    assert store.start_job(job)
    store.relabel(rows[0].id, "Shoe")  # before the candidate is prepared, and after
    prepare(store, "v1", rows)
    store.relabel(rows[1].id, "Shoe")
    store.finish_job(replace(job, state="published", model_version="v1"))
    assert (ids(store.processed()), ids(store.unprocessed())) == ([rows[2].id], ids(rows[:2]))


def test_a_relabelled_picture_waits_whatever_version_is_live(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    published(store, "v1", rows)
    published(store, "v2", rows, parent="v1")
    store.relabel(rows[0].id, "Shoe")
    for name in ("v1", "v2"):
        store.set_live(name)
        assert ids(store.unprocessed()) == [rows[0].id]
    published(store, "v3", store.unprocessed(), parent="v2")
    assert store.count_unprocessed() == 0


def test_a_picture_deleted_during_a_job_is_no_obstacle(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    job = RetrainJob()
    assert store.start_job(job)
    store.delete_training(rows[0])
    prepare(store, "v1", rows)
    store.delete_training(rows[1])
    store.finish_job(replace(job, state="published", model_version="v1"))
    assert ids(store.processed()) == [rows[2].id] == ids(store.training_data(10, None))


def test_the_epochs_of_a_job_are_kept(store: Store) -> None:
    job = RetrainJob(state="running", phase="train", epoch=3, epochs=6, loss=0.41)
    assert store.start_job(replace(job, epoch=None, epochs=None, loss=None))
    assert store.report_job(job)
    assert store.job(job.job_id) == job
    store.finish_job(replace(job, state="failed"))
    found = store.job(job.job_id)
    assert found and (found.epoch, found.epochs, found.loss) == (3, 6, 0.41)


def test_one_version_is_live(store: Store) -> None:
    assert store.live_version() is None
    for name in ("v1", "v2"):
        store.save_version(version(name))
        store.set_live(name)
    assert {row.version: row.state for row in store.versions()} == {"v1": "archived", "v2": "live"}
    found = store.version_with("sha-v1")
    assert found and found == replace(version("v1"), state="archived", created_at=found.created_at)
    assert store.version("none") is None
    with pytest.raises(NotFound):
        store.set_live("none")
    live = store.live_version()
    assert live and live.version == "v2"


def test_versions_that_are_not_live_can_be_dropped(store: Store) -> None:
    for name in ("v1", "v2"):
        store.save_version(version(name))
        store.set_live(name)
    prepare(store, "v3", [])
    dropped = {name: store.drop_model(version(name)) for name in ("v1", "v2", "v3")}
    assert dropped == {"v1": True, "v2": False, "v3": True}
    assert {row.version: row.state for row in store.versions()} == {"v1": "deleted", "v2": "live", "v3": "deleted"}
    assert not store.drop_model(version("v1"))


def test_a_job_can_be_cancelled_from_elsewhere(store: Store) -> None:
    job = RetrainJob(state="running")
    assert store.start_job(job)
    assert store.report_job(replace(job, message="Half."))
    store.request_cancel(job.job_id)
    assert not store.report_job(replace(job, message="More."))
    found = store.job(job.job_id)
    assert found and (found.phase, found.message) == (CANCELLING, "Half.")
    assert store.job("none") is None


def test_late_progress_does_not_reopen_a_finished_job(store: Store) -> None:
    job = RetrainJob()
    assert store.start_job(job)
    done = replace(job, state="failed", phase="failed")
    store.finish_job(done)
    assert not store.report_job(replace(job, state="running", message="Late."))
    assert store.job(job.job_id) == done


def test_unfinished_jobs_fail_at_the_next_start(store: Store) -> None:
    done, running = RetrainJob(), RetrainJob()
    assert store.start_job(done)
    store.finish_job(replace(done, state="rejected", phase="rejected"))
    store.request_cancel(done.job_id)  # too late: changes nothing
    found = store.job(done.job_id)
    assert found and found.phase == "rejected"
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
    trained = added(store, tmp_path, 1)[0]
    assert store.training_picture(trained.id) == store.training_with(trained.sha256) == trained
    assert (store.training_picture("none"), store.training_with("none")) == (None, None)


def test_training_pictures_are_relabelled_and_deleted(store: Store, tmp_path: Path) -> None:
    first, second = added(store, tmp_path, 2)
    published(store, "v1", [first, second])
    store.relabel(first.id, "Shoe")
    assert store.unprocessed() == [replace(first, shoe_class="Shoe")]
    store.delete_training(second)
    assert [row.id for row in store.training_data(10, None)] == [first.id]
    with pytest.raises(NotFound):
        list(store.pictures([second.image_path]))


def test_deleted_pictures_are_named_until_they_come_again(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    assert store.deleted_pictures() == frozenset()
    for row in [*rows, rows[0]]:  # a call may be repeated
        store.delete_training(row)
    assert store.deleted_pictures() == {row.sha256 for row in rows}
    again, file = training(tmp_path, b"picture 1")
    store.add_training([again], [file])
    assert store.deleted_pictures() == {rows[0].sha256, rows[2].sha256}
    store.delete_training(again)
    assert again.sha256 in store.deleted_pictures()
