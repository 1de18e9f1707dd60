"""The tuning of a full retrain on several workers of a Ray cluster, by Ray Train and TensorFlow's own distribution.

Nothing of Ray is imported until a tuning starts, in the child process of a retrain.
"""

import _thread
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.errors import ClusterUnavailable, ConfigurationError, NotOffered
from shoe_classifier.ml.batches import Share
from shoe_classifier.ml.finetune import tune_here
from shoe_classifier.ml.image_file import ImageCollector, Images
from shoe_classifier.ml.tuning import Tune, Tuning
from shoe_classifier.scale import cluster
from shoe_classifier.settings import Settings
from shoe_classifier.types import Report, TrainingEvent

_CHUNK = 256  # pictures that are moved at once, 38 MB at 224 pixels
_RESTARTS = 5  # of all workers, after one was killed
_POLL_SECONDS = 0.5


def tune_of(settings: Settings) -> Tune:
    """What full retrains tune with. Raises `ConfigurationError` if that is a cluster, and Ray is not installed."""
    if settings.retrain_in != "ray":
        return tune_here
    try:
        cluster.require_ray()
    except NotOffered as error:
        raise ConfigurationError(f"RETRAIN_IN=ray: {error.detail}") from None
    return RayTuning(str(settings.ray_address), settings.retrain_workers)


@dataclass(frozen=True)
class RayTuning:
    """Tunes on so many workers of the cluster at an address: a `tuning.Tune`, which can be sent to another process."""

    address: str
    workers: int

    def __call__(self, model: Any, tuning: Tuning, report: Report) -> None:
        """Tune the upper layers of a Keras model in place. Killed workers go on after the last whole epoch.

        Raises:
            NotOffered, InvalidRequest, ClusterUnavailable: the cluster cannot be used, see `cluster.connected`.
        """
        from shoe_classifier.ml import architecture

        report(TrainingEvent("train", 0.0, f"Joining the cluster at {self.address}."))
        with cluster.connected(self.address, self.workers):
            architecture.upper(model).set_weights(_tune(tuning, self.workers, report))


def _tune(tuning: Tuning, workers: int, report: Report) -> list[np.ndarray]:
    """Returns the weights of the upper layers."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    parts = [_part(tuning, rank, workers) for rank in range(workers)]
    hub = ray.remote(_Hub).options(num_cpus=0, **_here()).remote(parts, tuning.deadline)
    gpu = ray.cluster_resources().get("GPU", 0) >= workers
    with tempfile.TemporaryDirectory() as unused, _forwarded(hub, report):
        trainer = TensorflowTrainer(
            _work,
            train_loop_config={"hub": hub},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
            run_config=RunConfig(storage_path=unused, failure_config=FailureConfig(max_failures=_RESTARTS)),
        )
        try:
            trainer.fit()
        except (ray.exceptions.RayError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise ClusterUnavailable(f"Expected the cluster to finish the training; received: {text[:600]}") from error
        weights: list[np.ndarray] = ray.get(hub.weights.remote())
    return weights


def _here() -> dict[str, Any]:
    """Puts an actor on this process's own machine: it needs the clock, and must not be lost with another."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


@dataclass(frozen=True)
class _Part:
    """A worker's share of a tuning, as it travels.

    Attributes:
        tuning: without its samples.
        model: reference to the bytes of the live model's file.
        pictures: references to arrays of some pictures each. They move between the machines' stores, which write to
            the disk what does not fit into memory.
        latents: of the share.
        size: edge of the pictures, in pixels.
    """

    tuning: Tuning
    model: Any
    pictures: list[Any]
    latents: Share
    size: int


def _part(tuning: Tuning, rank: int, workers: int) -> _Part:
    import ray

    pictures, latents = (_share(share, rank, workers) for share in (tuning.pictures, tuning.latents))
    chunks = [ray.put(pictures.images[start : start + _CHUNK]) for start in range(0, len(pictures.labels), _CHUNK)]
    empty = replace(pictures, images=np.zeros(0, np.uint8))
    return _Part(
        replace(tuning, pictures=empty, latents=empty, checkpoint=None),
        ray.put(tuning.source.read_bytes()),
        chunks,
        replace(latents, images=np.asarray(latents.images)),
        pictures.images.shape[1],
    )


