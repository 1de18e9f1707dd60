"""The layers around the framework, on a small ASGI app of the tests."""

import asyncio
import threading

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from shoe_classifier.api.metrics import RequestMetrics
from shoe_classifier.api.middleware import (
    CountRequests,
    HandleErrors,
    PredictFastPath,
    ReserveConnections,
    StripTrailingSlash,
)
from shoe_classifier.errors import NotFound, Overloaded, RequestTimeout, TooLarge


def call(app: object, method: str, path: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path)

    return asyncio.run(run())


def build(endpoint: object = None) -> tuple[FastAPI, RequestMetrics]:
    """An app with all layers, in the order of `main`; without routes but `/items/{name}` and `/stream`."""
    app, metrics = FastAPI(redirect_slashes=False), RequestMetrics()

    @app.get("/items/{name}")
    async def item(name: str) -> str:
        raise NotFound(f"Expected an item; received {name!r}.")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> object:
            yield b"first"
            raise RuntimeError("in the middle")

        return StreamingResponse(pieces())  # type: ignore[arg-type]

    @app.post("/predict")
    async def predict() -> str:
        return "the framework"

    app.add_middleware(PredictFastPath, endpoint=endpoint or answer_shortly)
    app.add_middleware(ReserveConnections)
    app.add_middleware(HandleErrors, request_metrics=metrics)
    app.add_middleware(StripTrailingSlash)
    app.add_middleware(CountRequests, request_metrics=metrics)
    return app, metrics


async def answer_shortly(request: Request) -> Response:
    return PlainTextResponse("the fast path")


def counted(metrics: RequestMetrics, path: str, method: str, status: int) -> float:
    labels = {"path": path, "method": method, "status": str(status)}
    return metrics.registry.get_sample_value("shoe_requests_total", labels) or 0.0


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
def test_predictions_take_the_fast_path_and_are_counted(path: str) -> None:
    app, metrics = build()
    assert call(app, "POST", path).text == "the fast path"
    assert counted(metrics, "/predict", "POST", 200) == 1


def test_other_methods_of_predict_go_to_the_framework() -> None:
    app, metrics = build()
    assert call(app, "GET", "/predict").status_code == 405
    assert call(app, "POST", "/predict/batch").status_code == 404
    assert metrics.total == 2


@pytest.mark.parametrize("error", [NotFound("Expected x; received y."), RuntimeError("a secret"), OSError("a secret")])
def test_errors_of_the_fast_path_are_those_of_the_framework(error: Exception) -> None:
    async def fail(request: Request) -> Response:
        raise error

    app, metrics = build(fail)

    @app.get("/fail")
    async def fail_in_the_framework() -> None:
        raise error

    fast, framework = call(app, "POST", "/predict"), call(app, "GET", "/fail")
    assert (fast.status_code, fast.json()) == (framework.status_code, framework.json())
    assert "a secret" not in fast.text
    assert counted(metrics, "/predict", "POST", fast.status_code) == 1
    assert counted(metrics, "/fail", "GET", fast.status_code) == 1


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (Overloaded("Expected x; received y.", "memory"), {"memory"}),
        (TooLarge("Expected x; received y."), {"too_large"}),
        (RequestTimeout("Expected x; received y."), {"request_timeout"}),
        (NotFound("Expected x; received y."), set()),
    ],
)
def test_what_limits_refuse_is_counted_by_its_reason(error: Exception, reasons: set[str]) -> None:
    async def fail(request: Request) -> Response:
        raise error

    app, metrics = build(fail)
    call(app, "POST", "/predict")
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert {sample.labels["reason"] for sample in samples if sample.name == "shoe_refusals_total"} == reasons


@pytest.mark.parametrize("path", ["/items/a", "/items/a/", "/items/b//"])
def test_slashes_and_the_route_of_the_count(path: str) -> None:
    app, metrics = build()
    assert call(app, "GET", path).json()["code"] == "not_found"
    assert counted(metrics, "/items/{name}", "GET", 404) == 1


def test_unknown_paths_share_one_label() -> None:
    app, metrics = build()
    assert call(app, "GET", "/nowhere").status_code == 404
    assert counted(metrics, "none", "GET", 404) == 1


def test_an_error_after_the_start_of_an_answer_ends_the_connection() -> None:
    app, metrics = build()
    with pytest.raises(RuntimeError, match="in the middle"):
        call(app, "GET", "/stream")
    assert counted(metrics, "/stream", "GET", 200) == 1


def test_the_time_ends_with_the_start_of_the_answer() -> None:
    release = threading.Event()

    async def slow(request: Request) -> Response:
        async def pieces() -> object:
            yield b"first"
            await asyncio.to_thread(release.wait, 0.3)
            yield b"last"

        return StreamingResponse(pieces())  # type: ignore[arg-type]

    app, metrics = build(slow)
    assert call(app, "POST", "/predict").content == b"firstlast"
    assert metrics.average_ms < 300
