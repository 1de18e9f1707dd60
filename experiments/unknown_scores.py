"""Compare scores for what a model was not taught, by five-fold cross-validation over its replay buffer.

    python experiments/unknown_scores.py MODEL.h5 UNSEEN.zip [UNSEEN.zip ...]

The buffer has the shipped labels' pictures, product pictures and photos apart, and the negatives. The archives hold
other things that no fold has seen. For each score: what is lost where 3 % of the negatives are accepted, what is
accepted where 3 % of the product pictures and 8 % of the photos are lost, and the area under the ROC curve. Thresholds
are set on the scores that they are judged by, which flatters every row alike.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import head_fitting
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.evidence import sample_weights
from shoe_classifier.ml.features import extract_features
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.head import BACKGROUND, Head, softmax
from shoe_classifier.ml.head_fitting import Samples
from shoe_classifier.ml.replay_buffer import ReplayBuffer
from shoe_classifier.ml.zip_reader import ZipLimits

NO_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)
FOLDS, NEIGHBOURS = 5, 5
ACCEPTED, LOST_PRODUCT, LOST_PHOTO = 0.03, 0.03, 0.08  # shares
Scores = dict[str, np.ndarray]  # by name: `(n,)`, the higher, the less known


def main() -> None:
    """Print the table."""
    model, *archives = map(Path, sys.argv[1:])
    buffer, unseen = bundles.read_replay_buffer(model), [_features(model, archive) for archive in archives]
    folds = np.random.default_rng(0).permutation(len(buffer.labels)) % FOLDS
    own: Scores = {}
    others: list[list[Scores]] = [[] for _ in archives]
    for fold in range(FOLDS):
        scores = _Scores(buffer, left_out=folds == fold)
        for name, values in scores.of(buffer.features[folds == fold]).items():
            own.setdefault(name, np.empty(len(folds)))[folds == fold] = values
        for kept, features in zip(others, unseen, strict=True):
            kept.append(scores.of(features))
    print(
        "| score | unknown product / photos | accepted negatives /", *(f"{path.stem} /" for path in archives), "AUROC |"
    )
    for name, values in own.items():
        print(_row(name, values, buffer, [np.mean([fold[name] for fold in folds], axis=0) for folds in others]))


def _features(model: Path, archive: Path) -> np.ndarray:
    """Of the pictures of an archive, `float32 (n, d)`."""
    backbone = bundles.read(model).backbone()
    return extract_features(backbone, load(read(archive, NO_LIMITS), backbone.image_size, [])).features.astype(
        np.float32
    )


class _Scores:
    """All scores, fitted to a replay buffer without some of its pictures."""

    def __init__(self, buffer: ReplayBuffer, left_out: np.ndarray):
        features = buffer.features.astype(np.float32)
        labels = buffer.labels
        samples = Samples(features, labels, sample_weights(buffer), left_out, buffer.photo, np.ones(len(labels), bool))
        self._head: Head = head_fitting.fit(samples, labels.max() + 1)[0]
        kept = features[~left_out]
        known = labels[~left_out] != BACKGROUND
        self._known, self._negatives = _unit(kept[known]), _unit(kept[~known])
        self._means = np.stack([kept[labels[~left_out] == label].mean(axis=0) for label in range(labels.max() + 1)])
        self._mean = kept.mean(axis=0)
        within = kept[known] - self._means[labels[~left_out][known]]
        self._within, self._all = LedoitWolf().fit(within).precision_, LedoitWolf().fit(kept).precision_

    def of(self, features: np.ndarray) -> Scores:
        """Of features `(n, d)`."""
        features = features.astype(np.float32)
        logits = self._head.logits(features) * self._head.temperature
        top = logits.max(axis=1)
        near = _nearest(features, self._known)
        distance = np.min([_distance(features - mean, self._within) for mean in self._means], axis=0)
        return {
            "odds of the background (shipped)": self._head.background_odds(features),
            "energy": -(top + np.log(np.exp(logits - top[:, None]).sum(axis=1))),
            "largest logit": -top,
            "largest probability": -softmax(logits).max(axis=1),
            f"{NEIGHBOURS} nearest neighbours, cosine": -near,
            "neighbours, known minus background": _nearest(features, self._negatives) - near,
            "Mahalanobis distance": distance,
            "relative Mahalanobis distance": distance - _distance(features - self._mean, self._all),
        }


def _unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _nearest(features: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Mean cosine of features `(n, d)` and their nearest neighbours among unit vectors `(m, d)`: `(n,)`."""
    cosines: np.ndarray = np.sort(_unit(features) @ stored.T, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    return cosines


def _distance(differences: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis lengths of `(n, d)`: `(n,)`."""
    lengths: np.ndarray = np.einsum("ij,ij->i", differences @ precision, differences)
    return lengths


def _row(name: str, scores: np.ndarray, buffer: ReplayBuffer, unseen: Sequence[np.ndarray]) -> str:
    known = buffer.labels != BACKGROUND
    product, photos, negatives = scores[known & ~buffer.photo], scores[known & buffer.photo], scores[~known]
    strict = np.quantile(negatives, ACCEPTED)
    lenient = max(np.quantile(product, 1 - LOST_PRODUCT), np.quantile(photos, 1 - LOST_PHOTO))
    lost = " / ".join(f"{100 * (part > strict).mean():.1f}" for part in (product, photos))
    accepted = " / ".join(f"{100 * (part <= lenient).mean():.1f}" for part in (negatives, *unseen))
    return f"| {name} | {lost} | {accepted} | {roc_auc_score(~known, scores):.4f} |"


if __name__ == "__main__":
    main()
