"""What a store must be able to do with rows, pictures and model files: a protocol for each, and one that joins them.

Both stores have a module for each protocol of rows, named as its table.

All methods block and may be called from any thread. Those of a shared store raise `StoreUnavailable` when it does not
answer; `add_prediction`, `add_audit` and `add_minute` never wait for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from shoe_classifier.types import (
    EVERY_PICTURE,
    EVERY_PREDICTION,
    AuditEntry,
    DecisionCount,
    IssueKind,
    KeptPicture,
    KeptPredictions,
    LabelChange,
    LabelCounts,
    MinuteMetrics,
    ModelVersion,
    PredictionFilter,
    PredictionRecord,
    QueuedKind,
    RetrainJob,
    TrainingFilter,
    TrainingPicture,
)


class PictureStore(Protocol):
    """The picture files, each stored once under its SHA-256."""

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        """Yield the files of these pictures, in this order. Raises `NotFound` at the first that is missing."""

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        """Return the `image_path` and the file of the picture with this hash. Raises `NotFound`."""

    def heal(self, pictures: Sequence[tuple[str, Path]]) -> set[str]:
        """Replace stored pictures that are missing or damaged: whose file does not have the hash that names it.

        Args:
            pictures: `image_path` and a whole file of each picture, which may be moved.

        Returns:
            The paths of those that were replaced.
        """

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        """Map each path to the address from which a client can fetch the picture."""

    def forget_unused(self) -> None:
        """Delete from this machine's disk what killed processes left of pictures, and pictures that no row uses any
        more, whichever machine deleted them; of a shared store, also old model files that no version keeps.
        """


class PredictionStore(Protocol):
    """The rows of `Predict`."""

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        """Keep a row, and its picture under `row.image_path`."""

    def prediction(self, prediction_id: str) -> PredictionRecord | None: ...

    def predictions(
        self, limit: int, before: str | None, which: PredictionFilter = EVERY_PREDICTION
    ) -> list[PredictionRecord]:
        """Return at most `limit` rows whose id is smaller than `before`, newest first."""

    def count_matching(self, which: PredictionFilter) -> int: ...

    def predictions_with(self, ids: Sequence[str]) -> dict[str, PredictionRecord]:
        """Return those of some predictions that exist, by their id."""

    def review_prediction(
        self, prediction_id: str, label: str | None, kind: str | None, reviewed_at: str | None
    ) -> None:
        """Keep what a person said about a prediction, replacing what was said before. Repeating it changes nothing.

        Args:
            label: what is in the picture; None if it is none of the labels, `SKIPPED` if the person would not decide.
            kind: why the person was asked.
            reviewed_at: see `types.utc_now`; None takes back what was said.

        Raises:
            NotFound: there is no such prediction.
        """

    def to_review(self, kind: QueuedKind, limit: int) -> list[PredictionRecord]:
        """Return at most `limit` predictions of a kind whose picture was kept and that nobody reviewed, newest first.

        One that was drawn at random is of no other kind.
        """

    def count_to_review(self, kind: QueuedKind) -> int: ...

    def reviewed_at_random(self, since: datetime) -> list[PredictionRecord]:
        """Return the predictions made since then that were drawn at random and reviewed, oldest first."""

    def decision_counts(self, since: datetime) -> list[DecisionCount]:
        """Count the predictions made since then, the start of a day in UTC, by day, version and decision."""

    def delete_predictions(self, rows: Sequence[PredictionRecord]) -> None:
        """Delete rows, and those of their pictures that no other row uses. A shared store may do so a moment later."""

    def drop_pictures(self, rows: Sequence[PredictionRecord]) -> None:
        """Keep rows without their pictures, which are deleted unless another row uses them; see above."""

    def expendable_predictions(
        self, after: str, before: str, *, with_picture: bool, limit: int
    ) -> list[PredictionRecord]:
        """Return the oldest rows that nobody has reviewed and whose picture is no training picture.

        Args:
            after, before: the ids between which to look.
            with_picture: only rows that have a picture.
        """

    def count_predictions(self) -> KeptPredictions:
        """Count what is kept of predictions, in steps that do not hold up predictions."""


class TrainingStore(Protocol):
    """The rows of `Training_Data` and their pictures, and the hashes of deleted ones (`Deleted_Pictures`)."""

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        """Keep rows durably, each with its file, which may be moved. Their pictures do not count as deleted any more.

        Returns:
            The ids of the rows that were added. A row whose SHA-256 is already stored is not.
        """

    def training_data(
        self, limit: int, before: str | None, which: TrainingFilter = EVERY_PICTURE
    ) -> list[TrainingPicture]:
        """Return at most `limit` rows whose id is smaller than `before`, newest first."""

    def count_training(self, which: TrainingFilter) -> int: ...

    def training_rows(self) -> Iterator[TrainingPicture]:
        """Yield all rows, oldest first, without holding them all: of a SQLite file as they are at one moment."""

    def training_picture(self, row_id: str) -> TrainingPicture | None: ...

    def training_pictures(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        """Return those rows that there are, in any order."""

    def training_with(self, sha256: str) -> TrainingPicture | None: ...

    def relabel(self, row_id: str, label: str) -> None:
        """Give a training picture another label. No version counts as having learned it any more."""

    def relabel_all(self, row_ids: Sequence[str], label: str) -> None:
        """`relabel` pictures in one transaction. Those that have the label already stay as they are."""

    def delete_training(self, row: TrainingPicture, *, keep_picture: bool = False) -> None:
        """Delete a row, its picture, and the record of which versions learned it; from then on it counts as deleted.

        Args:
            keep_picture: leave the file: a prediction still shows it.
        """

    def delete_all(self, rows: Sequence[TrainingPicture]) -> None:
        """`delete_training` of many rows, in one transaction."""

    def deleted_pictures(self) -> frozenset[str]:
        """Return the SHA-256 of each training picture that was deleted: models may still hold samples of them."""

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        """Map those hashes that are stored to their labels."""

    def training_labels(self) -> dict[str, int]:
        """Map each label to its number of training pictures, in the order in which the labels first appeared."""

    def label_counts(self) -> dict[str, LabelCounts]:
        """Count the training pictures of each label, in the order of `training_labels`."""

    def unprocessed(self) -> list[TrainingPicture]:
        """Return the pictures that neither the live version nor any of its ancestors learned, oldest first."""

    def count_unprocessed(self, after: str | None = None) -> int:
        """Count the pictures that `unprocessed` returns; with `after`, only those whose id is greater."""


class LabelStore(Protocol):
    """The rows of `Label_Changes`, and what they did to training pictures (`Changed_Pictures`)."""

    def change_label(self, change: LabelChange) -> int:
        """Keep a change, and rename the label of its pictures or delete them, in one transaction.

        Renamed pictures stay learned: nothing about them is new. Repeating the call changes nothing. The files of
        deleted pictures stay until `settle_changes`.

        Returns:
            How many pictures were changed.
        """

    def undo_change(self, change_id: str) -> int | None:
        """Take the newest change back, with all that it did to pictures, in one transaction.

        Pictures that have been given yet another label stay as they are, and one that was uploaded again stays once.

        Returns:
            How many pictures are as before; None, and nothing is done, if it is not the newest change.
        """

    def settle_changes(self, last: str) -> None:
        """Forget what is needed to take changes back, up to this one, and delete the files that nothing uses then."""

    def label_changes(self) -> list[LabelChange]:
        """Return all changes, oldest first."""


class KeptPictureStore(Protocol):
    """The rows of `Kept_Pictures`."""

    def keep_pictures(self, rows: Sequence[KeptPicture]) -> None:
        """Remember that suspect pictures are right, in one transaction; each kind of suspicion once."""

    def undo_keep(self, items: Sequence[tuple[str, IssueKind]]) -> None:
        """Forget that pictures, by their ids, were said to be right in these ways."""

    def kept_pictures(self) -> list[KeptPicture]: ...


class VersionStore(Protocol):
    """The rows of `Model_Versions` and `Learned_Pictures`, and the model files of a shared store."""

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        """Keep a row, replacing the one with the same version; a shared store keeps the file, too."""

    def prepare_publication(self, row: ModelVersion, file: Path, learned: Mapping[str, str]) -> None:
        """Keep a candidate durably, before it becomes live. Repeating the call changes nothing.

        Args:
            row: is stored with the state `candidate`, unless the version is already stored.
            file: the model file; only a shared store keeps it.
            learned: the ids of the training rows that the candidate learned, and the labels that it learned them
                with. A row that has another label by now, or is gone, does not count as learned.
        """

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        """Copy a version's file to `target`.

        Raises:
            NotFound: the store has no such file.
            InvalidModel: the stored file does not have the hash of the row.
        """

    def drop_model(self, row: ModelVersion) -> bool:
        """Mark a version that is not live `deleted`, and delete the file that a shared store keeps of it.

        What an unpublished version learned is deleted, too; that of an archived one is part of its descendants.

        Returns:
            False if the version is live or deleted by now; nothing is changed then.
        """

    def versions(self) -> list[ModelVersion]:
        """Return all versions, newest first."""

    def version(self, version: str) -> ModelVersion | None: ...

    def version_with(self, sha256: str) -> ModelVersion | None: ...

    def live_version(self) -> ModelVersion | None: ...

    def last_live(self) -> str | None:
        """Return the SHA-256 of the live version as this machine last knew it, without asking a shared store."""

    def count_unlearned(self, version: str) -> int:
        """Count the pictures that would wait if this version were live."""

    def set_live(self, version: str) -> None:
        """Mark a version `live` and the previous one `archived`, and recompute `is_processed` of all training rows.

        Raises:
            NotFound: there is no such version; the live one stays live.
        """


class JobStore(Protocol):
    """The rows of `Retrain_Jobs`."""

    def start_job(self, job: RetrainJob) -> bool:
        """Keep a new job; return False when another machine is running one."""

    def report_job(self, job: RetrainJob) -> bool:
        """Keep the progress of a running job; return False, and keep nothing, when it is to be cancelled."""

    def finish_job(self, job: RetrainJob) -> None:
        """Keep a job that has ended. When it is `published`, `set_live` its version in the same transaction.

        Raises:
            RetrainRunning: the job does not belong to this machine any more.
            NotFound: there is no such version; the job is not kept either.
        """

    def request_cancel(self, job_id: str) -> None:
        """Mark a job as to be cancelled by whichever process runs it."""

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        """Return at most `limit` jobs whose id is smaller than `before`, newest first."""

    def job(self, job_id: str) -> RetrainJob | None: ...

    def fail_unfinished_jobs(self, error: str) -> None:
        """End the jobs that a killed process of this machine left unfinished."""

    def fail_lost_jobs(self) -> None:
        """End the jobs in a shared store whose machines have stopped reporting."""


class MetricsStore(Protocol):
    """The rows of `System_Metrics`."""

    def add_minute(self, row: MinuteMetrics) -> None: ...

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        """Return at most `limit` minutes, newest first."""


class AuditStore(Protocol):
    """The rows of `Audit_Log`."""

    def add_audit(self, row: AuditEntry) -> None:
        """Keep a row. Never waits for a shared store."""

    def audit_log(self, limit: int, before: str | None) -> list[AuditEntry]:
        """Return at most `limit` rows whose id is smaller than `before`, newest first."""

    def trim_audit(self, refused: int) -> None:
        """Delete the oldest rows of refused calls (401 and 403) beyond this number of them."""


class Store(
    PictureStore,
    PredictionStore,
    TrainingStore,
    LabelStore,
    KeptPictureStore,
    VersionStore,
    JobStore,
    MetricsStore,
    AuditStore,
    Protocol,
):
    """All of the above, and the life of the store itself.

    Attributes:
        kind: `sqlite` or `supabase`.
        shared: whether other machines use the store, too. Its live version then overrides this machine's model file.
    """

    kind: str
    shared: bool

    def start(self) -> None:
        """Start the background work."""

    def close(self) -> None: ...

    def problems(self) -> list[str]:
        """Describe what is set up wrong, and how to correct it."""

    def state(self) -> dict[str, Any]:
        """Describe the store for `/status`. Never raises."""
