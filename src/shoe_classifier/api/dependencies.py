"""What endpoints ask for, as named types."""

import hmac
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request, Security
from fastapi.security import APIKeyHeader

from shoe_classifier.api.metrics import RequestMetrics
from shoe_classifier.api.multipart import CLOSE
from shoe_classifier.errors import Forbidden, Unauthorized
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store

_LOOPBACK = ("127.0.0.1", "::1")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip")


@dataclass
class Service:
    """The parts of one running app, put together in `main.create_app`."""

    settings: Settings
    store: Store
    live_model: LiveModelHolder
    prediction: PredictionService
    ingestion: IngestionService
    model_registry: ModelRegistry
    corrections: CorrectionService
    retrainer: Retrainer
    metrics: RequestMetrics
    started: float
    stopping: bool = field(default=False)


async def _service(request: Request) -> Service:  # async, because FastAPI sends others through a thread
    service: Service = request.app.state.service
    return service


async def _may_write(
    request: Request,
    service: Annotated[Service, Depends(_service)],
    key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> None:
    """Let in who has the key; without one in the settings, only programs on this very machine."""
    expected = service.settings.api_key
    if expected is None:
        _check_loopback(request)
    elif key is None:
        raise Unauthorized("Expected the header X-API-Key; received none.", headers=CLOSE)
    elif not hmac.compare_digest(key.encode(), expected.get_secret_value().encode()):
        raise Unauthorized("Expected the right X-API-Key; received another one.", headers=CLOSE)


def _check_loopback(request: Request) -> None:
    forwarded = [name for name in _FORWARDING if name in request.headers]
    host, origin = _host(f"//{request.headers.get('host', '')}"), request.headers.get("origin")
    if request.client is None or request.client.host not in _LOOPBACK or forwarded:
        problem = "a request from elsewhere"
    elif host not in _LOCAL_NAMES:  # a name that an attacker's DNS points at this machine
        problem = f"one for the host {str(host)[:80]!r}"
    elif origin and origin.partition("://")[2] != request.headers.get("host"):  # a web page that this browser has open
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


Services = Annotated[Service, Depends(_service)]
MayWrite = Depends(_may_write)
Limit = Annotated[int, Query(ge=1, le=1000, description="Most rows of one page.")]
Before = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        description="Id of the last row seen: what is older follows.",
        examples=[None],
    ),
]
