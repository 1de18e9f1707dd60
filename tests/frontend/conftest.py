"""The page in a real browser, against the real service. SCREENSHOTS=docs keeps screenshots for the documents."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from helpers.service import Process
from helpers.site import Site
from shoe_classifier.settings import Settings


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture
def site(start: Callable[..., Process], settings: Settings) -> Iterator[Site]:
    site = Site(settings.models_dir.parent, start(REVIEW_RANDOM_SHARE="1"))
    yield site
    site.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1250})
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    page.goto(site.url)
    expect(page.get_by_text("I know 3 labels")).to_be_visible()
    yield page
    page.close()
