"""The relay against a receiver that fails as it is told."""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.service import wait_for
from shoe_classifier.errors import StoreRefused, StoreUnavailable
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.supabase import outbox_relay
from shoe_classifier.storage.supabase.outbox import Outbox
from shoe_classifier.storage.supabase.outbox_relay import OutboxRelay, _pause
from shoe_classifier.types import new_id

PATH = "images/aa/a.jpg"


class FakeReceiver:
    """Remembers what it got, in order."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.down: Exception | None = None
        self.refused: set[str] = set()

    def send_picture(self, image_path: str, data: bytes) -> None:
        self._fail(image_path)
        self.received.append(image_path)

    def send_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self._fail(row["id"])
        self.received += [row["id"] for row in rows]
        self.rows += rows

    def _fail(self, what: str) -> None:
        if self.down:
            raise self.down
        if what in self.refused:
            raise StoreRefused("It refused.")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.sqlite3", 1000, 1 << 20)
    yield outbox
    outbox.close()


@pytest.fixture
def receiver() -> FakeReceiver:
    return FakeReceiver()


@pytest.fixture
def relay(outbox: Outbox, receiver: FakeReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(outbox_relay, "_pause", lambda attempts: 0.01)
    relay = OutboxRelay(outbox, receiver, FileLock(tmp_path / "lock"))
    yield relay
    relay.stop(1)


def add(outbox: Outbox, picture: bytes | None = None) -> str:
    row_id = new_id()
    path = PATH if picture else None
    outbox.add("Predict", json.dumps({"id": row_id, "image_path": path}), row_id, path, picture)
    return row_id


def queued(outbox: Outbox) -> int:
    return int(outbox.depth()["rows"])


def test_a_picture_goes_before_its_rows_and_only_once(outbox: Outbox, receiver: FakeReceiver, relay: Any) -> None:
    ids = [add(outbox, b"one"), add(outbox, b"one"), add(outbox)]
    relay.start()
    wait_for(lambda: queued(outbox) == 0)
    assert receiver.received == [PATH, *ids]


def test_more_rows_than_a_batch_go_in_order(outbox: Outbox, receiver: FakeReceiver, relay: Any) -> None:
    ids = [add(outbox) for _ in range(450)]
    relay.start()
    wait_for(lambda: queued(outbox) == 0)
    assert receiver.received == ids


@pytest.mark.parametrize("error", [StoreUnavailable("It is down."), RuntimeError("a fault of ours")])
def test_nothing_is_lost_while_sending_fails(
    outbox: Outbox, receiver: FakeReceiver, relay: Any, error: Exception
) -> None:
    receiver.down = error
    ids = [add(outbox, b"one"), add(outbox)]
    relay.start()
    wait_for(lambda: relay.error)
    assert ("It is down." in relay.error) == isinstance(error, StoreUnavailable)
    assert queued(outbox) == 2
    receiver.down = None
    wait_for(lambda: queued(outbox) == 0)
    assert receiver.received == [PATH, *ids]
    wait_for(lambda: relay.error is None)


def test_a_refused_row_is_dropped_alone(outbox: Outbox, receiver: FakeReceiver, relay: Any) -> None:
    ids = [add(outbox) for _ in range(4)]
    receiver.refused = {ids[1]}
    relay.start()
    wait_for(lambda: queued(outbox) == 0)
    assert receiver.received == [ids[0], *ids[2:]]
    assert outbox.depth()["dropped_rows"] == 1


def test_the_row_of_a_refused_picture_says_that_it_has_none(outbox: Outbox, receiver: FakeReceiver, relay: Any) -> None:
    add(outbox, b"one")
    receiver.refused = {PATH}
    relay.start()
    wait_for(lambda: queued(outbox) == 0)
    assert [row["image_path"] for row in receiver.rows] == [None]
    assert outbox.depth()["dropped_pictures"] == 1


def test_one_worker_of_a_machine_sends(outbox: Outbox, receiver: FakeReceiver, relay: Any, tmp_path: Path) -> None:
    other = FileLock(tmp_path / "lock")
    assert other.acquire()
    add(outbox)
    relay.start()
    relay.stop(0.1)
    assert (queued(outbox), receiver.received) == (1, [])
    other.release()
    successor = OutboxRelay(outbox, receiver, FileLock(tmp_path / "lock"))
    successor.start()
    wait_for(lambda: queued(outbox) == 0)
    successor.stop(1)
    assert other.acquire()
    other.release()


def test_stopping_sends_what_is_queued(outbox: Outbox, receiver: FakeReceiver, relay: Any) -> None:
    ids = [add(outbox) for _ in range(300)]
    relay.start()
    relay.stop(10)
    assert receiver.received == ids
    assert "outbox-relay" not in {thread.name for thread in threading.enumerate()}


def test_a_relay_that_was_never_started_can_be_stopped(relay: Any) -> None:
    relay.stop(0)


def test_the_pause_grows_to_a_limit() -> None:
    assert _pause(0) < 1
    longest = [_pause(attempts, lambda: 1.0) for attempts in (1, 2, 3, 4, 5, 10_000)]
    assert longest == [1, 2, 4, 8, 15, 15]
    assert _pause(4, lambda: 0.0) == 4
