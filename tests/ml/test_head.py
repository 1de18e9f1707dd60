from dataclasses import replace

import numpy as np
import pytest

from shoe_classifier.ml.head import BACKGROUND, activation_map, fit, label_disagreements, softmax


def clouds(sizes: dict[int, float], count: int = 120, width: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features around a corner of space for each label."""
    rng = np.random.default_rng(5)
    features, labels = [], []
    for label, size in sizes.items():
        corner = np.zeros(width)
        corner[label] = size
        features.append(corner + rng.normal(0, 1, (count, width)))
        labels += [label] * count
    held_out = np.arange(len(labels)) % 6 == 0
    return np.concatenate(features).astype(np.float32), np.array(labels), held_out


@pytest.mark.parametrize("classes", [2, 3])
def test_fit_separates_and_gives_probabilities(classes: int) -> None:
    features, labels, held_out = clouds(dict.fromkeys(range(classes), 6.0))
    head = fit(features, labels, held_out, classes)
    probabilities = head.probabilities(features)
    assert head.kernel.shape == (12, classes)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.97


def test_calibrated_confidence_is_near_the_accuracy() -> None:
    features, labels, held_out = clouds({0: 1.6, 1: 1.6, 2: 1.6}, count=600)
    head = fit(features, labels, held_out, 3)
    probabilities = head.probabilities(features[held_out])
    accuracy = (probabilities.argmax(axis=1) == labels[held_out]).mean()
    assert 0.6 < accuracy < 0.95
    assert abs(probabilities.max(axis=1).mean() - accuracy) < 0.05


def test_far_features_are_unknown_and_near_ones_are_not() -> None:
    features, labels, held_out = clouds({0: 6.0, 1: 6.0})
    head = fit(features, labels, held_out, 2)
    far = np.full((1, 12), 9, np.float32)
    assert head.decide(far, head.probabilities(far)) == ["unknown"]
    decisions = head.decide(features[held_out], head.probabilities(features[held_out]))
    assert decisions.count("unknown") <= 0.05 * len(decisions)


def test_negatives_are_unknown_but_no_label() -> None:
    features, labels, held_out = clouds({0: 6.0, 1: 6.0, 2: 3.0})
    labels = np.where(labels == 2, BACKGROUND, labels)
    head = fit(features, labels, held_out, 2)
    behind = features[(labels == BACKGROUND) & held_out]
    assert head.kernel.shape[1] == 2
    assert np.mean(head.ood_score(behind) > 1) > 0.8


def test_between_two_labels_is_uncertain() -> None:
    features, labels, held_out = clouds({0: 6.0, 1: 6.0})
    head = fit(features, labels, held_out, 2)
    middle = np.zeros((1, 12), np.float32)
    middle[0, :2] = 3
    probabilities = head.probabilities(middle)
    assert probabilities.max() < 0.9
    unsure = replace(head, uncertain_threshold=0.9, unknown_thresholds=np.full(2, 100.0))
    assert unsure.decide(middle, probabilities) == ["uncertain"]


def test_wrong_labels_are_found_and_right_ones_are_not() -> None:
    features, labels, _ = clouds({0: 6.0, 1: 6.0, 2: 6.0})
    queried = labels > 0
    weights = np.ones(len(labels))
    assert label_disagreements(features, labels, weights, queried).mean() < 0.05
    flipped = labels.copy()
    wrong = queried & (np.arange(len(labels)) % 10 < 3)
    flipped[wrong] = 3 - labels[wrong]
    found = label_disagreements(features, flipped, weights, queried)
    assert found[wrong[queried]].mean() > 0.9
    assert found[~wrong[queried]].mean() < 0.1


def test_softmax_of_large_numbers() -> None:
    assert softmax(np.array([[1000.0, 1000.0]])).tolist() == [[0.5, 0.5]]


def test_activation_map_is_hot_where_the_label_is() -> None:
    features, labels, held_out = clouds({0: 6.0, 1: 6.0})
    head = fit(features, labels, held_out, 2)
    feature_map = np.zeros((3, 3, 12), np.float32)
    feature_map[2, 1, 0] = 5
    heat = activation_map(feature_map, head, 0)
    assert heat.shape == (3, 3)
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 1)
    assert heat.max() == pytest.approx(1, abs=1e-6)


def test_features_that_say_nothing_still_give_finite_numbers() -> None:
    labels = np.arange(40) % 2
    head = fit(np.zeros((40, 12), np.float32), labels, np.arange(40) % 5 == 0, 2)
    assert np.isfinite(head.whitening).all()
    assert np.allclose(head.probabilities(np.zeros((1, 12), np.float32)), 0.5, atol=0.1)
