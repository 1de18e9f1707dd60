"""Rows of the audit log, written by the real service."""

import hashlib
import logging
from collections.abc import Callable, Iterable

import httpx
import pytest
from pydantic import SecretStr

from helpers.pictures import draw, lesson_zip
from helpers.service import Process, running
from shoe_classifier.settings import Settings

OWNER, READER = "the-key-of-the-owner", "the-key-of-a-reader"


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_key": SecretStr(OWNER), "read_key": SecretStr(READER)})


def test_each_writing_call_leaves_a_row_before_its_answer(guarded: Settings) -> None:
    with running(guarded) as client:
        owner = {"X-API-Key": OWNER}
        client.post("/upload/", headers=owner, files={"file": lesson_zip("hat", 3)})
        row_id = client.get("/training-data", headers=owner).json()[0]["id"]
        calls = [
            ("PATCH", f"/training-data/{row_id}", owner, 200),
            ("DELETE", f"/training-data/{row_id}", owner, 204),
            ("DELETE", f"/training-data/{row_id}", owner, 404),
            ("DELETE", f"/training-data/{row_id}", {"X-API-Key": READER}, 403),
            ("POST", "/models/none/activate", {"X-API-Key": "wrong"}, 401),
            ("POST", "/models/none/activate", {}, 401),
        ]
        for method, path, headers, status in calls:
            body = {"json": {"label": "cap"}} if method == "PATCH" else {}
            assert client.request(method, path, headers=headers, **body).status_code == status
            newest = client.get("/audit-log", headers=owner, params={"limit": 1}).json()[0]
            assert (newest["target"], newest["status"], newest["client_address"]) == (path, status, "127.0.0.1")
            key = headers.get("X-API-Key")
            assert newest["key_fingerprint"] == (fingerprint(key) if key else None)
        rows = client.get("/audit-log", headers=owner).json()
        assert [row["action"] for row in rows] == [
            "POST /models/{version}/activate",
            "POST /models/{version}/activate",
            "DELETE /training-data/{row_id}",
            "DELETE /training-data/{row_id}",
            "DELETE /training-data/{row_id}",
            "PATCH /training-data/{row_id}",
            "POST /upload",
        ]
        assert len(rows[-1]["target"]) == len("/upload")


def test_calls_that_only_read_or_predict_leave_none(client: httpx.Client) -> None:
    client.post("/predict", files={"file": draw("Boot", 1)})
    client.post("/explain", files={"file": draw("Boot", 1)})
    client.get("/predictions")
    assert client.get("/audit-log").json() == []


def test_the_start_says_who_may_do_what(
    settings: Settings, guarded: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        with running(settings):
            assert "No API_KEY is set: writing is open to direct requests from this machine" in caplog.text
        with running(guarded):
            assert "Writing needs API_KEY. Reading needs API_KEY or READ_KEY; predicting is open" in caplog.text


def test_keys_are_never_logged(start: Callable[..., Process]) -> None:
    process = start(API_KEY=OWNER, READ_KEY=READER, LOG_LEVEL="debug")
    for key in (OWNER, READER, "a-key-that-is-wrong", None):
        headers = {"X-API-Key": key} if key else {}
        for method, path in (
            ("GET", "/predictions"),
            ("GET", "/status"),
            ("GET", "/audit-log"),
            ("POST", "/upload"),
            ("POST", "/predict"),
            ("DELETE", "/training-data/x"),
            ("POST", "/models/none/activate"),
        ):
            answer = process.client.request(method, path, headers=headers)
            for secret in (OWNER, READER, "a-key-that-is-wrong"):
                assert secret not in answer.text
    process.close()
    log = process.log.read_text()
    assert "/predictions" in log  # each request is there
    for secret in (OWNER, READER, "a-key-that-is-wrong"):
        assert secret not in log


@pytest.mark.parametrize("trusted", [None, "10.0.0.0/8"])
def test_others_than_trusted_proxies_do_not_say_who_called(guarded: Settings, trusted: str | None) -> None:
    assert recorded(guarded.model_copy(update={"trusted_proxies": trusted}), [["203.0.113.9"]]) == ["127.0.0.1"]


def test_a_trusted_proxy_says_who_called(guarded: Settings) -> None:
    calls = {
        "203.0.113.9": ["203.0.113.9"],
        "203.0.113.8": ["8.8.8.8, 203.0.113.8"],  # the client forged the first
        "203.0.113.7": ["8.8.8.8", "203.0.113.7"],
        "203.0.113.6": ["203.0.113.6, 10.1.2.3"],  # two proxies
        "2001:db8::7": ["2001:db8::7"],
        "127.0.0.1": ["not an address"],
        "10.9.9.9": ["not an address, 10.9.9.9"],
        "10.8.8.8": ["10.8.8.8"],  # a proxy itself
    }
    trusting = guarded.model_copy(update={"trusted_proxies": "127.0.0.1, 10.0.0.0/8"})
    assert recorded(trusting, calls.values()) == [*calls]


def recorded(settings: Settings, calls: Iterable[list[str]]) -> list[str]:
    """The addresses that the log has of calls with these lines of `X-Forwarded-For`."""
    with running(settings) as client:
        for lines in calls:
            headers = [("X-API-Key", OWNER), *(("X-Forwarded-For", line) for line in lines)]
            client.delete("/training-data/x", headers=headers)
        rows = client.get("/audit-log", headers={"X-API-Key": OWNER}).json()
        return [row["client_address"] for row in reversed(rows)]
