"""Random changes to batches of pictures, so that a network learns the object and not one photo of it.

Importing this module imports TensorFlow. Unless a function says otherwise, pictures are `(n, size, size, 3)`, RGB
0-255, taken as `uint8` or `float32` and returned as `float32`. All randomness comes from a `Draws`.
"""

import numpy as np

from shoe_classifier.ml.architecture import tf  # which sets TensorFlow up before it is imported


class Draws:
    """Random numbers for `n` rows of a batch.

    What a row gets follows from the seed and its place in the whole batch: a training that goes on, or several workers
    that share its batches, draw what one would have drawn.
    """

    def __init__(self, seed: tf.Tensor, places: tf.Tensor, total: int):
        """`seed` is `int (2,)`, `places` the rows' places in the whole batch, `int (n,)`, which has `total` rows."""
        self._seed, self._places, self._total = seed, places, total
        self._count = 0

    def uniform(self, shape: list[int], low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """`float32 (n, *shape)`, low..high."""
        return self._mine(tf.random.stateless_uniform([self._total, *shape], self._next_seed(), low, high))

    def normal(self, shape: list[int], stddev: float = 1.0) -> tf.Tensor:
        """`float32 (n, *shape)`, with mean 0."""
        return self._mine(tf.random.stateless_normal([self._total, *shape], self._next_seed(), stddev=stddev))

    def signs(self, shape: list[int]) -> tf.Tensor:
        """-1 or 1, `float32 (n, *shape)`."""
        return tf.where(self.uniform(shape) < 0.5, 1.0, -1.0)

    def _next_seed(self) -> tf.Tensor:
        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._count)

    def _mine(self, values: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, self._places)


def augment_product(images: tf.Tensor, size: int, draws: Draws) -> tf.Tensor:
    """For product pictures on white: a slight turn and zoom, mirrored half the time, and a little `jitter`.

    Args:
        images: `(n, s, s, 3)`.
        size: edge of the result, `float32 (n, size, size, 3)`.
        draws: for `n` pictures.
    """
    transform = random_affine(draws, turn=0.2, zoom=(0.85, 1.2), stretch=0.12, shift=0.12)
    # Warping fills with 0, which is black; of the inverted picture it is white, as the background is.
    inverted = warp(255 - tf.cast(images, tf.float32), transform, size, "CONSTANT")
    return jitter(255 - inverted, draws, 0.35)


def augment_photo(images: tf.Tensor, size: int, draws: Draws) -> tf.Tensor:
    """For photos from above, which have no upright: any turn, mirrored half the time, strong zoom, some perspective.

    Args:
        images: `(n, s, s, 3)`.
        size: edge of the result, `float32 (n, size, size, 3)`.
        draws: for `n` pictures.
    """
    transform = random_affine(draws, turn=np.pi, zoom=(0.55, 1.15), stretch=0.2, shift=0.25, perspective=0.12)
    return warp(images, transform, size, "REFLECT")


def augment_any(images: tf.Tensor, draws: Draws) -> tf.Tensor:
    """For pictures of unknown origin, `(n, s, s, 3)`: a slight turn and zoom, mirrored half the time. Same size."""
    transform = random_affine(draws, turn=0.25, zoom=(0.75, 1.15), stretch=0.1, shift=0.12)
    return warp(images, transform, images.shape[1], "REFLECT")


