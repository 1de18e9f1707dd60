import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.retraining import Machine, Story, train_by_copying
from helpers.service import make_settings, wait_for
from shoe_classifier.errors import (
    AppError,
    InvalidLabel,
    NoNewData,
    NotCancellable,
    NotFound,
    RetrainRunning,
    StoreUnavailable,
    Superseded,
)
from shoe_classifier.ml import finetune
from shoe_classifier.ml.live_model import Readiness
from shoe_classifier.services import candidate_trainer
from shoe_classifier.services.model_registry import KeepPolicy
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob, TrainingEvent

LOCKED = sqlite3.OperationalError("database is locked")
FULL = OSError(28, "No space left on device")
AWAY = StoreUnavailable("Expected an answer; received none.", again=True)


@pytest.fixture(autouse=True)
def quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "retrain_head", train_by_copying)


@pytest.fixture(params=[False, True], ids=["local", "shared"])
def machine(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Machine]:
    machine = Machine(settings, shared=request.param).start()
    machine.upload()
    yield machine
    machine.close()


@pytest.fixture
def local(settings: Settings) -> Iterator[Machine]:
    machine = Machine(settings, shared=False).start()
    machine.upload()
    yield machine
    machine.close()


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Make the next quick retrain wait in its training: the first event says that it does, the second lets it go on."""
    waits, go_on = threading.Event(), threading.Event()

    def waiting(task: finetune.RetrainTask, report: Callable[[TrainingEvent], None]) -> object:
        while not go_on.wait(0.01):
            report(TrainingEvent("train", 0.5, "Held.", epoch=3, epochs=6, loss=0.25))
            waits.set()
        return train_by_copying(task, report)

    monkeypatch.setattr(finetune, "retrain_head", waiting)
    return waits, go_on


def test_a_retrain_is_published_everywhere(machine: Machine) -> None:
    before = machine.holder.live.bundle.version
    job = machine.retrain()
    assert (job.state, job.phase, job.progress, job.error) == ("published", "published", 1.0, None)
    assert machine.story() == Story.published(job.model_version) != Story.published(before)
    assert machine.real_store.job(job.job_id) == job
    states = {row.version: row.state for row in machine.real_store.versions()}
    assert states == {job.model_version: "live", before: "archived"}
    assert not list(machine.settings.models_dir.glob(".*"))
    with pytest.raises(NoNewData):
        machine.retrain()


# ---------------------------------------------------------------- the store or the disk fails


@pytest.mark.parametrize("error", [LOCKED, AWAY, RuntimeError("bug")])
@pytest.mark.parametrize("after", [False, True], ids=["before the work", "after the work"])
@pytest.mark.parametrize("method", ["report_job", "prepare_publication", "finish_job", "set_live"])
def test_whatever_fails_in_the_store_all_parts_tell_one_story(
    machine: Machine, method: str, after: bool, error: Exception
) -> None:
    before = machine.holder.live.bundle.version
    machine.store.fail(method, error, after=after)
    job = machine.retrain()
    machine.store.heal()
    machine.retrainer.beat()  # an end that was not recorded is sent again
    assert_one_story(machine, machine.retrainer.job(job.job_id), before)
    assert_one_story(restarted(machine), machine.retrainer.job(job.job_id), before)


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("method", ["report_job", "prepare_publication", "finish_job"])
def test_a_store_that_fails_once_delays_a_publication_at_most(
    settings: Settings, method: str, call: int, machine: Machine
) -> None:
    patient = Machine(settings, shared=machine.real_store.shared, patience_seconds=20).start()
    before = patient.holder.live.bundle.version
    patient.store.fail(method, LOCKED, call)
    job = patient.retrain()
    assert job.state == ("failed" if method == "report_job" else "published")  # nothing is lost by repeating that one
    patient.retrainer.beat()
    assert_one_story(patient, job, before)
    patient.close()


@pytest.mark.parametrize("after", [False, True], ids=["before the work", "after the work"])
@pytest.mark.parametrize("method", ["candidate", "replace_live"])
def test_whatever_fails_on_the_disk_all_parts_tell_one_story(machine: Machine, method: str, after: bool) -> None:
    before = machine.holder.live.bundle.version
    machine.files.fail(method, FULL, after=after)
    job = machine.retrain()
    machine.files.heal()
    if machine.real_store.shared and method == "replace_live":
        assert job.state == "published"  # the store accepted it, so this machine follows
        machine.registry.follow()
    else:
        assert job.state == "failed" and "it is full" in (job.error or "")
    assert_one_story(machine, job, before)
    assert_one_story(restarted(machine), job, before)


def test_the_lock_is_released_when_the_candidate_cannot_be_removed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith(".candidate-"):
            raise PermissionError(13, "Permission denied", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert machine.retrain().state == "published"
    machine.retrainer.check_idle()


def test_an_end_that_could_not_be_recorded_is_recorded_later(local: Machine) -> None:
    local.store.fail("finish_job", LOCKED)
    job = local.retrain()
    assert job.state == "failed"
    row = local.real_store.job(job.job_id)
    assert row and not row.finished
    local.store.heal()
    local.retrainer.beat()
    assert local.real_store.job(job.job_id) == job
    assert local.retrain().state == "published"


# ---------------------------------------------------------------- the process is killed


def test_after_a_kill_between_any_two_steps_the_next_start_tells_one_story(machine: Machine, tmp_path: Path) -> None:
    before, steps = machine.holder.live.bundle.version, []

    def keep_disk(step: str) -> None:
        folder = tmp_path / f"killed {len(steps)}"
        for name in ("models", "dataset"):
            shutil.copytree(tmp_path / name, folder / name)
        steps.append((step, folder))

    for part in (machine.store, machine.files):
        part.observer = keep_disk
    job = machine.retrain()
    assert job.state == "published"
    told = {}
    for step, folder in steps:
        again = Machine(make_settings(folder), shared=machine.real_store.shared).start()
        row = again.real_store.job(job.job_id)
        if row is not None:
            told[step] = row.state
            assert_one_story(again, row, before)
        assert not list(again.settings.models_dir.glob(".*"))
        again.close()
    published_from = "before finish_job" if not machine.real_store.shared else "after finish_job"
    assert told["before replace_live"] == ("published" if machine.real_store.shared else "failed")
    assert told["after replace_live"] == told[published_from] == "published"
    assert told["after prepare_publication"] == "failed"


def assert_one_story(machine: Machine, job: RetrainJob, before: str) -> None:
    row = machine.real_store.job(job.job_id)
    assert row is not None
    assert (row.state, row.model_version) == (job.state, job.model_version)
    assert row.finished
    published = job.state == "published"
    assert machine.story() == (Story.published(job.model_version) if published else Story.unchanged(before))
    states = {version.version: version.state for version in machine.real_store.versions()}
    live = job.model_version if published else before
    assert [version for version, state in states.items() if state == "live"] == [live]
    assert job.error is None if published else job.error


def restarted(machine: Machine) -> Machine:
    return Machine(machine.settings, shared=machine.real_store.shared).start()


# ---------------------------------------------------------------- what webhooks say


def test_an_end_by_the_gate_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = machine.retrain()
    [(event, data)] = machine.told
    assert (event, data["job_id"], data["model_version"]) == ("retrain.published", job.job_id, job.model_version)
    assert (data["state"], data["samples"], data["accuracy"]) == ("published", 4, (job.metrics or {})["accuracy"])
    machine.upload(start=10)
    monkeypatch.setattr(candidate_trainer, "judge", lambda evidence: ["it is a test"])
    job = machine.retrain(force=False)
    event, data = machine.told[1]
    assert (event, data["job_id"], data["message"]) == ("retrain.rejected", job.job_id, job.message)


def test_a_failure_is_not_told(machine: Machine) -> None:
    machine.store.fail("prepare_publication", FULL)
    assert machine.retrain().state == "failed"
    assert machine.told == []


def test_a_publication_is_told_by_the_next_start(local: Machine) -> None:
    live = local.holder.live.bundle.version
    killed = RetrainJob(state="running", phase="publish", model_version=live)
    local.real_store.start_job(killed)
    local.retrainer.fail_interrupted("The service was stopped.")
    assert [(event, data["job_id"]) for event, data in local.told] == [("retrain.published", killed.job_id)]


# ---------------------------------------------------------------- the life of a job


def test_progress_reaches_the_job_and_the_store(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, go_on = held(monkeypatch)
    started = local.retrainer.start("quick", None, True)
    assert waits.wait(30)
    job = local.retrainer.job(started.job_id)
    assert (job.state, job.phase, job.epoch, job.epochs, job.loss) == ("running", "train", 3, 6, 0.25)
    local.retrainer.beat()
    assert local.real_store.job(job.job_id) == local.retrainer.job(job.job_id)
    assert local.retrainer.jobs(5, None)[0].phase == "train"
    go_on.set()
    assert local.retrainer.wait(job.job_id).state == "published"


@pytest.mark.parametrize(("max_seconds", "expected"), [(10, 10), (None, 3600)])
def test_the_training_gets_four_fifths_of_the_time(
    local: Machine, monkeypatch: pytest.MonkeyPatch, max_seconds: int | None, expected: int
) -> None:
    deadlines = []

    def train(task: finetune.RetrainTask, report: Callable[[TrainingEvent], None]) -> object:
        deadlines.append(task.deadline - time.monotonic())
        return train_by_copying(task, report)

    monkeypatch.setattr(finetune, "retrain_head", train)
    local.retrainer.wait(local.retrainer.start("quick", max_seconds, True).job_id)
    assert 0.7 * expected < deadlines[0] <= 0.8 * expected


def test_one_at_a_time(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, go_on = held(monkeypatch)
    job = local.retrainer.start("quick", None, True)
    assert waits.wait(30)
    with pytest.raises(RetrainRunning, match=f"job {job.job_id} is train"):
        local.retrainer.start("quick", None, True)
    with pytest.raises(RetrainRunning):
        local.retrainer.activate(local.holder.live.bundle.version)
    other_worker = Machine(local.settings, shared=False)
    with pytest.raises(RetrainRunning, match="another worker"):
        other_worker.retrainer.check_idle()
    other_worker.retrainer.fail_interrupted("Not this one: it runs.")
    go_on.set()
    assert local.retrainer.wait(job.job_id).state == "published"


def test_cancelled_here(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = local.holder.live.bundle.version
    waits, _ = held(monkeypatch)
    job = local.retrainer.start("quick", None, True)
    assert waits.wait(30)
    local.retrainer.cancel(job.job_id)
    ended = local.retrainer.wait(job.job_id)
    assert (ended.state, ended.error) == ("cancelled", None)
    assert local.story() == Story.unchanged(before)
    with pytest.raises(NotCancellable):
        local.retrainer.cancel(job.job_id)


def test_cancelled_by_another_process(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, _ = held(monkeypatch)
    job = local.retrainer.start("quick", None, True)
    assert waits.wait(30)
    local.retrainer.beat()
    other = Machine(local.settings, shared=False)
    other.retrainer.cancel(job.job_id)
    other.close()
    local.retrainer.beat()
    assert local.retrainer.wait(job.job_id).state == "cancelled"


def test_a_cancellation_between_two_beats_is_noticed_before_publishing(
    local: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = local.holder.live.bundle.version
    waits, go_on = held(monkeypatch)
    job = local.retrainer.start("quick", None, True)
    assert waits.wait(30)
    local.real_store.request_cancel(job.job_id)
    go_on.set()
    assert local.retrainer.wait(job.job_id).state == "cancelled"
    assert local.story() == Story.unchanged(before)


def test_a_killed_workers_job_ends_when_another_starts(local: Machine) -> None:
    lost = RetrainJob(state="running")
    local.real_store.start_job(lost)
    local.retrain()
    row = local.real_store.job(lost.job_id)
    assert row and row.state == "failed"


def test_activation_waits_for_another_machines_job(settings: Settings) -> None:
    machine = Machine(settings, shared=True).start()
    machine.store.fail("fail_unfinished_jobs", AWAY)  # SQLite would end the job of the other machine, too
    machine.real_store.fail_unfinished_jobs = lambda error: None  # type: ignore[method-assign]
    machine.store.heal()
    machine.real_store.start_job(RetrainJob(state="running"))
    with pytest.raises(RetrainRunning, match="another machine"):
        machine.retrainer.activate(machine.holder.live.bundle.version)
    machine.retrainer.check_idle()


def test_unknown_jobs(local: Machine) -> None:
    for call in (local.retrainer.job, local.retrainer.cancel, local.retrainer.wait):
        with pytest.raises(NotFound):
            call("x")


def test_stop_cancels_and_waits(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, _ = held(monkeypatch)
    job = local.retrainer.start("quick", None, True)
    assert waits.wait(30)
    local.retrainer.stop()
    assert not local.retrainer.running
    assert local.retrainer.job(job.job_id).state == "cancelled"


def test_stop_does_not_wait_for_a_store_that_is_away(settings: Settings) -> None:
    machine = Machine(settings, shared=True, patience_seconds=600).start()
    machine.upload()
    machine.store.fail("prepare_publication", AWAY)
    job = machine.retrainer.start("quick", None, True)
    wait_for(lambda: machine.store.calls["prepare_publication"] >= 2)
    started = time.monotonic()
    machine.retrainer.stop()
    assert time.monotonic() - started < 10
    assert machine.retrainer.job(job.job_id).state == "failed"
    machine.close()


def test_heartbeats_go_on_while_a_publication_waits_for_the_store(settings: Settings) -> None:
    machine = Machine(settings, shared=True, patience_seconds=600).start()
    machine.upload()
    machine.store.fail("finish_job", AWAY)
    job = machine.retrainer.start("quick", None, True)
    wait_for(lambda: machine.store.calls["finish_job"] >= 2)
    machine.registry.refresh()
    machine.registry.follow()  # neither waits for the publication
    machine.retrainer.beat()
    row = machine.real_store.job(job.job_id)
    assert row and row.phase == "publish"
    machine.store.heal()
    done = machine.retrainer.wait(job.job_id)
    assert machine.story() == Story.published(done.model_version)
    machine.close()


def test_failure_inside_ends_the_job_without_its_text(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: object, report: object) -> object:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(finetune, "retrain_head", broken)
    job = local.retrain()
    assert job.state == "failed"
    assert "secret" not in str(job)


def test_a_rejected_candidate_changes_nothing(local: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = local.holder.live.bundle.version
    monkeypatch.setattr("shoe_classifier.services.candidate_trainer.judge", lambda evidence: ["it is worse"])
    job = local.retrain(force=False)
    assert (job.state, job.error) == ("rejected", "The live model stays: it is worse.")
    assert local.story() == Story.unchanged(before)
    forced = local.retrain(force=True)
    assert (forced.state, forced.message.endswith("Forced, although it is worse.")) == ("published", True)


# ---------------------------------------------------------------- rejected candidates


@pytest.fixture
def rejecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoe_classifier.services.candidate_trainer.judge", lambda evidence: ["it is worse"])


def state_of(machine: Machine, version: str | None) -> str:
    assert version
    return machine.registry.known(version).state


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


def test_rejected_candidates_are_few_and_do_not_last(machine: Machine, rejecting: None) -> None:
    kept = machine.settings.keep_rejected
    versions = [machine.retrain(force=False).model_version for _ in range(kept + 1)]
    assert [state_of(machine, version) for version in versions] == ["deleted", *["rejected"] * kept]
    machine.registry._keep = KeepPolicy(rejected_hours=0.0)  # type: ignore[attr-defined]
    machine.registry.remove_unpublished()
    assert {state_of(machine, version) for version in versions} == {"deleted"}
    assert not [version for version in versions if machine.files.file_of(version).exists()]


def test_a_broken_live_file_never_falls_back_to_a_rejected_candidate(local: Machine, rejecting: None) -> None:
    local.retrain(force=False)
    local.settings.live_model.write_bytes(b"broken")
    again = restarted(local)
    assert again.holder.readiness is Readiness.FAILING
    again.close()


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


# ---------------------------------------------------------------- without a label


def test_pictures_of_a_label_go_on_waiting(local: Machine) -> None:
    local.upload("Boot", 3, 100)
    job = local.retrainer.start("quick", None, True, ["hat"])
    assert local.retrainer.wait(job.job_id).samples == 3
    assert {row.shoe_class for row in local.real_store.unprocessed()} == {"hat"}
    with pytest.raises(NoNewData, match="with other labels"):
        local.retrainer.start("quick", None, True, ["hat"])
    with pytest.raises(InvalidLabel, match="received 'cap'"):
        local.retrainer.start("quick", None, True, ["cap"])
    local.retrainer.check_idle()
