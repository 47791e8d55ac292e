"""The door: who comes in, what he may do, that he meant it, and what is written down of those who may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from tests.access.iap import AUDIENCE, KEYS, claims, token
from tests.makers import THEN, HandClock, World
from tests.web.fleets import put_points, put_tenant
from tests.web.people import ADMIN, client_of, put_people
from werkzeug.test import TestResponse

from snapkeep import commands
from snapkeep import documents as d
from snapkeep.gcp.identity import HEADER as IAP
from snapkeep.gcp.identity import IapIdentities
from snapkeep.ports import Doc, Documents, Transient, Write
from snapkeep.web import create_app
from snapkeep.web.door import BODY_BYTES_MAX, FORM_COOKIE

OPERATOR = "operator@vendor.example"
PAUSE = {"what": "creation", "reason": "a fire drill"}


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one, anna="alpha", paula="priv")
    put_tenant(one, "alpha")
    put_tenant(one, "beta")
    put_tenant(one, "priv", deployment="private_saas")
    put_points(one, "alpha", 3)
    put_points(one, "beta", 3)
    return one


def get(world: World, path: str, email: str = ADMIN) -> TestResponse:
    return client_of(world.ports, email).get(f"/api/v1{path}")


def post(
    world: World, path: str, body: Any, email: str = ADMIN, *, key: str | None = "key-1", **headers: str
) -> TestResponse:
    sent = {"Idempotency-Key": key, "Content-Type": "application/json"} if key else {"Content-Type": "application/json"}
    said = body if isinstance(body, str | bytes) else json.dumps(body)
    return client_of(world.ports, email).post(f"/api/v1{path}", data=said, headers=sent | headers)


def detail(answer: TestResponse, status: int) -> str:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.text
    return str(json.loads(answer.data)["detail"])


def refusals(world: World) -> list[tuple[str, str, str]]:
    """Who, what and why, as the chain of `_system` has it."""
    return [
        (record["actor"], record["subject"], record["detail"]["why"])
        for record in world.records("_system")
        if record["action"] == "access.refused"
    ]


# --- who ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/fleet", "/api/v1/fleet", "/api/v1/nonsense", "/nonsense", "/api/v1/me"])
def test_without_an_identity_everything_is_401(world: World, path: str) -> None:
    assert client_of(world.ports, "").get(path).status_code == 401


def test_whom_nothing_stands_about_may_nothing(world: World) -> None:
    assert "eve@evil.example is not known here" in detail(get(world, "/fleet", "eve@evil.example"), 403)
    assert client_of(world.ports, "eve@evil.example").get("/").status_code == 403


def test_a_principal_that_cannot_be_read_may_nothing(world: World) -> None:
    world.put(("principals/odd@vendor.example", d.Tick(updated_at=world.clock.now(), at=world.clock.now())))
    assert "is not known here" in detail(get(world, "/fleet", "odd@vendor.example"), 403)


@pytest.mark.parametrize("tenant", [None, "", "_system", "../acme"])
def test_a_client_admin_of_no_tenant_may_nothing(world: World, tenant: str | None) -> None:
    principal = d.Principal(updated_at=world.clock.now(), role="client_admin", tenant=tenant)
    world.put(("principals/lost@alpha.example", principal))
    for path in ("/me", "/fleet", "/points", "/audit/_system"):
        assert "is not known here" in detail(get(world, path, "lost@alpha.example"), 403)


def test_a_right_that_is_taken_away_is_gone_at_once(world: World) -> None:
    client = client_of(world.ports, OPERATOR)
    assert client.get("/api/v1/orphans").status_code == 200
    world.put(
        (f"principals/{OPERATOR}", d.Principal(updated_at=world.clock.now(), role="client_admin", tenant="alpha"))
    )
    assert client.get("/api/v1/orphans").status_code == 403


def test_who_asks_is_told_who_he_is_and_what_he_may(world: World) -> None:
    me = json.loads(get(world, "/me", "paula@priv.example").data)
    assert (me["email"], me["role"], me["tenant"], me["verified"]) == (
        "paula@priv.example",
        "client_admin",
        "priv",
        False,
    )
    assert "hold.add" in me["private_saas"]
    assert "hold.add" not in me["saas"]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_a_refusal_is_audited_with_who_what_and_why(world: World) -> None:
    get(world, "/fleet", "")
    get(world, "/fleet", "eve@evil.example")
    post(world, "/controls/pause", PAUSE, "viewer@vendor.example")
    get(world, "/tenants/beta", "anna@alpha.example")
    assert refusals(world) == [
        ("unverified", "access/fleet.read", "no identity"),
        ("eve@evil.example", "access/fleet.read", "no principal"),
        ("viewer@vendor.example", "access/fleet.pause", "not his to do"),
        ("anna@alpha.example", "access/tenant.read", "another's tenant"),
    ]


def test_a_flood_of_refusals_is_one_record_a_minute(world: World) -> None:
    for number in range(5):
        get(world, f"/nothing-{number}", "")  # another path each time, and another process
        world.clock.move(seconds=1)
    assert len(refusals(world)) == 1
    world.clock.move(minutes=1)
    get(world, "/nothing", "")
    assert len(refusals(world)) == 2


def test_each_tenant_that_is_probed_is_told_and_a_flood_of_them_is_bounded(world: World) -> None:
    anna = client_of(world.ports, "anna@alpha.example")
    for number in range(100):
        anna.get(f"/api/v1/tenants/probed-{number}")
    told = [record["detail"] for record in world.records("_system")]
    assert {one["tenant"] for one in told if "tenant" in one} == {f"probed-{number}" for number in range(20)}
    assert [one["why"] for one in told if "tenant" not in one] == ["and more"]
    world.clock.move(minutes=1)
    anna.get("/api/v1/tenants/probed-0")
    assert len(world.records("_system")) == 22


def test_what_another_site_has_forged_is_audited(world: World) -> None:
    for _ in range(3):
        post(world, "/controls/resume", PAUSE, **{"Sec-Fetch-Site": "cross-site"})
        client_of(world.ports).post("/tenants/alpha/holds", data={"reason": "r"})
        client_of(world.ports).post("/tenants/alpha/holds", data={}, headers={"Origin": "https://evil.example"})
    assert refusals(world) == [
        (ADMIN, "access/fleet.resume", "sent by another site"),
        (ADMIN, "access/hold.add", "this form is not one that this browser was given"),
        (ADMIN, "access/hold.add", "sent by another site"),
    ]


def test_what_stands_against_an_act_is_audited_in_the_chain_that_the_act_would_be_in(world: World) -> None:
    body = {"instance": "alpha-app", "reason": "r"}
    for _ in range(3):
        said = detail(post(world, "/tenants/alpha/override", body), 409)
    post(world, "/tenants/alpha/override", body | {"dry_run": True})
    (record,) = world.records("alpha")
    assert (record["actor"], record["action"], record["subject"], record["outcome"], record["detail"]["why"]) == (
        ADMIN, "act.refused", "access/retention.override", "refused", said,
    )  # fmt: skip
    post(world, "/controls/pause", PAUSE)
    post(world, "/controls/pause", PAUSE | {"what": "deletion"})
    assert [one["action"] for one in world.records("_system")] == ["creation.paused", "act.refused"]


class ReadOnly:
    """A database that answers questions and takes nothing."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.get, self.find = documents.get, documents.find

    def commit(self, *writes: Write) -> None:
        raise Transient("no answer")


