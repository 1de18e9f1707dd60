"""The samples that the page offers to somebody who has nothing at hand."""

import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from helpers.site import Site, click, go, press

SAMPLES = Path(__file__).parents[2] / "samples"


def test_the_samples_are_few_small_and_each_named_with_its_source() -> None:
    sources = (SAMPLES / "SOURCES.md").read_text()
    lesson = zipfile.ZipFile(SAMPLES / "lesson.zip")
    pictures = {path.name: path.read_bytes() for path in SAMPLES.glob("*.jpg")}
    pictures |= {f"lesson.zip: {name}": lesson.read(name) for name in lesson.namelist()}
    assert len(pictures) <= 20
    for name, data in pictures.items():
        assert f"| `{name}` | `images/" in sources
        with Image.open(io.BytesIO(data)) as picture:
            assert not picture.getexif(), "Expected nothing in it about who took it, and where."
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 2 << 20


@pytest.mark.browser
def test_one_click_predicts_and_one_click_teaches(page: Page, site: Site) -> None:
    offer = page.get_by_text("No picture at hand?")
    expect(offer).to_be_visible()
    press(page, "boots", page.get_by_role("img", name=re.compile("^boots.jpg, predicted as")))
    expect(offer).to_have_count(0)
    go(page, "Data")
    uploaded = page.get_by_role("heading", name="Upload result: 12 added, 0 skipped")
    click(page, page.get_by_role("button", name="Upload the sample lesson"), uploaded)
    assert site.labels() == {"hat": 6, "skirt": 6}
