"""The audit log under a flood of refused calls."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shoe_classifier.services import audit
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import AuditEntry, new_id, utc_now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path)) as store:
        yield store


def entry(status: int) -> AuditEntry:
    return AuditEntry(new_id(), utc_now(), "POST /upload", "/upload", None, "192.0.2.7", status)


def call(log: AuditLog, status: int) -> None:
    row = entry(status)
    if log.admit(row):
        log.add(row)


def test_a_flood_of_refused_calls_leaves_few_rows(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = [100.0]
    monkeypatch.setattr(audit.time, "monotonic", lambda: minute[0] * 60)
    log = AuditLog(store)
    for _ in range(1000):
        call(log, 401)
    for _ in range(50):  # what was done is always recorded
        call(log, 201)
    log.tidy()
    rows = store.audit_log(1000, None)
    refused = [row.calls for row in rows if row.status == 401]
    assert len(rows) == audit._REFUSED_PER_MINUTE + 1 + 50
    assert (sum(refused), max(refused)) == (1000, 1000 - audit._REFUSED_PER_MINUTE)
    minute[0] += 1
    call(log, 403)
    log.tidy()
    assert store.audit_log(1, None)[0].calls == 1


def test_only_the_newest_rows_of_refused_calls_stay(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_KEPT_REFUSED", 5)
    log = AuditLog(store)
    for status in (201, *[401] * 8):
        call(log, status)
    log.tidy()
    assert [row.status for row in store.audit_log(100, None)] == [*[401] * 5, 201]


def test_a_row_that_cannot_be_written_is_logged(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    def broken(row: AuditEntry) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    store.add_audit = broken  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        AuditLog(store).add(entry(201))
    assert "Not recorded in Audit_Log: AuditEntry(" in caplog.text
