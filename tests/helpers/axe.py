"""What axe-core says of a page: https://github.com/dequelabs/axe-core."""

from typing import Literal

from playwright.sync_api import Page

from helpers.site import ROOT, settle

_AXE = ROOT / ".cache" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
# Streamlit's own field for files has the role of a decoration, and a label.
_RULES: dict[str, object] = {"resultTypes": ["violations"], "rules": {"presentation-role-conflict": {"enabled": False}}}
_THEMES: tuple[tuple[Literal["light", "dark"], dict[str, object]], ...] = (
    ("light", _RULES),
    ("dark", {**_RULES, "runOnly": ["color-contrast"]}),
)


def violations(page: Page) -> list[str]:
    """What axe-core objects to once the page is at rest: to all in the light theme, to contrasts in the dark one."""
    page.evaluate(_AXE.read_text())  # not as a script of the page, which its policy may forbid
    redraws = page.locator("[data-test-script-state]").count()
    found = []
    for theme, rules in _THEMES:
        page.emulate_media(color_scheme=theme)
        if redraws:
            settle(page, 700)  # of fading in, which changes contrasts
        rows = page.evaluate("rules => axe.run(document, rules)", rules)["violations"]
        found += [f"{theme}: {row['id']}: {node['html'][:200]}" for row in rows for node in row["nodes"]]
    page.emulate_media(color_scheme="light")
    return found
