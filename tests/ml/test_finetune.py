import time
from pathlib import Path

import numpy as np
import pytest

from helpers.pictures import SHAPES, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.finetune import GateEvidence, RetrainTask
from shoe_classifier.ml.zip_reader import Picture


def lesson(source: Path, target: Path, *wanted: tuple[str, str, int]) -> RetrainTask:
    """Pictures of `(label, shown as, count)`."""
    live = bundles.read(source)
    labels = list(live.labels)
    pictures = [
        Picture(label, f"{label}/{i}.jpg", draw(shown, 5000 + i))
        for label, shown, count in wanted
        for i in range(count)
    ]
    return RetrainTask(source, target, load(pictures, live.engine().side, labels), labels, time.time() + 100)


def quiet(*progress: object) -> None:
    pass


def old_accuracy(model: Path, source: Path) -> float:
    """How many pictures that were held out of the first training a model gets right."""
    memory, head = bundles.read_replay_buffer(source), bundles.read(model).head
    judged = memory[memory.held_out & (memory.labels >= 0)]
    return float((head.probabilities(judged.features.astype(np.float32)).argmax(axis=1) == judged.labels).mean())


def taught(source: Path, target: Path, *wanted: tuple[str, str, int]) -> GateEvidence:
    return finetune.retrain_head(lesson(source, target, *wanted), quiet)


def test_quick_teaches_without_forgetting(model_file: Path, tmp_path: Path) -> None:
    outcome = taught(model_file, tmp_path / "new.h5", ("hat", "hat", 60))
    assert outcome.metrics["per_class"]["hat"]["recall"] > 0.9
    assert outcome.retained["accuracy"] >= outcome.baseline["accuracy"] - 0.005
    assert bundles.read(tmp_path / "new.h5").labels == (*SHAPES, "hat")


def test_without_the_replay_memory_it_forgets(model_file: Path, tmp_path: Path) -> None:
    """Once with the memory, once with a single sample of each old label, which a head cannot do without."""
    memory = bundles.read_replay_buffer(model_file)
    first = [int(np.flatnonzero((memory.labels == label) & ~memory.held_out)[0]) for label in range(len(SHAPES))]
    bundles.derive(model_file, tmp_path / "bare.h5", bundles.read(model_file), memory[np.array(first)])
    words = [("hat", "hat", 60), ("Boot", "Boot", 60)]
    taught(model_file, tmp_path / "with.h5", *words)
    taught(tmp_path / "bare.h5", tmp_path / "without.h5", *words)
    before = old_accuracy(model_file, model_file)
    assert old_accuracy(tmp_path / "with.h5", model_file) >= before - 0.01
    assert old_accuracy(tmp_path / "without.h5", model_file) < before - 0.1


def test_ten_pictures_are_useful(model_file: Path, tmp_path: Path) -> None:
    taught(model_file, tmp_path / "new.h5", ("hat", "hat", 10))
    bundle = bundles.read(tmp_path / "new.h5")
    engine = bundle.engine()
    fresh = load([Picture("hat", "", draw("hat", 9000 + i)) for i in range(40)], engine.side, list(bundle.labels))
    features = np.stack([engine.features(image) for image in fresh.images])
    assert (bundle.head.probabilities(features).argmax(axis=1) == bundle.labels.index("hat")).mean() > 0.8


@pytest.mark.parametrize("photos", [True, False])
def test_photos_count_more_where_there_are_other_pictures(photos: bool, model_file: Path) -> None:
    memory = bundles.read_replay_buffer(model_file)
    memory.photo[memory.labels > 0] = photos
    memory.photo[memory.labels == 0] = np.arange((memory.labels == 0).sum()) % 2 == 0
    weights = finetune._weights(memory)
    assert set(weights[(memory.labels == 0) & memory.photo]) == {finetune._PHOTO_WEIGHT}
    assert set(weights[memory.labels < 0]) == {finetune._BLANK_WEIGHT}
    assert set(weights[memory.labels > 0]) == {1.0}
