"""Small wrong lessons in a row, on features that are drawn. `experiments/gate_table.py` does the same with pictures."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.pictures import SHAPES
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune, head_fitting
from shoe_classifier.ml.evidence import named
from shoe_classifier.ml.features import LabelledFeatures, no_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import judge
from shoe_classifier.ml.head_fitting import Samples
from shoe_classifier.ml.replay_buffer import NO_LATENT, ReplayBuffer

ROUNDS = 20
WIDTH = 32
LEARNED, HELD_OUT, FRESH = 300, 200, 1000  # features of each label
BOOT, SANDAL = 0, 1
CENTRES = 2.5 * np.eye(len(SHAPES), WIDTH)  # of the labels, whose features overlap as those of real pictures do


def drawn(label: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Features that show a label, `float16 (count, WIDTH)`; nine in ten are nearest to its centre."""
    return (CENTRES[label] + rng.normal(size=(count, WIDTH))).astype(np.float16)


def write_first_model(source: Path, target: Path, rng: np.random.Generator) -> None:
    """A model of drawn features, a third of them from photos, with its replay buffer."""
    each = LEARNED + HELD_OUT
    count = each * len(SHAPES)
    labels, held_out = np.repeat(np.arange(len(SHAPES)), each), np.arange(count) % each < HELD_OUT
    features = np.concatenate([drawn(label, each, rng) for label in range(len(SHAPES))])
    photo, everywhere = np.arange(count) % 3 == 0, np.ones(count, bool)
    samples = Samples(features.astype(np.float32), labels, np.ones(count), held_out, photo, everywhere)
    head, _ = head_fitting.fit(samples, len(SHAPES))
    latents, keys = bundles.read_replay_buffer(source), rng.integers(0, 1 << 63, count).astype(np.uint64)
    buffer = ReplayBuffer(
        features, labels.astype(np.int16), held_out, photo, everywhere, ~everywhere, keys,
        latents.latents[:0], np.full(count, NO_LATENT, np.int32), latents.latent_scale,
    )  # fmt: skip
    bundle = replace(bundles.read(source), head=head, labels=SHAPES)
    bundles.derive(source, target, bundle, replace(buffer, named=named(head, buffer)))


def boots_called_sandal(count: int, rng: np.random.Generator) -> LabelledFeatures:
    thumbnails = rng.integers(0, 256, (count, 16, 16), np.uint8)
    hashes = [hashlib.sha256(rng.bytes(32)).hexdigest() for _ in range(count)]
    return LabelledFeatures(drawn(BOOT, count, rng), thumbnails, np.full(count, SANDAL), hashes)


def joined(first: LabelledFeatures, second: LabelledFeatures) -> LabelledFeatures:
    columns = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("features", "thumbnails"))
    return LabelledFeatures(*columns, np.append(first.labels, second.labels), first.hashes + second.hashes)


def poison(first: Path, folder: Path, size: int, rng: np.random.Generator, *, gated: bool) -> tuple[Path, int]:
    """Teach wrong lessons, each on top of what was published; returns the live model, and how many were published.

    What is rejected is taken back: it would otherwise make the next lesson larger, and easier to notice.
    """
    live, learned, published = first, no_features(WIDTH), 0
    for number in range(ROUNDS):
        lesson = joined(learned, boots_called_sandal(size, rng))
        new, target = np.arange(len(lesson)) >= len(learned), folder / f"{number}.h5"
        task = RetrainTask(live, target, lesson, new, list(SHAPES), time.monotonic() + 600)
        evidence = finetune.retrain_head(task, lambda event: None)
        if not gated or not judge(evidence):
            live, learned, published = target, lesson, published + 1
    return live, published


def recalls(model: Path, samples: list[np.ndarray]) -> np.ndarray:
    """In per cent, of each label; of their features `float (n, WIDTH)`."""
    head = bundles.read(model).head
    right = [head.logits(features.astype(np.float32)).argmax(axis=1) == i for i, features in enumerate(samples)]
    return np.round([100 * each.mean() for each in right], 6)


@pytest.mark.parametrize("size", [2, 8])
def test_wrong_lessons_in_a_row_cost_no_label_more_than_three_points(
    size: int, model_file: Path, tmp_path: Path
) -> None:
    rng, first = np.random.default_rng(size), tmp_path / "first.h5"
    write_first_model(model_file, first, rng)
    buffer = bundles.read_replay_buffer(first)
    anchors = [buffer.features[buffer.held_out & (buffer.labels == label)] for label in range(len(SHAPES))]
    fresh = [drawn(label, FRESH, rng) for label in range(len(SHAPES))]  # which no gate has seen
    live, published = poison(first, tmp_path, size, rng, gated=True)
    assert 0 < published < ROUNDS
    assert (recalls(live, anchors) >= recalls(first, anchors) - 3).all()
    assert (recalls(live, fresh) >= recalls(first, fresh) - 6).all()  # 200 anchors tell no better


def test_without_the_gate_they_add_up(model_file: Path, tmp_path: Path) -> None:
    rng, first = np.random.default_rng(0), tmp_path / "first.h5"
    write_first_model(model_file, first, rng)
    fresh = [drawn(label, FRESH, rng) for label in range(len(SHAPES))]
    live, _ = poison(first, tmp_path, 8, rng, gated=False)
    assert recalls(live, fresh)[BOOT] < recalls(first, fresh)[BOOT] - 10