def paste_on_background(cutouts: tf.Tensor, backgrounds: tf.Tensor, size: int, draws: Draws) -> tf.Tensor:
    """Put each object, or a mirrored pair of it, on a background, with a soft shadow.

    Args:
        cutouts: `uint8 (n, s, s, 4)`, as `dataset.extract_foreground` gives them: RGB multiplied by alpha, and alpha.
        backgrounds: `(n, t, t, 3)`.
        size: edge of the result, `float32 (n, size, size, 3)`, 0-255.
        draws: for `n` pictures.
    """
    canvas = augment_photo(backgrounds, size, draws)
    angle, flip = draws.uniform([], -np.pi, np.pi), draws.signs([])
    paired = tf.cast(draws.uniform([]) < 0.6, tf.float32)
    offset = draws.uniform([2], -0.25, 0.25) + paired[:, None] * 0.25 * draws.signs([2])
    scale = draws.uniform([], 1.0, 1.5) + paired * draws.uniform([], 0.1, 0.7)  # two objects are smaller
    stretch = tf.exp(draws.normal([], 0.2))
    for mirror, visible in ((1.0, tf.ones_like(paired)), (-1.0, paired)):
        tilt = angle + draws.normal([], 0.12)
        transform = _matrix(tilt, scale * stretch, scale / stretch * flip * mirror, offset * mirror)
        piece = warp(cutouts, transform, size, "CONSTANT") * visible[:, None, None, None]
        canvas = _compose(canvas, piece, draws.uniform([1, 1, 1], 0.0, 0.6))
    return canvas


