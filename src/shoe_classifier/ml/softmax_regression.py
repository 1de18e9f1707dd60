"""Weighted softmax regression for few samples in many dimensions, in NumPy and SciPy on one thread.

It is solved in the principal axes of the standardised features, where the curvature of the loss is nearly diagonal, so
that a few dozen steps of L-BFGS are enough. Deterministic.
"""

from dataclasses import dataclass

import numpy as np

_ADJUSTMENT = 1.0  # share of the logarithm of a class's weight that is added to its logit while fitting
_RELIEF = 0.5  # a class of weight n has n ** 0.5 times the inverse penalty: many samples need less regularisation
_TOLERANCE = 1e-7  # relative change of the loss below which the fit ends


@dataclass(frozen=True)
class PrincipalAxes:
    """The principal axes of standardised features: `d` features, `r` axes. Arrays are `float32`.

    Attributes:
        mean, spread: `(d,)` each, what features are standardised by.
        rotation: `(d, r)`, from standardised features to coordinates.
        variances: `(r,)`, of the coordinates, largest first.
    """

    mean: np.ndarray
    spread: np.ndarray
    rotation: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, weights: np.ndarray, kept_variance: float) -> "PrincipalAxes":
        """Find the axes of features `float32 (n, d)` with weights `(n,)` that keep a share of the variance, 0..1."""
        share = (weights / weights.sum()).astype(np.float32)
        mean = share @ features
        scaled = features - mean  # (n, d); in place from here on, because copies take most of a retrain's memory
        spread = np.sqrt(share @ np.square(scaled)) + np.float32(1e-3)
        scaled /= spread
        scaled *= np.sqrt(share)[:, None]
        wide = scaled.shape[0] < scaled.shape[1]  # then the smaller Gram matrix has the same eigenvalues
        variances, vectors = np.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
        variances, vectors = variances[::-1], vectors[:, ::-1]
        count = rank_of(variances, kept_variance)
        variances, vectors = np.maximum(variances[:count], 1e-9), vectors[:, :count]
        rotation = scaled.T @ vectors / np.sqrt(variances) if wide else vectors
        return cls(mean, spread, np.ascontiguousarray(rotation), variances)

    def coordinates(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to coordinates `(n, r)`."""
        scaled = features - self.mean
        scaled /= self.spread
        return scaled @ self.rotation

    def from_features(self, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """A kernel `(d, c)` and a bias `(c,)` to weights of the coordinates, `(r + 1, c)` with the bias last.

        The inverse of `to_features`, but for what lies outside the axes.
        """
        return np.concatenate([self.rotation.T @ (kernel * self.spread[:, None]), (bias + self.mean @ kernel)[None]])

    def to_features(self, solution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the coordinates, `(r + 1, c)` with the bias last, to a kernel `(d, c)` and a bias `(c,)`."""
        kernel = self.rotation @ solution[:-1] / self.spread[:, None]
        return kernel, solution[-1] - self.mean @ kernel


def rank_of(variances: np.ndarray, kept: float) -> int:
    """How many of the variances `(r,)`, largest first, keep a share of their sum, 0..1."""
    sums = np.cumsum(np.maximum(variances, 0))
    return int(min(len(sums), 1 + np.searchsorted(sums, kept * sums[-1])))


class SoftmaxRegression:
    """Weighted multinomial logistic regression with a penalty for each class.

    While it is fitted, each class's logit is raised by the logarithm of its weight, and not afterwards, so that classes
    of few samples are not drowned by those of many (Menon et al. 2021, "Long-tail learning via logit adjustment").

    Args:
        coordinates: `float32 (n, r)`.
        variances: `(r,)`, of the coordinates.
        targets: `int (n,)`, classes 0..classes-1; some may be absent.
        weights: `(n,)`, above 0.
        classes: their number.
    """

    def __init__(
        self, coordinates: np.ndarray, variances: np.ndarray, targets: np.ndarray, weights: np.ndarray, classes: int
    ):
        self._coordinates, self._variances, self._targets = coordinates, variances, targets
        self._weights, self._classes = weights.astype(np.float32), classes
        self._total = float(weights.sum())
        share = np.bincount(targets, weights, classes) / self._total
        self._absent = share == 0
        self._relief = np.maximum(share * self._total, 1.0) ** _RELIEF
        share = np.maximum(share, 1e-6)
        self._prior = (_ADJUSTMENT * np.log(share)).astype(np.float32)
        self._curvature = share * (1 - share) + 1e-6  # of the loss in a class's logit, at the beginning

    def solve(
        self,
        inverse_penalties: np.ndarray,
        steps: int,
        start: np.ndarray | None = None,
        centre: np.ndarray | float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Minimise the loss.

        Args:
            inverse_penalties: `(c,)`, of a class of weight 1.
            steps: of L-BFGS, at most.
            start: the second result of an earlier call.
            centre: `(r + 1, c)`, the weights that cost nothing; zero if not given. Biases cost nothing anyway.

        Returns:
            Weights `float32 (r + 1, c)`, the bias last; and the same for `start`. In the first, the bias of an absent
            class is so low that it is never predicted.
        """
        from scipy.optimize import minimize

        shape = (self._coordinates.shape[1] + 1, self._classes)
        penalties = (1 / (inverse_penalties * self._relief)).astype(np.float32)
        scale = self._preconditioner(penalties)
        point = np.zeros(scale.size) if start is None else (start / scale).ravel().astype(np.float64)

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self._loss(flat.astype(np.float32).reshape(shape) * scale, penalties, centre)
            return value, (slope * scale).ravel().astype(np.float64)

        options = {"maxiter": steps, "ftol": _TOLERANCE}
        found = minimize(loss, point, jac=True, method="L-BFGS-B", options=options)
        solution = found.x.astype(np.float32).reshape(shape) * scale
        usable = solution.copy()
        usable[-1, self._absent] = -1e9
        return usable, solution

    def _preconditioner(self, penalties: np.ndarray) -> np.ndarray:
        """Scale of each weight that makes the loss about equally curved in all, `float32 (r + 1, c)`."""
        curve = self._total * np.outer(np.append(self._variances, 1.0), self._curvature)
        curve[:-1] += penalties
        return (1 / np.sqrt(curve)).astype(np.float32)

    def _loss(
        self, solution: np.ndarray, penalties: np.ndarray, centre: np.ndarray | float
    ) -> tuple[float, np.ndarray]:
        """Mean loss and its slope `(r + 1, c)`."""
        moved = (solution - centre)[:-1].astype(np.float32)  # (r, c)
        rows = np.arange(len(self._targets))
        logits = self._coordinates @ solution[:-1]  # (n, c)
        logits += solution[-1] + self._prior
        logits -= logits.max(axis=1, keepdims=True)
        right = logits[rows, self._targets]
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1)
        value = float(np.sum(self._weights * (np.log(sums) - right), dtype=np.float64))
        value += float(np.square(moved).sum(axis=0) @ penalties) / 2
        logits /= sums[:, None]  # now probabilities
        logits[rows, self._targets] -= 1
        logits *= self._weights[:, None]
        slope = np.concatenate([self._coordinates.T @ logits + moved * penalties, logits.sum(axis=0)[None]])
        return value / self._total, slope / self._total
