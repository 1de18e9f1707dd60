import hashlib
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw, lesson_zip
from helpers.service import make_settings, running
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import TrainingPicture, new_id, picture_path, utc_now


def test_pages_follow_the_link(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 7)})
    seen: list[str] = []
    path: str | None = "/training-data?limit=3"
    while path:
        response = client.get(path)
        seen += [row["id"] for row in response.json()]
        path = response.links.get("next", {}).get("url")
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 7


@pytest.mark.parametrize("path", ["/predictions", "/training-data", "/retrain"])
@pytest.mark.parametrize("query", ["limit=-1", "limit=0", "limit=1001", "limit=x", "before=x", "before=' or 1=1"])
def test_bad_pages(client: httpx.Client, path: str, query: str) -> None:
    response = client.get(f"{path}?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_before_says_where_the_page_starts(client: httpx.Client) -> None:
    for i in range(4):
        client.post("/predict", files={"file": draw("Boot", i)})
    rows = client.get("/predictions").json()
    older = client.get("/predictions", params={"before": rows[1]["id"]}).json()
    assert older == rows[2:]


@pytest.mark.parametrize(
    ("name", "status"), [("0" * 64, 404), ("x", 422), ("..%2f..%2fetc%2fpasswd", 404), ("A" * 64, 422)]
)
def test_files_that_are_not_there(client: httpx.Client, name: str, status: int) -> None:
    assert client.get(f"/files/{name}").status_code == status


def test_filters_and_the_count_of_what_passes(client: httpx.Client) -> None:
    for label in ("hat", "cap"):
        client.post("/upload", files={"file": lesson_zip(label, 6)})
    response = client.get("/training-data", params={"label": "hat", "limit": 4, "learnt": "false"})
    assert {row["shoe_class"] for row in response.json()} == {"hat"}
    assert response.headers["X-Total-Count"] == "6"
    rest = client.get(response.links["next"]["url"])
    assert {row["shoe_class"] for row in rest.json()} == {"hat"} and len(rest.json()) == 2
    assert client.get("/training-data", params={"split": "holdout"}).headers["X-Total-Count"].isdecimal()
    client.post("/predict", files={"file": draw("Boot", 1)})
    row = client.get("/predictions", params={"label": "Boot"}).json()[0]
    same = {"decision": row["decision"], "version": row["model_version"], "since": row["created_at"]}
    assert client.get("/predictions", params=same).json() == [row]
    assert client.get("/predictions", params={"until": row["created_at"]}).json() == []


@pytest.mark.parametrize(
    "wrong",
    [
        "/predictions?decision=sure",
        "/predictions?since=yesterday",
        "/predictions?until=0001-01-01T00:00:00%2B14:00",
        "/predictions?version=%00",
        "/training-data?split=test",
        "/training-data?learnt=maybe",
        "/training-data?label=" + "x" * 65,
        "/training-data/issues?kind=ugly",
    ],
)
def test_wrong_filters(client: httpx.Client, wrong: str) -> None:
    response = client.get(wrong)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def test_five_hundred_pictures_change_in_one_call(
    kind: str, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "supabase":
        settings = make_settings(tmp_path, **request.getfixturevalue("project"))
    with running(settings) as client:
        ids = add_rows(client.app.state.service.store, tmp_path, 500)  # type: ignore[attr-defined]
        answer = client.post("/training-data/bulk", json={"ids": ids, "label": "BOOT"})
        assert answer.json() == {"relabelled": 500, "deleted": 0}
        assert client.get("/status").json()["training_data"]["labels"] == {"Boot": 500}
        answer = client.post("/training-data/bulk", json={"ids": ids, "delete": True})
        assert answer.json() == {"relabelled": 0, "deleted": 500}
        assert client.get("/training-data").headers["X-Total-Count"] == "0"


def add_rows(store: Store, folder: Path, count: int) -> list[str]:
    """Add rows whose files are no pictures, which are never looked at."""
    rows, files = [], []
    for number in range(count):
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        files.append(folder / f"{sha256}.jpg")
        files[-1].write_bytes(str(number).encode())
        path = picture_path(sha256, ".jpg")
        rows.append(TrainingPicture(new_id(), path, sha256, "hat", False, "train", "zip", new_id(), utc_now()))
    store.add_training(rows, files)
    return [row.id for row in rows]


def test_unknown_ids_change_nothing_and_are_named(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 2)})
    ids = [row["id"] for row in client.get("/training-data").json()]
    for change in ({"label": "cap"}, {"delete": True}):
        response = client.post("/training-data/bulk", json={"ids": [*ids, "none"], **change})
        assert (response.status_code, response.json()["unknown"]) == (404, ["none"])
        assert "none" in response.json()["detail"]
    assert client.get("/status").json()["training_data"]["labels"] == {"hat": 2}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ids": [], "label": "x"}, "invalid_request"),
        ({"ids": ["x"]}, "invalid_request"),
        ({"ids": ["x"], "label": "x", "delete": True}, "invalid_request"),
        ({"ids": "x", "label": "x"}, "invalid_request"),
        ({"ids": ["x"], "label": "../x"}, "invalid_label"),
    ],
)
def test_bulk_calls_that_make_no_sense(client: httpx.Client, body: object, code: str) -> None:
    response = client.post("/training-data/bulk", json=body)
    assert (response.status_code, response.json()["code"]) == (422, code)
