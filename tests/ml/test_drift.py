"""Drift of drawn pictures, by the features of the small model. experiments/drift.py does the same with photos."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter

from conftest import SHAPES_MODEL
from helpers.pictures import SHAPES, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.drift import LEAST, MOST, Reference
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.replay_buffer import ReplayBuffer

UNSEEN = 50_000  # first seed of pictures that the model was not trained on


@pytest.fixture(scope="module")
def buffer() -> ReplayBuffer:
    return bundles.read_replay_buffer(SHAPES_MODEL)


@pytest.fixture(scope="module")
def reference(buffer: ReplayBuffer) -> Reference:
    return Reference(buffer)


@cache
def backbone() -> Backbone:
    return bundles.read(SHAPES_MODEL).backbone()


def new_camera(picture: np.ndarray) -> np.ndarray:
    """Blurred, darker and colder."""
    blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))
    return np.clip(blurred * np.array([0.6, 0.8, 1.0]), 0, 255).astype(np.uint8)


def features(
    first: int, count: int, change: Callable[[np.ndarray], np.ndarray] = lambda picture: picture
) -> np.ndarray:
    """Of drawn pictures, `float32 (n, d)`."""
    seeds = range(UNSEEN + first, UNSEEN + first + count)
    pictures = (decode(draw(SHAPES[seed % 3], seed), backbone().image_size) for seed in seeds)
    return np.stack([backbone().features(change(picture)) for picture in pictures])


def test_a_thousand_ordinary_pictures_raise_no_alarm(reference: Reference) -> None:
    for first in range(0, 1000, MOST):
        drift = reference.measure(features(first, MOST))
        assert not drift.raised and drift.score < 0.65
        assert drift.expected[0] < 0.5 < drift.expected[1] and drift.pictures == MOST


def test_a_new_camera_raises_it_within_two_hundred(reference: Reference) -> None:
    drift = reference.measure(features(0, MOST, new_camera))
    assert drift.raised and drift.score > drift.expected[1]


def test_another_mixture_of_the_same_pictures_is_no_drift(reference: Reference) -> None:
    seeds = range(UNSEEN, UNSEEN + MOST)
    boots = [backbone().features(decode(draw("Boot", seed), backbone().image_size)) for seed in seeds]
    assert not reference.measure(np.stack(boots)).raised


def test_the_same_pictures_have_the_same_score(reference: Reference) -> None:
    recent = features(0, LEAST)
    assert reference.measure(recent) == reference.measure(recent)


def test_pictures_unlike_what_was_taught_are_far(reference: Reference) -> None:
    assert reference.far(features(0, 100)).mean() < 0.1
    assert reference.far(np.eye(backbone().feature_count, dtype=np.float32)).all()  # no picture has a single feature


def test_without_held_out_pictures_there_is_nothing_to_compare_with(buffer: ReplayBuffer) -> None:
    assert not Reference(replace(buffer, held_out=np.zeros(len(buffer), bool))).usable
