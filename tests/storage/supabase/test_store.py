"""The service on a Supabase project: set-up, faults, restore, several machines."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw, lesson_zip, zip_of
from helpers.service import Process, finished_job, make_settings, running, wait_for
from helpers.supabase_stack import Stack, token
from shoe_classifier.services.candidate_trainer import CandidateTrainer
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.settings import Settings
from shoe_classifier.storage.supabase import training_data
from shoe_classifier.storage.supabase.setup_check import REVISION
from shoe_classifier.storage.supabase.store import SupabaseStore
from shoe_classifier.storage.tables import TABLES
from shoe_classifier.types import RetrainJob, TrainingEvent, new_id

pytestmark = pytest.mark.supabase

Machine = Callable[..., Settings]
_SECOND_FINISH_RETRAIN = (
    "create function public.finish_retrain(job json, instance uuid, learnt json) returns boolean"
    " language sql as 'select true'"
)
_NEWER_REVISION = f"""
do $$ begin
    execute replace(
        pg_get_functiondef('public.describe_shoe_classifier'::regproc), '''revision'', {REVISION}', '''revision'', 9'
    );
end $$
"""


@pytest.fixture
def machine(tmp_path: Path, model_file: Path, project: dict[str, object]) -> Machine:
    """Makes the settings of a machine with a disk of its own, which holds nothing but the shipped model."""

    def new(name: str, **overrides: object) -> Settings:
        folder = tmp_path / name
        (folder / "models").mkdir(parents=True)
        shutil.copy(model_file, folder / "models" / "shoe_classifier.h5")
        return make_settings(folder, **{**project, **overrides})

    return new


@pytest.fixture
def cloud(machine: Machine) -> Iterator[httpx.Client]:
    with running(machine("one")) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        yield client


@contextmanager
def ready(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        yield client


def predict(client: httpx.Client, seed: int = 1) -> dict[str, object]:
    response = client.post("/predict", files={"file": draw("Boot", seed)})
    assert response.status_code == 200
    answer: dict[str, object] = response.json()
    return answer


def store_of(client: httpx.Client) -> SupabaseStore:
    store: SupabaseStore = client.app.state.service.store  # type: ignore[attr-defined]
    return store


def outbox(client: httpx.Client) -> dict[str, object]:
    depth: dict[str, object] = client.get("/status").json()["store"]["outbox"]
    return depth


def test_a_prediction_arrives_with_its_picture(cloud: httpx.Client, stack: Stack) -> None:
    answer = predict(cloud)
    data = cloud.get(str(answer["file_url"]))
    assert (data.status_code, data.content) == (200, draw("Boot", 1))
    wait_for(lambda: stack.count("Predict") == 1)
    row = cloud.get("/predictions").json()[0]
    assert (row["id"], row["predicted_class"]) == (answer["prediction_id"], answer["predicted_class"])
    assert row["created_at"].endswith("Z")
    signed = httpx.get(row["file_url"])  # a signed address of the private bucket
    assert (signed.status_code, signed.content) == (200, draw("Boot", 1))
    assert cloud.get(str(answer["file_url"])).content == draw("Boot", 1)
    assert cloud.get(f"/files/{'f' * 64}").status_code == 404


def test_signed_addresses_expire(machine: Machine, stack: Stack) -> None:
    with ready(machine("one", file_url_seconds=1)) as client:
        predict(client)
        wait_for(lambda: stack.count("Predict") == 1)
        url = client.get("/predictions").json()[0]["file_url"]
        wait_for(lambda: httpx.get(url).status_code == 400, 5)


def test_rows_only_when_pictures_are_not_wanted(machine: Machine, stack: Stack) -> None:
    with ready(machine("one", store_prediction_images=False)) as client:
        assert predict(client)["file_url"] is None
        wait_for(lambda: stack.count("Predict", "image_path is null") == 1)
        assert not [key for key in stack.gateway.files if key.startswith("uploads/")]


def test_status_and_metrics_tell_of_the_store(cloud: httpx.Client, stack: Stack) -> None:
    store = cloud.get("/status").json()["store"]
    assert store["kind"] == "supabase" and store["error"] is None and 0 < store["latency_ms"] < 2000
    stack.gateway.stop()
    predict(cloud)
    wait_for(lambda: outbox(cloud)["waits_because"])
    status = cloud.get("/status").json()
    assert status["store"]["latency_ms"] is None and "ConnectError" in status["store"]["error"]
    assert (status["store"]["outbox"]["rows"], status["training_data"]["labels"]) == (1, None)
    assert 'shoe_outbox{what="rows"} 1.0' in cloud.get("/metrics").text
    for path in ("/predictions", "/training-data", "/models", "/retrain"):
        response = cloud.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert cloud.post("/upload", files={"file": lesson_zip("hat", 2)}).status_code == 503
    assert list(cloud.app.state.service.settings.temp_uploads_dir.glob("*")) == []  # type: ignore[attr-defined]


# ---------------------------------------------------------------- set up right?


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ('drop table public."Predict"', "Table Predict: expected it to exist"),
        ('alter table public."Predict" drop column decision', "columns decision"),
        ("drop index public.retrain_jobs_one_running", "indexes retrain_jobs_one_running"),
        ('alter table public."Predict" disable row level security', "row level security"),
        ('create policy open on public."Predict" using (true)', "expected no policies"),
        ("drop function public.describe_shoe_classifier()", "Run supabase/migrations"),
        ("drop function public.labels_of_hashes(text[])", "Functions: expected labels_of_hashes(hashes text[])"),
        (_SECOND_FINISH_RETRAIN, "received finish_retrain(job json, instance uuid) and finish_retrain(job json"),
        (_NEWER_REVISION, "update this service"),
    ],
)
def test_what_is_missing_is_said_and_healed_by_the_migration(
    machine: Machine, stack: Stack, damage: str, said: str
) -> None:
    try:
        stack.sql(damage)
        stack.await_schema()
        with running(machine("one")) as client:
            response = client.get("/ready")
            assert response.status_code == 503 and said in response.json()["detail"]
            assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 503
            assert client.get("/health").status_code == 200
            stack.rebuild()
            wait_for(lambda: client.get("/ready").status_code == 200)
    finally:
        stack.rebuild()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (token("anon"), "expected a service key"),
        (token("service_role", "another secret, which is long enough"), "expected a service key"),
        ("no token at all", "expected a service key"),
    ],
)
def test_a_wrong_key_is_said(machine: Machine, key: str, said: str) -> None:
    with running(machine("one", supabase_key=key)) as client:
        detail = client.get("/ready").json()["detail"]
        assert "SUPABASE_KEY" in detail and said in detail


def test_buckets_are_looked_at(machine: Machine, stack: Stack) -> None:
    uploads = stack.gateway.buckets.pop("uploads")
    stack.gateway.public.add("models")
    with running(machine("one")) as client:
        detail = client.get("/ready").json()["detail"]
        assert "Bucket uploads: expected it to exist" in detail
        assert "Bucket models: expected it to be private" in detail
        stack.gateway.buckets["uploads"] = uploads
        stack.gateway.public.clear()
        wait_for(lambda: client.get("/ready").status_code == 200)


def test_check_says_all_line_by_line(machine: Machine, stack: Stack, tmp_path: Path) -> None:
    settings = machine("one")
    environment = {"SUPABASE_URL": stack.gateway.url, "SUPABASE_KEY": token("service_role")}
    good = Process.run(settings.models_dir.parent, "supabase", "check", **environment)
    lines = len(TABLES) + 6  # the project, two tables of counts, the functions, and two buckets
    assert (good.returncode, good.stdout.count("ok"), good.stdout.count("WRONG")) == (0, lines, 0), good.stderr
    stack.gateway.buckets.pop("models")
    bad = Process.run(settings.models_dir.parent, "supabase", "check", **environment)
    assert bad.returncode == 1 and "WRONG  Bucket models: expected it to exist" in bad.stdout
    none = Process.run(settings.models_dir.parent, "supabase", "check")
    assert none.returncode == 1 and "Expected SUPABASE_URL and SUPABASE_KEY" in none.stderr


# ---------------------------------------------------------------- faults


def test_gateway_down_under_load_loses_no_prediction(cloud: httpx.Client, stack: Stack) -> None:
    ids = [predict(cloud, seed)["prediction_id"] for seed in range(5)]
    stack.gateway.stop()
    ids += [predict(cloud, seed)["prediction_id"] for seed in range(5, 25)]
    wait_for(lambda: outbox(cloud)["waits_because"])
    stack.gateway.start()
    wait_for(lambda: outbox(cloud)["rows"] == 0)
    assert stack.count("Predict") == 25
    assert sorted(stack.sql('select id from public."Predict"').split()) == sorted(map(str, ids))
    assert len([key for key in stack.gateway.files if key.startswith("uploads/")]) == 25


def test_slow_answers_do_not_slow_predictions(cloud: httpx.Client, stack: Stack) -> None:
    stack.gateway.delay = 1.5
    started = time.monotonic()
    for seed in range(10):
        predict(cloud, seed)
    assert time.monotonic() - started < 1.5  # one wait for the network would be longer
    wait_for(lambda: stack.count("Predict") == 10)


def test_lost_answers_make_no_duplicates(cloud: httpx.Client, stack: Stack) -> None:
    stack.gateway.lose = 4
    for seed in range(6):
        predict(cloud, seed)
    wait_for(lambda: outbox(cloud)["rows"] == 0)
    assert (stack.count("Predict"), stack.gateway.lose) == (6, 0)
    stack.gateway.lose = 2
    report = cloud.post("/upload", files={"file": lesson_zip("hat", 5)})
    assert (report.status_code, report.json()["accepted"]) == (201, 5)
    assert stack.count("Training_Data") == 5


def test_a_changed_table_makes_rows_wait_and_loses_none(cloud: httpx.Client, stack: Stack) -> None:
    try:
        stack.sql('alter table public."Predict" rename column decision to verdict')
        stack.await_schema()
        predict(cloud)
        wait_for(lambda: "PGRST204" in str(outbox(cloud)["waits_because"]))
        stack.sql('alter table public."Predict" rename column verdict to decision')
        stack.await_schema()
        wait_for(lambda: stack.count("Predict") == 1)
    finally:
        stack.rebuild()


def test_a_picture_that_storage_refuses_is_given_up_its_row_is_not(cloud: httpx.Client, stack: Stack) -> None:
    stack.gateway.refuse = 413
    predict(cloud)
    wait_for(lambda: stack.count("Predict", "image_path is null") == 1)
    assert outbox(cloud)["dropped_pictures"] == 1
    response = cloud.post("/upload", files={"file": lesson_zip("hat", 2)})
    assert (response.status_code, response.json()["code"]) == (502, "store_refused")


def test_a_row_that_is_refused_does_not_hold_up_the_others(cloud: httpx.Client, stack: Stack) -> None:
    ids = [predict(cloud, seed)["prediction_id"] for seed in range(3)]
    wait_for(lambda: stack.count("Predict") == 3)
    stack.sql('alter table public."Predict" add constraint odd check (response_time >= 0)')
    store = store_of(cloud)
    bad = replace(store.predictions(1, None)[0], id=new_id(), response_time=-1.0)
    store.add_prediction(bad, None)
    ids.append(predict(cloud, 9)["prediction_id"])
    wait_for(lambda: outbox(cloud)["rows"] == 0)
    stack.sql('alter table public."Predict" drop constraint odd')
    assert sorted(stack.sql('select id from public."Predict"').split()) == sorted(map(str, ids))
    assert outbox(cloud)["dropped_rows"] == 1


def test_no_limit_on_rows_cuts_what_is_learned(cloud: httpx.Client, stack: Stack) -> None:
    stack.sql(
        "insert into public.\"Training_Data\" select gen_random_uuid(), 'images/x', md5(n::text), 'hat', false,"
        " 'train', 'zip', gen_random_uuid(), now() from generate_series(1, 2500) n"
    )
    store = store_of(cloud)
    assert len(store.unprocessed()) == 2500 == store.count_unprocessed()
    assert len(store.training_data(2300, None)) == 2300
    assert len(store.labels_of([row.sha256 for row in store.unprocessed()])) == 2500
    assert store.training_labels() == {"hat": 2500}


def test_many_rows_are_added_in_several_calls(
    cloud: httpx.Client, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "_CHUNK", 2)
    assert cloud.post("/upload", files={"file": lesson_zip("hat", 5)}).json()["accepted"] == 5
    assert stack.count("Training_Data") == 5
    assert stack.gateway.calls["POST /rest/v1/rpc/add_training_data"] == 3


def test_rows_are_readable_while_storage_signs_nothing(cloud: httpx.Client, stack: Stack) -> None:
    predict(cloud)
    wait_for(lambda: stack.count("Predict") == 1)
    stack.gateway.buckets.pop("uploads")
    row = cloud.get("/predictions").json()[0]
    assert row["file_url"].startswith("/files/")
    assert "Supabase Storage" in cloud.get("/status").json()["store"]["error"]


def test_an_upload_that_fails_in_the_middle_leaves_no_rows_and_is_completed(cloud: httpx.Client, stack: Stack) -> None:
    stack.gateway.refuse = 500
    body = lesson_zip("hat", 6)
    response = cloud.post("/upload", files={"file": body})
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert stack.count("Training_Data") == 0
    stack.gateway.refuse = 0
    assert cloud.post("/upload", files={"file": body}).json()["accepted"] == 6
    again = cloud.post("/upload", files={"file": body}).json()
    assert again["code"] == "nothing_accepted" and again["report"]["skipped"][0]["reason"] == "duplicate"
    row = cloud.get("/training-data").json()[0]
    assert httpx.get(row["file_url"]).status_code == 200


def test_kill_9_with_a_full_outbox_loses_nothing(machine: Machine, stack: Stack) -> None:
    folder = machine("one").models_dir.parent
    environment = {
        "SUPABASE_URL": stack.gateway.url,
        "SUPABASE_KEY": token("service_role"),
        "SUPABASE_TIMEOUT_SECONDS": "2",
    }
    process = Process(folder, **environment).wait_until_ready()
    stack.gateway.stop()
    ids = [predict(process.client, seed)["prediction_id"] for seed in range(30)]
    process.process.kill()
    process.close()
    again = Process(folder, **environment).wait_until_ready()  # while nothing answers: what was live here serves
    ids.append(predict(again.client, 99)["prediction_id"])
    stack.gateway.start()
    wait_for(lambda: stack.count("Predict") == 31)
    assert sorted(stack.sql('select id from public."Predict"').split()) == sorted(map(str, ids))
    ids.append(predict(again.client, 100)["prediction_id"])
    again.process.send_signal(signal.SIGTERM)  # what waits goes out before the end
    assert again.process.wait(30) in (0, -signal.SIGTERM)
    again.close()
    assert stack.count("Predict") == 32
    assert stack.count("System_Metrics") >= 1


# ---------------------------------------------------------------- restore, and several machines


def test_a_new_disk_brings_back_what_was_taught(machine: Machine, stack: Stack) -> None:
    with ready(machine("one")) as client:
        job = client.post(
            "/retrain", files={"file": lesson_zip("hat", 60)}, params={"wait": "true", "mode": "quick"}
        ).json()
        assert job["state"] == "published", job["message"]
        client.post("/upload", files={"file": lesson_zip("skirt", 30, start=5000)})
    with ready(machine("two")) as client:
        assert predict(client)["model_version"] == job["model_version"]
        assert [row["state"] for row in client.get("/models").json()] == ["live", "archived"]
        second = client.post("/retrain", params={"wait": "true", "mode": "quick", "force": "true"}).json()
        assert (second["state"], second["samples"]) == ("published", 30)  # with pictures that were never on this disk
        first = client.get("/models").json()[-1]["version"]
        assert client.post(f"/models/{first}/activate").json()["state"] == "live"  # its file comes from the bucket
        assert predict(client)["model_version"] == first


def test_a_broken_model_in_the_bucket_is_never_served(machine: Machine, stack: Stack) -> None:
    with ready(machine("one")) as client:
        version = client.get("/models").json()[0]["version"]
    kind, _ = stack.gateway.buckets["models"][f"versions/{version}.h5"]
    stack.gateway.buckets["models"][f"versions/{version}.h5"] = (kind, b"something else")
    settings = machine("two")
    settings.live_model.unlink()
    with running(settings) as client:
        response = client.get("/ready")
        assert response.status_code == 503 and "the bucket holds another" in response.json()["detail"]


def test_a_new_disk_waits_for_a_store_that_is_down(machine: Machine, stack: Stack) -> None:
    with ready(machine("one")):
        pass
    stack.gateway.stop()
    with running(machine("two")) as client:
        response = client.get("/ready")
        assert response.status_code == 503 and "ConnectError" in response.json()["detail"]
        stack.gateway.start()
        wait_for(lambda: client.get("/ready").status_code == 200)


def test_what_one_machine_publishes_is_live_on_the_other(machine: Machine) -> None:
    with ready(machine("one")) as one, ready(machine("two")) as two:
        job = one.post(
            "/retrain", files={"file": lesson_zip("hat", 60)}, params={"wait": "true", "mode": "quick"}
        ).json()
        assert job["state"] == "published", job["message"]
        wait_for(lambda: predict(two)["model_version"] == job["model_version"], 10)
        assert two.get(f"/retrain/{job['job_id']}").json()["metrics"] == job["metrics"]


def test_one_retrain_at_a_time_and_cancelled_from_the_other_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CandidateTrainer, "train", train_until_cancelled)
    with ready(machine("one")) as one, ready(machine("two")) as two:
        one.post("/upload", files={"file": lesson_zip("hat", 4)})
        job = one.post("/retrain").json()
        refused = two.post("/retrain")
        assert (refused.status_code, refused.json()["code"]) == (409, "retrain_running")
        version = two.get("/models").json()[0]["version"]
        assert two.post(f"/models/{version}/activate").status_code == 409
        with two.stream("GET", f"/retrain/{job['job_id']}/events") as events:  # of a job that runs elsewhere
            lines = events.iter_lines()
            assert next(lines) == "event: progress"
            assert two.delete(f"/retrain/{job['job_id']}").status_code == 202
            assert "event: end" in lines
        assert finished_job(one, job["job_id"])["state"] == "cancelled"
        wait_for(lambda: two.get(f"/retrain/{job['job_id']}").json()["state"] == "cancelled")


def train_until_cancelled(
    trainer: CandidateTrainer, target: Path, deadline: float, progress: JobProgress, *more: object
) -> None:
    while time.monotonic() < deadline:
        progress.report(TrainingEvent("train", 0.5, "Training."))  # raises once the job was cancelled
        time.sleep(0.05)


def test_the_job_of_a_machine_that_is_gone_fails_and_it_cannot_publish_any_more(
    cloud: httpx.Client, stack: Stack
) -> None:
    store = store_of(cloud)
    lost = RetrainJob(state="running")
    other = new_id()
    assert store._client.rpc("start_retrain", job=asdict(lost), instance=other)
    assert not store.start_job(RetrainJob())
    stack.sql("update public.\"Retrain_Jobs\" set heartbeat_at = now() - interval '5 minutes'")
    wait_for(lambda: not store.jobs(1, None) or store.jobs(1, None)[0].finished)  # it is ended by whoever looks
    mine = RetrainJob()
    assert store.start_job(mine)
    assert cloud.get(f"/retrain/{lost.job_id}").json()["state"] == "failed"
    done = {**asdict(lost), "state": "published"}
    assert store._client.rpc("finish_retrain", job=done, instance=other) is False
    store.fail_unfinished_jobs("over")


def test_the_same_picture_from_two_machines_is_kept_once(machine: Machine, stack: Stack) -> None:
    body = zip_of({f"hat/{i}.jpg": draw("hat", i) for i in range(4)})
    with ready(machine("one")) as one, ready(machine("two")) as two:
        answers = [client.post("/upload", files={"file": body}) for client in (one, two)]
        assert [answer.status_code for answer in answers] == [201, 422]
        assert stack.count("Training_Data") == 4


def test_old_model_files_leave_the_bucket(machine: Machine, stack: Stack) -> None:
    with ready(machine("one", keep_versions=1)) as client:
        for label in ("hat", "skirt"):
            client.post(
                "/retrain", files={"file": lesson_zip(label)}, params={"wait": "true", "mode": "quick", "force": "true"}
            )
        states = {row["version"]: row["state"] for row in client.get("/models").json()}
        assert sorted(states.values()) == ["archived", "deleted", "live"]
        gone = next(version for version, state in states.items() if state == "deleted")
        assert f"versions/{gone}.h5" not in stack.gateway.buckets["models"]
        assert client.post(f"/models/{gone}/activate").status_code == 404


def test_a_model_file_without_a_row_stays_for_an_hour(machine: Machine, stack: Stack) -> None:
    """Until then, another machine may be about to write its row."""
    stack.gateway.buckets["models"]["versions/x.h5"] = ("application/x-hdf5", b"x")
    with closing(SupabaseStore(machine("one"))) as store:
        stack.gateway.age = timedelta(minutes=59)
        store.forget_unused()
        assert "versions/x.h5" in stack.gateway.buckets["models"]
        stack.gateway.age = timedelta(minutes=61)
        store.forget_unused()
        assert "versions/x.h5" not in stack.gateway.buckets["models"]
