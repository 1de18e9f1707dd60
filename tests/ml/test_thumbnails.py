import numpy as np

from helpers.pictures import draw
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.thumbnails import count_distinct, look_alike, thumbnails_of


def thumbnails(*files: bytes) -> np.ndarray:
    return thumbnails_of(np.stack([decode(file, 40) for file in files]))


def test_a_thumbnail_is_the_mean_of_each_block() -> None:
    image = np.zeros((1, 35, 35, 3), np.uint8)  # the last three rows and columns fit into no block
    image[0, :2, 2:4] = (30, 60, 90)
    thumbnail = thumbnails_of(image)[0]
    assert (thumbnail.shape, thumbnail.dtype) == ((16, 16), np.uint8)
    assert thumbnail[0, 1] == 60
    assert thumbnail.sum() == 60


def test_a_picture_saved_again_looks_like_itself_only() -> None:
    first = thumbnails(*(draw("Boot", seed) for seed in range(5)))
    again = thumbnails(*(draw("Boot", seed, quality=60) for seed in range(5)))
    assert np.array_equal(look_alike(first, again), np.eye(5, dtype=bool))
    assert look_alike(first, again[:0]).shape == (5, 0)


def test_pictures_look_alike_up_to_a_difference_of_eight() -> None:
    grey = np.full((1, 16, 16), 100, np.uint8)
    assert look_alike(grey, np.stack([grey[0] + 8, grey[0] + 9])).tolist() == [[True, False]]


def test_pictures_saved_again_are_not_different() -> None:
    same = thumbnails(*(draw("Boot", 3, quality=quality) for quality in range(50, 90)))
    many = thumbnails(*(draw("Boot", seed) for seed in range(20)))
    labels = np.repeat([0, 4], [40, 20])
    counts = count_distinct(np.concatenate([same, many]), labels)
    assert counts[0] == (1, 40)
    assert counts[4][0] >= 15
    assert count_distinct(np.concatenate([same, many]), labels, at_most=10)[4][1] == 10
