"""What all pages share, and the way from a lesson to a verdict and back."""

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Locator, Page, expect

from helpers.axe import violations
from helpers.pictures import draw, lesson_zip, mixed_up_lesson, zip_of
from helpers.site import TIMEZONE, Site, choose, click, drop, files, go, key, main, part, press, shoot, until

pytestmark = pytest.mark.browser

PAGES = ("Predict", "Review", "Data", "Labels", "Retrain", "Versions", "Health")
PUBLISHED = "Published. The next answer comes from the new model."


def test_retrain_to_the_verdict_and_roll_back(page: Page, site: Site, tmp_path: Path) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 60)})
    go(page, "Retrain")
    expect(main(page).get_by_text("60 new pictures, not learned yet")).to_be_visible()
    press(page, "Retrain", lambda: site.get("/retrain"))
    expect(page.get_by_text(PUBLISHED).first).to_be_visible(timeout=60_000)
    started = datetime.fromisoformat(site.get("/retrain")[0]["created_at"]).astimezone(ZoneInfo(TIMEZONE))
    expect(page.get_by_label("Verdict of")).to_have_value(re.compile(f"^{started:%Y-%m-%d %H:%M:%S}"))
    expect(page.get_by_text(re.compile(r"^New: hat \d+ of \d+\."))).to_be_visible()
    expect(page.get_by_text(re.compile(r"^Old labels: \d+\.\d %, was \d+\.\d %\."))).to_be_visible()
    expect(page.get_by_text("new pictures get a different answer")).to_be_visible()
    shoot(page, "verdict")
    click(page, page.get_by_text("Figures"), page.get_by_role("table", name="after"))
    go(page, "Predict")
    drop(page, files(tmp_path, ("new.jpg", draw("hat", 77))))
    expect(page.get_by_role("img", name="new.jpg, predicted as hat")).to_be_visible()

    go(page, "Versions")
    first = site.get("/models")[-1]["version"]
    choose(page, "Version", f"{first} (archived)")
    shoot(page, "versions")
    press(page, "Use this version", main(page).get_by_text(f"Version {first} is live."))
    assert site.get("/status")["model"]["version"] == first
    go(page, "Predict")  # where the picture is answered again
    expect(page.get_by_role("img", name="new.jpg")).to_be_visible()
    expect(page.get_by_role("img", name="predicted as hat")).to_have_count(0)

    go(page, "Health")
    expect(page.get_by_text(re.compile(r"^(\d+) of \1$"))).to_be_visible()
    shoot(page, "health")


def test_a_rejected_lesson_leads_on(page: Page, site: Site) -> None:
    lesson = mixed_up_lesson() | {f"beret/{i}.jpg": draw("beret", 8000 + i) for i in range(3)}
    client = site.service.client
    client.post("/upload", files={"file": zip_of(lesson)})
    job = client.post("/retrain", params={"wait": "true", "mode": "quick"}).json()
    assert job["state"] == "rejected"
    go(page, "Retrain")
    expect(page.get_by_text("A full retrain of so many pictures takes some minutes.")).to_be_visible()
    expect(page.get_by_test_id("stSidebar").get_by_text(re.compile(r"Model of \d+ \w+, 3 labels"))).to_be_visible()
    expect(page.get_by_text("Not published: it would be worse.")).to_be_visible()
    expect(page.get_by_label("Leave out labels")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^Bring more pictures: .*17 of beret"))).to_be_visible()
    shoot(page, "rejected")
    after = page.get_by_role("table", name="after")
    wrong = after.get_by_role("button", name=re.compile("^\\d+ of cap called hat"))
    click(page, page.get_by_text("Figures"), wrong)
    assert not violations(page)
    click(page, wrong, main(page).get_by_role("img", name="cap, called hat").first)
    wrong.press("ArrowUp")
    key(page, "Enter", main(page).get_by_role("img", name="hat, called hat").first)
    fresh = page.get_by_role("switch", name="Only pictures that are not learned yet")
    click(page, page.get_by_role("link", name="Look at suspect pictures"), fresh)
    expect(fresh).to_be_checked()
    go(page, "Retrain")
    press(page, "Publish anyway", lambda: site.get("/status")["model"]["version"] == job["model_version"])
    expect(page.get_by_text(PUBLISHED).first).to_be_visible()


def test_a_full_retrain_is_watched_and_cancelled(page: Page, site: Site) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 40)})
    go(page, "Retrain")
    choose(page, "Method", "Full: minutes, tunes the network as well")
    press(page, "Retrain", page.get_by_role("progressbar"))
    expect(page.get_by_role("button", name="Retrain", exact=True)).not_to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled. The pictures stay for the next retrain.").first).to_be_visible(timeout=60_000)


