"""A gateway that has buckets and no database behind it."""

from collections.abc import Iterator

import pytest

from helpers.supabase_stack import Gateway, free_port


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
