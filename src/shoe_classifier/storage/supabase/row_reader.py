"""Reads rows of a Supabase project's tables as instances of their dataclasses."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from shoe_classifier.storage.filters import Condition
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.tables import Row, Table
from shoe_classifier.types import to_iso

_PAGE = 1000  # rows; a project silently cuts longer answers there, or at a smaller number of its own
LISTED = 100  # values in one address, which a proxy may cut at 8 KB
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OPERATORS = {"=": "eq", ">": "gt", ">=": "gte", "<": "lt"}  # PostgREST's names
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

    def newest(
        self, table: Table[Row], limit: int, before: str | None = None, conditions: Sequence[Condition] = ()
    ) -> list[Row]:
        """Return at most `limit` rows whose key is smaller than `before`, the largest key first."""
        rows: list[Row] = []
        while len(rows) < limit:
            query = _filtered(self._client.table(table.name).select("*"), conditions)
            query = query.lt(table.key, before) if before else query
            query = query.order(table.key, desc=True).limit(limit - len(rows))
            page = [decode(table, row) for row in self._client.call(query.execute).data]
            if not page:
                break
            rows += page
            before = getattr(page[-1], table.key)
        return rows

    def count(self, table: Table[Row], conditions: Sequence[Condition]) -> int:
        """Count the rows of a table that meet conditions."""
        query = self._client.table(table.name).select(table.key, count="exact")
        return int(self._client.call(_filtered(query, conditions).limit(1).execute).count or 0)

    def some(self, table: Table[Row], column: str, values: Sequence[str]) -> list[Row]:
        """Return the rows that have one of these values in a column that has each value once."""
        rows: list[Row] = []
        for start in range(0, len(values), LISTED):
            query = self._client.table(table.name).select("*").in_(column, values[start : start + LISTED])
            rows += [decode(table, row) for row in self._client.call(query.execute).data]
        return rows

    def all(
        self, table: Table[Row], column: str, value: Any, *, after: str | None = None, known: str | None = None
    ) -> list[Row]:
        """Return all rows that have this value in a column, the smallest key first.

        Args:
            after: only those with larger keys.
            known: a column; only those that have some value there.
        """
        return list(self.each(table, {column: value}, after=after, known=known))

    def each(
        self,
        table: Table[Row],
        values: Mapping[str, Any] | None = None,
        *,
        after: str | None = None,
        known: str | None = None,
    ) -> Iterator[Row]:
        """Yield all rows that have these values, a page at a time; see `all`."""
        while True:
            query = self._client.table(table.name).select("*")
            for column, value in (values or {}).items():
                query = query.eq(column, value)
            query = query.not_.is_(known, "null") if known else query
            query = query.gt(table.key, after) if after else query
            page = self._client.call(query.order(table.key).limit(_PAGE).execute).data
            if not page:
                return
            yield from (decode(table, row) for row in page)
            after = page[-1][table.key]


def _filtered(query: Any, conditions: Sequence[Condition]) -> Any:
    for column, operator, value in conditions:
        query = query.filter(column, _OPERATORS[operator], value)
    return query


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
