from dataclasses import replace

import numpy as np
import pytest

from shoe_classifier.ml.centroid_head import CentroidHead


def two_labels() -> CentroidHead:
    """The first label has centroids at (4, 0) and (8, 0), the second at (0, 4); the third feature is the background."""
    return CentroidHead(
        kernel=np.array([[1, 0], [0, 1], [0, 0]], np.float32),
        bias=np.array([0, 0], np.float32),
        temperature=1.0,
        mean=np.array([1, 1, 0], np.float32),
        whitening=np.array(np.diag([1, 1, 0]), np.float32),
        centroids=np.array([[3, -1, 0], [7, -1, 0], [-1, 3, 0]], np.float32),
        centroid_labels=np.array([0, 0, 1]),
        background_weights=np.array([0, 0, 1], np.float32),
        background_bias=0.0,
        unknown_thresholds=np.array([1, 2], np.float32),
        uncertain_threshold=0.6,
    )


def decision(head: CentroidHead, features: np.ndarray) -> str:
    return head.decide(features, head.probabilities(features))[0]


def test_distances_lead_to_the_nearest_centroid_of_each_label() -> None:
    features = np.array([[4, 0, 5], [8, 2, 0], [0, 7, 0]], np.float32)
    expected = [[0, np.hypot(4, 4)], [2, np.hypot(8, 2)], [np.hypot(4, 7), 3]]
    assert np.allclose(two_labels().distances(features), expected, atol=1e-3)


def test_each_label_has_its_own_reach() -> None:
    assert decision(two_labels(), np.array([[5.5, 0, 0]], np.float32)) == "unknown"  # 1.5 away, 1 is allowed
    assert decision(two_labels(), np.array([[0, 5.5, 0]], np.float32)) == "accepted"  # 1.5 away, 2 are allowed
    assert decision(two_labels(), np.array([[4.9, 0, 0]], np.float32)) == "accepted"


def test_background_with_more_than_even_odds_is_unknown() -> None:
    even = float(np.log(np.exp(4) + 1))
    assert decision(two_labels(), np.array([[4, 0, even - 0.1]], np.float32)) == "accepted"
    assert decision(two_labels(), np.array([[4, 0, even + 0.1]], np.float32)) == "unknown"


def test_the_background_is_judged_without_the_temperature() -> None:
    head, features = two_labels(), np.array([[4, 0, 3]], np.float32)
    cooler = replace(head, kernel=head.kernel / 2, bias=head.bias / 2, temperature=2.0)
    assert cooler.background_odds(features) == pytest.approx(head.background_odds(features), abs=1e-5)
    assert head.background_odds(features) == pytest.approx(3 - np.log(np.exp(4) + 1), abs=1e-5)


def test_less_confidence_than_the_threshold_is_uncertain() -> None:
    head, features = two_labels(), np.array([[4, 0, 0]], np.float32)
    confidence = float(head.probabilities(features).max())
    assert decision(replace(head, uncertain_threshold=confidence), features) == "accepted"
    assert decision(replace(head, uncertain_threshold=confidence + 1e-6), features) == "uncertain"
