"""What stands on the backbone's features: linear softmax head, calibration, unknown score, activation map.

Serving uses NumPy alone; `fit` imports scikit-learn, which takes a second, only when something is learnt.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shoe_classifier.types import Decision

BACKGROUND = -1  # label of pictures that show none of the labels
_CENTRES = 8  # per label, for the unknown score
_INVERSE_PENALTY = 0.1  # of the logistic regression, on features of unit variance
_SHRINK = 0.05
_NEVER = -1e9  # log-odds
_KNOWN_QUANTILE = (
    0.98  # share of each label's held-out pictures that must count as known, and of backgrounds as unknown
)
_FOLDS = 3
_ENOUGH_HELD_OUT = 10  # pictures of a label; with fewer, those that it was learnt from help to set its thresholds


@dataclass(frozen=True)
class Head:
    """The fitted parameters, `float32`.

    Attributes:
        kernel, bias: `(d, k)` and `(k,)`, already divided by the temperature.
        temperature: what the raw logits are divided by (Guo et al. 2017), above 0.
        mean, whitening, centres: `(d,)`, `(d, d)`, `(m, d)`: the distance to a label's nearest centre in whitened space
            tells how unlike it a picture is (Lee et al. 2018, with several centres per label).
        centre_labels: `(m,)`, the label of each centre, ascending; each label has one or more.
        rejection, rejection_bias: `(d,)` and a number: log-odds that a picture is background, before the labels'.
        unknown_thresholds: `(k,)`, for each label the largest distance that counts as known.
        uncertain_threshold: smallest confidence that is accepted.
    """

    kernel: np.ndarray
    bias: np.ndarray
    temperature: float
    mean: np.ndarray
    whitening: np.ndarray
    centres: np.ndarray
    centre_labels: np.ndarray
    rejection: np.ndarray
    rejection_bias: float
    unknown_thresholds: np.ndarray
    uncertain_threshold: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """`(n, d)` features to `(n, k)` logits over the temperature."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """`(n, d)` features to `(n, k)` probabilities in label order."""
        return softmax(self.logits(features))

    def ood_score(self, features: np.ndarray) -> np.ndarray:
        """How unlike anything taught each of `(n, d)` features is: `(n,)`, above 1 means unknown."""
        distance = (self.distances(features) / self.unknown_thresholds).min(axis=1)
        return np.maximum(distance, 1 + np.tanh(self.background_odds(features)))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distance to the nearest centre of each label, `(n, k)`."""
        white = (features - self.mean) @ self.whitening
        norms, starts = self._of_centres
        squares = np.square(white).sum(1)[:, None] - 2 * white @ self.centres.T + norms
        return np.sqrt(np.maximum(np.minimum.reduceat(squares, starts, axis=1), 0))

    @cached_property
    def _of_centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared lengths of the centres, and where the centres of each label start."""
        return np.square(self.centres).sum(1), np.unique(self.centre_labels, return_index=True)[1]

    def background_odds(self, features: np.ndarray) -> np.ndarray:
        """Log-odds that a picture shows none of the labels, as far as the taught backgrounds tell: `(n,)`."""
        known = self.logits(features) * self.temperature
        top = known.max(axis=1)
        known = top + np.log(np.exp(known - top[:, None]).sum(axis=1))
        return features @ self.rejection + self.rejection_bias - known

    def decide(self, features: np.ndarray, probabilities: np.ndarray) -> list[Decision]:
        """`accepted`, `uncertain` or `unknown` for each of `(n, d)` features with `(n, k)` probabilities."""
        unknown = self.ood_score(features) > 1
        sure = probabilities.max(axis=1) >= self.uncertain_threshold
        return ["unknown" if u else "accepted" if s else "uncertain" for u, s in zip(unknown, sure, strict=True)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def fit(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> Head:
    """Fit the head and the centres to the samples to learn from, temperature and thresholds to those held out.

    Args:
        features: `(n, d)`.
        labels: `(n,)`, places in the list of labels, or `BACKGROUND`.
        held_out: `(n,)` bool.
        classes: number of labels; each has at least one picture that is not held out.
        weights: `(n,)`, how much each sample counts in the head; all the same if not given.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    learn = ~held_out
    spread = features[learn].std(axis=0) + 1e-6
    targets = np.where(labels == BACKGROUND, classes, labels)
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000, tol=1e-3)
    with threadpool_limits(1):  # more threads of low priority wait for each other, and cost predictions their core
        model.fit(features[learn] / spread, targets[learn], None if weights is None else weights[learn])
    kernel, bias = (model.coef_ / spread).T, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives one column for two classes
        kernel, bias = np.concatenate([-kernel / 2, kernel / 2], 1), np.concatenate([-bias / 2, bias / 2])
    has_background = kernel.shape[1] > classes
    raw = Head(
        kernel=kernel[:, :classes],
        bias=bias[:classes],
        temperature=1.0,
        **_centres(features[learn & (labels >= 0)], labels[learn & (labels >= 0)], classes),
        rejection=kernel[:, classes] if has_background else np.zeros(len(spread)),
        rejection_bias=float(bias[classes]) if has_background else _NEVER,
        unknown_thresholds=np.full(classes, np.inf),
        uncertain_threshold=0.0,
    )
    few = [label for label in range(classes) if (held_out & (labels == label)).sum() < _ENOUGH_HELD_OUT]
    judge = (held_out & (labels >= 0)) | np.isin(labels, few)
    return _calibrate(raw, features[judge], labels[judge], features[held_out & (labels == BACKGROUND)], few)


