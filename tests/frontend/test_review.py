"""Review: one key a prediction, or a page of them at once."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from helpers.axe import violations
from helpers.pictures import draw
from helpers.service import wait_for
from helpers.site import Site, drop, files, go, key, part, press, shoot

pytestmark = pytest.mark.browser


def gap(left: Locator, right: Locator) -> float:
    """The pixels between two parts of the page."""
    one, other = left.bounding_box(), right.bounding_box()
    assert one and other
    return other["x"] - one["x"] - one["width"]


def predict(client: httpx.Client, count: int) -> None:
    names = ("Boot", "Sandal", "Shoe", "hat")
    pictures = [(f"{i}.jpg", draw(names[i % 4], 300 + i, (300, 240))) for i in range(count)]
    assert client.post("/predict/batch", files=[("files", picture) for picture in pictures]).status_code == 200


def test_keys_answer_the_queue_and_a_page_is_confirmed_at_once(page: Page, site: Site) -> None:
    go(page, "Review")
    expect(page.get_by_text("Nothing to review.")).to_be_visible()
    assert not violations(page)
    predict(site.service.client, 24)
    go(page, "Predict")
    go(page, "Review")
    expect(page.get_by_role("radio", name="All 24")).to_be_visible()
    shown = page.locator("[class*=st-key-asked] img")
    wait_for(lambda: gap(shown, page.get_by_role("button", name=re.compile("^Boot"))) < 40)
    shoot(page, "review")

    def waiting() -> int:
        return sum(site.get("/review")["counts"].values())

    seen = waiting()
    for name in ("1", "Enter", "n", "s"):
        key(page, name, lambda: waiting() < seen)  # noqa: B023 - called in this round
        seen = waiting()
        expect(page.get_by_role("radio", name=f"All {seen}")).to_be_visible()
    key(page, "u", lambda: waiting() > seen)
    asked = shown.get_attribute("src")
    key(page, "s", lambda: shown.get_attribute("src") != asked)
    key(page, "u", lambda: shown.get_attribute("src") == asked)  # the same picture is asked about again

    part(page, "As a grid")
    press(page, re.compile("^Confirm "), lambda: waiting() < seen)
    taught = site.get("/training-data")
    assert {row["source"] for row in taught} == {"review"}


def test_what_was_skipped_can_still_be_corrected(page: Page, tmp_path: Path) -> None:
    drop(page, files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 240)))))
    expect(page.get_by_text("Not right? Correct it")).to_be_visible()
    go(page, "Review")
    key(page, "s", page.get_by_text("Nothing to review."))
    go(page, "Predict")
    expect(page.get_by_text("Not right? Correct it")).to_be_visible()
    expect(page.get_by_text("Saved as")).to_have_count(0)
