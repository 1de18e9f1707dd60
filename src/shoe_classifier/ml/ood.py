"""When a picture is unknown: thresholds on the odds of the background against all labels.

The background is one more class of the same softmax. Against energy, the largest logit, nearest neighbours and
Mahalanobis distances, its odds told most; sums with another score gained nothing (see the model card).
"""

import numpy as np

LOST_PRODUCT, LOST_PHOTO = 0.01, 0.04  # share of a shipped label's pictures that may be called unknown
LOST_TAUGHT = 0.08  # of a label that users taught: whoever teaches hats wants them known, whether like negatives or not
ACCEPTED_NEGATIVES = 0.03  # share of the negatives that labels may accept
LENIENCE = 0.2  # how far to go from what a label needs to what negatives allow: users' pictures differ more
_ACCEPTED_BY_FEW = 0.10  # share of the negatives that a label may accept when none of its pictures could be left out
_ENOUGH = 20  # samples from which a quantile is taken; labels with fewer are taken together


def unknown_thresholds(
    odds: np.ndarray, labels: np.ndarray, photo: np.ndarray, negatives: np.ndarray, classes: int
) -> np.ndarray:
    """For each label, the log-odds of the background above which a picture that looks like it is unknown.

    As strict as the label's own pictures allow, because there are more things in the world than negatives show.

    Args:
        odds: `(n,)`, of pictures of the labels that the head has not seen: held out, or left out in turn.
        labels: `int (n,)`, 0..classes-1; some may be absent.
        photo: `bool (n,)`, as users take them; these differ more among each other than product pictures.
        negatives: `(m,)`, odds of unseen pictures of none of the labels; may be empty.
        classes: number of labels.

    Returns:
        `float32 (classes,)`.
    """
    counts = np.bincount(labels, minlength=classes)
    allowed = float(np.quantile(negatives, ACCEPTED_NEGATIVES)) if len(negatives) >= _ENOUGH else -np.inf
    few = np.isin(labels, np.flatnonzero(counts < _ENOUGH))
    thresholds = np.full(classes, _usual_threshold(odds[few], negatives), np.float32)
    for label in np.flatnonzero(counts >= _ENOUGH):
        own = labels == label
        needed = _needed(odds[own], photo[own])
        lenient = LENIENCE * max(0.0, allowed - needed) if not photo[own].all() else 0.0
        thresholds[label] = needed + lenient
    return thresholds


def _needed(odds: np.ndarray, photo: np.ndarray) -> float:
    """The threshold that loses no more of a label's own pictures than allowed."""
    if photo.all():
        return float(np.quantile(odds, 1 - LOST_TAUGHT))
    needed = float(np.quantile(odds[~photo], 1 - LOST_PRODUCT))
    if photo.sum() >= _ENOUGH:
        needed = max(needed, float(np.quantile(odds[photo], 1 - LOST_PHOTO)))
    return needed


def _usual_threshold(few: np.ndarray, negatives: np.ndarray) -> float:
    """Of labels with few pictures, by what `few` pictures of all of them together show."""
    if len(few) >= _ENOUGH // 2:
        return float(np.quantile(few, 1 - LOST_TAUGHT))
    if len(negatives) >= _ENOUGH:
        return max(0.0, float(np.quantile(negatives, _ACCEPTED_BY_FEW)))
    return 0.0
