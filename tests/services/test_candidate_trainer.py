import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.retraining import PICTURES, Machine, train_by_copying
from shoe_classifier.errors import NoNewData
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.services import candidate_trainer
from shoe_classifier.services.candidate_trainer import CandidateTrainer, TrainedCandidate, verdict
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.types import Report, RetrainJob, RetrainMode


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, finetune.RetrainTask]]:
    """Replace the trainings, and keep what they are given."""
    tasks: list[tuple[str, finetune.RetrainTask]] = []
    for method, name in (("quick", "retrain_head"), ("full", "finetune")):

        def train(task: finetune.RetrainTask, report: Report, *ignored: object, method: str = method) -> GateEvidence:
            tasks.append((method, task))
            if task.pictures is not None:
                assert len(task.pictures.images[:]) == len(task.pictures)
            return train_by_copying(task, report)

        monkeypatch.setattr(finetune, name, train)
    return tasks


def train(
    machine: Machine, mode: RetrainMode = "quick", seconds: float = 100, force: bool = False, **changes: object
) -> tuple[TrainedCandidate, RetrainJob]:
    settings = machine.settings.model_copy(update={"retrain_in": "thread", **changes})
    trainer = CandidateTrainer(settings, machine.store, machine.holder, settings.live_model, machine.features)
    progress = JobProgress(RetrainJob(mode=mode, force=force))
    target: Path = machine.files.candidate("test")
    return trainer.train(target, time.monotonic() + seconds, progress), progress.row


def test_all_waiting_pictures_are_learned(machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]) -> None:
    candidate, job = train(machine)
    assert candidate.learned == {row.id: "hat" for row in machine.store.unprocessed()}
    assert (job.samples, job.labels, candidate.note) == (PICTURES, ["Boot", "Sandal", "Shoe", "hat"], "")
    method, task = tasks[0]
    assert (method, len(task.lesson), task.source) == ("quick", PICTURES, machine.settings.live_model)
    assert task.pictures is None


def test_pictures_that_are_missing_or_damaged_are_left_out_and_named(
    machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]
) -> None:
    rows = machine.store.unprocessed()
    machine.features.forget([row.sha256 for row in rows])
    folder = machine.settings.dataset_dir
    (folder / rows[0].image_path).unlink()
    (folder / rows[1].image_path).write_bytes(b"")
    (folder / rows[2].image_path).write_bytes((folder / rows[2].image_path).read_bytes()[:200])
    candidate, job = train(machine)
    assert candidate.learned == {rows[3].id: "hat"}
    assert job.samples == 1
    assert all(row.image_path in candidate.note for row in rows[:3])
    assert rows[3].image_path not in candidate.note


def test_without_any_readable_picture_there_is_nothing_to_learn(
    machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]
) -> None:
    for row in machine.store.unprocessed():
        machine.features.forget([row.sha256])
        (machine.settings.dataset_dir / row.image_path).unlink()
    with pytest.raises(NoNewData, match=r"received none\. Left out.* and 1 more"):
        train(machine)
    assert tasks == []


def test_a_full_retrain_needs_the_pictures_themselves(
    machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]
) -> None:
    for row in machine.store.unprocessed():
        (machine.settings.dataset_dir / row.image_path).unlink()
    with pytest.raises(NoNewData, match=r"received none\. Left out.* and 1 more"):
        train(machine, "full")
    assert len(train(machine, "quick")[0].learned) == PICTURES


def test_a_full_retrain_learns_from_earlier_pictures_too(
    machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]
) -> None:
    machine.upload("Boot", PICTURES, start=50)
    machine.retrain()
    machine.upload("cap", 3, start=100)
    candidate, job = train(machine, "full")
    task = tasks[-1][1]
    assert task.pictures is not None
    assert (job.samples, len(candidate.learned), len(task.pictures), len(task.features)) == (3, 3, 7, 7)
    assert task.pictures.hashes == task.features.hashes
    assert set(candidate.learned.values()) == {"cap"}


