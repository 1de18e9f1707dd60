"""The gate, on both sides of each of its thresholds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.gate import Anchors, CrossValidation, GateEvidence, GatePolicy, judge

NAMES = ["a", "b", "c"]


def measured(guesses: list[int], labels: list[int]) -> dict[str, Any]:
    return evaluate(np.eye(3)[np.array(guesses, int)], np.array(labels, int), NAMES)


def figures(support: int = 100, recall: float = 1.0, f1: float = 1.0) -> dict[str, Any]:
    return {"support": support, "recall": recall, "f1": f1}


def anchors(
    count: int, lost: int = 0, won: int = 0, *, photo: bool = False, reference: int | None = None, label: int = 0
) -> Anchors:
    """Anchors of one kind. Unless `reference` says how many were known at first, none of them drifted."""
    number = np.arange(count)
    before, after = number >= won, number < count - lost
    known_at_first = after if reference is None else number < reference
    return Anchors(np.full(count, label), np.full(count, photo), before, after, known_at_first)


def together(*parts: Anchors) -> Anchors:
    return Anchors(*(np.concatenate(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))


def cross_validated(right: list[int], wrong: list[int], lead: float = 0.0) -> CrossValidation:
    """So many pictures of each new label named rightly, with a lead of 1, and wrongly, with `lead`."""
    given = np.concatenate([np.repeat(np.arange(len(right)), right), np.repeat(np.arange(len(wrong)), wrong)])
    is_right = np.arange(len(given)) < sum(right)
    return CrossValidation(given, np.where(is_right, given, given + 1), np.where(is_right, 1.0, lead))


PERFECT = measured([0] * 100 + [1] * 100, [0] * 100 + [1] * 100)  # "c" is new
FINE = GateEvidence(
    metrics=PERFECT,
    baseline=PERFECT,
    retained=PERFECT,
    learned=PERFECT,
    anchors=anchors(0),
    labels=("a", "b", "c"),
    contradicted=0,
    with_old_label=0,
    missed_photo_share=0.0,
    cross_validation=cross_validated([], []),
    distinct={},
    background_false_accepts=(0.0, 0.0),
)


def reasons(**changed: Any) -> list[str]:
    return judge(replace(FINE, **changed))


def test_an_equal_model_passes() -> None:
    assert judge(FINE) == []


def test_evidence_has_no_defaults() -> None:
    with pytest.raises(TypeError, match="missing 12 required"):
        GateEvidence()  # type: ignore[call-arg]


def test_a_loss_of_macro_f1_is_named() -> None:
    worse = measured([0] * 98 + [1] * 2 + [1] * 98 + [0] * 2, [0] * 100 + [1] * 100)
    assert reasons(retained=worse) == ["macro-F1 over the old labels fell from 1.000 to 0.980"]


@pytest.mark.parametrize(("f1", "passes"), [(0.9901, True), (0.9899, False), (float("nan"), False)])
def test_macro_f1_may_fall_by_one_point(f1: float, passes: bool) -> None:
    fallen = figures(recall=0.98, f1=f1)
    worse = {"per_class": {"a": fallen, "b": fallen, "c": figures(0, 0, 0)}}
    assert bool(reasons(retained=worse)) is not passes


@pytest.mark.parametrize(("support", "recall", "passes"), [(20, 0.95, True), (20, 0.90, False), (10, 0.90, True)])
def test_a_single_lost_picture_is_chance(support: int, recall: float, passes: bool) -> None:
    before = {"macro_f1": 1.0, "per_class": {"a": figures(support)}}
    after = {"per_class": {"a": figures(support, recall, f1=0.9)}}
    assert len(reasons(baseline=before, retained=after)) == (0 if passes else 2)


def test_macro_f1_is_the_mean_over_the_old_labels_alone() -> None:
    """One label falls and the other does not; the new one, which the live model cannot know, does not count."""
    retained = {"per_class": {"a": figures(f1=1.0), "b": figures(recall=0.98, f1=0.97), "c": figures(0, 0.0, 0.0)}}
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
    ("found", "passes"),
    [
        (anchors(200, lost=5), False),
        (anchors(200, lost=4), True),  # 1 in 16 by chance
        (anchors(250, lost=5), True),  # 2 % of all
        (anchors(200, lost=12, won=4), False),
        (anchors(200, lost=12, won=5), True),  # 17 differ, and 12 of them by chance in one of 14 retrains
        (anchors(200, lost=5, photo=True), False),
        (anchors(250, lost=5, photo=True), True),  # 2 % of all
        (anchors(200, won=50), True),
    ],
)
def test_losing_anchors_beyond_chance_is_stopped(found: Anchors, passes: bool) -> None:
    assert bool(reasons(anchors=found)) is not passes


def test_lost_photos_do_not_hide_among_product_pictures() -> None:
    found = reasons(anchors=together(anchors(5000, won=9), anchors(100, lost=9, won=1, photo=True)))
    assert found == ["of 100 held-out photos, it loses 9 that the live model knows, and gains 1"]


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (anchors(100, lost=4, reference=100), False),
        (anchors(100, lost=3, reference=100), True),
        (anchors(50, lost=3, reference=50), False),
        (anchors(50, lost=2, reference=50), True),  # more than 3 %, but few
        (anchors(100, lost=1, reference=98), True),
        (replace(anchors(100, lost=4, reference=100), before=np.arange(100) < 96), True),  # the live model lost them
    ],
)
def test_small_losses_do_not_add_up(found: Anchors, passes: bool) -> None:
    assert bool(reasons(anchors=found)) is not passes


def test_the_drift_of_a_single_label_is_named() -> None:
    found = together(anchors(400, reference=400), anchors(40, lost=4, won=1, reference=40, label=1))
    assert reasons(anchors=found) == ["of 40 held-out pictures of 'b', it knows 4 fewer than were known at first"]


@pytest.mark.parametrize(
    ("name", "distinct", "reason"),
    [
        ("a", (3, 80), "only 3 of the 80 pictures of 'a' look different"),
        ("c", (15, 80), "only 15 of the 80 pictures of 'c' look different"),
        ("c", (16, 80), None),
        ("c", (1, 4), "only 1 of the 4 pictures of 'c' look different"),
        ("c", (2, 4), None),
        ("c", (1, 3), None),  # few pictures may all be alike
    ],
)
def test_one_picture_repeated_is_stopped(name: str, distinct: tuple[int, int], reason: str | None) -> None:
    assert reasons(distinct={name: distinct}) == ([reason] if reason else [])


def test_each_label_is_checked_for_repeated_pictures() -> None:
    assert len(reasons(distinct={"a": (1, 80), "b": (60, 80), "c": (1, 4)})) == 2


@pytest.mark.parametrize(
    ("contradicted", "pictures", "missed", "passes"),
    [
        (8, 8, 0.0, True),  # users may correct the model
        (9, 9, 0.0, False),
        (9, 40, 0.0, True),  # of 40 hard photos, 5 are to be expected
        (12, 40, 0.0, False),
        (30, 100, 0.0, False),
        (30, 100, 0.3, True),  # the live model is no better than that
        (50, 100, 0.3, False),
    ],
)
def test_contradicting_the_live_model_is_stopped(contradicted: int, pictures: int, missed: float, passes: bool) -> None:
    found = reasons(contradicted=contradicted, with_old_label=pictures, missed_photo_share=missed)
    assert bool(found) is not passes


def test_a_contradiction_is_explained() -> None:
    assert reasons(contradicted=30, with_old_label=100) == [
        "the live model is sure that 30 of 100 new pictures show something else; "
        "of correctly labelled photos, about 12 % are to be expected"
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "passes"),
    [
        ([3], [17], False),
        ([4], [16], True),
        ([0], [3], True),  # of three pictures, none need look like another
        ([20, 20], [0, 0], True),
        ([10, 10], [10, 10], False),  # no better than chance
        ([15, 15], [5, 5], True),
    ],
)
def test_new_labels_must_agree_with_each_other(right: list[int], wrong: list[int], passes: bool) -> None:
    pictures = sum(right) + sum(wrong)
    expected = f"only {sum(right)} of {pictures} new pictures look like the others of their label"
    assert reasons(cross_validation=cross_validated(right, wrong)) == ([] if passes else [expected])


@pytest.mark.parametrize(
    ("wrong", "right", "lead", "passes"),
    [
        (12, 48, 2.0, False),
        (12, 48, 0.5, True),  # wrong, but not sure of it
        (5, 55, 2.0, True),
        (12, 47, 2.0, True),  # too few to tell
    ],
)
def test_pictures_that_clearly_look_like_another_label_are_stopped(
    wrong: int, right: int, lead: float, passes: bool
) -> None:
    expected = f"{wrong} of {wrong + right} new pictures clearly look like another label"
    assert reasons(cross_validation=cross_validated([right], [wrong], lead)) == ([] if passes else [expected])


@pytest.mark.parametrize(
    ("before", "after", "passes"), [(0.01, 0.43, False), (0.0, 0.05, True), (0.25, 0.31, False), (0.5, 0.3, True)]
)
def test_accepting_anything_is_stopped(before: float, after: float, passes: bool) -> None:
    expected = f"it accepts {100 * after:.0f} % of the held-out backgrounds, the live model {100 * before:.0f} %"
    assert reasons(background_false_accepts=(before, after)) == ([] if passes else [expected])


def test_all_reasons_are_given() -> None:
    worse = {"per_class": {"a": figures(recall=0, f1=0), "b": figures(), "c": figures(0, 0, 0)}}
    found = reasons(
        retained=worse,
        anchors=anchors(100, lost=50, reference=100),
        contradicted=50,
        with_old_label=50,
        cross_validation=cross_validated([0], [80]),
        distinct={"c": (1, 80)},
        background_false_accepts=(0.0, 1.0),
    )
    assert len(found) == 9  # two of the metrics, one of the anchors, two of their drift, and one of each other kind


def test_the_policy_decides() -> None:
    worse = replace(FINE, contradicted=30, with_old_label=100, background_false_accepts=(0.0, 0.2))
    lenient = GatePolicy(hard_photo_share=0.5, max_false_accept_rise=0.5)
    assert (len(judge(worse)), judge(worse, lenient)) == (2, [])
