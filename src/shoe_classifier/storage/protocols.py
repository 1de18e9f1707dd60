"""What a store must be able to do with rows, pictures and model files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from shoe_classifier.types import MinuteMetrics, ModelVersion, PredictionRecord, RetrainJob, TrainingPicture


class Store(Protocol):
    """Rows, pictures and, when it is shared, model files. All methods block and may be called from any thread.

    Those of a shared store raise `StoreUnavailable` when it does not answer; `add_prediction` and `add_minute` never
    wait for it.

    Attributes:
        kind: `sqlite` or `supabase`.
        shared: other machines use it too, so its live version counts, and not the file of this machine.
    """

    kind: str
    shared: bool

    def start(self) -> None:
        """Begin what is done in the background."""

    def problems(self) -> list[str]:
        """What is not set up right, each with what to do about it."""

    def state(self) -> dict[str, Any]:
        """What `/status` tells of it; never raises."""

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        """Keep a row, and its picture under `row.image_path`."""

    def prediction(self, prediction_id: str) -> PredictionRecord | None: ...

    def predictions(self, limit: int, before: str | None) -> list[PredictionRecord]: ...

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        """Keep rows durably, with the file of each, which may be moved. Returns the ids of those new by their hash."""

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        """The files of pictures, in this order, one after the other; raises `NotFound`."""

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        """The `image_path` and the file of the picture with this hash; raises `NotFound`."""

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        """Where a client gets each of the pictures."""

    def training_data(self, limit: int, before: str | None) -> list[TrainingPicture]: ...

    def training_picture(self, row_id: str) -> TrainingPicture | None: ...

    def training_with(self, sha256: str) -> TrainingPicture | None: ...

    def relabel(self, row_id: str, label: str) -> None:
        """Give a training picture another label; it is to be learnt again."""

    def delete_training(self, row: TrainingPicture) -> None:
        """Delete a row and its picture."""

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        """The labels of those hashes that are known."""

    def training_labels(self) -> dict[str, int]:
        """The number of training pictures of each label."""

    def unprocessed(self) -> list[TrainingPicture]: ...

    def processed(self) -> list[TrainingPicture]: ...

    def count_unprocessed(self) -> int: ...

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        """Keep a row; a shared store keeps a new version's file, too."""

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        """Bring a version's file to this machine, its hash checked. Raises `NotFound`."""

    def drop_model(self, row: ModelVersion) -> bool:
        """Mark an archived version `deleted`, and delete its file where the store keeps files; False if it is not
        archived any more.
        """

    def versions(self) -> list[ModelVersion]: ...

    def version(self, version: str) -> ModelVersion | None: ...

    def version_with(self, sha256: str) -> ModelVersion | None: ...

    def live_version(self) -> ModelVersion | None: ...

    def last_live(self) -> str | None:
        """The SHA-256 of the version that was live when this machine last heard of it, even while nothing answers."""

    def set_live(self, version: str) -> None:
        """Mark one version `live`; the one that was becomes `archived`."""

    def start_job(self, job: RetrainJob) -> bool:
        """Keep a new job; False when another machine runs one."""

    def report_job(self, job: RetrainJob) -> bool:
        """Keep the progress of a running job; False when its cancellation was asked for, and nothing was kept."""

    def finish_job(self, job: RetrainJob, learnt: Mapping[str, str]) -> None:
        """Keep a job that has ended, and mark the rows that it learnt and the version that it published, or nothing.

        Args:
            learnt: ids and labels; rows that got another label meanwhile stay to be learnt.

        Raises:
            RetrainRunning: another machine has taken this job for lost.
        """

    def request_cancel(self, job_id: str) -> None:
        """Ask whoever runs a job, perhaps another process, to cancel it."""

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]: ...

    def job(self, job_id: str) -> RetrainJob | None: ...

    def fail_unfinished_jobs(self, error: str) -> None:
        """End the jobs that a killed process left; of a shared store, not those that other machines work on."""

    def fail_lost_jobs(self) -> None:
        """End the jobs of a shared store whose machines have not been heard of for long."""

    def add_minute(self, row: MinuteMetrics) -> None: ...

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        """The newest first."""

    def close(self) -> None: ...
