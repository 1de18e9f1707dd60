"""What stands for a project: a gateway with buckets and no database, or a server that answers as it is told."""

import threading
from collections.abc import Iterator

import pytest

from helpers.supabase_stack import Gateway, free_port
from helpers.told_server import Server, opened
from shoe_classifier.storage.supabase import client as client_module
from shoe_classifier.storage.supabase.client import SupabaseClient


@pytest.fixture(scope="module")
def running_gateway() -> Iterator[Gateway]:
    gateway = Gateway(free_port())
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(running_gateway: Gateway) -> Gateway:
    running_gateway.reset()
    return running_gateway


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SupabaseClient]:
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: None)
    with opened(server.url) as client:
        yield client
