"""How many labels the review queue saves against random order.

    python experiments/review_queue.py MODEL.h5 POOL.zip [POOL.zip ...] [--test TEST.zip] [--chart CHART.svg]

The pictures of the pools stand for predictions, of which a person labels some. After the same few pictures of each new
label, one service is told what its queue shows first, the other one what comes at random. After each batch, each
learns all that it was told with a quick retrain, and names the pictures of TEST. Without TEST, a third of the pools,
chosen by hash, is held back for it. Accuracy is the mean over labels, so that frequent ones do not decide alone.
"""

import argparse
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.diversity import choose
from shoe_classifier.ml.features import LabelledFeatures, extract_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.zip_reader import ZipLimits
from shoe_classifier.services.review_queue import lead_ranks

BLUE, ORANGE = "#285aaa", "#dc8c32"
NO_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)


def main() -> None:
    """Run the simulation, print its figures, and draw them."""
    options = _options()
    pool, test, labels = _pictures(options.model, options.pools, options.test)
    known = len(bundles.read(options.model).labels)
    curves = {
        name: np.array([_simulate(options, pool, test, labels, known, name, seed) for seed in range(options.seeds)])
        for name in ("queue", "random")
    }
    sizes = len(_start(pool, known, options.start, 0)) + options.batch * np.arange(options.rounds + 1)
    for name, runs in curves.items():
        print(name, *(f"{size}:{mean:.1%}" for size, mean in zip(sizes, runs.mean(axis=0), strict=True)))
    _print_savings(sizes, curves["queue"].mean(axis=0), curves["random"].mean(axis=0))
    if options.chart:
        _draw(sizes, curves, options.chart, len(pool), len(test), options.title)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--test", type=Path)
    for name, default in (("start", 2), ("batch", 50), ("rounds", 8), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--title", default="Accuracy after teaching")
    return parser.parse_args()


def _pictures(
    model: Path, pools: list[Path], test: Path | None
) -> tuple[LabelledFeatures, LabelledFeatures, list[str]]:
    bundle = bundles.read(model)
    backbone, labels = bundle.backbone(), list(bundle.labels)

    def extracted(*archives: Path) -> LabelledFeatures:
        pictures = chain.from_iterable(read(archive, NO_LIMITS) for archive in archives)
        return extract_features(backbone, load(pictures, backbone.image_size, labels))

    pool = extracted(*pools)
    if test:
        return pool, extracted(test), labels
    held_back = np.array([int(value[-6:], 16) % 3 == 0 for value in pool.hashes])
    return pool[~held_back], pool[held_back], labels


def _start(pool: LabelledFeatures, known: int, each: int, seed: int) -> list[int]:
    """A few pictures, at random, of each label but those that the model knows."""
    order = np.random.default_rng(seed).permutation(len(pool))
    new = [label for label in np.unique(pool.labels) if label >= known]
    return [int(i) for label in new for i in order[pool.labels[order] == label][:each]]


def _simulate(
    options: argparse.Namespace,
    pool: LabelledFeatures,
    test: LabelledFeatures,
    labels: list[str],
    known: int,
    order: str,
    seed: int,
) -> list[float]:
    """Accuracy on the test pictures after each batch."""
    taught, rng, curve = _start(pool, known, options.start, seed), np.random.default_rng(seed + 100), []
    for _ in range(options.rounds + 1):
        head = _learn(options.model, pool[np.array(taught)], labels)
        guesses = head.probabilities(test.features.astype(np.float32)).argmax(axis=1)
        right = guesses == test.labels
        curve.append(float(np.mean([right[test.labels == label].mean() for label in np.unique(test.labels)])))
        left = np.setdiff1d(np.arange(len(pool)), taught)
        shown = _queue(head, pool, left) if order == "queue" else rng.permutation(left)
        taught += [int(i) for i in shown[: options.batch]]
    return curve


def _queue(head: Head, pool: LabelledFeatures, left: np.ndarray) -> np.ndarray:
    """What the queue shows first: uncertain and unknown pictures, then, when these are used up, the others."""
    features = pool.features[left].astype(np.float32)
    probabilities = head.probabilities(features)
    decisions = np.array(head.decide(features, probabilities))
    lead = np.diff(np.sort(probabilities, axis=1)[:, -2:], axis=1)[:, 0]
    scores = np.zeros(len(left))
    for kind in ("uncertain", "unknown"):
        scores[decisions == kind] = lead_ranks(lead[decisions == kind])
    accepted = decisions == "accepted"
    scores[accepted] = lead_ranks(lead[accepted]) * 1e-3
    choices = choose(scores, list(features), list(left))
    return left[[choice.shown for choice in choices]]


def _learn(model: Path, pictures: LabelledFeatures, labels: list[str]) -> Head:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "retrained.h5"
        task = RetrainTask(model, target, pictures, np.ones(len(pictures), bool), labels, time.monotonic() + 3600)
        finetune.retrain_head(task, lambda event: None)
        head = bundles.read(target).head
    assert isinstance(head, Head)
    return head


def _print_savings(sizes: np.ndarray, queue: np.ndarray, random: np.ndarray) -> None:
    """For what random order reaches at each size: how many labels the queue needs, by interpolation."""
    best = np.maximum.accumulate(queue)
    for size, accuracy in zip(sizes[1:], random[1:], strict=True):
        needed = np.interp(accuracy, best, sizes) if accuracy <= best[-1] else float("nan")
        start = sizes[0]
        print(f"{accuracy:.1%}: random {size - start}, queue {needed - start:.0f} labels")


def _draw(sizes: np.ndarray, curves: dict[str, np.ndarray], path: Path, pool: int, tested: int, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    styles = {"queue": (BLUE, "o", "-", "in the order of the queue"), "random": (ORANGE, "s", "--", "in random order")}
    for name, (colour, marker, line, label) in styles.items():
        runs = curves[name] * 100
        axes.plot(sizes, runs.mean(axis=0), color=colour, marker=marker, linestyle=line, label=label)
        axes.fill_between(sizes, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set(
        title=title, xlabel=f"labelled pictures, of {pool}", ylabel=f"% right of {tested} others, mean over labels"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    plt.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
