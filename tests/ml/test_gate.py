"""The gate, on both sides of each of its thresholds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.gate import GateEvidence, GatePolicy, judge

NAMES = ["a", "b", "c"]


def measured(guesses: list[int], labels: list[int]) -> dict[str, Any]:
    return evaluate(np.eye(3)[np.array(guesses, int)], np.array(labels, int), NAMES)


def figures(support: int = 100, recall: float = 1.0, f1: float = 1.0) -> dict[str, Any]:
    return {"support": support, "recall": recall, "f1": f1}


PERFECT = measured([0] * 100 + [1] * 100, [0] * 100 + [1] * 100)  # "c" is new
FINE = GateEvidence(
    metrics=PERFECT,
    baseline=PERFECT,
    retained=PERFECT,
    learned=PERFECT,
    confident=0,
    contradicted=0,
    label_disagreements=0,
    queried=0,
    distinct={},
    background_false_accepts=(0.0, 0.0),
)


def reasons(**changed: Any) -> list[str]:
    return judge(replace(FINE, **changed))


def test_an_equal_model_passes() -> None:
    assert judge(FINE) == []


def test_evidence_has_no_defaults() -> None:
    with pytest.raises(TypeError, match="missing 10 required"):
        GateEvidence()  # type: ignore[call-arg]


def test_a_loss_of_macro_f1_is_named() -> None:
    worse = measured([0] * 98 + [1] * 2 + [1] * 98 + [0] * 2, [0] * 100 + [1] * 100)
    assert reasons(retained=worse) == ["macro-F1 over the old labels fell from 1.000 to 0.980"]


@pytest.mark.parametrize(("f1", "passes"), [(0.9901, True), (0.9899, False), (float("nan"), False)])
def test_macro_f1_may_fall_by_one_point(f1: float, passes: bool) -> None:
    worse = {"per_class": {"a": figures(f1=f1), "b": figures(f1=f1), "c": figures(0, 0, 0)}}
    assert bool(reasons(retained=worse)) is not passes


def test_macro_f1_is_the_mean_over_the_old_labels_alone() -> None:
    """One label falls and the other does not; the new one, which the live model cannot know, does not count."""
    retained = {"per_class": {"a": figures(f1=1.0), "b": figures(f1=0.97), "c": figures(0, 0.0, 0.0)}}
    assert reasons(retained=retained) == ["macro-F1 over the old labels fell from 1.000 to 0.985"]


def test_without_old_labels_there_is_nothing_to_forget() -> None:
    nothing = measured([], [])
    assert reasons(baseline=nothing, retained=nothing) == []


@pytest.mark.parametrize(("recall", "passes"), [(0.9701, True), (0.9699, False), (float("nan"), False)])
def test_recall_of_each_label_may_fall_by_three_points(recall: float, passes: bool) -> None:
    retained = {"per_class": {"a": figures(), "b": figures(recall=recall), "c": figures(0, 0, 0)}}
    assert bool(reasons(retained=retained)) is not passes


def test_a_loss_of_recall_is_named() -> None:
    retained = {"per_class": {"a": figures(), "b": figures(recall=0.96), "c": figures(0, 0, 0)}}
    assert reasons(retained=retained) == ["recall of 'b' fell from 1.000 to 0.960"]


@pytest.mark.parametrize(
    ("held_out", "recall", "passes"), [(8, 0.49, False), (8, 0.5, True), (7, 0.0, True), (9, 0.0, False)]
)
def test_half_of_what_is_new_must_be_known(held_out: int, recall: float, passes: bool) -> None:
    learned = {"per_class": {"a": figures(0, 0.0), "c": figures(held_out, recall)}}
    assert bool(reasons(learned=learned)) is not passes


def test_what_was_not_learned_is_named() -> None:
    learned = measured([0] * 6 + [2] * 2, [2] * 8)
    assert reasons(learned=learned) == ["it knows only 25% of the new pictures of 'c' that were held out"]


@pytest.mark.parametrize(
    ("name", "distinct", "reason"),
    [
        ("a", (3, 80), "only 3 of the 80 pictures of 'a' look different"),
        ("c", (3, 80), "only 3 of the 80 pictures of 'c' look different"),
        ("a", (1, 10), "only 1 of the 10 pictures of 'a' look different"),
        ("a", (2, 10), None),
        ("a", (1, 9), None),  # few pictures may all be alike
        ("c", (1, 1), "'c' is new and has 1 different pictures; it needs 5"),
        ("c", (4, 9), "'c' is new and has 4 different pictures; it needs 5"),
        ("c", (4, 12), "'c' is new and has 4 different pictures; it needs 5"),
        ("c", (5, 5), None),
    ],
)
def test_one_picture_repeated_is_stopped(name: str, distinct: tuple[int, int], reason: str | None) -> None:
    assert reasons(distinct={name: distinct}) == ([reason] if reason else [])


def test_each_label_is_checked_for_repeated_pictures() -> None:
    assert len(reasons(distinct={"a": (1, 80), "b": (60, 80), "c": (1, 3)})) == 2


@pytest.mark.parametrize(
    ("confident", "contradicted", "passes"),
    [(100, 30, False), (11, 11, True), (12, 12, False), (60, 12, True), (59, 12, False), (1000, 50, True)],
)
def test_contradicting_the_live_model_is_stopped(confident: int, contradicted: int, passes: bool) -> None:
    expected = f"the live model is sure of another label for {contradicted} of {confident} of the new pictures"
    assert reasons(confident=confident, contradicted=contradicted) == ([] if passes else [expected])


@pytest.mark.parametrize(
    ("disagreements", "queried", "passes"), [(40, 100, False), (26, 100, True), (33, 99, True), (34, 99, False)]
)
def test_labels_that_contradict_each_other_are_stopped(disagreements: int, queried: int, passes: bool) -> None:
    expected = f"{disagreements} of {queried} new pictures look like another label to a head that saw only the others"
    assert reasons(label_disagreements=disagreements, queried=queried) == ([] if passes else [expected])


@pytest.mark.parametrize(
    ("before", "after", "passes"), [(0.01, 0.43, False), (0.0, 0.05, True), (0.25, 0.31, False), (0.5, 0.3, True)]
)
def test_accepting_anything_is_stopped(before: float, after: float, passes: bool) -> None:
    expected = f"it accepts {after:.0%} of the held-out backgrounds, the live model {before:.0%}"
    assert reasons(background_false_accepts=(before, after)) == ([] if passes else [expected])


def test_all_reasons_are_given() -> None:
    worse = {"per_class": {"a": figures(recall=0, f1=0), "b": figures(), "c": figures(0, 0, 0)}}
    found = reasons(retained=worse, confident=50, contradicted=50, background_false_accepts=(0.0, 1.0))
    assert len(found) == 4


def test_the_policy_decides() -> None:
    worse = replace(FINE, confident=100, contradicted=30, background_false_accepts=(0.0, 0.2))
    lenient = GatePolicy(max_contradicted_share=0.5, max_false_accept_rise=0.5)
    assert (len(judge(worse)), judge(worse, lenient)) == (2, [])
