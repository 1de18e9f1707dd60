import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from helpers.model import random_pictures, tiny_stages
from helpers.pictures import SHAPES, SIDE, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.features import extract_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.head import BACKGROUND, Head
from shoe_classifier.ml.replay_buffer import keys_of
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.types import TrainingEvent

FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "shapes_format2.h5"


def task(source: Path, target: Path, *wanted: tuple[str, str, int]) -> RetrainTask:
    """New pictures, as `(label, drawn as, count)`; with the pictures themselves, as for a full retrain."""
    live = bundles.read(source)
    labels = list(live.labels)
    pictures = [
        Picture(label, f"{label}/{i}.jpg", draw(drawn_as, 5000 + i))
        for label, drawn_as, count in wanted
        for i in range(count)
    ]
    loaded = load(pictures, SIDE, labels)
    features = extract_features(live.backbone(), loaded)
    return RetrainTask(
        source, target, features, np.ones(len(loaded), bool), labels, time.monotonic() + 100, pictures=loaded
    )


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


def test_a_file_of_format_2_is_retrained_into_format_3(tmp_path: Path) -> None:
    evidence = retrain(FORMAT_2, tmp_path / "new.h5", ("hat", "hat", 60))
    assert judge(evidence) == []
    assert evidence.retained["accuracy"] >= evidence.baseline["accuracy"] - 0.02
    assert evidence.learned["per_class"]["hat"]["recall"] > 0.7
    before, after = bundles.read(FORMAT_2), bundles.read(tmp_path / "new.h5")
    with h5py.File(tmp_path / "new.h5") as file:
        assert file["shoe_classifier"].attrs["format"] == 3
        assert "memory" not in file["shoe_classifier"]
    assert isinstance(after.head, Head)
    assert (after.labels, after.parent) == ((*SHAPES, "hat"), before.version)
    assert after.backbone_sha256 == before.backbone_sha256
    old, new = bundles.read_replay_buffer(FORMAT_2), bundles.read_replay_buffer(tmp_path / "new.h5")
    assert new.shipped.sum() == len(old)  # all of them are kept
    assert set(new.keys[new.shipped]) == set(old.keys)
    assert new.has_latent.sum() > 0.9 * old.has_latent.sum() > 0


def test_a_lesson_is_cross_validated(model_file: Path, tmp_path: Path) -> None:
    """Sandals among hats look like Sandals to heads that were fitted without them."""
    evidence = retrain(model_file, tmp_path / "new.h5", ("hat", "hat", 60))
    found = evidence.cross_validation
    assert set(found.given) == {3}
    assert len(found.given) > 40
    assert (found.predicted == 3).mean() > 0.9
    found = retrain(model_file, tmp_path / "mixed.h5", ("hat", "hat", 40), ("hat", "Sandal", 20)).cross_validation
    assert 10 <= (found.predicted != 3).sum() <= 25


def test_what_the_first_head_names_is_kept_for_later_ones(model_file: Path, tmp_path: Path) -> None:
    before = bundles.read_replay_buffer(model_file)
    assert before.named[before.labels >= 0].mean() > 0.95
    retrain(model_file, tmp_path / "new.h5", ("hat", "hat", 60), ("Boot", "Sandal", 30))
    after, head = bundles.read_replay_buffer(tmp_path / "new.h5"), bundles.read(tmp_path / "new.h5").head
    was = dict(zip(before.keys.tolist(), before.named.tolist(), strict=True))
    old = np.isin(after.keys, before.keys)
    assert after.named[old].tolist() == [was[key] for key in after.keys[old].tolist()]
    names = head.logits(after.features.astype(np.float32)).argmax(axis=1) == after.labels
    assert (after.named[~old] == names[~old]).mean() > 0.95  # of features that lost some digits in the file
    assert after.named[after.labels == 3].mean() > 0.7


def test_new_pictures_enter_the_replay_buffer_as_photos(model_file: Path, tmp_path: Path) -> None:
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 30))
    finetune.retrain_head(wanted, quiet)
    buffer = bundles.read_replay_buffer(tmp_path / "new.h5")
    mine = buffer[np.isin(buffer.keys, keys_of(wanted.features.hashes))]
    assert len(mine) == 30
    assert mine.photo.all()
    assert 0 < mine.held_out.sum() < 15
    assert set(mine.labels) == {SHAPES.index("Shoe") + 1}


