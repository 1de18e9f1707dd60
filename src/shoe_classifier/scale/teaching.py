"""A head fitted to many pictures, by their features: far more than the replay buffer holds."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.errors import InvalidRequest
from shoe_classifier.files import fsync
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.features import LabelledFeatures
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.head import BACKGROUND
from shoe_classifier.ml.replay_buffer import ReplayBuffer, keys_of, rank
from shoe_classifier.scale.features import feature_parts
from shoe_classifier.scale.job import require_parquet
from shoe_classifier.scale.output import Output, open_output
from shoe_classifier.services.factories import live_model_file
from shoe_classifier.settings import Settings
from shoe_classifier.types import NONE_OF_THESE, Report


@dataclass(frozen=True)
class Taught:
    """What became of a lesson.

    Attributes:
        evidence: see `finetune.retrain_head`.
        reasons: why the gate rejects the new model; empty when it may be published.
        version: of the new model.
        pictures: how many the head was fitted to or judged by.
        of: how many labelled pictures there are.
    """

    evidence: GateEvidence
    reasons: list[str]
    version: str
    pictures: int
    of: int


def teach(features: str, target: Path, settings: Settings, report: Report, *, most: int, force: bool = False) -> Taught:
    """Fit a head to the pictures in a folder of features, and write the new model if the gate accepts it.

    Args:
        features: the folder, see `features.collect`; its pictures are labelled by their folders or lists.
        target: the model file.
        most: how many pictures to learn from. Of more, as many of each label are taken, always the same ones.
        force: write a model that the gate rejects, too.

    Raises:
        InvalidRequest: the folder has no features of the live model's backbone with labels.
    """
    require_parquet()
    source, folder = live_model_file(settings), open_output(features)
    live = bundles.read(source)
    labels, names, of = _choose(folder, live, most)
    lesson, latents = _read(folder, live, labels, names, bundles.read_replay_buffer(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        candidate = Path(place) / target.name
        deadline = time.monotonic() + settings.retrain_max_seconds
        task = RetrainTask(source, candidate, lesson, np.ones(len(lesson), bool), names, deadline, latents=latents)
        evidence = finetune.retrain_head(task, report)
        reasons, version = judge(evidence), bundles.read(candidate).version
        if force or not reasons:
            fsync(candidate)
            candidate.replace(target)
    return Taught(evidence, reasons, version, len(lesson), of)


def _choose(folder: Output, live: bundles.Bundle, most: int) -> tuple[dict[str, int], list[str], int]:
    """Choose pictures, as many of each label as there is room for.

    Returns:
        The label indices of those chosen by their SHA-256, the names of all labels, and how many pictures there are.
    """
    names = list(live.labels)
    index = {name: number for number, name in enumerate(names)} | {NONE_OF_THESE: BACKGROUND}
    hashes: list[str] = []
    labels: list[int] = []
    for table in feature_parts(folder, live.backbone_sha256, ["sha256", "label"]):
        for row in table.to_pylist():
            if row["label"] is None:
                continue
            if row["label"] not in index:
                index[row["label"]] = len(names)
                names.append(row["label"])
            hashes.append(row["sha256"])
            labels.append(index[row["label"]])
    if not hashes:
        raise InvalidRequest(
            f"Expected features of labelled pictures, of the live model's backbone, in {folder.address}; there are "
            "none. `scale features` computes them."
        )
    chosen = fair_share(np.array(labels), keys_of(hashes), most)
    return {hashes[i]: labels[i] for i in chosen}, names, len(hashes)


def fair_share(labels: np.ndarray, keys: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most so many samples, `int (m,)`: as many of each label as there are, or as there is room for.

    Args:
        labels: `int (n,)`.
        keys: `uint64 (n,)`; within a label, these decide, as in a replay buffer.
    """
    order = np.lexsort((rank(keys), labels))
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))  # within the label
    return np.sort(order[np.argsort(place, kind="stable")[:most]])


def _read(
    folder: Output, live: bundles.Bundle, chosen: dict[str, int], names: list[str], stored: ReplayBuffer
) -> tuple[LabelledFeatures, ReplayBuffer]:
    """Read what was chosen: the features of all, and as samples those that have latents."""
    width, shape = stored.features.shape[1], stored.latents.shape[1:]
    features, thumbnails = np.empty((len(chosen), width), np.float16), np.empty((len(chosen), 16, 16), np.uint8)
    hashes: list[str] = []
    latents: dict[int, Any] = {}
    for table in feature_parts(folder, live.backbone_sha256, ["sha256", "features", "thumbnail", "latent"]):
        columns = [table[name].to_pylist() for name in ("sha256", "thumbnail", "latent")]
        matrix = np.asarray(table["features"].combine_chunks().flatten(), np.float16).reshape(-1, width)
        for row, (sha256, thumbnail, latent) in zip(matrix, zip(*columns, strict=True), strict=True):
            if sha256 not in chosen:
                continue
            features[len(hashes)] = row
            thumbnails[len(hashes)] = np.frombuffer(thumbnail, np.uint8).reshape(16, 16)
            if latent is not None:
                latents[len(hashes)] = np.frombuffer(latent, np.int8).reshape(shape)
            hashes.append(sha256)
    labels = np.array([chosen[sha256] for sha256 in hashes], np.int64)
    lesson = LabelledFeatures(features, thumbnails, labels, hashes)
    return lesson, _with_latents(lesson, latents, stored)


def _with_latents(lesson: LabelledFeatures, latents: dict[int, Any], stored: ReplayBuffer) -> ReplayBuffer:
    """The samples with latents, by their place in the lesson."""
    places = np.array(sorted(latents), np.int64)
    rows = np.array([latents[place] for place in places], np.int8).reshape(-1, *stored.latents.shape[1:])
    samples = finetune.samples_of(lesson[places], stored)
    return replace(samples, latents=rows, latent_rows=np.arange(len(places), dtype=np.int32))
