import numpy as np

from shoe_classifier.ml.cross_validation import examine

NO_FEATURES, NO_LABELS = np.zeros((0, 8), np.float16), np.zeros(0, np.int64)


def clusters(count: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Features of three labels, `float16 (3 * count, 8)`, and the labels."""
    labels = np.repeat(np.arange(3), count)
    noise = np.random.default_rng(0).normal(0, spread, (len(labels), 8))
    return (np.eye(3, 8)[labels] * 3 + noise).astype(np.float16), labels


def test_pictures_are_judged_by_others_of_their_label() -> None:
    features, labels = clusters(20)
    probabilities = examine(features, labels, NO_FEATURES, NO_LABELS, 3).probabilities()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    labels[0] = 1
    assert examine(features, labels, NO_FEATURES, NO_LABELS, 3).probabilities()[0].argmax() == 0


def test_the_only_picture_of_a_label_is_judged_by_the_others() -> None:
    features, labels = clusters(20)
    lone = np.flatnonzero(labels == 2)[:1]
    keep = np.concatenate([np.flatnonzero(labels != 2), lone])
    without = examine(features[keep], labels[keep], NO_FEATURES, NO_LABELS, 3).probabilities()
    assert without[-1, 2] == 0
    others = np.flatnonzero(labels == 2)[1:]
    exam = examine(features[keep], labels[keep], features[others], labels[others], 3)
    assert exam.probabilities()[-1].argmax() == 2


def test_one_label_alone_is_certain() -> None:
    features, _ = clusters(3)
    assert np.allclose(examine(features, np.zeros(9, int), NO_FEATURES, NO_LABELS, 1).probabilities(), 1)


def test_a_lone_picture_knows_nothing() -> None:
    features, _ = clusters(1)
    exam = examine(features[:1], np.zeros(1, int), NO_FEATURES, NO_LABELS, 2)
    assert np.allclose(exam.probabilities(), 0.5)
