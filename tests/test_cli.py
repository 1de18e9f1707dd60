import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.command import run
from helpers.model import small_config
from helpers.pictures import SHAPES, draw, lesson_zip, zip_of
from shoe_classifier.cli import app
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.settings import Settings

ROOT = Path(__file__).parent.parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.zip"
    path.write_bytes(zip_of({f"{label}/{i}.jpg": draw(label, 700 + i) for label in SHAPES for i in range(30)}))
    return path


def test_predict(settings: Settings, tmp_path: Path) -> None:
    name = f"{'a long name of a picture ' * 8}.jpg"
    (tmp_path / "more" / "deeper").mkdir(parents=True)
    (tmp_path / "more" / "notes.md").write_text("no picture")
    (tmp_path / name).write_bytes(draw("Boot", 1))
    (tmp_path / "more" / "deeper" / "shoe.JPG").write_bytes(draw("Shoe", 1))
    (tmp_path / "text.jpg").write_bytes(b"text")
    good = run(tmp_path, "predict", name, "more")
    assert good.returncode == 0, good.stderr
    first, second = good.stdout.splitlines()
    assert first.startswith("Boot ") and first.endswith(f"  {name}")
    assert second.startswith("Shoe ") and second.endswith("  more/deeper/shoe.JPG")
    bad = run(tmp_path, "predict", "more", "text.jpg", "--json")
    assert bad.returncode == 1
    shoe, text = map(json.loads, bad.stdout.splitlines())
    assert (shoe["picture"], shoe["predicted_class"], shoe["decision"]) == ("more/deeper/shoe.JPG", "Shoe", "accepted")
    assert set(shoe["probabilities"]) == set(SHAPES)
    assert (text["picture"], text["error"]["code"]) == ("text.jpg", "invalid_image")


def test_predict_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(tmp_path, "predict", "empty")
    assert (result.returncode, result.stderr) == (1, "Expected pictures; found none in empty.\n")


def test_export(settings: Settings, tmp_path: Path) -> None:
    version = bundles.read(settings.live_model).version
    (tmp_path / "out").mkdir()
    result = run(tmp_path, "export", version, "--format", "tflite", "--out", "out/model.tflite")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "model.tflite").read_bytes()[4:8] == b"TFL3"
    assert "the same label for all of" in result.stdout


def test_evaluate(settings: Settings, tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, "evaluate", data, "--out", "report")
    assert result.returncode == 0, result.stderr
    for name in ("report.png", "mistakes.png"):
        with Image.open(tmp_path / "report" / name) as picture:
            assert picture.format == "PNG"
    assert "95 % interval" in result.stdout
    assert "Sandal" in result.stdout
    assert "accuracy" in result.stdout
    (tmp_path / "other.zip").write_bytes(lesson_zip("hat", 3))
    other = run(tmp_path, "evaluate", "other.zip")
    assert other.returncode == 1
    assert "received one of 'hat'" in other.stderr


def test_benchmark_few_shot(settings: Settings, tmp_path: Path) -> None:
    for name, start in (("train", 0), ("test", 500)):
        lesson = {f"{label}/{i}.jpg": draw(label, start + i) for label in ("hat", "Boot") for i in range(12)}
        (tmp_path / f"{name}.zip").write_bytes(zip_of(lesson))
    result = run(tmp_path, "benchmark", "few-shot", "train.zip", "test.zip", "--shots", "2,10", "--json")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["shots"], row["tested"]) for row in rows] == [(2, 24), (10, 24)]
    for shots in ("0", "1,x", ""):
        wrong = run(tmp_path, "benchmark", "few-shot", "train.zip", "test.zip", "--shots", shots)
        assert wrong.returncode == 1
        assert f"received {shots!r}" in wrong.stderr


def test_train_leaves_the_live_model_alone() -> None:
    text = CliRunner().invoke(app, ["train", "--help"]).output
    assert "models/trained.h5" in text
    assert "models/shoe_classifier.h5" not in text


@pytest.mark.slow
def test_train_with_everything(tmp_path: Path, data: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, so that the network can be a small one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shoe_classifier.ml.training.TrainingConfig", small_config())
    (tmp_path / "photos.zip").write_bytes(zip_of({f"{s}/{i}.jpg": draw(s, 900 + i) for s in SHAPES for i in range(8)}))
    (tmp_path / "backgrounds.zip").write_bytes(lesson_zip("stripes", 30))
    (tmp_path / "exclude.zip").write_bytes(lesson_zip("stripes", 5))
    options = ["--size", "32", "--photos", "photos.zip", "--backgrounds", "backgrounds.zip", "--exclude", "exclude.zip"]
    out = tmp_path / "models" / "shoe_classifier.h5"
    command = ["train", str(data), "--out", str(out), "--start", str(model_file), "--epochs", "1", "--steps", "1"]
    result = CliRunner().invoke(app, [*command, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "held-out" in result.output
    (tmp_path / "boot.jpg").write_bytes(draw("Boot", 1))
    assert run(tmp_path, "predict", "boot.jpg").returncode == 0


def test_openapi_is_the_committed_document(tmp_path: Path) -> None:
    result = run(tmp_path, "openapi")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["train", "none.zip"], ["predict", "none.jpg"], ["train", "one.zip"], ["retrain", "--mode", "other"]],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "one.zip").write_bytes(lesson_zip("hat", 3))
    result = run(tmp_path, *arguments)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
