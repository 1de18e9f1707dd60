"""The `.h5` file: a Keras model with everything about itself in one more group. Read and derived without TensorFlow."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.replay_buffer import ReplayBuffer

GROUP = "shoe_classifier"
FORMAT = 2
_ARRAYS = ("kernel", "bias", "mean", "whitening", "centres", "centre_labels", "rejection", "unknown_thresholds")
_CODE_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "function", "__lambda__")
_PLAIN_NAMES = ("Sequential", "Functional", "Model", "DTypePolicy")
_TRUSTED_MODULES = (
    *(f"keras.{room}." for room in ("layers", "models", "initializers", "regularizers", "constraints")),
    *(f"keras.src.{room}." for room in ("layers", "models", "initializers", "ops")),
)


@dataclass(frozen=True)
class Bundle:
    """What serving needs of a model file.

    Attributes:
        version: name of this version; sorts by time.
        parent: the version that it was taught from, or None.
        labels: in output order.
        head: see `head.Head`.
        flatbuffer: the compiled backbone.
        metrics: as `evaluation.evaluate` gives them, on the held-out pictures.
        fingerprint: SHA-256 over the keys of all samples in the memory.
        created_at: ISO 8601, UTC.
    """

    version: str
    parent: str | None
    labels: tuple[str, ...]
    head: Head
    flatbuffer: bytes
    metrics: dict[str, Any]
    fingerprint: str
    created_at: str

    def engine(self) -> Backbone:
        """A new engine for this backbone. Raises `InvalidModel`."""
        engine = Backbone(self.flatbuffer)
        if engine.width != self.head.kernel.shape[0] or self.head.kernel.shape[1] != len(self.labels):
            raise InvalidModel(
                f"Expected a head of shape ({engine.width}, {len(self.labels)}); received {self.head.kernel.shape}."
            )
        return engine


def new_version() -> str:
    """A name for a version: the time in UTC and four random digits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


def fingerprint(memory: ReplayBuffer) -> str:
    """SHA-256 over the sorted keys of the pictures that a model was taught with."""
    return hashlib.sha256(np.sort(memory.keys).tobytes()).hexdigest()


def read(path: Path) -> Bundle:
    """Read what serving needs.

    Raises:
        InvalidModel: not a model file of this service, or a damaged one.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidModel(f"Expected a model file of this service; {path.name} does not read ({error}).") from error


def _read(file: h5py.File) -> Bundle:
    _refuse_code(file)
    group = file[GROUP]
    if int(group.attrs["format"]) != FORMAT:
        raise InvalidModel(f"Expected a model file of format {FORMAT}; received {int(group.attrs['format'])}.")
    about = json.loads(group.attrs["about"])
    numbers = {item.name: group["head"].attrs[item.name] for item in fields(Head) if item.name not in _ARRAYS}
    values: dict[str, Any] = {name: group["head"][name][()] for name in _ARRAYS}
    values |= {name: float(number) for name, number in numbers.items()}
    head = Head(**values)
    if not all(np.isfinite(getattr(head, name)).all() for name in _ARRAYS):
        raise InvalidModel("Expected finite weights in the head; received NaN or infinity.")
    flatbuffer = group["backbone"][()].tobytes()
    if hashlib.sha256(flatbuffer).hexdigest() != group.attrs["backbone_sha256"]:
        raise InvalidModel("Expected the compiled backbone that the file names; received another.")
    return Bundle(head=head, flatbuffer=flatbuffer, **{**about, "labels": tuple(about["labels"])})


def read_replay_buffer(path: Path) -> ReplayBuffer:
    """Read the replay memory of a model file. Raises `InvalidModel`."""
    try:
        with h5py.File(path, "r") as file:
            group = file[GROUP]["memory"]
            columns = {item.name: group[item.name][()] for item in fields(ReplayBuffer) if item.name != "latent_scale"}
            return ReplayBuffer(**columns, latent_scale=float(group.attrs["latent_scale"]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InvalidModel(f"Expected a replay memory in {path.name}; it does not read ({error}).") from error


def attach(path: Path, bundle: Bundle, memory: ReplayBuffer) -> None:
    """Write the head's weights and the service's group into a Keras `.h5` file that has just been saved."""
    with h5py.File(path, "r+") as file:
        if GROUP in file:
            del file[GROUP]
        _write_keras_head(file, bundle.head)
        _write_group(file.create_group(GROUP), bundle, memory)


def derive(source: Path, path: Path, bundle: Bundle, memory: ReplayBuffer) -> None:
    """Write a new model file with the network of `source` and another head, labels and memory."""
    with h5py.File(source, "r") as old, h5py.File(path, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        old.copy("model_weights", new)
        _write_keras_head(new, bundle.head)
        _write_group(new.create_group(GROUP), bundle, memory)


def _write_keras_head(file: h5py.File, head: Head) -> None:
    config = json.loads(file.attrs["model_config"])
    layer = config["config"]["layers"][-1]
    name = layer["config"]["name"]
    layer["config"]["units"] = head.kernel.shape[1]
    file.attrs["model_config"] = json.dumps(config)
    weights = file["model_weights"][name][name]
    for key, value in (("kernel", head.kernel), ("bias", head.bias)):
        del weights[key]
        weights.create_dataset(key, data=value)


def _write_group(group: h5py.Group, bundle: Bundle, memory: ReplayBuffer) -> None:
    about = asdict(replace(bundle, head=None, flatbuffer=b""))  # type: ignore[arg-type]
    del about["head"], about["flatbuffer"]
    group.attrs["format"] = FORMAT
    group.attrs["about"] = json.dumps(about)
    group.attrs["labels"] = json.dumps(bundle.labels)
    group.attrs["input_size"] = bundle.engine().side
    group.attrs["backbone_sha256"] = hashlib.sha256(bundle.flatbuffer).hexdigest()
    group.create_dataset("backbone", data=np.frombuffer(bundle.flatbuffer, np.uint8))
    head = group.create_group("head")
    for item in fields(Head):
        if item.name in _ARRAYS:
            head.create_dataset(item.name, data=getattr(bundle.head, item.name))
        else:
            head.attrs[item.name] = getattr(bundle.head, item.name)
    saved = group.create_group("memory")
    saved.attrs["latent_scale"] = memory.latent_scale
    for item in fields(ReplayBuffer):
        if item.name != "latent_scale":
            packed = {"compression": "gzip", "shuffle": False} if item.name == "latents" and len(memory.latents) else {}
            saved.create_dataset(item.name, data=getattr(memory, item.name), **packed)


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
    """Refuse layers that carry code, or name some: Keras would run it when it opens the file."""
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
