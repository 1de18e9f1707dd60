"""Endless batches of pictures for a training, as TensorFlow pipelines.

Importing this module imports TensorFlow.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from shoe_classifier.ml.augment import augment_photo, augment_product, jitter, mixup, paste_on_background
from shoe_classifier.ml.dataset import LabelledPictures, extract_foreground

Batch = dict[str, tuple[tf.Tensor, tf.Tensor]]  # for each source: pictures or latents `(b, ...)`, labels `int64 (b,)`


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
    outputs: int,
    image_size: int,
    counts: BatchCounts,
    mixup_share: float,
) -> tf.data.Dataset:
    """Augmented batches of all sources.

    Args:
        pictures, photos, negatives: as `training.train` takes them.
        outputs: number of classes, those of the negatives included.
        image_size: edge of the pictures in the batches.
        counts: of each kind. Without negatives there is nothing to paste on: there are more plain pictures instead.
        mixup_share: of all but the plain pictures, 0..1.

    Returns:
        Pairs of `float32 (b, image_size, image_size, 3)`, RGB 0-255, and labels `float32 (b, outputs)`, 0..1.
    """

    def mix(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch["plain"]
        clean, clean_labels = augment_product(images, image_size), tf.one_hot(labels, outputs)
        rough, rough_labels = _rough(batch, image_size)
        if not rough:
            return clean, clean_labels
        one_hot = tf.one_hot(tf.concat(rough_labels, 0), outputs)
        mixed, mixed_labels = mixup(jitter(tf.concat(rough, 0)), one_hot, mixup_share)
        return tf.concat([clean, mixed], 0), tf.concat([clean_labels, mixed_labels], 0)

    sources = _sources(pictures, photos, negatives, counts)
    return tf.data.Dataset.zip(sources).map(mix, num_parallel_calls=2).prefetch(2)


def _rough(batch: Batch, image_size: int) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The pictures of a batch that get strong augmentation, and their labels."""
    images, labels = [], []
    if "pasted" in batch:
        images.append(paste_on_background(batch["pasted"][0], batch["behind"][0], image_size))
        labels.append(batch["pasted"][1])
    for name in ("photos", "negatives"):
        if name in batch:
            images.append(augment_photo(batch[name][0], image_size))
            labels.append(batch[name][1])
    return images, labels


def _sources(
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    negatives: LabelledPictures | None,
    counts: BatchCounts,
) -> dict[str, tf.data.Dataset]:
    plain = counts.plain + (0 if negatives else counts.pasted)
    sources = {"plain": endless(pictures.images, pictures.labels, plain)}
    if photos:
        balanced = photos[balanced_indices(photos.labels)]
        sources["photos"] = endless(balanced.images, balanced.labels, counts.photos)
    if negatives:
        sources["pasted"] = endless(extract_foreground(pictures.images), pictures.labels, counts.pasted)
        sources["negatives"] = endless(negatives.images, negatives.labels, counts.negatives)
        sources["behind"] = endless(negatives.images, negatives.labels, counts.pasted)
    return sources


def tuning_batches(
    pictures: LabelledPictures, latents: np.ndarray, latent_labels: np.ndarray, batch: int
) -> tf.data.Dataset:
    """Batches for `training.finetune_upper_layers`, not augmented yet.

    Args:
        pictures: at the network's own size; may be empty.
        latents: `float32 (m, h, w, c)`; may be empty.
        latent_labels: `int64 (m,)`.
        batch: of each source that is not empty.

    Returns:
        A `Batch` with `pictures` and `latents`, or what of them is not empty.
    """
    sources = {}
    if len(pictures):
        sources["pictures"] = endless(pictures.images, pictures.labels, batch)
    if len(latents):
        sources["latents"] = endless(latents, latent_labels, batch)
    return tf.data.Dataset.zip(sources).prefetch(2)


def balanced_indices(labels: np.ndarray) -> np.ndarray:
    """Indices into labels `int (n,)` that repeat rare ones as often as the most frequent one: `int64 (m,)`.

    Otherwise the network would learn that a rare label is unlikely.
    """
    most = np.bincount(labels).max()
    return np.concatenate([np.resize(np.flatnonzero(labels == label), most) for label in np.unique(labels)])


def endless(images: np.ndarray, labels: np.ndarray, batch: int) -> tf.data.Dataset:
    """Batches of images `(n, ...)` and labels `int (n,)`, shuffled anew each time that all have been used."""
    order = tf.data.Dataset.range(len(labels)).shuffle(len(labels), reshuffle_each_iteration=True).repeat().batch(batch)
    images, labels = tf.constant(images), tf.constant(labels)
    return order.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)))
