import numpy as np
import pytest

from shoe_classifier.ml.evaluation import calibration_error, evaluate, interval

NAMES = ["a", "b", "c"]


def one_hot(guesses: list[int]) -> np.ndarray:
    return np.eye(3)[guesses]


def test_metrics_of_known_mistakes() -> None:
    metrics = evaluate(one_hot([0, 0, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 1]), NAMES)
    assert metrics["accuracy"] == pytest.approx(4 / 6, abs=1e-4)
    assert metrics["macro_f1"] == pytest.approx(2 / 3, abs=1e-4)  # c does not occur and does not count
    assert metrics["confusion_matrix"] == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert metrics["per_class"]["a"] == {
        "precision": 0.66667,
        "recall": 0.66667,
        "f1": 0.66667,
        "support": 3,
        "unknown_rate": 0.0,
    }
    assert metrics["samples"] == 6


def test_decisions_and_worst_mistakes() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    decisions = ["accepted", "uncertain", "unknown", "accepted"]
    metrics = evaluate(probabilities, np.array([0, 0, 0, 1]), ["a", "b"], decisions, ["w", "x", "y", "z"])
    assert metrics["decisions"] == {"accepted": 0.5, "uncertain": 0.25, "unknown": 0.25}
    assert metrics["per_class"]["a"]["unknown_rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert [(m["picture"], m["confidence"]) for m in metrics["mistakes"]] == [("y", 0.7), ("x", 0.6)]
    assert metrics["mistakes"][0]["label"] == "a"
    assert metrics["mistakes"][0]["predicted_class"] == "b"


def test_calibration_error() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    labels = np.array([0] * 9 + [1])
    assert calibration_error(sure, labels) == pytest.approx(0, abs=1e-6)
    assert calibration_error(sure, np.ones(10, int)) == pytest.approx(0.9)


def test_nothing_to_judge_is_zero_not_a_failure() -> None:
    metrics = evaluate(np.zeros((0, 3)), np.zeros(0, int), NAMES)
    assert (metrics["accuracy"], metrics["macro_f1"], metrics["samples"]) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    [(50, 100, 0.404, 0.596), (10, 10, 0.722, 1.0), (0, 0, 0.0, 1.0), (0, 5, 0.0, 0.434)],
)
def test_interval(hits: int, tries: int, low: float, high: float) -> None:
    assert interval(hits, tries) == pytest.approx([low, high], abs=1e-3)
