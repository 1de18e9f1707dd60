"""Who may predict, read and write, checked on an app with an endpoint of each kind."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Message

from helpers.service import make_settings
from shoe_classifier.api.auth import IsOwner, MayPredict, MayRead, MayWrite
from shoe_classifier.api.error_handlers import handle_error
from shoe_classifier.errors import AppError
from shoe_classifier.main import create_app
from shoe_classifier.settings import Settings

GUARDS = {"predict": MayPredict, "read": MayRead, "write": MayWrite, "own": IsOwner}


def call(
    kind: str,
    headers: dict[str, Any] | None = None,
    client: str = "127.0.0.1",
    *,
    api_key: str | None = None,
    read_key: str | None = None,
    **settings: Any,
) -> httpx.Response:
    keys = {name: SecretStr(key) for name, key in (("api_key", api_key), ("read_key", read_key)) if key}

    class Parts:
        pass

    Parts.settings = Settings(_env_file=None, **keys, **settings)  # type: ignore[attr-defined, call-arg]
    app = FastAPI()
    app.state.service = Parts
    app.add_exception_handler(AppError, handle_error)

    @app.post("/", dependencies=[GUARDS[kind]])
    async def endpoint() -> str:
        return "done"

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            return await http.post("/", headers=headers)

    return asyncio.run(run())


def write(api_key: str | None, headers: dict[str, Any] | None = None, client: str = "127.0.0.1") -> httpx.Response:
    return call("write", headers, client, api_key=api_key)


def statuses(headers: dict[str, Any], client: str = "1.2.3.4", **settings: Any) -> dict[str, int]:
    return {kind: call(kind, headers, client, **settings).status_code for kind in GUARDS}


KEYS: dict[str, Any] = {"api_key": "owner", "read_key": "reader"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {"predict": 200, "read": 401, "write": 401, "own": 401}),
        ({"X-API-Key": "wrong"}, {"predict": 200, "read": 401, "write": 401, "own": 401}),
        ({"X-API-Key": "reader"}, {"predict": 200, "read": 200, "write": 403, "own": 403}),
        ({"X-API-Key": "owner"}, {"predict": 200, "read": 200, "write": 200, "own": 200}),
    ],
)
def test_what_each_key_opens(headers: dict[str, str], expected: dict[str, int]) -> None:
    assert statuses(headers, **KEYS) == expected
    expected["predict"] = expected["read"]
    assert statuses(headers, **KEYS, open_predict=False) == expected


def test_without_a_read_key_reading_needs_the_other_one() -> None:
    assert statuses({}, api_key="owner") == {"predict": 200, "read": 401, "write": 401, "own": 401}
    assert statuses({"X-API-Key": "owner"}, api_key="owner")["read"] == 200


def test_reading_can_be_left_open() -> None:
    for keys in ({}, KEYS):
        assert statuses({}, **keys, open_reading=True)["read"] == 200
        assert statuses({}, **keys, open_reading=True)["own"] in (401, 403)


def test_without_a_key_only_this_machine_reads_and_writes() -> None:
    elsewhere = {"predict": 200, "read": 403, "write": 403, "own": 403}
    assert statuses({}) == elsewhere
    assert statuses({"Host": "evil.example"}, "127.0.0.1") == elsewhere
    assert statuses({}, open_predict=False) == elsewhere | {"predict": 403}
    assert set(statuses({}, "127.0.0.1", open_predict=False).values()) == {200}


def test_the_read_key_is_told_what_it_is() -> None:
    response = call("write", {"X-API-Key": "reader"}, **KEYS)
    assert response.json() == {
        "detail": "Expected the API_KEY; received the READ_KEY, which does not open this call.",
        "code": "forbidden",
    }


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


PROXIES = [
    "Forwarded", "Forwarded-For", "Via", "X-Forwarded", "X-Forwarded-Proto", "X-Forwarded-Anything",
    "X_Forwarded_For", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Remote-Addr",
    "X-Original-Host", "X-Originating-IP", "X-Host", "X-Scheme", "X-Url-Scheme", "Front-End-Https",
    "Proxy-Connection", "X-ProxyUser-Ip", "WL-Proxy-Client-IP", "CF-Ray", "CF-Connecting-IP", "CDN-Loop",
    "Fly-Region", "Fly-Client-IP", "Fastly-Client-IP", "X-Azure-SocketIP", "X-Amzn-Trace-Id",
    "X-Envoy-External-Address", "X-Vercel-Id", "Rndr-Id", "X-Railway-Edge", "Tailscale-User-Login",
]  # fmt: skip
NOT_PROXIES = [
    "Accept", "Accept-Encoding", "Accept-Language", "Access-Control-Request-Method", "Authorization",
    "Cache-Control", "Cookie", "DNT", "Content-Type", "If-None-Match", "Pragma", "Postman-Token", "Priority",
    "Range", "Referer", "Save-Data", "Sec-CH-UA", "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode",
    "Sec-Fetch-Site", "Sec-Fetch-User", "Upgrade-Insecure-Requests", "User-Agent", "X-API-Key",
    "X-Requested-With", "X-Request-Id",
]  # fmt: skip


@pytest.mark.parametrize("header", PROXIES)
def test_any_header_of_a_proxy_counts_as_forwarded(header: str) -> None:
    for kind in ("read", "write"):
        assert call(kind, {header: "x"}).status_code == 403, header


def test_what_browsers_and_programs_send_is_not_forwarded() -> None:
    assert call("write", dict.fromkeys(NOT_PROXIES, "x")).status_code == 200


def test_a_refused_call_reads_nothing_of_its_body(tmp_path: Any) -> None:
    """uvicorn buffers up to 64 KiB by itself; the service must not ask for any of it."""
    app = create_app(make_settings(tmp_path, api_key=SecretStr("owner"), read_key=SecretStr("reader")))
    writing = [
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if method != "get" and "predict" not in operation["tags"]
    ]
    assert len(writing) >= 8
    for method, path in writing:
        for key in (b"reader", b"wrong", None):
            asked, sent = _send(app, method, path, [(b"x-api-key", key)] if key else [])
            assert (asked, sent[0]["status"]) == (0, 403 if key == b"reader" else 401), (method, path)
            assert (b"connection", b"close") in sent[0]["headers"]
    app.state.service.store.close()


def _send(
    app: FastAPI, method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> tuple[int, list[MutableMapping[str, Any]]]:
    """How often the service asked for the body, and what it sent."""
    asked, sent = 0, []

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    length = (b"content-length", b"1000000000")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"localhost"), length, *headers], "client": ("127.0.0.1", 5), "server": ("localhost", 80),
        "scheme": "http", "http_version": "1.1", "root_path": "", "app": app,
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return asked, sent
