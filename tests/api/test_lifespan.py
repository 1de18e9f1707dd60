"""The start, with stores that are not usable at first, and the end."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from helpers.pictures import draw, lesson_zip
from helpers.receiver import Receiver
from helpers.service import running, wait_for
from shoe_classifier import main
from shoe_classifier.api import lifespan
from shoe_classifier.api.dependencies import Service
from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.live_model import Readiness
from shoe_classifier.services.model_registry import version_row
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import MinuteMetrics

PROBLEM = "Table Predict: expected row level security."


class Misconfigured(SqliteStore):
    """A store with a problem; `checked` counts how often it was asked for."""

    problem: str | None = PROBLEM
    checked = 0

    def problems(self) -> list[str]:
        self.checked += 1
        return [self.problem] if self.problem else []


class SharedMisconfigured(Misconfigured):
    """The same, as one that other machines use, too; its live version can be followed all the time."""

    shared = True


@contextmanager
def service_with(
    store: SqliteStore, settings: Settings, monkeypatch: pytest.MonkeyPatch, retry_seconds: float = 0.05
) -> Iterator[httpx.Client]:
    """The service with this store, looking at it often."""
    monkeypatch.setattr(main, "open_store", lambda _: store)
    monkeypatch.setattr(lifespan, "_RETRY_SECONDS", retry_seconds)
    monkeypatch.setattr(lifespan, "_REFRESH_SECONDS", 0.05)
    with running(settings.model_copy(update={"model_poll_seconds": 0.05})) as client:
        yield client


@pytest.mark.parametrize("kind", [Misconfigured, SharedMisconfigured])
def test_a_store_that_is_set_up_wrong_keeps_the_service_from_being_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: type[Misconfigured]
) -> None:
    store = kind(settings.dataset_dir)
    live = version_row(bundles.read(settings.live_model), sha256_of(settings.live_model), "live")
    store.save_version(live)  # it could be followed at once
    with service_with(store, settings, monkeypatch) as client:
        for checks in (2, 10, 20):  # as long as that is so, however often the live version could have been followed
            wait_for(lambda checks=checks: store.checked >= checks)
            response = client.get("/ready")
            assert (response.status_code, response.json()["code"]) == (503, "not_ready")
            assert PROBLEM in response.json()["detail"]
        status = client.get("/status").json()
        assert (status["status"], status["model"]) == ("failing", None) and PROBLEM in status["detail"]
        assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 503
        assert client.get("/health").status_code == 200
        store.problem = None
        wait_for(lambda: client.get("/ready").status_code == 200)
        assert client.get("/status").json()["status"] == "ready"


def test_minutes_say_loading_until_a_model_is_live(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[MinuteMetrics] = []

    class Slow(SqliteStore):
        def problems(self) -> list[str]:
            wait_for(lambda: rows)
            return []

        def add_minute(self, row: MinuteMetrics) -> None:
            rows.append(row)

    monkeypatch.setattr(main, "open_store", lambda _: Slow(settings.dataset_dir))
    app = main.create_app(settings)
    service: Service = app.state.service

    async def start_and_stop() -> None:
        async with lifespan.lifespan(app):
            assert service.live_model.readiness is Readiness.LOADING
            await asyncio.sleep(0)  # lets the tasks begin
            service.metrics.count("/health", "GET", 200, 0.001)

    asyncio.run(start_and_stop())  # the last minute is written at once, and only then the start goes on
    assert [row.model_uptime_status for row in rows] == ["loading"]
    assert service.live_model.readiness is Readiness.READY


def test_a_store_that_does_not_answer_is_tried_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(SqliteStore):
        shared = True
        silent = True

        def live_version(self) -> object:
            if self.silent:
                raise StoreUnavailable("Expected an answer; received none.")
            return super().live_version()

        def last_live(self) -> str | None:
            return None

    store = Silent(settings.dataset_dir)
    with service_with(store, settings, monkeypatch) as client:
        assert "received none" in client.get("/ready").json()["detail"]
        store.silent = False  # type: ignore[assignment]
        wait_for(lambda: client.get("/ready").status_code == 200)


def test_a_failing_start_is_told_without_its_reason(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(SqliteStore):
        def problems(self) -> list[str]:
            raise RuntimeError("a secret")

    with service_with(Broken(settings.dataset_dir), settings, monkeypatch) as client:
        detail = client.get("/ready").json()["detail"]
        assert "the log says why" in detail and "a secret" not in detail


def test_waiting_for_the_store_does_not_delay_the_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with service_with(Misconfigured(settings.dataset_dir), settings, monkeypatch, retry_seconds=100):
        began = time.monotonic()
    assert time.monotonic() - began < 50


def test_a_running_retrain_is_cancelled_at_the_end(settings: Settings) -> None:
    with running(settings) as client:
        client.post("/upload", files={"file": lesson_zip("hat")})
        job_id = client.post("/retrain", params={"mode": "full"}).json()["job_id"]
    with running(settings) as client:
        assert client.get(f"/retrain/{job_id}").json()["state"] == "cancelled"


def test_it_retrains_by_itself_and_tells(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "_DUE_SECONDS", 0.05)
    receiver = Receiver()
    changes = {**receiver.settings, "auto_retrain": "new_pictures:3"}
    with running(load_settings(**{**settings.model_dump(), **changes, "_env_file": None})) as client:
        upload = client.post("/upload", files={"file": lesson_zip("Boot", 3)}).json()
        wait_for(lambda: len(receiver.received) == 2)
        job = client.get("/retrain").json()[0]
        status = client.get("/status").json()
    receiver.close()
    (_, first), (_, second) = receiver.received
    assert (first["type"], first["data"]["upload_id"]) == ("upload.accepted", upload["upload_id"])
    assert first["data"] == {**upload, "skipped": 0}
    assert second["type"] == f"retrain.{job['state']}"
    assert {name: second["data"][name] for name in ("job_id", "mode", "message")} == {
        name: job[name] for name in ("job_id", "mode", "message")
    }
    assert status["auto_retrain"]["setting"] == "new_pictures:3"
    recent = status["webhooks"].pop("recent")
    assert {attempt["type"] for attempt in recent} == {first["type"], second["type"]}
    assert status["webhooks"] == {
        "waiting": 0, "delivered": 2, "given_up": 0, "refused": 0, "gone": False, "last_error": None,
    }  # fmt: skip


def test_without_settings_it_neither_retrains_nor_tells(client: httpx.Client) -> None:
    status = client.get("/status").json()
    assert (status["auto_retrain"], status["webhooks"]) == (None, None)
