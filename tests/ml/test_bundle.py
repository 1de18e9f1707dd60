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
from shoe_classifier.ml.head import Head
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


def widened(head: Head) -> Head:
    """With one more label, like the first."""
    return replace(
        head,
        kernel=np.concatenate([head.kernel, head.kernel[:, :1]], 1),
        bias=np.append(head.bias, np.float32(0.5)),
        unknown_thresholds=np.append(head.unknown_thresholds, np.float32(0)),
    )


def test_derived_file_has_more_labels_for_keras_too(model_file: Path, tmp_path: Path) -> None:
    import keras

    bundle, buffer = bundles.read(model_file), bundles.read_replay_buffer(model_file)
    assert isinstance(bundle.head, Head)
    wider = replace(bundle, head=widened(bundle.head), labels=(*bundle.labels, "hat"))
    bundles.derive(model_file, tmp_path / "new.h5", wider, buffer)
    model = keras.models.load_model(tmp_path / "new.h5", compile=False)
    picture = decode(draw("Boot", 1), 32)
    prediction = LiveModel(bundles.read(tmp_path / "new.h5")).classify(picture)
    assert list(prediction.probabilities) == [*SHAPES, "hat"]
    expected = model(picture[None].astype(np.float32)).numpy()[0]
    assert np.abs(expected - list(prediction.probabilities.values())).max() < 1e-4


def test_the_names_of_the_file(model_file: Path) -> None:
    """Files of earlier releases must open, so these never change; `test_model_format.py` knows the rest."""
    with h5py.File(model_file) as file:
        assert set(file) == {"model_weights", "shoe_classifier"}
        assert set(file["shoe_classifier"]) == {"backbone", "head", "replay_buffer"}
        assert set(file["shoe_classifier"].attrs) == {"format", "about", "labels", "input_size", "backbone_sha256"}
        assert file["shoe_classifier"].attrs["format"] == 3


def weights_of(path: Path) -> dict[str, h5py.Dataset]:
    """All Keras weights of a file, by name, in single precision."""
    found = {}
    with h5py.File(path) as file:
        file["model_weights"].visititems(
            lambda name, item: found.update({name: item[()].astype(np.float32)}) if hasattr(item, "shape") else None
        )
    return found


def as_keras_saves(source: Path, path: Path, inexact: str) -> Path:
    """Copy a file with its weights as Keras writes them, single precision and not compressed, and without our group.

    Those of the layer `inexact` do not fit into half precision.
    """
    with h5py.File(source) as old, h5py.File(path, "w") as new:
        new.attrs.update(old.attrs)
        old.copy("model_weights", new)
        for name, values in weights_of(source).items():
            attributes = dict(new["model_weights"][name].attrs)
            del new["model_weights"][name]
            scale = np.float32(1 / 3 if name == inexact else 1)
            new["model_weights"].create_dataset(name, data=values * scale).attrs.update(attributes)
    return path


def test_repacking_makes_the_file_smaller_and_changes_no_weight(model_file: Path, tmp_path: Path) -> None:
    inexact = "block2_project/block2_project/kernel"
    path = as_keras_saves(model_file, tmp_path / "saved.h5", inexact)
    before, bytes_before = weights_of(path), path.stat().st_size
    bundles.repack(path)
    after = weights_of(path)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert path.stat().st_size < bytes_before - 10_000  # of which 28 KB are kernels of 1000 weights or more
    with h5py.File(path) as file, h5py.File(model_file) as expected:
        packed = file["model_weights"]
        assert packed[inexact].dtype == np.float32
        assert packed["block3_expand/block3_expand/kernel"].dtype == np.float16
        assert {packed[name].compression for name, values in after.items() if values.size >= 1000} == {"gzip"}
        assert packed.attrs.keys() == expected["model_weights"].attrs.keys()


def test_attaching_makes_a_model_file_of_what_keras_saved(model_file: Path, tmp_path: Path) -> None:
    path = as_keras_saves(model_file, tmp_path / "saved.h5", "none")
    bundles.attach(path, bundles.read(model_file), bundles.read_replay_buffer(model_file))
    assert bundles.read(path).labels == SHAPES
    assert len(bundles.read_replay_buffer(path)) == len(bundles.read_replay_buffer(model_file))
    with h5py.File(path) as file:
        assert file["model_weights/block3_expand/block3_expand/kernel"].dtype == np.float16


def test_attaching_again_replaces_what_was_attached(model_file: Path, tmp_path: Path) -> None:
    path, bundle = changed(model_file, tmp_path), bundles.read(model_file)
    buffer = bundles.read_replay_buffer(model_file)
    bundles.attach(path, replace(bundle, version="second"), buffer[np.arange(200)])
    assert bundles.read(path).version == "second"
    assert len(bundles.read_replay_buffer(path)) == 200
    assert path.stat().st_size < model_file.stat().st_size  # and leaves no gap


FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "shapes_format2.h5"


def two_shapes() -> np.ndarray:
    """A circle over a square, as PNG, which all versions of its library read alike."""
    circle, square = (
        decode(draw(label, seed, (32, 32), kind="PNG"), 32) for label, seed in (("Boot", 2), ("Sandal", 8))
    )
    return np.minimum(circle, square)


def test_format_2_predicts_as_the_release_that_wrote_it() -> None:
    live = LiveModel(bundles.read(FORMAT_2))
    assert live.bundle.labels == SHAPES
    prediction = live.classify(two_shapes())
    assert list(prediction.probabilities.values()) == pytest.approx([0.760113, 0.239887, 0.0], abs=1e-3)
    assert prediction.decision == "unknown"
    decisions = {name: live.classify(decode(draw(name, 500), 32)).decision for name in (*SHAPES, "hat")}
    assert decisions == {**dict.fromkeys(SHAPES, "accepted"), "hat": "unknown"}


def test_no_file_is_too_damaged_for_a_clear_error(model_file: Path, tmp_path: Path) -> None:
    data = model_file.read_bytes()
    for part in (0, 10, len(data) // 2, len(data) - 10):
        path = tmp_path / "cut.h5"
        path.write_bytes(data[:part])
        with pytest.raises(InvalidModel, match="Expected a model file of this service"):
            bundles.read(path)


def test_unknown_formats_are_refused(model_file: Path, tmp_path: Path) -> None:
    path = changed(model_file, tmp_path)
    with h5py.File(path, "r+") as file:
        file["shoe_classifier"].attrs["format"] = 4
    for read in (bundles.read, bundles.read_replay_buffer):
        with pytest.raises(InvalidModel, match="Expected a model file of format 2 or 3; received 4"):
            read(path)


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
