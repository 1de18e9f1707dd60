"""What one process does with a shard: fetch its pictures, look at them with one model, write their rows."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.errors import AppError, ClusterUnavailable, InvalidModel, StoreUnavailable
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import preprocessing
from shoe_classifier.ml.live_model import LiveModel, open_model_file
from shoe_classifier.scale.manifest import Entry, Source
from shoe_classifier.scale.output import Attempts, Output
from shoe_classifier.services.picture_features import in_order
from shoe_classifier.settings import Settings

logger = logging.getLogger(__name__)

_FETCHES = 8  # pictures fetched at once, so that the processor need not wait for a network
_DEATHS = 2  # of processes at the same picture, after which it is left out
_DEADLY = f"Expected a picture that can be decoded; {_DEATHS} processes that tried it were killed."
_MOST_DEADLY = 20  # of a shard's pictures: of more, the machine is to blame and not they


@dataclass(frozen=True)
class PictureLimits:
    """The settings that say which pictures are too large, as for the service."""

    max_pixels: int
    max_decoding_bytes: int
    max_jpeg_scans: int

    @classmethod
    def of(cls, settings: Settings) -> "PictureLimits":
        return cls(settings.max_image_pixels, settings.max_decoding_bytes, settings.max_jpeg_scans)

    def apply(self) -> None:
        """Make them those of this process."""
        preprocessing.LIMITS.max_bytes = self.max_decoding_bytes
        preprocessing.LIMITS.max_jpeg_scans = self.max_jpeg_scans


@dataclass(frozen=True)
class Fetched:
    """A picture of a shard: its file, or why there is none."""

    entry: Entry
    data: bytes
    error: str | None


@dataclass(frozen=True)
class Tally:
    """What became of a shard: its number, its pictures, and how many of them have no result."""

    shard: int
    pictures: int
    failed: int


@dataclass(frozen=True)
class Eye:
    """What pictures are looked at with. `latent_scale`: the step of the latents in the model's replay buffer."""

    live: LiveModel
    limits: PictureLimits
    latent_scale: float

    def decode(self, picture: Fetched) -> np.ndarray:
        """The picture as the model takes it, `uint8 (size, size, 3)`, RGB. Raises as `preprocessing.decode` does."""
        name, size, max_pixels = picture.entry.path, self.live.size, self.limits.max_pixels
        return preprocessing.decode(picture.data, size, name=name, max_pixels=max_pixels)


# From the pictures of a shard to an Arrow table with a row for each, and a column `error`.
Look = Callable[[Eye, Iterator[Fetched]], Any]


@dataclass(frozen=True)
class Task:
    """What the workers of a job do. It can be sent to another process or machine."""

    source: Source
    output: Output
    look: Look
    limits: PictureLimits
    model_sha256: str


class Worker:
    """Does shards of a task, one after the other, with one model.

    Args:
        model: the model file, which must have the SHA-256 that the task names.

    Raises:
        InvalidModel: it is another one.
        StoreUnavailable: this machine reaches the source or the output not at all.
    """

    def __init__(self, task: Task, model: bytes):
        if hashlib.sha256(model).hexdigest() != task.model_sha256:
            raise InvalidModel("Expected the model file that the job began with; received another.")
        self._task = task
        task.limits.apply()
        task.source.check()
        if task.output.job() is None:
            raise StoreUnavailable(
                f"Expected every machine to reach the output; {task.output.address} is not there on this one. "
                "Use a folder that all of them share, or a bucket."
            )
        self._eye = _open(model, task.limits)

    def __call__(self, shard: int) -> Tally:
        """Do a shard and write its file. A picture that has ended two processes becomes a row that says so.

        Raises:
            StoreUnavailable: the source is gone. Nothing of this shard is written.
            ClusterUnavailable: too many of its pictures have ended processes.
            AppError: the output cannot be written, such as on a full disk.
        """
        output = self._task.output
        try:
            with self._begun(shard) as earlier:
                pictures = self._fetch(output.entries(shard))
                table = self._task.look(self._eye, self._spared(shard, pictures, earlier) if earlier else pictures)
                output.write_part(shard, table)
        except OSError as error:
            raise output.cannot_write(error) from error
        return Tally(shard, table.num_rows, table.num_rows - table["error"].null_count)

    @contextmanager
    def _begun(self, shard: int) -> Iterator[Attempts]:
        """Note that a shard is begun during the block; yields the attempts of processes that were killed at it."""
        output = self._task.output
        left = earlier = output.attempts(shard)
        output.note_attempts(shard, [*earlier, None])
        try:
            yield earlier
            left = []
        finally:
            output.note_attempts(shard, left)

    def _spared(self, shard: int, pictures: Iterator[Fetched], earlier: Attempts) -> Iterator[Fetched]:
        """Pass pictures on, and note which one is looked at; those that have ended processes get an error instead."""
        deadly = [number for number in set(earlier) if number is not None and earlier.count(number) >= _DEATHS]
        if len(deadly) > _MOST_DEADLY:
            raise ClusterUnavailable(
                f"Expected pictures that a process survives; {len(deadly)} of shard {shard} ended {_DEATHS} each, as "
                "the system ends them when memory is short."
            )
        for number, picture in enumerate(pictures):
            if number in deadly:
                yield replace(picture, data=b"", error=_DEADLY)
                continue
            self._task.output.note_attempts(shard, [*earlier, number])
            yield picture

    def _fetch(self, entries: list[Entry]) -> Iterator[Fetched]:
        with ThreadPoolExecutor(_FETCHES, "fetch") as threads:

            def submit(entry: Entry) -> "Future[Fetched]":
                return threads.submit(self._fetch_one, entry)

            for _, fetched in in_order(submit, entries, _FETCHES):
                yield fetched.result()

    def _fetch_one(self, entry: Entry) -> Fetched:
        try:
            return Fetched(entry, self._task.source.fetch(entry.path), None)
        except StoreUnavailable:
            raise
        except AppError as error:
            return Fetched(entry, b"", error.detail)


def reason_of(error: Exception, path: str) -> str:
    """Why a picture has no result, for its row. No picture may end a job of millions, whatever is wrong with it."""
    if isinstance(error, AppError):
        return error.detail
    logger.error("The picture %r failed.", path, exc_info=error)
    return f"Expected a picture that can be classified; its decoder failed ({type(error).__name__})."


def _open(model: bytes, limits: PictureLimits) -> Eye:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        path.write_bytes(model)
        scale = bundles.read_replay_buffer(path).latent_scale
        return Eye(open_model_file(path, trusted=True), limits, scale)
