from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shoe_classifier.ml import head_fitting
from shoe_classifier.ml.head import BACKGROUND, Head
from shoe_classifier.ml.head_fitting import USUAL_INVERSE_PENALTY, LeftOut, Samples, fit

WIDTH = 12
NEAR, FAR = 1.5, 4.0  # distances of clouds that overlap, and of some that do not


def cloud(label: int, count: int, seed: int = 0, distance: float = FAR) -> np.ndarray:
    """Features of one label: noise, above 0, and a feature of its own."""
    rng = np.random.default_rng([seed, label + 1])
    return np.abs(rng.normal(0, 1, (count, WIDTH)) + distance * np.eye(WIDTH)[label]).astype(np.float32)


def samples(counts: dict[int, int], new: tuple[int, ...] = (), distance: float = FAR) -> Samples:
    """So many samples of each label; a fifth is held out. Labels that are new were taught by photos."""
    features = np.concatenate([cloud(label, count, distance=distance) for label, count in counts.items()])
    labels = np.repeat(list(counts), list(counts.values()))
    position = np.concatenate([np.arange(count) for count in counts.values()])
    is_new = np.isin(labels, new)
    return Samples(features, labels, np.ones(len(labels)), position % 5 == 4, photo=is_new, new=is_new)


def share_right(head: Head, label: int, distance: float = FAR) -> float:
    """Of fresh features of a label."""
    guesses = head.probabilities(cloud(label, 300, seed=9, distance=distance)).argmax(axis=1)
    return float((guesses == label).mean())


