from pathlib import Path

import httpx

from helpers.receiver import Receiver
from helpers.service import make_settings, running, wait_for


def test_a_test_is_sent_and_the_state_says_how_it_went(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.answers = [500]
    try:
        with running(make_settings(tmp_path, **receiver.settings)) as client:
            assert client.post("/webhooks/test").status_code == 202
            wait_for(lambda: client.get("/status").json()["webhooks"]["recent"])
            attempt = client.get("/status").json()["webhooks"]["recent"][0]
            assert (attempt["type"], "500" in attempt["error"]) == ("test", True)
    finally:
        receiver.close()


def test_without_a_receiver_there_is_nothing_to_test(client: httpx.Client) -> None:
    answer = client.post("/webhooks/test")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_offered")
