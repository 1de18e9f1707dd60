import io
import math
import re
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image, ImageFilter

from helpers.pictures import SHAPES, draw, encode
from helpers.service import running
from shoe_classifier.settings import Settings

RULES = Path(__file__).parents[3] / "docs" / "prometheus-alerts.yml"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"review_random_share": 1.0})


def gauges(client: httpx.Client) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_figures_of_the_service(client: httpx.Client) -> None:
    answers = [client.post("/predict", files={"file": draw(label, 1)}).json() for label in (*SHAPES, "stripes")]
    items = [
        {"prediction_id": answer["prediction_id"], "label": "Boot" if number < 2 else "Shoe"}
        for number, answer in enumerate(answers[:3])
    ]
    client.post("/review", json={"items": items})
    body = client.get("/monitoring", params={"days": 7}).json()
    assert (body["days"], body["predictions"], body["reviewed"]) == (7, 4, 3)
    assert body["accuracy"] == round(2 / 3, 5)  # the sandal is no boot
    assert body["unknown_rate"] == 0.25
    assert body["drift"]["score"] is None and body["drift"]["raised"] is False
    assert [(day["predictions"], day["reviewed"]) for day in body["by_day"]] == [(4, 3)]
    assert [group["version"] for group in body["by_version"]] == [answers[0]["model_version"]]


def test_gauges_for_prometheus(client: httpx.Client) -> None:
    before = gauges(client)
    assert math.isnan(before["shoe_accuracy"]) and math.isnan(before["shoe_drift_score"])
    answer = client.post("/predict", files={"file": draw("Boot", 1)}).json()
    assert gauges(client)['shoe_to_review{kind="random"}'] == 1
    client.post("/review", json={"items": [{"prediction_id": answer["prediction_id"], "label": "Boot"}]})
    client.app.state.service.monitor.look()  # type: ignore[attr-defined]
    after = gauges(client)
    assert (after["shoe_accuracy"], after["shoe_reviewed"], after['shoe_to_review{kind="random"}']) == (1.0, 1.0, 0.0)
    assert (after["shoe_unknown_rate"], after["shoe_drift_raised"]) == (0.0, 0.0)


def test_the_service_looks_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoe_classifier.api.lifespan._LOOK_SECONDS", 0.05)
    with running(settings) as client:
        for _ in range(200):
            if client.get("/monitoring").json()["drift"]["measured_at"]:
                break
        assert client.get("/monitoring").json()["drift"]["measured_at"]


def test_a_new_camera_raises_the_alarm_over_http(client: httpx.Client) -> None:
    look = client.app.state.service.monitor.look  # type: ignore[attr-defined] # which the service does every ten seconds
    predict_all(client, [draw(SHAPES[seed % 3], 50_000 + seed) for seed in range(60)])
    look()
    ordinary = client.get("/monitoring").json()["drift"]
    assert ordinary["pictures"] >= 40 and not ordinary["raised"], ordinary
    predict_all(client, [through_new_camera(draw(SHAPES[seed % 3], 60_000 + seed)) for seed in range(200)])
    look()
    raised = client.get("/monitoring").json()["drift"]
    assert raised["raised"] and raised["score"] > raised["raised_from"], raised
    assert gauges(client)["shoe_drift_raised"] == 1


def predict_all(client: httpx.Client, pictures: list[bytes]) -> None:
    for picture in pictures:
        assert client.post("/predict", files={"file": picture}).status_code == 200


def through_new_camera(picture: bytes) -> bytes:
    """Blurred, darker and colder."""
    blurred = Image.open(io.BytesIO(picture)).convert("RGB").filter(ImageFilter.GaussianBlur(3))
    colder = Image.merge(
        "RGB", [band.point(lambda v, k=k: int(v * k)) for band, k in zip(blurred.split(), (0.6, 0.8, 1.0), strict=True)]
    )
    return encode(colder)


def test_the_example_rules_name_gauges_that_exist(client: httpx.Client) -> None:
    client.post("/predict", files={"file": draw("Boot", 1)})
    names = {re.sub(r"{.*", "", name) for name in gauges(client)}
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) == 5
    for rule in rules:
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert set(re.findall(r"shoe_\w+", rule["expr"])) <= names
        assert re.fullmatch(r"\d+[mhd]", rule["for"])


def test_wrong_days(client: httpx.Client) -> None:
    for days in (0, 366, "x"):
        response = client.get("/monitoring", params={"days": days})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
