"""Explanations: a picture with the class activation map of its predicted label."""

import io

import numpy as np
from PIL import Image

from shoe_classifier.ml.head import activation_map
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode_with_thumbnail

_MAX_SIDE = 512
_STRENGTH = 0.6  # of the colour over the hottest place
_COLOURS = np.array([[0, 0, 128], [0, 160, 255], [255, 230, 0], [255, 0, 0]], np.float32)  # cold to hot


def explain(live: LiveModel, data: bytes, name: str, max_pixels: int) -> bytes:
    """Draw the activation map of the predicted label over a picture.

    Returns:
        A PNG with the picture's proportions, no edge above 512 pixels.

    Raises:
        UnsupportedImage, InvalidImage, TooLarge: as `preprocessing.decode` does.
    """
    size = live.backbone.image_size
    picture, shown = decode_with_thumbnail(data, size, _MAX_SIDE, name=name, max_pixels=max_pixels)
    heat = Image.fromarray(heat_map(live, picture)).resize(shown.size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    _overlay(np.asarray(shown), np.clip(np.asarray(heat), 0, 1)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def heat_map(live: LiveModel, picture: np.ndarray) -> np.ndarray:
    """`uint8 (size, size, 3)`, RGB, to the activation map of the predicted label, `float32 (h, w)`, 0..1."""
    head = live.bundle.head
    feature_map = live.backbone.feature_map(picture)
    # The features are the mean of the feature map: this is the prediction, without running the network again.
    label = int(head.logits(feature_map.mean(axis=(0, 1))[None])[0].argmax())
    return activation_map(feature_map, head.kernel, label).astype(np.float32)


def _overlay(picture: np.ndarray, heat: np.ndarray) -> Image.Image:
    """`uint8 (h, w, 3)`, RGB, under the colours of `float (h, w)`, 0..1."""
    stops = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(heat, stops, _COLOURS[:, channel]) for channel in range(3)], axis=2)
    share = _STRENGTH * heat[:, :, None]
    return Image.fromarray((picture * (1 - share) + colour * share).astype(np.uint8))
