"""The Keras network: EfficientNet-Lite0, and how it is opened, split and compiled.

Importing this module imports TensorFlow; the service does so only to train or to compile.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or it takes all memory of a GPU that others use, too
os.environ.setdefault("KERAS_HOME", os.devnull)  # or Keras creates a folder in the user's home

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from shoe_classifier.errors import InvalidModel

LATENT_LAYER = "latent"  # the middle layer whose activations the replay buffer keeps in place of pictures
MAP_LAYER = "feature_map"
FEATURES_LAYER = "features"
HEAD_LAYER = "head"

_LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R BT.601
_SCALES = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}  # factor and offset from 0-255


class Stage(NamedTuple):
    """A row of inverted residual blocks.

    Attributes:
        kernel: edge of the depthwise convolution, in pixels.
        stride: of the first block; the others have 1.
        expansion: channels inside a block over its input's.
        channels: of the output.
        blocks: how many.
    """

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


# EfficientNet-Lite0, so that its ImageNet weights fit: 3.4 M weights.
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
WIDTH = 1280  # pooled features


def build(image_size: int, classes: int, stages: tuple[Stage, ...] = STAGES, width: int = WIDTH) -> keras.Model:
    """Build the network: a stem that halves the resolution, residual stages, global average pooling, a softmax head.

    Inverted residual blocks as in Sandler et al. 2018, "MobileNetV2", in the stages of Tan and Le 2019, "EfficientNet",
    without squeeze-and-excitation and with ReLU6 (the Lite variant), which compile to fast kernels. Their batch
    normalisations are folded into the convolutions: the statistics of ImageNet are as good as those of a few pictures,
    and far steadier.

    Args:
        image_size: edge of the pictures, in pixels.
        classes: number of outputs.
        stages: latents are the output of the last but one.
        width: number of pooled features.

    Returns:
        A model from RGB 0-255 `float32 (n, image_size, image_size, 3)` to probabilities `float32 (n, classes)`, 0..1.
    """
    image = keras.Input((image_size, image_size, 3), name="image")
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
    y = _convolution(x, x.shape[-1] * stage.expansion, 1, name=f"{name}_expand") if stage.expansion > 1 else x
    stride = stage.stride if first else 1
    y = layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", name=f"{name}_depth")(y)
    y = layers.ReLU(6.0, name=f"{name}_depth_relu")(y)
    y = layers.Conv2D(stage.channels, 1, padding="same", name=f"{name}_project")(y)
    return y if first else layers.Add(name=f"{name}_add")([x, y])


def _convolution(x: keras.KerasTensor, channels: int, kernel: int, *, name: str, stride: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(channels, kernel, strides=stride, padding="same", name=name)(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def load(path: Path) -> keras.Model:
    """Open the Keras model of a model file that this service wrote."""
    return keras.models.load_model(path, compile=False)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of all layers below the head from a model of the same build; the image sizes may differ."""
    for old, new in zip(source.layers[:-1], target.layers[:-1], strict=True):
        new.set_weights(old.get_weights())


def freeze(model: keras.Model, blocks: int) -> None:
    """Keep the weights of the stem and the first `blocks` residual blocks; 0 freezes nothing."""
    for layer in model.layers:
        if layer.name.startswith((f"block{blocks}_", "top")) or not blocks:
            return
        layer.trainable = False


def lower(model: keras.Model) -> keras.Model:
    """The part that a full retrain keeps: pictures `(n, size, size, 3)`, 0-255, to latents `float32 (n, h, w, c)`."""
    return keras.Model(model.input, model.get_layer(LATENT_LAYER).output)


def upper(model: keras.Model) -> keras.Model:
    """The part that a full retrain tunes, with the weights of `model`: latents `(n, h, w, c)` to features `(n, d)`."""
    return keras.Model(model.get_layer(LATENT_LAYER).output, model.get_layer(FEATURES_LAYER).output)


