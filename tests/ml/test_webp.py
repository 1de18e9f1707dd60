import numpy as np
import pytest
from PIL import Image

from helpers.pictures import encode
from shoe_classifier.ml import webp


@pytest.mark.skipif(not webp.available(), reason="this Pillow hides its libwebp")
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_scaled_pictures(mode: str, lossless: bool) -> None:
    colour = (200, 30, 60, 100)[: len(mode)]
    data = encode(Image.new(mode, (300, 200), colour), "WEBP", lossless=lossless)
    picture = webp.decode_scaled(data, (30, 25), alpha=mode == "RGBA")
    assert picture.shape == (25, 30, len(mode))
    assert abs(picture.astype(int) - np.array(colour)).max() < 12
    for end in (0, 20, len(data) - 10):
        with pytest.raises(ValueError, match="libwebp"):
            webp.decode_scaled(data[:end], (30, 25), alpha=False)
