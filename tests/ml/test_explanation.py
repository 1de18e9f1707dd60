import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from helpers.pictures import SHAPES, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.explanation import heat_map
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode


def test_explain_answers_with_the_picture(client: httpx.Client) -> None:
    response = client.post("/explain", files={"file": ("x.jpg", draw("Boot", 1, (1600, 800)))})
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (512, 256)


@pytest.mark.parametrize(("data", "status"), [(b"text", 422), (b"%PDF", 415)])
def test_explain_refuses_what_predict_refuses(client: httpx.Client, data: bytes, status: int) -> None:
    assert client.post("/explain", files={"file": ("x", data)}).status_code == status


def test_hiding_the_hottest_fifth_hurts_more_than_hiding_any(model_file: Path) -> None:
    live = LiveModel(bundles.read(model_file))
    rng = np.random.default_rng(0)
    lost_hot, lost_random = [], []
    for label in SHAPES:
        for seed in range(800, 812):
            picture = decode(draw(label, seed), live.backbone.image_size)
            heat = np.asarray(Image.fromarray(heat_map(live, picture)).resize((32, 32), Image.Resampling.BICUBIC))
            before = score(live, picture, label)
            lost_hot.append(before - score(live, hidden(picture, heat), label))
            lost_random.append(before - score(live, hidden(picture, rng.random((32, 32))), label))
    assert np.mean(lost_hot) > np.mean(lost_random)


def score(live: LiveModel, picture: np.ndarray, label: str) -> float:
    """The logit of a label over the mean of all: unlike its probability, it is never rounded to 1."""
    logits = live.bundle.head.logits(live.backbone.features(picture)[None])[0]
    return float(logits[SHAPES.index(label)] - logits.mean())


def hidden(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture without the fifth where `heat` is greatest."""
    covered = picture.copy()
    covered[heat >= np.quantile(heat, 0.8)] = np.median(picture, axis=(0, 1))
    return covered
