"""Whether a new camera raises the alarm, and ordinary pictures do not.

    python experiments/drift.py MODEL.h5 PICTURES.zip [PICTURES.zip ...]

For each archive: the drift scores of as many windows of ordinary pictures as it has, and of the same pictures through
a simulated camera with a soft lens and warm colours. Of an archive that the model was trained on, whose name ends in
`train`, only the pictures that were held out are taken.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.dataset import LabelledPictures, held_out, load
from shoe_classifier.ml.drift import LEAST, MOST, RAISED, Reference
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.zip_reader import ZipLimits

NO_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)
BLUR = 1.5  # pixels, of 224
COLOURS = np.array([1.1, 1.0, 0.8])  # red, green, blue


def main() -> None:
    """Print the scores."""
    model, *archives = map(Path, sys.argv[1:])
    backbone, reference = bundles.read(model).backbone(), Reference(bundles.read_replay_buffer(model))
    print(f"The alarm is raised from {RAISED} on.")
    for archive in archives:
        images = _unseen(
            load(read(archive, NO_LIMITS), backbone.image_size, []), trained=archive.stem.endswith("train")
        )
        for name, seen in (("ordinary", images), ("new camera", map(through_new_camera, images))):
            features = np.stack([backbone.features(image) for image in seen])
            windows = [features[start : start + MOST] for start in range(0, len(features), MOST)]
            scores = [reference.measure(window).score for window in windows if len(window) >= LEAST]
            print(f"{archive.stem}, {name}: {len(features)} pictures, {', '.join(f'{score:.2f}' for score in scores)}")


def _unseen(pictures: LabelledPictures, *, trained: bool) -> np.ndarray:
    """Those that were not learned, `uint8 (n, size, size, 3)`, in random order, so that a window has all labels."""
    unseen = pictures.images[held_out(pictures.hashes)] if trained else pictures.images
    return unseen[np.random.default_rng(0).permutation(len(unseen))]


def through_new_camera(picture: np.ndarray) -> np.ndarray:
    """`uint8 (size, size, 3)` to the same, blurred and with other colours."""
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(BLUR * len(picture) / 224))
    warm: np.ndarray = np.clip(np.asarray(blurred) * COLOURS, 0, 255).astype(np.uint8)
    return warm


if __name__ == "__main__":
    main()
