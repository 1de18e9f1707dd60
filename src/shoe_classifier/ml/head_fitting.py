"""From features to a head, for labels of thousands of pictures and labels of one, in the same fit.

Softmax regression with the background as one more class. Its regularisation is chosen by cross-validation on the new
pictures; temperature and thresholds are set by pictures that the head has not seen.
"""

from dataclasses import dataclass

import numpy as np

from shoe_classifier.ml import ood
from shoe_classifier.ml.head import BACKGROUND, Head, log_odds, softmax
from shoe_classifier.ml.softmax_regression import PrincipalAxes, SoftmaxRegression, rank_of

# Of a label of one picture, for features of unit variance; the strongest regularisation first.
INVERSE_PENALTIES = (0.0002, 0.0006, 0.002, 0.006)
USUAL_INVERSE_PENALTY = 0.0006  # of labels that were known before, and where there is too little to choose by
_FOLDS = 3
_KEPT_VARIANCE, _KEPT_VARIANCE_IN_FOLDS = 0.995, 0.90
_STEPS, _STEPS_IN_FOLDS = 30, 12
_REPLAYED_IN_FOLDS = 250  # samples of each old label and of the background
_QUERIED = 2400  # samples that are left out in turn, at most
_WORK_IN_FOLDS = 1.2e9  # samples x axes x classes of one fold; above it, only one fold is left out
_MOST_MODESTY = 2.0  # how far the biases of new labels are lowered at most; it costs few of their own pictures
_LEAST_LEAD = 0.01  # that these leave to old labels; rounding, or an exported model, would decide a tie
_ENOUGH_TO_CHOOSE = 12  # samples left out; from fewer, chance would choose
_UNJUDGED_TEMPERATURE = 0.12  # of labels that one picture taught; their logits are small
_TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(4), 60)).astype(np.float32)


@dataclass(frozen=True)
class Samples:
    """What a head is fitted to, in columns of length `n`.

    Attributes:
        features: `float32 (n, d)`.
        labels: `int (n,)`, indices into the list of labels, or `BACKGROUND`.
        weights: `(n,)`, above 0: how much each sample counts.
        held_out: `bool (n,)`; only temperature and thresholds may see these.
        photo: `bool (n,)`, pictures as users take them.
        new: `bool (n,)`, what a retrain adds; the regularisation is chosen for it.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    photo: np.ndarray
    new: np.ndarray

    @property
    def learned(self) -> np.ndarray:
        """Indices of the samples that are not held out."""
        return np.flatnonzero(~self.held_out)


@dataclass(frozen=True)
class LeftOut:
    """What heads that were fitted without a new sample say about it (cross-validation).

    Attributes:
        rows: `int64 (m,)`, indices of the samples.
        logits: `float32 (m, k + 1)`, not divided by a temperature, the background's last.
    """

    rows: np.ndarray
    logits: np.ndarray


def fit(samples: Samples, classes: int, live: Head | None = None) -> tuple[Head, LeftOut]:
    """Fit a head.

    Args:
        samples: each label should have one that is not held out; a label without is never predicted.
        classes: number of labels, 1 or more.
        live: a head on the same features whose labels come first. It was fitted to more samples of them than there are
            now, so what it learned is kept: its labels' weights are penalised for leaving it, not for their size.
    """
    from threadpoolctl import threadpool_limits

    learned = samples.learned
    targets = np.where(samples.labels == BACKGROUND, classes, samples.labels)
    fresh = ~np.isin(np.arange(classes + 1), targets[learned[~samples.new[learned]]])  # labels that are new
    with threadpool_limits(1):  # more threads of low priority wait for each other and keep predictions from a core
        axes = PrincipalAxes.of(samples.features[learned], samples.weights[learned], _KEPT_VARIANCE)
        coordinates = np.zeros((len(targets), len(axes.variances)), np.float32)
        coordinates[learned] = axes.coordinates(samples.features[learned])
        centre = _centre(axes, live, classes) if live else np.zeros((len(axes.variances) + 1, classes + 1), np.float32)
        start = centre if live else _head_of_old_labels(axes, coordinates, targets, samples, fresh)
        chosen, left_out = _choose_penalty(axes, coordinates, targets, samples, fresh, start, centre)
        problem = SoftmaxRegression(
            coordinates[learned], axes.variances, targets[learned], samples.weights[learned], classes + 1
        )
        kernel, bias = axes.to_features(problem.solve(_penalties(chosen, fresh), _STEPS, start, centre)[0])
        logits = samples.features @ kernel + bias  # (n, classes + 1)
        shift = _modesty(logits[:, :classes], samples, fresh[:classes])
        shifted = LeftOut(left_out.rows, left_out.logits + shift)
        return _calibrated(kernel, bias + shift, logits + shift, shifted, samples, classes), left_out


def _penalties(inverse_penalty: float, fresh: np.ndarray) -> np.ndarray:
    """The inverse penalty of each class. Labels that were known before keep the usual one, so nothing disturbs them."""
    return np.where(fresh, inverse_penalty, USUAL_INVERSE_PENALTY)


def _centre(axes: PrincipalAxes, live: Head, classes: int) -> np.ndarray:
    """The live head's weights of its labels and of the background, `float32 (r + 1, c)`; zero for new labels."""
    known = live.kernel.shape[1]
    centre = np.zeros((len(axes.variances) + 1, classes + 1), np.float32)
    kernel = np.concatenate([live.kernel, live.background_weights[:, None]], axis=1) * live.temperature
    bias = np.append(live.bias, live.background_bias) * live.temperature
    centre[:, [*range(known), classes]] = axes.from_features(kernel, bias)
    return centre


