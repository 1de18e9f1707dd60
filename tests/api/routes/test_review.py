import hashlib
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from helpers.pictures import SHAPES, draw
from helpers.service import running
from shoe_classifier.settings import Settings
from shoe_classifier.types import NONE_OF_THESE


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"review_random_share": 0.0})


def predict(client: httpx.Client, label: str, seed: int) -> dict[str, Any]:
    answer = client.post("/predict", files={"file": draw(label, seed)})
    assert answer.status_code == 200
    return answer.json()


def answer(client: httpx.Client, *items: dict[str, Any]) -> httpx.Response:
    return client.post("/review", json={"items": list(items)})


def review(client: httpx.Client, **query: Any) -> dict[str, Any]:
    response = client.get("/review", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def unknown(client: httpx.Client, count: int) -> list[dict[str, Any]]:
    """Predictions of stripes, which the model knows as none of its labels."""
    found = [
        prediction for seed in range(20) if (prediction := predict(client, "stripes", seed))["decision"] == "unknown"
    ]
    assert len(found) >= count
    return found


def shown(body: dict[str, Any]) -> set[str]:
    return {row_id for item in body["items"] for row_id in (item["prediction_id"], *item["similar_ids"])}


def training(client: httpx.Client) -> list[tuple[str, str]]:
    return [(row["shoe_class"], row["source"]) for row in client.get("/training-data").json()]


def test_what_waits_is_shown_once_with_what_looks_like_it(client: httpx.Client) -> None:
    predict(client, "Boot", 1)
    strange = unknown(client, 5)
    again = predict(client, "stripes", 0)
    body = review(client, kind="unknown")
    assert shown(body) == {prediction["prediction_id"] for prediction in strange} | {again["prediction_id"]}
    assert body["counts"]["unknown"] == len(strange) + 1
    item = body["items"][0]
    assert item["kind"] == item["decision"] == "unknown" and "none of the labels" in item["reason"]
    assert all(item["similar"] == len(item["similar_ids"]) for item in body["items"])
    assert any(item["similar"] for item in body["items"])  # the same picture was sent twice
    assert client.get(item["file_url"]).status_code == 200
    assert review(client, kind="uncertain")["items"] == []
    assert len(review(client, limit=1)["items"]) == 1


def test_answers_become_training_data_and_leave_the_queue(client: httpx.Client) -> None:
    ids = [prediction["prediction_id"] for prediction in unknown(client, 4)]
    response = answer(
        client,
        {"prediction_id": ids[0], "label": "stripes"},
        {"prediction_id": ids[1], "label": "boot"},
        {"prediction_id": ids[2], "none": True},
        {"prediction_id": ids[3], "skip": True},
    )
    assert response.json() == {"answered": 4, "labels": {"stripes": 1, "Boot": 1}, "none": 1, "skipped": 1, "undone": 0}
    assert {source for _, source in training(client)} == {"review"}
    assert sorted(label for label, _ in training(client)) == ["Boot", NONE_OF_THESE, "stripes"]
    assert not shown(review(client)) & set(ids[:4])
    rows = {row["id"]: row for row in client.get("/predictions").json()}
    assert [rows[row_id]["reviewed_label"] for row_id in ids[:4]] == ["stripes", "Boot", None, ""]
    assert {rows[row_id]["review_kind"] for row_id in ids[:4]} == {"unknown"}


def test_another_answer_replaces_the_one_before_and_undo_takes_it_back(client: httpx.Client) -> None:
    row_id = unknown(client, 1)[0]["prediction_id"]
    answer(client, {"prediction_id": row_id, "label": "stripes"})
    answer(client, {"prediction_id": row_id, "label": "Sandal"})
    assert training(client) == [("Sandal", "review")]
    answer(client, {"prediction_id": row_id, "skip": True})
    assert training(client) == []
    answer(client, {"prediction_id": row_id, "label": "stripes"})
    assert answer(client, {"prediction_id": row_id, "undo": True}).json()["undone"] == 1
    assert training(client) == [] and row_id in shown(review(client))
    assert client.get(review(client)["items"][0]["file_url"]).status_code == 200


def test_undo_leaves_what_came_from_elsewhere(client: httpx.Client) -> None:
    row_id = unknown(client, 1)[0]["prediction_id"]
    client.post(f"/predictions/{row_id}/feedback", json={"label": "stripes"})
    answer(client, {"prediction_id": row_id, "label": "stripes"})
    answer(client, {"prediction_id": row_id, "undo": True})
    assert training(client) == [("stripes", "feedback")]


def test_one_wrong_answer_and_nothing_is_changed(client: httpx.Client, settings: Settings) -> None:
    first, same, second = (predict(client, "stripes", seed)["prediction_id"] for seed in (1, 1, 2))
    small = client.post("/predict", files={"file": draw("stripes", 3, (12, 12))}).json()["prediction_id"]
    deleted = predict(client, "stripes", 4)["prediction_id"]
    sha256 = hashlib.sha256(draw("stripes", 4)).hexdigest()
    (settings.dataset_dir / "images" / sha256[:2] / f"{sha256}.jpg").unlink()
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("none", {"label": "Boot"}, 404, "not_found"),
        (first, {"label": "Boot"}, 422, "invalid_request"),
        (same, {"label": "Sandal"}, 422, "invalid_request"),
        (small, {"label": "Boot"}, 422, "too_small"),
        (deleted, {"none": True}, 404, "not_found"),
        (second, {"label": "a/b"}, 422, "invalid_label"),
        (second, {"label": ""}, 422, "invalid_label"),
        (second, {"label": "Boot", "skip": True}, 422, "invalid_request"),
        (second, {}, 422, "invalid_request"),
    ]
    for row_id, said, status, code in cases:
        response = answer(client, {"prediction_id": first, "label": "stripes"}, {"prediction_id": row_id, **said})
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        if row_id != second:  # in the last cases the label or the form is wrong, whatever the prediction
            assert row_id in response.json()["prediction_ids"]
    assert training(client) == []
    assert all(row["reviewed_at"] is None for row in client.get("/predictions").json())


