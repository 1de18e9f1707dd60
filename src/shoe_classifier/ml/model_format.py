"""How a head and a replay buffer lie in the group of a model file: format 3, and format 2, which is only read.

A format that has been released is never changed. A change is a new format, and old files stay readable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml.centroid_head import CentroidHead
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.replay_buffer import ReplayBuffer

FORMAT = 3
_OLD_FORMAT = 2
_ROWS_AT_ONCE = 500

_HEAD_ARRAYS = ("kernel", "bias", "background_weights", "unknown_thresholds")
_HEAD_NUMBERS = ("temperature", "background_bias", "uncertain_threshold")
_BUFFER_COLUMNS = (
    "labels",
    "held_out",
    "photo",
    "shipped",
    "named",
    "keys",
    "latents",
    "latent_rows",
)  # as they are; features are packed
_SINCE_FORMAT_3 = ("shipped", "named")

# Format 2 is older than some of the attributes' names.
_OLD_HEAD_ARRAYS: Mapping[str, str] = {
    "kernel": "kernel",
    "bias": "bias",
    "mean": "mean",
    "whitening": "whitening",
    "centroids": "centres",
    "centroid_labels": "centre_labels",
    "background_weights": "rejection",
    "unknown_thresholds": "unknown_thresholds",
}
_OLD_HEAD_NUMBERS: Mapping[str, str] = {
    "temperature": "temperature",
    "background_bias": "rejection_bias",
    "uncertain_threshold": "uncertain_threshold",
}


def check_format(group: h5py.Group) -> int:
    """Return the format of a group. Raises `InvalidModel` if it is not one that can be read."""
    found = int(group.attrs["format"])
    if found not in (_OLD_FORMAT, FORMAT):
        raise InvalidModel(f"Expected a model file of format {_OLD_FORMAT} or {FORMAT}; received {found}.")
    return found


def read_head(group: h5py.Group) -> Head | CentroidHead:
    """Read the head from the group of either format. Raises `InvalidModel` if it has weights that are not finite."""
    stored = group["head"]
    if check_format(group) == _OLD_FORMAT:
        arrays: dict[str, Any] = {name: stored[key][()] for name, key in _OLD_HEAD_ARRAYS.items()}
        numbers: dict[str, Any] = {name: float(stored.attrs[key]) for name, key in _OLD_HEAD_NUMBERS.items()}
        head: Head | CentroidHead = CentroidHead(**arrays, **numbers)
    else:
        arrays = {name: stored[name][()] for name in _HEAD_ARRAYS}
        numbers = {name: float(stored.attrs[name]) for name in _HEAD_NUMBERS}
        head = Head(**arrays, **numbers)
    if not all(np.isfinite(value).all() for value in (*arrays.values(), *numbers.values())):
        raise InvalidModel("Expected finite weights in the head; received NaN or infinity.")
    return head


def write_head(group: h5py.Group, head: Head) -> None:
    """Write a head into the group of a format 3 file."""
    stored = group.create_group("head")
    for name in _HEAD_ARRAYS:
        stored.create_dataset(name, data=getattr(head, name))
    for name in _HEAD_NUMBERS:
        stored.attrs[name] = getattr(head, name)


def read_buffer(group: h5py.Group) -> ReplayBuffer:
    """Read the replay buffer from the group of either format."""
    if check_format(group) == _OLD_FORMAT:
        stored = group["memory"]
        columns = {name: stored[name][()] for name in ("features", *_BUFFER_COLUMNS) if name not in _SINCE_FORMAT_3}
        # That format does not tell, so all samples are kept, and what its own head names is what counts.
        columns["shipped"] = np.ones(len(columns["labels"]), bool)
        logits = read_head(group).logits(columns["features"].astype(np.float32))
        columns["named"] = logits.argmax(axis=1) == columns["labels"]
    else:
        stored = group["replay_buffer"]
        columns = {name: stored[name][()] for name in _BUFFER_COLUMNS}
        columns["features"] = _unpacked(
            stored["features"][()], stored["feature_steps"][()], stored["feature_offsets"][()]
        )
    return ReplayBuffer(**columns, latent_scale=float(stored.attrs["latent_scale"]))


def write_buffer(group: h5py.Group, buffer: ReplayBuffer) -> None:
    """Write a replay buffer into the group of a format 3 file. Features are rounded to 256 steps of each dimension."""
    stored = group.create_group("replay_buffer")
    stored.attrs["latent_scale"] = buffer.latent_scale
    offsets = buffer.features.min(axis=0, initial=0.0).astype(np.float32)  # pooled ReLU6: 0..6
    highest = buffer.features.max(axis=0, initial=0.0).astype(np.float32)
    steps = np.maximum(highest - offsets, np.float32(1e-6)) / np.float32(255)
    stored.create_dataset("feature_offsets", data=offsets)
    stored.create_dataset("feature_steps", data=steps)
    _write_packed(stored, "features", _packed(buffer.features, steps, offsets))
    for name in _BUFFER_COLUMNS:
        _write_packed(stored, name, getattr(buffer, name))


def _packed(features: np.ndarray, steps: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Features `float16 (n, d)` as multiples of steps above offsets, both `float32 (d,)`: `uint8 (n, d)`."""
    packed = np.empty(features.shape, np.uint8)
    for rows in _blocks(len(features)):
        packed[rows] = np.rint((features[rows].astype(np.float32) - offsets) / steps)
    return packed


def _unpacked(packed: np.ndarray, steps: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The reverse of `_packed`, but for the rounding."""
    features = np.empty(packed.shape, np.float16)
    for rows in _blocks(len(packed)):
        features[rows] = packed[rows].astype(np.float32) * steps + offsets
    return features


def _blocks(count: int) -> Iterator[slice]:
    """Rows that are in single precision at one time; all of them would take 60 MB beside what serves."""
    return (slice(start, start + _ROWS_AT_ONCE) for start in range(0, count, _ROWS_AT_ONCE))


def _write_packed(group: h5py.Group, name: str, data: np.ndarray) -> None:
    packed = {"compression": "gzip"} if data.size else {}  # HDF5 cannot compress an empty dataset
    group.create_dataset(name, data=data, **packed)