def test_a_refusal_that_cannot_be_audited_is_a_refusal_and_is_audited_with_the_next(world: World) -> None:
    client = client_of(replace(world.ports, documents=ReadOnly(world.documents)), "viewer@vendor.example")
    for _ in range(2):
        answer = client.post("/api/v1/controls/pause", json=PAUSE, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 403
    assert refusals(world) == []
    post(world, "/controls/pause", PAUSE, "viewer@vendor.example")
    assert len(refusals(world)) == 1


def test_an_act_that_cannot_be_committed_is_said_and_asked_for_again_under_its_key(world: World) -> None:
    client = client_of(replace(world.ports, documents=ReadOnly(world.documents)))
    answer = client.post("/api/v1/controls/pause", json=PAUSE, headers={"Idempotency-Key": "key-1"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert post(world, "/controls/pause", PAUSE).status_code == 200


# --- that he meant it ---------------------------------------------------------------------------------------------


def test_a_request_that_changes_something_needs_a_key(world: World) -> None:
    assert "Idempotency-Key: missing" in detail(post(world, "/controls/pause", PAUSE, key=None), 400)
    for bad in ("a b", "x" * 201, "ü"):
        sent = {"Idempotency-Key": bad}
        assert "Idempotency-Key: not 1 to 200" in detail(post(world, "/controls/pause", PAUSE, key=None, **sent), 400)


def test_the_same_key_again_acts_once_and_is_answered_alike(world: World) -> None:
    first = post(world, "/tenants/alpha/holds", {"reason": "case 4711"})
    world.clock.move(hours=1)
    second = post(world, "/tenants/alpha/holds", {"reason": "case 4711"})
    assert (first.status_code, first.data) == (200, second.data)
    assert [hold.reason for hold in world.read(d.Tenant, "tenants/alpha").holds] == ["case 4711"]
    assert [record["action"] for record in world.records("alpha")] == ["hold.added"]


def test_the_same_key_for_something_else_is_refused(world: World) -> None:
    post(world, "/tenants/alpha/holds", {"reason": "case 4711"})
    said = "Idempotency-Key: used before, for something else; expected a new one for a new request"
    assert detail(post(world, "/tenants/alpha/holds", {"reason": "case 4712"}), 409) == said
    assert detail(post(world, "/tenants/alpha/pause", PAUSE), 409) == said
    assert len(world.read(d.Tenant, "tenants/alpha").holds) == 1


def test_keys_are_each_callers_own(world: World) -> None:
    post(world, "/tenants/alpha/holds", {"reason": "case 4711"})
    assert post(world, "/tenants/alpha/holds", {"reason": "case 4712"}, OPERATOR).status_code == 200
    assert len(world.read(d.Tenant, "tenants/alpha").holds) == 2


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "expected Content-Type: application/json"),
        ({"Content-Type": "text/plain"}, 415, "expected Content-Type: application/json"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "sent by another site"),
        ({"Sec-Fetch-Site": "same-site"}, 403, "sent by another site"),
    ],
)
def test_what_another_site_can_make_a_browser_send_is_refused(
    world: World, headers: dict[str, str], status: int, said: str
) -> None:
    assert detail(post(world, "/controls/pause", PAUSE, **headers), status) == said
    assert world.memory.get("system/controls") == [None]


