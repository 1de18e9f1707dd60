"""The examples that `/docs` shows have the fields of their schema, and rows those of their dataclass."""

from dataclasses import fields
from typing import Any

import pytest

from shoe_classifier.api.schemas.audit import AuditBody
from shoe_classifier.api.schemas.corrections import LabelBody
from shoe_classifier.api.schemas.models import ModelBody
from shoe_classifier.api.schemas.predict import BatchBody, PredictionBody
from shoe_classifier.api.schemas.records import MinuteBody, PredictionRow, TrainingRow
from shoe_classifier.api.schemas.retrain import JobBody
from shoe_classifier.api.schemas.upload import UploadBody
from shoe_classifier.types import AuditEntry, MinuteMetrics, ModelVersion, PredictionRecord, RetrainJob, TrainingPicture

ROWS = [
    (JobBody, RetrainJob, set()),
    (ModelBody, ModelVersion, set()),
    (PredictionRow, PredictionRecord, {"file_url"}),
    (TrainingRow, TrainingPicture, {"file_url"}),
    (MinuteBody, MinuteMetrics, set()),
    (AuditBody, AuditEntry, set()),
]


@pytest.mark.parametrize(("schema", "source", "more"), ROWS, ids=lambda value: getattr(value, "__name__", ""))
def test_rows_have_the_fields_of_their_dataclass(schema: Any, source: Any, more: set[str]) -> None:
    assert set(schema.model_fields) == {column.name for column in fields(source)} | more
    assert set(schema.model_json_schema()["required"]) == set(schema.model_fields)


@pytest.mark.parametrize(
    "schema",
    [*(row[0] for row in ROWS), PredictionBody, BatchBody, LabelBody, UploadBody],
    ids=lambda schema: schema.__name__,
)
def test_examples_are_complete_and_valid(schema: Any) -> None:
    example = schema.model_config["json_schema_extra"]["example"]
    assert set(example) == set(schema.model_fields)
    assert schema.model_validate(example).model_dump(mode="json", exclude={*schema.model_computed_fields}) == example


def test_a_job_is_read_from_its_dataclass() -> None:
    job = RetrainJob(mode="quick")
    assert JobBody.model_validate(job, from_attributes=True).mode == "quick"
