"""The few-shot benchmark: how well the service learns labels from a few pictures of each."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoe_classifier.errors import InvalidRequest
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.evaluation import interval
from shoe_classifier.ml.features import LabelledFeatures, extract_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.zip_reader import OWN_DISK, Picture
from shoe_classifier.types import Report, TrainingEvent

_PROBE_INVERSE_PENALTY = 0.01  # of the linear probe, on features of unit variance


@dataclass(frozen=True)
class FewShotResult:
    """One row of the benchmark. Each accuracy is 0..1, with its 95 % interval.

    Attributes:
        shots: pictures of each label that were taught.
        pictures: how many these are in all.
        tested: how many pictures judge the accuracy.
        accuracy, accuracy_interval: of the service after a quick retrain. It also knows the labels that it had before.
        seconds: that the service took to learn: decoding, features and quick retrain.
        probe_accuracy, probe_interval: of a linear probe, a logistic regression on the backbone's features, which
            knows only the labels of the benchmark.
    """

    shots: int
    pictures: int
    tested: int
    accuracy: float
    accuracy_interval: list[float]
    seconds: float
    probe_accuracy: float
    probe_interval: list[float]

    def __str__(self) -> str:
        accuracy = _percent(self.accuracy, self.accuracy_interval)
        probe = _percent(self.probe_accuracy, self.probe_interval)
        taught = f"{self.shots} of each label, {self.pictures} in all, learned in {self.seconds:.1f} s"
        return f"{taught}: accuracy {accuracy}; linear probe {probe}; {self.tested} pictures tested"


def measure_few_shot(
    model: Path, train: Path, test: Path, shots: Sequence[int], report: Report, pretrained: Path | None = None
) -> list[FewShotResult]:
    """Teach a copy of a model the first pictures of each label, in the order of their names, and test it.

    Args:
        model: the model file; it is not changed.
        train: folder or ZIP of labelled folders to teach from.
        test: the same labels, with other pictures.
        shots: how many pictures of each label to teach, one result for each number.
        report: receives the progress.
        pretrained: Keras file of the untuned network, on whose features the linear probe is fitted. It is compiled with
            TensorFlow. Without it, the probe takes the model's own features.

    Raises:
        InvalidRequest: there are pictures of fewer than two labels, or pictures to test whose labels are not taught.
        InvalidModel: the file is no model of this service.
        InvalidZip, TooLarge: see `folder_reader.read`.
    """
    live = bundles.read(model)
    lessons = [_first(train, number) for number in shots]
    taught = {picture.label for lesson in lessons for picture in lesson}
    if len(taught) < 2:
        raise InvalidRequest(f"Expected pictures of two or more labels in {train}; received {len(taught)}.")
    names = list(live.labels)
    tested = list(read(test, OWN_DISK))
    judge = _extract(live.backbone(), tested, names, report)
    others = {names[label] for label in judge.labels} - taught
    if others:
        raise InvalidRequest(
            f"Expected pictures of the labels in {train}; received others in {test}: {', '.join(sorted(others))}."
        )
    truth = np.array(names)[judge.labels]
    untuned = _compiled(pretrained) if pretrained else live.backbone()
    probed = _extract(untuned, tested, names, report) if pretrained else judge
    return [
        _measure(model, untuned, number, lesson, (judge, probed), truth, report)
        for number, lesson in zip(shots, lessons, strict=True)
    ]


def _compiled(pretrained: Path) -> Backbone:
    from shoe_classifier.ml import architecture  # TensorFlow

    return Backbone(architecture.compile_backbone(architecture.load(pretrained)))


def _measure(
    model: Path,
    untuned: Backbone,
    shots: int,
    lesson: list[Picture],
    judges: tuple[LabelledFeatures, LabelledFeatures],
    truth: np.ndarray,
    report: Report,
) -> FewShotResult:
    """Teach one lesson.

    Args:
        judges: the pictures to test, with the features of the model and those of the untuned network.
        truth: the label of each of them, `str (n,)`.
    """
    judge, probed = judges
    started = time.perf_counter()
    live = bundles.read(model)
    names = list(live.labels)
    features = _extract(live.backbone(), lesson, names, report)
    guesses = _guess_after_retrain(model, features, judge, names, report)
    seconds = time.perf_counter() - started
    hits = int((guesses == truth).sum())
    if probed is not judge:
        features = _extract(untuned, lesson, list(names), report)
    probe_hits = int((np.array(names)[_probe(features, probed)] == truth).sum())
    return FewShotResult(
        shots=shots,
        pictures=len(features),
        tested=len(judge),
        accuracy=hits / len(judge),
        accuracy_interval=interval(hits, len(judge)),
        seconds=round(seconds, 2),
        probe_accuracy=probe_hits / len(judge),
        probe_interval=interval(probe_hits, len(judge)),
    )


def _first(data: Path, shots: int) -> list[Picture]:
    """Read the first pictures of each label, in the order of their names."""
    pictures: dict[str, list[Picture]] = defaultdict(list)
    for picture in sorted(read(data, OWN_DISK), key=lambda picture: picture.name):
        if len(pictures[picture.label]) < shots:
            pictures[picture.label].append(picture)
    return [picture for label in sorted(pictures) for picture in pictures[label]]


def _extract(backbone: Backbone, pictures: list[Picture], labels: list[str], report: Report) -> LabelledFeatures:
    """Compute features as an upload does, but of one picture at a time; appends new labels to `labels`."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        report(TrainingEvent("features", done / len(pictures), f"Computing the features of picture {done}."))

    loaded = load(pictures, backbone.image_size, labels)
    if not len(loaded):
        raise InvalidRequest("Expected labelled pictures that can be read; received none.")
    return extract_features(backbone, loaded, count)


def _guess_after_retrain(
    model: Path, features: LabelledFeatures, judge: LabelledFeatures, labels: list[str], report: Report
) -> np.ndarray:
    """Retrain a copy of the model, and name the label of each picture of `judge`: `str (n,)`."""
    taught = labels[: int(features.labels.max()) + 1]  # `judge` may bring labels that are only tested
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "retrained.h5"
        finetune.retrain_head(
            RetrainTask(model, target, features, np.ones(len(features), bool), taught, time.monotonic() + 3600), report
        )
        head = bundles.read(target).head
    return np.array(labels)[head.probabilities(judge.features.astype(np.float32)).argmax(axis=1)]


def _probe(features: LabelledFeatures, judge: LabelledFeatures) -> np.ndarray:
    """Fit a linear probe to features, and guess the labels of `judge`: `int (n,)`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PROBE_INVERSE_PENALTY, max_iter=1000))
    guesses: np.ndarray = probe.fit(features.features.astype(np.float32), features.labels).predict(
        judge.features.astype(np.float32)
    )
    return guesses


def _percent(share: float, bounds: list[float]) -> str:
    return f"{share:.1%} ({bounds[0]:.1%} to {bounds[1]:.1%})"
