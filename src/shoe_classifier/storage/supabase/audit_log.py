"""The rows of `Audit_Log`: stored in the project, or still queued in this machine's outbox."""

import orjson

from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.tables import AUDIT_LOG
from shoe_classifier.types import AuditEntry


class AuditLog(Records):
    """See `protocols.AuditStore`."""

    def add_audit(self, row: AuditEntry) -> None:
        self._outbox.add("Audit_Log", orjson.dumps(row).decode(), row.id)

    def audit_log(self, limit: int, before: str | None) -> list[AuditEntry]:
        return self._newest(AUDIT_LOG, limit, before, (), lambda: self._rows.newest(AUDIT_LOG, limit, before))

    def trim_audit(self, refused: int) -> None:
        query = self._client.table("Audit_Log").select("id").in_("status", [401, 403]).order("id", desc=True)
        newest_of_the_old = self._client.call(query.range(refused, refused).execute).data
        if newest_of_the_old:
            trim = self._client.table("Audit_Log").delete(returning="minimal").in_("status", [401, 403])
            self._client.call(trim.lte("id", newest_of_the_old[0]["id"]).execute)
