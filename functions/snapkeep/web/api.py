"""`/api/v1`: the views as JSON, and every error as problem+json (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, get_args

import flask
import msgspec
from werkzeug.exceptions import BadRequest, Conflict, HTTPException, NotFound

from snapkeep import views
from snapkeep.documents import TENANT_ID_WORD, PointState
from snapkeep.ports import Ports, Transient
from snapkeep.views import BadCursor
from snapkeep.web.passing import passing

POINT: Final = re.compile(r"[0-9]{8}-[smor]-[a-z0-9-]{1,24}-[0-9a-f]{8}")
"""A point's id, before it is asked for: Firestore compares at most 1,500 bytes."""

TENANT: Final = re.compile(TENANT_ID_WORD)
"""A tenant's id, before it becomes a part of a document's path."""


def blueprint(ports: Ports) -> flask.Blueprint:
    api = flask.Blueprint("api", __name__, url_prefix="/api/v1")

    @api.get("/fleet")
    def fleet() -> flask.Response:
        asked = _asked("after")
        return _json(views.fleet(ports, asked["after"]))

    @api.get("/tenants/<id>")
    def tenant(id: str) -> flask.Response:
        _asked()
        found = views.tenant(ports, id) if TENANT.fullmatch(id) else None
        if found is None:
            raise NotFound
        return _json(found)

    @api.get("/points")
    def points() -> flask.Response:
        asked = _asked("tenant", "state", "after")
        _check("state", asked["state"], f"none of {', '.join(get_args(PointState))}", get_args(PointState).__contains__)
        _check("tenant", asked["tenant"], "no tenant's id", TENANT.fullmatch)
        return _json(views.points(ports, **asked))

    @api.get("/points/<id>")
    def point(id: str) -> flask.Response:
        asked = _asked("tenant")
        match views.point(ports, id, **asked) if POINT.fullmatch(id) else []:
            case [one]:
                return _json(one)
            case []:
                raise NotFound
            case several:
                tenants = ", ".join(sorted(one.tenant for one in several))
                raise Conflict(f"tenants {tenants} have a point of this id each; say which with ?tenant=")

    return api


def _asked(*names: str) -> dict[str, str | None]:
    """The parameters of the request, each at most once; None for one that is not given. Raises BadRequest."""
    given = flask.request.args
    unknown = sorted(given.keys() - set(names))
    if unknown:
        expected = f"expected {', '.join(names)}" if names else "none is expected"
        raise BadRequest(f"{unknown[0]}: no such parameter here; {expected}")
    twice = [name for name in names if len(given.getlist(name)) > 1]
    if twice:
        raise BadRequest(f"{twice[0]}: given more than once")
    return {name: given.get(name) or None for name in names}


def _check(name: str, value: str | None, otherwise: str, holds: Callable[[str], object]) -> None:
    """Raises BadRequest for a value that is given and wrong."""
    if value is not None and not holds(value):
        raise BadRequest(f"{name}: {value!r} is {otherwise}")


def _json(value: Any) -> flask.Response:
    return flask.Response(msgspec.json.encode(value), mimetype="application/json")


# --- errors -------------------------------------------------------------------------------------------------------


def register_errors(app: flask.Flask) -> None:
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(BadCursor, lambda error: _problem(400, "Bad Request", str(error)))
    app.register_error_handler(Transient, _passing)


def _refused(error: HTTPException) -> flask.Response:
    status = error.code or 500
    # An unknown path, tenant or point: all the same, so that nobody learns which of them exists.
    detail = "there is nothing here" if status == NotFound.code else (error.description or error.name)
    answer = _problem(status, error.name, detail)
    for name, value in error.get_headers():
        if name == "Allow":
            answer.headers[name] = value
    return answer


def _passing(error: Transient) -> flask.Response:
    return passing(error, _problem(503, "Service Unavailable", "the database did not answer; ask again"))


def _problem(status: int, title: str, detail: str) -> flask.Response:
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return flask.Response(body, status, mimetype="application/problem+json")
