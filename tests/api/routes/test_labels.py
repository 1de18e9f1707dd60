from typing import Any

import httpx
import numpy as np
import pytest

from helpers.pictures import draw, lesson_zip, zip_of
from helpers.service import finished_job, make_settings, running, wait_for
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.settings import Settings


def labels(client: httpx.Client) -> dict[str, Any]:
    return {row["label"]: row for row in client.get("/labels").json()}


def teach(client: httpx.Client, *names: str, count: int = 24) -> None:
    for number, name in enumerate(names):
        client.post("/upload", files={"file": lesson_zip(name, count, 1000 * (number + 1))})
    publish(client, force=True)


def publish(client: httpx.Client, *, force: bool = False) -> dict[str, Any]:
    job: dict[str, Any] = client.post("/retrain", params={"mode": "quick", "wait": True, "force": force}).json()
    assert job["state"] == "published", job
    return job


def predicted(client: httpx.Client, label: str) -> str:
    answer: str = client.post("/predict", files={"file": draw(label, 5)}).json()["predicted_class"]
    return answer


def test_labels_count_what_is_built_in_and_what_was_taught_apart(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 30)})
    before = labels(client)
    assert list(before) == ["Boot", "Sandal", "Shoe", "hat"]
    assert (before["Boot"]["pictures"], before["hat"]["built_in"], before["hat"]["live_label"]) == (0, 0, None)
    assert before["Boot"]["built_in"] > 0
    publish(client)
    hat = labels(client)["hat"]
    assert (hat["pictures"], hat["learnt"], hat["live_label"]) == (30, 30, "hat")
    assert hat["held_out"] == len(client.get("/training-data", params={"split": "holdout"}).json())
    assert hat["recall_samples"] == hat["held_out"] and hat["recall"] > 0.5


def test_a_learning_curve_says_whether_there_is_enough(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 30)})
    wait_for(lambda: labels(client)["hat"]["enough"] is not None)
    hat = labels(client)["hat"]
    assert [pictures for pictures, _ in hat["learning_curve"]] == sorted(p for p, _ in hat["learning_curve"])
    assert 0 <= hat["expected_gain"] <= 1 and hat["enough"] == (hat["expected_gain"] < 0.01)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def test_a_renamed_label_keeps_its_place_at_the_next_retrain(
    kind: str, settings: Settings, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    if kind == "supabase":
        settings = make_settings(tmp_path, **request.getfixturevalue("project"))
    with running(settings) as client:
        teach(client, "hat")
        answer = client.patch("/labels/Sandal", json={"name": " slipper "}).json()
        assert (answer["name"], answer["pictures"], answer["merged"]) == ("slipper", 0, False)
        assert answer["takes_effect"] == "next_retrain" and "next retrain" in answer["detail"]
        renamed = client.patch("/labels/hat", json={"name": "cap"}).json()
        assert renamed["pictures"] == 24
        assert {row["shoe_class"] for row in client.get("/training-data").json()} == {"cap"}
        assert client.get("/training-data", params={"learnt": False}).json() == []
        assert predicted(client, "Sandal") == "Sandal"
        assert labels(client)["slipper"]["live_label"] == "Sandal"
        assert publish(client)["labels"] == ["Boot", "slipper", "Shoe", "cap"]
        assert (predicted(client, "Sandal"), predicted(client, "hat")) == ("slipper", "cap")
        again = client.post("/retrain", params={"wait": True})
        assert (again.status_code, again.json()["code"]) == (409, "no_new_data")


def test_a_merged_label_leaves_through_a_retrain(client: httpx.Client, settings: Settings) -> None:
    teach(client, "hat")
    answer = client.patch("/labels/hat", json={"name": "boot"}).json()
    assert (answer["name"], answer["merged"], answer["pictures"]) == ("Boot", True, 24)
    assert list(labels(client)) == ["Boot", "Sandal", "Shoe"]
    assert publish(client, force=True)["labels"] == ["Boot", "Sandal", "Shoe"]
    assert set(np.unique(bundles.read_replay_buffer(settings.live_model).labels)) == {-1, 0, 1, 2}
    assert [predicted(client, label) for label in ("hat", "Boot", "Shoe")] == ["Boot", "Boot", "Shoe"]


@pytest.mark.parametrize(("label", "into"), [("Sandal", "Shoe"), ("Boot", "Shoe"), ("Shoe", "Boot")])
def test_merged_labels_are_judged_by_what_the_live_model_calls_either(
    client: httpx.Client, label: str, into: str
) -> None:
    before = client.get("/status").json()["model"]["metrics"]
    client.patch(f"/labels/{label}", json={"name": into})
    job = publish(client)
    merged = job["baseline"]["per_class"][into]
    assert merged["support"] == sum(before["per_class"][name]["support"] for name in (label, into))
    assert merged["recall"] >= min(before["per_class"][name]["recall"] for name in (label, into))


def test_a_removed_label_leaves_with_its_pictures(client: httpx.Client, settings: Settings) -> None:
    teach(client, "hat")
    url = client.get("/training-data").json()[0]["file_url"]
    assert client.delete("/labels/Boot").json()["pictures"] == 0
    assert client.delete("/labels/hat").json()["pictures"] == 24
    assert client.get("/training-data").json() == []
    assert list(labels(client)) == ["Sandal", "Shoe"]
    assert publish(client)["labels"] == ["Sandal", "Shoe"]
    wait_for(lambda: client.get(url).status_code == 404)
    assert set(np.unique(bundles.read_replay_buffer(settings.live_model).labels)) == {-1, 0, 1}
    assert predicted(client, "Sandal") == "Sandal"
    response = client.delete("/labels/Shoe")
    assert (response.status_code, response.json()["code"]) == (409, "too_few_labels")


def test_changes_are_undone_until_a_version_has_learned_them(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 3)})
    client.post("/upload", files={"file": lesson_zip("cap", 2)})
    before = labels(client)
    made = [
        client.patch("/labels/hat", json={"name": "cap"}).json(),
        client.patch("/labels/Shoe", json={"name": "Boot"}).json(),
        client.delete("/labels/cap").json(),
    ]
    listed = client.get("/labels/changes").json()
    assert [row["id"] for row in listed] == [answer["change_id"] for answer in reversed(made)]
    assert undo(client, made[0]) == (409, "superseded")
    undone = [client.delete(f"/labels/changes/{row['id']}").json() for row in listed]
    assert [answer["pictures"] for answer in undone] == [5, 0, 3]
    assert (labels(client), client.get("/labels/changes").json()) == (before, [])
    assert undo(client, made[0]) == (404, "not_found")
    removed = client.delete("/labels/cap").json()
    publish(client, force=True)
    assert client.get("/labels/changes").json() == []
    assert undo(client, removed) == (409, "superseded")


