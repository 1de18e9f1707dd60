from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.retraining import Machine, train_by_copying
from helpers.service import wait_for
from shoe_classifier.ml import finetune
from shoe_classifier.services.auto_retrain import AutoRetrain
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob, to_iso

Start = Callable[..., "Automatic"]


class Automatic:
    """A machine that retrains by itself."""

    def __init__(self, settings: Settings, setting: str, *, shared: bool = False):
        settings = settings.model_copy(update={"auto_retrain": setting})
        self.machine = Machine(settings, shared=shared).start()
        self.auto = AutoRetrain(settings, self.machine.store, self.machine.retrainer)

    def look(self) -> int:
        """Look whether a retrain is due, and wait for its end; returns the number of jobs so far."""
        self.auto.start_if_due()
        jobs = self.jobs()
        if jobs and not jobs[0].finished:
            self.machine.retrainer.wait(jobs[0].job_id)
        return len(jobs)

    def jobs(self) -> list[RetrainJob]:
        return self.machine.retrainer.jobs(10, None)

    def age(self, hours: float) -> None:
        """Let the newest job lie further back."""
        [job] = self.machine.real_store.jobs(1, None)
        past = to_iso(datetime.now(UTC) - timedelta(hours=hours))
        self.machine.real_store.finish_job(replace(job, created_at=past, finished_at=past))


@pytest.fixture
def start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(finetune, "retrain_head", train_by_copying)
    started = []

    def begin(setting: str, *, shared: bool = False) -> Automatic:
        started.append(Automatic(settings, setting, shared=shared))
        return started[-1]

    yield begin
    for one in started:
        one.machine.close()


def test_off_says_nothing(start: Start) -> None:
    one = start("off")
    assert not one.auto.enabled
    assert one.auto.state() is None


def test_enough_new_pictures_start_a_quick_retrain(start: Start) -> None:
    one = start("new_pictures:4")
    one.machine.upload(count=3)
    assert one.look() == 0
    assert one.auto.state() == {"setting": "new_pictures:4", "pictures_to_go": 1, "due_at": None}
    one.machine.upload(start=3, count=1)
    assert one.look() == 1
    [job] = one.jobs()
    assert (job.state, job.mode, job.force, job.samples) == ("published", "quick", False, 4)
    assert one.look() == 1
    assert one.auto.state() == {"setting": "new_pictures:4", "pictures_to_go": 4, "due_at": None}


@pytest.mark.usefixtures("rejecting")
def test_after_a_rejection_it_waits_for_new_pictures(start: Start) -> None:
    one = start("new_pictures:2")
    one.machine.upload(count=3)
    assert [one.look() for _ in range(3)] == [1, 1, 1]
    assert one.jobs()[0].state == "rejected"
    one.machine.upload(start=3, count=1)
    assert one.look() == 1
    one.machine.upload(start=4, count=1)
    assert one.look() == 2


@pytest.mark.usefixtures("rejecting")
def test_a_restart_does_not_repeat_what_was_rejected(start: Start) -> None:
    one = start("new_pictures:2")
    one.machine.upload(count=2)
    assert one.look() == 1
    one.machine.close()
    assert start("new_pictures:2").look() == 1


def test_a_failure_is_repeated_after_an_hour(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    one = start("new_pictures:2")
    one.machine.upload(count=2)
    with monkeypatch.context() as patched:
        patched.setattr(finetune, "retrain_head", fail)
        assert [one.look(), one.look()] == [1, 1]
    assert one.jobs()[0].state == "failed"
    one.age(hours=1.1)
    wait_for(lambda: one.look() == 2)  # the failed one may be a moment from its very end, and hold the lock
    assert one.jobs()[0].state == "published"


def test_daily_means_at_most_once_a_day(start: Start) -> None:
    one = start("daily")
    assert one.look() == 0
    one.machine.upload(count=2)
    assert one.look() == 1
    one.machine.upload(start=2, count=2)
    assert one.look() == 1
    state = one.auto.state()
    assert state and state["pictures_to_go"] == 0
    due = datetime.fromisoformat(state["due_at"])
    assert timedelta(hours=23) < due - datetime.now(UTC) <= timedelta(hours=24)
    one.age(hours=25)
    assert one.look() == 2


def test_of_several_machines_one_retrains(start: Start, settings: Settings, tmp_path: Path) -> None:
    one = start("new_pictures:2", shared=True)
    other = start("new_pictures:2", shared=True)
    one.machine.upload(count=2)
    one.auto.start_if_due()
    other.auto.start_if_due()
    other.auto.start_if_due()
    one.machine.retrainer.wait(one.jobs()[0].job_id)
    assert len(one.jobs()) == 1
