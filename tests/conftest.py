"""Small drawn pictures, a small real model, and the real service in a thread or a process."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from helpers.model import small_stages
from helpers.pictures import SHAPES, SIDE, drawn
from helpers.service import Process, make_settings, running
from helpers.supabase_stack import Stack, token
from shoe_classifier.ml.dataset import load
from shoe_classifier.settings import Settings

os.environ.setdefault("KERAS_HOME", os.devnull)  # or Keras leaves a folder in the home of whoever runs the tests


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real model of three drawn shapes, trained for a few seconds."""
    import keras
    import tensorflow as tf

    from shoe_classifier.ml import finetune, training

    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()  # the same model in every run of the tests
    labels = list(SHAPES)
    recipe = training.TrainingConfig(
        side=SIDE, stages=small_stages(), epochs=8, steps=25, plain=32, pasted=0, learning_rate=5e-3
    )
    large, small = (load(drawn(range(400)), side, labels) for side in (recipe.load_side, SIDE))
    model = training.train(large.split()[0], None, None, len(labels), recipe, lambda *progress: None)
    path = tmp_path_factory.mktemp("model") / "shoe_classifier.h5"
    bundle = finetune.build_model_file(model, path, small, None, None, labels, lambda *progress: None)
    assert bundle.metrics["accuracy"] > 0.95
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


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield client


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
