"""Training with TensorFlow: the first network from pictures, and the full retrain of its upper layers.

Importing this module imports TensorFlow; the service does so only when such a training starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from shoe_classifier.ml import architecture
from shoe_classifier.ml.dataset import LabelledPictures, extract_foreground

_DRIFT = 1.0  # weight of staying near the old features, when the upper layers are tuned

Report = Callable[[float, str], None]  # progress 0..1, message


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained from pictures. Counts are pictures of each kind in one batch."""

    side: int = 128
    stages: tuple[architecture.Stage, ...] = architecture.STAGES
    epochs: int = 26  # with none, the network stays as it starts, and only the head is fitted
    steps: int = 100
    plain: int = 36  # labelled pictures as they are
    pasted: int = 30  # labelled pictures cut out and pasted on backgrounds
    photos: int = 24  # labelled photos
    others: int = 14  # backgrounds themselves, each folder a label of its own that the shipped head does not keep
    learning_rate: float = 8e-4
    weight_decay: float = 0.05
    smoothing: float = 0.05
    mixup: float = 0.15
    frozen: int = 0  # residual blocks from the bottom that keep the weights they start with: twice as fast with 3

    @property
    def load_side(self) -> int:
        """Pictures are loaded a third larger than the network takes them, so that zooming in finds detail."""
        return self.side * 4 // 3


def train(
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    backgrounds: LabelledPictures | None,
    classes: int,
    recipe: TrainingConfig,
    report: Report,
    checkpoints: Path | None = None,
    start: keras.Model | None = None,
) -> keras.Model:
    """Train a network for `classes` labels from pictures loaded at `recipe.load_side`.

    Labels of `backgrounds` start at `classes`: they teach the backbone what else there is, and leave with the
    training head. With `checkpoints`, a run that was cut off goes on after its last whole epoch. With `start`, the
    layers below the head begin with the weights of a model of the same build.
    """
    outputs = classes + (int(backgrounds.labels.max()) - classes + 1 if backgrounds else 0)
    model = architecture.build(recipe.side, outputs, recipe.stages)
    if start:
        architecture.copy_weights(start, model)
        architecture.freeze(model, recipe.frozen)
    if not recipe.epochs:
        return model
    steps = recipe.epochs * recipe.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps, warmup_target=recipe.learning_rate, warmup_steps=steps // 30
    )
    momentum = min(0.998, steps / (steps + 10))  # a short run must not average over its own beginning
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=recipe.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(
        optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=recipe.smoothing), metrics=["accuracy"]
    )
    callbacks: list[keras.callbacks.Callback] = [_Progress(report, recipe.epochs)]
    if checkpoints:
        callbacks.append(keras.callbacks.BackupAndRestore(str(checkpoints)))
    batches = _batches(pictures, photos, backgrounds, outputs, recipe)
    model.fit(
        batches, epochs=recipe.epochs, steps_per_epoch=recipe.steps, callbacks=callbacks, shuffle=False, verbose=0
    )
    return model


class _Progress(keras.callbacks.Callback):
    def __init__(self, report: Report, epochs: int):
        super().__init__()
        self._report, self._epochs = report, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        self._report((epoch + 1) / self._epochs, f"epoch {epoch + 1} of {self._epochs}: {figures}")


