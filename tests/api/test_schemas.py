"""The examples that `/docs` shows have the fields of their schema, and rows those of their dataclass."""

from dataclasses import fields
from typing import Any

import pytest

from shoe_classifier.api import schemas
from shoe_classifier.types import AuditEntry, MinuteMetrics, ModelVersion, PredictionRecord, RetrainJob, TrainingPicture

ROWS = [
    (schemas.JobBody, RetrainJob, set()),
    (schemas.ModelBody, ModelVersion, set()),
    (schemas.PredictionRow, PredictionRecord, {"file_url"}),
    (schemas.TrainingRow, TrainingPicture, {"file_url"}),
    (schemas.MinuteBody, MinuteMetrics, set()),
    (schemas.AuditBody, AuditEntry, set()),
]


@pytest.mark.parametrize(("schema", "source", "more"), ROWS, ids=lambda value: getattr(value, "__name__", ""))
def test_rows_have_the_fields_of_their_dataclass(schema: Any, source: Any, more: set[str]) -> None:
    assert set(schema.model_fields) == {column.name for column in fields(source)} | more
    assert set(schema.model_json_schema()["required"]) == set(schema.model_fields)


@pytest.mark.parametrize(
    "schema",
    [*(row[0] for row in ROWS), schemas.PredictionBody, schemas.BatchBody, schemas.LabelBody, schemas.UploadBody],
    ids=lambda schema: schema.__name__,
)
def test_examples_are_complete_and_valid(schema: Any) -> None:
    example = schema.model_config["json_schema_extra"]["example"]
    assert set(example) == set(schema.model_fields)
    assert schema.model_validate(example).model_dump(mode="json", exclude={*schema.model_computed_fields}) == example


def test_a_job_is_read_from_its_dataclass() -> None:
    job = RetrainJob(mode="quick")
    assert schemas.JobBody.model_validate(job, from_attributes=True).mode == "quick"