def test_a_page_of_ours_and_a_program_may_send(world: World) -> None:
    for number, site in enumerate(("same-origin", "none")):
        sent = {"Sec-Fetch-Site": site}
        assert post(world, "/controls/pause", PAUSE, key=f"k{number}", **sent).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "body: not JSON"),
        ("[]", "body: expected a JSON object with what, project, reason, dry_run"),
        (b"\xff", "body: not UTF-8"),
        ('{"what": "creation"}', "reason: missing; expected why, on one line of at most 500 characters"),
        ('{"what": "nothing", "reason": "x"}', "what: 'nothing' is not one; expected creation, deletion or restore"),
        (
            '{"what": "creation", "reason": "x", "tenant": "beta"}',
            "'tenant': no such field here; expected what, project, reason, dry_run",
        ),
        ('{"what": "creation", "reason": "a\\nb"}', "reason: 'a\\nb' is not one; expected why, on one line"),
        ('{"what": "creation", "reason": ""}', "reason: empty; expected why, on one line"),
        ('{"what": "creation", "reason": "   "}', "reason: empty; expected why, on one line"),
        ('{"what": "creation", "reason": 5, and then', "reason: expected why, on one line"),
        ('{"a":' * 100_000, "body: "),
    ],
)
def test_a_wrong_body_is_said(world: World, body: str | bytes, said: str) -> None:
    answer = post(world, "/controls/pause", body)
    if len(body) > BODY_BYTES_MAX:
        assert answer.status_code == 413
    else:
        assert detail(answer, 400).startswith(said)


