"""Who may write: holders of the key, or, without a key in the settings, programs on this machine."""

import hmac
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from shoe_classifier.api.dependencies import SettingsDep
from shoe_classifier.api.error_handlers import CLOSE
from shoe_classifier.errors import Forbidden, Unauthorized

_LOOPBACK = ("127.0.0.1", "::1")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip")


async def _check_writer(
    request: Request,
    settings: SettingsDep,
    key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> None:
    """Raise `Unauthorized` or `Forbidden` unless the client may write."""
    if settings.api_key is None:
        _check_loopback(request)
    elif key is None:
        raise Unauthorized("Expected the header X-API-Key; received none.", headers=CLOSE)
    elif not hmac.compare_digest(key.encode(), settings.api_key.get_secret_value().encode()):
        raise Unauthorized("Expected the right X-API-Key; received another one.", headers=CLOSE)


MayWrite = Depends(_check_writer)


def _check_loopback(request: Request) -> None:
    forwarded = [name for name in _FORWARDING if name in request.headers]
    host, origin = _host(f"//{request.headers.get('host', '')}"), request.headers.get("origin")
    if request.client is None or request.client.host not in _LOOPBACK or forwarded:
        problem = "a request from elsewhere"
    elif host not in _LOCAL_NAMES:  # a name that an attacker's DNS points at this machine
        problem = f"one for the host {str(host)[:80]!r}"
    elif origin and origin.partition("://")[2] != request.headers.get("host"):  # a foreign page open in this browser
        problem = f"one from a page of {origin[:80]!r}"
    else:
        return
    raise Forbidden(
        f"Expected a direct request from this machine, because no API_KEY is set; received {problem}.", headers=CLOSE
    )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # as in "//["
        return None
