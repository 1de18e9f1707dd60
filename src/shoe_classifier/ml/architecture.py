"""The Keras network: a small residual CNN, and how it is taken apart, compiled and opened.

Importing this module imports TensorFlow: only training and compiling do that.
"""

import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_HOME", os.devnull)  # or Keras would leave a folder in the home of whoever runs this

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from shoe_classifier.errors import InvalidModel

LATENT_LAYER = "latent"  # the middle layer whose activations stand in for pictures that are not there
MAP_LAYER = "feature_map"
FEATURES_LAYER = "features"
HEAD_LAYER = "head"


class Stage(NamedTuple):
    """Inverted residual blocks: kernel size, stride of the first, expansion, channels, and how many."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


# The first five of the seven stages of EfficientNet-Lite0, so that its ImageNet weights fit: 0.75 M weights.
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
)
WIDTH = 256  # features


def build(side: int, classes: int, stages: tuple[Stage, ...] = STAGES, width: int = WIDTH) -> keras.Model:
    """Build the network: four times halved resolution, global average pooling, linear softmax head.

    Takes RGB 0-255 `float32` of shape `(n, side, side, 3)`, gives probabilities `(n, classes)`.
    Inverted residual blocks as in Sandler et al. 2018, "MobileNetV2", in the stages of Tan and Le 2019, "EfficientNet",
    without squeeze-and-excitation and with ReLU6 (the Lite variant), which compile to fast integer-friendly kernels.
    """
    image = keras.Input((side, side, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(image)
    x = _convolution(x, 32, 3, stride=2, name="stem")
    block = 0
    for number, stage in enumerate(stages):
        for repeat in range(stage.blocks):
            x = _block(x, stage, first=repeat == 0, name=f"block{block}")
            block += 1
        if number == len(stages) - 2:
            x = layers.Activation("linear", name=LATENT_LAYER)(x)
    x = _convolution(x, width, 1, name="top")
    x = layers.Activation("linear", name=MAP_LAYER)(x)
    x = layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(x)
    x = layers.Dense(classes, activation="softmax", name=HEAD_LAYER)(x)
    return keras.Model(image, x, name="shoe_classifier")


def _block(x: keras.KerasTensor, stage: Stage, *, first: bool, name: str) -> keras.KerasTensor:
    y = x
    if stage.expansion > 1:
        y = _convolution(y, x.shape[-1] * stage.expansion, 1, name=f"{name}_expand")
    stride = stage.stride if first else 1
    y = layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depth_conv")(
        y
    )
    y = layers.ReLU(6.0, name=f"{name}_depth_relu")(_norm(f"{name}_depth")(y))
    y = layers.Conv2D(stage.channels, 1, padding="same", use_bias=False, name=f"{name}_project_conv")(y)
    y = _norm(f"{name}_client")(y)
    return y if first else layers.Add(name=f"{name}_add")([x, y])


def _convolution(x: keras.KerasTensor, channels: int, kernel: int, *, name: str, stride: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(_norm(name)(x))


def _norm(name: str) -> keras.layers.Layer:
    return layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_norm")


def load(path: Path) -> keras.Model:
    """Open the Keras model of a model file that this service wrote."""
    return keras.models.load_model(path, compile=False)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of all layers below the head from a model of the same build; the input sides may differ."""
    for old, new in zip(source.layers[:-1], target.layers[:-1], strict=True):
        new.set_weights(old.get_weights())


def freeze(model: keras.Model, blocks: int) -> None:
    """Keep the weights, means and variances of the stem and the first residual blocks as they are."""
    for layer in model.layers:
        if layer.name.startswith(f"block{blocks}_") or not blocks:
            return
        layer.trainable = False


def lower(model: keras.Model) -> keras.Model:
    """The part that full retraining keeps: pictures to latents `(n, h, w, d)`."""
    return keras.Model(model.input, model.get_layer(LATENT_LAYER).output)


def upper(model: keras.Model) -> keras.Model:
    """The part that full retraining tunes: latents to features `(n, d)`. It shares its weights with `model`."""
    return keras.Model(model.get_layer(LATENT_LAYER).output, model.get_layer(FEATURES_LAYER).output)


def compile_backbone(model: keras.Model) -> bytes:
    """Compile the part below the head to a LiteRT flatbuffer that gives latents, last feature map and features."""
    outputs = [model.get_layer(name).output for name in (LATENT_LAYER, MAP_LAYER, FEATURES_LAYER)]
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(model.input, outputs))
    return bytes(converter.convert())


def compile_external(path: Path, input_range: str) -> bytes:
    """Compile a plain Keras model to a LiteRT flatbuffer from RGB 0-255 `(1, h, w, 3)` to probabilities `(1, k)`.

    Grey conversion, scaling and softmax are compiled in where the model lacks them.

    Raises:
        InvalidModel: its input is no picture of a fixed size, or its output no row of classes.
    """
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    shape, outputs = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:] or shape[3] not in (1, 3):
        raise InvalidModel(f"Expected one input of shape (n, height, width, 1 or 3) of a fixed size; received {shape}.")
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1] is None:
        raise InvalidModel(f"Expected one output of shape (n, classes); received {outputs}.")
    image = keras.Input((*shape[1:3], 3))
    x = image
    if shape[3] == 1:
        x = keras.ops.sum(x * np.array([0.299, 0.587, 0.114], np.float32), axis=-1, keepdims=True)  # ITU-R 601 luma
    if input_range == "auto":
        input_range = "0..255" if _scales_itself(model) else "0..1"
    scale, offset = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}[input_range]
    y = model(layers.Rescaling(scale, offset)(x))
    noise = np.random.default_rng(0).uniform(0, 255, (4, *shape[1:3], 3)).astype(np.float32)
    plain = np.asarray(keras.Model(image, y)(noise))
    if outputs[1] == 1:
        y = y if ((plain >= 0) & (plain <= 1)).all() else keras.ops.sigmoid(y)
        y = keras.ops.concatenate([1 - y, y], axis=-1)
    elif not ((plain >= 0).all() and np.allclose(plain.sum(axis=1), 1, atol=1e-3)):
        y = keras.ops.softmax(y)
    return bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, y)).convert())


def _scales_itself(model: keras.Model) -> bool:
    return any(
        isinstance(layer, layers.Rescaling | layers.Normalization)
        or (isinstance(layer, keras.Model) and _scales_itself(layer))
        for layer in model.layers
    )


def call_in_batches(model: keras.Model, pictures: np.ndarray, batch: int = 256) -> np.ndarray:
    """Run a model over `(n, ...)` inputs in inference mode. `model.predict` would leak a little at each call."""
    step = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False), reduce_retracing=True)
    return np.concatenate([step(tf.constant(pictures[i : i + batch])).numpy() for i in range(0, len(pictures), batch)])
