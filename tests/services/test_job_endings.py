import shutil
from pathlib import Path

import pytest

from helpers.retraining import AWAY, FULL, LOCKED, Machine, assert_one_story, in_both_stores, restarted
from helpers.service import make_settings
from shoe_classifier.ml import finetune
from shoe_classifier.services import candidate_trainer
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob

pytestmark = pytest.mark.usefixtures("quick_training")


@in_both_stores
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


@in_both_stores
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


@in_both_stores
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


def test_an_end_that_could_not_be_recorded_is_recorded_later(machine: Machine) -> None:
    machine.store.fail("finish_job", LOCKED)
    job = machine.retrain()
    assert job.state == "failed"
    row = machine.real_store.job(job.job_id)
    assert row and not row.finished
    machine.store.heal()
    machine.retrainer.beat()
    assert machine.real_store.job(job.job_id) == job
    assert machine.retrain().state == "published"


def test_an_end_that_comes_while_an_earlier_one_is_recorded_is_not_lost(machine: Machine) -> None:
    machine.store.fail("finish_job", LOCKED)
    machine.retrain()
    machine.store.heal()
    later: list[RetrainJob] = []

    def lock(step: str) -> None:
        if step == "before start_job":
            machine.store.fail("finish_job", LOCKED)

    def end_another(step: str) -> None:
        if step == "before finish_job":
            machine.store.observer = lock
            later.append(machine.retrain())
            machine.store.heal()

    machine.store.observer = end_another
    machine.retrainer.beat()
    machine.retrainer.beat()
    assert [machine.real_store.job(job.job_id) for job in later] == later != []


@in_both_stores
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


@in_both_stores
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


@in_both_stores
def test_a_failure_is_not_told(machine: Machine) -> None:
    machine.store.fail("prepare_publication", FULL)
    assert machine.retrain().state == "failed"
    assert machine.told == []


def test_a_publication_is_told_by_the_next_start(machine: Machine) -> None:
    live = machine.holder.live.bundle.version
    killed = RetrainJob(state="running", phase="publish", model_version=live)
    machine.real_store.start_job(killed)
    machine.retrainer.fail_interrupted("The service was stopped.")
    assert [(event, data["job_id"]) for event, data in machine.told] == [("retrain.published", killed.job_id)]


def test_a_killed_workers_job_ends_when_another_starts(machine: Machine) -> None:
    lost = RetrainJob(state="running")
    machine.real_store.start_job(lost)
    machine.retrain()
    row = machine.real_store.job(lost.job_id)
    assert row and row.state == "failed"


def test_failure_inside_ends_the_job_without_its_text(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: object, report: object) -> object:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(finetune, "retrain_head", broken)
    job = machine.retrain()
    assert job.state == "failed"
    assert "secret" not in str(job)
