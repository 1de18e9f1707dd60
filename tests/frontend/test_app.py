"""The page in a real browser, against the real service. SCREENSHOTS=docs keeps screenshots for the documents."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from helpers.pictures import draw, lesson_zip, zip_of
from helpers.service import Process, wait_for
from helpers.supabase_stack import free_port

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
SHOTS = os.environ.get("SCREENSHOTS")
NAUGHTY = "**bold** [x](x:evil) :smile: $x$ <b> www.evil.com a@evil.com"  # at most 64 characters, and no slash
ACCEPTED_AS_BOOT = re.compile(r"^check_circle.* Boot · \d+%")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


class Site:
    """The service and the page that calls it."""

    def __init__(self, folder: Path, service: Process):
        self.folder = folder
        self.service = service
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["streamlit", "run", "app.py", "--server.port", str(self.port), "--server.address", "127.0.0.1"]
        environment = {**os.environ, "API_URL": f"http://127.0.0.1:{service.port}", "HOME": str(folder)}
        with (folder / "page.log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(ROOT / ".venv-ui" / "bin" / command[0]), *command[1:]],
                cwd=ROOT / "frontend",
                env=environment,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/_stcore/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        log = (self.folder / "page.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture
def site(start, settings) -> Iterator[Site]:  # type: ignore[no-untyped-def]
    site = Site(settings.models_dir.parent, start())
    yield site
    site.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1250})
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    page.goto(site.url)
    yield page
    page.close()


def shoot(page: Page, name: str) -> None:
    """Save a screenshot once the page has settled."""
    if SHOTS:
        page.wait_for_timeout(2500)
        page.screenshot(path=ROOT / SHOTS / f"{name}.png")


def files(folder: Path, *pictures: tuple[str, bytes]) -> list[Path]:
    paths = []
    for name, data in pictures:
        path = folder / name
        path.write_bytes(data)
        paths.append(path)
    return paths


HEADINGS = {
    "Predict": "What is in the picture?",
    "Teach": "Teach",
    "Retrain": "Retrain",
    "Versions": "Versions",
    "History": "History and health",
}


def go(page: Page, name: str) -> None:
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=HEADINGS[name], level=1)).to_be_visible()


def choose(page: Page, label: str, option: str, among: int = 0) -> None:
    found = page.get_by_role("option", name=option, exact=True)

    def opened() -> bool:  # a redraw of the page closes an open list
        page.get_by_label(label, exact=True).nth(among).click()
        page.wait_for_timeout(300)
        return found.is_visible()

    wait_for(opened, 30)
    found.click()


def press(page: Page, button: str) -> None:
    """Click a button once the page has finished drawing itself: a click while it redraws is lost."""
    expect(page.locator("[data-test-script-state=notRunning]").first).to_be_attached()
    page.get_by_role("button", name=button, exact=True).click()


def say(page: Page, label: str, among: int = 0) -> None:
    field = page.get_by_label("Right label", exact=True).nth(among)
    field.fill(label)
    field.press("Enter")


def test_predict_correct_teach_retrain_and_roll_back(page: Page, site: Site, tmp_path: Path) -> None:
    # Predict, and correct an answer.
    expect(page.get_by_text("I know 3 labels: Boot, Sandal, Shoe.")).to_be_visible()
    pictures = files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 240))), ("hat.jpg", draw("hat", 2, (300, 240))))
    page.locator("input[type=file]").set_input_files(pictures)
    expect(page.get_by_role("heading", name=ACCEPTED_AS_BOOT)).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("boot.jpg, predicted as Boot, coloured"))).to_be_visible()
    shoot(page, "predict")
    page.get_by_text("Not right? Correct it").nth(1).click()
    say(page, "hat", among=1)
    page.get_by_role("button", name="Save label").click()
    expect(page.get_by_text("Saved as hat. It counts from the next retrain.")).to_be_visible()

    # Upload a ZIP, some of whose files must be skipped.
    lesson = {f"hat/{i}.jpg": draw("hat", i) for i in range(1000, 1060)}
    broken = {"hat/again.jpg": draw("hat", 1000), "hat/broken.jpg": draw("hat", 5)[:300], "notes.txt": b"x"}
    go(page, "Teach")
    page.locator("input[type=file]").first.set_input_files(files(tmp_path, ("hats.zip", zip_of({**lesson, **broken}))))
    expect(page.get_by_role("button", name="Upload", exact=True)).to_be_enabled()
    page.wait_for_timeout(500)  # the redraw that the file causes begins a moment later
    press(page, "Upload")
    expect(page.get_by_text("Upload result")).to_be_visible()
    expect(page.get_by_test_id("stMetric").nth(0)).to_contain_text("60")
    expect(page.get_by_test_id("stMetric").nth(1)).to_contain_text("3")
    shoot(page, "teach")

    # Change one, delete one.
    page.get_by_role("tab", name="Training pictures").click()
    expect(page.get_by_role("img", name="training picture of hat").first).to_be_visible()
    shoot(page, "browse")
    page.get_by_role("button", name="Change").first.click()
    page.get_by_role("button", name="Delete the picture").click()
    wait_for(lambda: len(site.service.client.get("/training-data?limit=100").json()) == 60)

    # Retrain to the verdict.
    go(page, "Retrain")
    expect(page.get_by_test_id("stMain").get_by_text("60 new pictures, not learned yet")).to_be_visible()
    page.get_by_role("button", name="Retrain", exact=True).click()
    expect(page.get_by_text("Published. The next answer comes from the new model.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("new pictures get a different answer")).to_be_visible()
    shoot(page, "verdict")
    go(page, "Predict")
    page.locator("input[type=file]").set_input_files(files(tmp_path, ("new.jpg", draw("hat", 77))))
    expect(page.get_by_role("img", name=re.compile("^new.jpg, predicted as hat"))).to_be_visible()

    # Roll back.
    go(page, "Versions")
    rows = site.service.client.get("/models").json()
    choose(page, "Version", f"{rows[1]['version']} (archived)")
    shoot(page, "versions")
    page.get_by_role("button", name="Use this version").click()
    expect(page.get_by_test_id("stMain").get_by_text(f"Version {rows[1]['version']} is live.")).to_be_visible()
    assert site.service.client.get("/status").json()["model"]["version"] == rows[1]["version"]

    # Look at the history.
    go(page, "History")
    expect(page.get_by_text("3 of the last 3")).to_be_visible()
    shoot(page, "history")


def test_a_full_retrain_is_watched_and_cancelled(page: Page, site: Site) -> None:
    site.service.client.post("/upload", files={"file": lesson_zip("hat", 40)})
    go(page, "Retrain")
    choose(page, "Method", "Full: minutes, tunes the network as well")
    page.get_by_role("button", name="Retrain", exact=True).click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("button", name="Retrain", exact=True)).not_to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled. The pictures stay for the next retrain.").first).to_be_visible(timeout=60_000)


def test_the_page_waits_for_a_service_that_restarts(page: Page, site: Site) -> None:
    expect(page.get_by_text("I know 3 labels")).to_be_visible()
    site.service.process.kill()
    site.service.process.wait()
    go(page, "Versions")
    expect(page.get_by_text("this page reconnects").first).to_be_visible()
    shoot(page, "away")
    again = Process(site.folder, site.service.port).wait_until_ready()
    try:
        expect(page.get_by_label("Version", exact=True)).to_be_visible()
        expect(page.get_by_text("this page reconnects")).to_have_count(0)
    finally:
        again.close()


def test_what_users_typed_is_inert(page: Page, site: Site, tmp_path: Path) -> None:
    label = NAUGHTY
    report = site.service.client.post("/upload", files={"file": draw("hat", 1)}, data={"label": label})
    assert report.status_code == 201, report.text
    expect(page.get_by_text("I know 3 labels")).to_be_visible()  # that one is not learned yet
    go(page, "Teach")
    warning = page.get_by_text("Few pictures:")
    expect(warning).to_be_visible()
    assert label in warning.inner_text().replace("\u2060", "")
    page.get_by_role("tab", name="Training pictures").click()
    expect(page.get_by_role("img", name=f"training picture of {label}")).to_be_visible()
    assert page.locator("a[href*=evil], b, .katex").count() == 0
    assert page.get_by_text("bold", exact=True).count() == 0  # as it would be inside a <strong> of its own


def test_one_bad_picture_does_not_block_the_others(page: Page, site: Site, tmp_path: Path) -> None:
    go(page, "Teach")
    bad = ("b.jpg", draw("hat", 2)[:200])
    dropped = files(tmp_path, ("a.jpg", draw("hat", 1)), bad, ("c.jpg", draw("hat", 3)))
    page.locator("input[type=file]").first.set_input_files(dropped)
    say(page, "hat")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_test_id("stMetric").nth(0)).to_contain_text("2")
    expect(page.get_by_test_id("stMetric").nth(1)).to_contain_text("1")
    assert site.service.client.get("/status").json()["training_data"]["labels"] == {"hat": 2}


def test_a_new_version_answers_again(page: Page, site: Site, tmp_path: Path) -> None:
    picture = files(tmp_path, ("hat.jpg", draw("hat", 1010)))
    page.locator("input[type=file]").set_input_files(picture)
    expect(page.get_by_role("img", name=re.compile("^hat.jpg, predicted as"))).to_be_visible()
    wait = {"wait": "true", "mode": "quick"}
    site.service.client.post("/retrain", files={"file": lesson_zip("hat", 60)}, params=wait)
    go(page, "Versions")
    go(page, "Predict")
    page.locator("input[type=file]").set_input_files(picture)
    expect(page.get_by_role("img", name=re.compile("^hat.jpg, predicted as hat"))).to_be_visible()


def test_dropped_pictures_survive_a_restart(page: Page, site: Site, tmp_path: Path) -> None:
    expect(page.get_by_text("I know 3 labels")).to_be_visible()
    site.service.process.kill()
    site.service.process.wait()
    page.locator("input[type=file]").set_input_files(files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 240)))))
    expect(page.get_by_text("this page reconnects").first).to_be_visible()
    again = Process(site.folder, site.service.port).wait_until_ready()
    try:
        expect(page.get_by_role("heading", name=ACCEPTED_AS_BOOT)).to_be_visible()
        expect(
            page.get_by_label(re.compile("^confidence: Boot")).first
        ).to_be_visible()  # the chart's text for screen readers
    finally:
        again.close()


def test_the_services_message_is_shown(page: Page, tmp_path: Path) -> None:
    page.locator("input[type=file]").set_input_files(files(tmp_path, ("broken.jpg", draw("Boot", 1)[:200])))
    expect(page.get_by_text("Expected a complete JPEG picture")).to_be_visible()


def test_a_key_is_asked_for(browser: Browser, start, settings, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    site = Site(settings.models_dir.parent, start(API_KEY="secret"))
    page = browser.new_page()
    try:
        page.goto(f"{site.url}/teach")
        page.locator("input[type=file]").first.set_input_files(files(tmp_path, ("hats.zip", lesson_zip("hat", 3))))
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.get_by_text("Enter the key in the sidebar.")).to_be_visible(timeout=30_000)
        page.get_by_label("API key", exact=True).fill("secret")
        page.get_by_label("API key", exact=True).press("Enter")
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.get_by_text("Upload result")).to_be_visible(timeout=30_000)
    finally:
        page.close()
        site.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser: Browser, site: Site, tmp_path: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(site.url)
    page.locator("input[type=file]").set_input_files(files(tmp_path, ("boot.jpg", draw("Boot", 1, (300, 240)))))
    expect(page.get_by_role("heading", name=ACCEPTED_AS_BOOT)).to_be_visible(timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(page, f"phone-{scheme}")
    page.close()


def test_by_keyboard_alone(page: Page, site: Site) -> None:
    expect(page.get_by_text("I know 3 labels")).to_be_visible()
    names = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || ''").strip())
    assert {"Teach", "Retrain", "Versions"} <= {name.split("\n")[-1] for name in names}
