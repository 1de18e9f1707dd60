"""The clock of the machine is set by a day, forward and back, while the service runs."""

import random
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from faults.ledger import Ledger, first_state
from helpers.service import Process

CLOCK = Path(__file__).parent / "clock"


@pytest.mark.faults
def test_nothing_is_lost_and_retrains_end(
    start: Callable[..., Process], record_property: Callable[[str, object], None]
) -> None:
    process = start(PYTHONPATH=str(CLOCK))
    client = process.client
    ledger = Ledger(client, random.Random(1), [first_state(client)])
    for number, days in ((signal.SIGUSR1, 1), (signal.SIGUSR2, -1)):
        process.process.send_signal(number)
        for _ in range(10):
            ledger.act()
        ledger.check()
        expected = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
        assert expected in {row["created_at"][:10] for row in client.get("/predictions?limit=100").json()}
    record_property("Clock set by a day", f"forward and back, {ledger.acknowledged} calls acknowledged, none lost")
