import hashlib
import json
import re
import threading
from datetime import datetime

import httpx
import pytest

from helpers.pictures import SHAPES, draw, lesson_zip, mixed_up_lesson, zip_of
from helpers.service import finished_job, running, wait_for
from shoe_classifier.ml.dataset import is_held_out
from shoe_classifier.settings import Settings
from shoe_classifier.types import TrainingEvent


def test_quick_retrain_teaches_a_new_label(client: httpx.Client) -> None:
    before = client.get("/status").json()["model"]["version"]
    response = client.post("/retrain", files={"file": ("hat.zip", lesson_zip("hat", 60))}, data={"mode": "quick"})
    assert response.status_code == 202
    job = finished_job(client, response.json()["job_id"])
    assert job["state"] == "published", job["message"]
    assert job["labels"] == [*SHAPES, "hat"]
    assert job["samples"] == 60
    assert job["metrics"]["accuracy"] > 0.7  # type: ignore[index]
    answers = [client.post("/predict", files={"file": draw("hat", i)}).json() for i in range(2000, 2010)]
    assert sum(answer["predicted_class"] == "hat" for answer in answers) >= 5
    assert {answer["model_version"] for answer in answers} == {job["model_version"]} != {before}
    status = client.get("/status").json()
    assert status["training_data"] == {"labels": {"hat": 60}, "unprocessed": 0}
    assert status["model"]["parent"] == before
    assert all(row["is_processed"] for row in client.get("/training-data").json())


def test_wait_answers_with_the_finished_job(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat")})
    response = client.post("/retrain", params={"wait": "true", "mode": "quick"})
    assert (response.status_code, response.json()["state"]) == (200, "published")
    assert client.get("/retrain").json()[0] == response.json()


def test_the_time_that_a_client_asked_to_wait_for_is_no_time_to_answer(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat")})
    response = client.post("/retrain", params={"wait": "true", "mode": "quick"})
    job = response.json()
    times = [datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at")]
    counted = client.app.state.service.metrics.registry.get_sample_value(  # type: ignore[attr-defined]
        "shoe_request_seconds_sum", {"path": "/retrain"}
    )
    assert 0 <= counted < response.elapsed.total_seconds() - (times[1] - times[0]).total_seconds() / 2


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "multipart/form-data; boundary=x"}])
def test_without_data(client: httpx.Client, headers: dict[str, str]) -> None:
    response = client.post("/retrain", headers=headers)  # generated clients name a form, even when they send none
    assert (response.status_code, response.json()["code"]) == (409, "no_new_data")
    assert client.get("/retrain").json() == []


@pytest.mark.parametrize("form", [{"mode": "slow"}, {"max_seconds": "0"}, {"max_seconds": "x"}, {"force": "perhaps"}])
def test_wrong_options(client: httpx.Client, form: dict[str, str]) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 2)})
    for given in ({"params": form}, {"files": {"x": (None, "")}, "data": form}):
        response = client.post("/retrain", **given)  # type: ignore[arg-type]
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_known_pictures_again_are_no_new_data(client: httpx.Client) -> None:
    client.post("/retrain", files={"file": lesson_zip("hat")}, params={"wait": "true", "mode": "quick"})
    response = client.post("/retrain", files={"file": lesson_zip("hat")})
    assert (response.status_code, response.json()["code"]) == (422, "nothing_accepted")


