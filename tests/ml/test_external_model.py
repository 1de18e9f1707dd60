"""Plain Keras models, as people make them elsewhere."""

from pathlib import Path

import h5py
import httpx
import keras
import numpy as np
import pytest

from helpers.pictures import SHAPES, draw, lesson_zip
from helpers.service import make_settings, running
from shoe_classifier.errors import InvalidModel
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import external_model, sandbox
from shoe_classifier.ml.external_model import ExternalModel, open_external
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.sandbox import SandboxError

LABELS = ("a", "b", "c")


def save(path: Path, shape: tuple[int, int, int], *last: keras.Layer, rescaling: bool = False) -> keras.Model:
    """A small network with fixed random weights."""
    keras.utils.set_random_seed(3)
    first = [keras.layers.Rescaling(1 / 255)] if rescaling else []
    body = [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(shape), *first, *body, *last])
    model.save(path)
    return model


def opened(path: Path, labels: tuple[str, ...] = LABELS, input_range: str = "auto") -> ExternalModel:
    return open_external(path, sha256_of(path), labels, input_range, path.parent / "compiled")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile without a sandbox: TensorFlow, which takes seconds to import, is here already."""

    def run(task: str, *arguments: str | Path, seconds: float) -> None:
        try:
            sandbox.TASKS[task](*map(str, arguments))
        except InvalidModel as error:
            raise SandboxError(error.detail) from error

    monkeypatch.setattr(external_model, "run_sandboxed", run)


def picture(model: ExternalModel) -> np.ndarray:
    return decode(draw("Boot", 5, (90, 60)), model.size)


def expected(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return np.asarray(model(inputs[None].astype(np.float32)))[0]


@pytest.mark.usefixtures("in_this_process")
def test_grey_logits_without_rescaling(tmp_path: Path) -> None:
    network = save(tmp_path / "m.h5", (20, 28, 1), keras.layers.Dense(3))
    model = opened(tmp_path / "m.h5")
    assert model.size == (28, 20)
    inputs = picture(model)
    assert inputs.shape == (20, 28, 3)
    logits = expected(network, (inputs @ [0.299, 0.587, 0.114])[..., None] / 255)
    assert np.allclose(
        list(model.classify(inputs).probabilities.values()), np.exp(logits) / np.exp(logits).sum(), atol=1e-4
    )


@pytest.mark.slow
def test_colour_softmax_with_rescaling(tmp_path: Path) -> None:
    network = save(tmp_path / "m.h5", (24, 24, 3), keras.layers.Dense(3, activation="softmax"), rescaling=True)
    model = opened(tmp_path / "m.h5")
    prediction = model.classify(picture(model))
    assert np.allclose(list(prediction.probabilities.values()), expected(network, picture(model)), atol=1e-4)
    assert prediction.decision in ("accepted", "uncertain")
    assert prediction.model_version == model.bundle.version


@pytest.mark.usefixtures("in_this_process")
def test_one_sigmoid_in_another_range(tmp_path: Path) -> None:
    network = save(tmp_path / "m.h5", (24, 24, 3), keras.layers.Dense(1, activation="sigmoid"))
    model = opened(tmp_path / "m.h5", ("no", "yes"), "-1..1")
    share = expected(network, picture(model) / 127.5 - 1)[0]
    assert model.classify(picture(model)).probabilities["yes"] == pytest.approx(share, abs=1e-4)


@pytest.mark.usefixtures("in_this_process")
def test_what_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    save(tmp_path / "m.h5", (24, 24, 3), keras.layers.Dense(3))
    with pytest.raises(InvalidModel, match=r"Expected 3 names in CLASS_NAMES.*received 2"):
        opened(tmp_path / "m.h5", ("a", "b"))
    keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)]).save(tmp_path / "vector.h5")
    with pytest.raises(InvalidModel, match=r"Expected one input of shape.*received \(None, 7\)"):
        opened(tmp_path / "vector.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InvalidModel, match=r"text\.h5 cannot be served"):
        opened(tmp_path / "text.h5")
    assert not list((tmp_path / "compiled").glob("*.part"))


@pytest.mark.usefixtures("in_this_process")
def test_code_is_refused_before_it_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = keras.layers.Lambda(lambda x, path=str(marker): __import__("pathlib").Path(path).touch() or x)
    keras.Sequential([keras.Input((8, 8, 3)), code, keras.layers.Flatten(), keras.layers.Dense(3)]).save(
        tmp_path / "lambda.h5"
    )
    marker.unlink()
    with pytest.raises(InvalidModel, match="without code; received one with a Lambda layer"):
        opened(tmp_path / "lambda.h5")
    assert not marker.exists()
    save(tmp_path / "m.h5", (24, 24, 3), keras.layers.Dense(3))
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("keras.initializers", "subprocess")
    with pytest.raises(InvalidModel, match=r"Expected layers of Keras itself; received .* of 'subprocess'"):
        opened(tmp_path / "m.h5")


@pytest.mark.usefixtures("in_this_process")
def test_a_model_of_this_service_keeps_its_own_names(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(InvalidModel, match="unset CLASS_NAMES"):
        open_external(model_file, "0" * 64, SHAPES, "auto", tmp_path)


@pytest.mark.slow
def test_the_service_predicts_and_says_what_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.h5"
    save(path, (20, 28, 1), keras.layers.Dense(3))
    settings = make_settings(tmp_path, model_path=path, class_names="a, b,c")
    with running(settings) as client:
        answer = client.post("/predict", files={"file": draw("Boot", 1)}).json()
        assert list(answer["probabilities"]) == ["a", "b", "c"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        status = client.get("/status").json()["model"]
        assert status["version"] == answer["model_version"]
        assert "retraining" in status["not_offered"]
        assert client.post("/upload", files={"file": lesson_zip("hat", 3)}).status_code == 201
        for refused in (
            client.post("/retrain"),
            client.post("/explain", files={"file": draw("Boot", 1)}),
            client.get(f"/models/{answer['model_version']}/report.png"),
        ):
            assert_not_offered(refused)
        versions = client.get("/models").json()
        assert [(row["version"], row["state"]) for row in versions] == [(answer["model_version"], "live")]
        assert client.get(f"/models/{answer['model_version']}/file").content == path.read_bytes()


def assert_not_offered(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["code"]) == (409, "not_offered"), response.text


def test_a_broken_one_is_not_replaced_by_another(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"no model")
    with running(make_settings(tmp_path, model_path=tmp_path / "m.h5", class_names="a,b")) as client:
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert "m.h5 cannot be served" in answer.json()["detail"]
