"""Teach the shipped model a lesson by a quick and by a full retrain, and measure both on the same held-out pictures.

    python experiments/full_retrain.py --lesson TRAIN.zip:240 --lesson MORE.zip:60 --test A.zip --test B.zip [--int8]

Prints for each retrain its seconds, the most memory of its process, the gate's verdict, and for each test set the share
of right labels with its 95 % interval. With --int8, also what the network of the full retrain loses in 8-bit integers.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.dataset import LabelledPictures, load, synthetic_negatives
from shoe_classifier.ml.evaluation import interval
from shoe_classifier.ml.features import extract_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.gate import judge
from shoe_classifier.ml.zip_reader import Picture, ZipLimits
from shoe_classifier.services.training_process import finetune_in_process

_LIVE = Path("models/shipped/shoe_classifier.h5")
_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)


def main() -> None:
    """Run the experiment that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", action="append", required=True, help="FILE.zip:COUNT, the first of it")
    parser.add_argument("--test", action="append", type=Path, default=[])
    parser.add_argument("--int8", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pictures-", dir=".") as folder:
        task = _task(options.lesson, Path(folder))
        tests = {path.stem: load(read(path, _LIMITS), 224, list(task.labels)) for path in options.test}
        _run("quick", task, tests)
        _run("full", task, tests)
        if options.int8:
            _compare_int8(task, tests)


def _task(lessons: list[str], folder: Path) -> RetrainTask:
    live = bundles.read(_LIVE)
    labels = list(live.labels)
    pictures = load(_first(lessons), live.backbone().image_size, labels, file=folder / "pictures")
    features = extract_features(live.backbone(), pictures)
    print(f"{len(pictures)} pictures, labels {', '.join(labels)}", flush=True)
    new = np.ones(len(pictures), bool)
    return RetrainTask(_LIVE, folder / "new.h5", features, new, labels, time.monotonic() + 1e6, pictures)


def _first(lessons: list[str]) -> Iterator[Picture]:
    """The first pictures of each lesson, taken evenly over its files."""
    for lesson in lessons:
        name, count = lesson.rsplit(":", 1)
        pictures = list(read(Path(name), _LIMITS))
        yield from (pictures[i] for i in np.linspace(0, len(pictures) - 1, int(count)).astype(int))


def _run(method: str, task: RetrainTask, tests: dict[str, LabelledPictures]) -> None:
    started = time.monotonic()
    if method == "quick":
        evidence = finetune.retrain_head(replace(task, pictures=None), lambda event: None)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:
        evidence = finetune_in_process(task, lambda event: None)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    seconds = time.monotonic() - started
    verdict = "; ".join(judge(evidence)) or "published"
    print(f"{method}: {seconds:.0f} s, at most {peak / 1024:.0f} MB, {verdict}", flush=True)
    learned = evidence.learned
    print(f"  held out of the lesson: {learned['accuracy']:.3f} of {learned['samples']}", learned["accuracy_interval"])
    backbone = bundles.read(task.target).backbone()
    for name, pictures in tests.items():
        _print_right(name, _named(task.target, backbone, pictures), pictures.labels)


def _named(target: Path, backbone: Backbone, pictures: LabelledPictures) -> np.ndarray:
    """The label index that a model file's head names for each picture, with the features of a backbone."""
    features = np.stack([backbone.features(image) for image in pictures.images])
    named: np.ndarray = bundles.read(target).head.probabilities(features).argmax(axis=1)
    return named


def _print_right(name: str, named: np.ndarray, labels: np.ndarray) -> None:
    right = int((named == labels).sum())
    print(f"  {name}: {right / len(labels):.4f} of {len(labels)}", interval(right, len(labels)), flush=True)


def _compare_int8(task: RetrainTask, tests: dict[str, LabelledPictures]) -> None:
    from shoe_classifier.ml import architecture

    assert task.pictures is not None
    model = architecture.load(task.target)
    calibration = np.concatenate([task.pictures.images[:: max(1, len(task.pictures) // 170)], _synthetic()])
    single, integers = bundles.read(task.target).backbone(), Backbone(architecture.compile_backbone(model, calibration))
    for name, pictures in {"the lesson": task.pictures, **tests}.items():
        before, after = (_named(task.target, backbone, pictures) for backbone in (single, integers))
        print(f"int8 on {name}: the same label on {(before == after).mean():.4f}")
        _print_right(name, after, pictures.labels)


def _synthetic() -> np.ndarray:
    images: np.ndarray = synthetic_negatives(224).images[:]
    return images


if __name__ == "__main__":
    main()
