"""Features of training pictures: computed once, on a few threads of low priority, and kept for all retrains."""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from shoe_classifier.errors import AppError, StoreUnavailable
from shoe_classifier.ml.appearance import appearance_of
from shoe_classifier.ml.features import features_of
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.settings import Settings
from shoe_classifier.storage.feature_cache import FeatureCache
from shoe_classifier.types import Appearance, PictureFeatures, Report, TrainingEvent, TrainingPicture

logger = logging.getLogger(__name__)

_THREADS = 4  # at most: each holds a decoded picture, and the activations of the network
_NICENESS = 10  # predictions come first, but do not stop an upload
_CHECK_SIZE = 96  # pixels, to which a picture is decoded when there is no model that could learn from it

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Extracted:
    """The features of a picture, and the SHA-256 of the backbone that they belong to."""

    backbone: str
    features: PictureFeatures


class FeatureExtractor:
    """Decodes training pictures, computes their features with the live backbone, and keeps them in a cache.

    What the cache cannot do is logged and never fails a call: features can always be computed again.
    """

    def __init__(self, settings: Settings, holder: LiveModelHolder):
        self._settings = settings
        self._holder = holder
        self._cache = FeatureCache(settings.dataset_dir / "features.sqlite3")
        count = min(settings.threads, _THREADS)
        self._threads = ThreadPoolExecutor(count, "features", initializer=lower_priority)
        self._ahead = count + 1  # pictures that wait for a thread, so that none is idle

    def close(self) -> None:
        """Wait for what is being computed, and close the cache."""
        self._threads.shutdown()
        self._cache.close()

    def check(self, picture: Picture) -> "Future[Extracted | None]":
        """Check that a picture can be learned from, on one of the threads.

        The future gives its features, or None when there is no live model that can be taught; it raises what
        `preprocessing.decode` raises.
        """
        return self._threads.submit(self._check, picture)

    def check_all(self, entries: Iterable[Item]) -> "Iterator[tuple[Item, Future[Extracted | None] | None]]":
        """Check those entries of a ZIP that are pictures, a few at a time; yield all, in order, with their check."""
        return in_order(lambda entry: self.check(entry) if isinstance(entry, Picture) else None, entries, self._ahead)

    def keep(self, pictures: Mapping[str, Extracted]) -> None:
        """Keep the features of stored pictures, by their SHA-256."""
        backbones: dict[str, dict[str, PictureFeatures]] = defaultdict(dict)
        for sha256, extracted in pictures.items():
            backbones[extracted.backbone][sha256] = extracted.features
        with _logged():
            for backbone, features in backbones.items():
                self._cache.put(backbone, features)

    def forget(self, hashes: Iterable[str]) -> None:
        """Delete what is known of pictures, by their SHA-256."""
        with _logged():
            self._cache.forget(hashes)

    def keep_only(self, live: LiveModel) -> None:
        """Delete the features of all other backbones."""
        with _logged():
            self._cache.keep_backbones([live.backbone_sha256])

    def known(self, live: LiveModel, rows: Iterable[TrainingPicture]) -> dict[str, PictureFeatures]:
        """Return the features that are kept of stored pictures, by their SHA-256."""
        with _logged():
            return self._cache.get(live.backbone_sha256, [row.sha256 for row in rows])
        return {}

    def compute(
        self,
        live: LiveModel,
        pictures: Iterable[tuple[TrainingPicture, bytes]],
        count: int,
        report: Report,
        until: float = float("inf"),
    ) -> dict[str, PictureFeatures]:
        """Compute the features of stored pictures and keep them; those that do not decode are left out.

        Args:
            live: the model whose backbone is used.
            pictures: the rows with their files.
            count: how many there should be, for the progress.
            report: receives the progress, and may raise to stop.
            until: `time.monotonic()` after which no more are computed.

        Returns:
            The features by SHA-256.
        """

        def extract(picture: tuple[TrainingPicture, bytes]) -> "Future[PictureFeatures]":
            row, data = picture
            return self._threads.submit(self._extract, live, row.image_path, data)

        found: dict[str, PictureFeatures] = {}
        fresh: dict[str, Extracted] = {}
        try:
            for number, ((row, _), future) in enumerate(in_order(extract, pictures, self._ahead), 1):
                with contextlib.suppress(AppError):
                    found[row.sha256] = future.result()
                    fresh[row.sha256] = Extracted(live.backbone_sha256, found[row.sha256])
                message = f"Computed the features of picture {number} of {count}."
                report(TrainingEvent("features", number / count, message))
                if time.monotonic() > until:
                    break
        finally:  # also of a retrain that is cancelled
            self.keep(fresh)
        return found

    def appearances(self, rows: Iterable[TrainingPicture]) -> dict[str, Appearance]:
        """Return the appearances that are kept of stored pictures, by their SHA-256."""
        with _logged():
            return self._cache.appearances([row.sha256 for row in rows])
        return {}

    def measure(
        self, pictures: Iterable[tuple[TrainingPicture, bytes]], go_on: Callable[[], None]
    ) -> dict[str, Appearance]:
        """Measure stored pictures and keep the result; those that do not decode are left out.

        Args:
            pictures: the rows with their files.
            go_on: called after each picture; may raise to stop.

        Returns:
            The appearances by SHA-256.
        """

        def measure(picture: tuple[TrainingPicture, bytes]) -> "Future[Appearance]":
            return self._threads.submit(self._measure, *picture)

        found: dict[str, Appearance] = {}
        try:
            for (row, _), future in in_order(measure, pictures, self._ahead):
                with contextlib.suppress(AppError):
                    found[row.sha256] = future.result()
                go_on()
        finally:
            with _logged():
                self._cache.put_appearances(found)
        return found

    def _measure(self, row: TrainingPicture, data: bytes) -> Appearance:
        return appearance_of(data, name=row.image_path, max_pixels=self._settings.max_image_pixels)

    def compute_for_now(self, live: LiveModel, pictures: Iterable[tuple[str, bytes]]) -> dict[str, np.ndarray]:
        """Compute the features of files by their names, `float16 (d,)` each, without keeping them in the cache.

        Those that do not decode are left out.
        """

        def extract(picture: tuple[str, bytes]) -> "Future[PictureFeatures]":
            return self._threads.submit(self._extract, live, *picture)

        found = {}
        for (name, _), future in in_order(extract, pictures, self._ahead):
            with contextlib.suppress(AppError):
                found[name] = future.result().features
        return found

    def _check(self, picture: Picture) -> Extracted | None:
        live = self._teachable()
        size = live.backbone.image_size if live else _CHECK_SIZE
        limits = self._settings
        image = decode(
            picture.data,
            size,
            name=picture.name,
            max_pixels=limits.max_image_pixels,
            min_side=limits.min_training_side,
        )
        if live is None:
            return None
        try:
            return Extracted(live.backbone_sha256, features_of(live.backbone, image))
        except Exception:  # of any kind: the picture is valid, and the next retrain tries again
            logger.exception("The features of an uploaded picture could not be computed.")
            return None

    def _extract(self, live: LiveModel, name: str, data: bytes) -> PictureFeatures:
        size, max_pixels = live.backbone.image_size, self._settings.max_image_pixels
        return features_of(live.backbone, decode(data, size, name=name, max_pixels=max_pixels))

    def _teachable(self) -> LiveModel | None:
        try:
            return self._holder.teachable
        except AppError:
            return None


def in_order(submit: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[tuple[Item, Result]]:
    """Submit items, up to `ahead` before their results are taken, and yield them in order."""
    submitted: deque[tuple[Item, Result]] = deque()
    for item in items:
        submitted.append((item, submit(item)))
        if len(submitted) > ahead:
            yield submitted.popleft()
    while submitted:
        yield submitted.popleft()


def lower_priority() -> None:
    """Let predictions go before what this thread does."""
    with contextlib.suppress(OSError):  # where threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, StoreUnavailable):  # such as a full disk
        logger.exception("The cache of features failed; what is missing will be computed again.")
