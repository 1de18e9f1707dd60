import numpy as np
import pytest
import tensorflow as tf

from shoe_classifier.ml import augment
from shoe_classifier.ml.augment import Draws

SIZE = 32


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(tf.constant([0, seed]), tf.range(count), count)


def noise(count: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize("function", [augment.augment_product, augment.augment_photo])
def test_pictures_keep_their_range_and_take_the_size_asked_for(function: object) -> None:
    result = function(tf.constant(noise(6)), SIZE, draws(6))  # type: ignore[operator]
    assert (result.shape, result.dtype) == ((6, SIZE, SIZE, 3), tf.float32)
    assert 0 <= result.numpy().min() <= result.numpy().max() <= 255
    assert np.abs(result.numpy()[0] - result.numpy()[1]).mean() > 1  # each picture gets a transform of its own


def test_any_picture_keeps_its_size() -> None:
    result = augment.augment_any(tf.constant(noise(6)), draws(6))
    assert (result.shape, result.dtype) == ((6, 40, 40, 3), tf.float32)


def test_a_product_picture_stays_on_white() -> None:
    white = np.full((20, 40, 40, 3), 255, np.uint8)
    corners = augment.augment_product(tf.constant(white), SIZE, draws(20)).numpy()[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.median(corners) > 150  # filled with black, half of them would be dark


def test_warping_by_no_change_is_resizing() -> None:
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.float32)[None, None, :, None], (1, 64, 1, 3))
    zero, one = tf.zeros([1]), tf.ones([1])
    identity = augment._matrix(zero, one, one, tf.zeros([1, 2]))
    small = augment.warp(tf.constant(ramp), identity, SIZE, "REFLECT")
    assert np.abs(small.numpy()[0, 16, :, 0] - ramp[0, 0, ::2, 0]).max() < 5


def test_a_zoom_shows_the_middle_and_a_shift_moves_it() -> None:
    picture = np.zeros((1, SIZE, SIZE, 1), np.float32)
    picture[0, 12:20, 12:20] = 255
    zero, one = tf.zeros([1]), tf.ones([1])
    zoomed = augment.warp(picture, augment._matrix(zero, one / 2, one / 2, tf.zeros([1, 2])), SIZE, "CONSTANT")
    assert 3 < (zoomed.numpy() > 127).sum() / (picture > 127).sum() < 5
    moved = augment.warp(picture, augment._matrix(zero, one, one, tf.constant([[0.5, 0.0]])), SIZE, "CONSTANT").numpy()
    assert np.argwhere(moved[0, ..., 0] > 127).mean(axis=0) == pytest.approx([15.5, 23.5], abs=1)


def test_pasted_objects_show_and_their_surroundings_stay() -> None:
    cutouts = np.zeros((6, 32, 32, 4), np.uint8)
    cutouts[:, 8:24, 8:24] = (255, 0, 0, 255)
    green = np.zeros((6, 32, 32, 3), np.float32)
    green[..., 1] = 255
    pasted = augment.paste_on_background(tf.constant(cutouts), tf.constant(green), SIZE, draws(6)).numpy()
    red = (pasted[..., 0] > 200).mean(axis=(1, 2))
    assert np.all((red > 0.02) & (red < 0.9))
    assert np.all((pasted[..., 1] > 200).any(axis=(1, 2)))


def test_jitter_changes_more_with_more_strength() -> None:
    pictures = tf.constant(noise(50), tf.float32) * 0.4 + 60

    def change(strength: float) -> float:
        result = augment.jitter(pictures, draws(50, 1), strength).numpy()
        assert result.min() >= 0
        assert result.max() <= 255
        return float(np.median(np.abs(result - pictures)))

    assert change(0.0) < 2  # but for the hidden rectangles
    assert change(0.0) < change(0.3) < change(1.0)


def test_jitter_hides_a_rectangle_in_a_quarter() -> None:
    flat = tf.fill([400, SIZE, SIZE, 3], 100.0)
    hidden = (np.abs(augment.jitter(flat, draws(400), 0.0).numpy() - 100) > 3).any(axis=(1, 2, 3))
    assert 0.12 < hidden.mean() < 0.36


def test_mixup_blends_pictures_and_labels_alike() -> None:
    values = tf.range(100, dtype=tf.float32)
    pictures, labels = tf.tile(values[:, None, None, None], [1, 2, 2, 3]), tf.one_hot(tf.range(100), 100)
    mixed, mixed_labels = augment.mixup(pictures, labels, 0.5, draws(100))
    assert np.allclose(mixed_labels.numpy().sum(axis=1), 1, atol=1e-5)
    assert np.allclose(mixed.numpy()[:, 0, 0, 0], mixed_labels.numpy() @ values.numpy(), atol=1e-3)
    assert np.all(np.diag(mixed_labels.numpy()) >= 0.5 - 1e-6)
    assert 20 < (np.diag(mixed_labels.numpy()) < 1).sum() < 80
    same, _ = augment.mixup(pictures, labels, 0.0, draws(100))
    assert np.array_equal(same.numpy(), pictures.numpy())


def test_workers_that_share_a_batch_draw_what_one_would() -> None:
    pictures = tf.constant(noise(6))
    whole = augment.jitter(augment.augment_any(pictures, draws(6)), draws(6))
    for places in ([0, 3, 5], [1, 2, 4]):
        mine = Draws(tf.constant([0, 0]), tf.constant(places), 6)
        part = augment.augment_any(tf.gather(pictures, places), mine)
        mine = Draws(tf.constant([0, 0]), tf.constant(places), 6)
        assert np.allclose(augment.jitter(part, mine), tf.gather(whole, places), atol=1e-3)
    assert not np.allclose(augment.augment_any(pictures, draws(6, 1)), augment.augment_any(pictures, draws(6)), atol=1)
