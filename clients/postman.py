"""Prints a Postman collection of all calls in the OpenAPI document; Bruno and Insomnia import it, too.

`make collection` renews the committed one. What is required has the document's examples; what is optional is
switched off.
"""

import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_VARIABLES = [{"key": "baseUrl", "value": "http://127.0.0.1:8000"}, {"key": "apiKey", "value": ""}]
_KEY = [{"key": "key", "value": "X-API-Key"}, {"key": "value", "value": "{{apiKey}}"}, {"key": "in", "value": "header"}]


def collection(document: Row) -> Row:
    """The collection: a folder for each tag, with a request for each operation."""
    folders: dict[str, list[Row]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            folders[operation["tags"][0]].append(_item(document, path, method, operation))
    return {
        "info": {"name": document["info"]["title"], "version": document["info"]["version"], "schema": _SCHEMA},
        "auth": {"type": "apikey", "apikey": [{**pair, "type": "string"} for pair in _KEY]},
        "variable": _VARIABLES,
        "item": [{"name": name, "item": items} for name, items in folders.items()],
    }


def _item(document: Row, path: str, method: str, operation: Row) -> Row:
    parameters = operation.get("parameters", [])
    parts = [f":{part[1:-1]}" if part.startswith("{") else part for part in path.strip("/").split("/")]
    query = [_query(parameter) for parameter in parameters if parameter["in"] == "query"]
    url = {
        "raw": "/".join(["{{baseUrl}}", *parts]),
        "host": ["{{baseUrl}}"],
        "path": parts,
        "query": query,
        "variable": [{"key": parameter["name"], "value": ""} for parameter in parameters if parameter["in"] == "path"],
    }
    request = {"method": method.upper(), "url": url, "description": operation["summary"]}
    if "security" not in operation:
        request["auth"] = {"type": "noauth"}
    if "requestBody" in operation:
        request["body"] = _body(document, operation["requestBody"]["content"])
    return {"name": operation["operationId"], "request": request}


def _query(parameter: Row) -> Row:
    value = parameter["schema"].get("default")
    text = value if isinstance(value, str) else "" if value in (None, []) else json.dumps(value)
    described = parameter.get("description", "")
    return {"key": parameter["name"], "value": text, "description": described, "disabled": True}


def _body(document: Row, content: Row) -> Row:
    if form := content.get("multipart/form-data"):
        return {"mode": "formdata", "formdata": [_field(name, form["schema"]) for name in form["schema"]["properties"]]}
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    example = document["components"]["schemas"][name]["example"]
    return {"mode": "raw", "raw": json.dumps(example, indent=2), "options": {"raw": {"language": "json"}}}


def _field(name: str, form: Row) -> Row:
    schema, required = form["properties"][name], name in form.get("required", [])
    is_file = "format" in schema.get("items", schema)
    value = {"type": "file", "src": []} if is_file else {"type": "text", "value": ""}
    return {"key": name, **value, "description": schema["description"], "disabled": not required}


if __name__ == "__main__":
    print(json.dumps(collection(json.loads(Path(sys.argv[1]).read_text())), indent=1))
