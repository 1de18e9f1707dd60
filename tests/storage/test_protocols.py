"""What every store must do: the same tests for SQLite, and for a real PostgreSQL behind a real PostgREST."""

import contextlib
import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.rows import learned_rows
from helpers.service import make_settings, wait_for
from shoe_classifier.errors import NotFound
from shoe_classifier.services.factories import open_store
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    CANCELLING,
    QUEUED_KINDS,
    SKIPPED,
    AuditEntry,
    Decision,
    DecisionCount,
    KeptPicture,
    KeptPredictions,
    LabelChange,
    LabelCounts,
    MinuteMetrics,
    ModelVersion,
    PredictionFilter,
    PredictionRecord,
    QueuedKind,
    RetrainJob,
    TrainingFilter,
    TrainingPicture,
    new_id,
    picture_path,
    to_iso,
    utc_now,
)

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
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
    wait_for(lambda: drained(store))
    assert store.predictions(10, None) == reviewed[::-1]
    store.review_prediction(rows[0].id, "Boot", "uncertain", "2026-11-26T10:00:00.000Z")
    found = store.prediction(rows[0].id)
    assert found and (found.reviewed_label, found.review_kind) == ("Boot", "uncertain")
    for unknown in (new_id(), "none"):
        with pytest.raises(NotFound, match=unknown):
            store.review_prediction(unknown, "Shoe", "random", "2026-11-25T10:00:00.000Z")


def entry(status: int = 204) -> AuditEntry:
    path = "/training-data/{row_id}"
    return AuditEntry(new_id(), utc_now(), f"DELETE {path}", "/training-data/x", "9f86d081", "192.0.2.7", status)


def test_the_audit_log_is_read_in_pages(store: Store) -> None:
    entries = [entry(), replace(entry(401), key_fingerprint=None, calls=7), entry()]
    for row in entries:
        store.add_audit(row)
    assert store.audit_log(10, None) == entries[::-1]
    assert store.audit_log(1, entries[1].id) == entries[:1]
    wait_for(lambda: drained(store))
    assert store.audit_log(2, None) == entries[:0:-1]


def test_only_rows_of_refused_calls_are_trimmed(store: Store) -> None:
    entries = [entry(status) for status in (204, 401, 403, 401, 500, 403)]
    for row in entries:
        store.add_audit(row)
    wait_for(lambda: drained(store))
    store.trim_audit(10)
    assert store.audit_log(10, None) == entries[::-1]
    store.trim_audit(2)
    assert [row.status for row in store.audit_log(10, None)] == [403, 500, 401, 204]


def drained(store: Store) -> bool:
    """Whether nothing is left to be sent to a shared store."""
    return not store.state().get("outbox", {}).get("rows")


def gone(store: Store, path: str) -> bool:
    with contextlib.suppress(NotFound):
        store.find_picture(path.split("/")[2].partition(".")[0])
        return False
    return True


@pytest.mark.parametrize("queued", [True, False])
def test_a_deleted_prediction_takes_its_picture_along(store: Store, queued: bool) -> None:
    row, other = prediction(picture=b"one"), prediction(picture=b"two")
    store.add_prediction(row, b"one")
    store.add_prediction(other, b"two")
    if not queued:
        wait_for(lambda: drained(store))
    store.delete_predictions([row])
    wait_for(lambda: drained(store) and store.prediction(row.id) is None)
    assert store.predictions(10, None) == [other]
    assert row.image_path and other.image_path and gone(store, row.image_path) and not gone(store, other.image_path)


