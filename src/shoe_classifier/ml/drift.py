"""Whether recent pictures differ from those that were held out, whatever these show.

A domain classifier on the features themselves finds any change of what people photograph: of ordinary photos it told
99 % from the hold-out. A new camera moves all pictures in the same direction. So the classifier here sees how each
picture differs from the pictures that were learned and are most like it, and compares it with held-out pictures of the
same kind.
"""

from dataclasses import dataclass

import numpy as np

from shoe_classifier.ml.replay_buffer import ReplayBuffer

LEAST, MOST = 50, 200  # recent pictures that are compared
RAISED = (
    0.75  # score from which the alarm is raised: experiments/drift.py shows what stays below it, and what passes it
)
_NEIGHBOURS = 3
_DIRECTIONS = 50  # in which differences from the neighbours vary most
_FOLDS = 5
_PERMUTATIONS = 40
_RIDGE = 0.1  # over the mean variance
_FAR = 0.99  # quantile of the held-out pictures' distances beyond which a picture is unlike what was taught
_ENOUGH = 20  # held-out pictures from which a kind has a quantile of its own


@dataclass(frozen=True)
class Drift:
    """How well a classifier tells recent pictures from held-out ones.

    Attributes:
        score: its area under the ROC curve, 0..1; about 0.5 when there is no difference.
        expected: the interval that holds 95 % of the scores if there is no difference, by permutation.
        pictures: how many recent pictures were compared.
    """

    score: float
    expected: tuple[float, float]
    pictures: int

    @property
    def raised(self) -> bool:
        """Whether the difference is large, and not by chance."""
        return self.score >= RAISED and self.score > self.expected[1]


class Reference:
    """What a model learned, and what was held out: some megabytes.

    Args:
        buffer: the model's replay buffer.
    """

    def __init__(self, buffer: ReplayBuffer):
        learned = buffer[~buffer.held_out]
        self._learned = _unit(learned.features).astype(np.float16)  # (m, d)
        self._kinds = learned.labels.astype(int) * 2 + learned.photo  # (m,)
        held_out = buffer.features[buffer.held_out]
        self.usable = len(learned) >= _NEIGHBOURS and len(held_out) >= LEAST
        if self.usable:
            differences, self._held_out_kinds, self._held_out_distances = self._compare(held_out)
            self._directions = _principal_directions(differences)  # (d, k)
            self._held_out = differences @ self._directions  # (n, k)

    def far(self, features: np.ndarray) -> np.ndarray:
        """Which pictures are unlike what was taught, `bool (n,)`; features `float (n, d)`."""
        _, kinds, distances = self._compare(features)
        return distances > np.array([self._limit(kind) for kind in kinds])

    def measure(self, features: np.ndarray) -> Drift:
        """Compare recent pictures, features `float (n, d)` of at least `LEAST`, all different, with held-out ones."""
        rng = np.random.default_rng(0)
        shuffled = features[rng.permutation(len(features))]  # neighbours in time, often alike, go to different folds
        differences, kinds, _ = self._compare(shuffled)
        recent, matched = differences @ self._directions, self._held_out[self._matched(kinds, rng)]
        half = 1.96 * np.std([_score(*_swapped(matched, recent, rng)) for _ in range(_PERMUTATIONS)])
        return Drift(_score(matched, recent), (float(0.5 - half), float(0.5 + half)), len(recent))

    def _compare(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of features `(n, d)`: the difference from their nearest learned pictures `float32 (n, d)`, the kind of the
        very nearest one `int (n,)`, and the distance from it `(n,)`."""
        rows, learned = _unit(features), self._learned.astype(np.float32)
        cosines = rows @ learned.T
        nearest = np.argpartition(-cosines, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
        differences = rows - learned[nearest].mean(axis=1)
        return differences, self._kinds[cosines.argmax(axis=1)], 1 - cosines.max(axis=1)

    def _of_kind(self, kind: int) -> np.ndarray:
        """Positions of the held-out pictures of a kind; of all of them, if these are few."""
        found = np.flatnonzero(self._held_out_kinds == kind)
        return found if len(found) >= _ENOUGH else np.arange(len(self._held_out))

    def _limit(self, kind: int) -> float:
        return float(np.quantile(self._held_out_distances[self._of_kind(kind)], _FAR))

    def _matched(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each kind in `int (n,)`, the position of a held-out picture of that kind, drawn at random."""
        return np.array([rng.choice(self._of_kind(kind)) for kind in kinds])


def _principal_directions(rows: np.ndarray) -> np.ndarray:
    """The directions in which rows `(n, d)` vary most, `float32 (d, k)`."""
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # in ascending order
    return vectors[:, -_DIRECTIONS:]


def _unit(features: np.ndarray) -> np.ndarray:
    rows = features.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _swapped(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Swap the rows of two arrays `(n, k)` at random."""
    swap = rng.random(len(a))[:, None] < 0.5
    return np.where(swap, b, a), np.where(swap, a, b)


def _score(matched: np.ndarray, recent: np.ndarray) -> float:
    """Area under the ROC curve of a linear discriminant between `(n, k)` and `(n, k)`, by cross-validation."""
    fold = np.arange(len(recent)) % _FOLDS
    scores = np.empty((2, len(recent)))
    for test in range(_FOLDS):
        weights = _discriminant(matched[fold != test], recent[fold != test])
        scores[:, fold == test] = matched[fold == test] @ weights, recent[fold == test] @ weights
    ranks = scores.ravel().argsort().argsort()[len(recent) :]  # of the recent ones among all
    return float((ranks.sum() - len(recent) * (len(recent) - 1) / 2) / len(recent) ** 2)


def _discriminant(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Fisher's linear discriminant from rows `(n, k)` to rows `(m, k)`, with a ridge: `(k,)`."""
    centred = np.concatenate([a - a.mean(axis=0), b - b.mean(axis=0)])
    covariance = centred.T @ centred / len(centred)
    ridge = _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return np.linalg.solve(covariance + ridge, b.mean(axis=0) - a.mean(axis=0))
