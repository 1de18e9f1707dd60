"""Who may predict, read and write: holders of a key, or, without a key in the settings, programs on this machine."""

import hashlib
import hmac
import re
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import SecretStr

from shoe_classifier.api.dependencies import SettingsDep
from shoe_classifier.api.error_handlers import CLOSE
from shoe_classifier.errors import Forbidden, Unauthorized
from shoe_classifier.settings import Settings

AUDIT = "shoe_classifier.audit"  # in the scope of a request that wants to write: the fingerprint of its key

_KEY = "X-API-Key"
KeyDep = Annotated[
    str | None,
    Security(
        APIKeyHeader(
            name=_KEY,
            auto_error=False,
            description="`API_KEY` opens all calls; `READ_KEY` opens those that predict or read.",
        )
    ),
]
_LOOPBACK = ("127.0.0.1", "::1")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# Proxies say in headers of their own whom they speak for. No list of those is complete, so any header counts whose name
# has a word for an address or for forwarding, or the name of a service that adds such headers.
_FORWARDING = re.compile(
    r"""(?:^|[-_])(?:
        forward\w* | via | prox\w* | origin\w+ | connecting | client | cluster | remote | real | peer | hops?
        | ip | addr\w* | host | port | proto\w* | scheme | https | ssl | tls
        | akamai | amzn? | appengine | arr | azure | cdn | cf | cloud\w+ | edge | envoy | fastly | fly | gateway | goog
        | heroku | ngrok | railway | render | rndr | tailscale | vercel | wap
    )(?:[-_]|$)""",
    re.VERBOSE,
)


def check_predicting(request: Request, settings: Settings) -> None:
    """Raise `Unauthorized` or `Forbidden` unless the client may predict."""
    if not settings.open_predict:
        _check(request, settings, request.headers.get(_KEY), settings.read_key)


async def _check_predictor(request: Request, settings: SettingsDep, key: KeyDep) -> None:
    check_predicting(request, settings)


async def _check_reader(request: Request, settings: SettingsDep, key: KeyDep) -> None:
    if not settings.open_reading:
        _check(request, settings, key, settings.read_key)


async def _check_owner(request: Request, settings: SettingsDep, key: KeyDep) -> None:
    _check(request, settings, key)


async def _check_writer(request: Request, settings: SettingsDep, key: KeyDep) -> None:
    request.scope[AUDIT] = _fingerprint(key)
    _check(request, settings, key)


MayPredict, MayRead, MayWrite = Depends(_check_predictor), Depends(_check_reader), Depends(_check_writer)
IsOwner = Depends(_check_owner)


def _check(request: Request, settings: Settings, key: str | None, second: SecretStr | None = None) -> None:
    """Raise unless `key` is the API_KEY or the `second` one that opens the call."""
    if settings.api_key is None:
        _check_loopback(request)
    elif key is None:
        raise Unauthorized(f"Expected the header {_KEY}; received none.", headers=CLOSE)
    # Both are always compared, so that the time tells nothing about either.
    elif not _equal(key, settings.api_key) | _equal(key, second):
        if _equal(key, settings.read_key):
            raise Forbidden(
                "Expected the API_KEY; received the READ_KEY, which does not open this call.", headers=CLOSE
            )
        raise Unauthorized(f"Expected the right {_KEY}; received another one.", headers=CLOSE)


def _equal(key: str, right: SecretStr | None) -> bool:
    return right is not None and hmac.compare_digest(key.encode(), right.get_secret_value().encode())


def _fingerprint(key: str | None) -> str | None:
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()[:8]


def _check_loopback(request: Request) -> None:
    host, origin = _host(f"//{request.headers.get('host', '')}"), request.headers.get("origin")
    if request.client is None or request.client.host not in _LOOPBACK or any(map(_is_forwarding, request.headers)):
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


def _is_forwarding(header: str) -> bool:
    return header != "host" and _FORWARDING.search(header) is not None


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # as in "//["
        return None
