"""ASGI layers around the framework: counting, one spelling of paths, errors, and a short way for predictions."""

import time
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoe_classifier.api.acceptor import ALWAYS_ANSWERED, too_many_connections
from shoe_classifier.api.error_handlers import handle_error
from shoe_classifier.api.metrics import RequestMetrics
from shoe_classifier.errors import Overloaded, RequestTimeout, TooLarge

WAITED = "shoe_classifier.waited"  # in a request's scope: seconds for which its client asked to wait


class CountRequests:
    """Counts every response and the time to its start, without what its client asked to wait for."""

    def __init__(self, app: ASGIApp, request_metrics: RequestMetrics):
        self._app = app
        self._metrics = request_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, seconds = 500, None

        async def watch(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":  # not its end: an event stream lasts as long as it is read
                status, seconds = message["status"], time.perf_counter() - started
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            path = getattr(scope.get("route"), "path", "none")  # the route's pattern, so that labels stay few
            seconds = (seconds or time.perf_counter() - started) - scope.get(WAITED, 0.0)
            self._metrics.count(path, scope["method"], status, seconds)


class StripTrailingSlash:
    """Treats `/x/` as `/x`, without a redirect, which would lose the body of an upload."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/" and scope["path"].endswith("/"):
            # In place: `CountRequests` reads the route that the router sets in this very scope.
            scope["path"] = scope["path"].rstrip("/") or "/"
        await self._app(scope, receive, send)


class HandleErrors:
    """Answers whatever is raised inside. The framework's outermost layer would raise it again after its answer."""

    def __init__(self, app: ASGIApp, request_metrics: RequestMetrics):
        self._app = app
        self._metrics = request_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # an endpoint may raise anything; the client still gets the envelope
            if started:  # too late for another status: the server cuts the connection, so that the client notices
                raise
            response = await handle_error(Request(scope), error)
            if reason := _reason(error):
                self._metrics.count_refusal(reason)
            await response(scope, receive, send)


class ReserveConnections:
    """On connections above the limit, answers only what tells how the service is, so that this is never crowded out."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("state", {}).get("spare") and scope["path"] not in ALWAYS_ANSWERED:
            raise too_many_connections()
        await self._app(scope, receive, send)


_USUAL_QUERIES = (b"", b"record=false", b"record=true")


class PredictFastPath:
    """Takes `POST /predict` past the framework's routing and dependencies, which would cost a tenth of its time."""

    def __init__(self, app: ASGIApp, endpoint: Callable[[Request], Awaitable[Response]]):
        self._app = app
        self._endpoint = endpoint
        self._route = Route("/predict", endpoint, methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == "/predict"
        if not mine or scope["query_string"] not in _USUAL_QUERIES:  # what else there is, the framework refuses
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route  # as the router does; `CountRequests` reads it
        response = await self._endpoint(Request(scope, receive))
        await response(scope, receive, send)


def _reason(error: Exception) -> str | None:
    """What of the limits refused a request, or None."""
    if isinstance(error, Overloaded):
        return error.reason
    return error.code if isinstance(error, RequestTimeout | TooLarge) else None
