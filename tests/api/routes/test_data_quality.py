from typing import Any

import httpx
import pytest

from helpers.pictures import SHAPES, draw, lesson_zip, zip_of
from helpers.service import wait_for


def upload(client: httpx.Client, files: dict[str, bytes]) -> None:
    assert client.post("/upload", files={"file": zip_of(files)}).status_code == 201


def lesson(count: int = 12) -> dict[str, bytes]:
    """Pictures of all shapes, and one red circle that is called a square."""
    files = {f"{label}/{seed}.jpg": draw(label, seed) for label in SHAPES for seed in range(300, 300 + count)}
    return files | {"Sandal/wrong.jpg": draw("Boot", 999)}


def issues(client: httpx.Client, **params: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {}

    def checked() -> bool:
        answer.update(client.get("/training-data/issues", params=params).json())
        return bool(answer["up_to_date"])

    wait_for(checked)
    return answer


def test_a_wrong_label_is_found_after_the_upload_and_mended_by_its_proposal(client: httpx.Client) -> None:
    upload(client, lesson())
    answer = issues(client, kind="label")
    worst = answer["issues"][0]
    assert (answer["pictures"], worst["label"]) == (37, "Sandal")
    assert worst["proposal"] == {"action": "relabel", "label": "Boot"}
    assert {one["label"] for one in worst["neighbours"]} == {"Sandal", "Boot"}
    assert all(client.get(one["file_url"]).status_code == 200 for one in worst["neighbours"])
    assert answer["counts"]["label"] == len(answer["issues"]) and answer["checked_at"]
    client.patch(f"/training-data/{worst['id']}", json={"label": worst["proposal"]["label"]})
    assert worst["id"] not in [one["id"] for one in client.get("/training-data/issues").json()["issues"]]


def test_what_is_kept_is_not_shown_again(client: httpx.Client) -> None:
    upload(client, lesson())
    worst = issues(client, kind="label")["issues"][0]
    kept = {"items": [{"id": worst["id"], "kind": "label"}]}
    answer = client.post("/training-data/issues", json=kept)
    assert answer.json() == {"kept": 1, "undone": 0}
    upload(client, {"Boot/more.jpg": draw("Boot", 800)})
    assert worst["id"] not in [one["id"] for one in issues(client, kind="label")["issues"]]
    assert client.post("/training-data/issues", json={**kept, "undo": True}).json() == {"kept": 0, "undone": 1}
    assert worst["id"] in [one["id"] for one in issues(client, kind="label")["issues"]]
    client.post("/training-data/issues", json=kept)
    client.patch(f"/training-data/{worst['id']}", json={"label": "Shoe"})  # another label is another question
    assert worst["id"] in [one["id"] for one in issues(client, kind="label")["issues"]]


def test_kinds_limits_and_filters(client: httpx.Client) -> None:
    upload(client, {**lesson(), "Boot/tiny.jpg": draw("Boot", 1, (20, 18))})
    everything = issues(client)
    assert {"label", "low_quality"} <= everything["counts"].keys()
    scores = [one["score"] for one in everything["issues"]]
    assert scores == sorted(scores, reverse=True)
    tiny = issues(client, kind="low_quality", label="Boot")["issues"]
    assert any("18 pixels" in one["reason"] and one["proposal"]["action"] == "delete" for one in tiny)
    assert len(issues(client, limit=1)["issues"]) == 1
    assert issues(client, learnt=True)["issues"] == []


def test_a_rejected_retrain_leads_to_the_pictures_that_spoiled_it(client: httpx.Client) -> None:
    wrong = {f"Sandal/{seed}.jpg": draw("Boot", seed) for seed in range(500, 540)}
    upload(client, wrong)
    job = client.post("/retrain", params={"mode": "quick", "wait": True}).json()
    assert job["state"] == "rejected"
    issues(client)
    found = client.get(job["issues_url"]).json()["issues"]
    assert {one["label"] for one in found if one["kind"] == "label"} == {"Sandal"}
    assert len([one for one in found if one["kind"] == "label"]) > 30
    client.post("/upload", files={"file": lesson_zip("hat", 3)})
    later = {row["id"] for row in client.get("/training-data", params={"label": "hat"}).json()}
    assert not later & {one["id"] for one in client.get(job["issues_url"]).json()["issues"]}


def test_without_pictures_there_is_nothing_to_find(client: httpx.Client) -> None:
    answer = issues(client)
    assert (answer["issues"], answer["counts"], answer["pictures"]) == ([], {}, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"items": []}, 422),
        ({"items": [{"id": "none", "kind": "label"}]}, 404),
        ({"items": [{"id": "none", "kind": "ugly"}]}, 422),
    ],
)
def test_what_cannot_be_kept(client: httpx.Client, body: object, status: int) -> None:
    assert client.post("/training-data/issues", json=body).status_code == status
