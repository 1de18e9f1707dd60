"""Refuses query parameters that an endpoint does not have: a filter that is misspelled must not list everything."""

from typing import Any

from fastapi import Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from shoe_classifier.api.error_handlers import CLOSE
from shoe_classifier.errors import InvalidRequest


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise `InvalidRequest` for a query parameter that the endpoint does not have."""
    if not request.scope["query_string"]:
        return
    known = _parameters(request.scope["route"])
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None:
        expected = f"query parameters out of {', '.join(sorted(known))}" if known else "no query parameters"
        raise InvalidRequest(f"Expected {expected}; received {unknown[:80]!r}.", headers=CLOSE)


def _parameters(route: APIRoute) -> frozenset[str]:
    """The query parameters of an endpoint, with those that it reads from the request itself and only describes."""
    fields = get_flat_params(route.dependant)  # codespell:ignore dependant
    declared = {field.alias for field in fields if isinstance(field.field_info, params.Query)}
    described: list[dict[str, Any]] = (route.openapi_extra or {}).get("parameters", [])
    return frozenset(declared | {parameter["name"] for parameter in described if parameter["in"] == "query"})
