import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.pictures import SHAPES, draw
from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode


def test_file_says_everything_about_itself(model_file: Path) -> None:
    bundle, buffer = bundles.read(model_file), bundles.read_replay_buffer(model_file)
    assert bundle.labels == SHAPES
    assert bundle.parent is None
    assert bundle.metrics["samples"] == (buffer.held_out & (buffer.labels >= 0)).sum()
    assert bundle.fingerprint == bundles.fingerprint(buffer)
    with h5py.File(model_file) as file:
        assert json.loads(file["shoe_classifier"].attrs["labels"]) == list(SHAPES)
        assert file["shoe_classifier"].attrs["input_size"] == 32


def test_keras_opens_it_and_gives_the_same_probabilities(model_file: Path) -> None:
    import keras

    model = keras.models.load_model(model_file, compile=False)
    live = LiveModel(bundles.read(model_file))
    pictures = np.stack([decode(draw(label, seed), 32) for label in SHAPES for seed in range(500, 504)])
    expected = model(pictures.astype(np.float32)).numpy()
    ours = [list(live.classify(picture).probabilities.values()) for picture in pictures]
    assert np.abs(expected - ours).max() < 1e-4


def test_derived_file_has_more_labels_for_keras_too(model_file: Path, tmp_path: Path) -> None:
    import keras

    bundle, buffer = bundles.read(model_file), bundles.read_replay_buffer(model_file)
    head = bundle.head
    wider = replace(
        head, kernel=np.concatenate([head.kernel, head.kernel[:, :1]], 1), bias=np.concatenate([head.bias, [0.5]])
    )
    bundles.derive(model_file, tmp_path / "new.h5", replace(bundle, head=wider, labels=(*bundle.labels, "hat")), buffer)
    model = keras.models.load_model(tmp_path / "new.h5", compile=False)
    picture = decode(draw("Boot", 1), 32)
    prediction = LiveModel(bundles.read(tmp_path / "new.h5")).classify(picture)
    assert list(prediction.probabilities) == [*SHAPES, "hat"]
    expected = model(picture[None].astype(np.float32)).numpy()[0]
    assert np.abs(expected - list(prediction.probabilities.values())).max() < 1e-4


def test_the_file_has_the_names_of_format_2(model_file: Path) -> None:
    """Whatever the attributes are called in Python: files of earlier releases must open, and theirs open these."""
    with h5py.File(model_file) as file:
        group = file["shoe_classifier"]
        assert set(group) == {"backbone", "head", "memory"}
        assert set(group.attrs) == {"format", "about", "labels", "input_size", "backbone_sha256"}
        assert set(group["head"]) == {
            *("kernel", "bias", "mean", "whitening"),
            *("centres", "centre_labels", "rejection", "unknown_thresholds"),
        }
        assert set(group["head"].attrs) == {"temperature", "rejection_bias", "uncertain_threshold"}
        columns = {"features", "labels", "held_out", "photo", "keys", "latents", "latent_rows"}
        assert set(group["memory"]) == columns
        assert set(group["memory"].attrs) == {"latent_scale"}


def test_no_file_is_too_damaged_for_a_clear_error(model_file: Path, tmp_path: Path) -> None:
    data = model_file.read_bytes()
    for part in (0, 10, len(data) // 2, len(data) - 10):
        path = tmp_path / "cut.h5"
        path.write_bytes(data[:part])
        with pytest.raises(InvalidModel, match="Expected a model file of this service"):
            bundles.read(path)


def test_foreign_hdf5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["numbers"] = [1, 2, 3]
    with pytest.raises(InvalidModel):
        bundles.read(tmp_path / "x.h5")


def changed(model_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "changed.h5"
    shutil.copy(model_file, path)
    return path


def test_code_in_layers_is_refused(model_file: Path, tmp_path: Path) -> None:
    path = changed(model_file, tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"ReLU"', '"Lambda"')
    with pytest.raises(InvalidModel, match="without code"):
        bundles.read(path)


def test_not_a_number_in_the_head_is_refused(model_file: Path, tmp_path: Path) -> None:
    path = changed(model_file, tmp_path)
    with h5py.File(path, "r+") as file:
        file["shoe_classifier/head/kernel"][0, 0] = np.nan
    with pytest.raises(InvalidModel, match="finite"):
        bundles.read(path)


def test_another_backbone_is_refused(model_file: Path, tmp_path: Path) -> None:
    path = changed(model_file, tmp_path)
    with h5py.File(path, "r+") as file:
        file["shoe_classifier/backbone"][100] ^= 1
    with pytest.raises(InvalidModel, match="compiled backbone"):
        bundles.read(path)


def test_a_head_that_does_not_fit_the_backbone_is_refused(model_file: Path) -> None:
    bundle = bundles.read(model_file)
    with pytest.raises(InvalidModel, match="Expected a head of shape"):
        replace(bundle, labels=("one",)).backbone()
    broken = replace(bundle, flatbuffer=hashlib.sha256(b"x").digest())
    with pytest.raises(InvalidModel, match="LiteRT"):
        broken.backbone()