def test_a_picture_stays_as_long_as_a_row_uses_it(store: Store, tmp_path: Path) -> None:
    rows = [prediction(picture=b"one"), prediction(picture=b"one"), prediction(picture=b"picture 0")]
    for row, picture in zip(rows, (b"one", b"one", b"picture 0"), strict=True):
        store.add_prediction(row, picture)
    learned = added(store, tmp_path, 1)[0]
    wait_for(lambda: drained(store))
    store.delete_predictions([rows[0], rows[2]])
    wait_for(lambda: drained(store))
    assert rows[0].image_path and not gone(store, rows[0].image_path) and not gone(store, learned.image_path)
    store.drop_pictures([rows[1]])
    wait_for(lambda: drained(store))
    assert gone(store, rows[0].image_path)
    assert store.predictions(10, None) == [replace(rows[1], image_path=None, image_bytes=None)]


def test_what_is_reviewed_or_training_data_is_not_expendable(store: Store, tmp_path: Path) -> None:
    pictures = [b"reviewed", b"picture 0", b"old", b"new"]
    rows = [replace(prediction(picture=data), image_bytes=len(data)) for data in pictures] + [prediction()]
    for row, picture in zip(rows, [*pictures, None], strict=True):
        store.add_prediction(row, picture)
    store.review_prediction(rows[0].id, "Boot", "random", utc_now())
    added(store, tmp_path, 1)
    wait_for(lambda: drained(store))
    first, last = "0" * 8 + "-0000-0000-0000-" + "0" * 12, "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12

    def expendable(after: str = first, before: str = last, with_picture: bool = False, limit: int = 10) -> list[str]:
        found = store.expendable_predictions(after, before, with_picture=with_picture, limit=limit)
        return [row.id for row in found]

    assert expendable() == [row.id for row in rows[2:]]
    assert expendable(with_picture=True) == [row.id for row in rows[2:4]]
    assert expendable(after=rows[2].id, before=rows[4].id) == [rows[3].id]
    assert expendable(limit=1) == [rows[2].id]
    kept = store.count_predictions()
    assert kept == KeptPredictions(rows=5, oldest=rows[0].created_at, pictures=2, picture_bytes=6)


def test_an_empty_store_keeps_nothing(store: Store) -> None:
    assert store.count_predictions() == KeptPredictions(0, None, 0, 0)
    store.delete_predictions([])
    store.forget_unused()


def test_all_training_rows_as_they_are_now(store: Store, tmp_path: Path) -> None:
    assert list(store.training_rows()) == []
    rows = added(store, tmp_path, 12)
    reading = store.training_rows()
    assert next(reading) == rows[0]
    store.relabel(rows[-1].id, "Shoe")
    assert store.count_unprocessed(rows[8].id) == 3
    rest = list(reading)
    assert [row.id for row in rest] == [row.id for row in rows[1:]]
    if not store.shared:
        assert rest == rows[1:]


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
    assert (store.unprocessed(), learned_rows(store), store.count_unprocessed()) == (rows, [], 12)


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
    assert live and live.version == "v1" and learned_rows(store) == [replace(rows[0], is_processed=True)]


def test_a_published_job_takes_its_version_live_with_what_it_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    done = published(store, "v1", rows[:2])
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == (ids(rows[:2]), [rows[2].id])
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
    assert live and live.version == "v1" and ids(learned_rows(store)) == [rows[0].id]


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
    assert ids(learned_rows(store)) == ids(rows[:3])
    store.set_live("v1")
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == (ids(rows[:1]), ids(rows[1:]))
    store.set_live("v3")
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == (ids(rows[:3]), ids(rows[3:]))


def test_what_a_version_has_not_learned_is_counted(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 4)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:3], parent="v1")
    assert [store.count_unlearned(name) for name in ("v1", "v2", "none")] == [3, 1, 4]


def test_a_version_does_not_know_what_its_siblings_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:2], parent="v1")
    store.set_live("v1")
    published(store, "v3", rows[2:3], parent="v1")
    assert ids(learned_rows(store)) == [rows[0].id, rows[2].id]