def _share(whole: Share, rank: int, workers: int) -> Share:
    rows = np.arange(rank, whole.total, workers)
    images = whole.images[rows] if isinstance(whole.images, np.ndarray) else whole.images.select(rows)
    return Share(images, whole.labels[rows], whole.total, rank, workers)


class _Hub:
    """An actor that all workers know: it has their parts, and what they tell each other's successors and the driver."""

    def __init__(self, parts: list[_Part], deadline: float):
        self._parts, self._deadline = parts, deadline
        self._checkpoint: bytes | None = None
        self._events: list[TrainingEvent] = []
        self._weights: list[np.ndarray] = []

    def part(self, rank: int) -> _Part:
        return self._parts[rank]

    def seconds_left(self) -> float:
        """Clocks differ between machines, so only this one reads the deadline."""
        return self._deadline - time.monotonic()

    def keep(self, checkpoint: bytes) -> None:
        self._checkpoint = checkpoint

    def checkpoint(self) -> bytes | None:
        return self._checkpoint

    def tell(self, event: TrainingEvent) -> None:
        self._events.append(event)

    def news(self) -> list[TrainingEvent]:
        news, self._events = self._events, []
        return news

    def finish(self, weights: list[np.ndarray]) -> None:
        self._weights = weights

    def weights(self) -> list[np.ndarray]:
        return self._weights


@contextlib.contextmanager
def _forwarded(hub: Any, report: Report) -> Iterator[None]:
    """Forward what the workers tell during the block. When `report` raises, the block is interrupted."""
    import ray

    ended = threading.Event()

    def forward() -> None:
        try:
            while not ended.wait(_POLL_SECONDS):
                for event in ray.get(hub.news.remote()):
                    report(event)
        except Exception:  # of any kind, such as a retrain that is cancelled, or a hub that is gone
            _thread.interrupt_main()

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# ------------------------------------------------------------ on the workers


def _work(config: dict[str, Any]) -> None:
    """What each worker does, under Ray Train."""
    import ray
    from ray.train import get_context

    from shoe_classifier.ml import architecture, training_loop, upper_layers

    hub, rank = config["hub"], get_context().get_world_rank()
    strategy = training_loop.many_workers()
    with tempfile.TemporaryDirectory() as folder:
        tuning = _received(hub, ray.get(hub.part.remote(rank)), Path(folder))
        with strategy.scope():
            model = architecture.load(tuning.source)
        upper_layers.tune(model, tuning, _Teller(hub, tuning) if rank == 0 else lambda event: None, strategy)
        if rank == 0:
            ray.get(hub.finish.remote(architecture.upper(model).get_weights()))


def _received(hub: Any, part: _Part, folder: Path) -> Tuning:
    """The tuning of a part, whose files are in a folder of this machine."""
    import ray

    source, checkpoint = folder / "model.h5", folder / "checkpoint.npz"
    source.write_bytes(ray.get(part.model))
    kept = ray.get(hub.checkpoint.remote())
    if kept:
        checkpoint.write_bytes(kept)
    return replace(
        part.tuning,
        source=source,
        pictures=replace(part.tuning.pictures, images=_stored(part, folder / "pictures")),
        latents=part.latents,
        deadline=time.monotonic() + ray.get(hub.seconds_left.remote()),
        checkpoint=checkpoint,
    )


def _stored(part: _Part, path: Path) -> Images:
    """Write the pictures to a file, so that no more than one chunk is in memory."""
    import ray

    with ImageCollector(part.size, path) as collector:
        for chunk in part.pictures:
            for image in ray.get(chunk):
                collector.add(image)
    return collector.collected()


class _Teller:
    """A report to the hub, with each new checkpoint."""

    def __init__(self, hub: Any, tuning: Tuning):
        self._hub, self._checkpoint, self._epochs = hub, tuning.checkpoint, tuning.epochs

    def __call__(self, event: TrainingEvent) -> None:
        import ray

        if event.epoch == round(event.progress * self._epochs, 6) and self._checkpoint:  # the epoch is over
            ray.get(self._hub.keep.remote(self._checkpoint.read_bytes()))
        ray.get(self._hub.tell.remote(event))
