"""Predictions of many pictures, to Parquet."""

from collections.abc import Iterator
from typing import Any

from shoe_classifier.ml.live_model import LiveModel, Prediction
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.scale.worker import Fetched, PictureLimits, reason_of


def predictions_of(model: LiveModel, limits: PictureLimits, pictures: Iterator[Fetched]) -> Any:
    """Classify pictures as the service does.

    Returns:
        An Arrow table with a row for each, in the same order. `confidence` and each field of `probabilities` are 0..1;
        `error` says why a picture has no prediction, and is null otherwise.
    """
    import pyarrow as pa

    labels, version = model.bundle.labels, model.bundle.version
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float64()),
            ("decision", pa.string()),
            ("probabilities", pa.struct([(label, pa.float64()) for label in labels])),
            ("model_version", pa.string()),
            ("error", pa.string()),
        ]
    )
    return pa.Table.from_pylist([_row(model, limits, picture, version) for picture in pictures], schema)


def _row(model: LiveModel, limits: PictureLimits, picture: Fetched, version: str) -> dict[str, Any]:
    row: dict[str, Any] = {"path": picture.entry.path, "model_version": version, "error": picture.error}
    if picture.error is None:
        try:
            row |= _columns(_classify(model, limits, picture))
        except Exception as error:  # of any kind: decoders fail in many ways
            row["error"] = reason_of(error, picture.entry.path)
    return row


def _classify(model: LiveModel, limits: PictureLimits, picture: Fetched) -> Prediction:
    name = picture.entry.path
    return model.classify(decode(picture.data, model.size, name=name, max_pixels=limits.max_pixels))


def _columns(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.predicted_class,
        "confidence": prediction.confidence,
        "decision": prediction.decision,
        "probabilities": prediction.probabilities,
    }
