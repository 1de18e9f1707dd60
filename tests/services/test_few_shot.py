from pathlib import Path

import pytest

from helpers.pictures import draw, zip_of
from shoe_classifier.errors import InvalidRequest
from shoe_classifier.ml import finetune
from shoe_classifier.ml.evaluation import interval
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.services.few_shot import measure_few_shot
from shoe_classifier.types import Report, TrainingEvent


def quiet(event: TrainingEvent) -> None:
    pass


def pictures(folder: Path, name: str, seeds: range, *labels: str) -> Path:
    path = folder / f"{name}.zip"
    path.write_bytes(zip_of({f"{label}/{seed:04}.jpg": draw(label, seed) for label in labels for seed in seeds}))
    return path


def test_more_shots_teach_more_and_the_model_stays(model_file: Path, tmp_path: Path) -> None:
    train = pictures(tmp_path, "train", range(30), "hat", "Boot")
    test = pictures(tmp_path, "test", range(500, 520), "hat", "Boot")
    before = model_file.read_bytes()
    few, many = measure_few_shot(model_file, train, test, [2, 20], quiet)
    assert (few.shots, few.pictures, many.shots, many.pictures) == (2, 4, 20, 40)
    assert many.tested == 40
    assert many.accuracy >= 0.9 and many.probe_accuracy >= 0.9
    assert many.accuracy_interval == interval(round(many.accuracy * 40), 40)
    assert many.seconds > 0
    assert str(many).startswith("20 of each label, 40 in all, learned in ")
    assert model_file.read_bytes() == before


def test_the_first_pictures_by_name_are_taught(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[RetrainTask] = []
    real = finetune.retrain_head

    def keep(task: RetrainTask, report: Report) -> GateEvidence:
        tasks.append(task)
        return real(task, report)

    monkeypatch.setattr(finetune, "retrain_head", keep)
    shuffled = {f"{label}/{seed}.jpg": draw(label, seed) for label in ("hat", "Boot") for seed in (9, 3, 7, 1, 5)}
    (tmp_path / "train.zip").write_bytes(zip_of(shuffled))
    test = pictures(tmp_path, "test", range(500, 505), "hat")
    measure_few_shot(model_file, tmp_path / "train.zip", test, [3], quiet)
    (tmp_path / "first.zip").write_bytes(zip_of({name: shuffled[name] for name in shuffled if name[-5] in "135"}))
    measure_few_shot(model_file, tmp_path / "first.zip", test, [3], quiet)
    assert set(tasks[0].features.hashes) == set(tasks[1].features.hashes)
    assert len(tasks[0].features) == 6
    assert tasks[0].labels[-1] == "hat"


def test_labels_that_are_not_taught_cannot_be_tested(model_file: Path, tmp_path: Path) -> None:
    train = pictures(tmp_path, "train", range(3), "hat", "Boot")
    test = pictures(tmp_path, "test", range(9, 12), "hat", "cap")
    with pytest.raises(InvalidRequest, match=r"received others in .*test\.zip: cap\."):
        measure_few_shot(model_file, train, test, [1], quiet)
    with pytest.raises(InvalidRequest, match=r"two or more labels in .*; received 1"):
        measure_few_shot(model_file, pictures(tmp_path, "one", range(3), "hat"), test, [1], quiet)
    (tmp_path / "broken.zip").write_bytes(zip_of({"hat/a.jpg": b"broken"}))
    with pytest.raises(InvalidRequest, match="can be read; received none"):
        measure_few_shot(model_file, train, tmp_path / "broken.zip", [1], quiet)
