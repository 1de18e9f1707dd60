"""uvicorn's HTTP protocol, with limits on headers, on connections, and on how long clients may take."""

import asyncio
from collections import deque
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shoe_classifier.api.dependencies import Service

_SPARE = 512  # connections above the limit, which /health may need; the oldest of them makes room for the next


class Connection(HttpToolsProtocol):
    """Closes a connection that waits for its client: for headers that are late or too large, or to read an answer.

    uvicorn would wait for ever. Bodies that are read have limits of their own, in `multipart`.
    """

    _spares: ClassVar[deque["Connection"]] = deque()  # those above the limit in this process, oldest first
    _looking: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None  # for headers, in seconds of the loop's clock; None while a request is answered
    _unread = 0  # bytes of answers that waited for the client at the last look
    _header_bytes = 0  # since the last byte of a body, so that they include trailers
    _body_arrived = False
    _spare = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._service: Service = self.config.loaded_app.state.service
        self._waiting_since = self.loop.time()
        self._look_later(self._waiting_since)
        if len(self.connections) > self._service.settings.max_connections:
            self._become_spare()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking:
            self._looking.cancel()
        if self._spare and self in self._spares:
            self._spares.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._body_arrived = False
        super().data_received(data)
        self._header_bytes = 0 if self._body_arrived else self._header_bytes + len(data)
        if self._header_bytes > self._service.settings.max_header_bytes:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        self.scope["state"]["spare"] = self._spare  # for `middleware.ReserveConnections`

    def on_headers_complete(self) -> None:
        self._waiting_since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_arrived = True
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # otherwise it has begun with the next request
            self._waiting_since = self.loop.time()

    def resume_writing(self) -> None:
        self._unread = 0
        super().resume_writing()

    def _look_later(self, since: float) -> None:
        self._looking = self.loop.call_at(since + self._service.settings.silence_seconds, self._look)

    def _look(self) -> None:
        now, settings = self.loop.time(), self._service.settings
        since, unread = self._waiting_since, self.transport.get_write_buffer_size()
        most = self._unread - settings.min_bytes_per_second * settings.silence_seconds
        if since is not None and now - since >= settings.silence_seconds:
            self._abort("silence")
        elif self._unread and unread > most:
            self._abort("unread_answer")
        else:
            self._unread = unread
            self._look_later(now if since is None else since)

    def _refuse_headers(self) -> None:
        most = self._service.settings.max_header_bytes
        if self.cycle:  # trailers, or headers after an answer
            self._abort("headers")
        else:
            self._service.metrics.count_refusal("headers")
            self.send_400_response(f"Expected headers of at most {most:,} bytes; received more.")

    def _become_spare(self) -> None:
        self._spare = True
        self._spares.append(self)
        if len(self._spares) > _SPARE:
            self._spares.popleft()._abort("connections")

    def _abort(self, reason: str) -> None:
        self._service.metrics.count_refusal(reason)
        self.transport.abort()
