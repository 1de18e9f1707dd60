"""A job over many pictures: what is to be done, where, and how far it is."""

import contextlib
import hashlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from shoe_classifier.errors import InvalidModel, InvalidRequest, NotOffered, StoreUnavailable
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.scale import cluster
from shoe_classifier.scale.manifest import Entry, Source, open_source, whole_name
from shoe_classifier.scale.output import MODEL, Job, Output, open_output
from shoe_classifier.scale.processes import Processes
from shoe_classifier.scale.worker import Look, PictureLimits, Tally, Task
from shoe_classifier.services.factories import live_model_file
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import folder_lock

SMALL = 20_000  # pictures, below which a cluster takes longer to start than it saves

INSTALL_PARQUET = "pip install '.[bulk]'"


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        task: its name, which the output keeps.
        look: what is done with the pictures of a shard, see `worker.Look`.
        source, out: see `manifest.open_source` and `output.open_output`.
        actors: how many processes; None for as many as there are processors.
        address: of a Ray cluster that is to be used whatever the size; None leaves it to the settings.
        entries: the pictures, if not all of the source.
    """

    task: str
    look: Look
    source: str
    out: str
    actors: int | None = None
    address: str | None = None
    entries: Iterable[Entry] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        where: what does the work, for people.
        job: what is to be done.
        earlier: how many pictures an earlier run had done.
        done, failed: how many are done in all, and how many of those of this run have no result.
        per_second: pictures of this run in a second.
    """

    where: str
    job: Job
    earlier: int
    done: int
    failed: int
    per_second: float


Show = Callable[[Progress], None]


class Engine(Protocol):
    """What distributes shards over workers."""

    @property
    def where(self) -> str:
        """What these are, for people."""

    def run(self, task: Task, model: bytes, shards: list[int]) -> Iterator[Tally]:
        """Do shards; yields what became of each, as they end. Raises `ClusterUnavailable`, and what workers raise."""


def run(request: Request, settings: Settings, show: Show) -> Progress:
    """Do a job, or what an earlier run of the same job left undone.

    Args:
        show: is told how far the job is, at its start and after each shard.

    Returns:
        How the job ended: with all pictures done.

    Raises:
        NotOffered: a library is not installed.
        InvalidRequest: no such source, no pictures, or the output belongs to something else.
        ClusterUnavailable: no cluster at the address, or it failed; what is written stays.
        StoreUnavailable: the source or the output is gone; what is written stays.
    """
    require_parquet()
    if request.address:
        cluster.require_ray()
        cluster.check_address(request.address)
    source, output = open_source(request.source, settings), open_output(request.out)
    source.check()
    with _locked(output):
        job = output.job() or _begin(request, settings, source, output)
        _check_same(job, request, output)
        model = _model(job, output)
        task = Task(source, output, request.look, PictureLimits.of(settings), job.model_sha256)
        with _engine(request, settings, job) as engine:
            end = _follow(engine, task, model, job, show)
        _check_complete(job, output)
        return end


def require_parquet() -> None:
    """Raise `NotOffered` where Parquet cannot be written."""
    if importlib.util.find_spec("pyarrow") is None:
        raise NotOffered(f"Expected PyArrow, which writes Parquet; it is not installed. Install it: {INSTALL_PARQUET}")


@contextmanager
def _locked(output: Output) -> Iterator[None]:
    """Keep a second run away from the same folder; a bucket knows no locks."""
    with contextlib.ExitStack() as stack:
        try:
            free = output.in_bucket or stack.enter_context(folder_lock(output.folder))
        except OSError as error:
            raise output.cannot_write(error) from error
        if not free:
            raise InvalidRequest(f"Expected an output that no other run is writing to; one writes to {output.address}.")
        yield


def _begin(request: Request, settings: Settings, source: Source, output: Output) -> Job:
    if settings.external_labels is not None:
        raise NotOffered("Expected a model of this service; MODEL_PATH names a plain Keras model.")
    path = live_model_file(settings)
    version, model = bundles.read(path).version, path.read_bytes()
    sha256 = hashlib.sha256(model).hexdigest()
    entries = source.entries() if request.entries is None else request.entries
    return output.begin(request.task, whole_name(request.source), entries, model, version, sha256)


def _check_same(job: Job, request: Request, output: Output) -> None:
    source = whole_name(request.source)
    if (job.task, job.source) != (request.task, source):
        raise InvalidRequest(
            f"Expected a new folder for the output, or that of the same job; {output.address} holds "
            f"{job.task!r} of {job.source!r}, and this is {request.task!r} of {source!r}."
        )


def _model(job: Job, output: Output) -> bytes:
    """The model that the job began with, even if another one is live by now."""
    model = output.read(MODEL)
    if hashlib.sha256(model).hexdigest() != job.model_sha256:
        raise InvalidModel(f"Expected the model file that the job began with in {output.address}; it was changed.")
    return model


def _follow(engine: "Engine", task: Task, model: bytes, job: Job, show: Show) -> Progress:
    missing = task.output.missing(job)
    earlier = job.pictures - task.output.count(missing)
    progress = Progress(engine.where, job, earlier, earlier, 0, 0.0)
    show(progress)
    started = time.monotonic()
    for tally in engine.run(task, model, missing) if missing else ():
        done, failed = progress.done + tally.pictures, progress.failed + tally.failed
        speed = (done - earlier) / (time.monotonic() - started)
        progress = replace(progress, done=done, failed=failed, per_second=speed)
        show(progress)
    return progress


@contextmanager
def _engine(request: Request, settings: Settings, job: Job) -> Iterator[Engine]:
    address = request.address or settings.ray_address
    if request.address or (address and cluster.ray_installed() and job.pictures >= SMALL):
        with cluster.connected(str(address), request.actors) as engine:
            yield engine
        return
    reason = "RAY_ADDRESS names no cluster"
    if address:
        small = job.pictures < SMALL
        reason = f"a cluster pays from {SMALL:,} pictures on" if small else "Ray is not installed here"
    count = request.actors or os.cpu_count() or 1
    yield Processes(count, f"{count} {'process' if count == 1 else 'processes'} of this machine, because {reason}")


def _check_complete(job: Job, output: Output) -> None:
    """Workers on other machines may have written to folders of the same name."""
    missing = output.missing(job)
    if missing:
        raise StoreUnavailable(
            f"Expected {job.shards} files in {output.address}; {len(missing)} of them are not there. "
            "Do all machines share this folder? Run the same command again."
        )
