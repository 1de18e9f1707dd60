"""The client against a server that answers as it is told; `test_store.py` has the checks of a real project."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shoe_classifier.errors import ConfigurationError, StoreRefused, StoreUnavailable
from shoe_classifier.storage.supabase import client as client_module
from shoe_classifier.storage.supabase.client import _COLUMNS, _FUNCTIONS, _INDEXES, REVISION, SupabaseClient

KEY = "head.body.signature"
Answer = tuple[int, Any]


class Server:
    """Gives the answers of a list one after the other, and the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                server.requests.append(self.path)
                status, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *arguments: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@contextmanager
def opened(url: str) -> Iterator[SupabaseClient]:
    client = SupabaseClient(url, KEY, timeout=2)
    yield client
    client.close()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SupabaseClient]:
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: None)
    with opened(server.url) as client:
        yield client


@pytest.mark.parametrize("url", ["no address", "abc.supabase.co", "ftp://abc.supabase.co"])
def test_an_address_that_cannot_be_one(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL"):
        SupabaseClient(url, KEY, 1)


@pytest.mark.parametrize("path", ["/rest/v1", "/rest/v1/", "/storage/v1", "/auth/v1"])
def test_the_address_of_an_api_is_not_that_of_the_project(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"such as 'https://abc\.supabase\.co'; received"):
        SupabaseClient(f"https://abc.supabase.co{path}", KEY, 1)


def test_a_project_below_a_path_is_one() -> None:
    with opened("https://example.org/supabase"):
        pass


def test_an_empty_key() -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_KEY"):
        SupabaseClient("https://abc.supabase.co", " ", 1)


def test_a_busy_project_is_called_again(server: Server, client: SupabaseClient) -> None:
    busy = (503, {"code": "PGRST000", "message": "no connection"})
    server.answers = [busy, busy, (200, 5)]
    assert client.rpc("f", x=1) == 5
    assert server.requests == ["/rest/v1/rpc/f"] * 3


def test_but_not_for_ever(server: Server, client: SupabaseClient) -> None:
    server.answers = [(503, {"code": "PGRST000", "message": "no connection"})]
    with pytest.raises(StoreUnavailable, match="PGRST000"):
        client.rpc("f")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, {"message": "Invalid API key"}), StoreUnavailable),
        ((400, {"code": "22P02", "message": "no number"}), StoreRefused),
    ],
)
def test_what_would_fail_again_is_called_once(
    server: Server, client: SupabaseClient, answer: Answer, kind: type[Exception]
) -> None:
    server.answers = [answer]
    with pytest.raises(kind):
        client.rpc("f")
    assert len(server.requests) == 1


def test_ping(server: Server, client: SupabaseClient) -> None:
    server.answers = [(200, [])]
    assert 0 < client.ping(2) < 2000
    server.answers = [(401, {"message": "Invalid API key"})]
    with pytest.raises(StoreUnavailable, match="401"):
        client.ping(2)


# ---------------------------------------------------------------- setup


def description() -> dict[str, Any]:
    """What a project that is set up right says of itself."""
    tables = {
        name: {
            "columns": sorted(columns),
            "indexes": _INDEXES[name].split(),
            "row_level_security": True,
            "writable": True,
            "policies": 0,
        }
        for name, columns in _COLUMNS.items()
    }
    functions = {name: [arguments] for name, arguments in _FUNCTIONS.items()}
    return {"revision": REVISION, "tables": tables, "functions": functions}


BUCKET = {
    "id": "uploads",
    "name": "uploads",
    "owner": "",
    "public": False,
    "created_at": "2026-11-23T00:00:00.000Z",
    "updated_at": "2026-11-23T00:00:00.000Z",
    "file_size_limit": None,
    "allowed_mime_types": None,
}


def wrong(client: SupabaseClient, server: Server, found: dict[str, Any], bucket: str = "uploads") -> list[str]:
    server.answers = [(200, found), *(server.answers or [(200, BUCKET)])]
    return [text for right, text in client.check(bucket) if not right]


def test_a_project_that_is_set_up_right(server: Server, client: SupabaseClient) -> None:
    assert wrong(client, server, description()) == []


def test_a_project_of_0_1_0_is_told_to_migrate(server: Server, client: SupabaseClient) -> None:
    found = description() | {"revision": 1}
    del found["functions"], found["tables"]["Learned_Pictures"]
    revision, table, functions = wrong(client, server, found)
    assert f"Expected revision {REVISION} of the migrations; received 1. Run supabase/migrations" in revision
    assert "Table Learned_Pictures: expected it to exist" in table
    assert "Functions: expected add_training_data(rows json) alone; received none" in functions


def test_two_functions_of_one_name_are_ambiguous(server: Server, client: SupabaseClient) -> None:
    found = description()
    found["functions"]["finish_retrain"].append("job json, instance uuid, learnt json")
    (line,) = wrong(client, server, found)
    assert "finish_retrain(job json, instance uuid) and finish_retrain(job json, instance uuid, learnt json)" in line


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("columns", ["id"], "columns confidence_score, created_at, decision"),
        ("indexes", None, "indexes Predict_pkey"),
        ("writable", False, "read and write access"),
        ("row_level_security", False, "anyone may read"),
        ("policies", 2, "received 2"),
    ],
)
def test_a_table_that_is_wrong(server: Server, client: SupabaseClient, key: str, value: object, said: str) -> None:
    found = description()
    found["tables"]["Predict"][key] = value
    (line,) = wrong(client, server, found)
    assert line.startswith("Table Predict: expected") and said in line


def test_a_bucket_of_another_name_is_not_made_by_the_migrations(server: Server, client: SupabaseClient) -> None:
    server.answers = [(400, {"statusCode": "404", "error": "Bucket not found", "message": "Bucket not found"})]
    other, models = wrong(client, server, description(), bucket="shoes")
    assert "Bucket shoes: expected it to exist" in other and "Create a private bucket shoes" in other
    assert "Bucket models: expected it to exist" in models and "Run supabase/migrations" in models


def test_a_public_bucket(server: Server, client: SupabaseClient) -> None:
    server.answers = [(200, BUCKET | {"public": True})]
    assert len(wrong(client, server, description())) == 2


def test_a_bad_key_is_a_problem_and_a_silent_project_an_error(server: Server, client: SupabaseClient) -> None:
    server.answers = [(401, {"message": "Invalid API key"})]
    ((right, text),) = client.check("uploads")
    assert not right and "SUPABASE_KEY" in text
    server.answers = [(502, {"message": "upstream"})]
    with pytest.raises(StoreUnavailable):
        client.check("uploads")