def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    body = {"what": "creation", "reason": "x" * BODY_BYTES_MAX}
    assert post(world, "/controls/pause", body).status_code == 413


def test_a_wrong_right_comes_before_a_wrong_body(world: World) -> None:
    assert "it needs operator or admin" in detail(post(world, "/controls/pause", "[]", "viewer@vendor.example"), 403)


# --- what is another's --------------------------------------------------------------------------------------------


def test_a_client_admin_sees_his_tenant_alone(world: World) -> None:
    anna = "anna@alpha.example"
    fleet = json.loads(get(world, "/fleet", anna).data)
    assert [line["id"] for line in fleet["tenants"]] == ["alpha"]
    assert (fleet["totals"], fleet["ticks"], fleet["bad_messages"], fleet["next"]) == (None, [], [], None)
    points = json.loads(get(world, "/points", anna).data)["points"]
    assert {point["tenant"] for point in points} == {"alpha"}
    assert json.loads(get(world, "/audit", anna).data) == {"chains": ["alpha"], "next": None}


@pytest.mark.parametrize(
    "path",
    [
        "/tenants/{t}",
        "/tenants/{t}/retention",
        "/points?tenant={t}",
        "/points/20261101-o-beta-app-00000001",
        "/points/20261101-o-beta-app-00000001?tenant={t}",
        "/holds?tenant={t}",
        "/audit/{t}",
    ],
)
def test_anothers_is_answered_as_what_is_not_there(world: World, path: str) -> None:
    answers = {detail(get(world, path.format(t=other), "anna@alpha.example"), 404) for other in ("beta", "nobody")}
    assert answers == {"there is nothing here"}


def test_a_client_admins_post_to_another_tenant_is_404_whether_or_not_it_is_there(world: World) -> None:
    for other in ("alpha", "nobody"):
        answer = post(world, f"/tenants/{other}/holds", {"reason": "mine now"}, "paula@priv.example")
        assert detail(answer, 404) == "there is nothing here"
    assert world.read(d.Tenant, "tenants/alpha").holds == []


def test_a_client_admin_is_told_what_is_paused_of_his_tenant_alone(world: World) -> None:
    for tenant in ("alpha", "priv"):
        post(world, f"/tenants/{tenant}/pause", PAUSE, key=tenant)
    post(world, "/controls/pause", PAUSE | {"project": "beta-prod"})
    seen = json.loads(get(world, "/controls", "paula@priv.example").data)["paused"]["creation"]
    assert seen == {"fleet": False, "projects": [], "tenants": ["priv"]}
    answer = post(world, "/tenants/priv/resume", PAUSE, "paula@priv.example")
    assert json.loads(answer.data)["paused"]["tenants"] == []
    assert world.read(d.Controls, "system/controls").paused.creation.tenants == ["alpha"]


def test_nobody_learns_of_a_tenant_that_is_not_there(world: World) -> None:
    for path in ("/tenants/nobody/holds", "/tenants/nobody/points", "/tenants/nobody/override"):
        body = {"reason": "r"} if "holds" in path else {"reason": "r", "instance": "i"}
        assert detail(post(world, path, body), 404) == "there is nothing here"


def test_the_answers_of_commands_are_what_the_route_says(world: World) -> None:
    answer = post(world, "/tenants/alpha/points", {"instance": "alpha-app", "reason": "before import"}, OPERATOR)
    asked = json.loads(answer.data)
    assert set(asked) == set(commands.PointAnswer.__struct_fields__)
    stored = world.read(d.Point, f"tenants/alpha/points/{asked['point']}")
    assert (stored.requested_by, stored.trigger, stored.reason) == (OPERATOR, "on_demand", "before import")


