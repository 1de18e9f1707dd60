import threading

import pytest

from helpers.service import wait_for
from shoe_classifier.errors import TooLarge
from shoe_classifier.ml.decoding_limits import DecodingLimits


def test_pictures_wait_in_the_order_they_came() -> None:
    limits, order = DecodingLimits(10, 1), []

    def decode(count: int) -> None:
        with limits.hold(count, "a picture"):
            order.append(count)

    with limits.hold(6, "a picture"):
        threads = []
        for count in (8, 2):  # the second would fit, but must not overtake
            threads.append(threading.Thread(target=decode, args=(count,)))
            threads[-1].start()
            wait_for(lambda: len(limits._waiting) == len(threads))
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == [8, 2]


def test_a_picture_beyond_the_limit_is_refused() -> None:
    with (
        pytest.raises(TooLarge, match="received a picture, which takes 11"),
        DecodingLimits(10, 1).hold(11, "a picture"),
    ):
        pytest.fail("it was let in")