def test_bad_lesson_is_rejected_and_force_publishes_it(client: httpx.Client) -> None:
    before = client.get("/status").json()["model"]["version"]
    wrong = {
        f"{SHAPES[(n + 1) % 3]}/{i}.jpg": draw(label, 3000 + i) for n, label in enumerate(SHAPES) for i in range(150)
    }
    client.post("/upload", files={"file": zip_of(wrong)})
    job = client.post("/retrain", params={"wait": "true", "mode": "quick"}).json()
    assert job["state"] == "rejected"
    found = re.search(r"the live model is sure that (\d+) of (\d+) new pictures show something else", job["message"])
    assert found, job["message"]
    contradicted, pictures = map(int, found.groups())
    assert pictures == 450
    assert contradicted > 0.9 * pictures
    kept = client.get(f"/models/{job['model_version']}").json()
    assert (kept["state"], kept["parent"]) == ("rejected", before)
    assert client.get(f"/models/{kept['version']}/report.png").status_code == 200
    assert client.get(f"/models/{kept['version']}/file").status_code == 200
    assert job["metrics"]["worse"]["reasons"] and job["metrics"]["worse"]["confusions"]
    assert client.get("/status").json()["model"]["version"] == before
    assert client.get("/status").json()["training_data"]["unprocessed"] > 0
    activated = client.post(f"/models/{kept['version']}/activate").json()
    assert (activated["state"], activated["waiting"]) == ("live", 0)
    back = client.post(f"/models/{before}/activate").json()
    assert back["waiting"] == 450 and "450 are not in this version" in back["message"]
    forced = client.post("/retrain", params={"wait": "true", "mode": "quick", "force": "true"}).json()
    assert (forced["state"], forced["force"]) == ("published", True)
    assert "Forced, although" in forced["message"]
    assert client.get("/status").json()["model"]["version"] == forced["model_version"]


def test_one_picture_saved_again_and_again_is_rejected(client: httpx.Client) -> None:
    files = {f"hat/{quality}.jpg": draw("hat", 1, quality=quality) for quality in range(40, 90)}
    job = client.post("/retrain", files={"file": zip_of(files)}, params={"wait": "true", "mode": "quick"}).json()
    assert job["state"] == "rejected"
    assert "only 1 of the 50 pictures of 'hat' look different" in job["message"]


def test_flipped_labels_of_new_classes_are_rejected(client: httpx.Client) -> None:
    job = client.post(
        "/retrain", files={"file": zip_of(mixed_up_lesson())}, params={"wait": "true", "mode": "quick"}
    ).json()
    assert job["state"] == "rejected"
    assert re.search(r"only \d+ of \d+ new pictures look like the others of their label", job["message"])


def test_auto_says_what_it_took_and_why(settings: Settings) -> None:
    with running(settings) as client:
        job = client.post("/retrain", files={"file": lesson_zip("hat", 60)}, params={"wait": "true"}).json()
        assert job["mode"] == "quick"
        assert job["message"].startswith("Quick first, for 60 new pictures (full from 1000 on). Accuracy")