def undo(client: httpx.Client, change: dict[str, Any]) -> tuple[int, str]:
    response = client.delete(f"/labels/changes/{change['change_id']}")
    return response.status_code, response.json()["code"]


def test_no_change_is_undone_under_a_retrain_or_published_afterwards(client: httpx.Client) -> None:
    client.post("/upload", files={"file": zip_of({f"hat/{i}.jpg": draw("Boot", i) for i in range(30)})})
    change = client.patch("/labels/Sandal", json={"name": "slipper"}).json()
    job = client.post("/retrain", params={"mode": "quick"}).json()
    assert undo(client, change) == (409, "retrain_running")
    version = finished_job(client, job["job_id"])["model_version"]
    wait_for(lambda: client.delete(f"/labels/changes/{change['change_id']}").status_code == 200)
    answer = client.post(f"/models/{version}/activate")
    assert (answer.status_code, answer.json()["code"]) == (409, "superseded")


def test_changes_are_taken_over_again_after_a_rollback(client: httpx.Client) -> None:
    first = client.get("/status").json()["model"]["version"]
    client.patch("/labels/Sandal", json={"name": "slipper"})
    publish(client)
    client.post(f"/models/{first}/activate")
    assert labels(client)["slipper"]["live_label"] == "Sandal"
    assert publish(client)["labels"] == ["Boot", "slipper", "Shoe"]


def test_an_old_name_can_be_taught_anew(client: httpx.Client) -> None:
    client.patch("/labels/Sandal", json={"name": "slipper"})
    publish(client)
    teach(client, "Sandal")
    assert list(labels(client)) == ["Boot", "slipper", "Shoe", "Sandal"]


def test_a_label_that_is_only_taught_changes_at_once(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 3)})
    assert client.patch("/labels/hat", json={"name": "Hat"}).json()["takes_effect"] == "now"
    assert client.get("/status").json()["training_data"]["labels"] == {"Hat": 3}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PATCH", "none", {"name": "x"}, 404, "not_found"),
        ("DELETE", "none", None, 404, "not_found"),
        ("DELETE", "changes/none", None, 404, "not_found"),
        ("PATCH", "Boot", {"name": "Boot"}, 422, "invalid_request"),
        ("PATCH", "Boot", {"name": " "}, 422, "invalid_label"),
        ("PATCH", "Boot", {"name": "../x"}, 422, "invalid_label"),
        ("PATCH", "Boot", {"name": "x" * 65}, 422, "invalid_label"),
        ("PATCH", "Boot", {"label": "x"}, 422, "invalid_request"),
        ("PATCH", "Boot", {"name": "x" * 5000}, 413, "too_large"),
    ],
)
def test_changes_that_make_no_sense(
    client: httpx.Client, method: str, path: str, body: Any, status: int, code: str
) -> None:
    response = client.request(method, f"/labels/{path}", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert list(labels(client)) == ["Boot", "Sandal", "Shoe"]
