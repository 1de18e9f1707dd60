import numpy as np
import pytest

from shoe_classifier.ml.evaluation import calibration_error, evaluate, gate, interval

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


def judged(guesses: list[int], labels: list[int], names: list[str] = NAMES) -> dict[str, object]:
    return evaluate(np.eye(len(names))[np.array(guesses, int)], np.array(labels, int), names)


PERFECT = judged([0] * 100 + [1] * 100, [0] * 100 + [1] * 100)


def test_gate_lets_the_same_pass() -> None:
    assert gate(PERFECT, PERFECT, PERFECT) == []


def test_gate_stops_a_loss_of_macro_f1() -> None:
    worse = judged([0] * 98 + [1] * 2 + [1] * 98 + [0] * 2, [0] * 100 + [1] * 100)
    reasons = gate(PERFECT, worse, PERFECT)
    assert reasons == ["macro-F1 over the old labels fell from 1.000 to 0.980"]


def test_gate_stops_the_loss_of_one_label() -> None:
    labels = [0] * 400 + [1] * 50 + [2] * 400
    worse = judged([0] * 400 + [1] * 48 + [0] * 2 + [2] * 400, labels)
    assert "recall of 'b' fell from 1.000 to 0.960" in gate(judged(labels, labels), worse, PERFECT)


def test_gate_asks_something_of_what_was_taught() -> None:
    lesson = judged([0] * 6 + [2] * 2, [2] * 8)
    assert gate(PERFECT, PERFECT, lesson) == ["it knows only 25% of the new pictures of 'c' that were held out"]
    assert gate(PERFECT, PERFECT, judged([0] * 7, [2] * 7)) == []  # too few to tell


def test_gate_stops_labels_that_contradict_each_other() -> None:
    assert (
        "40 of 100 new pictures look like another label"
        in gate(PERFECT, PERFECT, PERFECT, label_disagreements=(40, 100))[0]
    )
    assert gate(PERFECT, PERFECT, PERFECT, label_disagreements=(26, 100)) == []


@pytest.mark.parametrize(
    ("name", "distinct", "reason"),
    [
        ("a", (3, 80), "only 3 of the 80 pictures of 'a' look different"),
        ("c", (3, 80), "only 3 of the 80 pictures of 'c' look different"),
        ("c", (1, 1), "'c' is new and has 1 different pictures; it needs 5"),
    ],
)
def test_gate_stops_one_picture_repeated(name: str, distinct: tuple[int, int], reason: str) -> None:
    assert gate(PERFECT, PERFECT, PERFECT, distinct={name: distinct}) == [reason]
    assert gate(PERFECT, PERFECT, PERFECT, distinct={"a": (1, 1), "c": (9, 10)}) == []


def test_gate_stops_labels_that_the_live_model_is_sure_are_wrong() -> None:
    assert "sure of another label for 30 of 100" in gate(PERFECT, PERFECT, PERFECT, contradictions=(100, 30))[0]
    assert gate(PERFECT, PERFECT, PERFECT, contradictions=(11, 11)) == []  # a few corrections
    assert gate(PERFECT, PERFECT, PERFECT, contradictions=(1000, 50)) == []


def test_gate_stops_a_model_that_takes_anything_for_a_label() -> None:
    assert (
        "accepts 43% of the held-out backgrounds"
        in gate(PERFECT, PERFECT, PERFECT, background_false_accepts=(0.01, 0.43))[0]
    )
    assert gate(PERFECT, PERFECT, PERFECT, background_false_accepts=(0.01, 0.04)) == []


def test_gate_stops_not_a_number() -> None:
    broken = judged([0, 1], [0, 1])
    broken["per_class"]["a"]["f1"] = float("nan")  # type: ignore[index]
    assert gate(judged([0, 1], [0, 1]), broken, PERFECT)


def test_nothing_to_judge_is_zero_not_a_failure() -> None:
    assert judged([], [])["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    [(50, 100, 0.404, 0.596), (10, 10, 0.722, 1.0), (0, 0, 0.0, 1.0), (0, 5, 0.0, 0.434)],
)
def test_interval(hits: int, tries: int, low: float, high: float) -> None:
    assert interval(hits, tries) == pytest.approx([low, high], abs=1e-3)
