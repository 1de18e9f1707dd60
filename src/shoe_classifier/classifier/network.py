"""The Keras network: a small residual CNN, and how it is taken apart, compiled and opened.

Importing this module imports TensorFlow: only training and compiling do that.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

LATENT_LAYER = "latent"  # the middle layer whose activations stand in for pictures that are not there
MAP_LAYER = "feature_map"
FEATURES_LAYER = "features"
HEAD_LAYER = "head"
WIDTHS = (24, 48, 96, 168)  # of the stem and the three stages: 0.93 M weights


def build(side: int, classes: int, widths: tuple[int, ...] = WIDTHS) -> keras.Model:
    """Build the network: five times halved resolution, global average pooling, linear softmax head.

    Takes RGB 0-255 `float32` of shape `(n, side, side, 3)`, gives probabilities `(n, classes)`.
    Residual blocks as in He et al. 2016, "Identity Mappings in Deep Residual Networks", with the
    activation after the addition so that each batch normalisation folds into its convolution.
    """
    image = keras.Input((side, side, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    x = _convolution(x, widths[0], stride=2, name="stem")
    for stage, width in enumerate(widths[1:], start=1):
        x = _convolution(x, width, stride=2, name=f"stage{stage}_down")
        last = stage == len(widths) - 1
        name = MAP_LAYER if last else LATENT_LAYER if stage == len(widths) - 2 else f"stage{stage}_out"
        x = _residual(x, width, name=f"stage{stage}", out=name)
    x = layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(x)
    x = layers.Dense(classes, activation="softmax", name=HEAD_LAYER)(x)
    return keras.Model(image, x, name="shoe_classifier")


def _convolution(x: keras.KerasTensor, width: int, *, stride: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.97, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _residual(x: keras.KerasTensor, width: int, *, name: str, out: str) -> keras.KerasTensor:
    y = _convolution(x, width, stride=1, name=f"{name}_a")
    y = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_b_conv")(y)
    y = layers.BatchNormalization(momentum=0.97, name=f"{name}_b_norm")(y)
    return layers.ReLU(name=out)(layers.Add(name=f"{name}_add")([x, y]))


def load(path: Path) -> keras.Model:
    """Open the Keras model of a model file that this service wrote."""
    return keras.models.load_model(path, compile=False)


def lower(model: keras.Model) -> keras.Model:
    """The part that full retraining keeps: pictures to latents `(n, h, w, d)`."""
    return keras.Model(model.input, model.get_layer(LATENT_LAYER).output)


def upper(model: keras.Model) -> keras.Model:
    """The part that full retraining tunes: latents to features `(n, d)`. It shares its weights with `model`."""
    return keras.Model(model.get_layer(LATENT_LAYER).output, model.get_layer(FEATURES_LAYER).output)


def compile_backbone(model: keras.Model) -> bytes:
    """Compile the part below the head to a LiteRT flatbuffer that gives latents and last feature map of a picture."""
    outputs = [model.get_layer(LATENT_LAYER).output, model.get_layer(MAP_LAYER).output]
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(model.input, outputs))
    return bytes(converter.convert())


def call_in_batches(model: keras.Model, pictures: np.ndarray, batch: int = 256) -> np.ndarray:
    """Run a model over `(n, ...)` inputs in inference mode. `model.predict` would leak a little at each call."""
    step = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False), reduce_retracing=True)
    return np.concatenate([step(tf.constant(pictures[i : i + batch])).numpy() for i in range(0, len(pictures), batch)])