def _head_of_old_labels(
    axes: PrincipalAxes, coordinates: np.ndarray, targets: np.ndarray, samples: Samples, fresh: np.ndarray
) -> np.ndarray | None:
    """A head of the labels that were known before, to start from: it is cheap, and keeps their borders in place.

    Returns:
        `float32 (r + 1, c)`, zero for new labels; None when there is nothing new, or nothing old.
    """
    rows, old = samples.learned[~samples.new[samples.learned]], np.flatnonzero(~fresh)
    if not len(rows) or not fresh.any():
        return None
    problem = SoftmaxRegression(
        coordinates[rows], axes.variances, np.searchsorted(old, targets[rows]), samples.weights[rows], len(old)
    )
    start = np.zeros((len(axes.variances) + 1, len(fresh)), np.float32)
    start[:, old] = problem.solve(np.full(len(old), USUAL_INVERSE_PENALTY), _STEPS)[1]
    return start


def _modesty(logits: np.ndarray, samples: Samples, fresh: np.ndarray) -> np.ndarray:
    """What to add to the biases so that new labels take no held-out picture from the old ones, if a little prevents it.

    Few pictures say little about where a label ends: labels of one or two would take some per cent otherwise.

    Args:
        logits: `(n, k)`, not calibrated.
        samples: of these.
        fresh: `bool (k,)`, which labels are new.

    Returns:
        `float32 (k + 1,)`, the background's last; -2 to 0.
    """
    shift = np.zeros(len(fresh) + 1, np.float32)
    judged = np.flatnonzero(samples.held_out & (samples.labels != BACKGROUND))
    judged = judged[~fresh[samples.labels[judged]]]
    if not len(judged) or not fresh.any():
        return shift
    old = np.where(fresh, -np.inf, logits[judged])
    lead = old.max(axis=1) - np.where(fresh, logits[judged], -np.inf).max(axis=1) - _LEAST_LEAD
    right = old.argmax(axis=1) == samples.labels[judged]
    shift[:-1][fresh] = lead[right & (lead > -_MOST_MODESTY)].min(initial=0.0)
    return shift


def _calibrated(
    kernel: np.ndarray, bias: np.ndarray, logits: np.ndarray, left_out: LeftOut, samples: Samples, classes: int
) -> Head:
    """Set temperature and thresholds by pictures that the head has not seen: held out, or left out in turn."""
    judged = np.flatnonzero(samples.held_out & (samples.labels != BACKGROUND))
    known = samples.labels[left_out.rows] != BACKGROUND
    unseen = np.concatenate([logits[judged], left_out.logits[known]])  # (m, classes + 1)
    rows = np.concatenate([judged, left_out.rows[known]])
    labels = samples.labels[rows]
    negatives = logits[samples.held_out & (samples.labels == BACKGROUND)]
    temperature = _temperature(unseen[:, :classes], labels, classes)
    confidence = softmax(unseen[:, :classes] / temperature).max(axis=1, initial=0.0)
    return Head(
        kernel=(kernel[:, :classes] / temperature).astype(np.float32),
        bias=(bias[:classes] / temperature).astype(np.float32),
        background_weights=(kernel[:, classes] / temperature).astype(np.float32),
        background_bias=float(bias[classes]) / temperature,
        unknown_thresholds=ood.unknown_thresholds(
            log_odds(unseen[:, :classes], unseen[:, classes]),
            labels,
            samples.photo[rows],
            log_odds(negatives[:, :classes], negatives[:, classes]),
            classes,
        ),
        uncertain_threshold=_uncertain_threshold(confidence, unseen[:, :classes].argmax(axis=1) != labels),
        temperature=temperature,
    )


