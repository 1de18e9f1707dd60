import numpy as np
import pytest

from shoe_classifier.classifier.evaluation import calibration_error, evaluate, gate

NAMES = ["a", "b", "c"]


def one_hot(guesses: list[int]) -> np.ndarray:
    return np.eye(3)[guesses]


def test_metrics_of_known_mistakes() -> None:
    metrics = evaluate(one_hot([0, 0, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 1]), NAMES)
    assert metrics["accuracy"] == pytest.approx(4 / 6, abs=1e-4)
    assert metrics["macro_f1"] == pytest.approx(2 / 3, abs=1e-4)  # c does not occur and does not count
    assert metrics["confusion_matrix"] == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert metrics["per_class"]["a"] == {"precision": 0.66667, "recall": 0.66667, "f1": 0.66667, "support": 3}
    assert metrics["samples"] == 6


def test_calibration_error() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    labels = np.array([0] * 9 + [1])
    assert calibration_error(sure, labels) == pytest.approx(0, abs=1e-6)
    assert calibration_error(sure, np.ones(10, int)) == pytest.approx(0.9)


def judged(guesses: list[int], labels: list[int], names: list[str] = NAMES) -> dict[str, object]:
    return evaluate(np.eye(len(names))[guesses], np.array(labels), names)


def test_gate_lets_the_same_pass() -> None:
    labels = [0] * 100 + [1] * 100
    metrics = judged(labels, labels)
    assert gate(metrics, metrics) == []


def test_gate_stops_a_loss_of_macro_f1() -> None:
    labels = [0] * 100 + [1] * 100
    reasons = gate(judged([0] * 98 + [1] * 2 + [1] * 98 + [0] * 2, labels), judged(labels, labels))
    assert len(reasons) == 1
    assert "macro-F1 over the old labels fell from 1.000 to 0.980" in reasons[0]


def test_gate_stops_the_loss_of_one_label() -> None:
    labels = [0] * 400 + [1] * 50 + [2] * 400
    reasons = gate(judged([0] * 400 + [1] * 48 + [0] * 2 + [2] * 400, labels), judged(labels, labels))
    assert any("recall of 'b' fell from 1.000 to 0.960" in reason for reason in reasons)


def test_gate_asks_something_of_new_labels() -> None:
    old = [0] * 50 + [1] * 50
    metrics = judged([*old, 0, 0, 0, 2], [*old, 2, 2, 2, 2])
    reasons = gate(metrics, judged(old, old, NAMES[:2]))
    assert any("new label 'c' is only 0.250" in reason for reason in reasons)


def test_gate_stops_not_a_number() -> None:
    metrics = judged([0, 1], [0, 1])
    metrics["per_class"]["a"]["f1"] = float("nan")  # type: ignore[index]
    assert gate(metrics, judged([0, 1], [0, 1]))
