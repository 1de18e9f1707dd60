"""The client against a server that answers as it is told."""

import pytest

from helpers.told_server import KEY, Answer, Server, opened
from shoe_classifier.errors import ConfigurationError, StoreRefused, StoreUnavailable
from shoe_classifier.storage.supabase.client import SupabaseClient


@pytest.mark.parametrize("url", ["no address", "abc.supabase.co", "ftp://abc.supabase.co"])
def test_an_address_that_cannot_be_one(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL"):
        SupabaseClient(url, KEY, 1)


@pytest.mark.parametrize("path", ["/rest/v1", "/rest/v1/", "/storage/v1", "/auth/v1"])
def test_the_address_of_an_api_is_not_that_of_the_project(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"such as 'https://abc\.supabase\.co'; received"):
        SupabaseClient(f"https://abc.supabase.co{path}", KEY, 1)


def test_a_project_below_a_path_is_one() -> None:
    with opened("https://example.org/supabase"):
        pass


def test_an_empty_key() -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_KEY"):
        SupabaseClient("https://abc.supabase.co", " ", 1)


def test_a_busy_project_is_called_again(server: Server, client: SupabaseClient) -> None:
    busy = (503, {"code": "PGRST000", "message": "no connection"})
    server.answers = [busy, busy, (200, 5)]
    assert client.rpc("f", x=1) == 5
    assert server.requests == ["/rest/v1/rpc/f"] * 3


def test_but_not_for_ever(server: Server, client: SupabaseClient) -> None:
    server.answers = [(503, {"code": "PGRST000", "message": "no connection"})]
    with pytest.raises(StoreUnavailable, match="PGRST000"):
        client.rpc("f")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, {"message": "Invalid API key"}), StoreUnavailable),
        ((400, {"code": "22P02", "message": "no number"}), StoreRefused),
    ],
)
def test_what_would_fail_again_is_called_once(
    server: Server, client: SupabaseClient, answer: Answer, kind: type[Exception]
) -> None:
    server.answers = [answer]
    with pytest.raises(kind):
        client.rpc("f")
    assert len(server.requests) == 1


def test_ping(server: Server, client: SupabaseClient) -> None:
    server.answers = [(200, [])]
    assert 0 < client.ping(2) < 2000
    server.answers = [(401, {"message": "Invalid API key"})]
    with pytest.raises(StoreUnavailable, match="401"):
        client.ping(2)
