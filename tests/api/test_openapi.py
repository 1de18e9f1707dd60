"""The wire contract: a change of the document is a change of `docs/openapi.json`, which `make openapi` renews."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.service import make_settings
from shoe_classifier import errors
from shoe_classifier.api.openapi import error_responses
from shoe_classifier.main import create_app

SNAPSHOT = Path(__file__).parent.parent.parent / "docs" / "openapi.json"
COLLECTION = SNAPSHOT.parent.parent / "clients" / "postman_collection.json"
FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AppError)]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = create_app(make_settings(tmp_path_factory.mktemp("openapi")))
    yield app.openapi()
    app.state.service.store.close()
    app.state.service.shadow.stop()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_the_committed_one(document: Any) -> None:
    assert json.loads(SNAPSHOT.read_text()) == document, "`make openapi` renews the snapshot, if the change is wanted"


def test_the_collection_is_made_from_it() -> None:
    command = [sys.executable, COLLECTION.parent / "postman.py", SNAPSHOT]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert made == COLLECTION.read_text(), "`make collection` renews it"


def test_operation_ids_are_a_verb_and_a_noun(document: Any) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+){1,3}", name) for name in ids)


def test_each_call_has_one_tag_that_is_described(document: Any) -> None:
    described = [tag["name"] for tag in document["tags"]]
    used = [operation["tags"] for _, operation in operations(document)]
    assert all(len(tags) == 1 for tags in used)
    assert sorted(described) == sorted({tag for tags in used for tag in tags})
    assert all(tag["description"] for tag in document["tags"])


def test_every_reference_leads_to_a_schema(document: Any) -> None:
    names = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(names) <= schemas
    assert schemas - set(names) == set()


def test_json_bodies_and_answers_have_examples(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for call, operation in operations(document):
        contents = [operation.get("requestBody", {})]
        contents += [response for status, response in operation["responses"].items() if int(status) < 300]
        for content in contents:
            schema = content.get("content", {}).get("application/json", {}).get("schema", {})
            if name := schema.get("items", schema).get("$ref"):
                assert schemas[name.rpartition("/")[2]]["example"], call


def test_answers_that_are_not_json_say_what_they_are(document: Any) -> None:
    """Without a schema, generated clients leave the answer out."""
    for call, operation in operations(document):
        for response in operation["responses"].values():
            for media_type, content in response.get("content", {}).items():
                if media_type != "application/json":
                    expected = (
                        {} if media_type.startswith("text/") and media_type != "text/csv" else {"format": "binary"}
                    )
                    assert content["schema"] == {"type": "string", **expected}, (call, media_type)


def test_errors_have_one_shape_and_examples_of_their_own_status(document: Any) -> None:
    codes = {kind.code: kind.status for kind in FAMILY}
    for call, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            content = response["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}, call
            assert content["examples"], call
            for code, example in content["examples"].items():
                assert (example["value"]["code"], codes[code]) == (code, int(status)), call
                assert example["value"]["detail"].startswith("Expected "), call


PREDICTING = {"POST /predict", "POST /predict/batch", "POST /explain"}
OPEN = {"GET /status", "GET /health", "GET /ready", "GET /metrics"}


def asking_for_a_key(document: Any) -> set[str]:
    return {call for call, operation in operations(document) if "security" in operation}


def test_calls_that_write_or_show_rows_ask_for_a_key(document: Any) -> None:
    assert asking_for_a_key(document) == {call for call, _ in operations(document)} - PREDICTING - OPEN


def test_the_settings_say_which_calls_ask_for_a_key(tmp_path: Path) -> None:
    app = create_app(make_settings(tmp_path, open_predict=False, open_reading=True))
    document = app.openapi()
    app.state.service.store.close()
    reading = {call for call, _ in operations(document) if call.startswith("GET ")} - {"GET /audit-log"}
    assert asking_for_a_key(document) == {call for call, _ in operations(document)} - reading


def test_a_call_without_parameters_or_a_body_declares_no_422(document: Any) -> None:
    declared = {call for call, operation in operations(document) if "422" in operation["responses"]}
    assert "GET /retrain/{job_id}" not in declared
    assert "GET /models/{version}" not in declared
    assert "DELETE /training-data/{row_id}" not in declared
    assert {"GET /predictions", "POST /predict", "GET /models/{version}/file"} <= declared


def test_events_are_declared_as_an_event_stream(document: Any) -> None:
    response = document["paths"]["/retrain/{job_id}/events"]["get"]["responses"]["200"]
    assert list(response["content"]) == ["text/event-stream"]


def test_the_options_of_a_retrain_are_query_parameters(document: Any) -> None:
    operation = document["paths"]["/retrain"]["post"]
    query = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    assert set(query) == {"wait", "mode", "max_seconds", "force", "without"}
    assert query["mode"]["enum"] == ["auto", "quick", "full"]


def test_optional_fields_of_forms_are_not_prefilled(document: Any) -> None:
    """Swagger UI takes the value of a field from its example, else from its type: "string"."""
    for call, operation in operations(document):
        form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data")
        for name, schema in form["schema"]["properties"].items() if form else ():
            optional = name not in form["schema"]["required"] and schema.get("format") != "binary"
            assert not optional or schema["example"] == "", (call, name)


def test_forms_have_file_pickers(document: Any) -> None:
    assert "/upload-zip" not in document["paths"]
    for path, field in (("/predict", "file"), ("/predict/batch", "files"), ("/upload", "file"), ("/retrain", "file")):
        form = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        schema = form["properties"][field]
        assert (schema.get("items") or schema)["format"] == "binary"


def test_every_error_of_the_service_can_be_declared() -> None:
    internal = {errors.AppError, errors.ClusterUnavailable, errors.StoreRefused}
    for kind in set(FAMILY) - internal:
        assert list(error_responses(kind)) == [kind.status]


def test_docs_need_no_internet(client: httpx.Client) -> None:
    page = client.get("/docs").text
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)["']|url: ['"]([^'"]+)""", page)
    assets = [one or other for one, other in addresses]
    assert len(assets) >= 4 and all(address.startswith("/") for address in assets)
    assert not re.search(r"https?://", page)
    for address in assets:
        response = client.get(address)
        assert (response.status_code, bool(response.content)) == (200, True), address
    assert client.get("/redoc").status_code == 404