def test_whichever_version_goes_live_knows_what_its_ancestors_learned(store: Store, tmp_path: Path) -> None:
    rows, rng = added(store, tmp_path, 12), random.Random(0)
    parents: dict[str, str | None] = {}
    learned: dict[str, set[str]] = {}
    for number in range(7):
        name, parent = f"v{number}", rng.choice([*parents, None])
        lesson = rng.sample(rows, 3)
        published(store, name, lesson, parent=parent)
        parents[name], learned[name] = parent, {row.id for row in lesson}
    for name in rng.choices([*parents], k=12):
        store.set_live(name)
        known, ancestor = set[str](), name
        while ancestor:
            known |= learned[ancestor]
            ancestor = parents[ancestor] or ""
        assert {row.id for row in store.training_rows() if row.is_processed} == known
        assert store.count_unprocessed() == len(rows) - len(known)


def test_a_picture_relabelled_during_a_job_is_not_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    job = RetrainJob()
    assert store.start_job(job)
    store.relabel(rows[0].id, "Shoe")  # before the candidate is prepared, and after
    prepare(store, "v1", rows)
    store.relabel(rows[1].id, "Shoe")
    store.finish_job(replace(job, state="published", model_version="v1"))
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == ([rows[2].id], ids(rows[:2]))


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
    assert ids(learned_rows(store)) == [rows[2].id] == ids(store.training_data(10, None))


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


def test_a_rejected_version_can_be_kept_published_and_dropped(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    published(store, "v1", rows[:1])
    for name in ("v2", "v3"):
        prepare(store, name, rows[1:], parent="v1")
        store.save_version(replace(version(name), parent="v1", state="rejected"))
    assert ids(store.unprocessed()) == [rows[1].id]
    rejected = store.version("v3")
    assert rejected and rejected.state == "rejected" and store.drop_model(rejected)
    job = RetrainJob(state="running", phase="publish", model_version="v2")
    assert store.start_job(job)
    store.finish_job(replace(job, state="published", phase="published"))
    assert (store.count_unprocessed(), store.version("v2").state) == (0, "live")  # type: ignore[union-attr]
    store.set_live("v3")  # what it had learned is forgotten with it
    assert ids(store.unprocessed()) == [rows[1].id]


@pytest.mark.parametrize("damage", [b"", b"cut", b"picture X"])
def test_damaged_pictures_are_replaced(store: Store, tmp_path: Path, damage: bytes) -> None:
    (row, file), (whole, other) = training(tmp_path, b"picture 0"), training(tmp_path, b"picture 1")
    store.add_training([row, whole], [file, other])
    pictures = store._pictures  # type: ignore[attr-defined]
    if store.shared:
        broken = tmp_path / "broken"
        broken.write_bytes(damage)
        pictures.send(row.image_path, broken)
    else:
        (tmp_path / "dataset" / row.image_path).write_bytes(damage)
    copies = [training(tmp_path, b"picture 0")[1], training(tmp_path, b"picture 1")[1]]
    assert store.heal(list(zip([row.image_path, whole.image_path], copies, strict=True))) == {row.image_path}
    assert list(store.pictures([row.image_path, whole.image_path])) == [b"picture 0", b"picture 1"]


def test_filters_choose_predictions_by_what_they_say_and_when(store: Store) -> None:
    old = replace(prediction(), id="01800000-0000-7000-8000-000000000000", created_at="2022-04-06T17:50:41.664Z")
    rows = [
        old,
        prediction("Shoe"),
        replace(prediction(), decision="unknown"),
        replace(prediction(), model_version="v2"),
    ]
    for row in rows:
        store.add_prediction(row, None)
    chosen = {
        PredictionFilter(): rows,
        PredictionFilter(label="Shoe"): rows[1:2],
        PredictionFilter(decision="unknown"): rows[2:3],
        PredictionFilter(version="v2", label="Boot"): rows[3:],
        PredictionFilter(until="2023-01-01T00:00:00.000Z"): rows[:1],
        PredictionFilter(since="2023-01-01T00:00:00.000Z"): rows[1:],
        PredictionFilter(since=rows[1].created_at, until=rows[1].created_at): [],
        PredictionFilter(since=old.created_at, until="2022-04-06T17:50:41.665Z"): rows[:1],
        PredictionFilter(label="it's, (odd)"): [],
    }
    for which, expected in chosen.items():
        assert store.predictions(10, None, which) == expected[::-1], which
    sent(store, 3)  # of the last days
    for which, expected in chosen.items():
        wait_for(lambda: store.count_matching(which) == len(expected))  # noqa: B023 - it ends within the round
        assert store.predictions(10, None, which) == expected[::-1], which


def test_pages_of_rare_predictions_walk_through_the_days(store: Store) -> None:
    """Some ids were made the day before their rows' times."""
    midnights = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3, 9)]
    moments = [day + timedelta(seconds=seconds) for day in midnights for seconds in (-1, 0, 1, 40_000)]
    rows = []
    for number, moment in enumerate(moments):
        digits = f"{int(moment.timestamp() * 1000):012x}"
        row_id = f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"
        decision: Decision = "unknown" if number % 3 else "accepted"
        row = replace(prediction("Boot" if number % 2 else "Shoe"), id=row_id, decision=decision)
        later = to_iso(moment + timedelta(seconds=1))
        rows.append(replace(row, model_version=f"v{number // 6}", created_at=later))
        store.add_prediction(rows[-1], None)
    wait_for(lambda: drained(store))
    since, until = rows[3].created_at, rows[12].created_at
    for which in (
        PredictionFilter(version="v1"),
        PredictionFilter(label="Boot", decision="unknown"),
        PredictionFilter(label="Shoe", version="v2"),
        PredictionFilter(label="Boot", decision="unknown", since=since, until=until),
        PredictionFilter(label="Shoe", decision="accepted", version="v0"),
        PredictionFilter(label="Hat", decision="unknown"),
    ):
        expected = [
            row
            for row in reversed(rows)
            if which.label in (None, row.predicted_class)
            and which.decision in (None, row.decision)
            and which.version in (None, row.model_version)
            and (which.since is None or since <= row.created_at < until)
        ]
        found: list[PredictionRecord] = []
        while page := store.predictions(2, found[-1].id if found else None, which):
            found += page
        assert found == expected, which


