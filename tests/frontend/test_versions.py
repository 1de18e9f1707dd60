"""Versions: what another one has not learned, and a trial that nobody sees."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from helpers.axe import violations
from helpers.pictures import draw, lesson_zip
from helpers.service import wait_for
from helpers.site import Site, choose, go, main, press

pytestmark = pytest.mark.browser


def test_a_version_says_what_it_lacks_and_is_tried_silently(page: Page, site: Site) -> None:
    client = site.service.client
    client.post("/upload", files={"file": lesson_zip("hat", 40)})
    first = client.get("/status").json()["model"]["version"]
    client.post("/retrain", params={"wait": "true", "mode": "quick", "force": "true"})
    go(page, "Versions")
    choose(page, "Version", f"{first} (archived)")
    expect(page.get_by_text("40 pictures are not in this version.")).to_be_visible()
    page.get_by_label("Pictures", exact=True).fill("500")
    press(page, "Start", lambda: client.get("/status").json()["shadow"])

    def two_seen() -> bool:  # of more, as it leaves out those that come while it is busy
        client.post("/predict", files={"file": draw("hat", 1)})
        return bool(client.get("/status").json()["shadow"]["seen"] >= 2)

    wait_for(two_seen)
    expect(page.get_by_text(re.compile(r"^\d+ of 500 answered, \d+ of them differently"))).to_be_visible()
    expect(page.get_by_text("Nobody has reviewed a difference yet.")).to_be_visible()
    assert not violations(page)
    press(page, "Stop", lambda: client.get("/status").json()["shadow"] is None)
    press(page, "Start", lambda: client.get("/status").json()["shadow"])
    press(page, "Publish it", main(page).get_by_text(f"Version {first} is live."))
    assert client.get("/status").json()["model"]["version"] == first


def test_a_version_is_taken_along_with_its_parity_report(page: Page, site: Site) -> None:
    go(page, "Versions")
    choose(page, "Format", "A page that classifies offline, in a browser")
    press(page, "Export", main(page).get_by_text("the same label for all"))
    with page.expect_download() as download:
        main(page).get_by_role("button", name="Download the .html").click()
    assert download.value.suggested_filename == f"shoe_classifier-{site.get('/models')[0]['version']}.html"
    assert b"<html" in Path(download.value.path()).read_bytes()[:300]
