"""A server that answers as it is told, and a client of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shoe_classifier.storage.supabase.client import SupabaseClient

KEY = "head.body.signature"
Answer = tuple[int, Any]


class Server:
    """Gives the answers of a list one after the other, and the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                server.requests.append(self.path)
                status, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *arguments: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def opened(url: str) -> Iterator[SupabaseClient]:
    client = SupabaseClient(url, KEY, timeout=2)
    yield client
    client.close()
