"""uvicorn's HTTP protocol, with limits on headers, on connections, and on how long clients may take."""

import asyncio
from collections import deque
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.error_handlers import answer_to, raw
from shoe_classifier.errors import AppError

_SPARE = 256  # connections above the limit, which /health may need; the oldest of them makes room for the next
# Of what a client still sends after its answer, read and thrown away: more than a picture may have.
_LINGER_SECONDS, _LINGER_BYTES = 5.0, 16 << 20


class Connection(HttpToolsProtocol):
    """Closes a connection that waits for its client: for headers that are late or too large, or to read an answer.

    uvicorn would wait for ever. Bodies that are read have limits of their own, in `multipart`.

    A client that is answered while it still sends may read the answer before the connection ends: closed at once, the
    connection would be reset, often before that. So it is half closed, and read for a while.
    """

    _spares: ClassVar[deque["Connection"]] = deque()  # those above the limit in this process, oldest first
    _looking: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None  # for headers, in seconds of the loop's clock; None while a request is answered
    _unread = 0  # bytes of answers that waited for the client at the last look
    _header_bytes = 0  # since the last byte of a body, so that they include trailers
    _body_arrived = False
    _spare = False
    _lingering: asyncio.TimerHandle | None = None
    _ignored = 0  # bytes since the answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._service: Service = self.config.loaded_app.state.service
        self._waiting_since = self.loop.time()
        self._look_later(self._waiting_since)
        if len(self.connections) > self._service.settings.max_connections:
            self._become_spare()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._looking, self._lingering):
            if timer:
                timer.cancel()
        if self._spare and self in self._spares:
            self._spares.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._ignore(len(data))
            return
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
        self.cycle.transport = _Answering(self)  # type: ignore[assignment] # all that it needs

    def on_body(self, body: bytes) -> None:
        self._body_arrived = True
        super().on_body(body)

    def on_response_complete(self) -> None:
        if self._lingering:
            return
        super().on_response_complete()
        if self.cycle.response_complete:  # otherwise it has begun with the next request
            self._waiting_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(raw(answer_to(AppError(msg))))
        if self.cycle and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._linger()

    def end(self) -> None:
        """Close the connection after an answer."""
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        self._lingering = self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        self.transport.write_eof()
        self.flow.resume_reading()

    def _ignore(self, count: int) -> None:
        self._ignored += count
        if self._ignored > _LINGER_BYTES:
            self.transport.close()

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


class _Answering:
    """What answering a request needs of a transport."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self.write, self.is_closing = connection.transport.write, connection.transport.is_closing

    def close(self) -> None:
        self._connection.end()
