"""The service over HTTP: each call of the page is one method here."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

Row = dict[str, Any]
_TIMEOUT = httpx.Timeout(60, connect=3)
_UPLOAD_TIMEOUT = httpx.Timeout(900, connect=3)  # the service checks each picture before it answers
_SILENCE = 30.0  # seconds; a watched retrain sends something every two


class ApiError(Exception):
    """The service refused a call: its message (`detail`), its error `code` and the HTTP `status`."""

    def __init__(self, detail: str, code: str, status: int):
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status


class Unreachable(ApiError):
    """Nothing answers at the service's address, or it is not ready."""


class Busy(ApiError):
    """A call that may succeed in a moment: the store does not answer, or the service is overloaded."""


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

    def predict(self, name: str, data: bytes) -> Prediction:
        return Prediction(**self._json("POST", "/predict", files={"file": (name, data)}))

    def explain(self, name: str, data: bytes) -> bytes:
        """A PNG of the picture, coloured where the network looked."""
        return self._call("POST", "/explain", files={"file": (name, data)}).content

    def feedback(self, prediction_id: str, label: str) -> Row:
        return self._json("POST", f"/predictions/{prediction_id}/feedback", json={"label": label})

    def predictions(self, limit: int, before: str | None = None) -> list[Row]:
        return self._json("GET", "/predictions", params=_page(limit, before))

    # ------------------------------------------------------------ teach

    def upload(self, name: str, data: bytes, label: str | None = None) -> Row:
        """A ZIP of labelled folders, or one picture with its label; the report, even if nothing was accepted."""
        fields = {"label": label} if label else {}
        try:
            return self._json("POST", "/upload", files={"file": (name, data)}, data=fields, timeout=_UPLOAD_TIMEOUT)
        except NothingAccepted as nothing:
            return nothing.report

    def training_data(self, limit: int, before: str | None = None) -> list[Row]:
        return self._json("GET", "/training-data", params=_page(limit, before))

    def relabel(self, row_id: str, label: str) -> Row:
        return self._json("PATCH", f"/training-data/{row_id}", json={"label": label})

    def delete(self, row_id: str) -> None:
        self._call("DELETE", f"/training-data/{row_id}")

    def thumbnail(self, sha256: str, width: int) -> bytes:
        """A JPEG whose longest edge has `width` pixels."""
        return self._call("GET", f"/files/{sha256}", params={"w": width}).content

    # ------------------------------------------------------------ retrain

    def retrain(self, mode: str, force: bool) -> Row:
        return self._json("POST", "/retrain", params={"mode": mode, "force": str(force).lower()})

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
                    _raise(response)
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

    def activate(self, version: str) -> Row:
        return self._json("POST", f"/models/{version}/activate")

    def model_file(self, version: str) -> bytes:
        return self._call("GET", f"/models/{version}/file", params={"format": "h5"}).content

    def minutes(self, limit: int) -> list[Row]:
        return self._json("GET", "/system-metrics", params={"limit": limit})

    # ------------------------------------------------------------ inside

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
        if response.status_code >= 300:
            _raise(response)
        return response

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"The service at {self.url} is not running.", "unreachable", 0)


class NothingAccepted(ApiError):
    """An upload of which nothing was accepted; `report` says why."""

    def __init__(self, detail: str, code: str, status: int, report: Row):
        super().__init__(detail, code, status)
        self.report = report


def from_environment(key: str | None = None) -> Api:
    """The service of `API_URL`, with `API_KEY` unless another key is given."""
    return Api(os.environ.get("API_URL", "http://127.0.0.1:8000"), key or os.environ.get("API_KEY"))


def _page(limit: int, before: str | None) -> dict[str, str | int]:
    return {"limit": limit, "before": before} if before else {"limit": limit}


def _raise(response: httpx.Response) -> None:
    try:
        body = response.json()
        detail, code = str(body["detail"]), str(body["code"])
    except (ValueError, KeyError, TypeError):  # a proxy's own page
        body, detail, code = {}, f"The service answered with status {response.status_code}.", "http_error"
    if code == "nothing_accepted" and "report" in body:
        raise NothingAccepted(detail, code, response.status_code, body["report"])
    if code == "not_ready" or (not body and response.status_code in (502, 503, 504)):
        raise Unreachable(detail, code, response.status_code)
    raise (Busy if response.status_code == 503 else ApiError)(detail, code, response.status_code)
