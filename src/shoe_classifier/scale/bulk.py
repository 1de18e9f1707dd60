"""Predictions of many pictures, to Parquet."""

from collections.abc import Iterator
from typing import Any

from shoe_classifier.ml.live_model import Prediction
from shoe_classifier.scale.worker import Eye, Fetched, reason_of


def predictions_of(eye: Eye, pictures: Iterator[Fetched]) -> Any:
    """Classify pictures as the service does.

    Returns:
        An Arrow table with a row for each, in the same order. `confidence` and each field of `probabilities` are 0..1;
        `error` says why a picture has no prediction, and is null otherwise.
    """
    import pyarrow as pa

    bundle = eye.live.bundle
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float64()),
            ("decision", pa.string()),
            ("probabilities", pa.struct([(label, pa.float64()) for label in bundle.labels])),
            ("model_version", pa.string()),
            ("error", pa.string()),
        ]
    )
    return pa.Table.from_pylist([_row(eye, picture, bundle.version) for picture in pictures], schema)


def _row(eye: Eye, picture: Fetched, version: str) -> dict[str, Any]:
    row: dict[str, Any] = {"path": picture.entry.path, "model_version": version, "error": picture.error}
    if picture.error is None:
        try:
            row |= _columns(eye.live.classify(eye.decode(picture)))
        except Exception as error:  # of any kind: decoders fail in many ways
            row["error"] = reason_of(error, picture.entry.path)
    return row


def _columns(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.predicted_class,
        "confidence": prediction.confidence,
        "decision": prediction.decision,
        "probabilities": prediction.probabilities,
    }
