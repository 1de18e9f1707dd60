"""What may be wrong with training pictures: their labels, copies of one another, bad photos, and what fits nowhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shoe_classifier.ml.appearance import problem_of
from shoe_classifier.ml.cross_validation import Examined
from shoe_classifier.types import Appearance, IssueKind

Action = Literal["relabel", "delete", "keep"]

_BLOCK = 512  # pictures that are compared with all others at once
_LEAST_ALIKE = 0.5  # cosine, below which two pictures are not looked at
_NEARLY_SAME = 0.93  # cosine of copies that were cut or turned
_SIMILAR, _SIMILAR_LOOK = (
    0.88,
    40.0,
)  # cosine, and root mean square difference of the thumbnails, 0-255, of other copies
_SAME_LOOK = 6.0  # of the thumbnails of a copy that was saved again
_SEVERITY = {"contradictory": 1.0, "across": 0.9, "within": 0.8}  # of duplicates
_NEIGHBOURS = 3  # pictures shown of each label
_UNLIKE = 3.5  # robust standard deviations from what is usual for the label (Iglewicz and Hoaglin 1993)
_ENOUGH_FOR_OUTLIERS = 10  # pictures of a label


@dataclass(frozen=True)
class Finding:
    """A suspect picture. Pictures and labels are named by their index.

    Attributes:
        picture: which.
        kind: why it is suspect.
        reason: the same for people.
        score: how suspect it is, 0..1.
        action: the proposal.
        label: the label to give it instead; None with other proposals.
        similar: pictures to compare it with, the most similar first: of its label, and of the other one.
    """

    picture: int
    kind: IssueKind
    reason: str
    score: float
    action: Action
    label: int | None = None
    similar: tuple[int, ...] = ()


@dataclass(frozen=True)
class Similarities:
    """How alike pictures are, by the cosine of their coordinates.

    Attributes:
        directions: `float32 (n, r)`, of length 1.
        closest: `float32 (n,)`, the mean cosine with the three most similar pictures.
        copies: `int (p, 2)`, pairs of near-duplicates, the earlier picture first.
        alike: `float32 (p,)`, their cosines.
    """

    directions: np.ndarray
    closest: np.ndarray
    copies: np.ndarray
    alike: np.ndarray

    def most_similar(self, picture: int, among: np.ndarray) -> tuple[int, ...]:
        """The most similar pictures among indices `int (k,)`, without the picture itself."""
        among = among[among != picture]
        order = np.argsort(-(self.directions[among] @ self.directions[picture]), kind="stable")
        return tuple(among[order[:_NEIGHBOURS]].tolist())


def compare(coordinates: np.ndarray, thumbnails: np.ndarray, go_on: Callable[[], None] = lambda: None) -> Similarities:
    """Compare all pictures with each other.

    Args:
        coordinates: `float32 (n, r)`, as `cross_validation.Examined` has them.
        thumbnails: `uint8 (n, 16, 16)`.
        go_on: called every few pictures; may raise to stop.
    """
    directions = coordinates / np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-9)
    looks = thumbnails.reshape(len(thumbnails), -1)
    closest = np.zeros(len(directions), np.float32)
    copies, alike = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for start in range(0, len(directions), _BLOCK):
        go_on()
        cosines = directions[start : start + _BLOCK] @ directions.T  # (b, n)
        rows = np.arange(start, start + len(cosines))
        cosines[np.arange(len(rows)), rows] = -1.0
        best = min(_NEIGHBOURS, len(directions))
        closest[rows] = np.partition(cosines, -best, axis=1)[:, -best:].mean(axis=1)
        row, other = np.nonzero(cosines > _LEAST_ALIKE)
        row, other = row[other > rows[row]], other[other > rows[row]]
        cosine = cosines[row, other]
        same = _are_copies(cosine, looks, rows[row], other)
        copies.append(np.stack([rows[row], other], axis=1)[same])
        alike.append(cosine[same])
    return Similarities(directions, closest, np.concatenate(copies), np.concatenate(alike))


def _are_copies(cosine: np.ndarray, looks: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which pairs of pictures are near-duplicates, `bool (p,)`."""
    result = cosine > _NEARLY_SAME
    for start in range(0, len(cosine), _BLOCK * 8):
        part = slice(start, start + _BLOCK * 8)
        difference = looks[first[part]].astype(np.float32) - looks[second[part]]
        apart = np.sqrt(np.square(difference).mean(axis=1))
        similar = (cosine[part] > _SIMILAR) & (apart <= _SIMILAR_LOOK)
        result[part] |= similar | (apart <= _SAME_LOOK)
    return result


