"""Every route of the one list by everybody: the table holds, no identity is no entry, and nobody sees another's."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from tests.access.iap import AUDIENCE, KEYS, bad, claims, token
from tests.makers import THEN, HandClock, World, point_disk
from tests.restore.restores import undoable, waiting
from tests.web.fleets import put_points, put_stored, put_tenant, snapshot_ref
from tests.web.people import client_of, put_people
from werkzeug.test import TestResponse

from snapkeep import documents as d
from snapkeep.access import DEPLOYMENTS, RIGHTS, ROLES, Deployment
from snapkeep.documents import Role
from snapkeep.gcp.identity import HEADER, IapIdentities
from snapkeep.web import create_app
from snapkeep.web.door import FORM_COOKIE, FORM_FIELD, KEY_FIELD, OPEN
from snapkeep.web.routes import ROUTES, Route

BOUGHT: Final = d.Entitlements(inter_region_backup=d.InterRegionBackup(region="us-east1", valid_until="2027-12-31"))
HOLD: Final = d.Hold(id="h-0123456789ab", reason="case 4711", by="somebody", at=THEN)

ID: Final = "20261101-p-alpha-app-0000000"
RESTORES: Final = {"restore_approve": f"{ID}1", "restore_cancel": f"{ID}1", "restore_undo": f"{ID}2"}
"""Of each route on a restore: the one that may be acted on so."""

BODIES: Final[dict[str, Any]] = {
    "policy_try": {"retention": {"keep_daily": 3}},
    "point_request": {"instance": "alpha-app", "reason": "r"},
    "copy_request": {"reason": "r"},
    "restore_request": {"point": "20261101-o-alpha-app-00000001", "mode": "disks", "reason": "r"},
    "restore_approve": {"request_sha256": "0" * 64},
    "restore_cancel": {"reason": "r"},
    "restore_undo": {"reason": "r"},
    "hold_add": {"reason": "r"},
    "hold_release": {"reason": "r"},
    "tenant_pause": {"what": "deletion", "reason": "r"},
    "tenant_resume": {"what": "deletion", "reason": "r"},
    "override": {"instance": "alpha-app", "reason": "r"},
    "apply": {
        "entry": {
            "id": "alpha",
            "name": "Alpha & Sons",
            "project": "acme-prod",
            "instances": [{"name": "alpha-app", "zone": "southamerica-east1-a"}],
        }
    },
    "offboard": {"day": "2027-01-01", "reason": "r"},
    "schedule": {"on": True, "reason": "r"},
    "pause": {"what": "creation", "reason": "r"},
    "resume": {"what": "creation", "reason": "r"},
    "tick": {},
}
"""A body of each POST that is carried out where its sender may."""


def world_of(deployment: Deployment) -> World:
    """Two tenants of one deployment, with all that a route may ask for."""
    world = World()
    put_people(world, anna="alpha", bob="beta")
    for id in ("alpha", "beta"):
        put_tenant(world, id, deployment=deployment, entitlements=BOUGHT)
        kept = point_disk(snapshot=snapshot_ref(name="sk-1", id="9001", status="READY"))
        put_points(world, id, 2, state="verified", disks=[kept])
        (machine,) = world.instances(id)
        its = d.InstanceRef(
            id=machine.id, name=machine.name, project=machine.project, zone=machine.zone, region=machine.region
        )
        for restore in (waiting(f"20261101-p-{id}-app-00000001"), undoable(f"20261101-p-{id}-app-00000002")):
            world.put((f"tenants/{id}/restores/{restore.id}", replace(restore, instance=its)))
    put_stored(world, "alpha", 5)
    alpha = world.read(d.Tenant, "tenants/alpha")
    (machine,) = world.instances("alpha")
    world.put(
        ("tenants/alpha", replace(alpha, holds=[HOLD], held=True)),
        (f"tenants/alpha/instances/{machine.id}", replace(machine, breach_at=THEN)),
    )
    return world


def path_of(route: Route, *, tenant: str = "alpha") -> str:
    point = f"20261101-o-{tenant}-app-00000001"
    restore = RESTORES.get(route.name, f"{ID}1").replace("alpha", tenant)
    parts = {"tenant": tenant, "chain": tenant, "point": point, "hold": HOLD.id, "function": "plan"}
    parts["restore"] = restore
    return "/api/v1" + route.path.format(**parts)


def ask(client: FlaskClient, route: Route, *, tenant: str = "alpha", **headers: str) -> TestResponse:
    sent = {"Content-Type": "application/json", "Idempotency-Key": "key-1"} if route.body else {}
    body = json.dumps(BODIES[route.name]) if route.body else None
    return client.open(path_of(route, tenant=tenant), method=route.method, data=body, headers=sent | headers)


def email(role: Role) -> str:
    return "anna@alpha.example" if role == "client_admin" else f"{role}@vendor.example"


# --- the table ----------------------------------------------------------------------------------------------------


def test_every_post_has_a_body_here() -> None:
    assert set(BODIES) == {route.name for route in ROUTES if route.body}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_route_is_for_the_roles_of_the_table(route: Route, role: Role, deployment: Deployment) -> None:
    world = world_of(deployment)
    before = world.memory.dump()
    answer = ask(client_of(world.ports, email(role)), route)
    if role in RIGHTS[route.action].roles(deployment):
        assert answer.status_code == 200, answer.text
        assert (world.memory.dump() != before) == route.changes
    else:
        assert (answer.status_code, answer.mimetype) == (403, "application/problem+json"), answer.text
        changed = {path for path, data in world.memory.dump().items() if before.get(path) != data}
        assert all(path.startswith("tenants/_system/inbox/") for path in changed)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@pytest.mark.parametrize("route", [one for one in ROUTES if one.of], ids=lambda route: route.name)
def test_another_tenants_route_is_not_there_for_a_client_admin(route: Route, deployment: Deployment) -> None:
    world = world_of(deployment)
    before = {path: data for path, data in world.memory.dump().items() if path.startswith("tenants/alpha")}
    answer = ask(client_of(world.ports, "bob@beta.example"), route)
    assert answer.status_code == 404
    assert json.loads(answer.data)["detail"] == "there is nothing here"
    assert {path: data for path, data in world.memory.dump().items() if path.startswith("tenants/alpha")} == before


# --- identities ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def behind_iap() -> tuple[World, FlaskClient]:
    world = world_of("saas")
    return world, create_app(world.ports, IapIdentities(AUDIENCE, HandClock(), lambda: KEYS)).test_client()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_who_is_not_known_gets_nowhere(route: Route) -> None:
    world, client = behind_iap()
    before = {path: data for path, data in world.memory.dump().items() if not path.startswith("tenants/_system/inbox")}
    for what, (said, reason) in bad().items():
        headers = {} if said is None else {HEADER: said}
        answer = ask(client, route, **headers)
        assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), what
        assert json.loads(answer.data)["detail"] == f"{reason}: sign in"
    stranger = ask(client, route, **{HEADER: token(claims(email="eve@evil.example"))})
    assert (stranger.status_code, stranger.mimetype) == (403, "application/problem+json")
    after = {path: data for path, data in world.memory.dump().items() if not path.startswith("tenants/_system/inbox")}
    assert after == before
    refused = {(r["actor"], r["detail"]["why"]) for r in world.records("_system") if route.action in r["subject"]}
    assert refused == {("unverified", reason) for _, reason in bad().values()} | {("eve@evil.example", "no principal")}


def test_whom_iap_has_signed_for_comes_in() -> None:
    _, client = behind_iap()
    for route in ROUTES:
        if not route.changes:
            answer = ask(client, route, **{HEADER: token(claims())})
            assert answer.status_code == 200, answer.text
    me = json.loads(client.get("/api/v1/me", headers={HEADER: token(claims())}).data)
    assert (me["email"], me["verified"]) == ("admin@vendor.example", True)


# --- pages --------------------------------------------------------------------------------------------------------


def rules(client: FlaskClient) -> list[tuple[str, str]]:
    """Method and path of all that the application answers, but for what is open to everybody."""
    return [
        (method, re.sub(r"<[^>]+>", "alpha", rule.rule))
        for rule in client.application.url_map.iter_rules()
        if rule.endpoint not in OPEN
        for method in sorted(rule.methods or ())
    ]


def test_nothing_is_open_but_assets_and_a_local_clouds_sign_in() -> None:
    _, client = behind_iap()
    asked = rules(client)
    assert len(asked) > 60
    for method, path in asked:
        assert client.open(path, method=method).status_code == 401, (method, path)
        stranger = client.open(path, method=method, headers={HEADER: token(claims(email="eve@evil.example"))})
        assert stranger.status_code == 403, (method, path)
    for path in ("/sign-in", "/sign-out"):
        assert client.post(path).status_code == 404
    assert client.get("/assets/logo.svg", buffered=True).status_code == 200


def forms(client: FlaskClient) -> list[str]:
    """Paths that a form is sent to, with a place for the tenant."""
    found = client.application.url_map.iter_rules()
    return [rule.rule for rule in found if rule.endpoint.startswith("pages.") and "<id>" in rule.rule
            and "POST" in (rule.methods or ())]  # fmt: skip


FIELDS: Final = {"reason": "r", "what": "deletion", "on": "true", "instance": "alpha-app", "hold": HOLD.id}


@pytest.mark.parametrize("id", ["zebra", "nobody", "_system", "__zebra__", "..", "x" * 2_000, "%C3%BC"])
def test_a_form_for_what_is_not_his_is_answered_as_for_what_is_not_there(id: str) -> None:
    world = marked("private_saas")
    for person in ("anna@alpha.example", *(("admin@vendor.example",) if id != "zebra" else ())):
        client = client_of(world.ports, person)
        fields = FIELDS | {FORM_FIELD: "mine", KEY_FIELD: "key-1"}
        client.set_cookie(FORM_COOKIE, "mine")
        assert len(forms(client)) >= 6
        for path in forms(client):
            answer = client.post(path.replace("<id>", id), data=fields)
            # The schedule is a client's alone: that is said before anybody looks for the tenant.
            assert answer.status_code in ((404,) if id == "zebra" else (403, 404)), (path, answer.status_code)
            assert MARK not in answer.get_data(as_text=True) or MARK in id


# --- a marker in tenant B -----------------------------------------------------------------------------------------

MARK: Final = "zebra"


def marked(deployment: Deployment) -> World:
    """Tenant alpha, and beside it one that carries the mark wherever anything can be written."""
    world = world_of(deployment)
    put_people(world, zoe="zebra")
    put_tenant(world, "zebra", deployment=deployment, project="zebra-prod", vault_project="zebra-vault", breached=True)
    put_points(world, "zebra", 60, reason="zebra import")
    put_stored(world, "zebra", 10)
    # A point that both have: an instance that went from one to the other.
    shared = world.points("alpha")[0]
    world.put((f"tenants/zebra/points/{shared.id}", replace(shared, reason="zebra", vault_project="zebra-vault")))
    theirs = replace(undoable("20261101-p-zebra-app-00000002"), reason="zebra", requested_by="zoe@zebra.example")
    hold = replace(HOLD, id="h-00000000beef", reason="zebra case", by="zoe@zebra.example")
    owner = world.read(d.Tenant, "tenants/zebra")
    (machine,) = world.instances("zebra")
    orphan = d.Orphan(
        kind="unknown_snapshot", snapshot="sk-zebra", id="1", tenant="zebra", point=None, bytes=1, created_at=THEN,
        found_at=THEN,
    )  # fmt: skip
    stopped = d.Paused(fleet=False, projects=["zebra-prod"], tenants=["zebra"])
    at = world.clock.now()
    bad_message = d.Rejected(
        updated_at=at, kind="rejected", function="create", reason="zebra", excerpt="zebra", at=at, expire_at=at
    )
    world.put(
        ("tenants/zebra", replace(owner, holds=[hold], held=True, unmatched=["zebra-gone in z"], name="Zebra Bank")),
        (f"tenants/zebra/instances/{machine.id}", replace(machine, holds=[hold], held=True)),
        (f"tenants/zebra/restores/{theirs.id}", theirs),
        (f"tenants/zebra/restores/{ID}1", replace(theirs, id=f"{ID}1")),
        (
            "vaults/zebra-vault",
            d.Vault(updated_at=at, project="zebra-vault", tenants=["zebra"], next_at=at, orphans=[orphan]),
        ),
        (
            "system/controls",
            d.Controls(updated_at=at, paused=d.PausedKinds(creation=stopped, deletion=stopped, restore=stopped)),
        ),
        ("rejected/zebra", bad_message),
    )
    client_of(world.ports).post(
        "/api/v1/tenants/zebra/holds", json={"reason": "zebra again"}, headers={"Idempotency-Key": "zebra-key"}
    )
    # Acts on alpha, with the other's already there.
    for route in ROUTES:
        if route.of == "tenant" and route.body:
            for person in ("anna@alpha.example", "admin@vendor.example"):
                ask(client_of(world.ports, person), route, **{"Idempotency-Key": route.name})
    world.deliver()
    world.tick("audit", "health")
    return world


def questions(world: World) -> Iterator[str]:
    """Every GET route with every parameter, its own tenant's, the other's, and what pages of the vendor's end with."""
    vendor = client_of(world.ports)
    cursors = [
        json.loads(vendor.get(path).data).get("next")
        for path in ("/api/v1/fleet", "/api/v1/points", "/api/v1/points?tenant=zebra", "/api/v1/audit")
    ]
    values = {
        "tenant": ["alpha", "zebra", "nobody"],
        "state": ["verified", "requested"],
        "after": [*filter(None, cursors), "2|alpha", "0|zebra", "zebra", "zebra-vault"],
        "instance": ["alpha-app", "zebra-app", world.instances("zebra")[0].id],
        "at": ["2026-12-01T00:00:00Z"],
        "from": ["1", "2"],
    }
    yield from ("/", "/fleet", "/fleet?seen=x", "/?after=0%7Czebra", "/nonsense", "/orphans")
    yield from ("/tenants/alpha", "/tenants/zebra", "/tenants/nobody", "/tenants/alpha?did=zebra")
    for route in ROUTES:
        if route.method == "GET":
            for tenant in ("alpha", "zebra", "_system"):
                path = path_of(route, tenant=tenant)
                yield path
                yield from (f"{path}?{name}={value}" for name in route.query for value in values[name])
                yield f"{path}?nonsense=1"
    yield from (f"/api/v1/points/{point.id}" for point in (*world.points("alpha"), *world.points("zebra")))