def label_disagreements(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Which of the samples asked about get another label from a head that was fitted without them.

    Labels that are wrong here and there are found by cross-validation (Northcutt et al. 2021, "Confident Learning").

    Args:
        features, labels, weights: `(n, d)`, `(n,)`, `(n,)`; see `fit`.
        asked: `(n,)` bool.

    Returns:
        `(m,)` bool, for the samples that are asked about.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    fold = np.where(asked, np.arange(len(labels)) % _FOLDS, _FOLDS)
    scaled = features / (features.std(axis=0) + 1e-6)
    guesses = labels.copy()
    for number in range(_FOLDS):
        out = fold == number
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=300, tol=1e-2)
        with threadpool_limits(1):
            if out.any() and len(np.unique(labels[~out])) > 1:
                guesses[out] = model.fit(scaled[~out], labels[~out], weights[~out]).predict(scaled[out])
    label_disagreements: np.ndarray = guesses[asked] != labels[asked]
    return label_disagreements


def _centres(features: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Cluster each label, then whiten by the scatter around the centres, so that all directions count alike."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    clusters = []
    for label in range(classes):
        members = features[labels == label]
        count = min(_CENTRES, 1 + len(members) // 20)
        with threadpool_limits(1):
            clusters.append(KMeans(count, n_init=1, random_state=0).fit(members))
    scatter = np.concatenate(
        [features[labels == label] - model.cluster_centers_[model.labels_] for label, model in enumerate(clusters)]
    )
    covariance = scatter.T @ scatter / len(scatter)
    covariance += np.eye(len(covariance)) * (_SHRINK * np.trace(covariance) / len(covariance) + 1e-8)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(values)
    mean = features.mean(axis=0)
    centres = np.concatenate([model.cluster_centers_ for model in clusters])
    return {
        "mean": mean,
        "whitening": whitening,
        "centres": (centres - mean) @ whitening,
        "centre_labels": np.repeat(np.arange(classes), [len(model.cluster_centers_) for model in clusters]),
    }


def _calibrate(head: Head, features: np.ndarray, labels: np.ndarray, backgrounds: np.ndarray, few: list[int]) -> Head:
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
        centres=head.centres.astype(np.float32),
        centre_labels=head.centre_labels,
        rejection=head.rejection.astype(np.float32),
        rejection_bias=head.rejection_bias - max(0.0, _odds_border(head, features, labels, backgrounds)),
        unknown_thresholds=_distance_borders(head, features, labels, backgrounds, few).astype(np.float32),
        uncertain_threshold=_uncertain_threshold(confidence, wrong),
    )


def _odds_border(head: Head, features: np.ndarray, labels: np.ndarray, backgrounds: np.ndarray) -> float:
    """The log-odds of being background above which pictures are unknown."""
    odds = head.background_odds(features)
    known = [odds[labels == label] for label in np.unique(labels)]
    return max(_border(scores, head.background_odds(backgrounds)) for scores in known)


def _distance_borders(
    head: Head, features: np.ndarray, labels: np.ndarray, backgrounds: np.ndarray, few: list[int]
) -> np.ndarray:
    """For each label the distance from its centres beyond which pictures are unlike it, `(k,)`.

    Few pictures do not tell how far a label reaches: `few` reach as far as a usual one, at least.
    """
    known, strange = head.distances(features), head.distances(backgrounds)
    every = np.arange(len(head.bias))
    borders = np.array([_border(known[labels == label, label], strange[:, label]) for label in every])
    usual = np.median(borders[~np.isin(every, few)]) if len(few) < len(every) else borders.max()
    return np.maximum(borders, np.where(np.isin(every, few), max(usual, 1e-6), 0))


def _border(known: np.ndarray, strange: np.ndarray) -> float:
    """As high as the backgrounds' scores allow, because users' pictures differ more from those taught than held-out
    ones do; but never so low that a label loses its own pictures."""
    border = np.quantile(known, _KNOWN_QUANTILE)
    if len(strange) >= _ENOUGH_HELD_OUT:
        border = max(border, np.quantile(strange, 1 - _KNOWN_QUANTILE))
    return float(border)


def _uncertain_threshold(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """The smallest confidence from 0.5 on above which at most 1 % of the held-out pictures are wrong; 0.8 at most."""
    for threshold in np.linspace(0.5, 0.8, 31):
        accepted = confidence >= threshold
        if wrong[accepted].mean() <= 0.01 if accepted.any() else True:
            return float(threshold)
    return 0.8


def activation_map(feature_map: np.ndarray, head: Head, label: int) -> np.ndarray:
    """Where the head saw `label`: `(h, w, d)` to `(h, w)`, 0..1 (Zhou et al. 2016, class activation mapping)."""
    others = np.delete(head.kernel, label, axis=1).mean(axis=1) if head.kernel.shape[1] > 1 else 0
    heat = feature_map @ (head.kernel[:, label] - others)
    heat = np.maximum(heat - heat.min(), 0)
    return heat / (heat.max() + 1e-9)
