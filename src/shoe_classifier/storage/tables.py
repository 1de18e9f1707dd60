"""The tables that both stores have. Each holds instances of one dataclass of `types`, one column per field."""

import types
from dataclasses import fields
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from shoe_classifier.types import (
    AuditEntry,
    ChangedPicture,
    DeletedPicture,
    KeptPicture,
    LabelChange,
    LearnedPicture,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingPicture,
)

Row = TypeVar(
    "Row",
    PredictionRecord,
    TrainingPicture,
    ModelVersion,
    RetrainJob,
    MinuteMetrics,
    LearnedPicture,
    DeletedPicture,
    LabelChange,
    ChangedPicture,
    KeptPicture,
    AuditEntry,
)


class Table(Generic[Row]):
    """A table and how its columns are stored.

    Attributes:
        row_type: the dataclass; its fields are the columns.
        key: the column by which rows are identified and paged through.
        json_columns: lists and dictionaries.
        boolean_columns: true or false; SQLite stores 1 or 0.
        time_columns: ISO 8601 text; Postgres has a type of its own for them.
    """

    def __init__(self, name: str, row_type: type[Row], key: str):
        self.name = name
        self.row_type: type[Row] = row_type
        self.key = key
        self.columns = tuple(field.name for field in fields(row_type))
        kinds = {column: _kinds(hint) for column, hint in get_type_hints(row_type).items()}
        self.json_columns = frozenset(column for column, kind in kinds.items() if kind & {dict, list})
        self.boolean_columns = frozenset(column for column, kind in kinds.items() if bool in kind)
        self.time_columns = frozenset(name for name in self.columns if name.endswith("_at") or name == "timestamp")


def _kinds(hint: Any) -> set[Any]:
    """The types that a hint allows, without their arguments: {dict, NoneType} of `dict[str, float] | None`."""
    options = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)
    return {get_origin(option) or option for option in options}


PREDICT = Table("Predict", PredictionRecord, key="id")
TRAINING_DATA = Table("Training_Data", TrainingPicture, key="id")
MODEL_VERSIONS = Table("Model_Versions", ModelVersion, key="version")
RETRAIN_JOBS = Table("Retrain_Jobs", RetrainJob, key="job_id")
SYSTEM_METRICS = Table("System_Metrics", MinuteMetrics, key="timestamp")
LEARNED_PICTURES = Table("Learned_Pictures", LearnedPicture, key="training_id")
DELETED_PICTURES = Table("Deleted_Pictures", DeletedPicture, key="sha256")
AUDIT_LOG = Table("Audit_Log", AuditEntry, key="id")
LABEL_CHANGES = Table("Label_Changes", LabelChange, key="id")
CHANGED_PICTURES = Table("Changed_Pictures", ChangedPicture, key="training_id")
KEPT_PICTURES = Table("Kept_Pictures", KeptPicture, key="training_id")
TABLES: tuple[Table[Any], ...] = (
    PREDICT, TRAINING_DATA, MODEL_VERSIONS, RETRAIN_JOBS, SYSTEM_METRICS, LEARNED_PICTURES, DELETED_PICTURES,
    AUDIT_LOG, LABEL_CHANGES, CHANGED_PICTURES, KEPT_PICTURES,
)  # fmt: skip
