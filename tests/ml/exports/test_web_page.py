"""The page in a real browser, opened as a file: no server, no network."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, expect

from helpers.axe import violations
from helpers.pictures import SHAPES, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports.litert_graph import export_tflite
from shoe_classifier.ml.exports.packing import describe
from shoe_classifier.ml.exports.parity import ParityReport
from shoe_classifier.ml.exports.web_page import export_page
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode

SIZES = [(48, 40), (31, 90), (300, 211), (60, 70), (32, 32), (20, 17)]


@pytest.fixture(scope="module")
def model(model_file: Path) -> LiveModel:
    return LiveModel(bundles.read(model_file))


@pytest.fixture(scope="module")
def file(model: LiveModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(export_page(export_tflite(model.bundle), describe(model.bundle, ParityReport("LiteRT", 0, 3))))
    return path


def test_everything_is_in_the_page(file: Path, model: LiveModel) -> None:
    page = file.read_text()
    assert "{{" not in re.sub(r"(?s)<script>.*?</script>", "", page)
    assert "default-src 'none'" in page
    description = json.loads(re.search(r'(?s)application/json">(.*?)</script>', page)[1])  # type: ignore[index]
    assert description["labels"] == list(model.bundle.labels)


def test_a_label_cannot_end_the_script(model: LiveModel) -> None:
    description = {"labels": ["</script><script>alert(1)</script>"]}
    assert b"<script>alert" not in export_page(b"", description)


@pytest.fixture(scope="module")
def open_page(playwright: Playwright, file: Path) -> Iterator[Callable[..., Page]]:
    browsers: list[Browser] = []

    def open_with(*arguments: str) -> Page:
        browsers.append(
            playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", *arguments])
        )
        page = browsers[-1].new_context(offline=True).new_page()
        page.goto(file.as_uri())
        return page

    yield open_with
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="module")
def page(open_page: Callable[..., Page]) -> Page:
    page = open_page()
    expect(page.locator("#state")).to_have_text("Ready.", timeout=60_000)
    return page


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(page: Page, file: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = page.evaluate(
        "(data) => classifyFile(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]))", encoded(file)
    )
    return answer


@pytest.mark.browser
def test_it_resizes_as_the_service_does(page: Page, model: LiveModel) -> None:
    rng = np.random.default_rng(0)
    for width, height in SIZES:
        pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
        side = model.size[0]
        small = page.evaluate(
            """([data, width, height]) => Array.from(resize(
                { data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), width, height }))""",
            [encoded(pixels.tobytes()), width, height],
        )
        expected = Image.fromarray(pixels[:, :, :3]).resize((side, side), Image.Resampling.BILINEAR)
        assert (np.array(small).reshape(side, side, 3) == np.asarray(expected)).all(), (width, height)


@pytest.mark.browser
def test_it_answers_as_the_service(page: Page, model: LiveModel) -> None:
    files = [draw(label, seed, (60, 47)) for label in (*SHAPES, "stripes") for seed in range(10)]
    files += [draw("Boot", seed, kind="PNG") for seed in range(5)]
    files += [
        draw(label, 1, size) for label in SHAPES for size in ((70, 99), (200, 150), (701, 400))
    ]  # decoded reduced
    for data in files:
        answer, expected = ask(page, data), model.classify(decode(data, model.size))
        assert (answer["label"], answer["decision"]) == (expected.predicted_class, expected.decision)
        assert answer["probabilities"] == pytest.approx(list(expected.probabilities.values()), abs=1e-5)


@pytest.mark.browser
def test_a_large_picture_that_is_turned(page: Page, model: LiveModel) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    data = draw("Shoe", 3, (200, 150), exif=turned)
    answer, expected = ask(page, data), model.classify(decode(data, model.size))
    assert (answer["label"], answer["decision"]) == (expected.predicted_class, expected.decision)
    assert answer["confidence"] == pytest.approx(
        expected.confidence, abs=0.01
    )  # turned before it is resized, not after


@pytest.mark.browser
def test_a_file_is_answered_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "boot.jpg").write_bytes(draw("Boot", 1))
    (tmp_path / "text.jpg").write_bytes(b"text")
    page.get_by_label("Choose a picture").set_input_files(tmp_path / "boot.jpg")
    expect(page.locator("#answer")).to_contain_text("Boot · ")
    expect(page.locator("#bars li")).to_have_count(3)
    boot, *others = page.locator("#bars i").evaluate_all("(bars) => bars.map((bar) => bar.offsetWidth)")
    assert boot > 10 * max(others)
    page.get_by_label("Choose a picture").set_input_files(tmp_path / "text.jpg")
    expect(page.locator("#state")).to_have_text("This file is not a picture that the browser can read.")
    assert not violations(page)


@pytest.mark.browser
def test_the_camera(open_page: Callable[..., Page]) -> None:
    page = open_page("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#state")).to_have_text("Live.", timeout=60_000)
    expect(page.locator("#answer")).not_to_be_empty(timeout=60_000)
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()


@pytest.mark.browser
def test_a_camera_that_is_not_allowed(open_page: Callable[..., Page]) -> None:
    page = open_page("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#state")).to_contain_text("The camera is blocked. Allow it for this page")


@pytest.mark.browser
def test_no_camera(page: Page) -> None:
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#state")).to_have_text("No camera was found. Choose a picture instead.")