def decisions(head: Head, label: int) -> list[str]:
    features = cloud(label, 300, seed=9)
    return head.decide(features, head.probabilities(features))


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The inverse penalties that the fits of a test chose."""
    choose: Callable[..., tuple[float, LeftOut]] = head_fitting._choose_penalty
    found: list[float] = []

    def watched(*args: object) -> tuple[float, LeftOut]:
        result = choose(*args)
        found.append(result[0])
        return result

    monkeypatch.setattr(head_fitting, "_choose_penalty", watched)
    return found


def test_labels_and_background_are_learned() -> None:
    head, _ = fit(samples({0: 100, 1: 100, 2: 100, BACKGROUND: 100}), 3)
    assert head.kernel.shape == (WIDTH, 3)
    assert {array.dtype for array in (head.kernel, head.bias, head.background_weights)} == {np.dtype(np.float32)}
    for label in range(3):
        assert share_right(head, label) > 0.95
        assert decisions(head, label).count("unknown") < 30
    assert decisions(head, BACKGROUND).count("unknown") > 250


def test_a_single_picture_is_enough_among_thousands() -> None:
    head, _ = fit(samples({0: 2000, 1: 2000, 2: 1, BACKGROUND: 500}, new=(2,), distance=6.0), 3)
    assert min(share_right(head, label, distance=6.0) for label in range(3)) > 0.9


@pytest.mark.parametrize("count", [1, 2])
def test_a_label_of_few_pictures_takes_hardly_any_from_the_others(count: int) -> None:
    given = samples({0: 1000, 1: 1000, 2: count, BACKGROUND: 200}, new=(2,))
    features = given.features.copy()
    features[given.new] = (features[given.new] + cloud(0, count, seed=7)) / 2  # they look half like the first label
    given = replace(given, features=features)
    judged = given.held_out & (given.labels >= 0)
    taken = fit(given, 3)[0].logits(features[judged]).argmax(axis=1) == 2
    assert taken.mean() <= 0.006  # 0.005 of each label's, or the picture next to it


def test_a_label_without_pictures_is_never_predicted() -> None:
    head, _ = fit(samples({0: 100, 2: 100, BACKGROUND: 100}), 4)
    wild = np.random.default_rng(1).uniform(0, 100, (500, WIDTH)).astype(np.float32)
    probabilities = head.probabilities(wild)
    assert probabilities[:, [1, 3]].max() < 1e-6
    assert np.isfinite(head.background_odds(wild)).all()
    assert share_right(head, 2) > 0.95


def test_without_negatives_nothing_looks_like_the_background() -> None:
    head, _ = fit(samples({0: 60, 1: 60}), 2)
    assert decisions(head, 0).count("unknown") == 0
    assert share_right(head, 0) > 0.95


def test_what_is_held_out_moves_temperature_and_thresholds_alone() -> None:
    given = samples({0: 100, 1: 100, BACKGROUND: 100}, distance=NEAR)
    head, _ = fit(given, 2)
    features, labels = given.features.copy(), given.labels.copy()
    features[given.held_out] = features[given.held_out][::-1] + 1
    labels[given.held_out & (labels >= 0)] = 1 - labels[given.held_out & (labels >= 0)]
    other, _ = fit(replace(given, features=features, labels=labels), 2)
    assert np.allclose(other.kernel * other.temperature, head.kernel * head.temperature, atol=1e-5)
    assert np.allclose(other.bias * other.temperature, head.bias * head.temperature, atol=1e-5)
    assert np.allclose(
        other.background_weights * other.temperature, head.background_weights * head.temperature, atol=1e-5
    )
    assert other.temperature > 2 * head.temperature
    assert not np.allclose(other.unknown_thresholds, head.unknown_thresholds, atol=0.1)


def test_confidence_is_near_the_accuracy() -> None:
    given = samples({0: 1000, 1: 1000, 2: 1000}, distance=NEAR)
    head, _ = fit(given, 3)
    features = np.concatenate([cloud(label, 300, seed=9, distance=NEAR) for label in range(3)])
    accuracy = np.mean([share_right(head, label, NEAR) for label in range(3)])
    assert 0.5 < accuracy < 0.8
    assert head.probabilities(features).max(axis=1).mean() == pytest.approx(accuracy, abs=0.06)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_temperature_undoes_the_scale_of_logits(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3000, 3)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((3000, 1)) > np.cumsum(chances, axis=1)[:, :2]).sum(axis=1)  # right as often as they say
    assert head_fitting._temperature(logits * scale, labels, 3) == pytest.approx(scale, rel=0.15)


def test_labels_that_cannot_be_judged_bring_a_usual_temperature() -> None:
    logits = np.array([[5, 0], [5, 0], [5, 0], [0, 5]], np.float32)
    labels = np.array([0, 0, 0, 0])
    alone = head_fitting._temperature(logits, labels, 1)
    usual = head_fitting._temperature(logits[:0], labels[:0], 2)
    assert usual == pytest.approx(head_fitting._UNJUDGED_TEMPERATURE)
    assert alone > 5 * usual
    assert head_fitting._temperature(logits, labels, 2) == pytest.approx((alone * usual) ** 0.5, rel=1e-3)


def test_a_mislabelled_picture_does_not_decide_the_temperature() -> None:
    right = np.tile(np.array([[9, 0], [0, 9]], np.float32), (200, 1))
    labels = np.tile([0, 1], 200)
    wrong = labels.copy()
    wrong[0] = 1
    right[0] = 200, 0
    assert head_fitting._temperature(right, wrong, 2) < 1


def test_confidence_is_accepted_where_few_mistakes_are_left() -> None:
    confidence = np.linspace(0, 1, 2001)
    threshold = head_fitting._uncertain_threshold(confidence, confidence < 0.65)
    assert threshold == pytest.approx(0.65, abs=0.011)
    assert head_fitting._uncertain_threshold(confidence, confidence < 0) == 0.5
    assert head_fitting._uncertain_threshold(confidence, confidence >= 0) == 0.8
    assert head_fitting._uncertain_threshold(np.zeros(0), np.zeros(0, bool)) == 0.5


def test_clean_lessons_get_less_regularisation_than_noisy_ones(chosen: list[float]) -> None:
    clean = samples({0: 100, 1: 100, 2: 100, BACKGROUND: 60}, new=(0, 1, 2), distance=6.0)
    fit(clean, 3)
    rng, labels = np.random.default_rng(1), clean.labels.copy()
    mixed_up = clean.new & (rng.random(len(labels)) < 0.3)
    labels[mixed_up] = rng.permutation(labels[mixed_up])
    fit(replace(clean, labels=labels), 3)
    assert chosen[0] > USUAL_INVERSE_PENALTY > chosen[1]


def test_few_lessons_get_the_usual_regularisation(chosen: list[float]) -> None:
    fit(samples({0: 200, 1: 200, 2: 10, BACKGROUND: 200}, new=(2,)), 3)
    assert chosen == [USUAL_INVERSE_PENALTY]


def test_regularisation_is_chosen_for_new_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = samples({0: 100, 1: 100, 2: 100, BACKGROUND: 100}, new=(2,))
    heads = []
    for choice in (0.0002, 0.006):
        left_out = LeftOut(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        monkeypatch.setattr(head_fitting, "_choose_penalty", lambda *args, of=choice: (of, left_out))  # noqa: B023
        heads.append(fit(given, 3)[0])
    strict, free = ([np.linalg.norm(column) * head.temperature for column in head.kernel.T] for head in heads)
    assert free[2] > 2 * strict[2]
    assert free[:2] == pytest.approx(strict[:2], rel=0.4)


def test_the_same_samples_give_the_same_head_to_the_last_bit() -> None:
    given = samples({0: 200, 1: 200, 2: 40, BACKGROUND: 100}, new=(2,))
    (head, left_out), (again, left_out_again) = fit(given, 3), fit(given, 3)
    for name, value in vars(head).items():
        assert np.array_equal(value, getattr(again, name)), name
    assert np.array_equal(left_out.logits, left_out_again.logits)


def test_weights_act_like_repetition() -> None:
    given = samples({0: 60, 1: 60, BACKGROUND: 60}, distance=NEAR)
    given = replace(given, held_out=np.zeros(len(given.labels), bool))
    times = np.where(np.arange(len(given.labels)) % 3 == 0, 4, 1)
    copies = np.repeat(np.arange(len(times)), times)
    repeated = Samples(*(column[copies] for column in vars(given).values()))
    weighted, copied, plain = (fit(s, 2)[0] for s in (replace(given, weights=times.astype(float)), repeated, given))
    difference = np.abs(weighted.kernel - copied.kernel).max()
    assert difference < 0.02 * np.abs(copied.kernel).max()
    assert np.abs(weighted.kernel - plain.kernel).max() > 0.05 * np.abs(copied.kernel).max()


def test_left_out_are_new_samples_that_were_learned() -> None:
    given = samples({0: 200, 1: 200, 2: 40, 3: 5, BACKGROUND: 100}, new=(2, 3))
    only = np.flatnonzero(given.labels == 3)[0]
    given.held_out[given.labels == 3] = np.arange(5) > 0
    _, left_out = fit(given, 4)
    expected = np.flatnonzero(given.new & ~given.held_out)
    assert np.array_equal(np.sort(left_out.rows), expected[expected != only])  # that one must stay: it is all there is
    assert left_out.logits.shape == (32, 5)


def test_left_out_are_judged_without_the_modesty_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower biases keep what is known; they do not tell that the new pictures are something else."""
    monkeypatch.setattr(head_fitting, "_modesty", lambda *args: np.array([0, 0, -50, 0], np.float32))
    head, left_out = fit(samples({0: 200, 1: 200, 2: 60, BACKGROUND: 100}, new=(2,)), 3)
    assert share_right(head, 2) == 0
    assert (left_out.logits.argmax(axis=1) == 2).all()


