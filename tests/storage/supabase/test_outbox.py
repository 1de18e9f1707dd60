import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.service import wait_for
from shoe_classifier.storage.supabase.outbox import Outbox
from shoe_classifier.types import new_id

OUTBOX_0_1_0 = (Path(__file__).parent / "outbox_0_1_0.sql").read_text()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.sqlite3", max_rows=5, max_bytes=25)
    yield outbox
    outbox.close()


def add(outbox: Outbox, picture: bytes | None = None, path: str = "images/aa/a.jpg") -> str:
    row_id = new_id()
    image_path = f'"{path}"' if picture else "null"
    outbox.add(
        "Predict", f'{{"id": "{row_id}", "image_path": {image_path}}}', row_id, path if picture else None, picture
    )
    return row_id


def test_oldest_first_until_they_are_removed(outbox: Outbox) -> None:
    ids = [add(outbox) for _ in range(4)]
    assert [event.id for event in outbox.oldest(3)] == ids[:3]
    outbox.remove(ids[:2])
    assert [event.row["id"] for event in outbox.oldest(3)] == ids[2:]
    assert [row["id"] for row in outbox.newest("Predict", 1, None)] == ids[3:]
    assert [row["id"] for row in outbox.newest("Predict", 9, ids[3])] == ids[2:3]


def test_a_picture_waits_once_and_is_forgotten_with_its_last_row(outbox: Outbox) -> None:
    first, second = add(outbox, b"picture"), add(outbox, b"picture")
    assert outbox.depth()["pictures"] == 1
    assert outbox.unsent("images/aa/a.jpg") == b"picture"
    outbox.mark_sent("images/aa/a.jpg")
    outbox.remove([first])
    assert outbox.unsent("images/aa/a.jpg") is None
    assert outbox.oldest(9)[0].row["image_path"] == "images/aa/a.jpg"  # sent already, and still named by its row
    outbox.remove([second])
    add(outbox, b"picture")  # the same one again, after all is gone: it waits again
    assert outbox.unsent("images/aa/a.jpg") == b"picture"


def test_a_review_is_written_into_a_queued_row(outbox: Outbox) -> None:
    row_id = add(outbox)
    before = outbox.row(row_id)
    assert before
    review = {"reviewed_label": None, "review_kind": "random", "reviewed_at": "2026-11-25T10:00:00.000Z"}
    assert outbox.review(row_id, None, "random", "2026-11-25T10:00:00.000Z") == before | review
    assert outbox.review("none", "Shoe", "random", "2026-11-25T10:00:00.000Z") is None


def test_a_scrubbed_file_holds_nothing_of_what_was_sent(outbox: Outbox, tmp_path: Path) -> None:
    row_id = add(outbox, b"secret" * 5000)
    outbox.mark_sent("images/aa/a.jpg")
    outbox.remove([row_id])
    outbox.scrub()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(b"secret" * 50 in path.read_bytes() for path in files)


def test_when_full_the_oldest_pictures_give_way_before_any_row(outbox: Outbox) -> None:
    for number in range(4):
        add(outbox, b"ten bytes.", f"images/aa/{number}.jpg")
    outbox.trim()
    waiting = [event.row["image_path"] for event in outbox.oldest(9)]
    assert waiting == [None, None, "images/aa/2.jpg", "images/aa/3.jpg"]
    assert outbox.depth() | {"oldest": ""} == {
        "rows": 4,
        "oldest": "",
        "pictures": 2,
        "bytes": 20,
        "dropped_rows": 0,
        "dropped_pictures": 2,
    }


def test_rows_are_bounded_too_and_their_pictures_go_with_them(outbox: Outbox) -> None:
    ids = [add(outbox, b"1", f"images/aa/{number}.jpg") for number in range(8)]
    outbox.trim()
    assert [event.id for event in outbox.oldest(9)] == ids[3:]
    assert (outbox.depth()["dropped_rows"], outbox.depth()["pictures"]) == (3, 5)


def test_a_picture_that_is_given_up_leaves_its_row(outbox: Outbox) -> None:
    add(outbox, b"bad")
    outbox.drop_picture("images/aa/a.jpg")
    assert outbox.oldest(1)[0].row["image_path"] is None
    assert outbox.depth()["dropped_pictures"] == 1


def test_while_another_program_locks_the_file_rows_wait_in_memory(outbox: Outbox, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite3", isolation_level=None)) as other:
        other.execute("begin exclusive")
        began = time.monotonic()
        ids = [add(outbox, b"1", f"images/aa/{number}.jpg") for number in range(3)]
        assert time.monotonic() - began < 2  # SQLite alone would wait for 5 seconds
        assert (outbox.depth()["rows"], outbox.oldest(9)) == (3, [])
    wait_for(lambda: len(outbox.oldest(9)) == 3)
    assert [(event.id, event.image_path) for event in outbox.oldest(1)] == [(ids[0], "images/aa/0.jpg")]
    assert outbox.depth()["dropped_rows"] == 0


def test_room_is_given_back(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite3", 5, 10 << 20)
    row_id = add(outbox, bytes(4 << 20))
    outbox.mark_sent("images/aa/a.jpg")
    outbox.remove([row_id])
    outbox.shrink()
    outbox.close()
    assert (tmp_path / "outbox.sqlite3").stat().st_size < 1 << 20


def test_an_outbox_of_0_1_0_keeps_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("pragma auto_vacuum = incremental; pragma journal_mode = wal;" + OUTBOX_0_1_0)
    with closing(Outbox(path, 5, 100)) as outbox:
        first, second = outbox.oldest(9)
        assert (first.table, first.image_path) == ("Predict", "images/ab/ab01.jpg")
        assert (second.table, second.row["request_count"]) == ("System_Metrics", 5)
        assert outbox.unsent("images/ab/ab01.jpg") == b"one"
        assert outbox.instance() == "019a0000-0000-7000-8000-000000000003"
        assert outbox.depth()["dropped_rows"] == 7
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma user_version").fetchone()[0] == 1


def test_what_waits_and_what_is_remembered_outlives_the_process(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox.sqlite3", 5, 100)
    row_id, instance = add(first, b"picture"), first.instance()
    first.remember("live_sha256", "ab")
    first.close()
    again = Outbox(tmp_path / "outbox.sqlite3", 5, 100)
    assert [event.id for event in again.oldest(9)] == [row_id]
    assert (again.instance(), again.fact("live_sha256"), again.fact("none")) == (instance, "ab", None)
    sha256 = "a"
    assert again.find_picture(f"aa{sha256}") is None
    again.close()
