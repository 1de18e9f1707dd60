"""The service's own pages in a real browser, with the browser's own drawn camera."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, Playwright, expect

from helpers.axe import violations
from helpers.pictures import draw


@pytest.mark.parametrize("path", ["/", "/camera"])
def test_pages_run_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    page = client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("https:// addresses", "")


def test_the_start_page_leads_on(client: httpx.Client) -> None:
    links = re.findall('href="(/[^"]*)"', client.get("/").text)
    assert links == ["/camera", "/docs", "/status"]
    assert all(client.get(link).status_code == 200 for link in links)


@pytest.fixture
def page(client: httpx.Client, playwright: Playwright) -> Iterator[Page]:
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{client.base_url}/camera")
    yield page
    browser.close()


@pytest.mark.browser
def test_a_picture_is_classified_on_the_start_page(page: Page, client: httpx.Client) -> None:
    page.goto(f"{client.base_url}/")
    page.get_by_label("What is in this picture?").set_input_files(
        {"name": "boot.png", "mimeType": "image/png", "buffer": draw("Boot", 1)}
    )
    expect(page.get_by_role("status")).to_contain_text("Boot")
    page.get_by_label("What is in this picture?").set_input_files(
        {"name": "text.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(page.get_by_role("status")).to_contain_text("Expected")
    assert not violations(page)


@pytest.mark.browser
def test_frames_are_classified_and_not_kept(page: Page, client: httpx.Client) -> None:
    expect(page.locator("#answer")).not_to_be_empty()
    expect(page.locator("#bars li")).to_have_count(3)
    page.wait_for_function(
        "[...document.querySelectorAll('#bars li')].some(row => parseFloat(row.children[1].style.width) > 0)"
    )
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    assert not violations(page)
    assert client.get("/predictions").json() == []


@pytest.mark.browser
def test_held_button_records_what_is_then_taught(page: Page, client: httpx.Client) -> None:
    expect(page.locator("#answer")).not_to_be_empty()
    page.get_by_label("Label", exact=True).fill("test card")
    page.get_by_role("button", name="Hold to record").hover()
    page.mouse.down()
    expect(page.locator("#samples img").nth(2)).to_be_visible()
    page.mouse.up()
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#report")).to_contain_text("added as test card")
    rows = client.get("/training-data").json()
    assert len(rows) >= 3
    assert {row["shoe_class"] for row in rows} == {"test card"}


@pytest.mark.browser
def test_service_that_goes_away_is_said(page: Page) -> None:
    expect(page.locator("#answer")).not_to_be_empty()
    page.route("**/predict*", lambda route: route.abort())
    expect(page.locator("#state")).to_have_text("The service does not answer. Trying again.")
    page.unroute("**/predict*")
    expect(page.locator("#state")).to_have_text("Live.")
