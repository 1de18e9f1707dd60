"""Teach a model good and poisoned lessons of several sizes, and print which of them its gate publishes.

    python experiments/gate_table.py models/shipped/shoe_classifier.h5 DATASETS [--rounds 20] [--cache FOLDER]

DATASETS is a folder with the ZIPs of labelled pictures that the lessons are made of: `shoes_train.zip`, of which only
the pictures that the model does not remember are taken, `phone_shoes_val.zip`, `clothing_teach.zip`, `not_shoes.zip`
and `fewshot_caltech101_train.zip`. Features are computed once and kept in the folder of --cache.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.evidence import named
from shoe_classifier.ml.features import LabelledFeatures, extract_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.gate import judge
from shoe_classifier.ml.head import BACKGROUND
from shoe_classifier.ml.replay_buffer import keys_of
from shoe_classifier.ml.zip_reader import ZipLimits
from shoe_classifier.types import NONE_OF_THESE

SIZES = (5, 14, 30, 80, 300)
_NO_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)


@dataclass(frozen=True)
class Lesson:
    """Pictures with the names of their labels, `n` of each."""

    pictures: LabelledFeatures
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, keep: np.ndarray) -> "Lesson":
        return Lesson(self.pictures[keep], self.names[keep])

    def only(self, *labels: str) -> "Lesson":
        return self[np.isin(self.names, labels)]

    def called(self, names: Sequence[str]) -> "Lesson":
        return Lesson(self.pictures, np.array(names, object))

    def all_called(self, name: str) -> "Lesson":
        return self.called([name] * len(self))


Make = Callable[[int], Lesson | None]  # the lesson of a size; None where there are too few pictures


def main() -> None:
    """Print the table, then the rounds of small wrong lessons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--rounds", type=int, default=20, help="small wrong lessons in a row")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "gate_table")
    options = parser.parse_args()
    sets = {name: _read_set(options, name) for name in
            ("shoes_train", "phone_shoes_val", "clothing_teach", "not_shoes", "fewshot_caltech101_train")}  # fmt: skip
    remembered = bundles.read_replay_buffer(options.model).keys
    product = sets["shoes_train"][~np.isin(keys_of(sets["shoes_train"].pictures.hashes), remembered)]
    rng = np.random.default_rng(0)
    for name, wanted, make in _lessons(sets | {"product": product}, rng):
        print(
            f"| {name} | {wanted} | {' | '.join(_verdict(options.model, make, size) for size in SIZES)} |", flush=True
        )
    for kind, lesson, size in (
        ("product pictures", product, 8),
        ("photos", sets["phone_shoes_val"], 2),
        ("product pictures", product, 14),
    ):
        losses = _lost_by_rounds(options.model, lesson.only("Boot", "Shoe"), size, options.rounds, rng)
        print(f"{size} wrong {kind} at a time: {losses}", flush=True)


def _lessons(sets: dict[str, Lesson], rng: np.random.Generator) -> list[tuple[str, str, Make]]:
    """Each lesson's name, what is wanted of the gate, and what makes it at a size."""
    product, photos, clothes = sets["product"], sets["phone_shoes_val"], sets["clothing_teach"]
    boots, things = product.only("Boot"), sets["fewshot_caltech101_train"]
    table = [
        ("product pictures", "publish", _some(product, rng)),
        ("photos of shoes", "publish", _some(photos, rng)),
        ("clothes", "publish", _some(clothes, rng)),
        *((f"things, {shots} of each label", "publish", _each(things, shots)) for shots in (1, 2, 5, 10)),
        ("clothes called none of these", "publish", _some(sets["not_shoes"].all_called(NONE_OF_THESE), rng)),
        ("boots called none of these", "reject", _some(boots.all_called(NONE_OF_THESE), rng)),
        ("skirts called Boot", "reject", _some(clothes.only("skirt").all_called("Boot"), rng)),
        ("boots called Sandal", "reject", _some(boots.all_called("Sandal"), rng)),
        ("one picture, a new label", "reject", _saved_again(clothes.only("hat"), ["hat"])),
        ("one picture, two labels in turn", "reject", _saved_again(boots, ["Boot", "Sandal"])),
    ]
    for name, lesson in (("product pictures", product), ("photos of shoes", photos), ("clothes", clothes)):
        table.append((f"{name}, 10% with a wrong label", "either", _flipped(lesson, 0.1, rng)))
        table.append((f"{name}, 30% with a wrong label", "reject", _flipped(lesson, 0.3, rng)))
    for name, lesson in (("product pictures", product), ("photos of shoes", photos)):
        table.append((f"{name}, all with a wrong label", "reject", _flipped(lesson, 1.0, rng)))
    return table


