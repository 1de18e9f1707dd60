import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.retraining import AWAY, Machine, Story, in_both_stores, train_by_copying
from helpers.service import wait_for
from shoe_classifier.errors import InvalidLabel, NoNewData, NotCancellable, NotFound, RetrainRunning
from shoe_classifier.ml import finetune
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob, TrainingEvent

pytestmark = pytest.mark.usefixtures("quick_training")


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


@in_both_stores
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


@in_both_stores
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


def test_progress_reaches_the_job_and_the_store(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, go_on = held(monkeypatch)
    started = machine.retrainer.start("quick", None, True)
    assert waits.wait(30)
    job = machine.retrainer.job(started.job_id)
    assert (job.state, job.phase, job.epoch, job.epochs, job.loss) == ("running", "train", 3, 6, 0.25)
    machine.retrainer.beat()
    assert machine.real_store.job(job.job_id) == machine.retrainer.job(job.job_id)
    assert machine.retrainer.jobs(5, None)[0].phase == "train"
    go_on.set()
    assert machine.retrainer.wait(job.job_id).state == "published"


@pytest.mark.parametrize(("max_seconds", "expected"), [(10, 10), (None, 3600)])
def test_the_training_gets_four_fifths_of_the_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, max_seconds: int | None, expected: int
) -> None:
    deadlines = []

    def train(task: finetune.RetrainTask, report: Callable[[TrainingEvent], None]) -> object:
        deadlines.append(task.deadline - time.monotonic())
        return train_by_copying(task, report)

    monkeypatch.setattr(finetune, "retrain_head", train)
    machine.retrainer.wait(machine.retrainer.start("quick", max_seconds, True).job_id)
    assert 0.7 * expected < deadlines[0] <= 0.8 * expected


def test_one_at_a_time(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, go_on = held(monkeypatch)
    job = machine.retrainer.start("quick", None, True)
    assert waits.wait(30)
    with pytest.raises(RetrainRunning, match=f"job {job.job_id} is train"):
        machine.retrainer.start("quick", None, True)
    with pytest.raises(RetrainRunning):
        machine.retrainer.activate(machine.holder.live.bundle.version)
    other_worker = Machine(machine.settings, shared=False)
    with pytest.raises(RetrainRunning, match="another worker"):
        other_worker.retrainer.check_idle()
    other_worker.retrainer.fail_interrupted("Not this one: it runs.")
    go_on.set()
    assert machine.retrainer.wait(job.job_id).state == "published"


def test_cancelled_here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.holder.live.bundle.version
    waits, _ = held(monkeypatch)
    job = machine.retrainer.start("quick", None, True)
    assert waits.wait(30)
    machine.retrainer.cancel(job.job_id)
    ended = machine.retrainer.wait(job.job_id)
    assert (ended.state, ended.error) == ("cancelled", None)
    assert machine.story() == Story.unchanged(before)
    with pytest.raises(NotCancellable):
        machine.retrainer.cancel(job.job_id)


def test_cancelled_by_another_process(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, _ = held(monkeypatch)
    job = machine.retrainer.start("quick", None, True)
    assert waits.wait(30)
    machine.retrainer.beat()
    other = Machine(machine.settings, shared=False)
    other.retrainer.cancel(job.job_id)
    other.close()
    machine.retrainer.beat()
    assert machine.retrainer.wait(job.job_id).state == "cancelled"


def test_a_cancellation_between_two_beats_is_noticed_before_publishing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine.holder.live.bundle.version
    waits, go_on = held(monkeypatch)
    job = machine.retrainer.start("quick", None, True)
    assert waits.wait(30)
    machine.real_store.request_cancel(job.job_id)
    go_on.set()
    assert machine.retrainer.wait(job.job_id).state == "cancelled"
    assert machine.story() == Story.unchanged(before)


def test_activation_waits_for_another_machines_job(settings: Settings) -> None:
    machine = Machine(settings, shared=True).start()
    machine.store.fail("fail_unfinished_jobs", AWAY)  # SQLite would end the job of the other machine, too
    machine.real_store.fail_unfinished_jobs = lambda error: None  # type: ignore[method-assign]
    machine.store.heal()
    machine.real_store.start_job(RetrainJob(state="running"))
    with pytest.raises(RetrainRunning, match="another machine"):
        machine.retrainer.activate(machine.holder.live.bundle.version)
    machine.retrainer.check_idle()


def test_unknown_jobs(machine: Machine) -> None:
    for call in (machine.retrainer.job, machine.retrainer.cancel, machine.retrainer.wait):
        with pytest.raises(NotFound):
            call("x")


def test_stop_cancels_and_waits(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, _ = held(monkeypatch)
    job = machine.retrainer.start("quick", None, True)
    assert waits.wait(30)
    machine.retrainer.stop()
    assert not machine.retrainer.running
    assert machine.retrainer.job(job.job_id).state == "cancelled"


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


def test_a_rejected_candidate_changes_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.holder.live.bundle.version
    monkeypatch.setattr("shoe_classifier.services.candidate_trainer.judge", lambda evidence: ["it is worse"])
    job = machine.retrain(force=False)
    assert (job.state, job.error) == ("rejected", "The live model stays: it is worse.")
    assert machine.story() == Story.unchanged(before)
    forced = machine.retrain(force=True)
    assert (forced.state, forced.message.endswith("Forced, although it is worse.")) == ("published", True)


def test_pictures_of_a_label_go_on_waiting(machine: Machine) -> None:
    machine.upload("Boot", 3, 100)
    job = machine.retrainer.start("quick", None, True, ["hat"])
    assert machine.retrainer.wait(job.job_id).samples == 3
    assert {row.shoe_class for row in machine.real_store.unprocessed()} == {"hat"}
    with pytest.raises(NoNewData, match="with other labels"):
        machine.retrainer.start("quick", None, True, ["hat"])
    with pytest.raises(InvalidLabel, match="received 'cap'"):
        machine.retrainer.start("quick", None, True, ["cap"])
    machine.retrainer.check_idle()
