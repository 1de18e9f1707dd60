"""The audit log."""

from shoe_classifier.api.schemas.row import row
from shoe_classifier.types import AuditEntry

_AUDIT_ENTRY = {
    "id": "019a8f71-22bb-7d4f-9a10-6e3f5a9b4c21",
    "created_at": "2026-11-22T04:05:00.120Z",
    "action": "DELETE /training-data/{row_id}",
    "target": "/training-data/019a8f6f-88bb-7c32-9b4f-2d3e4f5a6b7c",
    "key_fingerprint": "9f86d081",
    "client_address": "192.0.2.7",
    "status": 204,
    "calls": 1,
}
AuditBody = row("AuditBody", AuditEntry, _AUDIT_ENTRY)
