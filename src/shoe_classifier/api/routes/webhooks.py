"""`POST /webhooks/test`: whether the receiver takes what it is sent."""

from fastapi import APIRouter

from shoe_classifier import errors
from shoe_classifier.api.auth import MayWrite
from shoe_classifier.api.dependencies import WebhooksDep
from shoe_classifier.api.openapi import WRITING, error_responses
from shoe_classifier.api.schemas.webhooks import QueuedBody

router = APIRouter(prefix="/webhooks", tags=["system"])


@router.post(
    "/test",
    summary="Send the receiver of webhooks an event that means nothing",
    status_code=202,
    response_model=QueuedBody,
    responses=error_responses(*WRITING, errors.NotOffered),
    dependencies=[MayWrite],
)
def send_test_webhook(webhooks: WebhooksDep) -> dict[str, str]:
    if webhooks is None:
        raise errors.NotOffered("Expected a receiver of webhooks; WEBHOOK_URL names none.")
    webhooks.publish("test", {"message": "It works."})
    return {"detail": "Queued. `webhooks.recent` of /status says how the delivery went."}
