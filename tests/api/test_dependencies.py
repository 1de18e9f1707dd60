"""Every named dependency gives the part of its own type."""

import asyncio
import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from starlette.requests import Request

from helpers.service import make_settings
from shoe_classifier.api import dependencies
from shoe_classifier.api.dependencies import Service
from shoe_classifier.main import create_app
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.services.picture_features import FeatureExtractor

NAMED = {name: value for name, value in vars(dependencies).items() if name.endswith("Dep")}


@pytest.mark.parametrize("name", NAMED)
def test_a_dependency_is_the_part_of_its_type(tmp_path: Path, name: str) -> None:
    app = create_app(make_settings(tmp_path))
    kind, depends = get_args(NAMED[name])
    part = next(part for part, hint in get_type_hints(Service).items() if hint == kind)
    assert inspect.iscoroutinefunction(depends.dependency)  # FastAPI would run a plain function on a thread
    received: Any = asyncio.run(depends.dependency(Request({"type": "http", "app": app})))
    assert received is getattr(app.state.service, part)
    app.state.service.store.close()
    app.state.service.shadow.stop()


def test_each_part_that_endpoints_use_has_its_dependency() -> None:
    named = {get_args(dependency)[0] for dependency in NAMED.values()}
    assert named | {FeatureExtractor, AuditLog} == set(get_type_hints(Service).values())
