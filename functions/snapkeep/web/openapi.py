"""`/api/v1/openapi.json`: the list of routes and the types of their bodies and answers, as OpenAPI 3.1."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from snapkeep.web.routes import PATH, ROUTES, Parameter, Route

REF: Final = "#/components/schemas/{name}"

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what, where, what is expected"},
    },
}

WORDS: Final = {
    400: "a parameter, a header or the body is not what it should be",
    401: "nobody is known to be behind the request",
    403: "he may not",
    404: "there is nothing here",
    409: "what is stored stands against it, or the key was used for something else",
    413: "the body is larger than 256 KiB",
    415: "the body is not JSON",
    422: "the body names something that is not there, or cannot be",
    503: "the database did not answer; ask again",
}
READING: Final = (400, 401, 403, 404, 409, 503)
ACTING: Final = (*READING, 413, 415, 422)


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The whole document. It says what the deployed version does: its own is the API's."""
    kinds = sorted({kind for route in ROUTES for kind in (route.body, route.answer) if kind is not None}, key=str)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(f"/api/v1{route.path}", {})[route.method.lower()] = _operation(route, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Snapkeep",
            "version": "1",
            "description": "Recovery points of a vendor's customers. Who may do what: GET /api/v1/access.",
        },
        "paths": paths,
        "components": {"schemas": {**components, "Problem": PROBLEM}},
    }


def _operation(route: Route, by_kind: dict[Any, Any]) -> dict[str, Any]:
    parameters = [_parameter(name, "path", PATH[name], required=True) for name in route.parts]
    parameters += [_parameter(name, "query", one, required=one.required) for name, one in route.query.items()]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.words,
        "description": f"Action `{route.action}`.",
        "parameters": parameters,
        "responses": {
            "200": _content("done", by_kind[route.answer] if route.answer else {"type": "object"}),
            **{str(status): _problem(status) for status in (ACTING if route.body else READING)},
        },
    }
    if route.changes:
        key = {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "names this request: the same again acts once, and is answered alike for 30 days",
            "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,200}$"},
        }
        operation["parameters"] = [*parameters, key]
    if route.body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": by_kind[route.body]}}}
    return operation


def _parameter(name: str, place: str, parameter: Parameter, *, required: bool) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": parameter.words,
        "schema": dict(parameter.schema),
    }


def _content(words: str, schema: Any) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": REF.format(name="Problem")}
    return {"description": WORDS[status], "content": {"application/problem+json": {"schema": schema}}}
