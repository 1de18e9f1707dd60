"""Labels: rename, merge and remove, each with its way back."""

import pytest
from playwright.sync_api import Page, expect

from helpers.pictures import lesson_zip
from helpers.site import Site, choose, click, go, key, main, press

pytestmark = pytest.mark.browser


def names(site: Site) -> list[str]:
    return [row["label"] for row in site.service.client.get("/labels").json()]


def test_each_change_of_a_label_has_a_way_back(page: Page, site: Site) -> None:
    for label, count in (("hat", 20), ("cap", 3)):
        site.service.client.post("/upload", files={"file": lesson_zip(label, count)})
    before = names(site)
    go(page, "Labels")
    expect(page.get_by_text("Few pictures: cap (3). Aim for at least 20 per label.")).to_be_visible()
    expect(page.get_by_text("Unbalanced: 20 hat, 3 cap.")).to_be_visible()
    choose(page, "Look at a label", "hat")
    press(page, "Merge", page.get_by_role("combobox", name="Into"))
    choose(page, "Into", "cap")
    merge = page.get_by_test_id("stPopoverBody").get_by_role("button", name="Merge", exact=True)
    click(page, merge, lambda: names(site) == ["Boot", "Sandal", "Shoe", "cap"])
    key(page, "u", lambda: names(site) == before)

    choose(page, "Look at a label", "cap")
    press(page, "Remove", page.get_by_role("dialog"))
    remove = page.get_by_role("dialog").get_by_role("button", name="Remove cap")
    click(page, remove, lambda: "cap" not in names(site))
    page.reload()
    press(page, "Take it back", lambda: names(site) == before)
    expect(page.get_by_text("cap is removed")).to_have_count(0)
    assert len(site.service.client.get("/training-data").json()) == 23


def test_a_changed_label_alone_is_a_reason_to_retrain(page: Page, site: Site) -> None:
    go(page, "Retrain")
    expect(page.get_by_text("Nothing new to learn.")).to_be_visible()
    change = site.service.client.patch("/labels/Boot", json={"name": "bootee"}).json()["change_id"]
    go(page, "Labels")
    go(page, "Retrain")
    expect(page.get_by_text("1 changed label, not learned yet")).to_be_visible()
    expect(main(page).get_by_role("button", name="Retrain", exact=True)).to_be_enabled()
    site.service.client.delete(f"/labels/changes/{change}").raise_for_status()
