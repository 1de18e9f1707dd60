import numpy as np

from shoe_classifier.ml.cross_validation import examine
from shoe_classifier.ml.learning_curve import learning_curves

NO_FEATURES, NO_LABELS = np.zeros((0, 8), np.float16), np.zeros(0, np.int64)


def clusters(count: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Features of three labels, `float16 (3 * count, 8)`, and the labels."""
    labels = np.repeat(np.arange(3), count)
    noise = np.random.default_rng(0).normal(0, spread, (len(labels), 8))
    return (np.eye(3, 8)[labels] * 3 + noise).astype(np.float16), labels


def test_curves_rise_and_say_what_more_would_bring() -> None:
    curves = learning_curves(examine(*clusters(40), NO_FEATURES, NO_LABELS, 3))
    assert set(curves) == {0, 1, 2}
    for curve in curves.values():
        assert [pictures for pictures, _ in curve.points] == [8, 16, 32]
        assert curve.points[-1][1] > 0.9 and 0 <= curve.expected_gain < 0.1
        assert curve.enough == (curve.expected_gain < 0.01)


def test_what_is_hard_needs_more() -> None:
    easy = learning_curves(examine(*clusters(16, 0.3), NO_FEATURES, NO_LABELS, 3))
    hard = learning_curves(examine(*clusters(16, 1.8), NO_FEATURES, NO_LABELS, 3))
    assert sum(c.expected_gain for c in hard.values()) > sum(c.expected_gain for c in easy.values())


def test_too_few_pictures_say_nothing() -> None:
    assert learning_curves(examine(*clusters(7), NO_FEATURES, NO_LABELS, 3)) == {}
