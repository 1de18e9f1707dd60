"""Data and Labels: uploads, the pictures of a label, suspect pictures, and the labels themselves."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from helpers.axe import violations
from helpers.pictures import draw, lesson_zip, zip_of
from helpers.service import wait_for
from helpers.site import Site, choose, click, drop, files, go, key, main, part, press, say, shoot

pytestmark = pytest.mark.browser

NAUGHTY = "**bold** [x](x:evil) :smile: $x$ <b> www.evil.com a@evil.com"  # at most 64 characters, and no slash


def test_an_upload_says_what_was_skipped_and_leads_to_a_retrain(page: Page, site: Site, tmp_path: Path) -> None:
    lesson = {f"hat/{i}.jpg": draw("hat", i) for i in range(1000, 1060)}
    broken = {
        "loose.jpg": draw("hat", 6),
        "hat/again.jpg": draw("hat", 1000),
        "hat/broken.jpg": draw("hat", 5)[:300],
        "hat/notes.txt": b"x",
    }
    go(page, "Data")
    expect(page.get_by_text("ZIPs of up to 1 GB; pictures of up to 15 MB")).to_be_visible()
    expect(page.get_by_text("per file")).not_to_be_visible()  # which would say one limit for both
    drop(page, files(tmp_path, ("hats.zip", zip_of({**lesson, **broken}))))
    upload(page, "60 added, 4 skipped")
    reasons = ("known already", "damaged", "not a supported picture format", "not inside a labelled folder")
    for reason in reasons:
        expect(page.get_by_text(f"1 file skipped: {reason}")).to_be_visible()
    click(page, page.get_by_text("1 file skipped: damaged"), page.get_by_text("Expected a complete JPEG picture"))
    expect(page.get_by_text("hats.zip")).to_have_count(0)
    shoot(page, "data")
    assert not violations(page)
    press(page, "Retrain now", page.get_by_role("heading", name="Retrain", level=1))
    expect(page.get_by_text("Published. The next answer comes from the new model.")).to_be_visible(timeout=60_000)


def test_one_bad_picture_does_not_block_the_others(page: Page, site: Site, tmp_path: Path) -> None:
    go(page, "Data")
    bad = ("b.jpg", draw("hat", 2)[:200])
    drop(page, files(tmp_path, ("a.jpg", draw("hat", 1)), bad, ("c.jpg", draw("hat", 3))))
    say(page, "hat")
    upload(page, "2 added, 1 skipped")
    assert site.labels() == {"hat": 2}


def test_held_button_records_pictures_of_a_label(page: Page, site: Site) -> None:
    go(page, "Data")
    hold = page.get_by_role("button", name="Hold to record")
    click(page, page.get_by_text("Record from the camera"), page.get_by_text("Hold the button"))
    hold.hover()
    page.mouse.down()
    expect(page.get_by_text("3 recorded")).to_be_visible()
    page.mouse.up()
    discard = page.get_by_role("button", name=re.compile(r"Discard \d+ recorded pictures"))
    press(page, re.compile(r"Discard \d+ recorded pictures"), lambda: not discard.count())
    key(page, "u", discard)
    say(page, "test card")
    upload(page, "")
    assert site.labels()["test card"] >= 3


def test_pictures_are_found_moved_deleted_and_brought_back(page: Page, site: Site) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 5)})
    site.service.client.post("/upload", files={"file": lesson_zip("cap", 3, 2000)})
    go(page, "Data")
    part(page, "Pictures")
    expect(page.get_by_role("heading", name="8 pictures")).to_be_visible()
    part(page, "cap")
    expect(page.get_by_role("heading", name="3 pictures")).to_be_visible()
    shoot(page, "browse")
    press(page, "Select all", page.get_by_role("button", name="Select none"))
    choose(page, "Label", "hat")
    press(page, "Move 3 pictures", page.get_by_text("Moved 3 pictures to hat."))
    assert site.labels() == {"hat": 8}
    key(page, "u", lambda: site.labels() == {"hat": 5, "cap": 3})
    expect(page.get_by_role("heading", name="3 pictures")).to_be_visible()
    delete = page.get_by_role("button", name=re.compile("Delete 1 picture$"))
    click(page, main(page).get_by_text("cap", exact=True).nth(1), delete)
    dialog = page.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="Delete 1 picture")
    click(page, delete, confirm)
    assert not violations(page)
    key(page, "Escape", lambda: not dialog.count())
    click(page, delete, confirm)
    click(page, confirm, lambda: site.labels() == {"hat": 5, "cap": 2})
    expect(dialog).to_have_count(0)
    key(page, "u", lambda: site.labels() == {"hat": 5, "cap": 3})


def test_suspect_pictures_are_fixed_with_a_key_or_all_at_once(page: Page, site: Site) -> None:
    flipped = {f"hat/boot{i}.jpg": draw("Boot", 50 + i) for i in range(4)}
    hats, boots = ({f"{name}/{i}.jpg": draw(name, 1000 + i) for i in range(40)} for name in ("hat", "Boot"))
    site.service.client.post("/upload", files={"file": zip_of({**hats, **boots, **flipped})})

    def found() -> int:
        answer = site.get("/training-data/issues?kind=label")
        return answer["counts"].get("label", 0) if answer["up_to_date"] else 0

    wait_for(lambda: found() >= 4)
    before = site.labels()["hat"]
    go(page, "Data")
    part(page, "Suspect pictures")
    expect(page.get_by_text("Most similar pictures")).to_be_visible()
    part(page, "Label ")
    expect(page.get_by_role("heading", name="hat?")).to_be_visible()
    shoot(page, "suspects")
    assert not violations(page)
    key(page, "1", lambda: site.labels()["hat"] == before - 1)  # Boot
    page.get_by_role("switch", name="Only pictures that are not learned yet").focus()  # where keys work as elsewhere
    key(page, "u", lambda: site.labels()["hat"] == before)
    wait_for(lambda: found() >= 4)
    waiting = found()
    key(page, "k", lambda: found() == waiting - 1)
    key(page, "u", lambda: found() == waiting)
    part(page, "As a grid")
    press(page, re.compile("^Fix "), lambda: site.labels()["hat"] <= before - 4)


def test_labels_are_renamed_merged_and_removed(page: Page, site: Site) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 4)})
    site.service.client.post("/upload", files={"file": lesson_zip("cap", 3, 2000)})
    go(page, "Labels")
    choose(page, "Look at a label", "cap")
    expect(page.get_by_text("3 pictures taught by you")).to_be_visible()
    shoot(page, "labels")
    name = page.get_by_label("New name")
    press(page, "Rename", name)
    name.fill("beret")
    name.press("Enter")
    rename = page.get_by_role("button", name="Rename", exact=True).last
    click(page, rename, lambda: site.labels() == {"hat": 4, "beret": 3})
    expect(page.get_by_role("heading", name="beret")).to_be_visible()
    press(page, "Merge", page.get_by_role("combobox", name="Into"))
    choose(page, "Into", "hat")
    merge = page.get_by_role("button", name="Merge", exact=True).last
    click(page, merge, lambda: site.labels() == {"hat": 7})
    expect(page.get_by_role("heading", name="hat", exact=True)).to_be_visible()
    remove = page.get_by_role("dialog").get_by_role("button", name="Remove hat")
    click(page, page.get_by_role("button", name="Remove", exact=True), remove)
    click(page, remove, lambda: site.labels() == {})


def test_what_users_typed_is_inert(page: Page, site: Site) -> None:
    report = site.service.client.post("/upload", files={"file": draw("hat", 1)}, data={"label": NAUGHTY})
    assert report.status_code == 201, report.text
    go(page, "Labels")
    warning = page.get_by_text("Few pictures:")
    expect(warning).to_be_visible()
    assert NAUGHTY in warning.inner_text().replace("\u2060", "")
    go(page, "Data")
    part(page, "Pictures")
    expect(page.get_by_role("img", name=f"training picture of {NAUGHTY}")).to_be_visible()
    assert page.locator("a[href*=evil], b, .katex").count() == 0
    assert page.get_by_text("bold", exact=True).count() == 0  # as it would be inside a <strong> of its own


def upload(page: Page, result: str) -> None:
    button = page.get_by_role("button", name="Upload", exact=True).last  # the first one is the field's own
    expect(button).to_be_enabled()
    click(page, button, page.get_by_role("heading", name=f"Upload result: {result}"))
