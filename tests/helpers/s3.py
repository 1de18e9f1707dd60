"""A bucket that speaks as much of S3 as Arrow asks for, below a path, as Supabase's does."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PREFIX = "/storage/v1/s3/"


class Bucket:
    """Attributes:
    url: the address, for `AWS_ENDPOINT_URL`.
    files: what is in it, by `bucket/key`.
    broken: whether it answers only 503.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}{PREFIX.rstrip('/')}"

    def listing(self, bucket: str, prefix: str) -> bytes:
        """The answer of ListObjectsV2 with the delimiter `/`."""
        names = [key.partition("/")[2] for key in sorted(self.files) if key.startswith(f"{bucket}/{prefix}")]
        below = [name[len(prefix) :] for name in names]
        folders = dict.fromkeys(name.partition("/")[0] for name in below if "/" in name)
        files = [name for name in below if name and "/" not in name]
        found = "".join(
            f"<Contents><Key>{escape(prefix + name)}</Key><Size>{len(self.files[f'{bucket}/{prefix}{name}'])}</Size>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for name in files
        )
        found += "".join(
            f"<CommonPrefixes><Prefix>{escape(prefix + name)}/</Prefix></CommonPrefixes>" for name in folders
        )
        count = len(files) + len(folders)
        return f"<ListBucketResult><KeyCount>{count}</KeyCount>{found}</ListBucketResult>".encode()

    def _handler(bucket) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                key = unquote(parts.path).removeprefix(PREFIX)
                query = parse_qs(parts.query)
                if "list-type" in query:
                    self._answer(200, bucket.listing(key.strip("/"), query.get("prefix", [""])[0]))
                elif key not in bucket.files:
                    self._answer(404, b"")
                elif asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                    self._answer(206, bucket.files[key][int(asked[1]) : int(asked[2]) + 1])
                else:
                    self._answer(200, bucket.files[key])

            do_HEAD = do_GET

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                bucket.files[unquote(self.path).removeprefix(PREFIX).partition("?")[0]] = data
                self._answer(200, b"")

            def do_DELETE(self) -> None:
                bucket.files.pop(unquote(self.path).removeprefix(PREFIX).partition("?")[0], None)
                self._answer(204, b"")

            def _answer(self, status: int, data: bytes) -> None:
                status = 503 if bucket.broken else status
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def s3_bucket() -> Iterator[Bucket]:
    bucket = Bucket()
    thread = threading.Thread(target=bucket.server.serve_forever)
    thread.start()
    try:
        yield bucket
    finally:
        bucket.server.shutdown()
        thread.join()
        bucket.server.server_close()
