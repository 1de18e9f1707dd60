import numpy as np
import pytest

from shoe_classifier.ml import ood
from shoe_classifier.ml.ood import unknown_thresholds

NO_NEGATIVES = np.zeros(0)


def odds(count: int, mean: float = -5.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, count)


def thresholds(
    *groups: tuple[int, bool, np.ndarray], negatives: np.ndarray = NO_NEGATIVES, classes: int = 2
) -> np.ndarray:
    """Of groups of `(label, photo, odds)`."""
    labels = np.concatenate([np.full(len(values), label) for label, _, values in groups])
    photo = np.concatenate([np.full(len(values), photo) for _, photo, values in groups])
    return unknown_thresholds(np.concatenate([values for *_, values in groups]), labels, photo, negatives, classes)


def test_a_label_loses_no_more_of_its_pictures_than_stated() -> None:
    products, photos = odds(1000), odds(1000, mean=-3.0, seed=1)
    (found,) = thresholds((0, False, products), (0, True, photos), classes=1)
    assert (products > found).mean() <= ood.LOST_PRODUCT
    assert 0.5 * ood.LOST_PHOTO < (photos > found).mean() <= ood.LOST_PHOTO  # and is as strict as that allows


def test_products_alone_set_a_stricter_threshold() -> None:
    products = odds(1000)
    (found,) = thresholds((0, False, products), classes=1)
    assert 0.5 * ood.LOST_PRODUCT < (products > found).mean() <= ood.LOST_PRODUCT


def test_a_taught_label_loses_its_own_share() -> None:
    photos = odds(1000)
    (found,) = thresholds((0, True, photos), classes=1)
    assert 0.5 * ood.LOST_TAUGHT < (photos > found).mean() <= ood.LOST_TAUGHT


def test_few_photos_do_not_move_the_threshold_of_products() -> None:
    products, outliers = odds(1000), np.full(ood._ENOUGH - 1, 50.0)
    alone = thresholds((0, False, products), classes=1)
    assert thresholds((0, False, products), (0, True, outliers), classes=1) == pytest.approx(alone)


def test_each_label_is_judged_by_its_own_pictures() -> None:
    near, far = thresholds((0, False, odds(200, -8)), (1, False, odds(200, -2)))
    assert far - near == pytest.approx(6, abs=1)


def test_negatives_far_away_make_room() -> None:
    products, negatives = odds(1000), odds(1000, mean=10.0, seed=1)
    strict = thresholds((0, False, products), classes=1)[0]
    lenient = thresholds((0, False, products), negatives=negatives, classes=1)[0]
    allowed = np.quantile(negatives, ood.ACCEPTED_NEGATIVES)
    assert lenient == pytest.approx(strict + ood.LENIENCE * (allowed - strict), abs=1e-3)
    assert (negatives <= lenient).mean() <= ood.ACCEPTED_NEGATIVES


@pytest.mark.parametrize("negatives", [odds(1000, mean=-20.0), odds(ood._ENOUGH - 1, mean=10.0)])
def test_negatives_that_are_near_or_few_change_nothing(negatives: np.ndarray) -> None:
    products = odds(1000)
    strict = thresholds((0, False, products), classes=1)
    assert thresholds((0, False, products), negatives=negatives, classes=1) == pytest.approx(strict)


def test_negatives_leave_a_taught_label_alone() -> None:
    photos = odds(1000)
    strict = thresholds((0, True, photos), classes=1)
    assert thresholds((0, True, photos), negatives=odds(1000, 10.0), classes=1) == pytest.approx(strict)


def test_labels_of_few_pictures_are_taken_together() -> None:
    few, other, many = odds(8, -2, seed=1), odds(8, -2, seed=2), odds(200, -9)
    found = thresholds((0, True, few), (1, True, other), (2, False, many), classes=4)
    together = np.concatenate([few, other])
    assert found[0] == found[1] == found[3]  # the last has none at all
    assert (together > found[0]).sum() <= 2
    assert found[2] < -3 < found[0] < together.max()


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [(NO_NEGATIVES, 0.0), (odds(ood._ENOUGH - 1, 9.0), 0.0), (odds(1000, -9.0), 0.0), (np.arange(101) / 10, 1.0)],
)
def test_without_pictures_even_odds_or_what_negatives_allow(negatives: np.ndarray, expected: float) -> None:
    found = thresholds((0, True, odds(3)), negatives=negatives)
    assert found.dtype == np.float32
    assert found == pytest.approx([expected, expected], abs=1e-5)
