"""The model registry of a single machine: its live file decides which version is live, and the store follows it."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from shoe_classifier.errors import InvalidModel
from shoe_classifier.files import sha256_of
from shoe_classifier.ml.live_model import Model, open_model_file
from shoe_classifier.services.model_registry import identity_of, version_row
from shoe_classifier.services.registry_base import RegistryBase
from shoe_classifier.types import UNPUBLISHED, ModelVersion, RetrainJob

logger = logging.getLogger(__name__)


class LocalModelRegistry(RegistryBase):
    """See `ModelRegistry`. The live file is replaced first; if the store does not accept that, it is put back."""

    default_patience = 30.0  # seconds, for a database that another process has locked

    def restore(self) -> None:
        """Serve the live file or, if it does not load, the newest archived version that does."""
        self._files.remove_candidates()
        self._files.install_shipped()
        with self._lock:
            identity = identity_of(self._files.live)
            try:
                model = self._open_live()
            except (InvalidModel, OSError) as error:
                self._do_without_live(error, identity)
            else:
                self._serve(model, identity)
                self._note_live()
        self.remove_unpublished()

    def _do_without_live(self, error: InvalidModel | OSError, identity: tuple[int, int] | None) -> None:
        """Serve an archived version. Without one, say why no model serves, or raise an `OSError`, which may pass."""
        if self._fall_back():
            logger.error("The live model did not load: %s", error)
        elif isinstance(error, OSError):
            raise error
        else:
            self._identity = identity
            self._holder.fail(error.detail)

    def follow(self) -> None:
        """Do nothing: no other machine decides which version is live."""

    def was_published(self, job: RetrainJob) -> bool:
        """See `ModelRegistry`. The version is live once its file is."""
        row = self._store.version(job.model_version) if job.model_version else None
        return row is not None and self._files.live.is_file() and sha256_of(self._files.live) == row.sha256

    def _switch(self, candidate: Path, record: Callable[[], None]) -> None:
        with self._replaced(candidate):
            record()

    @contextlib.contextmanager
    def _replaced(self, candidate: Path) -> Iterator[None]:
        """Make a candidate the live file and serve it. If the block fails, the previous version is put back."""
        previous = self._holder.live
        model, identity = open_model_file(candidate, trusted=True), identity_of(candidate)
        try:
            self._files.replace_live(candidate, previous.bundle.version)
            self._serve(model, identity)
            yield
        except BaseException:  # whatever it was, the previous version must be back before it is raised again
            if not candidate.exists():  # it has taken the place of the live file
                self._put_back(previous)
            raise

    def _put_back(self, previous: Model) -> None:
        try:
            self._files.put_back(previous.bundle.version)
        except OSError:  # the previous model serves all the same, and the caller raises the first failure
            logger.exception("The file of version %s could not be put back.", previous.bundle.version)
        self._serve(previous, identity_of(self._files.live))

    def _on_replaced(self, identity: tuple[int, int]) -> None:
        try:
            model = self._open_live()
        except (InvalidModel, OSError) as error:
            logger.error("The live file was replaced by one that does not load: %s", error)
            return
        if model.bundle.version != self._serving:
            self._serve(model, identity)
            self._note_live()

    def _open_live(self) -> Model:
        """Open the live file, and keep a row of it. Raises `InvalidModel`."""
        live = self._files.live
        if not live.is_file():
            found = "something else is there" if live.exists() else "there is none"
            raise InvalidModel(
                f"Expected a model file at {live.name}; {found}. Put one there, as `train` does: it is then served."
            )
        sha256 = sha256_of(live)
        written_here = self._store.version_with(sha256) is not None
        model = open_model_file(live, trusted=written_here)
        row = self._store.version(model.bundle.version)
        if row is not None and row.sha256 != sha256:
            raise InvalidModel(f"Expected version {row.version} as it was published; {live.name} has changed since.")
        if not written_here:
            self._store.save_version(version_row(model.bundle, sha256, "candidate"))
        return model

    def _fall_back(self) -> bool:
        """Make the newest archived version that loads the live one; return False when there is none."""
        for row in self._store.versions():
            file = self._files.file_of(row.version)
            if row.state not in UNPUBLISHED and _is_whole(file, row.sha256):
                self._go_back_to(row)
                return True
        return False

    def _go_back_to(self, row: ModelVersion) -> None:
        logger.warning("Going back to version %s.", row.version)
        model, identity = open_model_file(self._files.file_of(row.version), trusted=True), identity_of(self._files.live)
        try:
            identity = self._copy_to_live(row.version)
        except OSError as error:  # such as a full disk, or a folder in its place
            logger.error("Its archived file is served, because the live file could not be replaced: %s", error)
        self._serve(model, identity)
        self._note_live()

    def _copy_to_live(self, version: str) -> tuple[int, int] | None:
        candidate = self._files.copy_archived(version)
        try:
            identity = identity_of(candidate)
            self._files.replace_live(candidate, None)
        finally:
            candidate.unlink(missing_ok=True)
        return identity

    def _note_live(self) -> None:
        """Keep in the store which version is live."""
        live = self._store.live_version()
        if self._serving and (live is None or live.version != self._serving):
            self._store.set_live(self._serving)


def _is_whole(file: Path, sha256: str) -> bool:
    try:
        return sha256_of(file) == sha256
    except OSError:
        return False
