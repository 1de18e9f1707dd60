"""The page, served by Streamlit for a service, and what tests do with it in a browser."""

import os
import re
import subprocess
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from helpers.service import Process, wait_for
from helpers.supabase_stack import free_port

ROOT = Path(__file__).parent.parent.parent
SHOTS = os.environ.get("SCREENSHOTS")
HEADINGS = {"Predict": "What is in the picture?"}  # of the pages whose heading is not their name


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

    def get(self, path: str) -> object:
        """What the service answers."""
        return self.service.client.get(path).json()

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


def go(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=HEADINGS.get(name, name), level=1)).to_be_visible()
    settle(page)


def settle(page: Page) -> None:
    """Wait until the page has finished drawing itself: a click while it redraws is lost."""
    expect(page.locator("[data-test-script-state=notRunning]").first).to_be_attached()


def part(page: Page, name: str) -> None:
    """Choose one of the options of a row."""
    settle(page)
    page.get_by_role("radio", name=re.compile(f"^{re.escape(name)}")).click()
    settle(page)


def press(page: Page, button: str) -> None:
    settle(page)
    page.get_by_test_id("stMain").get_by_role("button", name=button, exact=True).click()


def choose(page: Page, label: str, option: str) -> None:
    found = page.get_by_role("option", name=option, exact=True)

    def opened() -> bool:  # a redraw of the page closes an open list
        page.get_by_role("combobox", name=label, exact=True).click()
        page.wait_for_timeout(300)
        return found.is_visible()

    wait_for(opened, 30)
    found.click()
    settle(page)


def say(page: Page, label: str) -> None:
    """Type a label that is new."""
    field = page.get_by_label("Label", exact=True).last
    field.fill(label)
    field.press("Enter")
