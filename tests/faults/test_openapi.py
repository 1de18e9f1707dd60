"""Calls generated from the OpenAPI document: each is answered as the document says."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from helpers.service import make_settings, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model_file) -> Iterator[httpx.Client]:
    own = make_settings(tmp_path_factory.mktemp("schema"))
    own.models_dir.mkdir()
    shutil.copy(model_file, own.live_model)
    with running(own) as client:
        yield client


schema = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.json")


@pytest.mark.faults
@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_as_documented(case: schemathesis.Case, service: httpx.Client) -> None:
    case.call_and_validate(
        base_url=str(service.base_url),
        checks=[not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance],
        timeout=20,
    )
