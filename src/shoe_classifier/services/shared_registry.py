"""The model registry of machines that share a store: its live version decides, and each machine follows it."""

import logging
from collections.abc import Callable
from pathlib import Path

from shoe_classifier.errors import InvalidModel, StoreUnavailable
from shoe_classifier.files import sha256_of
from shoe_classifier.ml.live_model import LiveModel, open_model_file
from shoe_classifier.services.model_registry import identity_of, version_row
from shoe_classifier.services.registry_base import RegistryBase
from shoe_classifier.types import ModelVersion, RetrainJob

logger = logging.getLogger(__name__)


class SharedModelRegistry(RegistryBase):
    """See `ModelRegistry`. The store is told first; a machine that cannot replace its file then follows later."""

    default_patience = 300.0  # seconds, for a store that does not answer; a retrain may have taken an hour by then

    def restore(self) -> None:
        """Serve the store's live version; while the store does not answer, the live file if it was that version."""
        self._files.remove_candidates()
        self._files.install_shipped()
        with self._lock:
            try:
                self._follow()
            except StoreUnavailable:
                if not self._files.live.is_file() or sha256_of(self._files.live) != self._store.last_live():
                    raise
                logger.warning("The store does not answer; serving the version that was live when it last did.")
                self._serve_live_file()
        self.remove_unpublished()

    def follow(self) -> None:
        """See `ModelRegistry`: this machine's disk may be new, or another machine may have published."""
        if self._lock.acquire(blocking=False):
            try:
                self._follow()
            finally:
                self._lock.release()

    def was_published(self, job: RetrainJob) -> bool:
        """False: the store ends a job in the transaction in which its version becomes live."""
        return False

    def _switch(self, candidate: Path, record: Callable[[], None]) -> None:
        model = open_model_file(candidate, trusted=True)
        previous = self._holder.live.bundle.version
        record()
        try:
            self._replace(candidate, model, previous)
        except Exception:  # the store has accepted the version, so it is live; this machine follows at its next look
            logger.exception("Version %s is live, but not on this machine yet.", model.bundle.version)

    def _on_replaced(self, identity: tuple[int, int]) -> None:
        self._follow()

    def _follow(self) -> None:
        row = self._store.live_version()
        if row and row.version == self._serving:
            return
        previous = self._serving or self._introduce(make_live=row is None)
        row = row or self._store.live_version()
        if row is None:
            raise InvalidModel(f"Expected a model at {self._files.live.name} or in the store; there is none.")
        if self._files.live.is_file() and sha256_of(self._files.live) == row.sha256:
            self._serve_live_file()
        else:
            self._bring(row, previous)

    def _bring(self, row: ModelVersion, previous: str | None) -> None:
        """Replace the live file by that of a version in the store, and serve it."""
        model = open_model_file(self._fetch(row), trusted=True)
        candidate = self._files.copy_archived(row.version)
        try:
            self._replace(candidate, model, previous)
        except OSError as error:  # such as a folder in its place
            logger.error("Version %s is served, but the live file could not be replaced: %s", row.version, error)
            self._serve(model, identity_of(self._files.live))
        finally:
            candidate.unlink(missing_ok=True)
        self._remove_deleted(self._store.versions())

    def _replace(self, candidate: Path, model: LiveModel, previous: str | None) -> None:
        identity = identity_of(candidate)
        self._files.replace_live(candidate, previous)
        self._serve(model, identity)

    def _serve_live_file(self) -> None:
        """Serve the live file, whose SHA-256 the store knows."""
        identity = identity_of(self._files.live)
        self._serve(open_model_file(self._files.live, trusted=True), identity)

    def _introduce(self, *, make_live: bool) -> str | None:
        """Add this machine's live file to the store, so that it can be activated; return its version, if it loads."""
        live = self._files.live
        if not live.is_file():
            return None
        sha256 = sha256_of(live)
        row = self._store.version_with(sha256)
        if row is None:
            try:
                model = open_model_file(live, trusted=False)
            except InvalidModel as error:
                logger.error("The model file of this machine does not load: %s", error.detail)
                return None
            row = version_row(model.bundle, sha256, "archived")
            self._store.save_version(row, live)
        if make_live:
            self._store.set_live(row.version)
        return row.version
