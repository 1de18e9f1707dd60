"""Retention against both stores, and the search of all places for what was deleted."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw
from helpers.service import make_settings, running, wait_for
from helpers.supabase_stack import Stack
from shoe_classifier.errors import NotFound
from shoe_classifier.services import retention
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.services.factories import open_store
from shoe_classifier.services.retention import Retention
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import PredictionRecord, first_id, new_id, picture_path, to_iso, utc_now

GOING_ON = threading.Event()


@pytest.fixture(params=["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def settings_of_store(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    overrides = request.getfixturevalue("project") if request.param == "supabase" else {}
    settings = make_settings(tmp_path, **overrides)
    settings.dataset_dir.mkdir()
    return settings


@pytest.fixture
def store(settings_of_store: Settings) -> Iterator[Store]:
    with closing(open_store(settings_of_store)) as store:
        store.start()
        yield store


@pytest.fixture
def make_pass(store: Store, settings_of_store: Settings) -> Callable[..., Retention]:
    def make(**limits: int) -> Retention:
        subject = Retention(settings_of_store.model_copy(update=limits), store, AuditLog(store))
        subject.make_pass(GOING_ON)
        wait_for(lambda: sent(store))
        subject.make_pass(GOING_ON)
        return subject

    return make


def sent(store: Store) -> bool:
    return not store.state().get("outbox", {}).get("rows")


def predicted(store: Store, days_ago: int, picture: bytes | None = None) -> PredictionRecord:
    time = datetime.now(UTC) - timedelta(days=days_ago)
    path = picture_path(hashlib.sha256(picture).hexdigest(), ".jpg") if picture else None
    row = PredictionRecord(
        first_id(time)[:-12] + new_id()[-12:], path, "Boot", 0.9, "accepted", {"Boot": 0.9}, "v1", 1.0, to_iso(time),
        image_bytes=len(picture) if picture else None,
    )  # fmt: skip
    store.add_prediction(row, picture)
    return row


def ids(rows: list[PredictionRecord]) -> list[str]:
    return [row.id for row in rows]


def has_picture(store: Store, picture: bytes) -> bool:
    with contextlib.suppress(NotFound):
        return store.find_picture(hashlib.sha256(picture).hexdigest())[1] == picture
    return False


def test_predictions_are_deleted_at_their_age(
    store: Store, make_pass: Callable[..., Retention], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ROWS", 2)
    reviewed = predicted(store, 40, b"reviewed")
    store.review_prediction(reviewed.id, "Boot", "random", utc_now())
    for age in (39, 38, 37, 36, 31):
        predicted(store, age, b"old" if age % 2 else None)
    young = [predicted(store, 29, b"young"), predicted(store, 0)]
    wait_for(lambda: sent(store))
    kept = make_pass(keep_predictions_days=30).kept
    assert ids(store.predictions(10, None)) == ids([*young[::-1], reviewed])
    assert not has_picture(store, b"old") and has_picture(store, b"reviewed") and has_picture(store, b"young")
    assert kept and (kept.rows, kept.oldest, kept.pictures, kept.picture_bytes) == (3, reviewed.created_at, 1, 5)


def test_without_a_setting_rows_stay_for_ever(store: Store, make_pass: Callable[..., Retention]) -> None:
    old = predicted(store, 4000, b"old")
    wait_for(lambda: sent(store))
    make_pass()
    assert store.predictions(10, None) == [old]


def test_beyond_the_bytes_the_oldest_pictures_go_and_their_rows_stay(
    store: Store, make_pass: Callable[..., Retention], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PICTURES", 2)
    pictures = [bytes([i]) * 100 for i in range(8)]
    rows = [predicted(store, 10 - i, picture) for i, picture in enumerate(pictures)]
    store.review_prediction(rows[0].id, None, "random", utc_now())
    wait_for(lambda: sent(store))
    kept = make_pass(keep_prediction_images_bytes=400).kept
    # Seven pictures of 100 bytes count; in steps of two, four go.
    assert [has_picture(store, picture) for picture in pictures] == [True] + 4 * [False] + 3 * [True]
    assert kept and (kept.rows, kept.pictures, kept.picture_bytes) == (8, 3, 300)
    without = [replace(row, image_path=None, image_bytes=None) for row in rows[1:5]]
    assert store.predictions(10, None)[3:7] == without[::-1]


def test_it_ends_soon_when_the_service_stops(store: Store, settings_of_store: Settings) -> None:
    old = predicted(store, 100)
    wait_for(lambda: sent(store))
    stopping = threading.Event()
    stopping.set()
    Retention(settings_of_store.model_copy(update={"keep_predictions_days": 1}), store, AuditLog(store)).run(stopping)
    assert ids(store.predictions(1, None)) == [old.id]


def test_a_failing_pass_is_followed_by_another(
    store: Store, settings_of_store: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retention, "_PAUSE_SHARE", 0)
    stopping, passes = threading.Event(), 0

    def failing(*_: object, **__: object) -> None:
        nonlocal passes
        passes += 1
        if passes == 3:
            stopping.set()
        raise OSError("the disk is away")

    subject = Retention(settings_of_store, store, AuditLog(store))
    monkeypatch.setattr(subject, "make_pass", failing)
    subject.run(stopping)
    assert passes == 3


def test_one_worker_deletes_and_the_others_count(store: Store, settings_of_store: Settings) -> None:
    first, second = (Retention(settings_of_store, store, AuditLog(store)) for _ in range(2))
    assert first._lock.acquire()
    old = predicted(store, 100)
    wait_for(lambda: sent(store))
    second.make_pass(GOING_ON, delete=False)
    assert second.kept and second.kept.rows == 1 and ids(store.predictions(1, None)) == [old.id]
    first._lock.release()


# ---------------------------------------------------------------- deleted is gone


def places_with(folder: Path, secret: bytes) -> list[str]:
    """All files below a folder that hold these bytes, or are named by their hash."""
    name = hashlib.sha256(secret).hexdigest()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if name in path.name or secret in path.read_bytes()]


def predict(client: httpx.Client, picture: bytes) -> str:
    return str(client.post("/predict", files={"file": ("x.jpg", picture)}).json()["prediction_id"])


def test_a_deleted_picture_is_in_no_place_of_this_machine(client: httpx.Client, settings: Settings) -> None:
    picture, other = draw("Boot", 1), draw("Boot", 2)
    first, second, third = predict(client, picture), predict(client, picture), predict(client, other)
    sha256, folder = hashlib.sha256(picture).hexdigest(), settings.dataset_dir.parent
    assert places_with(folder, picture)
    assert client.delete(f"/predictions/{first}").status_code == 204
    assert places_with(folder, picture)  # the other prediction still shows it
    assert client.delete(f"/predictions/{second}").status_code == 204
    assert places_with(folder, picture) == []
    assert client.get(f"/files/{sha256}").status_code == 404
    assert [row["id"] for row in client.get("/predictions").json()] == [third]
    assert places_with(folder, other)
    again = client.delete(f"/predictions/{first}")
    assert (again.status_code, again.json()["code"]) == (404, "not_found")


def test_status_says_what_is_kept(client: httpx.Client) -> None:
    picture = draw("Boot", 1)
    predict(client, picture)
    service = client.app.state.service  # type: ignore[attr-defined]
    service.retention.make_pass(GOING_ON)
    kept = client.get("/status").json()["kept_predictions"]
    oldest = client.get("/predictions").json()[0]["created_at"]
    assert kept == {"rows": 1, "oldest": oldest, "pictures": 1, "picture_bytes": len(picture)}


@pytest.mark.supabase
def test_a_deleted_picture_leaves_the_caches_of_other_machines(
    tmp_path: Path, model_file: Path, project: dict[str, object], stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(retention, "_PAUSE_SHARE", 0)
    machines = []
    for name in ("here", "there"):
        folder = tmp_path / name
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "shoe_classifier.h5").write_bytes(model_file.read_bytes())
        machines.append(make_settings(folder, **project))
    picture = draw("Boot", 1)
    sha256 = hashlib.sha256(picture).hexdigest()
    with running(machines[0]) as here, running(machines[1]) as there:
        prediction_id = predict(here, picture)
        for client in (here, there):
            wait_for(lambda client=client: client.get("/predictions").json() and stack.count("Predict"))
            wait_for(lambda client=client: client.get(f"/files/{sha256}").content == picture)
        assert stack.gateway.buckets["uploads"]
        assert there.delete(f"/predictions/{prediction_id}").status_code == 204
        wait_for(lambda: not places_with(tmp_path, picture))
        wait_for(lambda: not stack.gateway.buckets["uploads"])
        assert stack.count("Predict") == 0
        for client in (here, there):
            assert client.get(f"/files/{sha256}").status_code == 404
            assert client.get("/predictions").json() == []
