"""Which version is live: joins the model files, their rows in the store and the live_model."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from shoe_classifier.errors import InvalidModel, NotFound, StoreUnavailable
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.external_model import ExternalModel
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder, Model, ModelInfo
from shoe_classifier.storage.model_files import ModelFiles, flush, open_checked, sha256_of
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import ModelVersion

logger = logging.getLogger(__name__)


class ModelRegistry:
    """Restores, publishes and activates versions, one at a time.

    Of a store of this machine, the live file counts, and the store is told of it afterwards. Of a shared store, the
    version that is live there counts: it is told first, and all machines follow it.
    """

    def __init__(
        self,
        registry: ModelFiles,
        store: Store,
        live_model: LiveModelHolder,
        keep_versions: int,
        foreign: Callable[[Path, str], ExternalModel] | None = None,
    ):
        """`foreign` opens the live file, with its SHA-256, when it is a plain Keras model."""
        self._foreign = foreign
        self._registry = registry
        self._store = store
        self._live_model = live_model
        self._keep = keep_versions
        self._follows = store.shared and foreign is None
        self._lock = threading.Lock()
        self._serving: str | None = None
        self._seen: tuple[int, int] | None = None  # the live file that is served

    def restore(self) -> None:
        """Make a model serve when the service starts.

        Raises:
            StoreUnavailable: a shared store does not answer, and what is live there is not known to be here.
            InvalidModel, NotFound: the version that is live in a shared store has no file that loads.
        """
        self._registry.remove_candidates()
        if not self._follows:
            self._restore_own()
            return
        try:
            self.follow()
        except StoreUnavailable:
            if not self._registry.live.exists() or sha256_of(self._registry.live) != self._store.last_live():
                raise
            logger.warning("The store does not answer; serving what was live when it last did.")
            self._serve_live_file()

    def _restore_own(self) -> None:
        """Serve the live file; when it is broken, the newest version that is whole."""
        seen = _look(self._registry.live)
        try:
            model = self._open(self._registry.live)
        except InvalidModel as error:
            self._live_model.fail(error.detail)
            logger.error("The live model does not load: %s", error.detail)
            if self._foreign:  # what was taught before is no stand-in for it
                return
        else:
            self._serve(model, seen)
            self._tell_live()
            return
        for row in self._store.versions():
            file = self._registry.file_of(row.version)
            if file.exists() and sha256_of(file) == row.sha256:
                logger.warning("Going back to version %s.", row.version)
                self._serve(self._registry.activate(row.version, None), _look(self._registry.live))
                self._store.set_live(row.version)
                return

    def follow(self) -> None:
        """Serve the version that is live in a shared store: the disk of this machine may be new, or another machine
        may have published. Raises as `restore` does.
        """
        if self._follows:
            with self._lock:
                self._follow()

    def _follow(self) -> None:
        row = self._store.live_version()
        if row and row.version == self._serving:
            return
        before = self._serving or self._introduce(first=row is None)
        row = row or self._store.live_version()
        if row is None:
            raise InvalidModel(f"Expected a model at {self._registry.live.name} or in the store; there is none.")
        if self._registry.live.exists() and sha256_of(self._registry.live) == row.sha256:
            self._serve_live_file()
        else:
            self._bring(row)
            self._serve(self._registry.activate(row.version, before), _look(self._registry.live))

    def _introduce(self, first: bool) -> str | None:
        """Tell a shared store of the live file of this machine, so that it can be activated; returns its version.

        Args:
            first: the store knows no live version: it becomes that.
        """
        live = self._registry.live
        if not live.exists():
            return None
        sha256 = sha256_of(live)
        row = self._store.version_with(sha256)
        if row is None:
            try:
                bundle = open_checked(live, known=False)
            except InvalidModel as error:
                logger.error("The model file of this machine does not load: %s", error.detail)
                return None
            row = self._row(bundle, sha256, "archived")
            self._store.save_version(row, live)
        if first:
            self._store.set_live(row.version)
        return row.version

    def refresh(self) -> None:
        """Serve the live file when another process has replaced it; one that does not load changes nothing."""
        with self._lock:
            now = _look(self._registry.live)
            if self._seen is None or now is None or now == self._seen:
                return
            self._seen = now  # from before the reading: a file that comes meanwhile is read the next time
            if self._follows:
                self._follow()
                return
            try:
                model = self._open(self._registry.live)
            except InvalidModel as error:
                logger.error("The live file was replaced by one that does not load: %s", error.detail)
                return
            if model.bundle.version != self._serving:
                self._serve(model, now)
                self._tell_live()

    def publish(self, candidate: Path, bundle: Bundle, finish: Callable[[], None]) -> None:
        """Make a candidate file the live one. Its row is written first, so that a restart knows the file.

        Args:
            finish: tells the store that this version is live, with all that belongs to that.

        Raises:
            InvalidModel: the file does not read back; the old one stays.
        """
        with self._lock:
            before = self._live_model.live.bundle.version
            self._store.save_version(self._row(bundle, sha256_of(candidate), "candidate"), candidate)
            if self._follows:
                finish()
            seen = _look(candidate)  # its rename keeps what `_look` sees
            self._serve(self._registry.publish(candidate, before), seen)
            if not self._follows:
                finish()
            self._prune(before)

    def activate(self, version: str) -> ModelVersion:
        """Go back, or forward, to a version that is kept.

        Raises:
            NotFound: no such version, or its file was pruned.
        """
        with self._lock:
            live = self._live_model.live.bundle.version
            file = self.file_of(version)
            if version != live:
                self._live_model.teachable  # noqa: B018 - raises when the settings say which model is live
                if sha256_of(file) != self.known(version).sha256:
                    raise InvalidModel(
                        f"Expected the file of version {version!r} as it was archived; it has changed since."
                    )
                if self._follows:
                    self._store.set_live(version)
                self._serve(self._registry.activate(version, live), _look(self._registry.live))
                if not self._follows:
                    self._store.set_live(version)
            return self.known(version)

    def file_of(self, version: str) -> Path:
        """The file of a version, on this machine. Raises `NotFound`."""
        row = self.known(version)
        if version == self._live_model.live.bundle.version:
            return self._registry.live
        if row.state == "deleted":  # also where this machine still has it: others could not follow
            raise NotFound(f"Expected a version whose file is kept; that of {version!r} was deleted.")
        return self._bring(row)

    def _bring(self, row: ModelVersion) -> Path:
        file = self._registry.file_of(row.version)
        if not file.exists() or (self._store.shared and sha256_of(file) != row.sha256):
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f".{row.version}.{os.getpid()}.part.h5")
            try:
                self._store.fetch_model(row, part)
                flush(part)
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)
        return file

    def known(self, version: str) -> ModelVersion:
        """The row of a version. Raises `NotFound`."""
        row = self._store.version(version)
        if row is None:
            raise NotFound(f"Expected the name of a version, as GET /models lists them; received {version[:80]!r}.")
        return row

    def _open(self, path: Path) -> Model:
        if not path.exists():
            raise InvalidModel(f"Expected a model at {path.name}; there is none. `train` makes one.")
        sha256 = sha256_of(path)
        if self._foreign:
            foreign = self._foreign(path, sha256)
            with contextlib.suppress(StoreUnavailable):  # it serves all the same
                self._store.save_version(self._row(foreign.bundle, sha256, "candidate"))
            return foreign
        known = self._store.version_with(sha256) is not None
        model = LiveModel(open_checked(path, known))
        row = self._store.version(model.bundle.version)
        if row is not None and row.sha256 != sha256:
            raise InvalidModel(f"Expected version {row.version} as it was published; {path.name} has changed since.")
        if not known:
            self._store.save_version(self._row(model.bundle, sha256, "candidate"))
        return model

    def _serve(self, model: Model, seen: tuple[int, int] | None) -> None:
        self._live_model.swap(model)
        self._seen, self._serving = seen, model.bundle.version
        logger.info("Version %s is live.", model.bundle.version)

    def _tell_live(self) -> None:
        """The store of this machine takes note; a shared one does not: others have not this plain Keras model."""
        if not self._store.shared and self._serving:
            self._store.set_live(self._serving)

    def _serve_live_file(self) -> None:
        """Its SHA-256 is one that the store has told."""
        seen = _look(self._registry.live)
        self._serve(LiveModel(open_checked(self._registry.live, known=True)), seen)

    def _prune(self, before: str) -> None:
        """Delete the oldest files; never that of the version that was live until now, however old it is."""
        archived = [row for row in self._store.versions() if row.state == "archived" and row.version != before]
        for row in archived[self._keep - 1 :]:
            if self._store.drop_model(row):
                self._registry.file_of(row.version).unlink(missing_ok=True)

    @staticmethod
    def _row(bundle: ModelInfo, sha256: str, state: str) -> ModelVersion:
        return ModelVersion(
            version=bundle.version,
            sha256=sha256,
            labels=list(bundle.labels),
            metrics=bundle.metrics,
            parent=bundle.parent,
            state=state,
            file_path=f"versions/{bundle.version}.h5",
            created_at=bundle.created_at,
        )


def _look(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
