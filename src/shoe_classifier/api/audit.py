"""Writes a row of the audit log for each call that writes, before the client has its answer."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoe_classifier.api.auth import AUDIT
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.types import AuditEntry, new_id, utc_now

_MAX_TARGET = 200  # characters


class AuditWrites:
    """Records the calls that `auth.MayWrite` guards, refused ones included.

    Args:
        proxies: whose `X-Forwarded-For` says where a call came from. It never decides what a call may do.
    """

    def __init__(self, app: ASGIApp, log: AuditLog, proxies: Sequence[IPv4Network | IPv6Network]):
        self._app = app
        self._log = log
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "GET" or scope["path"] == "/predict":
            await self._app(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and AUDIT in scope:
                entry = _entry(scope, message["status"], self._client_address(scope))
                if self._log.admit(entry):
                    await anyio.to_thread.run_sync(self._log.add, entry)
            await send(message)

        await self._app(scope, receive, watch)

    def _client_address(self, scope: Scope) -> str:
        """Where a call came from. Proxies add names at the end; only those that a trusted one added are true."""
        address: str = (scope.get("client") or ("",))[0]
        named = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        while named and self._is_trusted(address) and _is_address(named[-1].strip()):
            address = named.pop().strip()
        return address

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._proxies)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _entry(scope: Scope, status: int, client_address: str) -> AuditEntry:
    return AuditEntry(
        id=new_id(),
        created_at=utc_now(),
        action=f"{scope['method']} {getattr(scope.get('route'), 'path', scope['path'])}",
        target=scope["path"][:_MAX_TARGET],
        key_fingerprint=scope[AUDIT],
        client_address=client_address,
        status=status,
    )
