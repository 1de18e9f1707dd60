"""Rows for a store, and what became of them."""

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingFilter,
    TrainingPicture,
    new_id,
    picture_path,
    utc_now,
)

MODEL_FILE = Path(__file__)  # no store looks into a model file


def prediction(name: str = "Boot", picture: bytes | None = None) -> PredictionRecord:
    path = picture_path(hashlib.sha256(picture).hexdigest(), ".jpg") if picture else None
    return PredictionRecord(new_id(), path, name, 0.9, "accepted", {"Shoe": 0.1, "Boot": 0.9}, "v1", 1.5, utc_now())


def training(folder: Path, content: bytes, label: str = "Boot") -> tuple[TrainingPicture, Path]:
    """A row and the file of its picture, of which no store looks at more than the hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / f"{sha256}.jpg"
    file.write_bytes(content)
    path = picture_path(sha256, ".jpg")
    return TrainingPicture(new_id(), path, sha256, label, False, "train", "zip", new_id(), utc_now()), file


def added(store: Store, folder: Path, count: int) -> list[TrainingPicture]:
    """The rows of so many pictures that were added."""
    rows, files = zip(*(training(folder, f"picture {i}".encode()) for i in range(count)), strict=True)
    assert len(store.add_training(rows, files)) == count
    return list(rows)


def version(name: str) -> ModelVersion:
    file_path = f"versions/{name}.h5"
    return ModelVersion(name, f"sha-{name}", ["b", "a"], {"accuracy": 0.9}, None, "candidate", file_path, utc_now())


def published(store: Store, name: str, learned: list[TrainingPicture], parent: str | None = None) -> RetrainJob:
    """Publish a version that learned these pictures, as a retrain does."""
    job = RetrainJob()
    assert store.start_job(job)
    prepare(store, name, learned, parent)
    done = replace(job, state="published", phase="published", metrics={"accuracy": 1.0}, model_version=name)
    store.finish_job(done)
    return done


def prepare(store: Store, name: str, learned: list[TrainingPicture], parent: str | None = None) -> None:
    """Keep a candidate that learned these pictures."""
    labels = {row.id: row.shoe_class for row in learned}
    store.prepare_publication(replace(version(name), parent=parent), MODEL_FILE, labels)


def ids(rows: list[TrainingPicture]) -> list[str]:
    return [row.id for row in rows]


def drained(store: Store) -> bool:
    """Whether nothing is left to be sent to a shared store."""
    return not store.state().get("outbox", {}).get("rows")


def gone(store: Store, path: str) -> bool:
    """Whether a picture is not stored any more."""
    with contextlib.suppress(NotFound):
        store.find_picture(path.split("/")[2].partition(".")[0])
        return False
    return True


def learned_rows(store: Store) -> list[TrainingPicture]:
    """The pictures that the live version or one of its ancestors learned, oldest first."""
    return store.training_data(1000, None, TrainingFilter(learnt=True))[::-1]
