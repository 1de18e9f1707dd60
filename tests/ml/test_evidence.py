from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.pictures import SHAPES, SIDE, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import evidence, finetune
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.evidence import gather_evidence, metrics_of, sample_weights
from shoe_classifier.ml.features import LabelledFeatures, extract_features
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.ml.replay_buffer import ReplayBuffer
from shoe_classifier.ml.zip_reader import Picture


@pytest.fixture
def live(model_file: Path) -> Bundle:
    return bundles.read(model_file)


@pytest.fixture
def buffer(model_file: Path) -> ReplayBuffer:
    return bundles.read_replay_buffer(model_file)


def pictures(live: Bundle, *wanted: tuple[str, str, int]) -> LabelledFeatures:
    """Features of pictures of old labels, as `(label, drawn as, count)`."""
    drawn = [Picture(label, "", draw(drawn_as, 6000 + i)) for label, drawn_as, count in wanted for i in range(count)]
    return extract_features(live.backbone(), load(drawn, SIDE, list(SHAPES)))


def of_the_same_model(live: Bundle, buffer: ReplayBuffer, new: LabelledFeatures) -> GateEvidence:
    """The evidence for a candidate that is the live model itself, after it was shown `new`."""
    after = buffer.add(finetune._photos(new, buffer))
    return gather_evidence(live, buffer, after, live, after, new, list(live.labels))


def test_the_same_model_is_judged_alike(live: Bundle, buffer: ReplayBuffer) -> None:
    found = of_the_same_model(live, buffer, pictures(live, ("Boot", "Boot", 40), ("Shoe", "Shoe", 40)))
    assert found.baseline == found.retained
    assert found.baseline["samples"] == (buffer.held_out & (buffer.labels >= 0)).sum()
    assert found.metrics["changed"] == {"count": 0, "pictures": []}
    assert found.background_false_accepts[0] == found.background_false_accepts[1]
    assert found.queried == 80
    assert found.label_disagreements < 20
    assert found.contradicted < 0.2 * found.confident
    assert found.confident > 30
    assert found.distinct["Boot"][1] == 40


def test_wrong_labels_are_counted(live: Bundle, buffer: ReplayBuffer) -> None:
    found = of_the_same_model(live, buffer, pictures(live, ("Boot", "Sandal", 60)))
    assert found.contradicted > 0.8 * found.confident > 20
    assert found.learned["accuracy"] < 0.3


def test_few_pictures_of_a_label_are_not_queried(live: Bundle, buffer: ReplayBuffer) -> None:
    assert of_the_same_model(live, buffer, pictures(live, ("Boot", "Boot", 19), ("Shoe", "Shoe", 20))).queried == 20


def test_labels_that_are_mixed_up_disagree(live: Bundle, buffer: ReplayBuffer) -> None:
    mixed = pictures(live, ("Boot", "Boot", 30), ("Boot", "Sandal", 20))
    found = of_the_same_model(live, buffer, mixed)
    assert found.queried == 50
    assert 10 <= found.label_disagreements <= 30


def test_changes_name_the_pictures(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 40))
    after = buffer.add(finetune._photos(new, buffer))
    turned = replace(
        live, head=replace(live.head, kernel=live.head.kernel[:, [1, 0, 2]], bias=live.head.bias[[1, 0, 2]])
    )
    changed = gather_evidence(live, buffer, after, turned, after, new, list(SHAPES)).metrics["changed"]
    assert changed["count"] >= 30
    assert len(changed["pictures"]) == evidence._LISTED_CHANGES
    assert {row["sha256"] for row in changed["pictures"]} <= set(new.hashes)
    assert {(row["label"], row["before"], row["after"]) for row in changed["pictures"]} == {("Boot", "Boot", "Sandal")}


def test_pictures_that_one_buffer_dropped_are_not_compared(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 5))
    judged = np.flatnonzero(buffer.held_out & (buffer.labels >= 0))
    after = buffer[np.setdiff1d(np.arange(len(buffer)), judged[:7])]
    found = gather_evidence(live, buffer, buffer, live, after, new, list(SHAPES))
    assert found.baseline["samples"] == found.retained["samples"] == len(judged) - 7


def test_metrics_count_held_out_samples_alone(live: Bundle, buffer: ReplayBuffer) -> None:
    metrics = metrics_of(live.head, buffer, list(SHAPES))
    assert metrics["samples"] == (buffer.held_out & (buffer.labels >= 0)).sum()
    assert metrics["backgrounds"]["samples"] == (buffer.held_out & (buffer.labels < 0)).sum() > 0
    none = metrics_of(live.head, buffer[~buffer.held_out], list(SHAPES))
    assert none["samples"] == none["backgrounds"]["samples"] == 0


def test_false_accepts_are_those_of_the_old_labels(live: Bundle, buffer: ReplayBuffer) -> None:
    negatives = buffer[buffer.held_out & (buffer.labels < 0)]
    as_boots = replace(negatives, features=np.repeat(buffer.features[buffer.labels == 0][:1], len(negatives), 0))
    assert evidence._background_false_accepts(live.head, as_boots, 3) == 1.0
    assert evidence._background_false_accepts(live.head, as_boots, 0) == 0.0  # all of the labels are new
    assert evidence._background_false_accepts(live.head, negatives[np.zeros(len(negatives), bool)], 3) == 0.0


@pytest.mark.parametrize("photos", [True, False])
def test_photos_count_more_where_there_are_other_pictures(photos: bool, buffer: ReplayBuffer) -> None:
    buffer.photo[buffer.labels > 0] = photos
    buffer.photo[buffer.labels == 0] = np.arange((buffer.labels == 0).sum()) % 2 == 0
    weights = sample_weights(buffer)
    assert set(weights[(buffer.labels == 0) & buffer.photo]) == {evidence.PHOTO_WEIGHT}
    assert set(weights[(buffer.labels == 0) & ~buffer.photo]) == {1.0}
    assert set(weights[(buffer.labels < 0) & ~buffer.photo]) == {evidence.SYNTHETIC_WEIGHT}
    assert set(weights[(buffer.labels < 0) & buffer.photo]) == {1.0}  # negatives that users took
    assert set(weights[buffer.labels > 0]) == {1.0}