def test_a_quick_retrain_never_runs_the_backbone(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(task(model_file, tmp_path / "new.h5", ("hat", "hat", 20)), pictures=None)
    monkeypatch.setattr(Backbone, "_interpreter", lambda self: pytest.fail("Expected no inference."))
    monkeypatch.setattr(bundles.Bundle, "backbone", lambda self: SimpleNamespace(image_size=SIDE))
    finetune.retrain_head(wanted, quiet)
    assert bundles.read(wanted.target).labels == (*SHAPES, "hat")


def test_what_was_learned_before_is_no_part_of_the_lesson(model_file: Path, tmp_path: Path) -> None:
    wanted = task(model_file, tmp_path / "new.h5", ("Boot", "Boot", 40), ("hat", "hat", 20))
    evidence = finetune.retrain_head(replace(wanted, new=wanted.features.labels == 3), quiet)
    assert evidence.distinct.keys() == {"hat"}
    assert set(evidence.cross_validation.given) == {3}
    assert evidence.with_old_label == 0
    assert evidence.learned["per_class"]["Boot"]["support"] == 0
    before = bundles.read_replay_buffer(model_file)
    earlier = wanted.features[~(wanted.features.labels == 3)].held_out.sum()
    assert evidence.baseline["samples"] == (before.held_out & (before.labels >= 0)).sum() + earlier
    assert np.isin(keys_of(wanted.features.hashes), bundles.read_replay_buffer(wanted.target).keys).all()


def test_a_relabelled_picture_counts_with_its_new_label_only(model_file: Path, tmp_path: Path) -> None:
    first = task(model_file, tmp_path / "first.h5", ("hat", "hat", 40), ("cap", "cap", 40))
    finetune.retrain_head(first, quiet)
    moved = (first.features.labels == 3) & (first.features.held_out | (np.arange(80) < 10))
    labels = np.where(moved, 4, first.features.labels)
    second = replace(
        first, source=first.target, target=tmp_path / "b.h5", features=replace(first.features, labels=labels), new=moved
    )
    evidence = finetune.retrain_head(second, quiet)
    buffer = bundles.read_replay_buffer(second.target)
    mine = np.isin(buffer.keys, keys_of([first.features.hashes[i] for i in np.flatnonzero(moved)]))
    assert buffer.labels[mine].tolist() == [4] * moved.sum()
    # Those of the old label set no exam: the candidate would be judged by an answer that was wrong.
    assert evidence.baseline["samples"] == evidence.retained["samples"]
    before = bundles.read_replay_buffer(first.target)
    assert evidence.baseline["samples"] == (before.held_out & (before.labels >= 0)).sum() - second.lesson.held_out.sum()


def test_forgotten_pictures_leave_the_replay_buffer(model_file: Path, tmp_path: Path) -> None:
    first = task(model_file, tmp_path / "first.h5", ("hat", "hat", 40))
    finetune.retrain_head(first, quiet)
    deleted, kept = first.features.hashes[:5], first.features.hashes[5:]
    second = task(first.target, tmp_path / "second.h5", ("cap", "cap", 20))
    finetune.retrain_head(replace(second, forgotten=frozenset(deleted)), quiet)
    keys = bundles.read_replay_buffer(second.target).keys
    assert not np.isin(keys_of(deleted), keys).any()
    assert np.isin(keys_of(kept), keys).all()


def test_progress_is_reported_and_may_stop_it(model_file: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 20))
    finetune.retrain_head(wanted, events.append)
    assert [(event.phase, event.progress) for event in events] == [("train", 0.0), ("train", 1.0)]

    def stop(event: TrainingEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune.retrain_head(replace(wanted, target=tmp_path / "never.h5"), stop)
    assert not (tmp_path / "never.h5").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_full_retrain_keeps_a_label_that_has_neither_latents_nor_pictures(model_file: Path, tmp_path: Path) -> None:
    first = task(model_file, tmp_path / "first.h5", ("hat", "hat", 40))
    finetune.retrain_head(first, quiet)
    second = task(first.target, tmp_path / "second.h5", ("cap", "cap", 20))
    finetune.finetune(replace(second, deadline=time.monotonic() - 1), quiet)
    buffer = bundles.read_replay_buffer(second.target)
    assert (buffer.labels == 3).sum() == 40
    assert bundles.read(second.target).labels == (*SHAPES, "hat", "cap")


def test_a_full_retrain_stops_training_at_its_deadline(model_file: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    wanted = task(model_file, tmp_path / "new.h5", ("hat", "hat", 20))
    finetune.finetune(replace(wanted, deadline=time.monotonic() - 1), events.append)
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


def without_label(wanted: RetrainTask) -> RetrainTask:
    """The same pictures as negatives."""
    nothing = np.full(len(wanted.features), BACKGROUND)
    assert wanted.pictures is not None
    return replace(
        wanted,
        features=replace(wanted.features, labels=nothing),
        pictures=replace(wanted.pictures, labels=nothing),
        labels=list(SHAPES),
    )


def test_taught_negatives_become_unknown(model_file: Path, tmp_path: Path) -> None:
    finetune.retrain_head(without_label(task(model_file, tmp_path / "new.h5", ("hat", "hat", 30))), quiet)
    before, after = bundles.read(model_file), bundles.read(tmp_path / "new.h5")
    assert after.labels == SHAPES
    fresh = load([Picture("hat", "", draw("hat", 9000 + i)) for i in range(40)], SIDE, [])
    features = extract_features(after.backbone(), fresh).features.astype(np.float32)
    assert isinstance(before.head, Head) and isinstance(after.head, Head)
    assert after.head.background_odds(features).mean() > before.head.background_odds(features).mean()
    decisions = after.head.decide(features, after.head.probabilities(features))
    assert decisions.count("unknown") > 30


@pytest.mark.slow
def test_a_full_retrain_takes_negatives(model_file: Path, tmp_path: Path) -> None:
    wanted = without_label(task(model_file, tmp_path / "new.h5", ("hat", "hat", 20)))
    finetune.finetune(wanted, quiet)
    assert bundles.read(tmp_path / "new.h5").labels == SHAPES
    buffer = bundles.read_replay_buffer(tmp_path / "new.h5")
    assert set(buffer.labels[np.isin(buffer.keys, keys_of(wanted.features.hashes))]) == {BACKGROUND}
