"""Predict: one picture, many pictures, corrections by one click or key, on a phone too."""

import re
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from helpers.axe import violations
from helpers.pictures import draw, lesson_zip
from helpers.site import ROOT, Site, click, drop, files, go, key, main, part, press, say, shoot

pytestmark = pytest.mark.browser

ACCEPTED_AS_BOOT = re.compile(r"^check_circle.* Boot · \d+ %")


def test_one_key_corrects_an_answer_and_one_takes_it_back(page: Page, site: Site, tmp_path: Path) -> None:
    drop(page, files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 240)))))
    expect(page.get_by_role("heading", name=ACCEPTED_AS_BOOT)).to_be_visible()
    expect(page.get_by_label(re.compile(r"^confidence: Boot \d+ %"))).to_be_visible()  # the chart's text for listeners
    expect(main(page).get_by_text("100 %", exact=True).last).to_be_visible()  # on its axis, as in the sentences
    key(page, "2", main(page).get_by_text("Saved as Sandal. It counts from the next retrain."))
    assert [row["shoe_class"] for row in site.get("/training-data")] == ["Sandal"]
    key(page, "u", lambda: site.get("/training-data") == [])

    heat = page.get_by_role("img", name="boot.jpg, predicted as Boot, coloured where")
    click(page, page.get_by_text("Where it looked"), heat)
    shoot(page, "predict")

    # The answer outlasts a visit to another page, and any other label can be typed.
    go(page, "Versions")
    go(page, "Predict")
    expect(page.get_by_role("heading", name=ACCEPTED_AS_BOOT)).to_be_visible()
    say(page, "wellington")
    press(page, "Save label", main(page).get_by_text("Saved as wellington."))


def test_many_pictures_are_summed_up_and_filtered(page: Page, site: Site, tmp_path: Path) -> None:
    names = ["Boot"] * 20 + ["Shoe"] * 17 + ["hat"] * 2
    pictures = [(f"{name}{i}.jpg", draw(name, 100 + i)) for i, name in enumerate(names)]
    sent = [("files", picture) for picture in pictures]
    answers = site.service.client.post("/predict/batch", files=sent).json()["results"]
    sure = Counter(answer["predicted_class"] for answer in answers if answer["decision"] == "accepted")
    before = site.get("/status")["requests"]["count"]
    drop(page, files(tmp_path, *pictures, ("=1+broken.jpg", draw("Boot", 1)[:200])))
    summary = re.compile(f"^40 pictures: {sure['Boot']} Boot, {sure['Shoe']} Shoe, .*1 not readable")
    expect(page.get_by_role("heading", name=summary)).to_be_visible()
    assert site.get("/status")["requests"]["count"] - before < 12, "Expected one call for all."
    expect(page.get_by_text("Expected a complete JPEG picture")).to_be_visible()
    expect(page.locator("[class*=st-key-tiles]").get_by_role("img", name="predicted as")).to_have_count(39)
    shoot(page, "predict-many")
    assert main(page).evaluate("element => element.scrollHeight / element.clientHeight") <= 2
    answers = page.locator("[class*=st-key-tiles] li")
    assert max(answers.evaluate_all("items => items.map((item) => item.querySelectorAll('button').length)")) <= 3

    part(page, f"Shoe {sure['Shoe']}")
    expect(main(page).get_by_role("img", name="predicted as Shoe")).to_have_count(sure["Shoe"])

    # A sure answer can be corrected in its details.
    dialog = page.get_by_role("dialog")
    click(page, main(page).get_by_role("button", name=re.compile(r"Shoe · \d+ %")).first, dialog)
    sandal = dialog.get_by_role("button", name=re.compile("^Sandal"))
    click(page, sandal, dialog.get_by_text("Saved as Sandal. It counts from the next retrain."))
    key(page, "Escape", main(page).get_by_text("Saved as Sandal", exact=True))
    expect(dialog).to_have_count(0)

    with page.expect_download() as download:
        main(page).get_by_role("button", name="CSV", exact=True).click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == 41
    assert any(row.startswith("'=1+broken.jpg,") for row in rows)  # no spreadsheet computes it
    assert sum(",Shoe," in row for row in rows) >= sure["Shoe"]
    summed_up = page.get_by_text("40 pictures")
    press(page, "Clear", lambda: not summed_up.count())
    key(page, "u", summed_up)


def test_on_a_phone_answer_picture_and_correction_share_a_screen(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    drop(page, files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 400)))))
    expect(page.get_by_role("heading", name=ACCEPTED_AS_BOOT)).to_be_in_viewport()
    for item in (page.get_by_role("img", name="boot.jpg"), page.get_by_role("button", name=re.compile("^Shoe"))):
        expect(item.first).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(page, "phone")
    navigation = page.locator(".st-key-phone-navigation")
    assert navigation.evaluate("element => element.scrollWidth <= element.clientWidth"), "Expected all pages in sight."
    retrain = navigation.get_by_role("link", name="Retrain")
    click(page, retrain, page.get_by_role("heading", name="Retrain", level=1))


def test_training_pictures_are_close_together_on_a_phone(page: Page, site: Site) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 24)})
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site.url}/data?part=Pictures")
    expect(page.get_by_role("img", name="training picture of hat")).to_have_count(24)
    assert main(page).evaluate("element => element.scrollHeight / element.clientHeight") <= 4


def test_a_picture_that_the_page_cannot_decode_is_shown_by_the_service(page: Page, tmp_path: Path) -> None:
    heic = (ROOT / "tests" / "fixtures" / "two_colours.heic").read_bytes()
    drop(page, files(tmp_path, ("phone.heic", heic)))
    expect(page.get_by_role("img", name="phone.heic, predicted as")).to_be_visible()


def test_the_services_message_is_shown(page: Page, tmp_path: Path) -> None:
    drop(page, files(tmp_path, ("broken.jpg", draw("Boot", 1)[:200])))
    expect(page.get_by_text("Expected a complete JPEG picture")).to_be_visible()
    expect(page.get_by_text("None", exact=True)).to_have_count(0)
    assert not violations(page)