def readable(answer: TestResponse) -> str:
    """An answer with what is in it in base64: the bytes of audit records."""
    said = answer.get_data(as_text=True)
    return said + "".join(base64.b64decode(one).decode() for one in re.findall(r'"bytes":"([^"]+)"', said))


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_nothing_of_another_tenant_is_in_any_answer_to_a_client_admin(deployment: Deployment) -> None:
    world = marked(deployment)
    anna = client_of(world.ports, "anna@alpha.example")
    seen = 0
    for question in questions(world):
        answer = anna.get(question)
        assert answer.status_code < 500, question
        # What he has sent himself may be said back to him: where a page goes on, and what is wrong with a parameter.
        said = readable(answer).replace("after=0%7Czebra", "")
        echoed = answer.status_code == 400 and MARK in question
        assert echoed or MARK not in f"{said}{answer.headers}".lower(), (question, said)
        seen += answer.status_code == 200
    assert seen > 20
    for route in ROUTES:
        if route.body:
            for tenant in ("alpha", "zebra"):
                said = ask(anna, route, tenant=tenant, **{"Idempotency-Key": "zebra-key"}).get_data(as_text=True)
                assert MARK not in said.lower(), (route.name, said)


def test_the_mark_is_where_it_is_looked_for() -> None:
    world = marked("private_saas")
    vendor = client_of(world.ports)
    with_mark = [path for path in set(questions(world)) if MARK in readable(vendor.get(path)).lower()]
    assert len(with_mark) > 50
