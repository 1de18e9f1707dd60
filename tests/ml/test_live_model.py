import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.pictures import SHAPES, draw
from shoe_classifier.errors import InvalidImage, InvalidModel, NotOffered, NotReady
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import live_model
from shoe_classifier.ml.live_model import (
    LiveModel,
    LiveModelHolder,
    Readiness,
    check_probabilities,
    open_model_file,
    prediction_of,
)
from shoe_classifier.ml.sandbox import SandboxError


@pytest.fixture
def model(model_file: Path) -> LiveModel:
    return LiveModel(bundles.read(model_file))


@pytest.fixture
def holder() -> LiveModelHolder:
    return LiveModelHolder(max_pixels=10_000)


def test_it_classifies_what_it_was_trained_on(model: LiveModel, holder: LiveModelHolder) -> None:
    holder.swap(model)
    predictions = [(label, holder.predict(draw(label, seed))) for label in SHAPES for seed in range(600, 620)]
    assert sum(prediction.predicted_class == label for label, prediction in predictions) >= 50
    assert all(prediction.confidence == max(prediction.probabilities.values()) for _, prediction in predictions)
    assert {prediction.model_version for _, prediction in predictions} == {model.bundle.version}
    with pytest.raises(InvalidImage):
        holder.predict(b"text")


def test_a_picture_of_nothing_is_unknown(model: LiveModel) -> None:
    assert model.classify(np.full((*model.size, 3), 200, np.uint8)).decision == "unknown"


def test_a_model_that_gives_no_numbers_is_refused(model: LiveModel) -> None:
    head = replace(model.bundle.head, bias=np.full(3, np.nan, np.float32))
    with pytest.raises(InvalidModel, match="add up to 1"):
        LiveModel(replace(model.bundle, head=head))


@pytest.mark.parametrize("probabilities", [[0.5, 0.4], [np.nan, 1.0], [np.inf, 0.0]])
def test_probabilities_must_add_up_to_one(probabilities: list[float]) -> None:
    check_probabilities(np.array([0.5, 0.5]))
    with pytest.raises(InvalidModel):
        check_probabilities(np.array(probabilities))


def test_a_prediction_keeps_the_label_order() -> None:
    info = SimpleNamespace(labels=("a", "b", "c"), version="v")
    prediction = prediction_of(info, np.array([0.2, 0.7, 0.1]), "uncertain")
    assert list(prediction.probabilities.items()) == [("a", 0.2), ("b", 0.7), ("c", 0.1)]
    assert (prediction.predicted_class, prediction.confidence, prediction.decision) == ("b", 0.7, "uncertain")


def test_readiness_from_loading_to_ready(holder: LiveModelHolder, model: LiveModel) -> None:
    assert holder.readiness is Readiness.LOADING
    with pytest.raises(NotReady, match="Expected a model that is ready; it is being loaded"):
        holder.predict(draw("Boot", 1))
    holder.fail("the file is gone.")
    assert (holder.readiness, holder.reason) == (Readiness.FAILING, "the file is gone.")
    with pytest.raises(NotReady, match="the file is gone"):
        holder.live  # noqa: B018 - raises
    holder.swap(model)
    assert (holder.readiness, holder.reason, holder.labels) == (Readiness.READY, "", SHAPES)
    assert holder.live is holder.teachable is model


def test_a_live_model_stays_ready_when_another_fails(holder: LiveModelHolder, model: LiveModel) -> None:
    holder.swap(model)
    holder.fail("another file does not load.")
    assert (holder.readiness, holder.reason, holder.live) == (Readiness.READY, "", model)


def test_the_state_changes_as_a_whole(holder: LiveModelHolder, model: LiveModel) -> None:
    """A reader may see the model or the reason, but never neither of them."""
    torn: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            state = holder._state
            if (state.model is None) == (state.readiness is Readiness.READY):
                torn.append(state)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        holder.fail("no.")
        holder.swap(model)
    done.set()
    reader.join()
    assert torn == []


def test_a_plain_keras_model_cannot_be_taught(holder: LiveModelHolder) -> None:
    holder.swap(SimpleNamespace(bundle=SimpleNamespace(labels=("a",))))  # type: ignore[arg-type]
    assert holder.labels == ("a",)
    with pytest.raises(NotOffered):
        holder.teachable  # noqa: B018 - raises


def test_an_untrusted_file_is_opened_in_a_sandbox_first(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr(live_model, "run_sandboxed", lambda *arguments, seconds: opened.append(arguments))
    assert open_model_file(model_file, trusted=True).bundle.labels == SHAPES
    assert opened == []
    assert open_model_file(model_file, trusted=False).bundle.labels == SHAPES
    assert opened == [("open", model_file)]


def test_a_file_that_crashes_the_sandbox_is_not_opened(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object, seconds: float) -> None:
        raise SandboxError("The process ended with status -11.")

    monkeypatch.setattr(live_model, "run_sandboxed", crash)
    monkeypatch.setattr(bundles, "read", lambda path: pytest.fail("opened all the same"))
    with pytest.raises(InvalidModel, match=r"shoe_classifier\.h5 is none \(The process ended with status -11"):
        open_model_file(model_file, trusted=False)
