"""A retrainer on real files and a real store whose methods can be made to fail, and what all of its parts report."""

import sqlite3
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from helpers.pictures import draw
from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import Anchors, CrossValidation, GateEvidence
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.local_registry import LocalModelRegistry
from shoe_classifier.services.model_registry import KeepPolicy, ModelRegistry, version_row
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.services.shared_registry import SharedModelRegistry
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.storage.supabase.store import SupabaseStore
from shoe_classifier.types import Report, RetrainJob, TrainingEvent, utc_now

PICTURES = 4
LOCKED = sqlite3.OperationalError("database is locked")
FULL = OSError(28, "No space left on device")
AWAY = StoreUnavailable("Expected an answer; received none.", again=True)

in_both_stores = pytest.mark.parametrize("machine", [False, True], ids=["local", "shared"], indirect=True)


class SharedSqliteStore(SqliteStore):
    """Keeps model files, too, so that several machines of a test can use it."""

    shared = True

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._bucket = folder / "bucket"
        self._bucket.mkdir(exist_ok=True)

    def save_version(self, row: Any, file: Path | None = None) -> None:
        if file:
            (self._bucket / row.version).write_bytes(file.read_bytes())
        super().save_version(row, file)

    def prepare_publication(self, row: Any, file: Path, learned: Any) -> None:
        (self._bucket / row.version).write_bytes(file.read_bytes())
        super().prepare_publication(row, file, learned)

    def fetch_model(self, row: Any, target: Path) -> None:
        target.write_bytes((self._bucket / row.version).read_bytes())


