from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml import model_format
from shoe_classifier.ml.centroid_head import CentroidHead
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.replay_buffer import ReplayBuffer

FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "shapes_format2.h5"
COLUMNS = ("labels", "held_out", "photo", "shipped", "named", "keys", "latents", "latent_rows")


def some_head() -> Head:
    rng = np.random.default_rng(0)
    kernel, weights = rng.normal(0, 1, (4, 3)).astype(np.float32), rng.normal(0, 1, 4).astype(np.float32)
    return Head(kernel, np.array([1, 2, 3], np.float32), weights, -0.3, np.array([-1, 0, 1], np.float32), 0.7, 0.4)


def some_buffer(count: int = 50) -> ReplayBuffer:
    """Features of dimensions that differ: 0..6, around 3, far beyond 6, below 0, and always 0."""
    rng = np.random.default_rng(0)
    ranges = ((0, 6), (2.9, 3.1), (0, 1000), (-2, 1), (0, 0))
    features = np.stack([rng.uniform(low, high, count) for low, high in ranges], axis=1)
    return ReplayBuffer(
        features=features.astype(np.float16),
        labels=rng.integers(-1, 3, count).astype(np.int16),
        held_out=rng.random(count) < 0.2,
        photo=rng.random(count) < 0.5,
        shipped=rng.random(count) < 0.5,
        named=rng.random(count) < 0.5,
        keys=rng.integers(0, 2**64, count, np.uint64),
        latents=rng.integers(-127, 128, (count // 2, 2, 2, 3), np.int8),
        latent_rows=np.where(np.arange(count) % 2 == 0, np.arange(count) // 2, -1).astype(np.int32),
        latent_scale=0.05,
    )


@pytest.fixture
def group(tmp_path: Path) -> Iterator[h5py.Group]:
    """An empty group of the format that is written."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.create_group("group")
        group.attrs["format"] = model_format.FORMAT
        yield group


@pytest.fixture
def old_group() -> Iterator[h5py.Group]:
    """The group of a file in format 2, that can be changed."""
    with h5py.File(FORMAT_2) as old, h5py.File("changed", "w", driver="core", backing_store=False) as file:
        old.copy("shoe_classifier", file)
        yield file["shoe_classifier"]


def through(group: h5py.Group, buffer: ReplayBuffer) -> ReplayBuffer:
    """Write a buffer and read it."""
    group.pop("replay_buffer", None)
    model_format.write_buffer(group, buffer)
    return model_format.read_buffer(group)


def half_steps(buffer: ReplayBuffer) -> np.ndarray:
    """How far features may be off: half of one of 255 steps, and what is lost by keeping them in half precision."""
    features = buffer.features.astype(np.float32)
    lowest, highest = np.minimum(features.min(axis=0), 0), np.maximum(features.max(axis=0), 0)
    return (highest - lowest) / 255 / 2 + np.abs(features).max(axis=0) * 2.0**-11 + 1e-6


def test_a_head_comes_back_as_it_was(group: h5py.Group) -> None:
    model_format.write_head(group, some_head())
    found = model_format.read_head(group)
    assert isinstance(found, Head)
    for name, value in vars(some_head()).items():
        assert np.array_equal(getattr(found, name), value), name


@pytest.mark.parametrize("count", [50, 1, 0])
def test_a_buffer_comes_back(group: h5py.Group, count: int) -> None:
    buffer = some_buffer(count)
    found = through(group, buffer)
    assert found.latent_scale == 0.05
    for name in COLUMNS:
        given, read = getattr(buffer, name), getattr(found, name)
        assert np.array_equal(read, given), name
        assert read.dtype == given.dtype, name
    assert found.features.dtype == np.float16
    assert found.features.shape == buffer.features.shape
    if count:
        off = np.abs(found.features.astype(np.float32) - buffer.features.astype(np.float32))
        assert (off <= half_steps(buffer)).all()


def test_features_take_a_byte_each(group: h5py.Group) -> None:
    model_format.write_buffer(group, some_buffer())
    assert group["replay_buffer/features"].dtype == np.uint8
    assert group["replay_buffer/features"].compression == "gzip"


def test_saving_again_and_again_does_not_wear_features_down(group: h5py.Group) -> None:
    buffer = some_buffer(200)
    found = buffer
    for _ in range(20):
        found = through(group, found)
    off = np.abs(found.features.astype(np.float32) - buffer.features.astype(np.float32))
    assert (off <= half_steps(buffer)).all()


def test_the_names_of_format_3(group: h5py.Group) -> None:
    """Whatever the attributes are called in Python: once released, files must open."""
    model_format.write_head(group, some_head())
    model_format.write_buffer(group, some_buffer())
    assert set(group["head"]) == {"kernel", "bias", "background_weights", "unknown_thresholds"}
    assert set(group["head"].attrs) == {"temperature", "background_bias", "uncertain_threshold"}
    assert set(group["replay_buffer"]) == {*COLUMNS, "features", "feature_offsets", "feature_steps"}
    assert set(group["replay_buffer"].attrs) == {"latent_scale"}


def test_format_2_reads_all_of_its_samples_as_shipped(old_group: h5py.Group) -> None:
    buffer, stored = model_format.read_buffer(old_group), old_group["memory"]
    assert len(buffer) == 1699
    for name in ("features", "labels", "held_out", "photo", "keys", "latents", "latent_rows"):
        assert np.array_equal(getattr(buffer, name), stored[name][()]), name
    assert buffer.shipped.all()
    assert buffer.named[buffer.labels >= 0].mean() > 0.9
    assert not buffer.named[buffer.labels < 0].any()
    assert buffer.latent_scale == stored.attrs["latent_scale"]


def test_format_2_reads_its_own_kind_of_head(old_group: h5py.Group) -> None:
    head, stored = model_format.read_head(old_group), old_group["head"]
    assert isinstance(head, CentroidHead)
    assert np.array_equal(head.centroids, stored["centres"][()])
    assert np.array_equal(head.background_weights, stored["rejection"][()])
    assert head.background_bias == stored.attrs["rejection_bias"]


@pytest.mark.parametrize("number", [0, 1, 4, 99])
@pytest.mark.parametrize("read", [model_format.check_format, model_format.read_head, model_format.read_buffer])
def test_unknown_formats_are_refused(old_group: h5py.Group, number: int, read: Any) -> None:
    old_group.attrs["format"] = number
    with pytest.raises(InvalidModel, match=f"Expected a model file of format 2 or 3; received {number}"):
        read(old_group)


@pytest.mark.parametrize("name", ["kernel", "bias", "background_weights", "unknown_thresholds"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(group: h5py.Group, name: str, value: float) -> None:
    model_format.write_head(group, some_head())
    group["head"][name][0] = value
    with pytest.raises(InvalidModel, match="finite"):
        model_format.read_head(group)


@pytest.mark.parametrize("name", ["temperature", "background_bias", "uncertain_threshold"])
def test_single_values_that_are_no_numbers_are_refused(group: h5py.Group, name: str) -> None:
    model_format.write_head(group, some_head())
    group["head"].attrs[name] = np.nan
    with pytest.raises(InvalidModel, match="finite"):
        model_format.read_head(group)


@pytest.mark.parametrize("name", ["kernel", "whitening", "centres", "rejection"])
def test_weights_of_format_2_that_are_no_numbers_are_refused(old_group: h5py.Group, name: str) -> None:
    old_group["head"][name][0] = np.nan
    with pytest.raises(InvalidModel, match="finite"):
        model_format.read_head(old_group)
