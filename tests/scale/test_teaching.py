from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from helpers.pictures import SHAPES, draw
from shoe_classifier.cli import app
from shoe_classifier.errors import InvalidRequest
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.live_model import open_model_file
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.replay_buffer import keys_of
from shoe_classifier.scale.teaching import fair_share, teach
from shoe_classifier.settings import Settings


@pytest.fixture
def lesson(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of stripes, which are new to the model, and of shapes that it knows."""
    for label in (*SHAPES, "Stripes"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for seed in range(40):
            (tmp_path / "pictures" / label / f"{seed}.jpg").write_bytes(draw(label, 300 + seed))
    monkeypatch.chdir(tmp_path)
    run("features", "pictures", "features", "--actors", "1")
    return tmp_path / "features"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["scale", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_head_is_fitted_to_features(lesson: Path, settings: Settings) -> None:
    before = settings.live_model.read_bytes()
    shown = run("teach", "features")
    assert "Learned 160 of 160 pictures" in shown
    taught = open_model_file(Path("models/taught.h5"), trusted=True)
    assert taught.bundle.labels == (*SHAPES, "Stripes")
    hits = [taught.classify(decode(draw("Stripes", seed), taught.size)).predicted_class for seed in range(20)]
    assert hits.count("Stripes") >= 18
    buffer = bundles.read_replay_buffer(Path("models/taught.h5"))
    of_lesson = ~buffer.shipped
    assert buffer.has_latent[of_lesson].any()
    assert settings.live_model.read_bytes() == before


def test_of_too_many_pictures_a_fair_share_is_learned(lesson: Path, settings: Settings) -> None:
    taught = teach(str(lesson), Path("part.h5"), settings, lambda _: None, most=100)
    assert (taught.pictures, taught.of) == (100, 160)
    counts = {name: figures["support"] for name, figures in taught.evidence.learned["per_class"].items()}
    assert len(counts) == 4


def test_a_worse_model_is_not_written(lesson: Path, tmp_path: Path) -> None:
    for label, other in (("Boot", "Shoe"), ("Shoe", "Boot")):  # both ways round
        for path in (tmp_path / "pictures" / label).iterdir():
            path.rename(tmp_path / "pictures" / f"{other}-{path.name}")
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    for path in (tmp_path / "pictures").glob("*-*"):
        label, _, name = path.name.partition("-")
        (swapped / label).mkdir(exist_ok=True)
        path.rename(swapped / label / name)
    run("features", "swapped", "wrong", "--actors", "1")
    result = CliRunner().invoke(app, ["scale", "teach", "wrong", "--out", "wrong.h5"])
    assert (result.exit_code, "It is worse" in result.output) == (1, True)
    assert not Path("wrong.h5").exists()
    assert list(tmp_path.glob("tmp*")) == []
    assert "is in wrong.h5" in run("teach", "wrong", "--out", "wrong.h5", "--force")


def test_without_features(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match="there are none"):
        teach(str(tmp_path / "none"), tmp_path / "out.h5", settings, lambda _: None, most=100)


def test_a_fair_share() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
    keys = keys_of([f"{number * 7919 % 104729:064x}"[::-1] for number in range(73)])
    chosen = fair_share(labels, keys, 23)
    assert np.bincount(labels[chosen]).tolist() == [10, 3, 10]
    assert set(fair_share(labels, keys, 15)) <= set(chosen)  # those that a smaller buffer would keep
    assert len(fair_share(labels, keys, 1000)) == 73
