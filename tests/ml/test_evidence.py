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
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.head import BACKGROUND
from shoe_classifier.ml.head_fitting import LeftOut
from shoe_classifier.ml.replay_buffer import ReplayBuffer
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.types import NONE_OF_THESE


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


NOTHING_LEFT_OUT = LeftOut(np.zeros(0, np.int64), np.zeros((0, len(SHAPES) + 1), np.float32))


def of_the_same_model(live: Bundle, buffer: ReplayBuffer, new: LabelledFeatures) -> GateEvidence:
    """The evidence for a candidate that is the live model itself, after it was shown `new`."""
    after = buffer.add(finetune.samples_of(new, buffer))
    return gather_evidence(live, buffer, after, live, after, NOTHING_LEFT_OUT, new, list(live.labels))


def test_the_same_model_is_judged_alike(live: Bundle, buffer: ReplayBuffer) -> None:
    found = of_the_same_model(live, buffer, pictures(live, ("Boot", "Boot", 40), ("Shoe", "Shoe", 40)))
    assert found.baseline == found.retained
    assert found.baseline["samples"] == (buffer.held_out & (buffer.labels >= 0)).sum()
    assert found.metrics["changed"] == {"count": 0, "pictures": []}
    assert found.background_false_accepts[0] == found.background_false_accepts[1]
    assert np.array_equal(found.anchors.before, found.anchors.after)
    assert found.with_old_label == 80
    assert found.contradicted < 20
    assert found.distinct["Boot"][1] == 40
    assert judge(found) == []


def test_anchors_are_the_pictures_held_out_before(live: Bundle, buffer: ReplayBuffer) -> None:
    """In the same order for both models, although the candidate's samples lie in another one."""
    judged = np.flatnonzero(buffer.held_out & (buffer.labels >= 0))
    buffer.photo[judged[::3]] = True
    buffer.named[judged[:10]] = False
    mixed = buffer[np.random.default_rng(0).permutation(len(buffer))]
    new = pictures(live, ("Boot", "Boot", 40))
    after = mixed.joined(finetune.samples_of(new, buffer))
    found = gather_evidence(live, buffer, after, live, after, NOTHING_LEFT_OUT, new, list(SHAPES)).anchors
    assert len(found.labels) == len(judged)
    assert np.array_equal(np.bincount(found.labels), np.bincount(buffer.labels[judged]))
    assert found.photo.sum() == len(judged[::3])
    assert (~found.reference).sum() == (~buffer.named[judged]).sum() >= 10
    assert np.array_equal(found.before, found.after)
    assert found.before.mean() > 0.95


def test_anchors_see_what_the_candidate_loses(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 5))
    without_boots = replace(live, head=replace(live.head, bias=live.head.bias - np.array([1e6, 0, 0], np.float32)))
    found = gather_evidence(live, buffer, buffer, without_boots, buffer, NOTHING_LEFT_OUT, new, list(SHAPES)).anchors
    assert not found.after[found.labels == 0].any()
    assert found.after[found.labels != 0].mean() > 0.95
    assert found.before[found.labels == 0].mean() > 0.95


def test_wrong_labels_contradict_the_live_model(live: Bundle, buffer: ReplayBuffer) -> None:
    found = of_the_same_model(live, buffer, pictures(live, ("Boot", "Sandal", 60)))
    assert found.with_old_label == 60
    assert found.contradicted > 50
    assert found.learned["accuracy"] < 0.3


def test_what_the_live_model_does_not_know_contradicts_it(live: Bundle, buffer: ReplayBuffer) -> None:
    """Pictures of something else, called Boots: the live model calls them unknown, whatever they look most like."""
    found = of_the_same_model(live, buffer, pictures(live, ("Boot", "hat", 40)))
    assert found.contradicted > 30


@pytest.mark.parametrize(("lead", "contradicted"), [(0.5, 0), (5.0, 40)])
def test_a_close_call_contradicts_nothing(live: Bundle, buffer: ReplayBuffer, lead: float, contradicted: int) -> None:
    """A live model that names every picture Sandal, by a lead of the logit over Boot."""
    nothing = np.zeros_like(live.head.kernel)
    bias = np.array([0, lead, 0], np.float32)
    head = replace(live.head, kernel=nothing, bias=bias, background_weights=nothing[:, 0], background_bias=-20.0)
    found = of_the_same_model(replace(live, head=head), buffer, pictures(live, ("Boot", "Boot", 40)))
    assert (found.contradicted, found.with_old_label) == (contradicted, 40)


