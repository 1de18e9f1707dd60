"""The `.h5` model file: a Keras model with all that serving and retraining need in a group of its own.

It is read, and derived from another, without TensorFlow.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shoe_classifier.errors import InvalidModel
from shoe_classifier.files import replacing
from shoe_classifier.ml import model_format
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.centroid_head import CentroidHead
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.replay_buffer import ReplayBuffer

GROUP = "shoe_classifier"
_WEIGHTS = "model_weights"  # where Keras keeps them
_SMALL = 1000  # numbers; fewer are not worth compressing
_CODE_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "function", "__lambda__")
_PLAIN_NAMES = ("Sequential", "Functional", "Model", "DTypePolicy")
_TRUSTED_MODULES = (
    *(f"keras.{module}." for module in ("layers", "models", "initializers", "regularizers", "constraints")),
    *(f"keras.src.{module}." for module in ("layers", "models", "initializers", "ops")),
)


@dataclass(frozen=True)
class Bundle:
    """The part of a model file that serving needs.

    Attributes:
        version: name of this version; names sort by time.
        parent: the version it was retrained from, or None.
        labels: in output order.
        head: see `head.Head`; of a file in format 2, a `centroid_head.CentroidHead`.
        flatbuffer: the compiled backbone, see `backbone.Backbone`.
        metrics: as `evaluation.evaluate` gives them, on the held-out pictures.
        fingerprint: see `fingerprint`.
        created_at: as `types.utc_now` gives it.
    """

    version: str
    parent: str | None
    labels: tuple[str, ...]
    head: Head | CentroidHead
    flatbuffer: bytes
    metrics: dict[str, Any]
    fingerprint: str
    created_at: str

    @property
    def backbone_sha256(self) -> str:
        """SHA-256 of the compiled backbone, hexadecimal. Features belong to the backbone that computed them."""
        return hashlib.sha256(self.flatbuffer).hexdigest()

    def backbone(self) -> Backbone:
        """Load the compiled backbone. Raises `InvalidModel`, also when the head does not fit it."""
        backbone = Backbone(self.flatbuffer)
        expected = (backbone.feature_count, len(self.labels))
        if self.head.kernel.shape != expected:
            raise InvalidModel(f"Expected a head of shape {expected}; received {self.head.kernel.shape}.")
        return backbone


def new_version() -> str:
    """A name for a version: the time in UTC and four random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


def fingerprint(buffer: ReplayBuffer) -> str:
    """SHA-256, hexadecimal, over the sorted keys of the samples that a model was fitted to."""
    return hashlib.sha256(np.sort(buffer.keys).tobytes()).hexdigest()


