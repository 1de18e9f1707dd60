import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.receiver import Receiver
from helpers.service import make_settings
from shoe_classifier.services.webhook_endpoint import WebhookEndpoint, is_public
from shoe_classifier.services.webhooks import DeliveryFailed


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def send(tmp_path: Path, receiver: Receiver) -> Callable[..., None]:
    def send(seconds: float = 5, **changes: Any) -> None:
        settings = make_settings(tmp_path, **{**receiver.settings, **changes})
        asyncio.run(WebhookEndpoint(settings, seconds).send("msg_1", '{"type": "upload.accepted"}'))

    return send


def test_a_request_is_signed_as_the_library_verifies(send: Callable[..., None], receiver: Receiver) -> None:
    send()
    [(headers, content)] = receiver.received
    assert content == {"type": "upload.accepted"}
    assert headers["webhook-id"] == "msg_1"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", [302, 400, 500])
def test_an_answer_other_than_2xx_is_a_failure(send: Callable[..., None], receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(DeliveryFailed, match=f"Expected a status of 2xx; received {status}") as error:
        send()
    assert not error.value.gone
    assert len(receiver.received) == 1  # a redirect is not followed


def test_a_receiver_may_be_gone(send: Callable[..., None], receiver: Receiver) -> None:
    receiver.answers = [410]
    with pytest.raises(DeliveryFailed) as error:
        send()
    assert error.value.gone


def test_a_receiver_that_hangs(send: Callable[..., None], receiver: Receiver) -> None:
    receiver.release.clear()
    with pytest.raises(DeliveryFailed, match=r"within 0\.2 s"):
        send(0.2)


def test_a_receiver_whose_answer_never_ends(send: Callable[..., None]) -> None:
    """Each byte comes in time; the whole answer does not."""

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"H")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = threading.Thread(target=drip, args=[server])
        dripping.start()
        with pytest.raises(DeliveryFailed, match=r"within 0\.4 s"):
            send(0.4, webhook_url=f"http://127.0.0.1:{server.getsockname()[1]}/")
        dripping.join()


def test_nobody_listens(send: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="ConnectError"):
        send(webhook_url=f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused(send: Callable[..., None], receiver: Receiver, host: str) -> None:
    with pytest.raises(DeliveryFailed, match="Expected WEBHOOK_URL to lead to a public address"):
        send(webhook_url=f"http://{host}:{receiver.port}/", webhook_allow_private=False)
    assert receiver.received == []


def test_a_name_that_does_not_exist(send: Callable[..., None]) -> None:
    with pytest.raises(DeliveryFailed, match="gaierror"):
        send(webhook_url="http://no-such-host.invalid/")


def test_the_connection_goes_to_the_address_that_was_checked(
    send: Callable[..., None], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DNS whose second answer leads elsewhere is not asked a second time."""
    answers = ["127.0.0.1", "127.0.0.2"]

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        address = answers.pop(0) if host == "receiver.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    send(webhook_url=f"http://receiver.example:{receiver.port}/hook")
    assert receiver.received[0][0]["host"] == f"receiver.example:{receiver.port}"
    assert answers == ["127.0.0.2"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_what_counts_as_public(address: str, public: bool) -> None:
    assert is_public(address) == public


def test_the_log_names_neither_address_nor_secret(
    send: Callable[..., None], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    send(webhook_url=f"{receiver.url}?token=hidden")
    assert "hidden" not in caplog.text