def _choose_penalty(
    axes: PrincipalAxes,
    coordinates: np.ndarray,
    targets: np.ndarray,
    samples: Samples,
    fresh: np.ndarray,
    start: np.ndarray | None,
    centre: np.ndarray,
) -> tuple[float, LeftOut]:
    """The inverse penalty with which heads fitted without a part of the new samples judge that part best."""
    classes = len(fresh) - 1
    learned, new = samples.learned, samples.new & ~samples.held_out
    rank = rank_of(axes.variances, _KEPT_VARIANCE_IN_FOLDS)
    order = _order_within_label(targets, learned, new)
    several = np.bincount(targets[new], minlength=classes + 1) > 1  # without its only sample a label would be unknown
    limit = max(2, _QUERIED // max(1, len(np.unique(targets[new]))))
    queried = new & several[targets] & (order < limit)
    replayed = learned[~new[learned] & (order[learned] < _REPLAYED_IN_FOLDS)]
    used = np.concatenate([replayed, np.flatnonzero(new & (order < limit))])
    folds = 1 if len(used) * rank * (classes + 1) > _WORK_IN_FOLDS else _FOLDS
    rows, outputs = [np.zeros(0, np.int64)], [np.zeros((len(INVERSE_PENALTIES), 0, classes + 1), np.float32)]
    for fold in range(folds if queried.any() else 0):
        out = queried[used] & (order[used] % _FOLDS == fold)
        inside, outside = used[~out], used[out]
        problem = SoftmaxRegression(
            coordinates[inside, :rank], axes.variances[:rank], targets[inside], samples.weights[inside], classes + 1
        )
        rows.append(outside)
        narrow = [*range(rank), -1]
        begin = None if start is None else start[narrow]
        outputs.append(_along_the_path(problem, coordinates[outside, :rank], fresh, begin, centre[narrow]))
    all_rows, logits = np.concatenate(rows), np.concatenate(outputs, axis=1)
    best = INVERSE_PENALTIES.index(USUAL_INVERSE_PENALTY)
    if len(all_rows) >= _ENOUGH_TO_CHOOSE:
        best = _best_penalty(logits, targets[all_rows], best)
    return INVERSE_PENALTIES[best], LeftOut(all_rows, logits[best])


def _along_the_path(
    problem: SoftmaxRegression,
    coordinates: np.ndarray,
    fresh: np.ndarray,
    start: np.ndarray | None,
    centre: np.ndarray,
) -> np.ndarray:
    """Logits `(p, m, c)` of coordinates `(m, r)` with each inverse penalty. Each fit starts where the last ended."""
    logits = []
    for inverse_penalty in INVERSE_PENALTIES:
        solution, start = problem.solve(_penalties(inverse_penalty, fresh), _STEPS_IN_FOLDS, start, centre)
        logits.append(coordinates @ solution[:-1] + solution[-1])
    return np.stack(logits)


def _best_penalty(logits: np.ndarray, targets: np.ndarray, usual: int) -> int:
    """Index of the smallest loss, or `usual` where that is not worse by more than two standard errors."""
    balance = 1 / np.bincount(targets)[targets]
    losses = np.stack([_losses(each / _best_temperature(each, targets, balance), targets) for each in logits])
    losses *= balance / balance.mean()
    least = int(losses.mean(axis=1).argmin())
    excess = losses[usual] - losses[least]
    return usual if excess.mean() <= 2 * excess.std() / np.sqrt(len(excess)) else least


def _order_within_label(targets: np.ndarray, learned: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Position of each learned sample within its label, old and new ones apart; others come last: `int (n,)`."""
    order = np.full(len(targets), np.iinfo(np.int64).max)
    for group in np.unique(targets[learned] * 2 + new[learned]):
        members = learned[targets[learned] * 2 + new[learned] == group]
        order[members] = np.arange(len(members))
    return order


def _temperature(logits: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The temperature of the smallest loss, each label counting the same.

    Labels of a single picture cannot be judged: they bring a usual temperature into the geometric mean.
    """
    counts = np.bincount(labels, minlength=classes)
    judged = int((counts > 0).sum())
    usual = np.log(_UNJUDGED_TEMPERATURE)
    own = np.log(_best_temperature(logits, labels, 1 / counts[labels])) if judged else usual
    return float(np.exp((judged * own + (classes - judged) * usual) / classes))


def _best_temperature(logits: np.ndarray, targets: np.ndarray, balance: np.ndarray) -> float:
    losses = [float(_losses(logits / temperature, targets) @ balance) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy of logits `(m, c)`, `(m,)`, cut at 20: one mislabelled picture must not decide."""
    top = logits.max(axis=1, keepdims=True)
    right = np.take_along_axis(logits, targets[:, None], axis=1)
    return np.minimum(np.log(np.exp(logits - top).sum(axis=1)) + (top - right)[:, 0], 20.0)


def _uncertain_threshold(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """The smallest confidence, 0.5..0.8, from which at most 1 % of the unseen pictures are wrong, if there is one.

    `confidence` is `float (n,)`, 0..1, and `wrong` `bool (n,)`.
    """
    for threshold in np.linspace(0.5, 0.8, 31):
        accepted = confidence >= threshold
        if wrong[accepted].mean() <= 0.01 if accepted.any() else True:
            return float(threshold)
    return 0.8
