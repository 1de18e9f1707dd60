import time
from pathlib import Path

import numpy as np
import pytest

from helpers.model import random_pictures, tiny_stages
from helpers.pictures import SHAPES, SIDE, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.replay_buffer import keys_of
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.types import TrainingEvent


def task(source: Path, target: Path, *wanted: tuple[str, str, int]) -> RetrainTask:
    """New pictures, as `(label, drawn as, count)`."""
    live = bundles.read(source)
    labels = list(live.labels)
    pictures = [
        Picture(label, f"{label}/{i}.jpg", draw(drawn_as, 5000 + i))
        for label, drawn_as, count in wanted
        for i in range(count)
    ]
    return RetrainTask(source, target, load(pictures, SIDE, labels), labels, time.monotonic() + 100)


def quiet(event: TrainingEvent) -> None:
    pass


def retrain(source: Path, target: Path, *wanted: tuple[str, str, int]) -> GateEvidence:
    return finetune.retrain_head(task(source, target, *wanted), quiet)


def old_recall(model: Path, source: Path, *labels: str) -> float:
    """Share of the pictures of `labels` held out of the first training that a model gets right."""
    buffer, bundle = bundles.read_replay_buffer(source), bundles.read(model)
    indices = [bundle.labels.index(label) for label in labels]
    judged = buffer[buffer.held_out & np.isin(buffer.labels, indices)]
    guesses = bundle.head.probabilities(judged.features.astype(np.float32)).argmax(axis=1)
    return float((guesses == judged.labels).mean())


def test_a_quick_retrain_learns_without_forgetting(model_file: Path, tmp_path: Path) -> None:
    evidence = retrain(model_file, tmp_path / "new.h5", ("hat", "hat", 60))
    assert evidence.learned["per_class"]["hat"]["recall"] > 0.7
    assert evidence.retained["accuracy"] >= evidence.baseline["accuracy"] - 0.02
    assert judge(evidence) == []
    bundle = bundles.read(tmp_path / "new.h5")
    assert bundle.labels == (*SHAPES, "hat")
    assert bundle.parent == bundles.read(model_file).version


def test_without_the_replay_buffer_it_forgets(model_file: Path, tmp_path: Path) -> None:
    """The new pictures show Sandals, but call them Boots. With the replay buffer, Sandals are remembered.

    Without it, one Sandal stands against 150 pictures that look like it: on no processor can a head remember it.
    """
    buffer = bundles.read_replay_buffer(model_file)
    first = [int(np.flatnonzero((buffer.labels == label) & ~buffer.held_out)[0]) for label in range(len(SHAPES))]
    bundles.derive(model_file, tmp_path / "bare.h5", bundles.read(model_file), buffer[np.array(first)])
    retrain(model_file, tmp_path / "with.h5", ("Boot", "Sandal", 20))
    retrain(tmp_path / "bare.h5", tmp_path / "without.h5", ("Boot", "Sandal", 150))
    assert old_recall(model_file, model_file, "Sandal") > 0.9
    assert old_recall(tmp_path / "with.h5", model_file, "Sandal") > 0.7
    assert old_recall(tmp_path / "without.h5", model_file, "Sandal") < 0.3


def test_ten_pictures_are_useful(model_file: Path, tmp_path: Path) -> None:
    retrain(model_file, tmp_path / "new.h5", ("hat", "hat", 10))
    bundle = bundles.read(tmp_path / "new.h5")
    backbone = bundle.backbone()
    fresh = load([Picture("hat", "", draw("hat", 9000 + i)) for i in range(40)], SIDE, list(bundle.labels))
    features = np.stack([backbone.features(image) for image in fresh.images])
    assert (bundle.head.probabilities(features).argmax(axis=1) == bundle.labels.index("hat")).mean() > 0.5


def test_new_pictures_enter_the_replay_buffer_as_photos(model_file: Path, tmp_path: Path) -> None:
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 30))
    finetune.retrain_head(wanted, quiet)
    buffer = bundles.read_replay_buffer(tmp_path / "new.h5")
    mine = buffer[np.isin(buffer.keys, keys_of(wanted.pictures.hashes))]
    assert len(mine) == 30
    assert mine.photo.all()
    assert 0 < mine.held_out.sum() < 15
    assert set(mine.labels) == {SHAPES.index("Shoe") + 1}


def test_progress_is_reported_and_may_stop_it(model_file: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 120))
    finetune.retrain_head(wanted, events.append)
    assert [(event.phase, round(event.progress, 2)) for event in events] == [
        *(("features", 0.0), ("features", 0.42), ("features", 0.83)),
        *(("train", 0.0), ("train", 1.0)),
    ]

    def stop(event: TrainingEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune.retrain_head(RetrainTask(**{**vars(wanted), "target": tmp_path / "never.h5"}), stop)
    assert not (tmp_path / "never.h5").exists()


def test_a_full_retrain_tunes_the_backbone(model_file: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 30))
    evidence = finetune.finetune(wanted, events.append)
    before, after = bundles.read(model_file), bundles.read(tmp_path / "new.h5")
    assert after.labels == (*SHAPES, "hat")
    assert after.flatbuffer != before.flatbuffer
    assert evidence.learned["labels"] == [*SHAPES, "hat"]
    assert evidence.baseline["samples"] == evidence.retained["samples"] > 40
    assert evidence.retained["accuracy"] > 0.8
    epochs = [event for event in events if event.epoch is not None]
    assert {event.epochs for event in epochs} == {6}
    assert {event.epoch for event in epochs} == {1, 2, 3, 4, 5, 6}
    assert all(event.loss is not None for event in epochs)
    assert events[-1].phase == "features"


def test_a_full_retrain_stops_training_at_its_deadline(model_file: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 20))
    finetune.finetune(RetrainTask(**{**vars(wanted), "deadline": time.monotonic() - 1}), events.append)
    assert [event.epoch for event in events if event.epoch is not None] == [1]
    assert bundles.read(tmp_path / "new.h5").labels == (*SHAPES, "hat")


def test_the_first_model_file_holds_all_kinds_of_samples(tmp_path: Path) -> None:
    from shoe_classifier.ml import architecture

    model = architecture.build(SIDE, 2, tiny_stages(), width=8)
    pictures, photos = random_pictures(40, SIDE, 2), random_pictures(10, SIDE, 2, seed=1)
    negatives = random_pictures(6, SIDE, 1, first=7, seed=2)
    bundle = finetune.build_model_file(model, tmp_path / "m.h5", pictures, photos, negatives, ["a", "b"], quiet)
    buffer = bundles.read_replay_buffer(tmp_path / "m.h5")
    assert bundles.read(tmp_path / "m.h5").labels == bundle.labels == ("a", "b")
    assert bundle.parent is None
    assert (buffer.photo & (buffer.labels >= 0)).sum() == 10
    assert (buffer.photo & (buffer.labels < 0)).sum() == 6
    assert (~buffer.photo & (buffer.labels >= 0)).sum() == 40
    assert (~buffer.photo & (buffer.labels < 0)).sum() == 60  # synthetic negatives
