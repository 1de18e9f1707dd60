import contextlib
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.retraining import AWAY, FULL, LOCKED, Machine, Story, assert_one_story, in_both_stores, restarted
from helpers.service import make_settings
from shoe_classifier.errors import AppError, Superseded
from shoe_classifier.ml.live_model import Readiness
from shoe_classifier.services.model_registry import KeepPolicy
from shoe_classifier.types import RetrainJob

pytestmark = pytest.mark.usefixtures("quick_training")


def state_of(machine: Machine, version: str | None) -> str:
    assert version
    return machine.registry.known(version).state


@in_both_stores
def test_a_rejected_candidate_is_kept_and_can_be_published(machine: Machine, rejecting: None) -> None:
    before = machine.holder.live.bundle.version
    rejected = machine.retrain(force=False)
    version = rejected.model_version
    assert rejected.state == "rejected" and version
    assert rejected.metrics and rejected.metrics["worse"]["reasons"] == ["it is worse"]
    assert (state_of(machine, version), machine.story()) == ("rejected", Story.unchanged(before))
    again = restarted(machine)
    assert again.registry.file_of(version).exists()
    assert again.retrainer.activate(version).state == "live"
    assert again.story() == Story.published(version)
    forced = again.retrainer.jobs(1, None)[0]
    assert (forced.state, forced.force, forced.model_version, forced.error) == ("published", True, version, None)
    assert "it is worse" in forced.message and forced.metrics == rejected.metrics
    assert machine.real_store.job(rejected.job_id) == rejected
    again.close()


@in_both_stores
def test_a_rejected_candidate_that_would_lose_what_was_learned_since_is_refused(
    machine: Machine, rejecting: None
) -> None:
    before = machine.holder.live.bundle.version
    version = machine.retrain(force=False).model_version
    live = machine.retrain(force=True).model_version
    assert version
    with pytest.raises(Superseded, match="learned since"):
        machine.retrainer.activate(version)
    assert machine.story() == Story.published(live)
    machine.retrainer.activate(before)
    assert machine.retrainer.activate(version).state == "live"  # what it lacks was rolled back


@in_both_stores
def test_rejected_candidates_are_few_and_do_not_last(machine: Machine, rejecting: None) -> None:
    kept = machine.settings.keep_rejected
    versions = [machine.retrain(force=False).model_version for _ in range(kept + 1)]
    assert [state_of(machine, version) for version in versions] == ["deleted", *["rejected"] * kept]
    machine.registry._keep = KeepPolicy(rejected_hours=0.0)  # type: ignore[attr-defined]
    machine.registry.remove_unpublished()
    assert {state_of(machine, version) for version in versions} == {"deleted"}
    assert not [version for version in versions if machine.files.file_of(version).exists()]


@in_both_stores
def test_the_candidate_of_a_running_job_stays(machine: Machine) -> None:
    machine.real_store.start_job(RetrainJob(state="running"))
    candidate = replace(machine.real_store.versions()[0], version="of another process", state="candidate")
    machine.real_store.save_version(candidate, machine.settings.live_model)
    machine.registry.remove_unpublished()
    assert state_of(machine, candidate.version) == "candidate"
    machine.real_store.fail_unfinished_jobs("The service was stopped.")
    machine.registry.remove_unpublished()
    assert state_of(machine, candidate.version) == "deleted"


def test_a_broken_live_file_never_falls_back_to_a_rejected_candidate(machine: Machine, rejecting: None) -> None:
    machine.retrain(force=False)
    machine.settings.live_model.write_bytes(b"broken")
    again = restarted(machine)
    assert again.holder.readiness is Readiness.FAILING
    again.close()


@in_both_stores
@pytest.mark.parametrize("error", [LOCKED, AWAY, FULL])
@pytest.mark.parametrize("after", [False, True], ids=["before the work", "after the work"])
@pytest.mark.parametrize("method", ["prepare_publication", "archive_candidate", "save_version", "finish_job"])
def test_whatever_fails_while_a_rejected_candidate_is_kept_it_is_rejected(
    machine: Machine, rejecting: None, method: str, after: bool, error: Exception
) -> None:
    before = machine.holder.live.bundle.version
    part = machine.files if method == "archive_candidate" else machine.store
    part.fail(method, error, after=after)
    job = machine.retrain(force=False)
    part.heal()
    machine.retrainer.beat()
    assert job.state == "rejected"
    assert (job.model_version is None) == (method != "finish_job")
    assert_one_story(machine, machine.retrainer.job(job.job_id), before)
    again = restarted(machine)
    assert_rejected_story(again, job)
    again.close()


@in_both_stores
@pytest.mark.parametrize("error", [LOCKED, AWAY, FULL])
@pytest.mark.parametrize("after", [False, True], ids=["before the work", "after the work"])
@pytest.mark.parametrize("method", ["start_job", "copy_archived", "replace_live", "finish_job"])
def test_whatever_fails_while_a_rejected_candidate_is_published_all_parts_tell_one_story(
    machine: Machine, rejecting: None, method: str, after: bool, error: Exception
) -> None:
    before = machine.holder.live.bundle.version
    version = machine.retrain(force=False).model_version
    assert version
    part = machine.files if method in ("copy_archived", "replace_live") else machine.store
    part.fail(method, error, 1, after=after)
    with contextlib.suppress(AppError, OSError, sqlite3.OperationalError):
        machine.retrainer.activate(version)
    part.heal()
    machine.retrainer.beat()
    again = restarted(machine)
    live = again.story().serving
    assert again.story() == (Story.published(version) if live == version else Story.unchanged(before))
    assert state_of(again, version) == ("live" if live == version else "rejected")
    newest = again.real_store.jobs(1, None)[0]
    assert newest.finished and (newest.state == "published") == (live == version)
    assert again.retrainer.activate(version).state == "live"
    again.close()


@in_both_stores
def test_after_a_kill_while_a_rejected_candidate_is_kept_or_published_all_parts_tell_one_story(
    machine: Machine, rejecting: None, tmp_path: Path
) -> None:
    before, steps = machine.holder.live.bundle.version, []

    def keep_disk(step: str) -> None:
        folder = tmp_path / f"killed {len(steps)}"
        for name in ("models", "dataset"):
            shutil.copytree(tmp_path / name, folder / name)
        steps.append(folder)

    for part in (machine.store, machine.files):
        part.observer = keep_disk
    version = machine.retrain(force=False).model_version
    assert version
    machine.retrainer.activate(version)
    for folder in steps:
        again = Machine(make_settings(folder), shared=machine.real_store.shared).start()
        live = again.story().serving
        assert again.story() == (Story.published(version) if live == version else Story.unchanged(before))
        jobs = again.real_store.jobs(2, None)
        assert all(job.finished for job in jobs)
        assert (live == version) == (bool(jobs) and jobs[0].state == "published")
        for job in jobs:
            assert_rejected_story(again, job)
        assert not list(again.settings.models_dir.glob(".*"))
        again.close()


def assert_rejected_story(machine: Machine, job: RetrainJob) -> None:
    """No candidate is left over, and one that a rejected job names can be had."""
    rows = machine.real_store.versions()
    assert not [row for row in rows if row.state == "candidate"]
    for row in rows:
        there = machine.files.file_of(row.version).exists()
        assert there or row.state not in ("rejected", "archived")
        assert not there or row.state != "deleted"
    if job.state == "rejected" and job.model_version:
        assert state_of(machine, job.model_version) in ("rejected", "live")
