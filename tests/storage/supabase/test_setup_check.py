"""The check against a server that answers as it is told; `test_store.py` has that of a real project."""

from typing import Any

import pytest

from helpers.told_server import Server
from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.setup_check import _COLUMNS, _FUNCTIONS, _INDEXES, REVISION, check_setup


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
    return [text for right, text in check_setup(client, bucket) if not right]


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
    ((right, text),) = check_setup(client, "uploads")
    assert not right and "SUPABASE_KEY" in text
    server.answers = [(502, {"message": "upstream"})]
    with pytest.raises(StoreUnavailable):
        check_setup(client, "uploads")
