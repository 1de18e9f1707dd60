"""Which pictures to look at first: the most informative ones that differ from each other."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

ALIKE = 0.92  # cosine from which pictures count as alike: all of 40 such pairs of shoes and clothes shared their label


@dataclass(frozen=True)
class Choice:
    """One of several pictures that are alike. All numbers are positions in the sequence that was chosen from.

    Attributes:
        shown: the one to look at.
        alike: the others.
    """

    shown: int
    alike: list[int]


def choose(scores: np.ndarray, features: Sequence[np.ndarray | None], files: Sequence[Hashable]) -> list[Choice]:
    """Put pictures that are alike together, and order these groups: high scores, and far from all that come before.

    Args:
        scores: how much there is to learn from each picture, `float (n,)`, 0..1.
        features: `float (d,)` of each picture; None where they are not known. Such a picture is like no other one.
        files: names the file of each picture; pictures with the same file are alike.
    """
    groups = _group(np.argsort(-scores, kind="stable"), _unit_rows(features), files)
    shown = np.array([group.shown for group in groups], int)
    order = _spread(scores[shown], _unit_rows([features[i] for i in shown]))
    return [groups[i] for i in order]


def _unit_rows(features: Sequence[np.ndarray | None]) -> np.ndarray:
    """Features of length 1, `float32 (n, d)`; zeros where they are not known, whose cosine with all others is 0."""
    size = max((len(known) for known in features if known is not None), default=1)
    rows = np.zeros((len(features), size), np.float32)
    for row, known in zip(rows, features, strict=True):
        if known is not None:
            row[:] = known
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, np.finfo(np.float32).tiny)


def _group(order: np.ndarray, rows: np.ndarray, files: Sequence[Hashable]) -> list[Choice]:
    """Let each picture, in this order, join the first group whose shown picture it is like, or begin a group."""
    groups: list[Choice] = []
    by_file: dict[Hashable, Choice] = {}
    leaders = np.empty_like(rows)
    for i in map(int, order):
        group = by_file.get(files[i]) or _alike(groups, leaders, rows[i])
        if group:
            group.alike.append(i)
        else:
            leaders[len(groups)] = rows[i]
            group = Choice(i, [])
            groups.append(group)
        by_file[files[i]] = group
    return groups


def _alike(groups: list[Choice], leaders: np.ndarray, row: np.ndarray) -> Choice | None:
    cosines = leaders[: len(groups)] @ row
    return groups[int(cosines.argmax())] if len(groups) and cosines.max() >= ALIKE else None


def _spread(scores: np.ndarray, rows: np.ndarray) -> list[int]:
    """Take in turn the row with the largest product of its score and its distance from the nearest one taken."""
    distances, order = np.ones(len(rows), np.float32), []
    left = np.ones(len(rows), bool)
    for _ in range(len(rows)):
        best = int(np.where(left, scores * distances, -1.0).argmax())
        left[best] = False
        order.append(best)
        distances = np.minimum(distances, 1 - rows @ rows[best])
    return order
