"""Training and evaluation on labelled pictures of this machine's disk."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shoe_classifier.errors import AppError, InvalidRequest
from shoe_classifier.files import replacing
from shoe_classifier.ml import finetune
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.dataset import IMAGE_SIZE, LabelledPictures, load, synthetic_negatives, without_lookalikes
from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.live_model import Model
from shoe_classifier.ml.plots import draw_mistakes, draw_report
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.zip_reader import OWN_DISK, Picture
from shoe_classifier.types import Report, TrainingEvent

if TYPE_CHECKING:  # it imports TensorFlow
    from shoe_classifier.ml.training import TrainingConfig

_NEGATIVES_PREFIX = "background: "  # no picture can have such a label, so that a folder's name never collides


@dataclass(frozen=True)
class OfflineTraining:
    """What to train from, how long, and where the model file goes.

    Attributes:
        data: folder or ZIP of labelled folders.
        out: the `.h5` file; it appears when it is complete.
        photos: pictures with the same labels, as users take them.
        backgrounds: folders of negatives: pictures with none of the labels.
        exclude: pictures that must not be trained on; negatives that look like one of them are left out, too.
        image_size: edge of the network's pictures, in pixels.
        epochs: 0 fits only the head.
        steps: batches in an epoch.
        frozen: number of the lowest blocks that keep the weights of `start`.
        start: model file whose network is trained further.
        checkpoints: folder from which a run that was cut off goes on.
    """

    data: Path
    out: Path
    photos: Sequence[Path] = ()
    backgrounds: Sequence[Path] = ()
    exclude: Sequence[Path] = ()
    image_size: int = IMAGE_SIZE
    epochs: int = 8
    steps: int = 100
    frozen: int = 11
    start: Path | None = None
    checkpoints: Path | None = None


@dataclass(frozen=True)
class _TrainingSet:
    """All pictures at one size. Negatives have label indices after those of `labels`."""

    labels: list[str]
    pictures: LabelledPictures
    photos: LabelledPictures | None
    negatives: LabelledPictures | None


def train_from_folders(plan: OfflineTraining, report: Report) -> Bundle:
    """Train a network and write its model file.

    Raises:
        InvalidRequest: there are pictures of fewer than two labels, or photos of other labels.
        InvalidZip, TooLarge: see `folder_reader.read`.
    """
    from shoe_classifier.ml import training

    config = training.TrainingConfig(
        image_size=plan.image_size, epochs=plan.epochs, steps=plan.steps, frozen=plan.frozen
    )
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    model = _train(plan, config, report)
    with _picture_folder(plan) as folder, replacing(plan.out) as part:
        small = _load(plan, config.image_size, config.image_size, report, folder)
        return finetune.build_model_file(
            model, part, small.pictures, small.photos, small.negatives, small.labels, report
        )


@contextmanager
def _picture_folder(plan: OfflineTraining) -> Iterator[Path]:
    """A folder for decoded pictures, some gigabytes, beside the model file: the system's own may be in memory."""
    with tempfile.TemporaryDirectory(prefix=".pictures-", dir=plan.out.parent) as folder:
        yield Path(folder)


def _train(plan: OfflineTraining, config: "TrainingConfig", report: Report) -> Any:
    """Return the trained Keras network."""
    from shoe_classifier.ml import architecture, training

    size = config.load_size if plan.epochs else config.image_size
    with _picture_folder(plan) as folder:
        large = _load(plan, size, config.image_size, report, folder)
        return training.train(
            large.pictures.split()[0],
            large.photos.split()[0] if large.photos else None,
            large.negatives.split()[0] if large.negatives else None,
            len(large.labels),
            config,
            report,
            plan.checkpoints,
            architecture.load(plan.start) if plan.start else None,
        )