def test_new_labels_contradict_nothing(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "hat", 40), ("Shoe", "Shoe", 10))
    new = replace(new, labels=np.where(new.labels == 0, 3, new.labels))
    after = buffer.add(finetune.samples_of(new, buffer))
    wider = replace(live, labels=(*SHAPES, "hat"))
    found = gather_evidence(live, buffer, after, wider, after, NOTHING_LEFT_OUT, new, [*SHAPES, "hat"])
    assert found.with_old_label == 10


def test_missed_photos_are_those_among_the_anchors(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 5))
    assert of_the_same_model(live, buffer, new).missed_photo_share == 0  # there are no photos
    judged = np.flatnonzero(buffer.held_out & (buffer.labels >= 0))
    buffer.photo[judged] = True
    assert of_the_same_model(live, buffer, new).missed_photo_share < 0.1
    buffer.labels[judged[: len(judged) // 2]] = (buffer.labels[judged[: len(judged) // 2]] + 1) % 3
    assert of_the_same_model(live, buffer, new).missed_photo_share == pytest.approx(0.5, abs=0.1)


def test_cross_validation_is_that_of_new_labels(live: Bundle, buffer: ReplayBuffer) -> None:
    """Of old labels the live model knows more than heads that saw less; and negatives have no label."""
    rows = [np.flatnonzero(buffer.labels == label)[0] for label in (0, 1, 2, -1)]
    logits = np.array(
        [[9, 1, 2, 50], [1, 2, 9, 0], [7, 1, 5, 0], [0, 0, 0, 9]], np.float32
    )  # the last are of the background
    found = evidence._cross_validation(LeftOut(np.array(rows), logits), buffer, known=1, classes=3)
    assert found.given.tolist() == [1, 2]
    assert found.predicted.tolist() == [2, 0]
    assert found.lead.tolist() == [7, 2]


def test_a_first_label_is_cross_validated_too(buffer: ReplayBuffer) -> None:
    row = np.flatnonzero(buffer.labels == 0)[:1]
    found = evidence._cross_validation(LeftOut(row, np.array([[3, 1]], np.float32)), buffer, known=0, classes=1)
    assert (found.predicted.tolist(), found.lead.tolist()) == ([0], [0])


def test_changes_name_the_pictures(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 40))
    after = buffer.add(finetune.samples_of(new, buffer))
    turned = replace(
        live, head=replace(live.head, kernel=live.head.kernel[:, [1, 0, 2]], bias=live.head.bias[[1, 0, 2]])
    )
    changed = gather_evidence(live, buffer, after, turned, after, NOTHING_LEFT_OUT, new, list(SHAPES)).metrics[
        "changed"
    ]
    assert changed["count"] >= 30
    assert len(changed["pictures"]) == evidence._LISTED_CHANGES
    assert {row["sha256"] for row in changed["pictures"]} <= set(new.hashes)
    assert {(row["label"], row["before"], row["after"]) for row in changed["pictures"]} == {("Boot", "Boot", "Sandal")}


def test_pictures_that_one_buffer_dropped_are_not_compared(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 5))
    judged = np.flatnonzero(buffer.held_out & (buffer.labels >= 0))
    after = buffer[np.setdiff1d(np.arange(len(buffer)), judged[:7])]
    found = gather_evidence(live, buffer, buffer, live, after, NOTHING_LEFT_OUT, new, list(SHAPES))
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


def test_negatives_are_no_label_and_contradict_nothing(live: Bundle, buffer: ReplayBuffer) -> None:
    new = pictures(live, ("Boot", "Boot", 40))
    new = replace(new, labels=np.full(len(new), BACKGROUND))
    found = of_the_same_model(live, buffer, new)
    assert found.distinct[NONE_OF_THESE][1] == 40
    assert found.metrics["changed"] == {"count": 0, "pictures": []}
    assert (found.contradicted, found.with_old_label) == (0, 0)
    assert set(found.learned["labels"]) == set(SHAPES)
