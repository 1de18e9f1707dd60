"""What stands on the backbone's features: linear softmax head, calibration, out-of-distribution score, activation map.

Serving uses NumPy alone; `fit` imports scikit-learn, which takes a second, only when something is learned.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shoe_classifier.types import Decision

BACKGROUND = -1  # label of pictures that show none of the labels
_CENTROIDS = 8  # per label, at most, for the out-of-distribution score
_INVERSE_PENALTY = 0.1  # of the logistic regression, on features of unit variance
_SHRINKAGE = 0.05  # of the covariance towards a multiple of the identity
_NEVER = -1e9  # log-odds
_KNOWN_QUANTILE = 0.98  # share of a label's held-out pictures that must count as known, and of negatives as unknown
_FOLDS = 3
_ENOUGH_HELD_OUT = 10  # pictures of a label; with fewer, those it was learned from help to set its thresholds


@dataclass(frozen=True)
class Head:
    """The fitted parameters. Arrays are `float32` unless they say otherwise; `d` features, `k` labels, `m` centroids.

    Attributes:
        kernel, bias: `(d, k)` and `(k,)`, already divided by the temperature.
        temperature: what the raw logits were divided by (Guo et al. 2017, "On Calibration of Modern Neural Networks"),
            above 0.
        mean, whitening, centroids: `(d,)`, `(d, d)`, `(m, d)`. The distance to a label's nearest centroid in whitened
            space tells how unlike the label a picture is (Lee et al. 2018, "A Simple Unified Framework for Detecting
            Out-of-Distribution Samples", with several centroids per label).
        centroid_labels: `int (m,)`, the label of each centroid, ascending; each label has one or more.
        background_weights, background_bias: `(d,)` and a number: the raw logit of showing no label, not divided by the
            temperature.
        unknown_thresholds: `(k,)`, for each label the largest distance that counts as known, above 0.
        uncertain_threshold: smallest confidence that is accepted, 0..1.
    """

    kernel: np.ndarray
    bias: np.ndarray
    temperature: float
    mean: np.ndarray
    whitening: np.ndarray
    centroids: np.ndarray
    centroid_labels: np.ndarray
    background_weights: np.ndarray
    background_bias: float
    unknown_thresholds: np.ndarray
    uncertain_threshold: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to calibrated logits `(n, k)`."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to probabilities `(n, k)`, 0..1, in label order."""
        return softmax(self.logits(features))

    def ood_score(self, features: np.ndarray) -> np.ndarray:
        """How unlike anything learned features `(n, d)` are: `(n,)`, 0 or more; above 1 means unknown."""
        distance = (self.distances(features) / self.unknown_thresholds).min(axis=1)
        # `1 + tanh` puts even odds at 1, as the thresholds do with distances: the larger of both decides.
        return np.maximum(distance, 1 + np.tanh(self.background_odds(features)))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to the distance from the nearest centroid of each label, `(n, k)`, 0 or more."""
        white = (features - self.mean) @ self.whitening  # (n, d)
        norms, starts = self._centroid_norms_and_starts
        # |a - b|² = |a|² - 2ab + |b|², (n, m): no array of (n, m, d) is needed; rounding may leave it just below 0.
        squares = np.square(white).sum(1)[:, None] - 2 * white @ self.centroids.T + norms
        return np.sqrt(np.maximum(np.minimum.reduceat(squares, starts, axis=1), 0))

    @cached_property
    def _centroid_norms_and_starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared lengths of the centroids `(m,)`, and the index of each label's first centroid `(k,)`."""
        return np.square(self.centroids).sum(1), np.unique(self.centroid_labels, return_index=True)[1]

    def background_odds(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to the log-odds of showing none of the labels, judging by the negatives learned: `(n,)`."""
        raw = self.logits(features) * self.temperature
        top = raw.max(axis=1)
        known = top + np.log(np.exp(raw - top[:, None]).sum(axis=1))  # log-sum-exp of the labels' logits, (n,)
        return features @ self.background_weights + self.background_bias - known

    def decide(self, features: np.ndarray, probabilities: np.ndarray) -> list[Decision]:
        """`accepted`, `uncertain` or `unknown` for each of features `(n, d)` with probabilities `(n, k)`."""
        unknown = self.ood_score(features) > 1
        sure = probabilities.max(axis=1) >= self.uncertain_threshold
        return ["unknown" if u else "accepted" if s else "uncertain" for u, s in zip(unknown, sure, strict=True)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits of any shape to probabilities, 0..1, that add up to 1 along the last axis."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def fit(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> Head:
    """Fit head and centroids to the samples to learn from, temperature and thresholds to those held out.

    Args:
        features: `float32 (n, d)`.
        labels: `int (n,)`, indices into the list of labels, or `BACKGROUND`.
        held_out: `bool (n,)`.
        classes: number of labels; each has at least one picture that is not held out.
        weights: `float (n,)`, above 0: how much each sample counts in the head; all the same if not given.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    learn = ~held_out
    spread = features[learn].std(axis=0) + 1e-6
    targets = np.where(labels == BACKGROUND, classes, labels)
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000, tol=1e-3)
    with threadpool_limits(1):  # more threads of low priority wait for each other and keep predictions from a core
        model.fit(features[learn] / spread, targets[learn], None if weights is None else weights[learn])
    kernel, bias = (model.coef_ / spread).T, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives one column for two classes
        kernel, bias = np.concatenate([-kernel / 2, kernel / 2], 1), np.concatenate([-bias / 2, bias / 2])
    has_background = kernel.shape[1] > classes
    raw = Head(
        kernel=kernel[:, :classes],
        bias=bias[:classes],
        temperature=1.0,
        **_centroids(features[learn & (labels >= 0)], labels[learn & (labels >= 0)], classes),
        background_weights=kernel[:, classes] if has_background else np.zeros(len(spread)),
        background_bias=float(bias[classes]) if has_background else _NEVER,
        unknown_thresholds=np.full(classes, np.inf),
        uncertain_threshold=0.0,
    )
    few = [label for label in range(classes) if (held_out & (labels == label)).sum() < _ENOUGH_HELD_OUT]
    judge = (held_out & (labels >= 0)) | np.isin(labels, few)
    return _calibrate(raw, features[judge], labels[judge], features[held_out & (labels == BACKGROUND)], few)


def label_disagreements(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, queried: np.ndarray
) -> np.ndarray:
    """Which of the queried samples get another label from a head that was fitted without them.

    Cross-validation finds labels that are wrong here and there (Northcutt et al. 2021, "Confident Learning").

    Args:
        features, labels, weights: as `fit` takes them.
        queried: `bool (n,)`.

    Returns:
        `bool (m,)`, for the `m` queried samples.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    fold = np.where(queried, np.arange(len(labels)) % _FOLDS, _FOLDS)
    scaled = features / (features.std(axis=0) + 1e-6)
    guesses = labels.copy()
    for number in range(_FOLDS):
        out = fold == number
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=300, tol=1e-2)
        with threadpool_limits(1):
            if out.any() and len(np.unique(labels[~out])) > 1:
                guesses[out] = model.fit(scaled[~out], labels[~out], weights[~out]).predict(scaled[out])
    disagree: np.ndarray = guesses[queried] != labels[queried]
    return disagree


def _centroids(features: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Cluster each label, then whiten by the scatter around the centroids, so that all directions count alike."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    clusters = []
    for label in range(classes):
        members = features[labels == label]
        count = min(_CENTROIDS, 1 + len(members) // 20)
        with threadpool_limits(1):
            clusters.append(KMeans(count, n_init=1, random_state=0).fit(members))
    scatter = np.concatenate(
        [features[labels == label] - model.cluster_centers_[model.labels_] for label, model in enumerate(clusters)]
    )
    covariance = scatter.T @ scatter / len(scatter)
    covariance += np.eye(len(covariance)) * (_SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-8)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(values)
    mean = features.mean(axis=0)
    centroids = np.concatenate([model.cluster_centers_ for model in clusters])
    return {
        "mean": mean,
        "whitening": whitening,
        "centroids": (centroids - mean) @ whitening,
        "centroid_labels": np.repeat(np.arange(classes), [len(model.cluster_centers_) for model in clusters]),
    }


def _calibrate(head: Head, features: np.ndarray, labels: np.ndarray, negatives: np.ndarray, few: list[int]) -> Head:
    """Set temperature and thresholds by samples `(n, d)`, `(n,)` and negatives `(m, d)`; see `_distance_borders`."""
    temperatures = np.exp(np.linspace(np.log(0.2), np.log(10), 200))
    logits = head.logits(features)
    losses = [-np.log(softmax(logits / t)[np.arange(len(labels)), labels] + 1e-12).mean() for t in temperatures]
    temperature = float(temperatures[int(np.argmin(losses))])
    confidence = softmax(logits / temperature).max(axis=1)
    wrong = logits.argmax(axis=1) != labels
    return Head(
        kernel=(head.kernel / temperature).astype(np.float32),
        bias=(head.bias / temperature).astype(np.float32),
        temperature=temperature,
        mean=head.mean.astype(np.float32),
        whitening=head.whitening.astype(np.float32),
        centroids=head.centroids.astype(np.float32),
        centroid_labels=head.centroid_labels,
        background_weights=head.background_weights.astype(np.float32),
        background_bias=head.background_bias - max(0.0, _odds_border(head, features, labels, negatives)),
        unknown_thresholds=_distance_borders(head, features, labels, negatives, few).astype(np.float32),
        uncertain_threshold=_uncertain_threshold(confidence, wrong),
    )


def _odds_border(head: Head, features: np.ndarray, labels: np.ndarray, negatives: np.ndarray) -> float:
    """The log-odds of being background above which pictures are unknown."""
    odds = head.background_odds(features)
    known = [odds[labels == label] for label in np.unique(labels)]
    return max(_border(scores, head.background_odds(negatives)) for scores in known)


def _distance_borders(
    head: Head, features: np.ndarray, labels: np.ndarray, negatives: np.ndarray, few: list[int]
) -> np.ndarray:
    """For each label the distance from its centroids beyond which a picture is unknown, `(k,)`.

    Few pictures do not show how far a label reaches: those in `few` reach at least as far as the median label.
    """
    known, strange = head.distances(features), head.distances(negatives)
    every = np.arange(len(head.bias))
    borders = np.array([_border(known[labels == label, label], strange[:, label]) for label in every])
    usual = np.median(borders[~np.isin(every, few)]) if len(few) < len(every) else borders.max()
    return np.maximum(borders, np.where(np.isin(every, few), max(usual, 1e-6), 0))


def _border(known: np.ndarray, strange: np.ndarray) -> float:
    """The score above which a picture is unknown, from those of known `(n,)` and negative `(m,)` pictures.

    As high as the negatives allow, because users' pictures differ more from those learned than held-out ones do; but
    never so low that a label loses its own pictures.
    """
    border = np.quantile(known, _KNOWN_QUANTILE)
    if len(strange) >= _ENOUGH_HELD_OUT:
        border = max(border, np.quantile(strange, 1 - _KNOWN_QUANTILE))
    return float(border)


def _uncertain_threshold(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """The smallest confidence, 0.5..0.8, from which at most 1 % of the held-out pictures are wrong, if there is one.

    `confidence` is `float (n,)`, 0..1, and `wrong` `bool (n,)`.
    """
    for threshold in np.linspace(0.5, 0.8, 31):
        accepted = confidence >= threshold
        if wrong[accepted].mean() <= 0.01 if accepted.any() else True:
            return float(threshold)
    return 0.8


def activation_map(feature_map: np.ndarray, head: Head, label: int) -> np.ndarray:
    """Where the head recognises `label` (Zhou et al. 2016, class activation mapping).

    Args:
        feature_map: `float32 (h, w, d)`.
        head: the head.
        label: index of the label.

    Returns:
        `float (h, w)`, 0..1.
    """
    others = np.delete(head.kernel, label, axis=1).mean(axis=1) if head.kernel.shape[1] > 1 else 0
    heat = feature_map @ (head.kernel[:, label] - others)
    heat = np.maximum(heat - heat.min(), 0)
    return heat / (heat.max() + 1e-9)
