import io

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import SHAPES, SIDE, draw, drawn, encode
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.cross_validation import Examined, examine
from shoe_classifier.ml.data_quality import (
    compare,
    find_label_errors,
    find_near_duplicates,
    find_outliers,
)
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.features import LabelledFeatures, extract_features
from shoe_classifier.ml.zip_reader import Picture

NO_OTHERS = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def backbone(model_file):  # type: ignore[no-untyped-def]
    return bundles.read(model_file).backbone()


def features_of(backbone, pictures: list[Picture]) -> LabelledFeatures:  # type: ignore[no-untyped-def]
    return extract_features(backbone, load(pictures, SIDE, list(SHAPES)))


def examined(lesson: LabelledFeatures, labels: np.ndarray) -> Examined:
    return examine(lesson.features, labels, lesson.features[:0], NO_OTHERS, len(SHAPES))


@pytest.fixture(scope="module")
def lesson(backbone) -> LabelledFeatures:  # type: ignore[no-untyped-def]
    return features_of(backbone, drawn(range(40)))


def test_of_flipped_labels_nine_in_ten_stand_first(lesson: LabelledFeatures) -> None:
    rng = np.random.default_rng(0)
    flipped = rng.permutation(len(lesson))[:12]
    labels = lesson.labels.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, 3, 12)) % 3
    exam = examined(lesson, labels)
    findings = find_label_errors(exam.probabilities(), labels, SHAPES, compare(exam.coordinates, lesson.thumbnails))
    first = sorted(findings, key=lambda one: -one.score)[:18]  # 15 %
    found = [one for one in first if one.picture in flipped]
    assert len(found) >= 11
    right = [one for one in found if one.action == "relabel" and one.label == lesson.labels[one.picture]]
    assert len(right) >= 10
    assert all("looks like" in one.reason and len(one.similar) == 6 for one in found)


def test_copies_are_found_whatever_their_label_or_side(backbone) -> None:  # type: ignore[no-untyped-def]
    original = Image.open(io.BytesIO(draw("Boot", 500, (96, 80))))
    copies = [encode(original, quality=60), encode(original.resize((72, 60))), encode(original, quality=50)]
    labels = ["Boot", "Boot", "Sandal"]
    pictures = [*drawn(range(15)), Picture("Boot", "o.jpg", encode(original, quality=95))]
    pictures += [Picture(label, f"{i}.jpg", data) for i, (label, data) in enumerate(zip(labels, copies, strict=True))]
    lesson = features_of(backbone, pictures)
    exam = examined(lesson, lesson.labels)
    held_out = np.zeros(len(lesson), bool)
    held_out[46] = True
    similarities = compare(exam.coordinates, lesson.thumbnails)
    findings = find_near_duplicates(similarities, lesson.labels, held_out, SHAPES, exam.probabilities())
    found = {one.picture: one for one in findings if one.picture >= 45}
    assert found.keys() >= {46, 47, 48}
    assert "held out" in found[46].reason and found[46].action == "delete"
    contradictory = found[48]
    assert contradictory.action == "relabel" and contradictory.label == 0
    assert contradictory.score == max(one.score for one in findings)


def test_a_picture_that_fits_nowhere_is_an_outlier(lesson: LabelledFeatures) -> None:
    coordinates = np.random.default_rng(0).normal(0, 0.1, (30, 8)).astype(np.float32) + 1
    coordinates[7] = -coordinates[7]
    thumbnails = np.random.default_rng(1).integers(0, 256, (30, 16, 16), np.uint8)
    findings = find_outliers(compare(coordinates, thumbnails), np.zeros(30, int))
    assert [(one.picture, one.action) for one in findings] == [(7, "delete")]
