"""What distributing the work brings, and what a kill costs: the tables of docs/scale.md.

    python experiments/scale.py processes MODEL.h5 FOLDER [PICTURES]    # a plain loop, then 1 and 2 processes
    python experiments/scale.py cluster MODEL.h5 FOLDER [PICTURES]      # the same on a Ray cluster of 1, 2 and 3 nodes
    python experiments/scale.py kills MODEL.h5 FOLDER [PICTURES]        # an actor and a node of three, killed
    python experiments/scale.py teach MODEL.h5 SAMPLES...               # the time and memory of fitting a head

FOLDER is read in turns until there are PICTURES of them. The last three run in the environment of `make .venv-scale`.
Processor time is that of all processes that take part. It says more than the clock when other programs are running.
"""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from helpers.ray_cluster import actors_of, kill, ray_cluster
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.features import LabelledFeatures
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.live_model import LiveModelHolder, open_model_file
from shoe_classifier.scale import output
from shoe_classifier.scale.bulk import predictions_of
from shoe_classifier.scale.job import Progress, Request, run
from shoe_classifier.scale.manifest import is_picture
from shoe_classifier.settings import Settings

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run one of the experiments."""
    command, model, *rest = sys.argv[1:]
    output.SHARD_PICTURES = 50  # so that few pictures are enough shards
    if command == "teach":
        for count in rest:
            fit(Path(model), int(count))
        return
    pictures = int(rest[1]) if len(rest) > 1 else 3000
    with tempfile.TemporaryDirectory() as folder:
        job = Experiment(Path(folder), Path(model), Path(rest[0]), pictures)
        {"processes": processes, "cluster": cluster, "kills": kills}[command](job)


class Experiment:
    """Pictures, a model, and jobs over them."""

    def __init__(self, folder: Path, model: Path, source: Path, pictures: int):
        self.folder, self.count = folder, pictures
        (folder / "models").mkdir()
        shutil.copy(model, folder / "models" / "shoe_classifier.h5")
        self.settings = Settings(models_dir=folder / "models", dataset_dir=folder / "dataset")
        files = sorted(path for path in source.rglob("*") if is_picture(path.name))
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        for number in range(pictures):
            file = files[number % len(files)]
            (self.pictures / f"{number:06d}{file.suffix}").symlink_to(file.absolute())

    def run(self, actors: int, address: str | None = None, show: Callable[[Progress], None] = lambda _: None) -> float:
        """Classify the pictures; returns pictures per second from the first shard on, without the start."""
        out, arrivals = self.folder / "out", []

        def note(progress: Progress) -> None:
            arrivals.append((time.monotonic(), progress.done))
            show(progress)

        run(Request("predict", predictions_of, str(self.pictures), str(out), actors, address), self.settings, note)
        shutil.rmtree(out)
        (first, done), (last, total) = arrivals[1], arrivals[-1]
        self.gaps = [later[0] - earlier[0] for earlier, later in pairwise(arrivals[1:])]
        return (total - done) / (last - first)


def processes(job: Experiment) -> None:
    """A plain loop, then the command on one and on two processes."""
    holder = LiveModelHolder(job.settings.max_image_pixels)
    holder.swap(open_model_file(job.settings.live_model, trusted=True))
    with measured("plain loop", job.count):
        for path in sorted(job.pictures.iterdir()):
            holder.predict(path.read_bytes(), path.name)
    for count in (1, 2):
        with measured(f"{count} processes", job.count) as line:
            line.append(f"{job.run(count):.0f} pictures/s after the start")


def cluster(job: Experiment) -> None:
    """The same on clusters of one to three nodes, of one logical processor each."""
    for nodes in (1, 2, 3):
        with ray_cluster(nodes) as started, measured(f"{nodes} nodes", job.count) as line:
            line.append(f"{job.run(nodes, started.address):.0f} pictures/s after the start")
            line.append(f"{memory()} MB of all its processes")


def kills(job: Experiment) -> None:
    """An actor, and a node, killed while the job runs: the longest time without a finished shard."""
    with ray_cluster(3) as started:
        job.run(3, started.address)
        print(f"nothing killed: longest gap {max(job.gaps):.1f} s")
        victims = iter([lambda: kill(actors_of(started)[0])])
        job.run(3, started.address, lambda progress: progress.done and next(victims, int)())
        print(f"actor killed: longest gap {max(job.gaps):.1f} s")
        victims = iter([lambda: started.remove_node(started.list_all_nodes()[-1], allow_graceful=False)])
        job.run(3, started.address, lambda progress: progress.done and next(victims, int)())
        print(f"node killed: longest gap {max(job.gaps):.1f} s")


def fit(model: Path, count: int) -> None:
    """Fit a head to so many samples of ten new labels and the old ones, made from those of the replay buffer."""
    buffer, live = bundles.read_replay_buffer(model), bundles.read(model)
    rng = np.random.default_rng(0)
    known = buffer[buffer.labels >= 0]
    chosen = rng.integers(0, len(known), count)
    new = np.where(rng.random(count) < 0.5, rng.integers(0, 10, count), -1)
    turns = [rng.permutation(known.features.shape[1]) for _ in range(11)]  # of the features, so that labels differ
    features = np.stack([known.features[row][turns[label]] for row, label in zip(chosen, new, strict=True)])
    for start in range(0, count, 10_000):
        part = features[start : start + 10_000]
        part *= (1 + rng.normal(0, 0.15, part.shape)).astype(np.float16)
    labels = np.where(new >= 0, len(live.labels) + new, known.labels[chosen]).astype(np.int64)
    hashes = [rng.bytes(32).hex() for _ in range(count)]
    lesson = LabelledFeatures(features, np.zeros((count, 16, 16), np.uint8), labels, hashes)
    names = [*live.labels, *(f"new {number}" for number in range(10))]
    with tempfile.TemporaryDirectory() as folder, measured(f"head of {count:,} samples", count) as line:
        task = RetrainTask(model, Path(folder) / "new.h5", lesson, np.ones(count, bool), names, time.monotonic() + 3600)
        evidence = finetune.retrain_head(task, lambda _: None)
        line.append(f"accuracy {evidence.metrics['accuracy']:.4f}")
        line.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB at most")


@contextmanager
def measured(name: str, pictures: int) -> Iterator[list[str]]:
    """Print a line: elapsed and processor time, and what the block adds."""
    line: list[str] = []
    started, used = time.monotonic(), processor_seconds()
    yield line
    seconds, used = time.monotonic() - started, processor_seconds() - used
    speed, each = f"{pictures / seconds:.0f} pictures/s", f"{1000 * used / pictures:.2f} ms CPU each"
    print(f"{name}: {', '.join([f'{seconds:.0f} s', speed, each, *line])} (load {os.getloadavg()[0]:.0f})", flush=True)


def processor_seconds() -> float:
    """Of this process and all that it started, those that have ended included."""
    return sum(_seconds(pid) for pid in family())


def family() -> list[int]:
    """This process and all below it."""
    parents = {pid: stat[1] for pid, stat in _stats()}
    found = [os.getpid()]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def memory() -> int:
    """Proportional memory of the family, in MB."""
    total = 0
    for pid in family():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(text.split("Pss:")[1].split()[0])
    return total >> 10


def _seconds(pid: int) -> float:
    stat = dict(_stats()).get(pid)
    return sum(stat[11:15]) / TICKS if stat else 0.0


def _stats() -> Iterator[tuple[int, list[int]]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(path.parent.name), [0, *map(int, fields[1:])]


if __name__ == "__main__":
    main()
