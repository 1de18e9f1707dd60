import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.retraining import train_by_copying
from shoe_classifier.errors import AppError, Cancelled, InvalidModel
from shoe_classifier.ml import finetune
from shoe_classifier.ml.features import LabelledFeatures
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.ml.tuning import Tune
from shoe_classifier.services import training_process
from shoe_classifier.services.training_process import TrainingProcessError, finetune_in_process
from shoe_classifier.types import Report, TrainingEvent

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # see `forked`


@pytest.fixture
def task(tmp_path: Path, model_file: Path) -> finetune.RetrainTask:
    nothing = LabelledFeatures(np.zeros((0, 8), np.float16), np.zeros((0, 16, 16), np.uint8), np.zeros(0, int), [])
    new = np.zeros(0, bool)
    return finetune.RetrainTask(model_file, tmp_path / "new.h5", nothing, new, ["a"], time.monotonic() + 60)


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork instead of spawning, so that the child sees what the test replaces."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: multiprocessing.context.ForkContext())


def test_events_and_evidence_come_back(task: finetune.RetrainTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(task: finetune.RetrainTask, report: Report, tune: Tune) -> GateEvidence:
        report(TrainingEvent("train", 0.5, "Epoch 3 of 6.", epoch=3, epochs=6, loss=0.4))
        print("pages of output")
        return train_by_copying(task, report)

    monkeypatch.setattr(finetune, "finetune", train)
    events: list[TrainingEvent] = []
    evidence = finetune_in_process(task, events.append)
    assert isinstance(evidence, GateEvidence)
    assert task.target.exists()
    assert TrainingEvent("train", 0.5, "Epoch 3 of 6.", epoch=3, epochs=6, loss=0.4) in events


@pytest.mark.parametrize(
    ("failure", "raised", "text"),
    [
        (InvalidModel("Expected x; received y."), AppError, "Expected x; received y."),
        (RuntimeError("a secret of the inside"), TrainingProcessError, "The training process failed."),
    ],
)
def test_a_failure_comes_back_and_its_traceback_goes_to_the_log(
    task: finetune.RetrainTask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    raised: type[Exception],
    text: str,
) -> None:
    def train(task: finetune.RetrainTask, report: Report, tune: Tune) -> GateEvidence:
        raise failure

    monkeypatch.setattr(finetune, "finetune", train)
    with caplog.at_level(logging.ERROR), pytest.raises(raised) as error:
        finetune_in_process(task, lambda event: None)
    assert str(error.value) == text
    (event,) = caplog.records
    assert str(failure) in event.details and "Traceback" in event.details


def test_a_killed_child_is_noticed(task: finetune.RetrainTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "finetune", lambda *ignored: os._exit(7))
    with pytest.raises(TrainingProcessError, match="status 7"):
        finetune_in_process(task, lambda event: None)


def test_a_cancelled_job_stops_the_child(task: finetune.RetrainTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(task: finetune.RetrainTask, report: Report, tune: Tune) -> GateEvidence:
        report(TrainingEvent("train", 0.1, str(os.getpid())))
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(finetune, "finetune", train)
    children: list[int] = []

    def report(event: TrainingEvent) -> None:
        if event.message.isdigit():
            children.append(int(event.message))
            raise Cancelled

    with pytest.raises(Cancelled):
        finetune_in_process(task, report)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_child_whose_parent_is_gone_stops(task: finetune.RetrainTask, monkeypatch: pytest.MonkeyPatch) -> None:
    class Parent:
        def is_alive(self) -> bool:
            return False

    monkeypatch.setattr(multiprocessing, "parent_process", Parent)
    monkeypatch.setattr(os, "nice", lambda level: level)
    monkeypatch.setattr(finetune, "finetune", lambda task, report, tune: train_by_copying(task, report))
    messages: list[object] = []

    class Queue:
        put = messages.append

    training_process._train(task, Queue(), finetune.tune_here)
    assert [type(message).__name__ for message in messages] == ["_Failure"]
    assert not task.target.exists()