def test_events_tell_the_whole_story(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat")})
    job_id = client.post("/retrain", params={"mode": "quick"}).json()["job_id"]
    with client.stream("GET", f"/retrain/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = "".join(response.iter_text()).strip().split("\n\n")
    names, data = zip(*(event.split("\n", 1) for event in events), strict=True)
    jobs = [json.loads(line.removeprefix("data: ")) for line in data]
    assert names[-1] == "event: end"
    assert set(names[:-1]) <= {"event: progress"}
    assert jobs[-1]["state"] == "published"
    assert [job["progress"] for job in jobs] == sorted(job["progress"] for job in jobs)


def test_unknown_jobs(client: httpx.Client) -> None:
    for call in (client.get("/retrain/x"), client.get("/retrain/x/events"), client.delete("/retrain/x")):
        assert (call.status_code, call.json()["code"]) == (404, "not_found")


def held(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Makes the next retrain wait in its training until the event is set."""
    from shoe_classifier.ml import finetune

    real, go = finetune.retrain_head, threading.Event()

    def waiting(lesson: object, report: object) -> object:
        while not go.wait(0.02):
            report(TrainingEvent("train", 0.5, "Held by the test."))  # type: ignore[operator]
        return real(lesson, report)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune, "retrain_head", waiting)
    return go


def test_one_at_a_time_and_cancel(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    held(client, monkeypatch)
    client.post("/upload", files={"file": lesson_zip("hat")})
    job_id = client.post("/retrain", params={"mode": "quick"}).json()["job_id"]
    wait_for(lambda: client.get(f"/retrain/{job_id}").json()["phase"] == "train")
    second = client.post("/retrain")
    assert (second.status_code, second.json()["code"]) == (409, "retrain_running")
    version = client.get("/models").json()[0]["version"]
    assert client.post(f"/models/{version}/activate").json()["code"] == "retrain_running"
    assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 200
    assert client.delete(f"/retrain/{job_id}").status_code == 202
    assert finished_job(client, job_id)["state"] == "cancelled"
    assert client.get("/status").json()["training_data"]["unprocessed"] == 40
    assert client.delete(f"/retrain/{job_id}").json()["code"] == "not_cancellable"


def test_nothing_is_held_out_of_a_label_with_few_pictures(client: httpx.Client) -> None:
    held_out = next(i for i in range(1000) if is_held_out(hashlib.sha256(draw("lonely", i)).hexdigest()))
    client.post("/upload", files={"file": draw("lonely", held_out)}, data={"label": "lonely"})
    job = client.post("/retrain", params={"wait": "true", "mode": "quick"}).json()
    assert (job["state"], job["labels"]) == ("published", [*SHAPES, "lonely"])
    assert "lonely (too few pictures to test it)" in job["message"]
    answer = client.post("/predict", files={"file": draw("lonely", held_out)}).json()
    assert answer["predicted_class"] == "lonely"


def test_races_start_one_job(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    go = held(client, monkeypatch)
    client.post("/upload", files={"file": lesson_zip("hat")})
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(client.post("/retrain").status_code)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    go.set()
    assert sorted(statuses) == [202] + [409] * 5
    finished_job(client, client.get("/retrain").json()[0]["job_id"])


def test_failure_inside_ends_the_job_without_its_text(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoe_classifier.ml import finetune

    def broken(lesson: object, report: object) -> object:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(finetune, "retrain_head", broken)
    client.post("/upload", files={"file": lesson_zip("hat", 5)})
    job = client.post("/retrain", params={"wait": "true", "mode": "quick"}).json()
    assert job["state"] == "failed"
    assert "secret" not in json.dumps(job)
    monkeypatch.undo()
    assert client.post("/retrain", params={"wait": "true", "mode": "quick"}).status_code == 200


@pytest.mark.parametrize("where", ["thread", "subprocess"])
def test_full_retrain(settings: Settings, where: str) -> None:
    with running(settings.model_copy(update={"retrain_in": where})) as client:
        client.post("/upload", files={"file": lesson_zip("hat", 60)})
        job = client.post("/retrain", params={"wait": "true", "mode": "full", "force": "true"}).json()
        assert job["state"] == "published", job["message"]
        answer = client.post("/predict", files={"file": draw("hat", 9000)}).json()
        assert answer["model_version"] == job["model_version"]
        assert set(answer["probabilities"]) == {*SHAPES, "hat"}


@pytest.mark.slow
def test_a_full_retrain_takes_over_labels_that_were_renamed_and_merged(settings: Settings) -> None:
    with running(settings.model_copy(update={"retrain_in": "thread"})) as client:
        client.patch("/labels/Sandal", json={"name": "slipper"})
        client.patch("/labels/Shoe", json={"name": "Boot"})
        client.post("/upload", files={"file": lesson_zip("hat", 24)})
        options = {"wait": "true", "mode": "full", "force": "true", "max_seconds": 5}
        job = client.post("/retrain", params=options).json()
        assert (job["state"], job["labels"]) == ("published", ["Boot", "slipper", "hat"]), job["message"]
        answers = [client.post("/predict", files={"file": draw(label, 9001)}).json() for label in SHAPES]
        assert [answer["predicted_class"] for answer in answers] == ["Boot", "slipper", "Boot"]
        again = client.post("/retrain", params={"wait": "true", "mode": "full"})
        assert (again.status_code, again.json()["code"]) == (409, "no_new_data")
