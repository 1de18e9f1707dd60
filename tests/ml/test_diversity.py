import numpy as np
import pytest

from shoe_classifier.ml.diversity import ALIKE, Choice, choose


def at(degrees: float) -> np.ndarray:
    """A feature vector in this direction."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float16)


def test_pictures_that_are_alike_are_shown_once() -> None:
    assert np.cos(np.radians(10)) > ALIKE > np.cos(np.radians(60))
    choices = choose(np.array([0.5, 0.9, 0.6, 0.1]), [at(0), at(5), at(90), at(92)], "abcd")
    assert choices == [Choice(1, [0]), Choice(2, [3])]


def test_the_best_come_first_and_then_what_differs_from_them() -> None:
    choices = choose(np.array([1.0, 0.9, 0.8]), [at(0), at(30), at(90)], "abc")
    assert [choice.shown for choice in choices] == [0, 2, 1]


def test_the_same_file_is_alike_without_features() -> None:
    assert choose(np.array([0.1, 0.2, 0.3]), [None, None, None], "aab") == [Choice(2, []), Choice(1, [0])]


def test_a_picture_without_features_is_like_no_other() -> None:
    choices = choose(np.array([0.3, 0.2]), [at(0), None], "ab")
    assert [choice.alike for choice in choices] == [[], []]


def test_each_picture_is_there_once() -> None:
    rng = np.random.default_rng(0)
    choices = choose(rng.random(100), [row for row in rng.normal(size=(100, 3))], range(100))
    assert sorted(i for choice in choices for i in (choice.shown, *choice.alike)) == list(range(100))
    assert 1 < len(choices) < 100


def test_nothing_to_choose_from() -> None:
    assert choose(np.zeros(0), [], []) == []


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_length_of_features_does_not_matter(scale: float) -> None:
    rows = [at(0), at(5), at(90)]
    scores = np.array([0.9, 0.5, 0.1])
    scaled = [row.astype(np.float32) * scale for row in rows]
    assert choose(scores, scaled, "abc") == choose(scores, rows, "abc")
