"""Pictures as arrays: loading, the fixed hold-out, negatives, objects cut out of white backgrounds."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoe_classifier.errors import AppError
from shoe_classifier.ml.image_file import ImageCollector, ImageFile, Images
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.thumbnails import look_alike, thumbnails_of
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.types import MAX_IMAGE_PIXELS

IMAGE_SIZE = 224  # edge of the pictures that the shipped network takes, in pixels
HOLDOUT_SHARE = 0.15
_WHITE = 238  # JPEG noise on a white studio background stays above this


@dataclass(frozen=True)
class LabelledPictures:
    """Columns of equal length.

    Attributes:
        images: `uint8 (n, size, size, 3)`, RGB, in memory or in a file.
        labels: `int64 (n,)`, indices into the list of labels.
        hashes: `n` SHA-256 digests of the files, hexadecimal.
    """

    images: Images
    labels: np.ndarray
    hashes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: np.ndarray) -> "LabelledPictures":
        """Choose by `bool (n,)` or by indices `int (m,)`; what is in a file stays there."""
        keep = np.flatnonzero(keep) if keep.dtype == bool else keep
        images = self.images.select(keep) if isinstance(self.images, ImageFile) else self.images[keep]
        return LabelledPictures(images, self.labels[keep], [self.hashes[i] for i in keep])

    def joined(self, other: "LabelledPictures") -> "LabelledPictures":
        """The pictures of both. If these are in a file, those of `other` are added to it."""
        added = np.asarray(other.images)
        return LabelledPictures(
            self.images.extended(added) if isinstance(self.images, ImageFile) else np.concatenate([self.images, added]),
            np.concatenate([self.labels, other.labels]),
            self.hashes + other.hashes,
        )

    def split(self) -> tuple["LabelledPictures", "LabelledPictures"]:
        """Split into what may be trained on and what is held out, by hash."""
        judged = held_out(self.hashes)
        return self[~judged], self[judged]


def is_held_out(sha256: str) -> bool:
    """True for a fixed 15 % of all pictures there can be: the same picture always falls on the same side."""
    return int(sha256[:8], 16) / 2**32 < HOLDOUT_SHARE


def held_out(hashes: list[str]) -> np.ndarray:
    """`is_held_out` of each of `n` digests: `bool (n,)`."""
    return np.array([is_held_out(value) for value in hashes], bool)


def load(
    pictures: Iterable[Picture],
    image_size: int,
    labels: list[str],
    *,
    exclude: frozenset[str] = frozenset(),
    max_pixels: int = MAX_IMAGE_PIXELS,
    progress: Callable[[], None] = lambda: None,
    file: Path | None = None,
) -> LabelledPictures:
    """Decode pictures, each once; what does not decode is left out.

    Args:
        pictures: files with their labels.
        image_size: edge to which they are squashed, in pixels.
        labels: known labels; new ones are appended.
        exclude: SHA-256 digests, hexadecimal, of files not to use, such as a validation set.
        max_pixels: width x height above which a picture is left out.
        progress: called before each picture.
        file: where the decoded pictures go, one by one; without it, they are held in memory.
    """
    label_indices, hashes = [], []
    with ImageCollector(image_size, file) as images:
        for picture, image, sha256 in _decoded(pictures, image_size, exclude, max_pixels, progress):
            if picture.label not in labels:
                labels.append(picture.label)
            images.add(image)
            label_indices.append(labels.index(picture.label))
            hashes.append(sha256)
    return LabelledPictures(images.collected(), np.array(label_indices, np.int64), hashes)


def _decoded(
    pictures: Iterable[Picture],
    image_size: int,
    exclude: frozenset[str],
    max_pixels: int,
    progress: Callable[[], None],
) -> Iterator[tuple[Picture, np.ndarray, str]]:
    """Yield pictures with `uint8 (image_size, image_size, 3)` and their SHA-256."""
    used = set(exclude)
    for picture in pictures:
        progress()
        sha256 = hashlib.sha256(picture.data).hexdigest()
        if sha256 in used:
            continue
        used.add(sha256)
        try:
            image = decode(picture.data, image_size, name=picture.name, max_pixels=max_pixels)
        except AppError:
            continue
        yield picture, image, sha256


def without_lookalikes(pictures: LabelledPictures, others: LabelledPictures) -> LabelledPictures:
    """Leave out pictures that look like one of `others`: a file that was saved again has another hash."""
    alike = look_alike(_thumbnails(pictures), _thumbnails(others))  # (n, m)
    return pictures[np.flatnonzero(~alike.any(axis=1))]


def _thumbnails(pictures: LabelledPictures) -> np.ndarray:
    """`uint8 (n, 16, 16)`; no more than one picture of a file is in memory."""
    return np.concatenate([np.zeros((0, 16, 16), np.uint8), *(thumbnails_of(image[None]) for image in pictures.images)])


def synthetic_negatives(image_size: int, count: int = 60) -> LabelledPictures:
    """Pictures that show nothing: one colour, a gradient between two, fine or coarse noise.

    They are the same at each call, and all have the label 0.
    """
    rng = np.random.default_rng(0)
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    slope = np.linspace(0, 1, image_size)[:, None, None]
    for i in range(count):
        start, end = rng.uniform(0, 256, (2, 3)) if i % 8 < 4 else rng.uniform(0, 256, (2, 1))
        grains = int(rng.integers(4, 17))
        coarse = rng.uniform(0, 256, (grains, grains, 3))[np.ix_(*[np.arange(image_size) * grains // image_size] * 2)]
        fine = rng.uniform(0, 256, (image_size, image_size, 3))
        images[i] = [start + 0 * slope, start + (end - start) * slope, fine, coarse][i % 4]
    return LabelledPictures(
        images, np.zeros(count, np.int64), [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    )


def extract_foreground(images: np.ndarray) -> np.ndarray:
    """Cut objects out of a white background.

    Background is what is nearly white and connected to the border, so white parts inside an object stay.
    A picture without such a background is returned whole.

    Args:
        images: `uint8 (n, s, s, 3)`, RGB.

    Returns:
        `uint8 (n, s, s, 4)`: RGB multiplied by alpha, and alpha 0-255.
    """
    from scipy import ndimage  # only training needs it

    cut = np.empty((*images.shape[:3], 4), np.uint8)
    for i, image in enumerate(images):
        outside = ndimage.binary_dilation(_background(image), iterations=2)  # includes the white seam
        alpha = 1 - ndimage.uniform_filter(outside.astype(np.float32), 3)
        cut[i, :, :, :3] = image * alpha[:, :, None]
        cut[i, :, :, 3] = alpha * 255
    return cut


def _background(image: np.ndarray) -> np.ndarray:
    """`uint8 (s, s, 3)` to `bool (s, s)`."""
    from scipy import ndimage

    regions, _ = ndimage.label(image.min(axis=2) >= _WHITE)
    border = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    return np.isin(regions, np.unique(border[border > 0]))
