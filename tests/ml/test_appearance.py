import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from helpers.pictures import encode
from shoe_classifier.ml.appearance import appearance_of, blur_of, problem_of
from shoe_classifier.ml.data_quality import find_low_quality


def test_bad_photos_are_told_from_good_ones() -> None:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((320, 240), Image.Resampling.NEAREST)
    bad = {
        "blurred": photo.filter(ImageFilter.GaussianBlur(12)),
        "dark": ImageEnhance.Brightness(photo).enhance(0.12),
        "bright": Image.blend(photo, Image.new("RGB", photo.size, "white"), 0.95),
        "edge": photo.resize((28, 21)),
    }
    measured = {name: appearance_of(encode(image), max_pixels=10**7) for name, image in bad.items()}
    for name, appearance in measured.items():
        problem = problem_of(appearance)
        assert problem and name in problem[0] and 0 < problem[1] <= 1, (name, appearance)
    good = appearance_of(encode(photo), max_pixels=10**7)
    assert problem_of(good) is None
    assert [one.picture for one in find_low_quality([good, None, measured["dark"]])] == [2]


def test_a_picture_of_one_colour_has_no_blur() -> None:
    assert blur_of(np.full((96, 96), 127, np.float32)) == 0.0
