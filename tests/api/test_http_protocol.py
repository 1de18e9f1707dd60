"""Connections of slow and broken clients, over raw sockets."""

import contextlib
import select
import socket
import time
from collections.abc import Callable

import httpx
import pytest

from helpers.service import Process, wait_for
from shoe_classifier.api.http_protocol import _SPARE

WHOLE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def service(start: Callable[..., Process]) -> Process:
    return start(SILENCE_SECONDS="1", MAX_CONNECTIONS="10")


def connect(service: Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def read_to_the_end(line: socket.socket) -> bytes:
    received = b""
    while chunk := line.recv(65536):
        received += chunk
    return received


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"POST /predict HTTP/1.1\r\nHost: x\r\n", WHOLE + b"GET /"])
def test_unfinished_headers_end_the_connection(service: Process, sent: bytes) -> None:
    with connect(service) as line:
        line.sendall(sent)
        answers = read_to_the_end(line)
    assert answers.count(b'{"status":"alive"}') == sent.count(WHOLE)


def test_headers_that_trickle_get_no_more_time(service: Process) -> None:
    with connect(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(100):  # a byte every tenth of a second, which is never silent
                line.sendall(b"a")
                time.sleep(0.1)


def refusals(service: Process, reason: str) -> int:
    lines = service.client.get("/metrics").text.splitlines()
    line = next((line for line in lines if line.startswith(f'shoe_refusals_total{{reason="{reason}"}}')), "x 0")
    return int(float(line.split()[-1]))


def test_endless_headers_are_refused(service: Process) -> None:
    with connect(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nX: " + b"a" * 1_000_000)
        answer = read_to_the_end(line)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b'"code":"bad_request"}')
    assert refusals(service, "headers") == 1


FORM = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
ENDLESS = FORM + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"


@pytest.mark.parametrize("head", [FORM + b"Content-Length: 20000000\r\n\r\n", ENDLESS])
def test_who_sends_all_before_reading_gets_the_refusal(start: Callable[..., Process], head: bytes) -> None:
    with connect(start(MAX_IMAGE_BYTES="1000000")) as line:
        line.sendall(head)
        for _ in range(200):  # 13 MB, of which the first is refused
            line.sendall(CHUNK)
        answer = read_to_the_end(line)
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.endswith(b'"code":"too_large"}')


def test_who_sends_without_end_after_a_refusal_is_cut_off(start: Callable[..., Process]) -> None:
    sent = 0
    with connect(start(MAX_IMAGE_BYTES="1000000")) as line:
        line.sendall(ENDLESS)
        with pytest.raises(OSError):
            while sent < 100 << 20:
                line.sendall(CHUNK)
                sent += len(CHUNK)


def test_who_goes_on_slowly_after_a_refusal_is_cut_off(start: Callable[..., Process]) -> None:
    with connect(start(MAX_IMAGE_BYTES="1000000")) as line:
        line.sendall(FORM + b"Content-Length: 20000000\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(200):
                line.sendall(b"a")
                time.sleep(0.1)


def test_a_client_that_waits_for_leave_to_send_gets_it(service: Process) -> None:
    with connect(service) as line:
        line.sendall(FORM + b"Expect: 100-continue\r\nContent-Length: 6\r\n\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 100")
        line.sendall(b"--b--\r")
        assert line.recv(65536).startswith(b"HTTP/1.1 4")


def test_a_connection_lasts_over_many_requests(service: Process) -> None:
    with connect(service) as line:
        for _ in range(5):
            line.sendall(WHOLE)
            answer = b""
            while not answer.endswith(b'{"status":"alive"}'):
                answer += line.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.4)


def test_trailers_count_as_headers(service: Process) -> None:
    sent = 0
    with connect(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises(OSError):
            while sent < 50 << 20:
                line.sendall(b"A: b\r\n" * 1000)
                sent += 6000
    assert refusals(service, "headers") == 1


def test_a_body_that_nobody_reads_does_not_keep_the_connection(service: Process) -> None:
    with connect(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(100):
                line.sendall(b"a")
                time.sleep(0.1)


def test_answers_that_nobody_reads_end_the_connection(service: Process) -> None:
    document = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", service.port))
        line.sendall(document * 300)
        wait_for(lambda: refusals(service, "unread_answer") == 1, 20)


def test_above_the_limit_of_connections_only_the_state_is_answered(service: Process) -> None:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(service)) for _ in range(12)]
        for line, path, status in [(lines[-1], b"predict", b"503"), (lines[-2], b"health", b"200")]:
            line.sendall(b"POST /predict" if path == b"predict" else b"GET /health")
            line.sendall(b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert line.recv(65536).startswith(b"HTTP/1.1 " + status)
    assert refusals(service, "connections") == 1


def test_a_crowd_above_the_limit_is_refused_in_bulk(service: Process) -> None:
    picture = FORM + b"Content-Length: 50000\r\n\r\n" + bytes(50_000)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(service))
        wait_for(lambda: refused(service, picture))
        answers = [read_to_the_end(stack.enter_context(send(service, picture))) for _ in range(300)]
        assert {answer[:12] for answer in answers} == {b"HTTP/1.1 503"}
        assert {answer.endswith(b'"code":"overloaded"}') for answer in answers} == {True}
        for path in ("health", "ready", "metrics"):
            assert httpx.get(f"{service.client.base_url}/{path}", trust_env=False).status_code == 200


def send(service: Process, request: bytes) -> socket.socket:
    line = connect(service)
    line.sendall(request)
    return line


def refused(service: Process, request: bytes) -> bool:
    with send(service, request) as line:
        return read_to_the_end(line).startswith(b"HTTP/1.1 503")


def test_the_oldest_spare_connection_makes_room(start: Callable[..., Process]) -> None:
    service = start(SILENCE_SECONDS="600", MAX_CONNECTIONS="10")
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(service)) for _ in range(_SPARE + 9)]
        assert not any(map(ended, lines))

        def one_more_ends_the_oldest() -> bool:
            lines.append(stack.enter_context(connect(service)))
            return any(map(ended, lines[9:12]))  # one of the ten may be that of the test's own client

        wait_for(one_more_ends_the_oldest)
        lines[0].sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_to_the_end(lines[0]).startswith(b"HTTP/1.1 200")


def ended(line: socket.socket) -> bool:
    """Whether a connection on which nothing was asked has anything to read, such as its end."""
    return bool(select.select([line], [], [], 0)[0])