def test_asking_for_anothers_list_is_audited_as_asking_for_his_page_is(world: World) -> None:
    for path in ("/points?tenant=beta", "/holds?tenant=beta", "/points/20261101-o-beta-app-00000001?tenant=beta"):
        get(world, path, "anna@alpha.example")
    assert {(who, what) for who, what, why in refusals(world) if why == "another's tenant"} == {
        ("anna@alpha.example", "access/point.read"),
        ("anna@alpha.example", "access/hold.read"),
    }


def test_what_is_paused_of_another_does_not_move_a_clients_page(world: World) -> None:
    def version() -> str:
        return str(json.loads(get(world, "/fleet", "paula@priv.example").data)["version"])

    post(world, "/tenants/priv/pause", PAUSE, key="mine")
    before = version()
    post(world, "/tenants/beta/pause", PAUSE, key="anothers")
    assert version() == before
    post(world, "/tenants/priv/resume", PAUSE, key="mine again")
    post(world, "/controls/pause", PAUSE, key="everybodys")
    assert version() != before


# --- at the same time, and at the ends of time --------------------------------------------------------------------


class Meanwhile:
    """Documents in which something happens once between the door and the decision: when an act asks whether it was
    done before, and it was not."""

    def __init__(self, world: World, happens: Callable[[], object]) -> None:
        self._world, self._happens = world, happens
        self.find, self.commit = world.memory.find, world.memory.commit

    def get(self, *paths: str) -> list[Doc | None]:
        found = self._world.memory.get(*paths)
        if self._world.documents is self and any("/requests/" in path for path in paths):
            self._world.documents = self._world.memory
            self._happens()
        return found


def test_the_same_override_twice_at_once_is_one_act_and_one_answer(world: World) -> None:
    (machine,) = world.instances("alpha")
    world.put((f"tenants/alpha/instances/{machine.id}", structs.replace(machine, breach_at=THEN)))
    body = {"instance": "alpha-app", "reason": "the disk is full"}
    others: list[TestResponse] = []
    world.documents = Meanwhile(world, lambda: others.append(post(world, "/tenants/alpha/override", body)))
    answer = post(world, "/tenants/alpha/override", body)
    assert (answer.status_code, answer.data) == (200, others[0].data)
    assert [record["action"] for record in world.records("alpha")] == ["retention.overridden"]


def test_the_same_release_twice_at_once_is_one_act_and_one_answer(world: World) -> None:
    held = json.loads(post(world, "/tenants/alpha/holds", {"reason": "case 4711"}, key="hold").data)["hold"]["id"]
    path, body = f"/tenants/alpha/holds/{held}/release", {"reason": "closed"}
    others: list[TestResponse] = []
    world.documents = Meanwhile(world, lambda: others.append(post(world, path, body)))
    answer = post(world, path, body)
    assert (answer.status_code, answer.data) == (200, others[0].data)


@pytest.mark.parametrize("prefix", ["", "person|", "person\\n"])
def test_no_message_takes_the_key_of_a_persons_request(world: World, prefix: str) -> None:
    said = {"schema": 1, "type": "create.requested", "id": f"{prefix}{ADMIN}|key-1", "tenant": "alpha"}
    said |= {"claimed_actor": "eve", "reason": "r", "data": {"instance": "alpha-app"}}
    world.bus.publish("snapkeep-create", json.dumps(said).encode())
    world.deliver()
    asked = len(world.points("alpha"))
    answer = post(world, "/tenants/alpha/points", {"instance": "alpha-app", "reason": "r"})
    assert answer.status_code == 200, answer.text
    assert len(world.points("alpha")) == asked + 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tenants/alpha/holds", {"reason": "r", "until": "9999-12-31T23:59:59-14:00"}),
        ("/tenants/alpha/holds", {"reason": "r", "until": "0001-01-01T00:00:00+14:00"}),
        ("/tenants/alpha/retention", {"retention": {"keep_daily": 3}, "at": "9999-12-31T23:59:59-14:00"}),
        ("/tenants/alpha/retention", {"retention": {"keep_daily": 3}, "at": "0001-01-01T00:00:00+14:00"}),
    ],
)
def test_a_moment_beyond_the_calendar_is_refused_in_words(world: World, path: str, body: dict[str, Any]) -> None:
    said = detail(post(world, path, body), 422)
    assert "is beyond the years 1 to 9999 in UTC" in said or "is over" in said


