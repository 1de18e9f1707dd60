"""The rows of `Retrain_Jobs`, in both stores."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.rows import added, ids, learned_rows, prepare, published, version
from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import CANCELLING, RetrainJob


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


def test_the_epochs_of_a_job_are_kept(store: Store) -> None:
    job = RetrainJob(state="running", phase="train", epoch=3, epochs=6, loss=0.41)
    assert store.start_job(replace(job, epoch=None, epochs=None, loss=None))
    assert store.report_job(job)
    assert store.job(job.job_id) == job
    store.finish_job(replace(job, state="failed"))
    found = store.job(job.job_id)
    assert found and (found.epoch, found.epochs, found.loss) == (3, 6, 0.41)


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
