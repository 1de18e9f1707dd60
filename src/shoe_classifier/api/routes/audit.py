"""`/audit-log`: who wrote what, and who was refused."""

from fastapi import APIRouter, Response

from shoe_classifier import errors
from shoe_classifier.api.auth import IsOwner
from shoe_classifier.api.dependencies import StoreDep
from shoe_classifier.api.openapi import READING, STORED, error_responses
from shoe_classifier.api.pagination import Before, Limit, link_next_page
from shoe_classifier.api.schemas.audit import AuditBody
from shoe_classifier.types import AuditEntry

router = APIRouter(tags=["records"], dependencies=[IsOwner])


@router.get(
    "/audit-log",
    summary="Calls that wrote or were refused, newest first",
    response_model=list[AuditBody],
    responses=error_responses(*READING, errors.InvalidRequest, *STORED),
)
def list_audit_log(response: Response, store: StoreDep, limit: Limit = 50, before: Before = None) -> list[AuditEntry]:
    rows = store.audit_log(limit, before)
    link_next_page(response, "/audit-log", limit, [row.id for row in rows])
    return rows