@pytest.mark.parametrize("path", ["/points?tenant=", "/holds?tenant=", "/points?state=", "/fleet?after="])
def test_a_parameter_that_is_empty_is_not_one_that_is_left_out(world: World, path: str) -> None:
    assert ": empty; leave it out, or give" in detail(get(world, path), 400)


def test_what_was_so_already_is_answered_alike_when_others_have_changed_it_meanwhile(world: World) -> None:
    entry = {
        "id": "alpha",
        "name": "Alpha",
        "project": "acme-prod",
        "instances": [{"name": "alpha-app", "zone": "southamerica-east1-a"}],
    }

    def apply(key: str, **more: str) -> str:
        answer = post(world, "/tenants/alpha/apply", {"entry": entry | more}, key=key)
        assert answer.status_code == 200, answer.text
        return str(answer.text)

    apply("first")
    nothing = apply("again")
    apply("a-colleagues", name="Alpha & Daughters")
    assert apply("again") == nothing
    assert world.read(d.Tenant, "tenants/alpha").name == "Alpha & Daughters"


def test_the_cookie_of_forms_is_for_this_host_over_https_alone_where_sign_in_is_verified(world: World) -> None:
    client = create_app(world.ports, IapIdentities(AUDIENCE, HandClock(), lambda: KEYS)).test_client()
    cookie = client.get("/tenants/alpha", headers={IAP: token(claims())}).headers["Set-Cookie"]
    assert cookie.startswith("__Host-snapkeep-form=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    local = client_of(world.ports).get("/tenants/alpha").headers["Set-Cookie"]
    assert local.startswith("snapkeep-form=")
    assert "Secure" not in local


def test_who_is_let_in_by_a_deployment_acts_by_that_one(world: World) -> None:
    owner = world.read(d.Tenant, "tenants/priv")
    saas = structs.replace(owner, deployment="saas")
    world.documents = Meanwhile(world, lambda: world.put(("tenants/priv", saas)))
    answer = post(world, "/tenants/priv/holds", {"reason": "mine"}, "paula@priv.example")
    assert "priv is no longer private_saas" in detail(answer, 409)
    assert world.read(d.Tenant, "tenants/priv").holds == []


@pytest.mark.parametrize("path", ["/tenants/priv/holds", "/sign-in"])
def test_a_form_that_is_too_large_is_answered_with_a_page(world: World, path: str) -> None:
    client = client_of(world.ports)
    client.set_cookie(FORM_COOKIE, "mine")
    answer = client.post(path, data={"reason": "x" * (BODY_BYTES_MAX + 1)})
    assert (answer.status_code, answer.mimetype) == (413, "text/html")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.7"])
def test_a_local_cloud_answers_to_no_name_of_another_site(world: World, host: str) -> None:
    before = world.memory.dump()
    for answer in (
        client_of(world.ports).get("/tenants/alpha", headers={"Host": host}),
        client_of(world.ports).post(
            "/api/v1/controls/pause", json=PAUSE, headers={"Host": host, "Idempotency-Key": "k"}
        ),
    ):
        assert answer.status_code == 400
        assert "alpha" not in answer.text
    assert world.memory.dump() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:8080"])
def test_a_local_cloud_answers_to_this_machine(world: World, host: str) -> None:
    assert client_of(world.ports).get("/tenants/alpha", headers={"Host": host}).status_code == 200
