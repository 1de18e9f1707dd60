"""Answers that take their fields from a dataclass of `types` or of a service."""

from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import ConfigDict, create_model


def row(name: str, source: type, example: dict[str, Any], **more: Any) -> Any:
    """A model with the fields of a dataclass, all of them required, and with `more` fields of these types."""
    hints = get_type_hints(source)
    columns: dict[str, Any] = {column.name: (hints[column.name], ...) for column in fields(source)}
    columns |= {field: (kind, ...) for field, kind in more.items()}
    config = ConfigDict(json_schema_extra={"example": example})
    return create_model(name, __config__=config, __doc__=source.__doc__, **columns)
