"""Which samples the batches of a training hold: endless, shuffled, and the same however many workers share them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shoe_classifier.ml.dataset import LabelledPictures, extract_foreground
from shoe_classifier.ml.image_file import Images

# Pictures or latents `(b, ...)`, their labels `int64 (b,)`, and their places in the whole batch `int64 (b,)`.
Part = tuple[np.ndarray, np.ndarray, np.ndarray]
Batch = dict[str, Part]  # from each source
Batches = Callable[[int], Batch]  # from the number of a step to its batch


@dataclass(frozen=True)
class Share:
    """One worker's share of the samples of a training: every `workers`-th, from number `rank` on.

    Attributes:
        images: of the share, `(n, ...)`.
        labels: of the share, `int64 (n,)`.
        total: number of samples of all workers.
        rank, workers: which of them has this share.
    """

    images: Images
    labels: np.ndarray
    total: int
    rank: int = 0
    workers: int = 1

    def batch(self, step: int, size: int, *, seed: int) -> Part:
        """This worker's part of the batch of a step, which has `size` samples in all."""
        numbers = drawn(self.total, step, size, seed=seed)
        places = np.flatnonzero(numbers % self.workers == self.rank)
        rows = numbers[places] // self.workers
        return self.images[rows], self.labels[rows], places


def drawn(total: int, step: int, size: int, *, seed: int) -> np.ndarray:
    """The samples in the batch of a step, of 0..total-1: `int64 (size,)`. All are used before one is used again."""
    places = np.arange(step * size, (step + 1) * size)
    passes = places // total
    orders = {number: _order(total, int(number), seed) for number in np.unique(passes)}
    return np.array([orders[number][place % total] for number, place in zip(passes, places, strict=True)], np.int64)


@lru_cache(maxsize=8)  # a pass takes many batches, and a batch at most a few sources
def _order(total: int, number: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, number]).permutation(total)


@dataclass(frozen=True)
class BatchCounts:
    """How many pictures of each kind are in one batch: see `training.TrainingConfig`."""

    plain: int
    pasted: int
    photos: int
    negatives: int


def training_batches(
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    negatives: LabelledPictures | None,
    counts: BatchCounts,
) -> Batches:
    """Batches of all sources, not augmented yet.

    Args:
        pictures, photos, negatives: as `training.train` takes them.
        counts: of each kind. Without negatives there is nothing to paste on: there are more plain pictures instead.

    Returns:
        Batches with `plain` and, of what is there, `photos`, `negatives`, and `pasted` on `behind`. Those of `pasted`
        are cut out, `uint8 (b, s, s, 4)`.
    """
    sources = {"plain": (_whole(pictures), counts.plain + (0 if negatives else counts.pasted))}
    if photos:
        balanced = photos[balanced_indices(photos.labels)]
        sources["photos"] = (_whole(balanced), counts.photos)
    if negatives:
        sources["pasted"] = (_whole(pictures), counts.pasted)
        sources["negatives"] = (_whole(negatives), counts.negatives)
        sources["behind"] = (_whole(negatives), counts.pasted)

    def batch(step: int) -> Batch:
        parts = {
            name: share.batch(step, count, seed=seed) for seed, (name, (share, count)) in enumerate(sources.items())
        }
        if negatives:
            images, labels, places = parts["pasted"]
            parts["pasted"] = extract_foreground(images), labels, places
        return parts

    return batch


def _whole(pictures: LabelledPictures) -> Share:
    return Share(pictures.images, pictures.labels, len(pictures))


def tuning_batches(pictures: Share, latents: Share, size: int) -> Batches:
    """Batches for `upper_layers.tune`, not augmented yet.

    Args:
        pictures: at the network's own size; may be empty.
        latents: in their steps, `int8 (m, h, w, c)`; may be empty.
        size: of each source that is not empty.

    Returns:
        Batches with `pictures` and `latents`, or what of them is not empty.
    """
    sources = {name: share for name, share in (("pictures", pictures), ("latents", latents)) if share.total}

    def batch(step: int) -> Batch:
        return {name: share.batch(step, size, seed=seed) for seed, (name, share) in enumerate(sources.items())}

    return batch


def balanced_indices(labels: np.ndarray) -> np.ndarray:
    """Indices into labels `int (n,)` that repeat rare ones as often as the most frequent one: `int64 (m,)`.

    Otherwise the network would learn that a rare label is unlikely.
    """
    most = np.bincount(labels).max()
    return np.concatenate([np.resize(np.flatnonzero(labels == label), most) for label in np.unique(labels)])
