"""`/api/v1`: every route of `routes.py`, each through the door; and every error as problem+json (RFC 9457)."""

from __future__ import annotations

from typing import Any, Final

import flask
import msgspec
from werkzeug.exceptions import HTTPException, NotFound

from snapkeep.commands import Clash, NoTenant, Wrong
from snapkeep.ports import Ports, Transient
from snapkeep.retention.rules import UnsafePlan
from snapkeep.views import BadCursor, BadMoment
from snapkeep.web import door as doors
from snapkeep.web.door import Door
from snapkeep.web.passing import passing
from snapkeep.web.routes import BY_NAME, PATH, ROUTES, Call, Route, checked, parsed

NAME: Final = "api"


def blueprint(ports: Ports, door: Door) -> flask.Blueprint:
    api = flask.Blueprint(NAME, __name__, url_prefix="/api/v1")
    for route in ROUTES:
        rule = route.path.replace("{", "<").replace("}", ">")
        api.add_url_rule(rule, route.name, _answering(route, ports, door), methods=[route.method])
    return api


def route_of(endpoint: str | None) -> Route | None:
    """The route of one of Flask's endpoints."""
    return BY_NAME.get((endpoint or "").removeprefix(f"{NAME}.")) if (endpoint or "").startswith(f"{NAME}.") else None


def _answering(route: Route, ports: Ports, door: Door) -> Any:
    def answer(**path: str) -> flask.Response:
        for name, value in path.items():
            if not PATH[name].accept(value):
                raise NotFound
        body = None
        if route.body is not None:
            door.from_here(route.action)
            doors.as_json()
        tenant = path[route.of] if route.of else None
        deployment = door.enter(route.action, tenant)
        if route.approves is not None:
            door.enter(route.action, tenant, route.approves(ports, path))
        query = checked(flask.request.args.to_dict(flat=False), route.query)
        if query.get("tenant"):
            door.enter(route.action, query["tenant"])  # another's: 404, and written down
        if route.body is not None:
            body = parsed(flask.request.get_data(), route.body)
        asked = door.asked(route.action, body, path, deployment) if route.changes and body is not None else None
        try:
            said = route.handle(Call(ports, doors.present(), door.verified, path, query, body, asked))
        except Clash as clash:
            door.clashed(route.action, tenant, body, clash)
            raise
        return flask.Response(msgspec.json.encode(said), mimetype="application/json")

    return answer


# --- errors -------------------------------------------------------------------------------------------------------


def register_errors(app: flask.Flask) -> None:
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(BadCursor, lambda error: _problem(400, "Bad Request", str(error)))
    app.register_error_handler(BadMoment, lambda error: _problem(400, "Bad Request", str(error)))
    app.register_error_handler(UnsafePlan, lambda error: _problem(409, "Conflict", str(error)))
    app.register_error_handler(NoTenant, lambda error: _refused(NotFound()))
    app.register_error_handler(Wrong, lambda error: _problem(422, "Unprocessable Content", str(error)))
    app.register_error_handler(Clash, lambda error: _problem(409, "Conflict", str(error)))
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