def _compose(canvas: tf.Tensor, piece: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Lay `float32 (n, size, size, 4)`, colours multiplied by alpha, over `(n, size, size, 3)`, with its shadow."""
    alpha = piece[..., 3:] / 255  # (n, size, size, 1)
    shadow = tf.nn.avg_pool2d(tf.roll(alpha, 2, 1), 9, 1, "SAME") * strength
    return canvas * (1 - shadow) * (1 - alpha) + piece[..., :3]


def random_affine(
    draws: Draws, *, turn: float, zoom: tuple[float, float], stretch: float, shift: float, perspective: float = 0.0
) -> tf.Tensor:
    """Draw transforms for `warp`, mirrored half the time: `float32 (n, 3, 3)`.

    Args:
        draws: for `n` pictures.
        turn: largest angle to either side, in radians.
        zoom: smallest and largest edge of what is shown, in edges of the picture; below 1 zooms in.
        stretch: standard deviation of the logarithm of width over height.
        shift: largest move along each axis, in half edges.
        perspective: standard deviation of the tilt along each axis.
    """
    scale = tf.exp(draws.uniform([], np.log(zoom[0]), np.log(zoom[1])))
    ratio = tf.exp(draws.normal([], stretch))
    centre = draws.uniform([2], -shift, shift)
    angle = draws.uniform([], -turn, turn)
    tilt = draws.normal([2], perspective)
    return _matrix(angle, scale * ratio * draws.signs([]), scale / ratio, centre, tilt)


def _matrix(
    angle: tf.Tensor, width: tf.Tensor, height: tf.Tensor, centre: tf.Tensor, tilt: tf.Tensor | None = None
) -> tf.Tensor:
    """`float32 (n, 3, 3)` from output to input coordinates, both -1..1: move `centre` to 0, turn, scale the axes.

    `angle`, `width` and `height` are `(n,)`, `centre` and `tilt` are `(n, 2)`.
    """
    cos, sin, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle), tf.ones_like(angle)
    tilt = tf.zeros_like(centre) if tilt is None else tilt
    move = tf.stack([one, zero, -centre[:, 0], zero, one, -centre[:, 1], tilt[:, 0], tilt[:, 1], one], 1)
    turn = tf.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], 1)
    scale = tf.stack([width, zero, zero, zero, height, zero, zero, zero, one], 1)
    return tf.reshape(scale, [-1, 3, 3]) @ tf.reshape(turn, [-1, 3, 3]) @ tf.reshape(move, [-1, 3, 3])


def warp(images: tf.Tensor, transform: tf.Tensor, size: int, fill: str) -> tf.Tensor:
    """Sample pictures at transformed coordinates, bilinearly.

    Args:
        images: `(n, s, s, c)`, any number of channels.
        transform: `float32 (n, 3, 3)`, homogeneous, from output to input coordinates, both -1..1 over the picture.
        size: edge of the result, `float32 (n, size, size, c)`.
        fill: what lies beyond the edges: `CONSTANT` for 0, `REFLECT` for the mirrored picture.
    """
    source = float(images.shape[1])
    to_unit = tf.constant([[2 / size, 0, -1], [0, 2 / size, -1], [0, 0, 1]])  # pixels to -1..1
    from_unit = tf.constant([[source / 2, 0, source / 2], [0, source / 2, source / 2], [0, 0, 1]])
    matrix = from_unit @ transform @ to_unit
    matrix = tf.reshape(matrix / matrix[:, 2:, 2:], [-1, 9])[:, :8]  # the operation takes the last entry to be 1
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=matrix,
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill,
    )


def jitter(images: tf.Tensor, draws: Draws, strength: float = 1.0) -> tf.Tensor:
    """Vary light, colour, focus and noise, and hide a rectangle in every fourth picture (Zhong et al. 2020).

    Args:
        images: `float32 (n, s, s, 3)`; values outside 0-255 are clipped.
        draws: for `n` pictures.
        strength: 0..1, how much; the rectangle does not depend on it.

    Returns:
        `float32`, the same shape, 0-255.
    """
    x = tf.clip_by_value(images, 0, 255) / 255
    x = _jitter_colours(x, draws, strength)
    blurred = tf.nn.avg_pool2d(x, 3, 1, "SAME")
    x = tf.where(draws.uniform([1, 1, 1]) < 0.3 * strength, blurred, x)
    x += draws.normal(x.shape[1:]) * draws.uniform([1, 1, 1], 0, 0.04 * strength)
    return tf.clip_by_value(_hide_rectangle(x, draws), 0, 1) * 255


def _jitter_colours(x: tf.Tensor, draws: Draws, strength: float) -> tf.Tensor:
    """Gamma, brightness, white balance, contrast and saturation of `float32 (n, s, s, 3)`, 0..1."""

    def factor(spread: float, channels: int = 1) -> tf.Tensor:
        return tf.exp(draws.normal([1, 1, channels], spread * strength))

    x = tf.pow(x + 1e-4, factor(0.25)) * factor(0.2) * factor(0.08, channels=3)
    mean = tf.reduce_mean(x, [1, 2, 3], keepdims=True)
    x = mean + (x - mean) * factor(0.2)
    grey = tf.reduce_mean(x, 3, keepdims=True)
    return grey + (x - grey) * draws.uniform([1, 1, 1], 1 - 0.8 * strength, 1 + 0.4 * strength)


def _hide_rectangle(x: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Cover a rectangle of one random colour in a quarter of `float32 (n, s, s, 3)`, 0..1."""
    size = x.shape[1]
    corner, extent = draws.uniform([2], -0.1, 0.9), draws.uniform([2], 0.15, 0.5)
    line = tf.range(size, dtype=tf.float32)[None] / size  # (1, s)
    rows = (line > corner[:, :1]) & (line < corner[:, :1] + extent[:, :1])  # (n, s)
    columns = (line > corner[:, 1:]) & (line < corner[:, 1:] + extent[:, 1:])
    hidden = (rows[:, :, None] & columns[:, None, :])[..., None] & (draws.uniform([1, 1, 1]) < 0.25)
    return tf.where(hidden, draws.uniform([1, 1, 3]), x)


def mixup(images: tf.Tensor, labels: tf.Tensor, share: float, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend some pictures, and their labels, with another one of those given (Zhang et al. 2018).

    Args:
        images: `float32 (n, s, s, 3)`.
        labels: `float32 (n, k)`, one-hot.
        share: 0..1, how many of the pictures are blended. Each keeps at least half of itself.
        draws: for `n` pictures.

    Returns:
        Both, in the same shapes; each row of labels still adds up to 1.
    """
    order = tf.argsort(draws.uniform([]))
    weight = tf.where(draws.uniform([]) < share, draws.uniform([], 0.5, 1.0), 1.0)
    of_image, of_label = weight[:, None, None, None], weight[:, None]
    return (
        images * of_image + tf.gather(images, order) * (1 - of_image),
        labels * of_label + tf.gather(labels, order) * (1 - of_label),
    )
