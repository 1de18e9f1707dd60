import numpy as np
import pytest

from helpers.model import random_pictures
from shoe_classifier.ml.batches import BatchCounts, Share, balanced_indices, drawn, training_batches, tuning_batches

COUNTS = BatchCounts(plain=4, pasted=3, photos=2, negatives=2)


def test_batches_hold_all_sources() -> None:
    photos, negatives = random_pictures(5, 42, 2), random_pictures(6, 42, 2, first=2)
    batch = training_batches(random_pictures(8, 42, 2), photos, negatives, COUNTS)(0)
    assert {name: images.shape for name, (images, _, _) in batch.items()} == {
        "plain": (4, 42, 42, 3),
        "photos": (2, 42, 42, 3),
        "pasted": (3, 42, 42, 4),
        "negatives": (2, 42, 42, 3),
        "behind": (3, 42, 42, 3),
    }
    assert set(batch["negatives"][1]) <= {2, 3}


def test_without_negatives_the_batch_is_as_large() -> None:
    batch = training_batches(random_pictures(8, 42, 2), None, None, COUNTS)(0)
    assert {name: len(images) for name, (images, _, _) in batch.items()} == {"plain": 7}


def share(count: int, first: int = 0, workers: int = 1, rank: int = 0) -> Share:
    values = np.arange(first, first + count)
    return Share(values[rank::workers], values[rank::workers], count, rank, workers)


def test_tuning_leaves_out_what_is_empty() -> None:
    both = tuning_batches(share(6), share(5, 100), 4)(0)
    assert {name: len(images) for name, (images, _, _) in both.items()} == {"pictures": 4, "latents": 4}
    assert set(tuning_batches(share(6), share(0), 4)(0)) == {"pictures"}
    assert set(tuning_batches(share(0), share(5), 4)(0)) == {"latents"}


@pytest.mark.parametrize(("total", "size"), [(10, 5), (10, 4), (3, 8)])
def test_all_samples_are_drawn_before_one_is_drawn_again(total: int, size: int) -> None:
    order = np.concatenate([drawn(total, step, size, seed=0) for step in range(15)])
    passes = [order[start : start + total].tolist() for start in range(0, len(order) - total + 1, total)]
    assert all(sorted(numbers) == list(range(total)) for numbers in passes)
    assert len({tuple(numbers) for numbers in passes}) > 1
    assert drawn(total, 3, size, seed=0).tolist() == order[3 * size : 4 * size].tolist()


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_together_draw_what_one_would(workers: int) -> None:
    for step in range(5):
        _, whole, _ = share(11).batch(step, 8, seed=0)
        together = np.full(8, -1)
        for rank in range(workers):
            images, labels, places = share(11, workers=workers, rank=rank).batch(step, 8, seed=0)
            assert images.tolist() == labels.tolist()
            together[places] = labels
        assert together.tolist() == whole.tolist()


def test_rare_labels_are_drawn_as_often() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    indices = balanced_indices(labels)
    assert np.bincount(labels[indices]).tolist() == [5, 5, 5]
    assert set(indices) == set(range(8))
