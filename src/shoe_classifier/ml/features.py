"""What is kept of a training picture so that a retrain need not decode it again: features and a thumbnail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.dataset import LabelledPictures, held_out
from shoe_classifier.ml.thumbnails import thumbnails_of
from shoe_classifier.types import PictureFeatures


@dataclass(frozen=True)
class LabelledFeatures:
    """Columns of equal length.

    Attributes:
        features: of one backbone, `float16 (n, d)`.
        thumbnails: `uint8 (n, 16, 16)`, see `thumbnails.thumbnails_of`.
        labels: `int64 (n,)`, indices into the list of labels.
        hashes: `n` SHA-256 digests of the files, hexadecimal.
    """

    features: np.ndarray
    thumbnails: np.ndarray
    labels: np.ndarray
    hashes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: np.ndarray) -> "LabelledFeatures":
        """Choose by `bool (n,)` or by indices `int (m,)`."""
        keep = np.flatnonzero(keep) if keep.dtype == bool else keep
        hashes = [self.hashes[i] for i in keep]
        return LabelledFeatures(self.features[keep], self.thumbnails[keep], self.labels[keep], hashes)

    @property
    def held_out(self) -> np.ndarray:
        """`bool (n,)`, see `dataset.is_held_out`."""
        return held_out(self.hashes)


def features_of(backbone: Backbone, picture: np.ndarray) -> PictureFeatures:
    """Compute the features of a picture, `uint8 (size, size, 3)`, RGB, at the backbone's own size."""
    return PictureFeatures(backbone.features(picture).astype(np.float16), thumbnails_of(picture[None])[0])


def extract_features(
    backbone: Backbone, pictures: LabelledPictures, progress: Callable[[], None] = lambda: None
) -> LabelledFeatures:
    """Compute the features of pictures at the backbone's own size, at least one; calls `progress` before each."""
    extracted = []
    for picture in pictures.images:
        progress()
        extracted.append(features_of(backbone, picture))
    return labelled(extracted, pictures.labels, pictures.hashes)


def no_features(width: int) -> LabelledFeatures:
    """The columns of no pictures at all, with features of this width."""
    thumbnails = np.zeros((0, 16, 16), np.uint8)
    return LabelledFeatures(np.zeros((0, width), np.float16), thumbnails, np.zeros(0, np.int64), [])


def labelled(pictures: Sequence[PictureFeatures], labels: np.ndarray, hashes: list[str]) -> LabelledFeatures:
    """Put the features of one or more pictures into columns."""
    features = np.stack([picture.features for picture in pictures])
    return LabelledFeatures(features, np.stack([picture.thumbnail for picture in pictures]), labels, hashes)