def test_filters_choose_training_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 4)
    published(store, "v1", rows[:2])
    store.relabel(rows[3].id, "Hat")
    ids = {
        TrainingFilter(label="Hat"): [3],
        TrainingFilter(learnt=True): [1, 0],
        TrainingFilter(learnt=False, label="Boot"): [2],
        TrainingFilter(split="holdout"): [],
        TrainingFilter(since=rows[0].uploaded_at, split="train"): [3, 2, 1, 0],
        TrainingFilter(until=rows[0].uploaded_at): [],
    }
    for which, expected in ids.items():
        assert [row.id for row in store.training_data(10, None, which)] == [rows[i].id for i in expected], which
        assert store.count_training(which) == len(expected), which
    assert store.training_data(10, rows[1].id, TrainingFilter(learnt=True)) == [replace(rows[0], is_processed=True)]


def test_many_pictures_change_in_one_call(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 6)
    published(store, "v1", rows)
    store.relabel_all([row.id for row in rows[:4]], "Hat")
    store.relabel_all([row.id for row in rows[2:6]], "Boot")
    assert store.label_counts() == {"Hat": LabelCounts(2, 0, 0), "Boot": LabelCounts(4, 0, 2)}
    found = store.training_pictures([rows[0].id, rows[5].id, new_id(), "none"])
    assert sorted(row.shoe_class for row in found) == ["Boot", "Hat"]
    store.delete_all(found)
    assert store.training_pictures([row.id for row in found]) == []
    assert store.deleted_pictures() == {rows[0].sha256, rows[5].sha256}
    assert store.count_training(TrainingFilter()) == 4
    with pytest.raises(NotFound):
        store.find_picture(rows[0].sha256)