def finetune_upper_layers(
    model: keras.Model,
    pictures: LabelledPictures,
    latents: np.ndarray,
    latent_labels: np.ndarray,
    classes: int,
    report: Report,
    out_of_time: Callable[[], bool],
    epochs: int = 6,
    batch: int = 64,
) -> None:
    """Tune the layers above the latents, in place, with new pictures and the latents of what was learnt before.

    Args:
        model: its lower layers stay as they are, and so do all means and variances of its normalisations.
        pictures: new ones, at the network's own side.
        latents: `float32 (m, h, w, c)`, with labels `(m,)`; `classes` and above stand for backgrounds. Their features
            are held near what they were (as in Hou et al. 2019, "Learning a Unified Classifier Incrementally").
        report: is told of the progress, and may raise to stop.
        out_of_time: asked every few steps; True ends the training there.
    """
    lower, upper = architecture.lower(model), architecture.upper(model)
    before = keras.models.clone_model(upper)
    before.set_weights(upper.get_weights())
    for layer in upper.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    outputs = max(classes, int(latent_labels.max(initial=0)) + 1)
    head = keras.layers.Dense(outputs)
    steps = max(20, (len(pictures) + len(latents)) // (2 * batch))
    schedule = keras.optimizers.schedules.CosineDecay(1e-4, epochs * steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05)
    head.build(upper.output.shape)
    weights = upper.trainable_variables + head.trainable_variables
    optimizer.build(weights)
    batches = iter(tf.data.Dataset.zip(_tuning_sources(pictures, latents, latent_labels, batch)).prefetch(2))

    @tf.function
    def step(batch: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
        inputs, labels = [], []
        if "pictures" in batch:
            turned = augment_any(batch["pictures"][0])
            inputs.append(lower(jitter(turned, 0.5), training=False))
            labels.append(batch["pictures"][1])
        if "latents" in batch:
            inputs.append(tf.image.random_flip_left_right(batch["latents"][0]))
            labels.append(batch["latents"][1])
        with tf.GradientTape() as tape:
            features = upper(tf.concat(inputs, 0), training=True)
            loss = loss_of(tf.one_hot(tf.concat(labels, 0), outputs), head(features))
            if "latents" in batch:
                loss += _DRIFT * distillation_loss(
                    features[-tf.shape(inputs[-1])[0] :], before(inputs[-1], training=False)
                )
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    for epoch in range(epochs):
        losses = []
        for i in range(steps):
            losses.append(float(step(next(batches))))
            if i % 5 == 0:  # often enough to be stopped within a second or two
                recent = np.mean(losses[-10:])
                report((epoch + i / steps) / epochs, f"epoch {epoch + 1} of {epochs}, loss {recent:.3f}")
                if out_of_time():
                    return
        report((epoch + 1) / epochs, f"epoch {epoch + 1} of {epochs}, loss {np.mean(losses):.3f}")


def distillation_loss(features: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
    """How far features `(n, d)` are from what they were, in units of their own spread."""
    return tf.reduce_mean(tf.square(features - before) / (tf.math.reduce_variance(before, 0) + 1e-3))


def _tuning_sources(
    pictures: LabelledPictures, latents: np.ndarray, latent_labels: np.ndarray, batch: int
) -> dict[str, tf.data.Dataset]:
    sources = {}
    if len(pictures):
        sources["pictures"] = _endless(pictures.images, pictures.labels, batch)
    if len(latents):
        sources["latents"] = _endless(latents, latent_labels, batch)
    return sources


# ---------------------------------------------------------------- batches


def _batches(
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    backgrounds: LabelledPictures | None,
    outputs: int,
    recipe: TrainingConfig,
) -> tf.data.Dataset:
    plain = recipe.plain + (0 if backgrounds else recipe.pasted)
    sources = {"plain": _endless(pictures.images, pictures.labels, plain)}
    if photos:
        balanced = photos[_balanced(photos.labels)]
        sources["photos"] = _endless(balanced.images, balanced.labels, recipe.photos)
    if backgrounds:
        sources["pasted"] = _endless(extract_foreground(pictures.images), pictures.labels, recipe.pasted)
        sources["others"] = _endless(backgrounds.images, backgrounds.labels, recipe.others)
        sources["behind"] = _endless(backgrounds.images, backgrounds.labels, recipe.pasted)

    def mix(batch: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = batch["plain"]
        clean = augment_product(image, recipe.side)
        clean_labels = tf.one_hot(label, outputs)
        rough, labels = [], []
        if "pasted" in batch:
            rough.append(paste_on_background(batch["pasted"][0], batch["behind"][0], recipe.side))
            labels.append(batch["pasted"][1])
        for name in ("photos", "others"):
            if name in batch:
                rough.append(augment_photo(batch[name][0], recipe.side))
                labels.append(batch[name][1])
        if not rough:
            return clean, clean_labels
        mixed, mixed_labels = mixup(
            jitter(tf.concat(rough, 0)), tf.one_hot(tf.concat(labels, 0), outputs), recipe.mixup
        )
        return tf.concat([clean, mixed], 0), tf.concat([clean_labels, mixed_labels], 0)

    return tf.data.Dataset.zip(sources).map(mix, num_parallel_calls=2).prefetch(2)


def _balanced(labels: np.ndarray) -> np.ndarray:
    """Places of samples, each label as often as the most frequent one: a rare label must not be learnt as unlikely."""
    most = np.bincount(labels).max()
    return np.concatenate([np.resize(np.flatnonzero(labels == label), most) for label in np.unique(labels)])


def _endless(images: np.ndarray, labels: np.ndarray, batch: int) -> tf.data.Dataset:
    order = tf.data.Dataset.range(len(labels)).shuffle(len(labels), reshuffle_each_iteration=True).repeat().batch(batch)
    images, labels = tf.constant(images), tf.constant(labels)
    return order.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)))


# ---------------------------------------------------------------- augmentation, on `float32 (n, side, side, 3)`, 0-255


def augment_product(images: tf.Tensor, side: int) -> tf.Tensor:
    where = random_affine(tf.shape(images)[0], turn=0.2, zoom=(0.85, 1.2), stretch=0.12, shift=0.12)
    inverted = warp(255 - tf.cast(images, tf.float32), where, side, "CONSTANT")  # so that what comes in is white
    return jitter(255 - inverted, 0.35)


def paste_on_background(cut: tf.Tensor, backgrounds: tf.Tensor, side: int) -> tf.Tensor:
    """Put each object, or a mirrored pair of it, on a background, with a soft shadow."""
    n = tf.shape(cut)[0]
    canvas = augment_photo(backgrounds, side)
    angle, flip = tf.random.uniform([n], -np.pi, np.pi), _signs(n)
    pair = tf.cast(tf.random.uniform([n]) < 0.6, tf.float32)
    away = tf.random.uniform([n, 2], -0.25, 0.25) + pair[:, None] * 0.25 * _signs(2 * n, (n, 2))
    scale = tf.random.uniform([n], 1.0, 1.5) + pair * tf.random.uniform([n], 0.1, 0.7)
    stretch = tf.exp(tf.random.normal([n], stddev=0.2))
    for mirror, shown in ((1.0, tf.ones([n])), (-1.0, pair)):
        tilt = angle + tf.random.normal([n], stddev=0.12)
        where = _matrix(tilt, scale * stretch, scale / stretch * flip * mirror, away * mirror)
        piece = warp(cut, where, side, "CONSTANT") * shown[:, None, None, None]
        alpha = piece[..., 3:] / 255
        shadow = tf.nn.avg_pool2d(tf.roll(alpha, 2, 1), 9, 1, "SAME") * tf.random.uniform([n, 1, 1, 1], 0.0, 0.6)
        canvas = canvas * (1 - shadow) * (1 - alpha) + piece[..., :3]
    return canvas


def augment_photo(images: tf.Tensor, side: int) -> tf.Tensor:
    """Photos from above have no upright: any turn, any mirror, strong zoom and some perspective."""
    n = tf.shape(images)[0]
    where = random_affine(n, turn=np.pi, zoom=(0.55, 1.15), stretch=0.2, shift=0.25, perspective=0.12)
    return warp(images, where, side, "REFLECT")


def augment_any(images: tf.Tensor) -> tf.Tensor:
    """For pictures of which nothing is known: a mirror, a slight turn and zoom."""
    where = random_affine(tf.shape(images)[0], turn=0.25, zoom=(0.75, 1.15), stretch=0.1, shift=0.12)
    return warp(images, where, images.shape[1], "REFLECT")


def random_affine(
    n: tf.Tensor, *, turn: float, zoom: tuple[float, float], stretch: float, shift: float, perspective: float = 0.0
) -> tf.Tensor:
    scale = tf.exp(tf.random.uniform([n], np.log(zoom[0]), np.log(zoom[1])))
    ratio = tf.exp(tf.random.normal([n], stddev=stretch))
    centre = tf.random.uniform([n, 2], -shift, shift)
    angle = tf.random.uniform([n], -turn, turn)
    return _matrix(
        angle, scale * ratio * _signs(n), scale / ratio, centre, tf.random.normal([n, 2], stddev=perspective)
    )


def _matrix(
    angle: tf.Tensor, width: tf.Tensor, height: tf.Tensor, centre: tf.Tensor, tilt: tf.Tensor | None = None
) -> tf.Tensor:
    """`(n, 3, 3)` from output to input coordinates, both -1..1: move `centre` to 0, turn, then scale the axes."""
    cos, sin, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle), tf.ones_like(angle)
    tilt = tf.zeros_like(centre) if tilt is None else tilt
    move = tf.stack([one, zero, -centre[:, 0], zero, one, -centre[:, 1], tilt[:, 0], tilt[:, 1], one], 1)
    turn = tf.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], 1)
    scale = tf.stack([width, zero, zero, zero, height, zero, zero, zero, one], 1)
    return tf.reshape(scale, [-1, 3, 3]) @ tf.reshape(turn, [-1, 3, 3]) @ tf.reshape(move, [-1, 3, 3])


