"""The page's client, against the real service."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw, lesson_zip
from helpers.supabase_stack import free_port

sys.path.append(str(Path(__file__).parent.parent.parent / "frontend"))

from client import Api, ApiError, Prediction, Unreachable, from_environment


@pytest.fixture
def api(client: httpx.Client) -> Iterator[Api]:
    api = Api(str(client.base_url))
    yield api
    api.close()


def test_predict_correct_and_list(api: Api) -> None:
    assert api.ready()
    answer, broken = api.predict([("boot.jpg", draw("Boot", 1)), ("broken.jpg", draw("Boot", 1)[:200])])
    assert isinstance(answer, Prediction)
    assert (answer.predicted_class, answer.decision) == ("Boot", "accepted")
    assert isinstance(broken, ApiError)
    assert broken.code == "invalid_image"
    assert api.explain("boot.jpg", draw("Boot", 1)).startswith(b"\x89PNG")
    assert api.answer([answer.prediction_id], label="Shoe")["labels"] == {"Shoe": 1}
    [row], total = api.training_data(10, label="Shoe")
    assert (total, api.file(row["sha256"])) == (1, draw("Boot", 1))
    assert api.relabel([row["id"]], "Sandal")["relabelled"] == 1
    assert api.thumbnail(row["sha256"], 16).startswith(b"\xff\xd8")
    assert api.delete([row["id"]])["deleted"] == 1
    assert api.training_data(10) == ([], 0)
    rows, total = api.predictions(10, decision="accepted")
    assert ([row["id"] for row in rows], total) == ([answer.prediction_id], 1)
    assert api.predictions(10, answer.prediction_id)[0] == []
    assert api.monitoring(7)["predictions"] == 1
    assert api.minutes(10) == []


def test_teach_watch_and_roll_back(api: Api) -> None:
    first = api.status()["model"]["version"]
    assert api.upload("hats.zip", lesson_zip("hat", 60))["accepted"] == 60
    job = api.retrain("quick")
    events = list(api.events(job["job_id"]))
    assert events[-1]["state"] == "published", events[-1]["message"]
    assert api.jobs(1)[0] == api.job(job["job_id"]) == {**events[-1], "issues_url": None}
    assert api.activate(first)["state"] == "live"
    assert [row["state"] for row in api.models()] == ["archived", "live"]
    assert api.model_file(first).startswith(b"\x89HDF")


def test_upload_returns_the_report_even_if_nothing_was_accepted(api: Api) -> None:
    picture = draw("hat", 1)
    assert api.upload("hat.jpg", picture, "hat")["accepted"] == 1
    report = api.upload("hat.jpg", picture, "hat")
    assert (report["accepted"], report["skipped"][0]["reason"]) == (0, "duplicate")


def test_refusals_carry_the_services_message(api: Api) -> None:
    with pytest.raises(ApiError, match="Expected a complete JPEG") as error:
        api.explain("broken.jpg", draw("Boot", 1)[:200])
    assert (error.value.code, error.value.status) == ("invalid_image", 422)
    with pytest.raises(ApiError, match="Expected a job that is still") as error:
        job = api.upload("hats.zip", lesson_zip("hat", 60)) and api.retrain("quick")
        list(api.events(job["job_id"]))
        api.cancel(job["job_id"])
    assert error.value.code == "not_cancellable"
    with pytest.raises(ApiError, match="Expected the id of a retrain job"):
        list(api.events("none"))


def test_a_service_that_is_not_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_URL", f"http://127.0.0.1:{free_port()}/")
    api = from_environment("key")
    assert not api.ready()
    with pytest.raises(Unreachable, match=r"The service at http.* is not running"):
        api.status()
    with pytest.raises(Unreachable):
        list(api.events("x"))
    api.close()
