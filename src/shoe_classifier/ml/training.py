"""Trains a network from pictures. Imports TensorFlow, so the service imports this only when such a training starts."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shoe_classifier.ml import architecture
from shoe_classifier.ml.architecture import keras, tf  # which sets TensorFlow up before it is imported
from shoe_classifier.ml.augment import Draws, augment_photo, augment_product, jitter, mixup, paste_on_background
from shoe_classifier.ml.batches import Batch, BatchCounts, training_batches
from shoe_classifier.ml.checkpoint import Checkpoint
from shoe_classifier.ml.dataset import IMAGE_SIZE, LabelledPictures
from shoe_classifier.ml.training_loop import Course, learn
from shoe_classifier.types import Report


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained from pictures.

    Attributes:
        image_size: edge of the network's pictures, in pixels.
        stages, width: of `architecture.build`.
        epochs: with none, the network stays as it starts, and only the head is fitted.
        steps: batches of one epoch.
        plain: labelled pictures in a batch, as they are.
        pasted: labelled pictures in a batch, cut out and pasted on negatives.
        photos: labelled photos in a batch.
        negatives: pictures of no label in a batch; each of their folders is a class that the shipped head drops.
        learning_rate: the largest, after the warm-up.
        weight_decay, label_smoothing: of AdamW, and of the cross-entropy.
        mixup_share: of the pasted pictures, photos and negatives, 0..1.
        frozen: residual blocks from the bottom that keep the weights they start with: what ImageNet taught.
    """

    image_size: int = IMAGE_SIZE
    stages: tuple[architecture.Stage, ...] = architecture.STAGES
    width: int = architecture.WIDTH
    epochs: int = 8
    steps: int = 100
    plain: int = 36
    pasted: int = 30
    photos: int = 24
    negatives: int = 14
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    mixup_share: float = 0.15
    frozen: int = 11

    @property
    def load_size(self) -> int:
        """Pictures are loaded a third larger than the network takes them, so that zooming in finds detail."""
        return self.image_size * 4 // 3


def train(
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    negatives: LabelledPictures | None,
    classes: int,
    config: TrainingConfig,
    report: Report,
    checkpoints: Path | None = None,
    start: keras.Model | None = None,
) -> keras.Model:
    """Train a network.

    Args:
        pictures: labelled 0..classes-1, loaded at `config.load_size`, as are the next two.
        photos: with the same labels, as users take them.
        negatives: labelled from `classes` on. They teach the backbone what else there is; their outputs leave with
            the training head.
        classes: number of labels.
        config: how to train.
        report: receives an event after each epoch, and may raise to stop.
        checkpoints: folder from which an interrupted run resumes after its last whole epoch.
        start: model of the same build whose weights below the head are taken over.

    Returns:
        The network, with `classes` outputs and one for each folder of negatives.
    """
    outputs = classes + (int(negatives.labels.max()) - classes + 1 if negatives else 0)
    model = architecture.build(config.image_size, outputs, config.stages, config.width)
    if start:
        architecture.copy_weights(start, model)
        architecture.freeze(model, config.frozen)
    if not config.epochs:
        return model
    sources = [source for source in (pictures, photos, negatives) if source]
    fingerprint = hashlib.sha256(repr((config, [source.hashes for source in sources])).encode()).hexdigest()
    counts = BatchCounts(config.plain, config.pasted, config.photos, config.negatives)
    checkpoint = Checkpoint(checkpoints / "training.npz", fingerprint) if checkpoints else None
    learner = _WholeNetwork(model, config)
    batches = training_batches(pictures, photos, negatives, counts)
    course = Course(config.epochs, config.steps, report, checkpoint=checkpoint)
    learn(learner, batches, course, tf.distribute.get_strategy())
    learner.optimizer.finalize_variable_values(learner.weights)  # their moving averages
    return model


class _WholeNetwork:
    """A network that learns from the batches of `training_batches`."""

    def __init__(self, model: keras.Model, config: TrainingConfig):
        self._model, self._config = model, config
        self.weights = model.trainable_variables
        self.optimizer = _optimizer(config)
        self.optimizer.build(self.weights)
        self._loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)

    def loss(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        images, labels = views(batch, self._model.output.shape[-1], self._config, seed)
        return self._loss(labels, self._model(images, training=True))


def views(batch: Batch, outputs: int, config: TrainingConfig, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Augment a batch of `training_batches`.

    Args:
        outputs: number of classes, those of the negatives included.
        config: what the pictures become.
        seed: `int (2,)`; the same one gives the same pictures.

    Returns:
        Pictures `float32 (b, image_size, image_size, 3)`, RGB 0-255, and labels `float32 (b, outputs)`, 0..1.
    """
    sizes = {name: labels.shape[0] for name, (_, labels, _) in batch.items()}  # not `len`, in a graph

    def draws(number: int, size: int) -> Draws:
        return Draws(tf.random.experimental.stateless_fold_in(seed, number), tf.range(size), size)

    size, rough, rough_labels = config.image_size, [], []
    if "pasted" in batch:
        pasted = draws(0, sizes["pasted"])
        rough.append(paste_on_background(batch["pasted"][0], batch["behind"][0], size, pasted))
        rough_labels.append(batch["pasted"][1])
    for number, name in enumerate(("photos", "negatives"), 1):
        if name in batch:
            rough.append(augment_photo(batch[name][0], size, draws(number, sizes[name])))
            rough_labels.append(batch[name][1])
    clean = augment_product(batch["plain"][0], size, draws(3, sizes["plain"]))
    clean_labels = tf.one_hot(batch["plain"][1], outputs)
    if not rough:
        return clean, clean_labels
    one_hot = tf.one_hot(tf.concat(rough_labels, 0), outputs)
    mixed = draws(4, one_hot.shape[0])
    images, labels = mixup(jitter(tf.concat(rough, 0), mixed), one_hot, config.mixup_share, mixed)
    return tf.concat([clean, images], 0), tf.concat([clean_labels, labels], 0)


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    steps = config.epochs * config.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps, warmup_target=config.learning_rate, warmup_steps=steps // 30
    )
    momentum = min(0.998, steps / (steps + 10))  # a short run must not average over its own beginning
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, use_ema=True, ema_momentum=momentum)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
