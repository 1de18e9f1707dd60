"""What waits on this machine's disk to be brought to Supabase: rows, and the pictures that belong to them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.types import new_id

SCHEMA = """
create table if not exists Events (
    id text primary key, table_name text not null, row text not null, image_path text
) without rowid;
create index if not exists events_image_path on Events (image_path) where image_path is not null;
create table if not exists Pictures (
    place integer primary key autoincrement, image_path text not null unique, data blob not null,
    sent integer not null default 0
);
create table if not exists Facts (name text primary key, value text not null) without rowid;
"""
_SHRINK_STEPS, _SHRINK_PAGES = 10, 1000
_ADD_EVENT = "insert into Events values (?, ?, ?, ?)"
_NOBODY_WAITS = "not exists (select 1 from Events where Events.image_path = Pictures.image_path)"
_ADD_PICTURE = "insert into Pictures (image_path, data) values (?, ?) on conflict do nothing"


@dataclass(frozen=True)
class Event:
    """A row that waits: `id` is the row's own, so that sending it twice changes nothing."""

    id: str
    table: str
    row: dict[str, Any]
    image_path: str | None


class Outbox:
    """A queue in one SQLite file, which survives a killed process; workers of one machine share it.

    Args:
        path: the file.
        max_rows: rows that wait at most; above it, the oldest are dropped.
        max_bytes: bytes of pictures that wait at most; above it, the oldest pictures are dropped, their rows stay.
    """

    def __init__(self, path: Path, max_rows: int, max_bytes: int):
        self._db = Database(path, SCHEMA)
        self._max_rows = max_rows
        self._max_bytes = max_bytes

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------ in

    def add(
        self, table: str, row: str, row_id: str, image_path: str | None = None, picture: bytes | None = None
    ) -> None:
        """Put a row, as JSON text, at the end of the queue; a picture that waits already is kept once."""
        if image_path is None or picture is None:
            self._db.execute(_ADD_EVENT, (row_id, table, row, None))
            return
        with self._db.transaction() as db:
            db.execute(_ADD_PICTURE, (image_path, picture))
            db.execute(_ADD_EVENT, (row_id, table, row, image_path))

    # ------------------------------------------------------------ out

    def oldest(self, count: int) -> list[Event]:
        """The first rows of the queue. Those whose picture was dropped say so."""
        rows = self._db.select(
            "select e.id, table_name, row, p.image_path from Events e left join Pictures p using (image_path)"
            " order by e.id limit ?",
            count,
        )
        return [_event(row) for row in rows]

    def newest(self, table: str, count: int, before: str | None) -> list[dict[str, Any]]:
        """Rows that wait, newest first."""
        rows = self._db.select(
            "select row from Events where table_name = ? and id < ? order by id desc limit ?",
            table,
            before or "~",
            count,
        )
        return [json.loads(row["row"]) for row in rows]

    def row(self, row_id: str) -> dict[str, Any] | None:
        """A row that waits."""
        rows = self._db.select("select row from Events where id = ?", row_id)
        return json.loads(rows[0]["row"]) if rows else None

    def unsent(self, image_path: str) -> bytes | None:
        """A picture that waits; None when it was sent, or dropped."""
        rows = self._db.select("select data from Pictures where image_path = ? and not sent", image_path)
        return rows[0]["data"] if rows else None

    def find_picture(self, sha256: str) -> str | None:
        """The path of a picture that waits."""
        prefix = f"images/{sha256[:2]}/{sha256}."
        rows = self._db.select(
            "select image_path from Pictures where image_path between ? and ? and not sent", prefix, prefix + "~"
        )
        return rows[0]["image_path"] if rows else None

    def mark_sent(self, image_path: str) -> None:
        """Free the room of a picture; that it was sent is remembered while rows with it wait."""
        self._db.execute("update Pictures set sent = 1, data = x'' where image_path = ?", [image_path])

    def drop_picture(self, image_path: str) -> None:
        """Give a picture up; its rows stay."""
        with self._db.transaction() as db:
            db.execute("delete from Pictures where image_path = ?", [image_path])
            _count(db, "dropped_pictures", 1)

    def forget(self, image_path: str) -> None:
        """Take a picture out that somebody wants deleted; its rows stay."""
        self._db.execute("delete from Pictures where image_path = ?", [image_path])

    def remove(self, ids: Sequence[str]) -> None:
        """Take rows that were sent out of the queue, and what is known of pictures that no row waits with."""
        with self._db.transaction() as db:
            db.execute("delete from Events where id in (select value from json_each(?))", [json.dumps(list(ids))])
            db.execute(f"delete from Pictures where sent and {_NOBODY_WAITS}")

    def count_dropped_row(self) -> None:
        """Remember that a row was given up."""
        with self._db.transaction() as db:
            _count(db, "dropped_rows", 1)

    def trim(self) -> None:
        """Hold the limits: the oldest pictures give way first, then the oldest rows. Both are counted."""
        with self._db.transaction() as db:
            waiting = db.execute("select coalesce(sum(length(data)), 0) from Pictures").fetchone()[0]
            places = []
            if waiting > self._max_bytes:
                for row in db.execute("select place, length(data) size from Pictures where not sent order by place"):
                    places.append(row["place"])
                    waiting -= row["size"]
                    if waiting <= self._max_bytes:
                        break
                db.execute("delete from Pictures where place <= ? and not sent", [places[-1]])
                _count(db, "dropped_pictures", len(places))
            over = db.execute("select count(*) from Events").fetchone()[0] - self._max_rows
            if over > 0:
                db.execute("delete from Events where id in (select id from Events order by id limit ?)", [over])
                db.execute(f"delete from Pictures where {_NOBODY_WAITS}")
                _count(db, "dropped_rows", over)

    def shrink(self) -> None:
        """Give much room that is free in the file back to the disk; a little is soon needed again."""
        steps = self._db.select("pragma freelist_count")[0][0] // _SHRINK_PAGES
        for _ in range(min(steps, _SHRINK_STEPS)):  # in steps, because predictions wait for each
            self._db.script(f"pragma incremental_vacuum({_SHRINK_PAGES})")

    # ------------------------------------------------------------ about it

    def depth(self) -> dict[str, Any]:
        """Rows, pictures and bytes that wait, the oldest one's id, and what was dropped since the file is there."""
        rows = self._db.select("select count(*) n, min(id) oldest from Events")[0]
        pictures = self._db.select(
            "select count(*) n, coalesce(sum(length(data)), 0) size from Pictures where not sent"
        )[0]
        return {
            "rows": rows["n"],
            "oldest": rows["oldest"],
            "pictures": pictures["n"],
            "bytes": pictures["size"],
            "dropped_rows": int(self.fact("dropped_rows") or 0),
            "dropped_pictures": int(self.fact("dropped_pictures") or 0),
        }

    def fact(self, name: str) -> str | None:
        """A value that this machine remembers."""
        rows = self._db.select("select value from Facts where name = ?", name)
        return rows[0]["value"] if rows else None

    def remember(self, name: str, value: str) -> None:
        """Keep a value for later starts on this disk."""
        self._db.execute("insert or replace into Facts values (?, ?)", (name, value))

    def instance(self) -> str:
        """The id of this disk's installation, made the first time."""
        self._db.execute("insert into Facts values ('instance', ?) on conflict do nothing", [new_id()])
        return str(self.fact("instance"))


def _event(row: Any) -> Event:
    content = json.loads(row["row"])
    if content.get("image_path") and row["image_path"] is None:
        content["image_path"] = None
    return Event(row["id"], row["table_name"], content, row["image_path"])


def _count(db: Any, name: str, more: int) -> None:
    db.execute(
        "insert into Facts values (?, ?) on conflict (name) do update set value = cast(value as integer) + ?",
        [name, str(more), more],
    )