def test_a_part_of_the_time_is_kept_for_what_follows(
    machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]
) -> None:
    train(machine, seconds=100)
    assert 60 < tasks[0][1].deadline - time.monotonic() <= 80


def test_auto_goes_on_to_a_full_retrain_when_the_gate_rejects_the_quick_one(
    machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_trainer, "judge", lambda evidence: ["it is worse"] if len(tasks) < 2 else [])
    candidate, job = train(machine, "auto")
    assert [method for method, _ in tasks] == ["quick", "full"]
    assert (candidate.reasons, job.mode) == ([], "full")
    assert candidate.note == "Quick failed, because it is worse; then full. "


@pytest.mark.parametrize(
    ("right", "rejected", "chosen"), [(0.99, False, "full"), (0.95, False, "quick"), (0.99, True, "quick")]
)
def test_auto_takes_a_full_retrain_only_if_it_gains_by_more_than_the_interval(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, right: float, rejected: bool, chosen: str
) -> None:
    def train_as(accuracy: float, interval: list[float]) -> Callable[..., GateEvidence]:
        def train(task: finetune.RetrainTask, report: Report, *ignored: object) -> GateEvidence:
            evidence = train_by_copying(task, report)
            return replace(evidence, learned={"accuracy": accuracy, "accuracy_interval": interval})

        return train

    monkeypatch.setattr(finetune, "retrain_head", train_as(0.94, [0.90, 0.97]))
    monkeypatch.setattr(finetune, "finetune", train_as(right, [0.0, 1.0]))
    worse = {right: ["it is worse"] if rejected else []}
    monkeypatch.setattr(candidate_trainer, "judge", lambda evidence: worse.get(evidence.learned["accuracy"], []))
    monkeypatch.setattr(candidate_trainer, "what_got_worse", lambda evidence, reasons: {})
    versions: list[str] = []
    real = candidate_trainer.gains
    target = machine.files.candidate("test")

    def gains(full: GateEvidence, quick: GateEvidence) -> bool:
        versions.append(bundles.read(target).version)
        return real(full, quick)

    monkeypatch.setattr(candidate_trainer, "gains", gains)
    candidate, job = train(machine, "auto", full_from_images=PICTURES)
    assert (job.mode, candidate.evidence.learned["accuracy"]) == (chosen, right if chosen == "full" else 0.94)
    assert candidate.note.startswith(f"{chosen.capitalize()}, because")
    assert all((bundles.read(target).version == version) == (chosen == "quick") for version in versions)
    assert list(target.parent.glob(".candidate-*")) == [target]
    assert list(machine.settings.temp_uploads_dir.glob("upload-*")) == []


@pytest.mark.parametrize(("seconds", "force"), [(-1, False), (100, True)])
def test_auto_tries_once_when_time_is_up_or_the_gate_does_not_count(
    machine: Machine,
    tasks: list[tuple[str, finetune.RetrainTask]],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    force: bool,
) -> None:
    monkeypatch.setattr(candidate_trainer, "judge", lambda evidence: ["it is worse"])
    candidate, _ = train(machine, "auto", seconds, force)
    assert (len(tasks), candidate.reasons) == (1, ["it is worse"])
    assert verdict(candidate).endswith("Forced, although it is worse.")


def test_of_many_new_labels_a_few_are_named(machine: Machine, tasks: list[tuple[str, finetune.RetrainTask]]) -> None:
    candidate, _ = train(machine, "quick")
    untested = {"recall": 0.0, "support": 0}
    known, added = candidate.evidence.metrics, [f"thing {i}" for i in range(100)]
    per_class = known["per_class"] | dict.fromkeys(added, untested)
    metrics = known | {"labels": [*known["labels"], *added], "per_class": per_class}
    text = verdict(replace(candidate, evidence=replace(candidate.evidence, metrics=metrics)))
    assert text.count("(too few pictures to test it)") == 10
    assert text.endswith(" and 90 more.")