def test_new_labels_take_nothing_that_is_held_out_if_a_little_prevents_it() -> None:
    """Logits of two old labels and a new one. What is out of reach, or was wrong before, lowers no bias."""
    logits = np.array([[1, 0, 2.5], [0, 1, 0.5], [0, -1, 5], [0, 2, 3.9]], np.float32)
    labels, every = np.array([0, 1, 0, 0]), np.ones(4, bool)
    given = Samples(np.zeros((4, WIDTH), np.float32), labels, np.ones(4), every, photo=every, new=~every)
    shift = head_fitting._modesty(logits, given, np.array([False, False, True]))
    assert shift.tolist() == pytest.approx([0, 0, -1.51, 0])
    assert (logits + shift[:3])[0].argmax() == 0  # no tie
    part = Samples(*(column[1:3] for column in vars(given).values()))
    assert head_fitting._modesty(logits[1:3], part, np.array([False, False, True])).tolist() == [0, 0, 0, 0]


def test_mislabelled_pictures_disagree_when_they_are_left_out() -> None:
    given = samples({0: 200, 1: 200, 2: 60, BACKGROUND: 100}, new=(2,))
    new = np.flatnonzero(given.new & ~given.held_out)
    labels = given.labels.copy()
    labels[new[::8]] = 0  # six of 48 are mislabelled
    _, left_out = fit(replace(given, labels=labels), 3)
    guesses = dict(zip(left_out.rows.tolist(), left_out.logits[:, :3].argmax(axis=1), strict=True))
    assert np.mean([guesses[row] == 2 for row in new[::8]]) > 0.8
    assert np.mean([guesses[row] == 2 for row in new]) > 0.8


def test_what_is_left_out_is_not_known() -> None:
    """Pictures that have nothing in common: whoever names the label of one has seen it."""
    every = np.ones(16, bool)
    labels = np.arange(16) % 2
    given = Samples(6 * np.eye(16, dtype=np.float32), labels, np.ones(16), ~every, photo=every, new=every)
    head, left_out = fit(given, 2)
    assert (head.logits(given.features).argmax(axis=1) == labels).mean() > 0.9
    assert (left_out.logits[:, :2].argmax(axis=1) == labels[left_out.rows]).mean() < 0.75


def test_left_out_negatives_look_like_the_background() -> None:
    given = samples({0: 200, 1: 200, BACKGROUND: 60}, new=(BACKGROUND,))
    _, left_out = fit(given, 2)
    assert set(given.labels[left_out.rows]) == {BACKGROUND}
    assert (left_out.logits.argmax(axis=1) == 2).mean() > 0.8


def test_large_lessons_are_cross_validated_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    given = samples({0: 200, 1: 200, 2: 100, BACKGROUND: 100}, new=(2,))
    assert len(fit(given, 3)[1].rows) == 80
    monkeypatch.setattr(head_fitting, "_WORK_IN_FOLDS", 1)
    assert len(fit(given, 3)[1].rows) == 27  # one fold of three
    monkeypatch.setattr(head_fitting, "_QUERIED", 30)
    assert len(fit(given, 3)[1].rows) == 10


@pytest.mark.parametrize("new", [(), (0, 1)])
def test_features_that_say_nothing_still_give_finite_numbers(new: tuple[int, ...]) -> None:
    given = samples({0: 20, 1: 20}, new=new)
    head, _ = fit(replace(given, features=np.zeros((40, WIDTH), np.float32)), 2)
    assert np.isfinite(head.kernel).all()
    assert np.allclose(head.probabilities(np.zeros((1, WIDTH), np.float32)), 0.5, atol=0.1)


def test_a_single_label_is_always_right() -> None:
    head, _ = fit(samples({0: 20, BACKGROUND: 20}), 1)
    assert head.probabilities(cloud(0, 3)).tolist() == [[1], [1], [1]]
    assert decisions(head, BACKGROUND).count("unknown") > 200
