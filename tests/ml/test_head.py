from dataclasses import replace

import numpy as np
import pytest

from shoe_classifier.ml.head import Head, activation_map, log_odds, softmax


def two_labels() -> Head:
    """Each label is a feature of its own, and the third feature is the background."""
    return Head(
        kernel=np.array([[1, 0], [0, 1], [0, 0]], np.float32),
        bias=np.array([0, 0], np.float32),
        background_weights=np.array([0, 0, 1], np.float32),
        background_bias=0.5,
        unknown_thresholds=np.array([1, 1], np.float32),
        uncertain_threshold=0.6,
        temperature=1.0,
    )


def decision(head: Head, features: np.ndarray) -> str:
    return head.decide(features, head.probabilities(features))[0]


def test_probabilities_add_up_and_follow_the_features() -> None:
    features = np.array([[3, 0, 0], [0, 2, 9]], np.float32)
    probabilities = two_labels().probabilities(features)
    assert probabilities.argmax(axis=1).tolist() == [0, 1]
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)


def test_the_background_stands_against_all_labels_together() -> None:
    found = two_labels().background_odds(np.array([[1, 2, 4]], np.float32))
    assert found == pytest.approx(4.5 - np.log(np.exp(1) + np.exp(2)), abs=1e-5)


def test_more_background_than_the_label_allows_is_unknown() -> None:
    head, features = two_labels(), np.array([[3, 0, 4]], np.float32)
    odds = head.background_odds(features)[0]
    at_the_border = replace(head, unknown_thresholds=np.repeat(odds, 2))
    assert decision(at_the_border, features) == "accepted"
    below = replace(head, unknown_thresholds=np.repeat(np.nextafter(odds, np.float32(-np.inf)), 2))
    assert decision(below, features) == "unknown"


def test_the_threshold_is_that_of_the_label_it_looks_most_like() -> None:
    head = replace(two_labels(), unknown_thresholds=np.array([-9, 9], np.float32))
    assert decision(head, np.array([[3, 0, 0]], np.float32)) == "unknown"
    assert decision(head, np.array([[0, 3, 0]], np.float32)) == "accepted"


def test_less_confidence_than_the_threshold_is_uncertain() -> None:
    head, features = two_labels(), np.array([[1, 0, 0]], np.float32)
    confidence = float(head.probabilities(features).max())
    assert decision(replace(head, uncertain_threshold=confidence), features) == "accepted"
    assert decision(replace(head, uncertain_threshold=confidence + 1e-6), features) == "uncertain"


def test_unknown_comes_before_uncertain() -> None:
    features = np.array([[0, 0, 9]], np.float32)
    assert decision(two_labels(), features) == "unknown"
    assert decision(replace(two_labels(), unknown_thresholds=np.array([99, 99], np.float32)), features) == "uncertain"


def test_the_temperature_changes_confidence_and_not_what_is_unknown() -> None:
    head, features = two_labels(), np.array([[1, 2, 4]], np.float32)
    cooler = replace(
        head,
        kernel=head.kernel / 4,
        bias=head.bias / 4,
        background_weights=head.background_weights / 4,
        background_bias=head.background_bias / 4,
        temperature=4.0,
    )
    assert cooler.background_odds(features) == pytest.approx(head.background_odds(features), abs=1e-5)
    assert cooler.probabilities(features).max() < head.probabilities(features).max() - 0.1


def test_large_logits_stay_finite() -> None:
    assert softmax(np.array([[1000.0, 1000.0]])).tolist() == [[0.5, 0.5]]
    assert log_odds(np.array([[1000.0, -1000.0]]), np.array([1001.0])).tolist() == [1.0]


def test_activation_map_is_hot_where_the_label_is() -> None:
    feature_map = np.zeros((3, 3, 3), np.float32)
    feature_map[2, 1, 0], feature_map[0, 0, 1] = 5, 5
    heat = activation_map(feature_map, two_labels().kernel, 0)
    assert heat.shape == (3, 3)
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 1)
    assert np.unravel_index(heat.argmin(), heat.shape) == (0, 0)  # where another label is
    assert (heat.min(), heat.max()) == (0, pytest.approx(1, abs=1e-6))


def test_activation_map_of_an_only_label() -> None:
    feature_map = np.zeros((2, 2, 3), np.float32)
    feature_map[1, 0, 0] = 5
    assert activation_map(feature_map, np.array([[1], [0], [0]], np.float32), 0).tolist() == [
        [0, 0],
        [pytest.approx(1), 0],
    ]
