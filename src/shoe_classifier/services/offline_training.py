"""Training and measuring, on labelled pictures of this machine's disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.errors import AppError, InvalidRequest
from shoe_classifier.ml import finetune
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.dataset import LabelledPictures, load, synthetic_negatives, without_lookalikes
from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.live_model import Model
from shoe_classifier.ml.plots import draw_mistakes, draw_report
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.zip_reader import ZipLimits
from shoe_classifier.storage.model_files import flush
from shoe_classifier.types import Report, TrainingEvent

_NO_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)  # the user's own disk
_BACKGROUND_PREFIX = "background: "  # no label that a picture can have, so a folder's name never collides


def train_from_folders(
    data: Path,
    out: Path,
    *,
    photos: Path | None,
    backgrounds: Path | None,
    exclude: Sequence[Path],
    epochs: int,
    steps: int,
    frozen: int,
    start: Path | None,
    checkpoints: Path | None,
    report: Report,
) -> Bundle:
    """Train a network and write its model file.

    Args:
        data: folder or ZIP of labelled folders.
        out: where the `.h5` goes; it appears when it is whole.
        photos: few pictures with the same labels, as users take them.
        backgrounds: folders of pictures with none of the labels.
        exclude: pictures that must not be trained on; of backgrounds, also those that look the same.
        epochs, steps: length of the training; an epoch has so many batches.
        start: model file whose network is trained further, except its first `frozen` blocks.
        checkpoints: folder from which a run that was cut off goes on.

    Raises:
        InvalidRequest: fewer than two labels, or no pictures.
    """
    from shoe_classifier.ml import architecture, training

    recipe = training.TrainingConfig(epochs=epochs, steps=steps, frozen=frozen)
    excluded = frozenset(hashlib.sha256(p.data).hexdigest() for path in exclude for p in read(path, _NO_LIMITS))
    labels: list[str] = []

    def pictures(path: Path | None, side: int, names: list[str]) -> LabelledPictures | None:
        report(TrainingEvent("collect", 0.0, f"Reading {path.name} for {side} pixels." if path else ""))
        return load(read(path, _NO_LIMITS), side, names, exclude=excluded) if path else None

    large, small = pictures(data, recipe.load_size, labels), pictures(data, recipe.image_size, labels)
    if large is None or small is None or len(labels) < 2:
        raise InvalidRequest(f"Expected pictures of two labels or more in {data}; received {labels or 'none'}.")
    known = list(labels)
    large_photos, small_photos = pictures(photos, recipe.load_size, known), pictures(photos, recipe.image_size, known)
    if known != labels:
        raise InvalidRequest(f"Expected photos of the labels {labels}; received {known[len(labels) :]}, too.")
    behind = None
    if backgrounds:
        looks = [load(read(path, _NO_LIMITS), recipe.image_size, []) for path in exclude]
        behind = _backgrounds(backgrounds, recipe.load_size, len(labels), excluded, looks)
    model = training.train(
        large.split()[0],
        large_photos.split()[0] if large_photos else None,
        behind.split()[0] if behind else None,
        len(labels),
        recipe,
        report,
        checkpoints,
        architecture.load(start) if start else None,
    )
    small_behind = _backgrounds(backgrounds, recipe.image_size, len(labels), excluded, looks) if backgrounds else None
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".candidate-{out.stem}.h5")
    bundle = finetune.build_model_file(model, part, small, small_photos, small_behind, labels, report)
    flush(part)
    part.replace(out)
    return bundle


def evaluate_folder(model: Model, data: Path, report: Report, out: Path | None = None) -> dict[str, Any]:
    """Measure a model on labelled pictures.

    Args:
        out: folder for `report.png` and `mistakes.png`, if they are wanted.

    Returns:
        Metrics as `evaluation.evaluate` gives them.

    Raises:
        InvalidRequest: no pictures, or labels that the model does not know.
    """
    labels = list(model.bundle.labels)
    files: dict[str, bytes] = {}
    rows, places, decisions = [], [], []
    for picture in read(data, _NO_LIMITS):
        try:
            answer = model.classify(decode(picture.data, model.size, name=picture.name))
        except AppError:
            continue
        if picture.label not in labels:
            raise InvalidRequest(f"Expected pictures of the labels {labels}; received {picture.label!r}.")
        rows.append([answer.probabilities[name] for name in labels])
        places.append(labels.index(picture.label))
        decisions.append(answer.decision)
        files[picture.name] = picture.data
        report(TrainingEvent("judge", 0.0, f"Picture {len(rows)}"))
    if not rows:
        raise InvalidRequest(f"Expected pictures of the labels {labels}; received no pictures.")
    metrics = evaluate(np.array(rows), np.array(places), labels, decisions, list(files))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.png").write_bytes(draw_report(f"Version {model.bundle.version} on {data.name}", metrics))
        (out / "mistakes.png").write_bytes(draw_mistakes(metrics["mistakes"], files))
    return metrics


def _backgrounds(
    path: Path, side: int, first: int, excluded: frozenset[str], looks: Sequence[LabelledPictures]
) -> LabelledPictures:
    names = [str(i) for i in range(first)]  # their labels come after those that the model keeps
    pictures = (replace(picture, label=_BACKGROUND_PREFIX + picture.label) for picture in read(path, _NO_LIMITS))
    behind = load(pictures, side, names, exclude=excluded)
    for others in looks:
        behind = without_lookalikes(behind, others)
    nothing = synthetic_negatives(side)
    return behind.joined(replace(nothing, labels=np.full(len(nothing), len(names))))
