"""Parses a multipart body into a `Form`, with limits that hold while it is parsed."""

import re
from pathlib import Path

from python_multipart.multipart import MultipartParser, parse_options_header

from shoe_classifier.api.error_handlers import CLOSE
from shoe_classifier.api.form import Form, FormFile
from shoe_classifier.errors import InvalidRequest, TooLarge

MAX_PARTS = 1000
MAX_HEADER_BYTES = 8 << 10  # of one part
MAX_FIELD_BYTES = 4 << 10

_WRITE_BYTES = 1 << 20  # a larger file is written to disk in pieces of this size

# What the one-part shortcut accepts: up to four headers, then an empty line. python-multipart allows eight of 4 KiB and
# all of them together are below MAX_HEADER_BYTES, so nothing passes here that would be refused otherwise.
_PLAIN_HEADERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}:[^\r\n]{0,1900}\r\n){1,4}\r\n")


class FormParser:
    """Collects the parts of one body: the callbacks of python-multipart's parser, and a shortcut for one whole part."""

    def __init__(self, boundary: bytes, max_bytes: int, folder: Path | None):
        """Large files go to `folder`, if it is given. Raises `FormParserError` for a boundary that is too long."""
        self._boundary, self._max_bytes, self._folder = boundary, max_bytes, folder
        self._form = Form()
        self._total = self._parts = self._held = 0  # `_held`: bytes of complete files that stay in memory
        self._header_name, self._header_value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._file: FormFile | None = None
        self._data = bytearray()
        self._name = ""
        self._ended = False
        self.waiting: list[tuple[Path, bytes]] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes | bytearray) -> None:
        """Parse the next piece of the body."""
        self._parser.write(chunk)  # type: ignore[arg-type] # it indexes and slices, no more

    def feed_whole(self, body: bytearray) -> None:
        """Parse a complete body, which is used up.

        Almost every client sends a picture as the only part of its form. Searching for the closing boundary is many
        times faster than python-multipart's state machine, which gets everything else.
        """
        first, between = b"--" + self._boundary + b"\r\n", b"\r\n--" + self._boundary
        headers = _PLAIN_HEADERS.match(body, len(first)) if body.startswith(first) else None
        start = headers.end() if headers else 0
        end = body.find(between, start)
        if headers is None or end < 0 or body[end:] not in (between + b"--\r\n", between + b"--"):
            self.feed(body)
            return
        self._part_begin()
        for line in bytes(headers[0])[:-4].split(b"\r\n"):
            name, _, value = line.partition(b":")
            self._headers[name.lower()] = value.strip(b" ")
        self._headers_finished()
        del body[end:], body[:start]  # in place: a copy for each step would take several times the body's memory
        self._data, self._total = body, len(body)
        self._check_size()
        self._part_end()
        self._end()

    def finish(self) -> Form:
        """The form. Raises `InvalidRequest` when the body ended early."""
        if not self._ended:
            raise InvalidRequest(
                "Expected a multipart body with its closing boundary; received one that was cut short."
            )
        return self._form

    def write_waiting(self) -> None:
        """Write what waits to disk; blocks, so it runs on a thread."""
        for path, data in self.waiting:
            with path.open("ab") as file:
                file.write(data)
        self.waiting.clear()

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise TooLarge(f"Expected at most {MAX_PARTS} parts in the form; received more.", headers=CLOSE)
        self._headers = {}
        self._data = bytearray()
        self._file = None
        self._name = ""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._check_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header_name) + len(self._header_value) + sum(map(len, self._headers.values())) > MAX_HEADER_BYTES:
            raise TooLarge(
                f"Expected at most {MAX_HEADER_BYTES:,} bytes of headers in a part; received more.", headers=CLOSE
            )

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise InvalidRequest(
                "Expected a name in each part of the form; received a part without one.", headers=CLOSE
            )
        self._name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._file = FormFile(self._name, options[b"filename"].decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._total += end - start
        self._data += memoryview(data)[start:end]
        self._check_size()
        if self._file and self._folder and len(self._data) + self._held >= _WRITE_BYTES:
            self._to_disk(self._file, self._folder)

    def _check_size(self) -> None:
        if self._file is None and len(self._data) > MAX_FIELD_BYTES:
            raise TooLarge(
                f"Expected at most {MAX_FIELD_BYTES:,} bytes in {self._name[:40]!r}; received more.", headers=CLOSE
            )
        if self._file and self._total > self._max_bytes:
            raise TooLarge(f"Expected at most {self._max_bytes:,} bytes; received more.", headers=CLOSE)

    def _to_disk(self, file: FormFile, folder: Path) -> None:
        if file.path is None:
            file.path = folder / f"part{len(self._form.files)}"
        self.waiting.append((file.path, bytes(self._data)))
        self._data = bytearray()

    def _part_end(self) -> None:
        if self._file is None:
            self._form.fields[self._name] = self._data.decode("utf-8", "replace")
            return
        if self._file.path and self._folder:
            self._to_disk(self._file, self._folder)
        else:
            self._file.data = bytes(self._data)
            self._held += len(self._data)
            self._data = bytearray()
        self._form.files.append(self._file)

    def _end(self) -> None:
        self._ended = True
