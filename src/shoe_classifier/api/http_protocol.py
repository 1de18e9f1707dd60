"""uvicorn's HTTP protocol, with limits on the headers of a request."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEADER_BYTES = 1 << 16


class Connection(HttpToolsProtocol):
    """Closes a connection when the headers of its next request are late or too large. uvicorn would wait forever.

    Bodies have limits of their own, in `multipart`.
    """

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is None:
            return
        self._header_bytes += len(data)
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._stop_waiting()
            self.send_400_response(f"Expected headers of at most {_MAX_HEADER_BYTES:,} bytes; received more.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:  # the second request of a connection, or a later one
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        seconds = self.config.loaded_app.state.service.settings.silence_seconds
        self._deadline, self._header_bytes = self.loop.call_later(seconds, self.transport.close), 0

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
