import numpy as np
import pytest

from shoe_classifier.ml.softmax_regression import PrincipalAxes, SoftmaxRegression, rank_of

STEPS = 200  # more than it takes


def features(count: int, width: int = 6) -> np.ndarray:
    """Correlated, and each in another unit."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(0, 1, (count, width)) @ rng.normal(0, 1, (width, width))
    return (mixed * np.geomspace(0.1, 10, width) + np.arange(width)).astype(np.float32)


def clouds(counts: list[int], distance: float = 2.0, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates around a point on an axis of its own for each class."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(len(counts)), counts)
    return (rng.normal(0, 1, (len(targets), width)) + distance * np.eye(width)[targets]).astype(np.float32), targets


def solve(
    coordinates: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalties: list[float], steps: int = STEPS
) -> np.ndarray:
    problem = SoftmaxRegression(coordinates, coordinates.var(axis=0), targets, weights, len(penalties))
    return problem.solve(np.array(penalties), steps)[0]


def test_coordinates_are_uncorrelated_and_their_variances_fall() -> None:
    given, weights = features(200), np.random.default_rng(1).uniform(1, 5, 200)
    axes = PrincipalAxes.of(given, weights, 1.0)
    found = axes.coordinates(given)
    assert np.allclose(np.average(found, axis=0, weights=weights), 0, atol=1e-3)
    assert np.allclose(np.cov(found.T, aweights=weights, ddof=0), np.diag(axes.variances), atol=1e-2)
    assert (np.diff(axes.variances) <= 0).all()
    assert axes.variances.sum() == pytest.approx(6, rel=0.05)  # each feature brings the same


def test_fewer_samples_than_features_give_the_same_axes() -> None:
    """Repeating all samples makes them many, and changes nothing that the axes are taken from."""
    given = features(5, 16)
    few = PrincipalAxes.of(given, np.ones(5), 0.99)
    many = PrincipalAxes.of(np.tile(given, (4, 1)), np.ones(20), 0.99)
    assert few.rotation.shape == many.rotation.shape == (16, 4)
    assert np.allclose(few.variances, many.variances, rtol=1e-2)
    assert np.allclose(np.abs(few.coordinates(given)), np.abs(many.coordinates(given)), atol=2e-2)


def test_weights_of_coordinates_become_weights_of_features() -> None:
    given, solution = features(50), np.random.default_rng(1).normal(0, 1, (7, 3)).astype(np.float32)
    axes = PrincipalAxes.of(given, np.ones(50), 1.0)
    kernel, bias = axes.to_features(solution)
    assert kernel.shape == (6, 3)
    assert np.allclose(given @ kernel + bias, axes.coordinates(given) @ solution[:-1] + solution[-1], atol=1e-2)


@pytest.mark.parametrize(("kept", "rank"), [(0.5, 1), (0.81, 2), (0.95, 3), (1.0, 3)])
def test_rank_counts_the_largest_variances(kept: float, rank: int) -> None:
    assert rank_of(np.array([8.0, 1.0, 1.0]), kept) == rank


@pytest.mark.parametrize("count", [3, 8])
def test_features_that_say_nothing_still_have_an_axis(count: int) -> None:
    axes = PrincipalAxes.of(np.ones((count, 4), np.float32), np.ones(count), 0.99)
    assert np.isfinite(axes.coordinates(np.zeros((2, 4), np.float32))).all()


def test_it_solves_what_scikit_learn_solves() -> None:
    from sklearn.linear_model import LogisticRegression

    coordinates, targets = clouds([50, 50, 50])
    found = solve(coordinates, targets, np.ones(150), [0.01] * 3)
    penalty = 0.01 * 50**0.5  # the root relieves a class of 50 samples
    expected = LogisticRegression(C=penalty, tol=1e-8, max_iter=1000).fit(coordinates, targets)
    assert np.allclose(found[:-1], expected.coef_.T, atol=0.01)
    assert np.allclose(found[-1] - found[-1].mean(), expected.intercept_ - expected.intercept_.mean(), atol=0.01)


def test_few_dozen_steps_are_enough() -> None:
    coordinates, targets = clouds([400, 40, 4])
    coordinates *= np.array([10, 1, 1, 0.1], np.float32)
    near, exact = (solve(coordinates, targets, np.ones(444), [0.01] * 3, steps) for steps in (30, STEPS))
    assert np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


def test_weights_act_like_repetition() -> None:
    coordinates, targets = clouds([30, 30])
    repeated = np.where(np.arange(60) % 3 == 0, 4, 1)
    weighted = solve(coordinates, targets, repeated.astype(float), [0.01] * 2)
    copies = np.repeat(np.arange(60), repeated)
    assert np.allclose(
        weighted, solve(coordinates[copies], targets[copies], np.ones(len(copies)), [0.01] * 2), atol=0.02
    )
    assert not np.allclose(weighted, solve(coordinates, targets, np.ones(60), [0.01] * 2), atol=0.02)


def test_few_samples_are_not_drowned_by_many() -> None:
    coordinates, targets = clouds([5000, 50], distance=3.0)
    solution = solve(coordinates, targets, np.ones(5050), [0.1] * 2)
    fresh, labels = clouds([400, 400], distance=3.0)
    guesses = (fresh @ solution[:-1] + solution[-1]).argmax(axis=1)
    recalls = [(guesses[labels == label] == label).mean() for label in (0, 1)]
    assert min(recalls) > 0.9


def test_each_class_has_a_penalty_of_its_own() -> None:
    coordinates, targets = clouds([50, 50, 50])
    alike = np.linalg.norm(solve(coordinates, targets, np.ones(150), [0.01] * 3)[:-1], axis=0)
    freer = np.linalg.norm(solve(coordinates, targets, np.ones(150), [0.01, 0.01, 0.1])[:-1], axis=0)
    assert freer[2] > 1.2 * alike[2]
    assert freer[2] > 1.2 * freer[:2].max()


def test_an_absent_class_is_never_predicted() -> None:
    coordinates, targets = clouds([50, 50])
    solution = solve(coordinates, targets * 2, np.ones(100), [0.01] * 3)
    wild = np.random.default_rng(1).normal(0, 1000, (500, 4)).astype(np.float32)
    assert not ((wild @ solution[:-1] + solution[-1]).argmax(axis=1) == 1).any()


def test_it_goes_on_from_where_another_ended() -> None:
    coordinates, targets = clouds([50, 50])
    problem = SoftmaxRegression(coordinates, coordinates.var(axis=0), targets, np.ones(100), 3)
    penalties = np.full(3, 0.01)
    exact, start = problem.solve(penalties, STEPS)
    again, _ = problem.solve(penalties, 1, start)
    from_nothing, _ = problem.solve(penalties, 1)
    assert np.allclose(again[:, :2], exact[:, :2], atol=0.01)
    assert not np.allclose(from_nothing[:, :2], exact[:, :2], atol=0.01)