def find_label_errors(
    probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], similarities: Similarities
) -> list[Finding]:
    """Find pictures that look like another label than their own, the surest first.

    Confident learning (Northcutt et al. 2021): pictures are ordered by the margin of out-of-sample probabilities, and
    another label is proposed when it is at least as probable as it usually is for its own pictures.

    Args:
        probabilities: `float (n, k)`, from heads that have not learned the picture.
        labels: `int (n,)`.
    """
    rows = np.arange(len(labels))
    given, best = probabilities[rows, labels], probabilities.argmax(axis=1)
    usual = np.array([given[labels == label].mean() if (labels == label).any() else 1.0 for label in range(len(names))])
    groups = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    findings = []
    for picture in np.flatnonzero(best != labels).tolist():
        label, other = int(labels[picture]), int(best[picture])
        share = float(probabilities[picture, other])
        sure = share >= usual[other]
        similar = [similarities.most_similar(picture, groups.get(one, rows[:0])) for one in (label, other)]
        findings.append(
            Finding(
                picture,
                "label",
                f"It looks like {names[other]!r} ({100 * share:.0f} %) "
                f"rather than {names[label]!r} ({100 * given[picture]:.0f} %).",
                round((1 + share - float(given[picture])) / 2, 4),
                "relabel" if sure else "keep",
                other if sure else None,
                similar[0] + similar[1],
            )
        )
    return findings


def find_near_duplicates(
    similarities: Similarities,
    labels: np.ndarray,
    held_out: np.ndarray,
    names: Sequence[str],
    probabilities: np.ndarray,
) -> list[Finding]:
    """Find copies of other pictures: with another label, on both sides of the hold-out, or on the same side.

    Of a pair with two labels, the picture whose label is less probable is suspect, of any other pair the later one.
    """
    worst: dict[int, Finding] = {}
    for (first, second), cosine in zip(similarities.copies.tolist(), similarities.alike.tolist(), strict=True):
        picture, other = second, first
        if labels[first] == labels[second]:
            kind = "across" if held_out[first] != held_out[second] else "within"
            reason = "It is nearly the same as another picture of its label"
            reason += ", and one of them is held out to judge the model." if kind == "across" else "."
            action: Action = "delete"
            label = None
        else:
            if probabilities[first, labels[first]] < probabilities[second, labels[second]]:
                picture, other = first, second
            kind, action, label = "contradictory", "relabel", int(labels[other])
            reason = f"It is nearly the same as a picture of {names[label]!r}."
        score = round(_SEVERITY[kind] * float(min(cosine, 1.0)), 4)
        if picture not in worst or worst[picture].score < score:
            worst[picture] = Finding(picture, "near_duplicate", reason, score, action, label, (other,))
    return list(worst.values())


def find_outliers(similarities: Similarities, labels: np.ndarray) -> list[Finding]:
    """Find pictures that are unlike all others, more than is usual for their label."""
    findings = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        if len(mine) < _ENOUGH_FOR_OUTLIERS:
            continue
        closest = similarities.closest[mine]
        spread = 1.4826 * float(np.median(np.abs(closest - np.median(closest)))) + 1e-3
        for picture in mine[closest < np.median(closest) - _UNLIKE * spread].tolist():
            score = round(float(np.clip(1 - similarities.closest[picture], 0, 1)), 4)
            nearest = similarities.most_similar(picture, mine)
            reason = "It is unlike all other pictures."
            findings.append(Finding(picture, "outlier", reason, score, "delete", None, nearest))
    return findings


def find_low_quality(appearances: Sequence[Appearance | None]) -> list[Finding]:
    """Find tiny, dark, bright and blurred pictures. None stands for a picture that could not be measured."""
    findings = []
    for picture, appearance in enumerate(appearances):
        problem = problem_of(appearance) if appearance else None
        if problem:
            reason, score = problem
            findings.append(Finding(picture, "low_quality", f"{reason}.", score, "delete"))
    return findings


def find_all(
    examined: Examined,
    probabilities: np.ndarray,
    thumbnails: np.ndarray,
    held_out: np.ndarray,
    appearances: Sequence[Appearance | None],
    names: Sequence[str],
    go_on: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """Find everything that is suspect, the worst of each kind first. Arguments are as in the functions above."""
    similarities = compare(examined.coordinates, thumbnails, go_on)
    findings = [
        *find_label_errors(probabilities, examined.labels, names, similarities),
        *find_near_duplicates(similarities, examined.labels, held_out, names, probabilities),
        *find_outliers(similarities, examined.labels),
        *find_low_quality(appearances),
    ]
    return sorted(findings, key=lambda finding: (-finding.score, finding.picture))
