"""A receiver of webhooks on this machine, which can be told to fail, to hang and to redirect."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_dGhpcnR5LXR3byBieXRlcyBhcmUgYSBnb29kIHNlY3JldA=="


class Receiver:
    """Verifies what it receives.

    Attributes:
        answers: the statuses of the next answers; afterwards, 204.
        release: an answer waits for it.
        received: the headers and the verified content of each request, in order.
    """

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.release = threading.Event()
        self.release.set()
        self.received: list[tuple[dict[str, str], dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.handle(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def settings(self) -> dict[str, Any]:
        return {"webhook_url": self.url, "webhook_secret": SECRET, "webhook_allow_private": True}

    @property
    def types(self) -> list[str]:
        return [content["type"] for _, content in self.received]

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((headers, Webhook(SECRET).verify(body, headers)))
        self.release.wait(10)
        request.send_response(self.answers.pop(0) if self.answers else 204)
        request.send_header("Location", f"http://127.0.0.1:{self.port}/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
