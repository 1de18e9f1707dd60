import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.pictures import SHAPES, SIDE, draw
from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.preprocessing import decode


@pytest.fixture
def backbone(model_file: Path) -> Backbone:
    return bundles.read(model_file).backbone()


def test_shapes_are_those_of_the_network(backbone: Backbone) -> None:
    picture = decode(draw("Boot", 1), SIDE)
    features, latent = backbone.features_and_latent(picture)
    assert backbone.image_size == SIDE
    assert (features.shape, features.dtype) == ((backbone.feature_count,), np.float32)
    assert (latent.shape, latent.dtype) == (backbone.latent_shape, np.float32)
    assert backbone.feature_map(picture).shape[2] == backbone.feature_count


def test_features_are_the_mean_of_the_feature_map(backbone: Backbone) -> None:
    picture = decode(draw("Shoe", 2), SIDE)
    assert np.allclose(backbone.feature_map(picture).mean(axis=(0, 1)), backbone.features(picture), atol=1e-4)


def test_results_do_not_change_with_the_next_picture(backbone: Backbone) -> None:
    first = backbone.features(decode(draw("Boot", 1), SIDE))
    kept = first.copy()
    backbone.features(decode(draw("Sandal", 1), SIDE))
    assert np.array_equal(first, kept)


def test_threads_do_not_disturb_each_other(backbone: Backbone) -> None:
    pictures = {label: decode(draw(label, 3), SIDE) for label in SHAPES}
    expected = {label: backbone.features(picture) for label, picture in pictures.items()}
    wrong: list[str] = []

    def work(label: str) -> None:
        for _ in range(100):
            if not np.array_equal(backbone.features(pictures[label]), expected[label]):
                wrong.append(label)

    threads = [threading.Thread(target=work, args=[label]) for label in SHAPES * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_bytes_are_refused() -> None:
    with pytest.raises(InvalidModel, match="LiteRT"):
        Backbone(b"other bytes")
