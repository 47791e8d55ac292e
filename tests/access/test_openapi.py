"""`/api/v1/openapi.json` says what the API does: requests made from it, right and wrong, are answered as it says."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.access.test_every_route import HOLD, world_of
from tests.web.people import client_of

from snapkeep.access import RIGHTS
from snapkeep.documents import Role
from snapkeep.local_sign_in import HEADER, LocalSignIn
from snapkeep.web import create_app
from snapkeep.web.routes import ROUTES, Route

EXAMPLES: Final = 15
"""Requests of each route, kind and person; the same ones in every run."""

PEOPLE: Final = ("admin@vendor.example", "anna@alpha.example")

THERE: Final = {
    "tenant": "alpha",
    "chain": "alpha",
    "point": "20261101-o-alpha-app-00000001",
    "hold": HOLD.id,
    "restore": "20261101-p-alpha-app-00000001",
    "function": "plan",
}

NAMES_SOMETHING: Final = (
    "policy_try", "point_request", "override", "apply", "offboard", "restore_request", "restore_approve",
    "restore_undo",
)  # fmt: skip
"""Routes whose body names an instance, a day, a policy or a tenant: one that is made up is as a rule not there."""

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def document() -> dict[str, Any]:
    return dict(json.loads(client_of(world_of("saas").ports).get("/api/v1/openapi.json").data))


def test_the_document_names_every_route_and_no_other() -> None:
    told = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert told == {(route.method, f"/api/v1{route.path}") for route in ROUTES}


def test_every_reference_of_the_document_leads_somewhere() -> None:
    text = json.dumps(document())
    schemas = document()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) == set(schemas)


def answers(route: Route, person: str, mode: GenerationMode) -> set[int]:
    """Ask for EXAMPLES of a route; the statuses that came, each answer being as the document says."""
    world = world_of("private_saas")
    headers = {HEADER: person}
    schema = schemathesis.openapi.from_wsgi(
        "/api/v1/openapi.json", create_app(world.ports, LocalSignIn()), headers=headers
    )
    operation = schema[f"/api/v1{route.path}"][route.method]
    seen = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE:
            # Else they would all be of tenants that are not there.
            case.path_parameters = {name: THERE.get(name, value) for name, value in case.path_parameters.items()}
        answer = case.call(headers=headers)
        case.validate_response(answer, checks=CHECKS)
        seen.add(answer.status_code)

    ask()
    return seen


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_what_is_right_by_the_document_is_answered_as_it_says(route: Route, person: str) -> None:
    seen = answers(route, person, GenerationMode.POSITIVE)
    role: Role = "admin" if person in PEOPLE[:1] else "client_admin"
    if role not in RIGHTS[route.action].private_saas:
        assert seen == {403}
    elif route.name not in NAMES_SOMETHING:
        assert 200 in seen


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.query or one.parts or one.body], ids=lambda one: one.name
)
def test_what_is_wrong_by_the_document_is_answered_as_it_says(route: Route) -> None:
    assert answers(route, PEOPLE[0], GenerationMode.NEGATIVE)
