import numpy as np

from helpers.model import random_pictures
from shoe_classifier.ml.batches import BatchCounts, balanced_indices, endless, training_batches, tuning_batches

COUNTS = BatchCounts(plain=4, pasted=3, photos=2, negatives=2)


def test_batches_mix_all_sources() -> None:
    photos, negatives = random_pictures(5, 42, 2), random_pictures(6, 42, 2, first=2)
    batches = training_batches(random_pictures(8, 42, 2), photos, negatives, 4, 32, COUNTS, 0.15)
    images, labels = next(iter(batches))
    assert images.shape == (11, 32, 32, 3)
    assert labels.shape == (11, 4)
    assert 0 <= images.numpy().min() <= images.numpy().max() <= 255
    assert np.allclose(labels.numpy().sum(axis=1), 1)
    assert labels.numpy()[:4, 2:].sum() == 0  # plain pictures come first, and have no label of a negative


def test_without_negatives_the_batch_is_as_large() -> None:
    images, _ = next(iter(training_batches(random_pictures(8, 42, 2), None, None, 2, 32, COUNTS, 0.15)))
    assert images.shape == (7, 32, 32, 3)


def test_tuning_leaves_out_what_is_empty() -> None:
    pictures, latents = random_pictures(6, 32, 2), np.zeros((5, 4, 4, 3), np.float32)
    labels = np.zeros(5, np.int64)
    both = next(iter(tuning_batches(pictures, latents, labels, 4)))
    assert {name: tuple(images.shape) for name, (images, _) in both.items()} == {
        "pictures": (4, 32, 32, 3),
        "latents": (4, 4, 4, 3),
    }
    assert set(next(iter(tuning_batches(pictures, latents[:0], labels[:0], 4)))) == {"pictures"}
    assert set(next(iter(tuning_batches(pictures[np.zeros(6, bool)], latents, labels, 4)))) == {"latents"}


def test_endless_batches_use_all_before_they_repeat() -> None:
    values = np.arange(10)
    batches = iter(endless(values, values, 5))
    for _ in range(3):
        drawn = np.concatenate([next(batches)[0].numpy() for _ in range(2)])
        assert sorted(drawn) == list(range(10))


def test_rare_labels_are_drawn_as_often() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    indices = balanced_indices(labels)
    assert np.bincount(labels[indices]).tolist() == [5, 5, 5]
    assert set(indices) == set(range(8))
