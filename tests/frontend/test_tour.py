"""The two minutes of docs/two-minutes.md, with the shipped model and real photos; `make tour` films them."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from helpers.site import ROOT, SHOTS, Site, click, go, main, part, press, serve, settle, shoot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not SHOTS, reason="test_samples clicks through the same; this one is for its pictures"),
]


class Film:
    """Screenshots, as an animated WebP."""

    def __init__(self, page: Page):
        self._page = page
        self._frames: list[Image.Image] = []
        self._milliseconds: list[int] = []

    def show(self, seconds: float) -> None:
        """Add what the page shows, once it has come to rest."""
        settle(self._page)
        self._page.wait_for_timeout(1500)  # for charts and pictures, which come after the text
        self.shoot(seconds)

    def shoot(self, seconds: float) -> None:
        """Add what the page shows now."""
        frame = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
        self._frames.append(frame.resize((frame.width * 3 // 4, frame.height * 3 // 4), Image.Resampling.LANCZOS))
        self._milliseconds.append(round(seconds * 1000))

    def save(self, path: Path) -> None:
        first, *others = self._frames
        first.save(path, save_all=True, append_images=others, duration=self._milliseconds, loop=0, quality=72, method=6)


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Site]:
    """A new service with the shipped model, and its page."""
    (tmp_path / "models" / "shipped").mkdir(parents=True)
    shutil.copy(ROOT / "models" / "shipped" / "shoe_classifier.h5", tmp_path / "models" / "shipped")
    site = Site(tmp_path, serve(tmp_path))
    yield site
    site.close()
    site.service.close()


def picture_of(page: Page, name: str, answer: str) -> object:
    return main(page).get_by_role("img", name=re.compile(f"^{name}.jpg, predicted as {answer}")).first


def test_the_tour(browser: Browser, shipped: Site) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(shipped.url)
    film, clear = Film(page), re.compile("Clear$")
    expect(page.get_by_text("I know 3 labels")).to_be_visible()
    film.show(2)
    press(page, "boots", picture_of(page, "boots", "Boot"))
    film.show(2)
    press(page, clear, page.get_by_text("No picture at hand?"))
    press(page, "hat", page.get_by_role("heading", name=re.compile("I don't recognise this")))
    film.show(2.5)

    go(page, "Data")
    film.show(1.5)
    lesson = page.get_by_role("button", name="Upload the sample lesson")
    click(page, lesson, page.get_by_role("heading", name="Upload result: 12 added, 0 skipped"))
    film.show(2)
    click(page, page.get_by_role("button", name="Retrain now"), page.get_by_role("progressbar"))
    film.shoot(1.5)
    expect(page.get_by_text("Published. The next answer comes").first).to_be_visible(timeout=120_000)
    expect(page.get_by_text("New: hat (too few pictures to test it)")).to_be_visible()
    film.show(3)

    go(page, "Predict")
    expect(page.get_by_role("heading", name=re.compile("hat · "))).to_be_visible()
    film.show(3)
    press(page, clear, page.get_by_text("No picture at hand?"))
    press(page, "Try all", page.get_by_role("heading", name=re.compile("^8 pictures: ")))
    film.show(3)
    shoot(page, "tour-answers")
    go(page, "Data")
    part(page, "Pictures")
    film.show(2)
    shoot(page, "tour-data")
    go(page, "Versions")
    film.show(2.5)
    film.save(ROOT / str(SHOTS) / "tour.webp")
    page.close()
