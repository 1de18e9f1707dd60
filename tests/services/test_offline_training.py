import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import SHAPES, draw
from shoe_classifier.errors import InvalidRequest
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import is_held_out
from shoe_classifier.ml.live_model import LiveModel, open_model_file
from shoe_classifier.services.offline_training import OfflineTraining, evaluate_folder, train_from_folders
from shoe_classifier.types import TrainingEvent


def folder_of(path: Path, pictures: dict[str, bytes]) -> Path:
    for name, data in pictures.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "data", {f"{label}/{i}.jpg": draw(label, i) for label in SHAPES for i in range(20)})


class Training:
    """Stands in for TensorFlow: keeps what it is given, and writes a model file of a few letters."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.built: tuple[Any, ...] = ()

    def train(self, *arguments: Any) -> str:
        self.arguments = arguments
        return "a network"

    def build(self, model: str, target: Path, *rest: Any) -> str:
        self.built = rest
        target.write_text(model)
        return "a bundle"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    from shoe_classifier.ml import training as real

    stand_in = Training()
    monkeypatch.setattr(real, "train", stand_in.train)
    monkeypatch.setattr(finetune, "build_model_file", stand_in.build)
    yield stand_in


def run(plan: OfflineTraining) -> list[TrainingEvent]:
    events: list[TrainingEvent] = []
    assert train_from_folders(plan, events.append) == "a bundle"  # type: ignore[comparison-overlap]
    return events


def test_what_is_trained_on_and_what_the_file_is_built_from(data: Path, training: Training, tmp_path: Path) -> None:
    plan = OfflineTraining(data, tmp_path / "out" / "new.h5", epochs=3, steps=7, frozen=2, checkpoints=tmp_path)
    events = run(plan)
    pictures, photos, negatives, classes, config, _, checkpoints, start = training.arguments
    assert (photos, negatives, classes, checkpoints, start) == (None, None, 3, tmp_path, None)
    assert (config.epochs, config.steps, config.frozen) == (3, 7, 2)
    assert pictures.images.shape[1] == config.load_size
    assert not any(is_held_out(sha256) for sha256 in pictures.hashes)
    small, *_, labels, _ = training.built
    assert (len(small), small.images.shape[1], labels) == (60, config.image_size, list(SHAPES))
    assert plan.out.read_text() == "a network"
    assert [path.name for path in plan.out.parent.iterdir()] == ["new.h5"]
    assert {event.phase for event in events} == {"collect"}


def test_photos_and_negatives(data: Path, training: Training, tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", {f"Boot/{i}.jpg": draw("Boot", 500 + i) for i in range(10)})
    folders = {f"{name}/{i}.jpg": draw(name, i) for name in ("Boot", "wall") for i in range(10)}
    backgrounds = folder_of(tmp_path / "backgrounds", folders | {"wall/same.jpg": draw("wall", 77)})
    excluded = folder_of(tmp_path / "excluded", {"x/1.jpg": draw("wall", 77, quality=60), "x/2.jpg": draw("Boot", 3)})
    run(OfflineTraining(data, tmp_path / "new.h5", photos=[photos], backgrounds=[backgrounds], exclude=[excluded]))
    small, small_photos, negatives, labels, _ = training.built
    gone = hashlib.sha256(draw("Boot", 3)).hexdigest()
    assert len(small) == 59 and gone not in small.hashes and gone not in negatives.hashes
    assert hashlib.sha256(draw("wall", 77)).hexdigest() not in negatives.hashes  # looks like an excluded one
    assert (len(small_photos), labels) == (10, list(SHAPES))
    assert sorted(set(negatives.labels)) == [3, 4, 5]  # two folders, and the synthetic ones


def test_what_cannot_be_trained(data: Path, training: Training, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", {"Boot/1.jpg": draw("Boot", 1)})
    other = folder_of(tmp_path / "other", {"Hat/1.jpg": draw("hat", 1)})
    for plan, text in (
        (OfflineTraining(one, tmp_path / "new.h5"), "two or more labels"),
        (OfflineTraining(data, tmp_path / "new.h5", photos=[other]), r"received others: \['Hat'\]"),
        (OfflineTraining(tmp_path / "none", tmp_path / "new.h5"), "Expected a folder or a ZIP"),
    ):
        with pytest.raises(InvalidRequest, match=text):
            train_from_folders(plan, lambda event: None)
    assert training.arguments == ()


def test_a_failure_leaves_the_model_file_as_it_was(
    data: Path, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: str, target: Path, *rest: Any) -> str:
        target.write_text("half")
        raise RuntimeError("stopped")

    monkeypatch.setattr(finetune, "build_model_file", broken)
    (tmp_path / "new.h5").write_text("before")
    with pytest.raises(RuntimeError):
        train_from_folders(OfflineTraining(data, tmp_path / "new.h5"), lambda event: None)
    assert (tmp_path / "new.h5").read_text() == "before"
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def model(model_file: Path) -> LiveModel:
    return open_model_file(model_file, trusted=True)


def test_evaluation(model: LiveModel, data: Path, tmp_path: Path) -> None:
    (data / "Boot" / "broken.jpg").write_bytes(b"text")
    events: list[TrainingEvent] = []
    metrics = evaluate_folder(model, data, events.append, tmp_path / "report")
    assert (metrics["samples"], len(events), metrics["labels"]) == (60, 60, list(SHAPES))
    assert np.isclose(sum(metrics["decisions"].values()), 1)
    assert metrics["per_class"]["Boot"]["support"] == 20
    for name in ("report.png", "mistakes.png"):
        with Image.open(tmp_path / "report" / name) as picture:
            assert picture.width > 100


def test_what_cannot_be_evaluated(model: LiveModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="received one of 'Hat'"):
        evaluate_folder(model, folder_of(tmp_path / "hats", {"Hat/1.jpg": draw("hat", 1)}), lambda event: None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="received no pictures"):
        evaluate_folder(model, tmp_path / "empty", lambda event: None)
