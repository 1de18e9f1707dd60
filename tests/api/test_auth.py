"""Who may write, checked on an app with one writing endpoint."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from shoe_classifier.api.auth import MayWrite
from shoe_classifier.api.error_handlers import handle_error
from shoe_classifier.errors import AppError
from shoe_classifier.settings import Settings


def write(api_key: str | None, headers: dict[str, Any] | None = None, client: str = "127.0.0.1") -> httpx.Response:
    class Parts:
        settings = Settings(_env_file=None, api_key=SecretStr(api_key) if api_key else None)  # type: ignore[call-arg]

    app = FastAPI()
    app.state.service = Parts
    app.add_exception_handler(AppError, handle_error)

    @app.post("/write", dependencies=[MayWrite])
    async def endpoint() -> str:
        return "written"

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            return await http.post("/write", headers=headers)

    return asyncio.run(run())


def test_the_right_key_opens_from_anywhere() -> None:
    assert write("right", {"X-API-Key": "right", "Via": "proxy"}, "1.2.3.4").status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"Authorization": "right"}, {"X-API-Key": "ü".encode()}]
)
def test_another_key_is_unauthorized_even_from_this_machine(headers: dict[str, Any]) -> None:
    response = write("right", headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_without_a_key_this_machine_may_write(host: str, client: str) -> None:
    assert write(None, {"Host": host}, client).status_code == 200
    assert write(None, {"Host": host, "Origin": f"http://{host}"}, client).status_code == 200


@pytest.mark.parametrize(
    ("headers", "client", "problem"),
    [
        ({}, "1.2.3.4", "from elsewhere"),
        ({"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1", "from elsewhere"),
        ({"Forwarded": "for=127.0.0.1"}, "127.0.0.1", "from elsewhere"),
        ({"Host": "evil.example"}, "127.0.0.1", "for the host 'evil.example'"),
        ({"Host": "["}, "127.0.0.1", "for the host 'None'"),
        ({"Origin": "http://evil.example"}, "127.0.0.1", "from a page of 'http://evil.example'"),
        ({"Origin": "null"}, "127.0.0.1", "from a page of 'null'"),
    ],
)
def test_without_a_key_others_may_not(headers: dict[str, str], client: str, problem: str) -> None:
    response = write(None, headers, client)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert problem in response.json()["detail"]
