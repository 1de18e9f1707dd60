"""The page in a real browser, against the real service. SCREENSHOTS=docs keeps screenshots for the documents."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from helpers.site import TIMEZONE, Site, serve


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # which the browser draws itself
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", *camera])
    expect.set_options(timeout=60_000)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[Site]:
    """A service and its page for all tests; starting them takes longer than most tests."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "models").mkdir()
    shutil.copy(model_file, folder / "models" / "shoe_classifier.h5")
    site = Site(folder, serve(folder))
    yield site
    site.close()
    site.service.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all tests, so that what each page loads is in the browser's cache; nothing comes from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 1250}, timezone_id=TIMEZONE)
    context.set_default_timeout(60_000)
    asked: set[str | None] = set()
    context.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
    yield context
    context.close()
    assert asked <= {"127.0.0.1", None}  # None for what a page made itself


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Iterator[Page]:
    """A new visitor, whom no earlier test has taught anything."""
    site.clean()
    page = context.new_page()
    page.goto(site.url)
    expect(page.get_by_text("I know 3 labels")).to_be_visible()
    yield page
    page.close()
