import io
from typing import Any

import numpy as np
from PIL import Image

from helpers.pictures import draw
from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.plots import draw_mistakes, draw_report

NAMES = ["a", "b", "c"]


def metrics(guesses: list[int], labels: list[int]) -> dict[str, Any]:
    names = [f"{i}.jpg" for i in range(len(labels))]
    return evaluate(np.eye(3)[guesses], np.array(labels), NAMES, ["accepted"] * len(labels), names)


def opened(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def test_a_report_shows_the_confusion() -> None:
    right = opened(draw_report("Version 1", metrics([0, 1, 2], [0, 1, 2])))
    wrong = opened(draw_report("Version 1", metrics([1, 2, 0], [0, 1, 2])))
    assert right.shape == wrong.shape
    assert not np.array_equal(right, wrong)


def test_a_report_grows_with_its_labels_and_takes_long_names() -> None:
    names = [f"a very long name of a label, number {i}" for i in range(12)]
    many = evaluate(np.eye(12), np.arange(12), names)
    assert opened(draw_report("x" * 500, many)).shape[0] > opened(draw_report("x", metrics([0], [0]))).shape[0] + 500


def test_mistakes_are_shown_as_pictures() -> None:
    found = metrics([1, 1, 2, 2, 2, 2], [0, 1, 0, 0, 0, 0])["mistakes"]
    files = {f"{i}.jpg": draw("Boot", i) for i in range(6)}
    sheet = opened(draw_mistakes(found, files))
    red = (sheet[..., 0] > 150) & (sheet[..., 1] < 80)  # the drawn shape
    assert len(found) == 5
    assert red[:240].any()  # four in the first row
    assert red[264:].any()


def test_no_mistakes_make_a_sheet_too() -> None:
    assert opened(draw_mistakes([], {})).min() < 100  # it says so
