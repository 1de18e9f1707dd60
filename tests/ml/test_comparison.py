from dataclasses import replace

import numpy as np

from shoe_classifier.ml.comparison import what_got_worse
from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.gate import Anchors, CrossValidation, GateEvidence

NONE = np.zeros(0, np.int64)


def measured(guesses: list[int], names: list[str]) -> dict[str, object]:
    labels = np.array([0, 0, 0, 1, 1])
    return evaluate(np.eye(len(names))[guesses], labels, names, pictures=[f"p{i}" for i in range(5)])


def evidence(before: dict[str, object], after: dict[str, object]) -> GateEvidence:
    anchors = Anchors(NONE, NONE > 0, NONE > 0, NONE > 0, NONE > 0)
    validated = CrossValidation(NONE, NONE, NONE.astype(float))
    return GateEvidence(after, before, after, after, anchors, ("a", "b", "c"), 0, 0, 0.0, validated, {}, (0.0, 0.0))


def test_lost_labels_confusions_and_mistakes() -> None:
    before, after = measured([0, 0, 1, 1, 1], ["a", "b"]), measured([0, 1, 1, 1, 2], ["a", "b", "c"])
    worse = what_got_worse(evidence(before, after), ["it is worse"])
    assert worse["reasons"] == ["it is worse"]
    assert [(row["label"], row["before"], row["after"]) for row in worse["labels"]] == [
        ("b", 1.0, 0.5),
        ("a", 0.66667, 0.33333),
    ]
    assert worse["confusions"] == [
        {"label": "a", "predicted_class": "b", "before": 1, "after": 2},
        {"label": "b", "predicted_class": "c", "before": 0, "after": 1},
    ]
    assert [mistake["picture"] for mistake in worse["mistakes"]] == ["p1", "p4"]


def test_nothing_got_worse() -> None:
    same = measured([0, 0, 1, 1, 1], ["a", "b"])
    unchanged = replace(evidence(same, same), labels=("a", "b"))
    assert what_got_worse(unchanged, []) == {"reasons": [], "labels": [], "confusions": [], "mistakes": []}
