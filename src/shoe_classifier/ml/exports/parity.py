"""Whether an export answers as the service does: both are asked about the same pictures."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageDraw

from shoe_classifier.errors import AppError
from shoe_classifier.ml.exports.answer import DECISION, DECISIONS, PICTURE, PROBABILITIES
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.types import Decision, utc_now

Answer = tuple[np.ndarray, Decision]  # probabilities, `float32 (k,)` in label order, and the decision
Ask = Callable[[np.ndarray], Answer]  # about a picture, `uint8 (side, side, 3)`, RGB


@dataclass
class ParityReport:
    """How the answers of an export differ from the service's.

    Attributes:
        runtime: what ran the export, with its version.
        stored, drawn: number of training pictures, and of pictures drawn at random, that both were asked about.
        label_changes: pictures for which the most probable label differs.
        decision_changes: pictures for which the decision differs.
        largest_difference, mean_difference: of a probability, over all labels and pictures, 0..1. The service rounds
            its probabilities to six digits.
        service_ms, export_ms: median time for a picture, from its pixels to the answer, on one thread.
        measured_at: as `types.utc_now` gives it.
    """

    runtime: str
    stored: int = 0
    drawn: int = 0
    label_changes: int = 0
    decision_changes: int = 0
    largest_difference: float = 0.0
    mean_difference: float = 0.0
    service_ms: float = 0.0
    export_ms: float = 0.0
    measured_at: str = field(default_factory=utc_now)


def measure(
    model: LiveModel, runtime: str, ask: Ask, stored: Iterator[np.ndarray], drawn: int, seconds: float
) -> ParityReport:
    """Ask a model and its export about the same pictures, by turns a stored and a drawn one.

    Args:
        runtime: what runs the export.
        ask: asks the export.
        stored: pictures, `uint8 (side, side, 3)`, RGB.
        drawn: how many drawn ones.
        seconds: after which no further picture is looked at.
    """
    report = ParityReport(runtime)
    times: list[tuple[float, float]] = []
    differences: list[np.ndarray] = []
    end = time.monotonic() + seconds
    for pair in zip_longest(stored, (draw(seed, model.size[0]) for seed in range(drawn))):
        for kind, picture in zip(("stored", "drawn"), pair, strict=True):
            if picture is not None:
                setattr(report, kind, getattr(report, kind) + 1)
                times.append(_compare(model, ask, picture, report, differences))
        if time.monotonic() > end:
            break
    if differences:
        report.largest_difference = float(np.max(differences))
        report.mean_difference = float(np.mean(differences))
        report.service_ms, report.export_ms = np.median(times, axis=0).round(3).tolist()
    return report


def _compare(
    model: LiveModel, ask: Ask, picture: np.ndarray, report: ParityReport, differences: list[np.ndarray]
) -> tuple[float, float]:
    """Count changes, keep the differences `(k,)`, and return how long the model and its export took, in ms."""
    started = time.perf_counter()
    expected = model.classify(picture)
    answered = time.perf_counter()
    probabilities, decision = ask(picture)
    ended = time.perf_counter()
    report.label_changes += model.bundle.labels[int(probabilities.argmax())] != expected.predicted_class
    report.decision_changes += decision != expected.decision
    differences.append(np.abs(probabilities - np.array(list(expected.probabilities.values()))))
    return (answered - started) * 1e3, (ended - answered) * 1e3


def read_pictures(folder: Path, side: int) -> Iterator[np.ndarray]:
    """Decode the picture files of a folder as the service does, `uint8 (side, side, 3)`; damaged ones are left out."""
    for path in sorted(folder.iterdir()):
        try:
            yield decode(path.read_bytes(), side)
        except AppError:
            continue


def draw(seed: int, side: int) -> np.ndarray:
    """Draw shapes on a smooth background, `uint8 (side, side, 3)`, RGB; each seed draws another picture."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 256, (int(rng.integers(1, 9)), int(rng.integers(1, 9)), 3), np.uint8)
    image = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 12))):
        colour = tuple(rng.integers(0, 256, 3).tolist())
        points = rng.integers(0, side, (int(rng.integers(2, 7)), 2))
        box = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
        shape = rng.integers(3)
        if shape == 0:
            pen.ellipse(box, fill=colour)
        elif shape == 1:
            pen.line(points.ravel().tolist(), fill=colour, width=1 + side // 40)
        else:
            pen.polygon(points.ravel().tolist(), fill=colour)
    return np.asarray(image)


def open_tflite(data: bytes) -> tuple[str, Ask]:
    """Load an export into LiteRT; returns the name of the runtime, and what asks it."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner()

    def ask(picture: np.ndarray) -> Answer:
        outputs = run(**{PICTURE: picture[None]})
        return outputs[PROBABILITIES][0], DECISIONS[int(outputs[DECISION][0])]

    return f"LiteRT {version('ai-edge-litert')}", ask


def open_onnx(data: bytes) -> tuple[str, Ask]:
    """Load an export into ONNX Runtime; returns the name of the runtime, and what asks it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def ask(picture: np.ndarray) -> Answer:
        probabilities, decision = session.run([PROBABILITIES, DECISION], {PICTURE: picture[None]})
        return probabilities[0], DECISIONS[int(decision[0])]

    return f"ONNX Runtime {onnxruntime.__version__}", ask
