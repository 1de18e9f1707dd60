"""A small real model, and the real service in a thread or a process."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Playwright, sync_playwright

from helpers.service import Process, make_settings, running
from helpers.supabase_stack import Stack, token
from shoe_classifier.settings import Settings

os.environ.setdefault("KERAS_HOME", os.devnull)  # or Keras leaves a folder in the home of whoever runs the tests

SHAPES_MODEL = Path(__file__).parent / "fixtures" / "shapes.h5"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests record, as they stand in docs/reliability.md."""
    for report in terminalreporter.getreports("passed"):
        for name, figure in report.user_properties:
            terminalreporter.write_line(f"{name}: {figure}")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real model of three drawn shapes, made by `fixtures/make_shapes.py`. Tests that change it copy it."""
    path = tmp_path_factory.mktemp("model") / "shoe_classifier.h5"
    shutil.copy(SHAPES_MODEL, path)
    return path


@pytest.fixture
def settings(tmp_path: Path, model_file: Path) -> Settings:
    (tmp_path / "models").mkdir()
    shutil.copy(model_file, tmp_path / "models" / "shoe_classifier.h5")
    return make_settings(tmp_path)


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    """A Supabase project, set up and empty."""
    running_stack.empty()
    yield running_stack
    running_stack.gateway.reset()
    running_stack.gateway.start()


@pytest.fixture
def project(stack: Stack) -> dict[str, object]:
    """The settings that lead there."""
    return {
        "supabase_url": stack.gateway.url,
        "supabase_key": token("service_role"),
        "supabase_timeout_seconds": 3,
        "model_poll_seconds": 0.5,
    }


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Drives browsers; a process can have only one."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield client


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[..., Process]]:
    """Starts real server processes on the test's own folders; ends them all."""
    started: list[Process] = []

    def begin(*, as_user: bool = False, **environment: str) -> Process:
        process = Process(settings.models_dir.parent, as_user=as_user, **environment)
        started.append(process)
        return process.wait_until_ready()

    yield begin
    for process in started:
        process.close()