def test_labels_change_with_their_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows)
    store.keep_pictures([KeptPicture(rows[0].id, "label", "Boot", utc_now())])
    changes = [LabelChange(new_id(), "Boot", "Shoe", utc_now()), LabelChange(new_id(), "Shoe", None, utc_now())]
    for _ in range(2):  # as after a lost answer
        store.change_label(changes[0])
    assert store.label_counts() == {"Shoe": LabelCounts(3, 0, 3)}
    assert [row.shoe_class for row in store.kept_pictures()] == ["Shoe"]
    assert store.change_label(changes[1]) == 3
    assert store.label_changes() == changes
    assert (store.label_counts(), store.kept_pictures()) == ({}, [])
    assert store.deleted_pictures() == {row.sha256 for row in rows}


def test_a_merge_is_undone(store: Store, tmp_path: Path) -> None:
    boots, (shoe, file) = added(store, tmp_path, 2), training(tmp_path, b"a shoe", "Shoe")
    store.add_training([shoe], [file])
    published(store, "v1", boots)
    store.keep_pictures([KeptPicture(boots[0].id, "label", "Boot", utc_now())])
    change = LabelChange(new_id(), "Boot", "Shoe", utc_now())
    store.change_label(change)
    store.relabel(boots[1].id, "Hat")  # a person has decided since
    assert store.undo_change(change.id) == 2
    labels = {row.id: row.shoe_class for row in store.training_data(10, None)}
    assert labels == {boots[0].id: "Boot", boots[1].id: "Hat", shoe.id: "Shoe"}
    assert [row.id for row in learned_rows(store)] == [boots[0].id]
    assert [row.shoe_class for row in store.kept_pictures()] == ["Boot"]
    assert (store.label_changes(), store.undo_change(change.id)) == ([], None)


def test_a_removal_is_undone_with_its_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows[:2])
    change = LabelChange(new_id(), "Boot", None, utc_now())
    assert store.change_label(change) == 3
    again, file = training(tmp_path, b"picture 2", "Hat")
    store.add_training([again], [file])
    assert store.undo_change(change.id) == 3
    assert store.label_counts() == {"Boot": LabelCounts(2, 0, 2), "Hat": LabelCounts(1, 0, 0)}
    assert store.deleted_pictures() == frozenset()
    assert [len(data) > 0 for data in store.pictures([row.image_path for row in rows])] == [True] * 3


