"""Health and Retrain: what happens by itself, and who is told."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from helpers.axe import violations
from helpers.pictures import lesson_zip
from helpers.receiver import Receiver
from helpers.site import Site, go, press

pytestmark = pytest.mark.browser


@pytest.fixture
def receiver(page: Page, site: Site) -> Iterator[Receiver]:
    """One to which the service sends, until the test is over."""
    receiver = Receiver()
    told = {name.upper(): str(value) for name, value in receiver.settings.items()}
    site.restart(AUTO_RETRAIN="new_pictures:50", **told)
    yield receiver
    site.restart()
    receiver.close()


def test_what_happens_by_itself_and_who_is_told(page: Page, site: Site, receiver: Receiver) -> None:
    go(page, "Retrain")
    next_one = re.compile(r"The next one starts after 50 more pictures(, not before .+)?\.$")
    expect(page.get_by_text(next_one)).to_be_visible()
    assert not violations(page)
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 8)})
    go(page, "Health")
    press(page, "Send a test", lambda: "test" in receiver.types)
    expect(page.get_by_text("2 delivered since the start, 0 waiting.")).to_be_visible()
    assert not violations(page)
