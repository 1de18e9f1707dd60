"""The rows of `Audit_Log`."""

from shoe_classifier.storage.sqlite.records import Records, insert
from shoe_classifier.storage.tables import AUDIT_LOG
from shoe_classifier.types import AuditEntry

_TRIMMED = 1000  # rows, in one call


class AuditLog(Records):
    """See `protocols.AuditStore`."""

    def add_audit(self, row: AuditEntry) -> None:
        with self._db.transaction() as db:
            insert(db, AUDIT_LOG, row)

    def audit_log(self, limit: int, before: str | None) -> list[AuditEntry]:
        return self._page(AUDIT_LOG, limit, before)

    def trim_audit(self, refused: int) -> None:
        old = "select id from Audit_Log where status in (401, 403) order by id desc limit ? offset ?"
        self._db.execute(f"delete from Audit_Log where id in ({old})", [_TRIMMED, refused])