def test_only_the_newest_change_is_undone_and_none_that_is_settled(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    changes = [LabelChange(new_id(), "x", "y", utc_now()), LabelChange(new_id(), "Boot", None, utc_now())]
    for change in changes:
        store.change_label(change)
    assert [store.undo_change(undone) for undone in (changes[0].id, new_id(), "none")] == [None] * 3
    store.settle_changes(changes[0].id)
    assert next(store.pictures([rows[0].image_path]))
    for _ in range(2):  # as after a lost answer
        store.settle_changes(changes[1].id)
    with pytest.raises(NotFound):
        store.find_picture(rows[0].sha256)
    assert store.undo_change(changes[1].id) == 0


def test_a_picture_is_kept_once_for_each_kind(store: Store, tmp_path: Path) -> None:
    row = added(store, tmp_path, 1)[0]
    kept = [KeptPicture(row.id, "label", "Boot", utc_now()), KeptPicture(row.id, "outlier", "Boot", utc_now())]
    for _ in range(2):
        store.keep_pictures(kept)
    assert sorted(store.kept_pictures(), key=lambda one: one.kind) == kept
    store.undo_keep([(row.id, "label"), (row.id, "near_duplicate")])
    assert store.kept_pictures() == kept[1:]


def predicted(store: Store, decision: Decision, kind: str | None = None, picture: bytes | None = b"1") -> str:
    row = replace(prediction(picture=picture), decision=decision, review_kind=kind)
    store.add_prediction(row, picture)
    return row.id


def waiting(store: Store, kind: QueuedKind) -> list[str]:
    return [row.id for row in store.to_review(kind, 10)]


def sent(store: Store, count: int) -> None:
    """Wait until an outbox has sent all predictions."""
    wait_for(lambda: sum(group.count for group in store.decision_counts(YESTERDAY)) == count)


def test_predictions_wait_for_a_review_until_they_have_one(store: Store) -> None:
    first, second = predicted(store, "uncertain"), predicted(store, "uncertain")
    unknown, drawn = predicted(store, "unknown"), predicted(store, "uncertain", "random")
    predicted(store, "accepted")
    predicted(store, "unknown", picture=None)
    sent(store, 6)
    assert waiting(store, "uncertain") == [second, first]
    assert [row.id for row in store.to_review("uncertain", 1)] == [second]
    assert (waiting(store, "unknown"), waiting(store, "random")) == ([unknown], [drawn])
    assert [store.count_to_review(kind) for kind in QUEUED_KINDS] == [2, 1, 1]
    store.review_prediction(first, SKIPPED, "uncertain", utc_now())
    assert waiting(store, "uncertain") == [second]
    store.review_prediction(first, None, None, None)
    assert waiting(store, "uncertain") == [second, first]


def test_what_was_drawn_at_random_and_reviewed(store: Store) -> None:
    ids = [predicted(store, decision, "random") for decision in ("accepted", "unknown", "accepted")]
    other = predicted(store, "uncertain")
    sent(store, 4)
    for row_id, kind in ((ids[2], "random"), (ids[0], "random"), (other, "uncertain")):
        store.review_prediction(row_id, "Boot", kind, utc_now())
    assert [row.id for row in store.reviewed_at_random(YESTERDAY)] == [ids[0], ids[2]]
    assert store.reviewed_at_random(datetime.now(UTC) + timedelta(minutes=1)) == []


def test_decisions_are_counted_by_day_and_version(store: Store) -> None:
    for decision in ("accepted", "accepted", "unknown"):
        predicted(store, decision)
    sent(store, 3)
    today = utc_now()[:10]
    counts = sorted(store.decision_counts(YESTERDAY), key=lambda group: group.decision)
    assert counts == [DecisionCount(today, "v1", "accepted", 2), DecisionCount(today, "v1", "unknown", 1)]
    assert store.decision_counts(datetime.now(UTC) + timedelta(days=1)) == []


def test_counts_follow_what_is_deleted_and_changed(store: Store, tmp_path: Path) -> None:
    ids = [predicted(store, decision) for decision in ("accepted", "unknown", "unknown")]
    sent(store, 3)
    store.delete_predictions([*store.predictions_with(ids[1:2]).values()])
    wait_for(lambda: store.count_matching(PredictionFilter(decision="unknown")) == 1)
    sent(store, 2)
    assert store.count_predictions().rows == store.count_matching(PredictionFilter()) == 2
    rows = added(store, tmp_path, 3)
    store.relabel(rows[0].id, "Hat")
    store.delete_training(rows[1])
    assert [store.count_training(TrainingFilter(label=label)) for label in ("Hat", "Boot", "Shoe")] == [1, 1, 0]
    assert [*store.training_labels().items()] == [("Hat", 1), ("Boot", 1)]  # as they first appeared


def test_several_predictions_at_once(store: Store) -> None:
    rows = [prediction() for _ in range(3)]
    for row in rows:
        store.add_prediction(row, None)
    assert store.predictions_with([rows[0].id, rows[2].id, "none", new_id()]) == {r.id: r for r in (rows[0], rows[2])}
    assert store.predictions_with([]) == {}


def test_a_training_row_is_deleted_without_its_picture(store: Store, tmp_path: Path) -> None:
    row = added(store, tmp_path, 1)[0]
    store.delete_training(row, keep_picture=True)
    assert store.training_data(10, None) == [] and store.deleted_pictures() == {row.sha256}
    assert store.find_picture(row.sha256)[0] == row.image_path
