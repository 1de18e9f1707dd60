"""The rows of `Audit_Log`, in both stores."""

from dataclasses import replace

from helpers.rows import drained
from helpers.service import wait_for
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import AuditEntry, new_id, utc_now


def entry(status: int = 204) -> AuditEntry:
    path = "/training-data/{row_id}"
    return AuditEntry(new_id(), utc_now(), f"DELETE {path}", "/training-data/x", "9f86d081", "192.0.2.7", status)


def test_the_audit_log_is_read_in_pages(store: Store) -> None:
    entries = [entry(), replace(entry(401), key_fingerprint=None, calls=7), entry()]
    for row in entries:
        store.add_audit(row)
    assert store.audit_log(10, None) == entries[::-1]
    assert store.audit_log(1, entries[1].id) == entries[:1]
    wait_for(lambda: drained(store))
    assert store.audit_log(2, None) == entries[:0:-1]


def test_only_rows_of_refused_calls_are_trimmed(store: Store) -> None:
    entries = [entry(status) for status in (204, 401, 403, 401, 500, 403)]
    for row in entries:
        store.add_audit(row)
    wait_for(lambda: drained(store))
    store.trim_audit(10)
    assert store.audit_log(10, None) == entries[::-1]
    store.trim_audit(2)
    assert [row.status for row in store.audit_log(10, None)] == [403, 500, 401, 204]