def _some(lesson: Lesson, rng: np.random.Generator) -> Make:
    shuffled = lesson[rng.permutation(len(lesson))]
    return lambda size: shuffled[np.arange(size)] if size <= len(shuffled) else None


def _flipped(lesson: Lesson, share: float, rng: np.random.Generator) -> Make:
    """The first pictures have the label that follows theirs in the alphabet."""
    take, labels = _some(lesson, rng), sorted(set(lesson.names))

    def make(size: int) -> Lesson | None:
        chosen = take(size)
        if chosen is None:
            return None
        turned = [labels[(labels.index(name) + 1) % len(labels)] for name in chosen.names]
        return chosen.called([*turned[: round(share * size)], *chosen.names[round(share * size) :]])

    return make


def _each(lesson: Lesson, shots: int) -> Make:
    """So many pictures of each label; of as many labels as the size allows."""
    firsts = [np.flatnonzero(lesson.names == label)[:shots] for label in sorted(set(lesson.names))]
    rows = np.concatenate(firsts)
    return lambda size: lesson[rows[:size]] if size <= len(rows) else None


def _saved_again(lesson: Lesson, names: list[str]) -> Make:
    """One picture, saved again and again, with these names in turn."""

    def make(size: int) -> Lesson:
        again = lesson[np.zeros(size, int)]
        hashes = [hashlib.sha256(f"{again.pictures.hashes[0]} {i}".encode()).hexdigest() for i in range(size)]
        return Lesson(replace(again.pictures, hashes=hashes), again.names).called((names * size)[:size])

    return make


def _verdict(model: Path, make: Make, size: int) -> str:
    lesson = make(size)
    if lesson is None or not len(lesson):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        reasons = _teach(model, Path(folder) / "candidate.h5", lesson, np.ones(len(lesson), bool))
    return "rejected" if reasons else "published"


def _teach(model: Path, target: Path, lesson: Lesson, new: np.ndarray) -> list[str]:
    """Retrain quickly. Returns the gate's reasons against the candidate."""
    labels = list(bundles.read(model).labels)
    labels += [name for name in dict.fromkeys(lesson.names) if name not in (*labels, NONE_OF_THESE)]
    indices = [BACKGROUND if name == NONE_OF_THESE else labels.index(name) for name in lesson.names]
    features = replace(lesson.pictures, labels=np.array(indices, np.int64))
    task = RetrainTask(model, target, features, new, labels, time.monotonic() + 600)
    return judge(finetune.retrain_head(task, lambda event: None))


def _lost_by_rounds(model: Path, lesson: Lesson, size: int, rounds: int, rng: np.random.Generator) -> str:
    """Call `size` pictures Sandal, again and again, each time on top of what was published; say what that costs."""
    wrong = lesson[rng.permutation(len(lesson))[: rounds * size]].all_called("Sandal")
    rounds = len(wrong) // size
    learned = np.zeros(0, int)
    with tempfile.TemporaryDirectory() as folder:
        live = model
        for number in range(rounds):
            rows, target = np.append(learned, np.arange(size) + number * size), Path(folder) / f"{number}.h5"
            if not _teach(live, target, wrong[rows], np.arange(len(rows)) >= len(learned)):
                live, learned = target, rows
        before, after = _recalls(model, model), _recalls(model, live)
    changes = ", ".join(f"{label} {100 * (after[label] - before[label]):+.1f}" for label in before)
    return f"{len(learned) // size} of {rounds} published; recall on the anchors {changes} points"


def _recalls(first: Path, model: Path) -> dict[str, float]:
    """The recall of each of the first model's labels on its anchors."""
    buffer = bundles.read_replay_buffer(first)
    anchors = buffer[buffer.held_out & (buffer.labels != BACKGROUND)]
    right = named(bundles.read(model).head, anchors)
    return {label: right[anchors.labels == i].mean() for i, label in enumerate(bundles.read(first).labels)}


def _read_set(options: argparse.Namespace, name: str) -> Lesson:
    """The features of a ZIP's pictures, computed once."""
    kept = options.cache / f"{name}.npz"
    if not kept.exists():
        labels: list[str] = []
        backbone = bundles.read(options.model).backbone()
        pictures = load(read(options.datasets / f"{name}.zip", _NO_LIMITS), backbone.image_size, labels)
        found = extract_features(backbone, pictures)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, features=found.features, thumbnails=found.thumbnails, hashes=np.array(found.hashes),
                 labels=np.array(labels)[found.labels])  # fmt: skip
    stored = np.load(kept)
    names = stored["labels"].astype(object)
    pictures = LabelledFeatures(
        stored["features"], stored["thumbnails"], np.zeros(len(names), np.int64), stored["hashes"].tolist()
    )
    return Lesson(pictures, names)


if __name__ == "__main__":
    main()
