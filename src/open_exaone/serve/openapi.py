"""The description of the server's paths, from the records that requests are read into."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from pydantic.json_schema import models_json_schema

from open_exaone.serve.routes.route import Route

_REF = "#/components/schemas/{model}"


def description(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    records = [route.record for route in routes if route.record is not None]
    names, schemas = models_json_schema([(record, "validation") for record in records], ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in routes:
        reference = names[route.record, "validation"] if route.record is not None else None
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, reference)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Open-EXAONE", "version": metadata.version("open-exaone")},
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(route: Route, reference: Any) -> dict[str, Any]:
    parts = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "responses": {
            "200": {"description": "The answer"},
            "4XX": {"description": "The request is refused: error.message says why"},
        },
    }
    if parts:
        schema = {"type": "string"}
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": schema} for name in parts]
    if reference is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return operation
