import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.receiver import SECRET, Receiver
from helpers.service import make_settings, wait_for
from shoe_classifier.services import webhooks as module
from shoe_classifier.services.webhook_endpoint import WebhookEndpoint
from shoe_classifier.services.webhooks import Webhooks
from shoe_classifier.settings import Settings


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def settings(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.02)
    (tmp_path / "dataset").mkdir()
    return make_settings(tmp_path, **receiver.settings)


def start(settings: Settings, *retry_seconds: float) -> Webhooks:
    webhooks = Webhooks(settings.dataset_dir, WebhookEndpoint(settings), retry_seconds or (0.01, 0.01))
    webhooks.start()
    return webhooks


def test_events_arrive_once_and_in_order(settings: Settings, receiver: Receiver) -> None:
    webhooks = start(settings)
    webhooks.publish("upload.accepted", {"accepted": 3})
    webhooks.publish("drift.raised", {"score": 0.9})
    wait_for(lambda: webhooks.state()["delivered"] == 2)
    assert receiver.types == ["upload.accepted", "drift.raised"]
    (headers, content), _ = receiver.received
    assert content["data"] == {"accepted": 3}
    assert content["timestamp"].endswith("Z")
    assert headers["webhook-id"].startswith("msg_")
    assert webhooks.state()["waiting"] == 0
    assert [(attempt["type"], attempt["error"]) for attempt in webhooks.state()["recent"]] == [
        ("drift.raised", None),
        ("upload.accepted", None),
    ]
    webhooks.stop()


def test_a_failure_is_repeated_under_the_same_id(
    settings: Settings, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500, 302]
    webhooks = start(settings)
    webhooks.publish("upload.accepted", {})
    wait_for(lambda: webhooks.state()["delivered"] == 1)
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len(receiver.received) == 3
    assert webhooks.state()["last_error"] is None
    assert [record.levelname for record in caplog.records if "tried again" in record.message] == ["WARNING"]
    webhooks.stop()


def test_it_is_given_up_after_the_last_attempt(settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [500] * 3
    webhooks = start(settings)
    webhooks.publish("upload.accepted", {})
    wait_for(lambda: webhooks.state()["given_up"] == 1)
    assert (len(receiver.received), webhooks.state()["waiting"]) == (3, 0)
    assert webhooks.state()["last_error"] == "Expected a status of 2xx; received 500."
    webhooks.stop()


def test_what_waits_survives_a_restart(settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [500]
    webhooks = start(settings, 0.3)
    webhooks.publish("upload.accepted", {"accepted": 1})
    wait_for(lambda: receiver.received and webhooks.state()["last_error"])
    webhooks.stop()
    webhooks = start(settings)
    wait_for(lambda: webhooks.state()["delivered"] == 1)
    assert receiver.received[-1][1]["data"] == {"accepted": 1}
    webhooks.stop()


def test_a_receiver_that_is_gone_is_left_alone(settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [410]
    webhooks = start(settings)
    webhooks.publish("upload.accepted", {})
    wait_for(lambda: webhooks.state()["gone"])
    webhooks.publish("upload.accepted", {})
    assert webhooks.state()["waiting"] == 1
    webhooks.stop()
    assert len(receiver.received) == 1


def test_a_receiver_that_hangs_slows_nothing(settings: Settings, receiver: Receiver) -> None:
    receiver.release.clear()
    webhooks = start(settings)
    started = time.monotonic()
    for _ in range(20):
        webhooks.publish("upload.accepted", {})
    webhooks.stop()
    assert time.monotonic() - started < 2


def test_the_queue_is_bounded(settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 2)
    receiver.release.clear()
    webhooks = start(settings)
    for _ in range(5):
        webhooks.publish("upload.accepted", {})
    assert (webhooks.state()["waiting"], webhooks.state()["refused"]) == (2, 3)
    webhooks.stop()


def test_what_cannot_be_queued_fails_no_call(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    webhooks = start(settings)
    webhooks.publish("upload.accepted", {"what": object()})
    assert "could not be queued" in caplog.text
    assert SECRET not in caplog.text
    webhooks.stop()


def test_one_worker_of_a_machine_delivers(settings: Settings, receiver: Receiver) -> None:
    first, second = start(settings), start(settings)
    second.publish("upload.accepted", {})
    wait_for(lambda: first.state()["delivered"] == 1)
    assert second.state()["delivered"] == 0
    first.stop()
    second.stop()