def round_weights(model: keras.Model) -> None:
    """Round all weights below the head to half precision, in place: files store and compile these very numbers."""
    for layer in model.layers[:-1]:
        layer.set_weights([weight.astype(np.float16).astype(np.float32) for weight in layer.get_weights()])


def compile_backbone(model: keras.Model, calibration: np.ndarray | None = None) -> bytes:
    """Compile the part below the head to a LiteRT flatbuffer, as `backbone.Backbone` takes it.

    Args:
        model: of `build`.
        calibration: some hundred pictures of all kinds, `uint8 (n, size, size, 3)`. With them, it computes with 8-bit
            integers, each channel in steps of its own: twice as fast on processors with instructions for that, and a
            tenth slower on others. Without them, it computes in single precision with weights stored in half precision.
    """
    outputs = [model.get_layer(name).output for name in (LATENT_LAYER, MAP_LAYER, FEATURES_LAYER)]
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(model.input, outputs))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is None:
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: ([picture[None].astype(np.float32)] for picture in calibration)
    return _convert(converter)


def _convert(converter: tf.lite.TFLiteConverter) -> bytes:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints pages, where a command's own output belongs
        return bytes(converter.convert())


def compile_external(path: Path, input_range: str) -> bytes:
    """Compile a plain Keras model to a LiteRT flatbuffer.

    Conversion to grey, scaling and softmax are compiled in where the model lacks them.

    Args:
        path: the model, checked by `bundle.check_external`.
        input_range: see `external_model.open_external`.

    Returns:
        From RGB 0-255 `float32 (1, h, w, 3)` to probabilities `float32 (1, k)`, 0..1.

    Raises:
        InvalidModel: its input is not a picture of a fixed size, or its output not a row of classes.
    """
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    height, width, channels = _picture_shape(model)
    image = keras.Input((height, width, 3))
    x = image
    if channels == 1:
        x = keras.ops.sum(x * np.array(_LUMA, np.float32), axis=-1, keepdims=True)
    if input_range == "auto":
        input_range = "0..255" if _scales_itself(model) else "0..1"
    scale, offset = _SCALES[input_range]
    y = model(layers.Rescaling(scale, offset)(x))
    y = _probabilities(image, y)
    return _convert(tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, y)))


def _picture_shape(model: keras.Model) -> tuple[int, int, int]:
    """Height, width and channels of the pictures that a plain Keras model takes. Raises `InvalidModel`."""
    shape, outputs = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:] or shape[3] not in (1, 3):
        raise InvalidModel(f"Expected one input of shape (n, height, width, 1 or 3) of a fixed size; received {shape}.")
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1] is None:
        raise InvalidModel(f"Expected one output of shape (n, classes); received {outputs}.")
    return shape[1:]


def _probabilities(image: keras.KerasTensor, y: keras.KerasTensor) -> keras.KerasTensor:
    """Add what makes outputs `(n, k)` probabilities, or `(n, 1)` those of no and yes; noise shows if they are so."""
    noise = np.random.default_rng(0).uniform(0, 255, (4, *image.shape[1:])).astype(np.float32)
    values = np.asarray(keras.Model(image, y)(noise))  # (4, k)
    if values.shape[1] == 1:
        y = y if ((values >= 0) & (values <= 1)).all() else keras.ops.sigmoid(y)
        return keras.ops.concatenate([1 - y, y], axis=-1)
    adds_up = (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3)
    return y if adds_up else keras.ops.softmax(y)


def _scales_itself(model: keras.Model) -> bool:
    return any(
        isinstance(layer, layers.Rescaling | layers.Normalization)
        or (isinstance(layer, keras.Model) and _scales_itself(layer))
        for layer in model.layers
    )


def call_in_batches(model: keras.Model, inputs: np.ndarray, batch: int = 256) -> np.ndarray:
    """Run a model over inputs `(n, ...)` in inference mode; returns its outputs `float32 (n, ...)`."""
    # `model.predict` would leak some memory at each call.
    step = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False), reduce_retracing=True)
    return np.concatenate([step(tf.constant(inputs[i : i + batch])).numpy() for i in range(0, len(inputs), batch)])
