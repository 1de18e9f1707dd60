"""Versions: what another one has not learned, and a trial that nobody sees."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from helpers.axe import violations
from helpers.pictures import draw, mixed_up_lesson, zip_of
from helpers.service import wait_for
from helpers.site import Site, choose, go, main, press

pytestmark = pytest.mark.browser


def test_a_rejected_version_is_tried_silently_and_published(page: Page, site: Site) -> None:
    client = site.service.client
    client.post("/upload", files={"file": zip_of(mixed_up_lesson())})
    first = site.get("/status")["model"]["version"]
    candidate = client.post("/retrain", params={"wait": "true", "mode": "quick"}).json()["model_version"]
    go(page, "Versions")
    choose(page, "Version", f"{candidate} (rejected)")
    page.get_by_label("Pictures", exact=True).fill("500")
    press(page, "Start", lambda: site.get("/status")["shadow"])

    def two_seen() -> bool:  # of more, as it leaves out those that come while it is busy
        client.post("/predict", files={"file": draw("hat", 1)})
        return bool(site.get("/status")["shadow"]["seen"] >= 2)

    wait_for(two_seen)
    expect(page.get_by_text(re.compile(r"^\d+ of 500 answered, \d+ of them differently"))).to_be_visible()
    expect(page.get_by_text("Nobody has reviewed a difference yet.")).to_be_visible()
    assert not violations(page)
    press(page, "Stop", lambda: site.get("/status")["shadow"] is None)
    press(page, "Start", lambda: site.get("/status")["shadow"])
    press(page, "Publish it", main(page).get_by_text(f"Version {candidate} is live."))
    assert site.get("/status")["model"]["version"] == candidate

    choose(page, "Version", f"{first} (archived)")
    expect(page.get_by_text("120 pictures are not in this version.")).to_be_visible()


def test_a_version_is_taken_along_with_its_parity_report(page: Page, site: Site) -> None:
    go(page, "Versions")
    choose(page, "Format", "A page that classifies offline, in a browser")
    press(page, "Export", main(page).get_by_text("the same label for all"))
    with page.expect_download() as download:
        main(page).get_by_role("button", name="Download the .html").click()
    assert download.value.suggested_filename == f"shoe_classifier-{site.get('/models')[0]['version']}.html"
    assert b"<html" in Path(download.value.path()).read_bytes()[:300]