class Faults:
    """Passes calls on to an object, and fails or observes some of them.

    Attributes:
        calls: how often each method was called.
    """

    def __init__(self, target: Any):
        self._target = target
        self._faults: dict[str, tuple[Callable[[int], bool], Exception, bool]] = {}
        self.calls: Counter[str] = Counter()
        self.observer: Callable[[str], None] = lambda step: None

    def fail(self, method: str, error: Exception, call: int | None = None, *, after: bool = False) -> None:
        """Fail calls of a method.

        Args:
            call: which of the calls from now on, counted from 1; None for all.
            after: do the work first, as when an answer is lost.
        """
        self.calls[method] = 0
        self._faults[method] = (lambda number: call in (None, number), error, after)

    def heal(self) -> None:
        self._faults.clear()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        return self._wrapped(name, attribute) if callable(attribute) else attribute

    def _wrapped(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            fails, error, after = self._faults.get(name, (lambda number: False, None, False))
            failing = fails(self.calls[name])
            self.observer(f"before {name}")
            if failing and error and not after:
                raise error
            result = method(*args, **kwargs)
            self.observer(f"after {name}")
            if failing and error:
                raise error
            return result

        return call


@dataclass(frozen=True)
class Story:
    """What the parts of a machine say about the same thing: the live version in four places, and the pictures."""

    serving: str
    in_file: str
    in_store: str | None
    unprocessed: int

    @classmethod
    def published(cls, version: str | None) -> "Story":
        assert version
        return cls(version, version, version, 0)

    @classmethod
    def unchanged(cls, version: str) -> "Story":
        return cls(version, version, version, PICTURES)


class Machine:
    """One machine on the folders of some settings, and on their Supabase project if they name one."""

    def __init__(self, settings: Settings, *, shared: bool, patience_seconds: float = 0.0):
        self.settings = settings
        settings.dataset_dir.mkdir(parents=True, exist_ok=True)
        self.real_store = _open_store(settings, shared)
        self.store = cast(Any, Faults(self.real_store))
        self.files = cast(Any, Faults(ModelFiles(settings.live_model)))
        self.holder = LiveModelHolder(settings.max_image_pixels)
        kind = SharedModelRegistry if shared else LocalModelRegistry
        self.registry: ModelRegistry = kind(
            self.files,
            self.store,
            self.holder,
            KeepPolicy(settings.keep_versions, settings.keep_rejected, settings.keep_rejected_hours),
            patience_seconds,
        )
        self.features = FeatureExtractor(settings, self.holder)
        self.told: list[tuple[str, Mapping[str, Any]]] = []  # what webhooks would say
        self.retrainer = Retrainer(
            settings, self.store, self.holder, self.files, self.registry, self.features, self._publish
        )
        for part in (self.features, self.real_store):  # of machines that a test abandons, as a killed process does
            weakref.finalize(self, part.close)

    def _publish(self, event: str, data: Mapping[str, Any]) -> None:
        self.told.append((event, data))

    def start(self) -> "Machine":
        """As the service starts, with a live file that the store knows: a new one is tried in a process first."""
        live = self.settings.live_model
        if live.exists() and not self.real_store.versions():
            self.real_store.save_version(version_row(bundles.read(live), sha256_of(live), "archived"), live)
        self.retrainer.fail_interrupted("The service was stopped.")
        self.registry.restore()
        return self

    def upload(self, label: str = "hat", count: int = PICTURES, start: int = 0) -> None:
        folder = self.settings.temp_uploads_dir
        folder.mkdir(parents=True, exist_ok=True)
        ingestion = IngestionService(self.settings, self.store, self.features)
        for seed in range(start, start + count):
            (folder / "part").write_bytes(draw(label, seed))
            ingestion.ingest(folder / "part", "x.jpg", label, folder, ())

    def retrain(self, *, force: bool = True) -> RetrainJob:
        job = self.retrainer.start("quick", None, force)
        return self.retrainer.wait(job.job_id)

    def story(self) -> Story:
        live = self.real_store.live_version()
        return Story(
            self.holder.live.bundle.version,
            bundles.read(self.settings.live_model).version,
            live.version if live else None,
            self.real_store.count_unprocessed(),
        )

    def close(self) -> None:
        self.features.close()
        self.real_store.close()


def _open_store(settings: Settings, shared: bool) -> SqliteStore | SupabaseStore:
    if settings.supabase_url:
        return SupabaseStore(settings)
    return SharedSqliteStore(settings.dataset_dir) if shared else SqliteStore(settings.dataset_dir)


def derive_version(source: Path, target: Path, version: str) -> Path:
    """Write a copy of a model file that calls itself another version, a child of the first."""
    bundle = bundles.read(source)
    child = replace(bundle, version=version, parent=bundle.version, created_at=utc_now())
    bundles.derive(source, target, child, bundles.read_replay_buffer(source))
    return target


def train_by_copying(task: RetrainTask, report: Report) -> GateEvidence:
    """Stand in for `finetune.retrain_head`, in no time: the candidate is the live model under another name."""
    report(TrainingEvent("train", 0.0, "Copying."))
    derive_version(task.source, task.target, bundles.new_version())
    live = bundles.read(task.source)
    none = np.zeros(0, np.int64)
    return GateEvidence(
        metrics=live.metrics,
        baseline=live.metrics,
        retained=live.metrics,
        learned=live.metrics,
        anchors=Anchors(none, none > 0, none > 0, none > 0, none > 0),
        labels=live.labels,
        contradicted=0,
        with_old_label=0,
        missed_photo_share=0.0,
        cross_validation=CrossValidation(none, none, none.astype(float)),
        distinct={},
        background_false_accepts=(0.0, 0.0),
    )


def assert_one_story(machine: Machine, job: RetrainJob, before: str) -> None:
    row = machine.real_store.job(job.job_id)
    assert row is not None
    assert (row.state, row.model_version) == (job.state, job.model_version)
    assert row.finished
    published = job.state == "published"
    assert machine.story() == (Story.published(job.model_version) if published else Story.unchanged(before))
    states = {version.version: version.state for version in machine.real_store.versions()}
    live = job.model_version if published else before
    assert [version for version, state in states.items() if state == "live"] == [live]
    assert job.error is None if published else job.error


def restarted(machine: Machine) -> Machine:
    return Machine(machine.settings, shared=machine.real_store.shared).start()
