"""Reads rows of a Supabase project's tables as instances of their dataclasses."""

import re
from datetime import datetime
from typing import Any

from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.tables import Row, Table
from shoe_classifier.types import to_iso

_PAGE = 1000  # rows; a project silently cuts longer answers there, or at a smaller number of its own
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_COLUMNS = ("id", "job_id")


class RowReader:
    """All methods raise as `SupabaseClient.call` does."""

    def __init__(self, client: SupabaseClient):
        self._client = client

    def one(self, table: Table[Row], column: str, value: str) -> Row | None:
        """Return a row that has this value in a column."""
        if column in _UUID_COLUMNS and not is_uuid(value):
            return None
        query = self._client.table(table.name).select("*").eq(column, value).limit(1)
        rows = self._client.call(query.execute).data
        return decode(table, rows[0]) if rows else None

    def newest(self, table: Table[Row], limit: int, before: str | None = None) -> list[Row]:
        """Return at most `limit` rows whose key is smaller than `before`, the largest key first."""
        rows: list[Row] = []
        while len(rows) < limit:
            query = self._client.table(table.name).select("*")
            query = query.lt(table.key, before) if before else query
            query = query.order(table.key, desc=True).limit(limit - len(rows))
            page = [decode(table, row) for row in self._client.call(query.execute).data]
            if not page:
                break
            rows += page
            before = getattr(page[-1], table.key)
        return rows

    def all(self, table: Table[Row], column: str, value: Any) -> list[Row]:
        """Return all rows that have this value in a column, the smallest key first."""
        rows: list[Row] = []
        while True:
            query = self._client.table(table.name).select("*").eq(column, value)
            query = query.gt(table.key, getattr(rows[-1], table.key)) if rows else query
            page = self._client.call(query.order(table.key).limit(_PAGE).execute).data
            if not page:
                return rows
            rows += [decode(table, row) for row in page]


def is_uuid(text: str) -> bool:
    """Whether Postgres takes a text for a UUID; it rejects a query with any other."""
    return _UUID.fullmatch(text) is not None


def decode(table: Table[Row], row: dict[str, Any]) -> Row:
    """Make a row of its JSON, without the columns that only Supabase has.

    Columns that are missing have their defaults: an earlier release may have queued the row.
    """
    values: dict[str, Any] = {column: row[column] for column in table.columns if column in row}
    for column in table.time_columns & values.keys():  # Postgres formats times in another way
        values[column] = values[column] and to_iso(datetime.fromisoformat(values[column]))
    return table.row_type(**values)
