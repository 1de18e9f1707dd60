"""Which version is live: joins the model files, their rows in the store and the predictor."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from shoe_classifier.classifier.bundle import Bundle
from shoe_classifier.classifier.foreign import ForeignModel
from shoe_classifier.classifier.predictor import About, LiveModel, Model, Predictor
from shoe_classifier.classifier.registry import Registry, open_checked, sha256_of
from shoe_classifier.errors import InvalidModel, NotFound
from shoe_classifier.store.base import ModelVersion, Store

logger = logging.getLogger(__name__)


class Publisher:
    """Restores, publishes and activates versions, one at a time."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        predictor: Predictor,
        keep_versions: int,
        foreign: Callable[[Path, str], ForeignModel] | None = None,
    ):
        """`foreign` opens the live file, with its SHA-256, when it is a plain Keras model."""
        self._foreign = foreign
        self._registry = registry
        self._store = store
        self._predictor = predictor
        self._keep = keep_versions
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None  # the live file that is served

    def restore(self) -> None:
        """Make the live file serve; when it is broken, the newest version that is whole."""
        self._registry.remove_candidates()
        seen = _look(self._registry.live)
        try:
            self._serve(self._open(self._registry.live), seen)
            return
        except InvalidModel as error:
            self._predictor.reason = error.detail
            logger.error("The live model does not load: %s", error.detail)
            if self._foreign:  # what was taught before is no stand-in for it
                return
        for row in self._store.versions():
            file = self._registry.file_of(row.version)
            if file.exists() and sha256_of(file) == row.sha256:
                logger.warning("Going back to version %s.", row.version)
                self._serve(self._registry.activate(row.version, None), _look(self._registry.live))
                return

    def refresh(self) -> None:
        """Serve the live file when another process has replaced it; one that does not load changes nothing."""
        with self._lock:
            now = _look(self._registry.live)
            if self._seen is None or now is None or now == self._seen:
                return
            self._seen = now  # from before the reading: a file that comes meanwhile is read the next time
            try:
                model = self._open(self._registry.live)
            except InvalidModel as error:
                logger.error("The live file was replaced by one that does not load: %s", error.detail)
                return
            if model.bundle.version != self._predictor.live.bundle.version:
                self._serve(model, now)

    def publish(self, candidate: Path, bundle: Bundle) -> None:
        """Make a candidate file the live one. Its row is written first, so that a restart knows the file.

        Raises:
            InvalidModel: the file does not read back; the old one stays.
        """
        with self._lock:
            before = self._predictor.live.bundle.version
            self._store.save_version(self._row(bundle, sha256_of(candidate), "candidate"))
            seen = _look(candidate)  # its rename keeps what `_look` sees
            self._serve(self._registry.publish(candidate, before), seen)
            self._prune(before)

    def activate(self, version: str) -> ModelVersion:
        """Go back, or forward, to a version that is kept.

        Raises:
            NotFound: no such version, or its file was pruned.
        """
        with self._lock:
            live = self._predictor.live.bundle.version
            file = self.file_of(version)
            if version != live:
                self._predictor.teachable  # noqa: B018 - raises when the settings say which model is live
                row = self.known(version)
                if sha256_of(file) != row.sha256:
                    raise InvalidModel(
                        f"Expected the file of version {version!r} as it was archived; it has changed since."
                    )
                self._serve(self._registry.activate(version, live), _look(self._registry.live))
            return self.known(version)

    def file_of(self, version: str) -> Path:
        """The file of a version. Raises `NotFound`."""
        self.known(version)
        live = self._predictor.live.bundle.version
        file = self._registry.live if version == live else self._registry.file_of(version)
        if not file.exists():
            raise NotFound(f"Expected a version whose file is kept; that of {version!r} was deleted.")
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
        self._predictor.swap(model)
        self._seen = seen
        self._store.set_live(model.bundle.version)
        logger.info("Version %s is live.", model.bundle.version)

    def _prune(self, before: str) -> None:
        """Delete the oldest files; never that of the version that was live until now, however old it is."""
        kept = [row.version for row in self._store.versions() if self._registry.file_of(row.version).exists()]
        others = [version for version in kept if version not in (before, self._predictor.live.bundle.version)]
        for version in self._registry.prune(others, self._keep - 1):
            row = self.known(version)
            self._store.save_version(ModelVersion(**{**vars(row), "state": "deleted"}))

    @staticmethod
    def _row(bundle: About, sha256: str, state: str) -> ModelVersion:
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