def read(path: Path) -> Bundle:
    """Read the part of a model file that serving needs.

    Raises:
        InvalidModel: not a model file of this service, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidModel(f"Expected a model file of this service; {path.name} does not read ({error}).") from error


def _read(file: h5py.File) -> Bundle:
    _refuse_code(file)
    group = file[GROUP]
    model_format.check_format(group)
    about = json.loads(group.attrs["about"])
    head = model_format.read_head(group)
    bundle = Bundle(
        head=head, flatbuffer=group["backbone"][()].tobytes(), **{**about, "labels": tuple(about["labels"])}
    )
    if bundle.backbone_sha256 != group.attrs["backbone_sha256"]:
        raise InvalidModel("Expected the compiled backbone that the file names; received another.")
    return bundle


def read_replay_buffer(path: Path) -> ReplayBuffer:
    """Read the replay buffer of a model file. Raises `InvalidModel`."""
    try:
        with h5py.File(path, "r") as file:
            return model_format.read_buffer(file[GROUP])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InvalidModel(f"Expected a replay buffer in {path.name}; it does not read ({error}).") from error


def attach(path: Path, bundle: Bundle, buffer: ReplayBuffer) -> None:
    """Write the head's weights and the service's group into a Keras `.h5` file that has just been saved."""
    with h5py.File(path, "r+") as file:
        if GROUP in file:
            del file[GROUP]
        _write_keras_head(file, bundle.head)
        _write_group(file.create_group(GROUP), bundle, buffer)
    repack(path)


def repack(path: Path) -> None:
    """Write a Keras `.h5` file again: weights compressed, in half precision where nothing is lost, and no gaps."""
    with replacing(path, durable=False) as part, h5py.File(path, "r") as old, h5py.File(part, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        if GROUP in old:
            old.copy(GROUP, new)
        new.create_group(_WEIGHTS)
        new[_WEIGHTS].attrs.update(old[_WEIGHTS].attrs)
        old[_WEIGHTS].visititems(lambda name, item: _copy_packed(new[_WEIGHTS], name, item))


def _copy_packed(target: h5py.Group, name: str, item: h5py.Group | h5py.Dataset) -> None:
    if isinstance(item, h5py.Group):
        copy: h5py.Group | h5py.Dataset = target.create_group(name)
    elif item.size < _SMALL:
        copy = target.create_dataset(name, data=item[()])
    else:
        data, half = item[()], item[()].astype(np.float16)
        exact = np.array_equal(half.astype(data.dtype), data)
        copy = target.create_dataset(name, data=half if exact else data, compression="gzip", shuffle=True)
    copy.attrs.update(item.attrs)


def derive(source: Path, path: Path, bundle: Bundle, buffer: ReplayBuffer) -> None:
    """Write a new model file with the network of `source` and another head, labels and replay buffer."""
    with h5py.File(source, "r") as old, h5py.File(path, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        old.copy(_WEIGHTS, new)
        _write_keras_head(new, bundle.head)
        _write_group(new.create_group(GROUP), bundle, buffer)


def _write_keras_head(file: h5py.File, head: Head | CentroidHead) -> None:
    config = json.loads(file.attrs["model_config"])
    layer = config["config"]["layers"][-1]
    name = layer["config"]["name"]
    layer["config"]["units"] = head.kernel.shape[1]
    file.attrs["model_config"] = json.dumps(config)
    weights = file[_WEIGHTS][name][name]
    for key, value in (("kernel", head.kernel), ("bias", head.bias)):
        del weights[key]
        weights.create_dataset(key, data=value)


def _write_group(group: h5py.Group, bundle: Bundle, buffer: ReplayBuffer) -> None:
    assert isinstance(bundle.head, Head), "only format 3 is written"
    about = asdict(replace(bundle, head=None, flatbuffer=b""))  # type: ignore[arg-type]
    del about["head"], about["flatbuffer"]
    group.attrs["format"] = model_format.FORMAT
    group.attrs["about"] = json.dumps(about)
    group.attrs["labels"] = json.dumps(bundle.labels)
    group.attrs["input_size"] = bundle.backbone().image_size
    group.attrs["backbone_sha256"] = bundle.backbone_sha256
    group.create_dataset("backbone", data=np.frombuffer(bundle.flatbuffer, np.uint8), compression="gzip")
    model_format.write_head(group, bundle.head)
    model_format.write_buffer(group, buffer)


def check_external(path: Path) -> None:
    """Check a plain Keras file, without opening it in Keras.

    Raises:
        InvalidModel: no Keras model with its layers, one that carries code, or one of this service.
    """
    try:
        with h5py.File(path, "r") as file:
            if GROUP in file:
                raise InvalidModel("It is a model of this service: it knows its labels; unset CLASS_NAMES.")
            _refuse_code(file)
    except (OSError, KeyError, ValueError) as error:
        raise InvalidModel(f"Expected an HDF5 file with the layers and the weights of a model ({error}).") from error


def _refuse_code(file: h5py.File) -> None:
    """Refuse layers that carry code or name modules outside Keras: Keras would run it when it opens the file."""
    config = file.attrs["model_config"]
    _check_layer(json.loads(config if isinstance(config, str) else config.decode()))


def _check_layer(config: Any) -> None:
    if isinstance(config, dict):
        name, module = config.get("class_name"), config.get("module")
        if name in _CODE_LAYERS:
            raise InvalidModel(f"Expected a model without code; received one with a {name} layer.")
        plain = module == "keras" and name in _PLAIN_NAMES
        if isinstance(module, str) and not plain and not f"{module}.".startswith(_TRUSTED_MODULES):
            raise InvalidModel(f"Expected layers of Keras itself; received {str(name)[:80]!r} of {module[:80]!r}.")
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _check_layer(part)
