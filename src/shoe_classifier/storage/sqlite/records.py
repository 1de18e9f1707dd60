"""What the queries of all tables share: the file of the records, the folder of pictures, and rows as dataclasses."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from shoe_classifier.storage.filters import Condition
from shoe_classifier.storage.sqlite.backlog import Backlog
from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.storage.sqlite.migrations import RECORDS
from shoe_classifier.storage.sqlite.picture_files import PictureFiles
from shoe_classifier.storage.tables import Row, Table

IN_LIST = "in (select value from json_each(?))"
_BACKLOG_BYTES = 16 << 20  # of predictions that wait while another process locks the file: about 25,000


def used_for_training(path: str) -> str:
    """SQL for whether a training row, or one that was set aside, has the picture at `path`, an SQL expression."""
    sha256 = f"substr({path}, 11, 64)"  # where `picture_path` puts it
    return (
        f"(exists (select 1 from Training_Data where sha256 = {sha256})"
        f" or exists (select 1 from Changed_Pictures where sha256 = {sha256} and picture is not null))"
    )


_UNUSED = f"""
select value from json_each(?)
    where not exists (select 1 from Predict where image_path = value) and not {used_for_training("value")}
"""


class Records:
    """The records of one machine. Each of its subclasses queries one table; `store.SqliteStore` joins them."""

    def __init__(self, folder: Path):
        self._pictures = PictureFiles(folder)
        self._db = Database(folder / "records.sqlite3", RECORDS)
        self._backlog = Backlog(self._db, _BACKLOG_BYTES)

    def _one(self, table: Table[Row], column: str, value: str) -> Row | None:
        rows = self._select(table, f"where {column} = ? limit 1", value)
        return rows[0] if rows else None

    def _page(
        self, table: Table[Row], limit: int, before: str | None, conditions: Sequence[Condition] = ()
    ) -> list[Row]:
        where, values = _where([*conditions, Condition(table.key, "<", before)] if before else conditions)
        return self._select(table, f"{where} order by {table.key} desc limit ?", *values, limit)

    def _count(self, table: Table[Row], conditions: Sequence[Condition]) -> int:
        where, values = _where(conditions)
        return int(self._db.select(f"select count(*) n from {table.name} {where}", *values)[0]["n"])

    def _sum(self, counts: str, conditions: Sequence[Condition]) -> int:
        """Add up the rows that a table of counts has of some kinds."""
        where, values = _where(conditions)
        return int(self._db.select(f"select coalesce(sum(rows), 0) n from {counts} {where}", *values)[0]["n"])

    def _select(self, table: Table[Row], clauses: str, *values: Any) -> list[Row]:
        rows = self._db.select(f"select {', '.join(table.columns)} from {table.name} {clauses}", *values)
        return [decode(table, row) for row in rows]

    def _delete_unused(self, db: sqlite3.Connection, image_paths: Iterable[str]) -> None:
        """Delete those pictures that no row uses.

        Within the transaction that changes the rows, so that no training row can come to use one in between; after a
        crash the rows are as before, and the next call finds them.
        """
        for row in db.execute(_UNUSED, [json.dumps(list(image_paths))]).fetchall():
            self._pictures.delete(row["value"])


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    """A clause, and its values; empty without conditions.

    True and false are written out: the partial indexes are only found for what is known in advance.
    """
    clause = " and ".join(
        f"{column} = {value:d}" if isinstance(value, bool) else f"{column} {operator} ?"
        for column, operator, value in conditions
    )
    return f"where {clause}" if clause else "", [value for *_, value in conditions if not isinstance(value, bool)]


@cache
def _insertion(table: Table[Any], verb: str, then: str) -> str:
    values = ", ".join("?" * len(table.columns))
    return f"{verb} into {table.name} ({', '.join(table.columns)}) values ({values}) {then}"


def insert(
    db: sqlite3.Connection, table: Table[Row], row: Row, verb: str = "insert", then: str = "", **changes: Any
) -> bool:
    """Insert a row, with some of its columns changed; return False when a conflict prevented it."""
    values = {**vars(row), **changes}
    for column in table.json_columns:
        values[column] = None if values[column] is None else json.dumps(values[column])
    return db.execute(_insertion(table, verb, then), [values[column] for column in table.columns]).rowcount > 0


def decode(table: Table[Row], row: sqlite3.Row) -> Row:
    values: dict[str, Any] = dict(row)
    for column in table.json_columns:
        values[column] = None if values[column] is None else json.loads(values[column])
    for column in table.boolean_columns:
        values[column] = bool(values[column])
    return table.row_type(**values)
