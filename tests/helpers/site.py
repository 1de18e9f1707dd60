"""The page, served by Streamlit for a service, and what tests do with it in a browser."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator, Page, expect

from helpers.service import Process, wait_for
from helpers.supabase_stack import free_port

ROOT = Path(__file__).parent.parent.parent
TIMEZONE = "Asia/Kolkata"  # of visitors: half an hour beside all that a server could be in
SHOTS = os.environ.get("SCREENSHOTS")
_TRIES, _SECONDS = 4, 15  # of an action whose effect fails to come
# Streamlit says whether it draws; what a click causes begins a moment after it, so rest is what lasts.
_REST = """async (milliseconds) => {
  for (let rest = 0, left = 30_000; rest < milliseconds; rest += 25, left -= 25) {
    if (left < 0) throw new Error("the page does not come to rest");
    await new Promise((done) => setTimeout(done, 25));
    if (!document.querySelector("[data-test-script-state=notRunning]")) rest = -25;
  }
}"""
HEADINGS = {"Predict": "What is in the picture?"}  # of the pages whose heading is not their name


def serve(folder: Path, port: int | None = None, **environment: str) -> Process:
    """A service that asks about every prediction."""
    return Process(folder, port, as_user=False, REVIEW_RANDOM_SHARE="1", **environment).wait_until_ready()


class Site:
    """The service and the page that calls it."""

    def __init__(self, folder: Path, service: Process):
        self.folder = folder
        self.service = service
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["python", "serve.py", "--server.port", str(self.port), "--server.address", "127.0.0.1"]
        environment = {**os.environ, "API_URL": f"http://127.0.0.1:{service.port}", "HOME": str(folder)}
        with (folder / "page.log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(ROOT / ".venv-ui" / "bin" / command[0]), *command[1:]],
                cwd=ROOT / "frontend",
                env=environment,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, 180)  # on a busy machine

    def get(self, path: str) -> Any:
        """What the service answers."""
        return self.service.client.get(path).json()

    def labels(self) -> dict[str, int]:
        """How many training pictures each label has."""
        return self.get("/status")["training_data"]["labels"]

    def clean(self) -> None:
        """Forget what an earlier test taught, and leave nothing to review."""
        client = self.service.client
        while items := self.get("/review?limit=200")["items"]:
            skipped = [{"prediction_id": item["prediction_id"], "skip": True} for item in items]
            client.post("/review", json={"items": skipped}).raise_for_status()
        for change in self.get("/labels/changes"):
            client.delete(f"/labels/changes/{change['id']}").raise_for_status()
        if ids := [row["id"] for row in self.get("/training-data?limit=1000")]:
            client.post("/training-data/bulk", json={"ids": ids, "delete": True}).raise_for_status()
        first = self.get("/models")[-1]
        if first["state"] != "live":
            client.post(f"/models/{first['version']}/activate").raise_for_status()

    def restart(self, **environment: str) -> None:
        """Kill the service, and start it again."""
        self.service.close()
        self.service = serve(self.folder, self.service.port, **environment)

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


def drop(page: Page, paths: list[Path]) -> None:
    page.locator("input[type=file]").first.set_input_files(paths)


def settle(page: Page, milliseconds: int = 150) -> None:
    """Wait until the page has finished drawing itself."""
    page.evaluate(_REST, milliseconds)


def until(page: Page, act: Callable[[], object], then: Locator | Callable[[], object]) -> None:
    """Do something, and again if nothing came of it, as people do: what falls into a redraw of the page is lost.

    `then` is what comes of it: a part of the page that becomes visible, or a condition.
    """
    for attempt in range(_TRIES):
        settle(page)
        try:
            act()
            if isinstance(then, Locator):
                expect(then).to_be_visible(timeout=_SECONDS * 1000)
            else:
                wait_for(then, _SECONDS)
            return
        except (AssertionError, PlaywrightError):
            if attempt == _TRIES - 1:
                raise


def key(page: Page, name: str, then: Locator | Callable[[], object]) -> None:
    """Press a key."""
    until(page, lambda: page.keyboard.press(name), then)


def click(page: Page, target: Locator, then: Locator | Callable[[], object]) -> None:
    """Click on something."""
    until(page, lambda: target.click(timeout=_SECONDS * 1000), then)


def press(page: Page, button: str | re.Pattern[str], then: Locator | Callable[[], object]) -> None:
    """Click on a button of the page."""
    click(page, main(page).get_by_role("button", name=button, exact=True), then)


def main(page: Page) -> Locator:
    """The page without its sidebar."""
    return page.get_by_test_id("stMain")


def go(page: Page, name: str) -> None:
    """Open one of the pages."""
    link = page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True)
    click(page, link, page.get_by_role("heading", name=HEADINGS.get(name, name), level=1))


def part(page: Page, name: str) -> None:
    """Choose one of the options of a row."""
    option = page.get_by_role("radio", name=re.compile(f"^{re.escape(name)}"))
    click(page, option, option.is_checked)


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a list."""
    found = page.get_by_role("option", name=option, exact=True)
    field = page.get_by_role("combobox", name=label, exact=True)
    click(page, field, found)
    click(page, found, lambda: field.input_value() == option)


def say(page: Page, label: str) -> None:
    """Type a label that is new."""
    field = page.get_by_label("Label", exact=True).last
    field.fill(label)
    field.press("Enter")