def _load(plan: OfflineTraining, image_size: int, compared_size: int, report: Report, folder: Path) -> _TrainingSet:
    """Load all pictures into files of a folder.

    They are loaded at `image_size`; those that negatives must not look like at `compared_size`, both in pixels.
    """
    excluded = frozenset(hashlib.sha256(picture.data).hexdigest() for path in plan.exclude for picture in _read(path))
    labels: list[str] = []

    def load_labelled(paths: Sequence[Path], names: list[str], file: str) -> LabelledPictures:
        report(TrainingEvent("collect", 0.0, f"Reading {', '.join(p.name for p in paths)} at {image_size} pixels."))
        given = chain.from_iterable(map(_read, paths))
        return load(given, image_size, names, exclude=excluded, file=folder / file)

    pictures = load_labelled([plan.data], labels, "pictures")
    if len(labels) < 2:
        raise InvalidRequest(
            f"Expected pictures of two or more labels in {plan.data}; received {', '.join(labels) or 'none'}."
        )
    photo_labels = list(labels)
    photos = load_labelled(plan.photos, photo_labels, "photos") if plan.photos else None
    if photo_labels != labels:
        raise InvalidRequest(f"Expected photos of {', '.join(labels)}; received others: {photo_labels[len(labels) :]}.")
    negatives = None
    if plan.backgrounds:
        lookalikes = [load(_read(path), compared_size, []) for path in plan.exclude]
        file = folder / "negatives"
        negatives = _load_negatives(plan.backgrounds, image_size, len(labels), excluded, lookalikes, file)
    return _TrainingSet(labels, pictures, photos, negatives)


def _load_negatives(
    paths: Sequence[Path],
    image_size: int,
    first: int,
    excluded: frozenset[str],
    lookalikes: Sequence[LabelledPictures],
    file: Path,
) -> LabelledPictures:
    """Load folders of negatives into a file, and add synthetic ones; their label indices start at `first`."""
    names = [str(i) for i in range(first)]  # stand for the model's own labels
    files = chain.from_iterable(map(_read, paths))
    pictures = (replace(picture, label=_NEGATIVES_PREFIX + picture.label) for picture in files)
    negatives = load(pictures, image_size, names, exclude=excluded, file=file)
    for others in lookalikes:
        negatives = without_lookalikes(negatives, others)
    synthetic = synthetic_negatives(image_size)
    return negatives.joined(replace(synthetic, labels=np.full(len(synthetic), len(names))))


def evaluate_folder(model: Model, data: Path, report: Report, out: Path | None = None) -> dict[str, Any]:
    """Measure a model on labelled pictures; those that cannot be decoded are left out.

    Args:
        data: folder or ZIP of labelled folders.
        out: folder for `report.png` and `mistakes.png`, if they are wanted.

    Returns:
        Metrics as `evaluation.evaluate` returns them.

    Raises:
        InvalidRequest: there are no pictures, or pictures of labels that the model does not know.
    """
    labels = list(model.bundle.labels)
    files: dict[str, bytes] = {}
    probabilities, label_indices, decisions = [], [], []
    for picture in _read(data):
        try:
            prediction = model.classify(decode(picture.data, model.size, name=picture.name))
        except AppError:
            continue
        if picture.label not in labels:
            raise InvalidRequest(f"Expected pictures of {', '.join(labels)}; received one of {picture.label!r}.")
        probabilities.append([prediction.probabilities[name] for name in labels])
        label_indices.append(labels.index(picture.label))
        decisions.append(prediction.decision)
        files[picture.name] = picture.data
        report(TrainingEvent("judge", 0.0, f"Picture {len(files)}."))
    if not files:
        raise InvalidRequest(f"Expected pictures of {', '.join(labels)} in {data}; received no pictures.")
    metrics = evaluate(np.array(probabilities), np.array(label_indices), labels, decisions, list(files))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.png").write_bytes(draw_report(f"Version {model.bundle.version} on {data.name}", metrics))
        (out / "mistakes.png").write_bytes(draw_mistakes(metrics["mistakes"], files))
    return metrics


def _read(path: Path) -> Iterator[Picture]:
    return read(path, OWN_DISK)
