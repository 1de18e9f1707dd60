"""The service over HTTP: each call of the page is one method here."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

# The page has an environment of its own, without the package; what it takes from there needs nothing else.
sys.path.append(str(Path(__file__).parents[1] / "src"))
from shoe_classifier.client_errors import ApiError, Busy, NothingAccepted, Unreachable, check

__all__ = ["Api", "ApiError", "Busy", "Prediction", "Row", "Unreachable", "from_environment"]

Row = dict[str, Any]
_TIMEOUT = httpx.Timeout(60, connect=3)
_UPLOAD_TIMEOUT = httpx.Timeout(900, connect=3)  # the service checks each picture before it answers
_EXPORT_TIMEOUT = httpx.Timeout(330, connect=3)  # the service gives up after 300 seconds
_SILENCE = 30.0  # seconds; a watched retrain sends something every two


@dataclass(frozen=True)
class Prediction:
    """The answer to one picture; `confidence` and `probabilities`, by label, are 0..1."""

    prediction_id: str
    predicted_class: str
    confidence: float
    decision: str
    probabilities: dict[str, float]
    model_version: str
    response_time_ms: float
    file_url: str | None


_FIELDS = {field.name for field in fields(Prediction)}
_MORE_THAN_A_PICTURE = ApiError("Expected a picture; received a file that holds several.", "unsupported_image", 415)


class Api:
    """Calls to one service.

    All methods raise `Unreachable` when it is down or not ready, `Busy` when a retry may help, and `ApiError` when it
    refuses.
    """

    def __init__(self, url: str, key: str | None = None):
        self.url = url.rstrip("/")
        headers = {b"X-API-Key": key.strip().encode()} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def ready(self) -> bool:
        """True when it can predict."""
        try:
            return self._http.get("/ready", timeout=3).status_code == 200
        except httpx.TransportError:
            return False

    def status(self) -> Row:
        return self._json("GET", "/status")

    # ------------------------------------------------------------ predict

    def predict(self, pictures: Sequence[tuple[str, bytes]]) -> list["Prediction | ApiError"]:
        """The answers to pictures, given as names and bytes, in one call; an error for each that was refused."""
        files = [("files", picture) for picture in pictures]
        answers = [_prediction(row) for row in self._json("POST", "/predict/batch", files=files)["results"]]
        return answers if len(answers) == len(pictures) else [_MORE_THAN_A_PICTURE for _ in pictures]

    def explain(self, name: str, data: bytes) -> bytes:
        """A PNG of the picture, coloured where the network looked."""
        return self._call("POST", "/explain", files={"file": (name, data)}).content

    def predictions(self, limit: int, before: str | None = None, **filters: str | None) -> tuple[list[Row], int | None]:
        """Predictions, newest first, and how many there are."""
        return self._page("/predictions", limit, before, filters)

    # ------------------------------------------------------------ review

    def review(self, kind: str, limit: int) -> Row:
        """The predictions that are worth a look, and how many of each kind wait."""
        return self._json("GET", "/review", params={"kind": kind, "limit": limit})

    def answer(self, prediction_ids: Sequence[str], **answer: str | bool) -> Row:
        """Say of predictions `label="Boot"`, `none=True` or `skip=True`, or take it back with `undo=True`."""
        return self._json("POST", "/review", json={"items": [{"prediction_id": i, **answer} for i in prediction_ids]})

    # ------------------------------------------------------------ training data

    def upload(self, name: str, data: bytes, label: str | None = None) -> Row:
        """A ZIP of labelled folders, or one picture with its label; the report, even if nothing was accepted."""
        fields = {"label": label} if label else {}
        try:
            return self._json("POST", "/upload", files={"file": (name, data)}, data=fields, timeout=_UPLOAD_TIMEOUT)
        except NothingAccepted as nothing:
            return nothing.report

    def training_data(
        self, limit: int, before: str | None = None, **filters: str | None
    ) -> tuple[list[Row], int | None]:
        """Training pictures, newest first, and how many there are."""
        return self._page("/training-data", limit, before, filters)

    def relabel(self, ids: Sequence[str], label: str) -> Row:
        return self._json("POST", "/training-data/bulk", json={"ids": list(ids), "label": label})

    def delete(self, ids: Sequence[str]) -> Row:
        return self._json("POST", "/training-data/bulk", json={"ids": list(ids), "delete": True})

    def issues(self, limit: int, **filters: str | None) -> Row:
        """Training pictures that may be wrong, the worst first."""
        return self._json("GET", "/training-data/issues", params={"limit": limit, **_given(filters)})

    def keep(self, items: Sequence[Row], *, undo: bool = False) -> Row:
        """Keep suspect pictures, given as `id` and `kind`, as they are, or take that back."""
        return self._json("POST", "/training-data/issues", json={"items": list(items), "undo": undo})

    def labels(self) -> list[Row]:
        return self._json("GET", "/labels")

    def rename_label(self, label: str, name: str) -> Row:
        """Rename a label; to the name of another one, to merge it into that."""
        return self._json("PATCH", f"/labels/{quote(label, safe='')}", json={"name": name})

    def label_changes(self) -> list[Row]:
        """Renamed, merged and removed labels that no version has learned yet, newest first."""
        return self._json("GET", "/labels/changes")

    def undo_label_change(self, change_id: str) -> Row:
        """Take the newest of these changes back."""
        return self._json("DELETE", f"/labels/changes/{change_id}")

    def remove_label(self, label: str) -> Row:
        return self._json("DELETE", f"/labels/{quote(label, safe='')}")

    def file(self, sha256: str) -> bytes:
        """A stored picture as it was sent."""
        return self._call("GET", f"/files/{sha256}").content

    def thumbnail(self, sha256: str, width: int) -> bytes:
        """A JPEG whose longest edge has `width` pixels."""
        return self._call("GET", f"/files/{sha256}", params={"w": width}).content

    # ------------------------------------------------------------ retrain

    def retrain(self, mode: str, without: Sequence[str] = ()) -> Row:
        """Start a retrain, which leaves the pictures of some labels for later."""
        return self._json("POST", "/retrain", params={"mode": mode, **({"without": list(without)} if without else {})})

    def jobs(self, limit: int) -> list[Row]:
        return self._json("GET", "/retrain", params={"limit": limit})

    def job(self, job_id: str) -> Row:
        return self._json("GET", f"/retrain/{job_id}")

    def cancel(self, job_id: str) -> Row:
        return self._json("DELETE", f"/retrain/{job_id}")

    def events(self, job_id: str) -> Iterator[Row]:
        """The job whenever it changes, and every few seconds, until it ends or the service stops."""
        timeout, row = httpx.Timeout(_SILENCE, connect=3), None
        try:
            with self._http.stream("GET", f"/retrain/{job_id}/events", timeout=timeout) as response:
                if response.status_code >= 300:
                    response.read()
                    check(response)
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        row = json.loads(line.removeprefix("data: "))
                    if row and line.startswith(("data: ", ":")):
                        yield row
        except httpx.TransportError as error:
            raise self._unreachable() from error

    # ------------------------------------------------------------ versions

    def models(self) -> list[Row]:
        return self._json("GET", "/models")

    def model(self, version: str) -> Row:
        """One version, with the number of training pictures that it has not learned."""
        return self._json("GET", f"/models/{version}")

    def start_shadow(self, version: str, predictions: int) -> Row:
        """Let a version answer the next live pictures silently."""
        return self._json("POST", f"/models/{version}/shadow", params={"predictions": predictions})

    def end_shadow(self, version: str) -> None:
        self._call("DELETE", f"/models/{version}/shadow")

    def activate(self, version: str) -> Row:
        return self._json("POST", f"/models/{version}/activate")

    def export(self, form: str) -> bytes:
        """All training pictures, as `zip`, `csv` or `coco`."""
        return self._call("GET", "/training-data/export", params={"format": form}).content

    def model_export(self, version: str, form: str) -> bytes:
        """A version for use elsewhere, as `tflite`, `onnx` or `web`."""
        path = f"/models/{version}/export"
        return self._call("GET", path, params={"format": form}, timeout=_EXPORT_TIMEOUT).content

    def parity(self, version: str, form: str) -> Row:
        """How the answers of such an export, which is made now unless it is kept, differ from the service's."""
        params = {"format": form, "report": "true"}
        return self._json("GET", f"/models/{version}/export", params=params, timeout=_EXPORT_TIMEOUT)

    def model_file(self, version: str) -> bytes:
        return self._call("GET", f"/models/{version}/file", params={"format": "h5"}).content

    # ------------------------------------------------------------ health

    def monitoring(self, days: int) -> Row:
        """Accuracy, drift and rates of the last days."""
        return self._json("GET", "/monitoring", params={"days": days})

    def test_webhook(self) -> Row:
        """Send the receiver of webhooks an event that means nothing."""
        return self._json("POST", "/webhooks/test")

    def minutes(self, limit: int) -> list[Row]:
        return self._json("GET", "/system-metrics", params={"limit": limit})

    # ------------------------------------------------------------ inside

    def _page(
        self, path: str, limit: int, before: str | None, filters: dict[str, str | None]
    ) -> tuple[list[Row], int | None]:
        response = self._call("GET", path, params={"limit": limit, **_given({"before": before, **filters})})
        total = response.headers.get("X-Total-Count")
        return response.json(), int(total) if total else None

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._call(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise ApiError(
                f"Expected JSON from the service; received something else from {self.url}.",
                "not_json",
                response.status_code,
            ) from None

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.ReadTimeout as error:
            raise Busy(f"The service at {self.url} did not answer in time.", "timeout", 0) from error
        except httpx.TransportError as error:
            raise self._unreachable() from error
        check(response)
        return response

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"The service at {self.url} is not running.", "unreachable", 0)


def from_environment(key: str | None = None) -> Api:
    """The service of `API_URL`, with `API_KEY` unless another key is given."""
    return Api(os.environ.get("API_URL", "http://127.0.0.1:8000"), key or os.environ.get("API_KEY"))


def _given(filters: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value}


def _prediction(row: Row) -> Prediction | ApiError:
    error = row.get("error")
    if error:
        return ApiError(error["detail"], error["code"], 422)
    return Prediction(**{name: value for name, value in row.items() if name in _FIELDS})
