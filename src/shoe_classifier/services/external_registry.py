"""The model registry of a service whose settings name a plain Keras model."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from shoe_classifier.errors import InvalidModel, StoreUnavailable
from shoe_classifier.files import sha256_of
from shoe_classifier.ml.external_model import ExternalModel
from shoe_classifier.ml.live_model import LiveModelHolder, Model
from shoe_classifier.services.local_registry import LocalModelRegistry
from shoe_classifier.services.model_registry import KeepPolicy, version_row
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.protocols import Store


class ExternalModelRegistry(LocalModelRegistry):
    """Serves the plain Keras model that the settings name, and nothing else.

    Args:
        open_external: opens the file, given its SHA-256.
        marks_live: whether the store is told that the model is live. A shared store is not: other machines do not have
            the file.
    """

    def __init__(
        self,
        files: ModelFiles,
        store: Store,
        holder: LiveModelHolder,
        open_external: Callable[[Path, str], ExternalModel],
        *,
        marks_live: bool,
    ):
        super().__init__(files, store, holder, KeepPolicy(versions=1))
        self._open_external = open_external
        self._marks_live = marks_live

    def _open_live(self) -> Model:
        live = self._files.live
        if not live.is_file():
            raise InvalidModel(f"Expected a plain Keras model at {live.name}; there is none.")
        sha256 = sha256_of(live)
        model = self._open_external(live, sha256)
        with contextlib.suppress(StoreUnavailable):  # the model can be served without its row
            self._store.save_version(version_row(model.bundle, sha256, "candidate"))
        return model

    def _fall_back(self) -> bool:
        return False  # an earlier model of this service is no substitute for the one that the settings name

    def _note_live(self) -> None:
        if self._marks_live:
            super()._note_live()
