"""A queue on this machine's disk: rows that are still to be sent to Supabase, and their pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoe_classifier.storage.filters import Condition
from shoe_classifier.storage.sqlite.backlog import Backlog
from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.types import new_id

# The first migration must pass over the tables of files that 0.1.0 wrote (see `sqlite.migrations`).
_RELEASE_0_1_0 = """
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
RELEASED = "Released"  # not a table: such rows say which stored rows or pictures are to be deleted
MIGRATIONS = (_RELEASE_0_1_0,)
_BACKLOG_BYTES = 16 << 20  # of rows and pictures that wait while another program locks the file
_SHRINK_STEPS, _SHRINK_PAGES = 10, 1000
_ADD_EVENT = "insert into Events values (?, ?, ?, ?)"
_NO_EVENT_LEFT = "not exists (select 1 from Events where Events.image_path = Pictures.image_path)"
_ADD_PICTURE = "insert into Pictures (image_path, data) values (?, ?) on conflict do nothing"


@dataclass(frozen=True)
class Event:
    """A queued row. `id` is the row's own key, so that sending it twice changes nothing."""

    id: str
    table: str
    row: dict[str, Any]
    image_path: str | None


class Outbox:
    """A queue in one SQLite file, which survives a killed process and is shared by the workers of one machine.

    Args:
        path: the file.
        max_rows: the most rows that are queued; beyond it, the oldest are dropped.
        max_bytes: the most bytes of pictures that are queued; beyond it, the oldest pictures are dropped, not their
            rows.

    Raises:
        ConfigurationError: a newer release has written the file.
    """

    def __init__(self, path: Path, max_rows: int, max_bytes: int):
        self._db = Database(path, MIGRATIONS)
        self._backlog = Backlog(self._db, _BACKLOG_BYTES)
        self._max_rows = max_rows
        self._max_bytes = max_bytes

    def close(self) -> None:
        self._backlog.close()
        self._db.close()

    def problem(self) -> str | None:
        """Return why the file does not open, and what to do."""
        return self._db.problem()

    # ------------------------------------------------------------ in

    def add(
        self, table: str, row: str, row_id: str, image_path: str | None = None, picture: bytes | None = None
    ) -> None:
        """Append a row, given as JSON text. A picture that is already queued is not stored again.

        While another program locks the file, they wait in memory. Raises `StoreUnavailable` when too many wait.
        """
        if image_path is None or picture is None:
            self._backlog.execute(len(row), (_ADD_EVENT, (row_id, table, row, None)))
            return
        event = (_ADD_EVENT, (row_id, table, row, image_path))
        self._backlog.execute(len(row) + len(picture), (_ADD_PICTURE, (image_path, picture)), event)

    # ------------------------------------------------------------ out

    def oldest(self, count: int) -> list[Event]:
        """Return the first rows of the queue. The `image_path` of a row whose picture was dropped is None."""
        rows = self._db.select(
            "select e.id, table_name, row, p.image_path from Events e left join Pictures p using (image_path)"
            " order by e.id limit ?",
            count,
        )
        return [_event(row) for row in rows]

    def newest(
        self, table: str, count: int, before: str | None, conditions: Sequence[Condition] = ()
    ) -> list[dict[str, Any]]:
        """Return at most `count` queued rows of a table whose id is smaller than `before`, newest first."""
        where, values = _where(table, [*conditions, Condition("id", "<", before or "~")])
        rows = self._db.select(f"select row from Events where {where} order by id desc limit ?", *values, count)
        return [json.loads(row["row"]) for row in rows]

    def count(self, table: str, conditions: Sequence[Condition]) -> int:
        """Count the queued rows of a table."""
        where, values = _where(table, conditions)
        return int(self._db.select(f"select count(*) n from Events where {where}", *values)[0]["n"])

    def row(self, row_id: str) -> dict[str, Any] | None:
        """Return a queued row."""
        rows = self._db.select("select row from Events where id = ?", row_id)
        return json.loads(rows[0]["row"]) if rows else None

    def unsent(self, image_path: str) -> bytes | None:
        """Return a queued picture; None if it was sent or dropped."""
        rows = self._db.select("select data from Pictures where image_path = ? and not sent", image_path)
        return rows[0]["data"] if rows else None

    def find_picture(self, sha256: str) -> str | None:
        """Return the `image_path` of a queued picture."""
        prefix = f"images/{sha256[:2]}/{sha256}."
        rows = self._db.select(
            "select image_path from Pictures where image_path between ? and ? and not sent", prefix, prefix + "~"
        )
        return rows[0]["image_path"] if rows else None

    def review(
        self, row_id: str, label: str | None, kind: str | None, reviewed_at: str | None
    ) -> dict[str, Any] | None:
        """Write a review into a queued prediction; return that row, or None if it is not queued."""
        change = "update Events set row = json_set(row, '$.reviewed_label', ?, '$.review_kind', ?, '$.reviewed_at', ?)"
        self._db.execute(f"{change} where id = ?", [label, kind, reviewed_at, row_id])
        return self.row(row_id)

    def replace_rows(self, row_ids: Sequence[str], table: str, row: str) -> None:
        """Take rows out of the queue, with pictures that nothing else queued needs, and append one of another table."""
        with self._db.transaction() as db:
            db.execute("delete from Events where id in (select value from json_each(?))", [json.dumps(list(row_ids))])
            db.execute(f"delete from Pictures where {_NO_EVENT_LEFT}")
            db.execute(_ADD_EVENT, (new_id(), table, row, None))

    def mark_sent(self, image_path: str) -> None:
        """Free the space of a picture, and remember that it was sent for as long as rows refer to it."""
        self._db.execute("update Pictures set sent = 1, data = x'' where image_path = ?", [image_path])

    def drop_picture(self, image_path: str) -> None:
        """Give up sending a picture; its rows stay."""
        with self._db.transaction() as db:
            db.execute("delete from Pictures where image_path = ?", [image_path])
            _count(db, "dropped_pictures", 1)

    def forget(self, image_path: str) -> None:
        """Remove a picture that a user deleted; its rows stay."""
        self._db.execute("delete from Pictures where image_path = ?", [image_path])

    def remove(self, ids: Sequence[str]) -> None:
        """Remove rows that were sent, and the marks of sent pictures to which no queued row refers any more."""
        with self._db.transaction() as db:
            db.execute("delete from Events where id in (select value from json_each(?))", [json.dumps(list(ids))])
            db.execute(f"delete from Pictures where sent and {_NO_EVENT_LEFT}")

    def count_dropped_row(self) -> None:
        """Count a row that was given up."""
        with self._db.transaction() as db:
            _count(db, "dropped_rows", 1)

    def trim(self) -> None:
        """Enforce the limits: drop the oldest pictures first, then the oldest rows, and count both."""
        with self._db.transaction() as db:
            queued = db.execute("select coalesce(sum(length(data)), 0) from Pictures").fetchone()[0]
            places = []
            if queued > self._max_bytes:
                for row in db.execute("select place, length(data) size from Pictures where not sent order by place"):
                    places.append(row["place"])
                    queued -= row["size"]
                    if queued <= self._max_bytes:
                        break
                db.execute("delete from Pictures where place <= ? and not sent", [places[-1]])
                _count(db, "dropped_pictures", len(places))
            over = db.execute("select count(*) from Events").fetchone()[0] - self._max_rows
            if over > 0:
                db.execute("delete from Events where id in (select id from Events order by id limit ?)", [over])
                db.execute(f"delete from Pictures where {_NO_EVENT_LEFT}")
                _count(db, "dropped_rows", over)

    def shrink(self) -> None:
        """Return large amounts of free space in the file to the disk; small ones will soon be used again."""
        steps = self._db.select("pragma freelist_count")[0][0] // _SHRINK_PAGES
        for _ in range(min(steps, _SHRINK_STEPS)):  # in steps, because each one blocks predictions
            self._db.script(f"pragma incremental_vacuum({_SHRINK_PAGES})")

    def scrub(self) -> None:
        """Take what was deleted out of the file, too: free pages and the log still hold the bytes of sent pictures."""
        while self._db.select("pragma freelist_count")[0][0]:
            self._db.script(f"pragma incremental_vacuum({_SHRINK_PAGES})")
        self._db.select("pragma wal_checkpoint(truncate)")

    # ------------------------------------------------------------ about it

    def depth(self) -> dict[str, Any]:
        """Return the number of queued rows, pictures and bytes, the oldest row's id, and how many were ever dropped.

        Rows that another program keeps out of the file count, too.
        """
        rows = self._db.select("select count(*) n, min(id) oldest from Events")[0]
        pictures = self._db.select(
            "select count(*) n, coalesce(sum(length(data)), 0) size from Pictures where not sent"
        )[0]
        return {
            "rows": rows["n"] + self._backlog.waiting,
            "oldest": rows["oldest"],
            "pictures": pictures["n"],
            "bytes": pictures["size"],
            "dropped_rows": int(self.fact("dropped_rows") or 0) + self._backlog.dropped,
            "dropped_pictures": int(self.fact("dropped_pictures") or 0),
        }

    def fact(self, name: str) -> str | None:
        """Return a value kept by `remember`."""
        rows = self._db.select("select value from Facts where name = ?", name)
        return rows[0]["value"] if rows else None

    def remember(self, name: str, value: str) -> None:
        """Keep a value on this disk, for later starts."""
        self._db.execute("insert or replace into Facts values (?, ?)", (name, value))

    def instance(self) -> str:
        """Return the id of the installation on this disk, which the first call creates."""
        self._db.execute("insert into Facts values ('instance', ?) on conflict do nothing", [new_id()])
        return str(self.fact("instance"))


def _where(table: str, conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    """A clause for the queued rows of a table that meet conditions, and its values."""
    parts: list[str] = ["table_name = ?"]
    values: list[Any] = [table]
    for column, operator, value in conditions:
        place = "id" if column == "id" else f"json_extract(row, '$.{column}')"
        parts.append(f"{place} {operator} ?")
        values.append(value)
    return " and ".join(parts), values


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
