from pathlib import Path

import numpy as np

from helpers.pictures import SIDE, drawn
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.dataset import is_held_out, load
from shoe_classifier.ml.features import extract_features
from shoe_classifier.ml.thumbnails import thumbnails_of


def test_features_are_those_of_the_backbone(model_file: Path) -> None:
    backbone = bundles.read(model_file).backbone()
    pictures, steps = load(drawn(range(20)), SIDE, []), []
    features = extract_features(backbone, pictures, lambda: steps.append(1))
    assert features.features.dtype == np.float16
    assert np.allclose(features.features[7], backbone.features(pictures.images[7]), rtol=1e-3)
    assert np.array_equal(features.thumbnails, thumbnails_of(pictures.images))
    assert (features.labels.tolist(), features.hashes) == (pictures.labels.tolist(), pictures.hashes)
    assert features.held_out.tolist() == [is_held_out(value) for value in pictures.hashes]
    assert len(steps) == len(features) == 60
    chosen = features[features.labels == 1]
    assert (len(chosen), chosen.hashes) == (20, pictures.hashes[20:40])
    assert np.array_equal(chosen.features, features.features[20:40])
