"""Writes a row of the audit log for each call that writes, before the client has its answer."""

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoe_classifier.api.auth import AUDIT
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.types import AuditEntry, new_id, utc_now

_MAX_TARGET = 200  # characters


class AuditWrites:
    """Records the calls that `auth.MayWrite` guards, refused ones included."""

    def __init__(self, app: ASGIApp, log: AuditLog):
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "GET" or scope["path"] == "/predict":
            await self._app(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and AUDIT in scope:
                entry = _entry(scope, message["status"])
                if self._log.admit(entry):
                    await anyio.to_thread.run_sync(self._log.add, entry)
            await send(message)

        await self._app(scope, receive, watch)


def _entry(scope: Scope, status: int) -> AuditEntry:
    method, client = scope["method"], scope.get("client")
    return AuditEntry(
        id=new_id(),
        created_at=utc_now(),
        action=f"{method} {getattr(scope.get('route'), 'path', scope['path'])}",
        target=scope["path"][:_MAX_TARGET],
        key_fingerprint=scope[AUDIT],
        client_address=client[0] if client else "",
        status=status,
    )