def test_a_picture_that_was_not_kept(settings: Settings) -> None:
    with running(settings.model_copy(update={"store_prediction_images": False})) as client:
        row_id = predict(client, "stripes", 1)["prediction_id"]
        assert review(client)["items"] == []
        response = answer(client, {"prediction_id": row_id, "label": "Boot"})
        assert (response.status_code, response.json()["prediction_ids"]) == (404, [row_id])
        assert answer(client, {"prediction_id": row_id, "skip": True}).status_code == 200


def test_those_drawn_at_random_are_of_all_decisions(settings: Settings) -> None:
    with running(settings.model_copy(update={"review_random_share": 1.0})) as client:
        ids = [predict(client, label, 1)["prediction_id"] for label in (*SHAPES, "stripes")]
        body = review(client, kind="random")
        assert [item["prediction_id"] for item in body["items"]] == ids[::-1]
        assert body["counts"] == {"uncertain": 0, "unknown": 0, "random": 4, "drifted": 0, "shadow": 0}
        answer(client, {"prediction_id": ids[0], "skip": True})
        answer(client, {"prediction_id": ids[0], "undo": True})
        assert review(client)["counts"]["random"] == 4


def test_a_whole_page_at_once(client: httpx.Client) -> None:
    ids = [predict(client, "Boot", seed)["prediction_id"] for seed in range(60)]
    body = answer(client, *({"prediction_id": row_id, "label": "Boot"} for row_id in ids)).json()
    assert (body["answered"], body["labels"], len(client.get("/training-data?limit=100").json())) == (
        60,
        {"Boot": 60},
        60,
    )
    assert answer(client).status_code == 422
    assert answer(client, *({"prediction_id": row_id, "skip": True} for row_id in ids * 9)).status_code == 422


def test_answers_are_taken_during_a_retrain(client: httpx.Client) -> None:
    first, second = (prediction["prediction_id"] for prediction in unknown(client, 2)[:2])
    answer(client, {"prediction_id": first, "label": "stripes"})
    client.app.state.service.retrainer.start("full", None, False)  # type: ignore[attr-defined]
    said = ({"prediction_id": first, "label": "Boot"}, {"prediction_id": second, "label": "stripes"})
    assert answer(client, *said).status_code == 200
    assert sorted(training(client)) == [("Boot", "review"), ("stripes", "review")]
    assert answer(client, {"prediction_id": first, "undo": True}).status_code == 200
    assert training(client) == [("stripes", "review")]


def test_only_those_who_may_write_answer(settings: Settings) -> None:
    with running(settings.model_copy(update={"api_key": SecretStr("k")})) as client:
        assert answer(client, {"prediction_id": "x", "skip": True}).status_code == 401
        assert client.get("/review").status_code == client.get("/monitoring").status_code == 401
    with running(settings.model_copy(update={"api_key": SecretStr("k"), "read_key": SecretStr("r")})) as client:
        client.headers["X-API-Key"] = "r"
        assert client.get("/review").status_code == client.get("/monitoring").status_code == 200
        assert answer(client, {"prediction_id": "x", "skip": True}).status_code in (401, 403)


def test_wrong_queries(client: httpx.Client) -> None:
    for query in ({"kind": "odd"}, {"limit": 0}, {"limit": 1000}):
        response = client.get("/review", params=query)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