def warp(images: tf.Tensor, matrix: tf.Tensor, side: int, fill: str) -> tf.Tensor:
    """Sample `(n, s, s, c)` pictures at `side` x `side` places; beyond their edges is 0, or a mirrored picture."""
    size = float(images.shape[1])
    to_unit = tf.constant([[2 / side, 0, -1], [0, 2 / side, -1], [0, 0, 1]])
    from_unit = tf.constant([[size / 2, 0, size / 2], [0, size / 2, size / 2], [0, 0, 1]])
    matrix = from_unit @ matrix @ to_unit
    matrix = tf.reshape(matrix / matrix[:, 2:, 2:], [-1, 9])[:, :8]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=matrix,
        output_shape=[side, side],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill,
    )


def jitter(images: tf.Tensor, strength: float = 1.0) -> tf.Tensor:
    """Vary light, colour, focus and noise, and hide a rectangle in every fourth picture (Zhong et al. 2020)."""
    n, side = tf.shape(images)[0], images.shape[1]

    def vary(spread: float, shape: tuple[int, ...] = (1, 1, 1)) -> tf.Tensor:
        return tf.exp(tf.random.normal([n, *shape], stddev=spread * strength))

    x = tf.clip_by_value(images, 0, 255) / 255
    x = tf.pow(x + 1e-4, vary(0.25)) * vary(0.2) * vary(0.08, (1, 1, 3))
    mean = tf.reduce_mean(x, [1, 2, 3], keepdims=True)
    x = mean + (x - mean) * vary(0.2)
    grey = tf.reduce_mean(x, 3, keepdims=True)
    x = grey + (x - grey) * tf.random.uniform([n, 1, 1, 1], 1 - 0.8 * strength, 1 + 0.4 * strength)
    blurred = tf.nn.avg_pool2d(x, 3, 1, "SAME")
    x = tf.where(tf.random.uniform([n, 1, 1, 1]) < 0.3 * strength, blurred, x)
    x += tf.random.normal(tf.shape(x)) * tf.random.uniform([n, 1, 1, 1], 0, 0.04 * strength)
    corner, size = tf.random.uniform([n, 2], -0.1, 0.9), tf.random.uniform([n, 2], 0.15, 0.5)
    line = tf.range(side, dtype=tf.float32)[None] / side
    rows = (line > corner[:, :1]) & (line < corner[:, :1] + size[:, :1])
    columns = (line > corner[:, 1:]) & (line < corner[:, 1:] + size[:, 1:])
    hidden = (rows[:, :, None] & columns[:, None, :])[..., None] & (tf.random.uniform([n, 1, 1, 1]) < 0.25)
    x = tf.where(hidden, tf.random.uniform([n, 1, 1, 3]), x)
    return tf.clip_by_value(x, 0, 1) * 255


def mixup(images: tf.Tensor, labels: tf.Tensor, share: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend a share of the pictures, and their labels, with another one (Zhang et al. 2018)."""
    n = tf.shape(images)[0]
    order = tf.random.shuffle(tf.range(n))
    weight = tf.where(tf.random.uniform([n]) < share, tf.random.uniform([n], 0.5, 1.0), tf.ones([n]))
    pixels = weight[:, None, None, None]
    blend = weight[:, None]
    return images * pixels + tf.gather(images, order) * (1 - pixels), labels * blend + tf.gather(labels, order) * (
        1 - blend
    )


def _signs(n: tf.Tensor, shape: tuple[int | tf.Tensor, ...] | None = None) -> tf.Tensor:
    signs = tf.where(tf.random.uniform([n]) < 0.5, 1.0, -1.0)
    return signs if shape is None else tf.reshape(signs, shape)
