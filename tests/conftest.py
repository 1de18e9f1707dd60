"""Small drawn pictures, a small real model, and the real service in a thread or a process."""

import io
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image, ImageDraw

from shoe_classifier.classifier.dataset import load
from shoe_classifier.images.zip_reader import Picture
from shoe_classifier.main import create_app
from shoe_classifier.settings import Settings
from supabase_stack import Stack, free_port, token

os.environ.setdefault("KERAS_HOME", os.devnull)  # or Keras leaves a folder in the home of whoever runs the tests

SHAPES = ("Boot", "Sandal", "Shoe")  # drawn as red circle, green square and blue triangle
COLOURS = {"Boot": (200, 30, 30), "Sandal": (30, 160, 30), "Shoe": (30, 30, 200)}
SIDE = 32


def draw(label: str, seed: int, size: tuple[int, int] = (48, 40), **save: object) -> bytes:
    """A picture of a shape: each label has its own, in its colour; each seed another place, size and tint."""
    rng = np.random.default_rng([seed, len(label), ord(label[0])])
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(200, 256, 3)))
    colour = tuple(int(v + rng.integers(-25, 26)) for v in COLOURS.get(label, (190, 170, 40)))
    radius = int(min(size) * rng.uniform(0.25, 0.4))
    x, y = (int(rng.integers(radius, edge - radius)) for edge in size)
    pen = ImageDraw.Draw(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    if label == "Boot":
        pen.ellipse(box, fill=colour)
    elif label == "Sandal":
        pen.rectangle(box, fill=colour)
    elif label == "Shoe":
        pen.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    else:  # stripes over all of the picture: a label that is new to the model
        for line in range(int(rng.integers(0, 4)), size[0], 6):
            pen.line((line, 0, line, size[1]), fill=colour, width=3)
    return encode(image, **save)


def encode(image: Image.Image, kind: str = "JPEG", **save: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def lesson_zip(label: str, count: int = 40, start: int = 1000) -> bytes:
    return zip_of({f"{label}/{i}.jpg": draw(label, i) for i in range(start, start + count)})


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real model of three drawn shapes, trained for a few seconds."""
    import keras
    import tensorflow as tf

    from shoe_classifier.classifier import learning, training

    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()  # the same model in every run of the tests
    labels = list(SHAPES)
    recipe = training.Recipe(
        side=SIDE, stages=small_stages(), epochs=8, steps=25, plain=32, pasted=0, learning_rate=5e-3
    )
    large, small = (load(drawn(range(400)), side, labels) for side in (recipe.load_side, SIDE))
    model = training.train(large.split()[0], None, None, len(labels), recipe, lambda *progress: None)
    path = tmp_path_factory.mktemp("model") / "shoe_classifier.h5"
    bundle = learning.first(model, path, small, None, None, labels, lambda *progress: None)
    assert bundle.metrics["accuracy"] > 0.95
    return path


def small_stages() -> tuple[object, ...]:
    from shoe_classifier.classifier.network import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 4, 12, 1), Stage(3, 2, 4, 24, 2))


def drawn(seeds: range) -> list[Picture]:
    return [Picture(label, f"{label}/{seed}.jpg", draw(label, seed)) for label in SHAPES for seed in seeds]


@pytest.fixture
def settings(tmp_path: Path, model_file: Path) -> Settings:
    (tmp_path / "models").mkdir()
    shutil.copy(model_file, tmp_path / "models" / "shoe_classifier.h5")
    return make_settings(tmp_path)


def make_settings(folder: Path, **overrides: object) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        models_dir=folder / "models",
        dataset_dir=folder / "dataset",
        temp_uploads_dir=folder / "temp_uploads",
        **overrides,
    )


@contextmanager
def running(settings: Settings) -> Iterator[httpx.Client]:
    """The real service on a free port, in a thread of this process; ends by its own shutdown."""
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=200, trust_env=False) as client:
            client.app = app  # type: ignore[attr-defined]
            service = app.state.service
            wait_for(lambda: service.predictor.loaded or service.predictor.failed)
            yield client
    finally:
        server.should_exit = True
        thread.join()


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


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield client


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Poll until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


def finished_job(client: httpx.Client, job_id: str) -> dict[str, object]:
    job: dict[str, object] = {}

    def ended() -> bool:
        job.update(client.get(f"/retrain/{job_id}").json())
        return job["state"] not in ("queued", "running")

    wait_for(ended, 120)
    return job


class Process:
    """`python -m shoe_classifier serve` in a folder of its own."""

    def __init__(self, folder: Path, port: int | None = None, **environment: str):
        self.port = port or free_port()
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "shoe_classifier", "serve", "--port", str(self.port)],
                cwd=folder,
                env={**clean, **environment},
                stdout=log,
                stderr=log,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120, trust_env=False)

    @staticmethod
    def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Another command of the package, to its end."""
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        program = [sys.executable, "-m", "shoe_classifier", *command]
        return subprocess.run(
            program, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False
        )

    def wait_until_ready(self) -> "Process":
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return self.client.get("/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(ready)
        return self

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[..., Process]]:
    """Starts real server processes on the test's own folders; ends them all."""
    started: list[Process] = []

    def begin(**environment: str) -> Process:
        process = Process(settings.models_dir.parent, **environment)
        started.append(process)
        return process.wait_until_ready()

    yield begin
    for process in started:
        process.close()
