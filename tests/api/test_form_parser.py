"""The shortcut for one whole part does exactly what python-multipart's parser does."""

import random
import tracemalloc

import pytest
from python_multipart.exceptions import FormParserError

from shoe_classifier.api.form import Form
from shoe_classifier.api.form_parser import MAX_FIELD_BYTES, MAX_HEADER_BYTES, FormParser
from shoe_classifier.errors import AppError, InvalidRequest, TooLarge

BOUNDARY = b"edge"
MAX_BYTES = 3000
PIECES = [
    b"--edge\r\n",
    b"--edge--",
    b"--edge--\r\n",
    b"\r\n--edge",
    b"\r\n",
    b"\n",
    b"\r",
    b"--",
    b"Content-Disposition: form-data; name=\"file\"; filename=\"x.jpg\"\r\n",
    b"Content-Disposition: form-data; name=\"label\"\r\n",
    b"content-disposition:form-data; name=a; filename=\"h\xc3\xa4t.jpg\" \r\n",
    b"Content-Disposition: form-data; filename*=UTF-8''h%C3%A4t.jpg; name=\"file\"\r\n",
    b"Content-Type: image/jpeg\r\n",
    b"Content-Length: 3\r\n",
    b"No colon\r\n",
    b"Bad name : x\r\n",
    b"Empty:\r\n",
    b": no name\r\n",
    b"Null: a\0b\r\n",
    b"Folded: a\r\n  b\r\n",
    b"X: " + b"a" * 1901 + b"\r\n",
    b"Y: " + b"a" * 5000 + b"\r\n",
    b"\xff\xd8\xff\xe0",
    b"some text",
    bytes(MAX_FIELD_BYTES),
]  # fmt: skip


def parse(body: bytes, *, shortcut: bool) -> tuple[str, Form | None]:
    """The form, or the kind of error."""
    try:
        parser = FormParser(BOUNDARY, MAX_BYTES, None)
        parser.feed_whole(bytearray(body)) if shortcut else parser.feed(body)
        return "form", parser.finish()
    except (AppError, FormParserError) as error:
        return type(error).__name__, None


def plausible(random_: random.Random) -> bytes:
    """A body of one part, from pieces that are mostly right."""
    headers = b"".join(random_.choices(PIECES[8:22], k=random_.randint(1, 12)))
    data = b"".join(random_.choices(PIECES, k=random_.randint(0, 3)))
    return (
        b"--edge\r\n" + headers + b"\r\n" + data + random_.choice([b"\r\n--edge--\r\n", b"\r\n--edge--", b"--edge--"])
    )


def shuffled(random_: random.Random) -> bytes:
    """Any pieces in any order."""
    return b"".join(random_.choices(PIECES, k=random_.randint(0, 9)))


@pytest.mark.parametrize("generate", [plausible, shuffled])
def test_the_shortcut_agrees_with_the_parser(generate: object) -> None:
    random_ = random.Random(1)  # the same bodies in every run
    kinds = set()
    for _ in range(5000):
        body = generate(random_)  # type: ignore[operator]
        expected = parse(body, shortcut=False)
        assert parse(body, shortcut=True) == expected, body
        kinds.add(expected[0])
    assert "InvalidRequest" in kinds
    assert generate is shuffled or kinds >= {"form", "TooLarge", "MultipartParseError"}


def test_the_shortcut_is_taken_for_what_clients_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FormParser, "feed", lambda *_: pytest.fail("the state machine was used"))
    header = b'Content-Disposition: form-data; name="file"; filename="x.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    kind, form = parse(b"--edge\r\n" + header + b"\xff\xd8\r\n--ed" + b"\r\n--edge--\r\n", shortcut=True)
    assert kind == "form" and form and form.file("file").data == b"\xff\xd8\r\n--ed"


@pytest.mark.parametrize("label", [b"", b"--edge\r\nContent-Disposition: form-data; name=label\r\n\r\nhat\r\n"])
def test_a_large_body_is_copied_little(label: bytes) -> None:
    """Once for a picture alone, which is what most clients send; twice by the state machine."""
    size = 8 << 20
    body = bytearray(label + part("file; filename=x", bytes(size)) + b"--edge--\r\n")
    tracemalloc.start()
    try:
        parser = FormParser(BOUNDARY, 2 * size, None)
        parser.feed_whole(body)
        assert parser.finish().file("file").size == size
        assert tracemalloc.get_traced_memory()[1] < (2.3 if label else 1.1) * size
    finally:
        tracemalloc.stop()


def part(name: str, data: bytes) -> bytes:
    return b"--edge\r\nContent-Disposition: form-data; name=" + name.encode() + b"\r\n\r\n" + data + b"\r\n"


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (part("label", bytes(MAX_FIELD_BYTES)), "form"),
        (part("label", bytes(MAX_FIELD_BYTES + 1)), "TooLarge"),
        (part("file; filename=x", bytes(MAX_BYTES)), "form"),
        (part("file; filename=x", bytes(MAX_BYTES + 1)), "TooLarge"),
        (part("file; filename=" + "x" * MAX_HEADER_BYTES, b""), "MultipartParseError"),
    ],
)
def test_limits(body: bytes, kind: str, shortcut: bool) -> None:
    assert parse(body + b"--edge--\r\n", shortcut=shortcut)[0] == kind


def test_a_body_without_its_end_is_refused() -> None:
    parser = FormParser(BOUNDARY, MAX_BYTES, None)
    parser.feed(part("label", b"hat"))
    with pytest.raises(InvalidRequest, match="cut short"):
        parser.finish()


def test_many_headers_in_one_part_are_too_large() -> None:
    headers = b"".join(b"X-%d: " % i + b"a" * 4000 + b"\r\n" for i in range(3))
    with pytest.raises(TooLarge, match="bytes of headers"):
        FormParser(BOUNDARY, MAX_BYTES, None).feed(b"--edge\r\n" + headers)
