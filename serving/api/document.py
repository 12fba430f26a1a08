"""The OpenAPI document: what FastAPI tells of the routes, with what they do by hand.

Bodies that a handler reads itself, keys, and links from one operation to those that make sense after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

KEY = {"type": "http", "scheme": "bearer", "description": "`simmer keys create`; not asked for on loopback"}
PLACE = "#/components/schemas/{model}"

_LINKS, _SCHEMAS = "x-links", "x-schemas"  # of a route, until they stand where they belong


def operation_id(route: APIRoute) -> str:
    """What an operation is called: as its function."""
    return route.name


def request_body(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """What the documentation says of a body that is read by hand."""
    schema = {"$ref": PLACE.format(model=model.__name__)}
    body = {"required": required, "content": {"application/json": {"schema": schema}}}
    return {_SCHEMAS: _schemas(model), "requestBody": body}


def leading_to(*operations: str, **parameters: str) -> dict[str, Any]:
    """Links to operations; each takes those of the parameters that it has."""
    return {_LINKS: dict.fromkeys(operations, parameters)}


class Documented(FastAPI):
    """An application that documents what its handlers do by hand."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    components["securitySchemes"] = {"key": KEY}
    known = {o["operationId"]: {p["name"] for p in o.get("parameters", ())} for o in _operations(document)}
    for operation in _operations(document):
        components["schemas"] |= operation.pop(_SCHEMAS, {})
        if "x-scope" in operation:
            operation["security"] = [{"key": []}]
        links = {name: _link(name, given, known[name]) for name, given in operation.pop(_LINKS, {}).items()}
        for status in {"200", "201"} & set(operation["responses"]) if links else ():
            operation["responses"][status]["links"] = links
    return document


def _link(name: str, given: Mapping[str, str], known: Collection[str]) -> dict[str, Any]:
    return {"operationId": name, "parameters": {key: where for key, where in given.items() if key in known}}


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _schemas(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a body, and of whatever is part of it."""
    schema = model.model_json_schema(ref_template=PLACE)
    return {**schema.pop("$defs", {}), model.__name__: schema}
