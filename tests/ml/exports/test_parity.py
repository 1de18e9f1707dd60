from pathlib import Path

import numpy as np
import pytest

from helpers.pictures import SIDE
from helpers.pictures import draw as draw_file
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports.parity import Answer, draw, measure, read_pictures
from shoe_classifier.ml.live_model import LiveModel


@pytest.fixture
def model(model_file: Path) -> LiveModel:
    return LiveModel(bundles.read(model_file))


def test_changes_are_counted(model: LiveModel) -> None:
    def ask(picture: np.ndarray) -> Answer:
        expected = model.classify(picture)
        probabilities = np.float32(list(expected.probabilities.values()))
        return np.roll(probabilities, 1), "unknown" if expected.decision == "accepted" else "accepted"

    report = measure(model, "a runtime", ask, iter([draw(seed, SIDE) for seed in range(3)]), 7, 60)
    assert (report.stored, report.drawn, report.label_changes, report.decision_changes) == (3, 7, 10, 10)
    assert 0 < report.mean_difference < report.largest_difference <= 1
    assert report.service_ms > 0
    assert report.export_ms > 0


def test_it_ends_when_time_is_up(model: LiveModel) -> None:
    def ask(picture: np.ndarray) -> Answer:
        return np.ones(3, np.float32), "accepted"

    report = measure(model, "a runtime", ask, iter([]), 1_000_000, 0.01)
    assert 1 <= report.drawn < 1_000_000


def test_damaged_pictures_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(draw_file("Boot", 1))
    (tmp_path / "2").write_bytes(b"text")
    assert [picture.shape for picture in read_pictures(tmp_path, SIDE)] == [(SIDE, SIDE, 3)]


def test_each_seed_draws_another_picture() -> None:
    first, again, other = draw(1, 64), draw(1, 64), draw(2, 64)
    assert (first == again).all()
    assert (first != other).any()
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
