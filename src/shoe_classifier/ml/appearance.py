"""How a picture looks to a person who would not take it for a lesson: tiny, dark, bright or blurred."""

import numpy as np

from shoe_classifier.ml.preprocessing import decode, size_of
from shoe_classifier.types import Appearance

SIDE = 96  # pixels to which pictures are squashed to be measured; blur that is visible there hides what they show
_TINY = 32  # pixels of the shorter edge
_DARK = 45  # grey value, 0-255, that hardly any pixel exceeds
_BRIGHT = 235  # grey value that hardly any pixel falls below
_FEW, _MOST = 5, 95  # per cent of the pixels
_BLURRED = 0.55  # sharp photos of the data sets at hand have 0.2 to 0.45
_WINDOW = 9  # pixels over which the measure of blur takes means


def problem_of(picture: Appearance) -> tuple[str, float] | None:
    """Return what is wrong with a picture, for people, and how much so, 0..1; None if nothing is."""
    problems = [
        (f"Its shorter edge has only {picture.side} pixels", 1 - picture.side / (2 * _TINY), picture.side < _TINY),
        ("It is too dark", 1 - picture.brightest / (2 * _DARK), picture.brightest < _DARK),
        ("It is too bright", 0.5 + (picture.darkest - _BRIGHT) / (2 * (255 - _BRIGHT)), picture.darkest > _BRIGHT),
        ("It is blurred", picture.blur, picture.blur > _BLURRED),
    ]
    found = [(reason, round(score, 4)) for reason, score, wrong in problems if wrong]
    return max(found, key=lambda each: each[1]) if found else None


def appearance_of(data: bytes, *, name: str = "", max_pixels: int) -> Appearance:
    """Measure the bytes of a picture file. Raises as `preprocessing.decode` does."""
    grey = decode(data, SIDE, name=name, max_pixels=max_pixels).astype(np.float32).mean(axis=2)
    darkest, brightest = np.percentile(grey, [_FEW, _MOST]).tolist()
    return Appearance(min(size_of(data, name=name, max_pixels=max_pixels)), darkest, brightest, blur_of(grey))


def blur_of(grey: np.ndarray) -> float:
    """How little is lost when a picture `float32 (h, w)` is blurred once more: 0, sharp, to 1 (Crete et al. 2007, "The
    blur effect: perception and estimation with a new no-reference perceptual blur metric")."""
    return round(max(_blur_along(grey), _blur_along(grey.T)), 4)


def _blur_along(grey: np.ndarray) -> float:
    """Along the first axis."""
    padded = np.pad(grey, ((_WINDOW // 2 + 1, _WINDOW // 2), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0, dtype=np.float64)
    blurred = (sums[_WINDOW:] - sums[:-_WINDOW]) / _WINDOW
    steps, left = np.abs(np.diff(grey, axis=0)), np.abs(np.diff(blurred, axis=0))
    total = float(steps.sum())
    return 1 - float(np.maximum(steps - left, 0).sum()) / total if total else 0.0
