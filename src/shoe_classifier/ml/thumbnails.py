"""Grey thumbnails of 16 x 16 pixels: they tell which pictures look the same, although their files differ."""

import numpy as np

_SIDE = 16
_SAME_LOOK = 8  # root mean square difference of two thumbnails, 0-255


def thumbnails_of(images: np.ndarray) -> np.ndarray:
    """Pictures `uint8 (n, size, size, 3)`, of 16 pixels or more, to thumbnails `uint8 (n, 16, 16)`, 0-255."""
    block = images.shape[1] // _SIDE
    cropped = images[:, : _SIDE * block, : _SIDE * block].astype(np.float32)
    means = cropped.reshape(len(images), _SIDE, block, _SIDE, block, 3).mean(axis=(2, 4, 5))
    return np.rint(means).astype(np.uint8)


def look_alike(thumbnails: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `uint8 (n, 16, 16)` look like which of `uint8 (m, 16, 16)`: `bool (n, m)`."""
    first, second = _flat(thumbnails), _flat(others)
    # |a - b|² = |a|² - 2ab + |b|²: no array of (n, m, 256) is needed.
    squares = np.square(first).sum(1)[:, None] - 2 * first @ second.T + np.square(second).sum(1)
    alike: np.ndarray = squares <= _SAME_LOOK**2 * _SIDE**2
    return alike


def count_distinct(thumbnails: np.ndarray, labels: np.ndarray, at_most: int = 500) -> dict[int, tuple[int, int]]:
    """How many pictures of each label look different: `{label index: (different, of how many)}`.

    Args:
        thumbnails: `uint8 (n, 16, 16)`. A picture is different when it is unlike all before it.
        labels: `int (n,)`.
        at_most: only the first so many pictures of each label are compared.
    """
    counts = {}
    for label in np.unique(labels):
        alike = look_alike(*[thumbnails[labels == label][:at_most]] * 2)
        different: list[int] = []
        for i, row in enumerate(alike):
            if not row[different].any():
                different.append(i)
        counts[int(label)] = (len(different), len(alike))
    return counts


def _flat(thumbnails: np.ndarray) -> np.ndarray:
    return thumbnails.reshape(len(thumbnails), _SIDE**2).astype(np.float64)  # whose sums of squares are exact