def test_the_page_waits_for_a_service_that_restarts(page: Page, site: Site, tmp_path: Path) -> None:
    site.service.close()
    drop(page, files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 240)))))
    expect(page.get_by_text("this page reconnects").first).to_be_visible()
    expect(page.get_by_text("1 picture, kept until the service answers.")).to_be_visible()
    shoot(page, "away")
    assert not violations(page)
    site.restart()  # the picture that was dropped meanwhile is answered
    expect(page.get_by_role("heading", name=re.compile("^check_circle.* Boot"))).to_be_visible()
    expect(page.get_by_text("this page reconnects")).to_have_count(0)


def test_a_key_is_asked_for_when_one_is_needed(page: Page, site: Site, tmp_path: Path) -> None:
    site.restart(API_KEY="secret")
    drop(page, files(tmp_path, ("boot.jpg", draw("Boot", 1))))
    expect(page.get_by_role("heading", name=re.compile("^check_circle.* Boot"))).to_be_visible()
    field = page.get_by_label("API key", exact=True)
    expect(field).to_have_count(0)
    key(page, "1", field)
    assert not violations(page)
    field.fill("another")
    field.press("Enter")
    expect(field).to_have_count(0)
    for name in ("Labels", "Review"):  # which read with it
        go(page, name)
        expect(page.get_by_text("This needs another key than the one that was entered.")).to_have_count(1)
        expect(page.get_by_text("encountered an error")).to_have_count(0)
    field.fill("secret")
    field.press("Enter")
    expect(page.get_by_role("heading", name=re.compile("^Boot"))).to_be_visible()
    go(page, "Predict")
    key(page, "1", main(page).get_by_text("Saved as Boot."))
    site.restart()


def test_no_page_has_an_accessibility_violation(page: Page, site: Site, tmp_path: Path) -> None:
    client = site.service.client
    client.post("/upload", files={"file": lesson_zip("hat", 30)})
    pictures = [("files", (f"{i}.jpg", draw(name, i))) for i, name in enumerate(("Boot", "hat", "hat", "Shoe"))]
    client.post("/predict/batch", files=pictures)
    drop(page, files(tmp_path, *(file for _, file in pictures)))
    expect(page.get_by_role("heading", name="4 pictures")).to_be_visible()
    problems = {"Predict": violations(page)}
    for name in PAGES[1:]:
        go(page, name)
        problems[name] = violations(page)
    go(page, "Data")
    part(page, "Pictures")
    press(page, "Select all", page.get_by_role("button", name="Select none"))
    problems["Pictures"] = violations(page)
    part(page, "Add pictures")
    click(page, page.get_by_text("Record from the camera"), page.get_by_text("Hold the button"))
    problems["Record"] = violations(page)
    assert not any(problems.values()), problems


def test_by_keyboard_alone(page: Page) -> None:
    names = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || ''").strip())
    assert set(PAGES[1:]) <= {name.split("\n")[-1] for name in names}


def test_a_dialog_gives_the_focus_back(page: Page, site: Site, tmp_path: Path) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 2)})
    pictures = [(f"{i}.jpg", draw("Boot", i)) for i in range(3)]
    drop(page, files(tmp_path, *pictures))
    tile = main(page).locator("[class*=st-key-tiles]").get_by_role("button").nth(1)
    closes_by_escape(page, tile)
    go(page, "Labels")
    choose(page, "Look at a label", "hat")
    closes_by_escape(page, page.get_by_role("button", name="Remove", exact=True))


def closes_by_escape(page: Page, opener: Locator) -> None:
    """Open a dialog by the keyboard, and close it."""
    dialog = page.get_by_test_id("stDialog")
    until(page, lambda: opener.press("Enter"), dialog)
    key(page, "Escape", lambda: not dialog.count())
    expect(opener).to_be_focused()
