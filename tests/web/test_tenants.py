"""Sign-in, the page of a tenant and its forms, orphans: as they are sent, and what each form does. No browser."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from tests.makers import World, instance
from tests.web.fleets import BOUGHT, ENDED, gone, put_copies, put_stored, put_tenant
from tests.web.people import ADMIN, Somebody, client_of, put_people
from tests.web.test_pages import Inline
from werkzeug.test import TestResponse

from snapkeep import documents as d
from snapkeep.local_sign_in import COOKIE, LocalSignIn
from snapkeep.web import create_app, tenants
from snapkeep.web.door import FORM_COOKIE, FORM_FIELD, KEY_FIELD

CLIENT = "anna@beta.example"


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one, anna="beta")
    put_tenant(one, "alpha", retention=d.Retention(keep_last=0, keep_weekly=0, keep_monthly=0, keep_daily=7))
    put_tenant(one, "beta", deployment="private_saas")
    put_stored(one, "alpha", 10, lock_until=None)
    return one


@pytest.fixture
def admin(world: World) -> FlaskClient:
    return client_of(world.ports)


def send(browser: FlaskClient, path: str, page: str = "/tenants/alpha", **fields: str) -> TestResponse:
    """A form of a page, sent as a browser does."""
    shown = browser.get(page)
    found = re.findall(rf'name="({FORM_FIELD}|{KEY_FIELD})" value="([^"]+)"', shown.text)
    return browser.post(path, data=dict(found) | fields, headers={"Origin": "http://localhost"})


def text(answer: TestResponse) -> str:
    """What the page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


# --- sign-in ------------------------------------------------------------------------------------------------------


def test_whoever_is_not_signed_in_is_asked_who_he_is_on_whatever_page_he_wanted(world: World) -> None:
    browser = create_app(world.ports, LocalSignIn()).test_client()
    for path in ("/", "/tenants/alpha", "/orphans"):
        answer = browser.get(path)
        assert answer.status_code == 401
        assert "Who are you today?" in answer.text
        assert f'name="next" value="{path}"' in answer.text
    assert browser.get("/sign-in").status_code == 200


def test_signing_in_leads_to_the_page_that_was_wanted_and_out_again(world: World) -> None:
    browser = create_app(world.ports, LocalSignIn()).test_client()
    answer = send(browser, "/sign-in", "/sign-in", email=ADMIN, next="/tenants/alpha")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/tenants/alpha")
    cookie = next(one for one in answer.headers.getlist("Set-Cookie") if one.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert f"{ADMIN} admin" in text(browser.get("/tenants/alpha"))
    answer = send(browser, "/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
    assert browser.get("/tenants/alpha").status_code == 401


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example", "", "javascript:x"])
def test_a_sign_in_leads_nowhere_else(world: World, next: str) -> None:
    browser = create_app(world.ports, LocalSignIn()).test_client()
    assert send(browser, "/sign-in", "/sign-in", email=ADMIN, next=next).headers["Location"] == "/"


@pytest.mark.parametrize("email", ["", "nobody@vendor.example", "../x", "a/b@c.example"])
def test_who_is_not_known_is_not_signed_in(world: World, email: str) -> None:
    browser = create_app(world.ports, LocalSignIn()).test_client()
    answer = send(browser, "/sign-in", "/sign-in", email=email)
    assert answer.status_code == 403
    assert "is not known here" in text(answer)
    assert not any(one.startswith(COOKIE) for one in answer.headers.getlist("Set-Cookie"))


def test_behind_iap_there_is_no_sign_in(world: World) -> None:
    browser = create_app(world.ports, Somebody()).test_client()
    assert browser.get("/sign-in").status_code == 404
    assert browser.post("/sign-out").status_code == 404


@pytest.mark.parametrize("path", ["/", "/tenants/alpha", "/orphans", "/sign-in", "/tenants/nobody"])
def test_every_page_of_a_local_cloud_says_that_nobody_is_verified(admin: FlaskClient, world: World, path: str) -> None:
    mark = "Identities are not verified here"
    assert mark in admin.get(path).text
    assert mark not in create_app(world.ports, Somebody()).test_client().get(path).text


# --- the page of a tenant -----------------------------------------------------------------------------------------


def test_every_stored_point_is_shown_with_its_decision_and_reasons(admin: FlaskClient) -> None:
    shown = text(admin.get("/tenants/alpha"))
    assert "What is kept, and why 10 3 points go (6.0 GiB)" in shown
    assert "kept daily 1/7 newest verified" in shown
    assert "expires no rule keeps it" in shown
    assert "10 points, 20.0 GiB; 3 go" in shown


def test_nothing_inline_is_in_any_page_and_every_form_is_ours(admin: FlaskClient) -> None:
    for path in ("/tenants/alpha", "/orphans", "/sign-in", "/tenants/nobody"):
        inline = Inline()
        page = admin.get(path).text
        inline.feed(page)
        assert inline.found == []
        assert page.count("<form") == page.count(f'name="{FORM_FIELD}"') == page.count(f'name="{KEY_FIELD}"')


def test_a_tenant_that_is_not_there_or_not_his_answers_alike(world: World) -> None:
    browser = client_of(world.ports, CLIENT)
    answers = [browser.get(f"/tenants/{id}") for id in ("nobody", "alpha", "..", "ALPHA")]
    assert {answer.status_code for answer in answers} == {404}
    assert "There is nothing here" in answers[0].text


def forms(browser: FlaskClient, path: str) -> set[str]:
    return set(re.findall(r'<form[^>]* action="([^"]+)"', browser.get(path).text)) - {"/sign-out"}


@pytest.mark.parametrize(
    ("who", "id", "may"),
    [
        ("viewer@vendor.example", "alpha", set()),
        ("auditor@vendor.example", "alpha", set()),
        ("operator@vendor.example", "alpha", {"holds", "pause"}),
        (ADMIN, "alpha", {"holds", "pause"}),
        (ADMIN, "beta", {"holds", "pause"}),
        (CLIENT, "beta", {"holds", "pause", "schedule"}),
    ],
)
def test_forms_are_shown_to_whoever_may(world: World, who: str, id: str, may: set[str]) -> None:
    assert forms(client_of(world.ports, who), f"/tenants/{id}") == {f"/tenants/{id}/{form}" for form in may}


def test_a_hold_is_added_and_released_and_the_page_says_so(admin: FlaskClient, world: World) -> None:
    answer = send(admin, "/tenants/alpha/holds", reason="case 4711", until="2026-12-01T00:00", instance="", point="")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/tenants/alpha?did=held")
    (hold,) = world.read(d.Tenant, "tenants/alpha").holds
    assert (hold.by, hold.reason, f"{hold.until:%Y-%m-%d %H:%M}") == (ADMIN, "case 4711", "2026-12-01 00:00")
    shown = text(admin.get(answer.headers["Location"]))
    assert "Held. What was expiring of it has come back." in shown
    assert "case 4711 all of it · until 2026-12-01 00:00Z · by admin@vendor.example" in shown
    assert "tenant held: case 4711" in shown
    answer = send(admin, "/tenants/alpha/release", hold=hold.id, reason="closed")
    assert answer.headers["Location"] == "/tenants/alpha?did=released"

    assert world.read(d.Tenant, "tenants/alpha").holds == []


def test_a_hold_that_comes_late_says_so(admin: FlaskClient, world: World) -> None:
    (one,) = world.instances("alpha")
    path = f"tenants/alpha/instances/{one.id}"
    world.put((path, replace(one, retention=d.RetentionWork(deleting=["p1"]))))
    answer = send(admin, "/tenants/alpha/holds", reason="case 4711")
    assert "The deletion of points had begun before" in text(admin.get(answer.headers["Location"]))


def test_a_form_that_is_sent_twice_acts_once(admin: FlaskClient, world: World) -> None:
    shown = admin.get("/tenants/alpha")
    fields = dict(re.findall(rf'name="({FORM_FIELD}|{KEY_FIELD})" value="([^"]+)"', shown.text))
    for _ in range(2):
        answer = admin.post("/tenants/alpha/holds", data=fields | {"reason": "case 4711"})
        assert answer.status_code == 303
    assert len(world.read(d.Tenant, "tenants/alpha").holds) == 1


def test_pausing_is_said_on_the_tenants_page_and_on_the_fleets(admin: FlaskClient) -> None:
    assert send(admin, "/tenants/alpha/pause", what="deletion", reason="looking").status_code == 303
    for path in ("/tenants/alpha", "/"):
        assert "Deletion: paused for tenant alpha" in text(admin.get(path))
    assert "/tenants/alpha/resume" in forms(admin, "/tenants/alpha")
    assert send(admin, "/tenants/alpha/resume", what="deletion", reason="done").status_code == 303
    assert "paused for" not in text(admin.get("/tenants/alpha"))


def test_an_instance_in_breach_can_be_overridden(admin: FlaskClient, world: World) -> None:
    late = world.clock.now() - timedelta(days=3)
    one = instance(id="77", name="alpha-db", breach_at=late, seen_at=late - timedelta(days=3))
    world.put(("tenants/alpha/instances/77", one))
    assert "/tenants/alpha/override" in forms(admin, "/tenants/alpha")
    assert send(admin, "/tenants/alpha/override", instance="77", reason="disk is full").status_code == 303
    assert world.read(d.Instance, "tenants/alpha/instances/77").override is not None
    assert "/tenants/alpha/override" not in forms(admin, "/tenants/alpha")


def test_a_client_switches_his_schedule(world: World) -> None:
    browser = client_of(world.ports, CLIENT)
    assert send(browser, "/tenants/beta/schedule", "/tenants/beta", on="true", reason="agreed").status_code == 303
    assert world.read(d.Tenant, "tenants/beta").vendor_managed
    assert "Switch off" in browser.get("/tenants/beta").text


@pytest.mark.parametrize(
    ("path", "fields", "status", "said"),
    [
        ("holds", {"reason": ""}, 422, "reason"),
        ("holds", {"reason": "x", "point": "20261001-s-x-0badcafe"}, 422, "20261001-s-x-0badcafe"),
        ("holds", {"reason": "x", "until": "2020-01-01T00:00"}, 422, "until"),
        ("holds", {"reason": "x", "until": "soon"}, 422, "until"),
        ("holds", {"reason": "x", "more": "y"}, 422, "more"),
        ("release", {"reason": "x", "hold": "none"}, 422, "none"),
        ("pause", {"reason": "x", "what": "everything"}, 422, "everything"),
        ("override", {"reason": "x", "instance": "none"}, 422, "none"),
        ("schedule", {"reason": "x", "on": "true"}, 403, "schedule.switch is not for admin"),
    ],
)
def test_what_is_refused_says_why_on_the_page(
    admin: FlaskClient, world: World, path: str, fields: dict[str, str], status: int, said: str
) -> None:
    before = [one for one in world.memory.dump() if "/inbox/" not in one]
    answer = send(admin, f"/tenants/alpha/{path}", **fields)
    assert answer.status_code == status
    refusal = re.search(r'<p class="refused" role="alert">(.*?)</p>', answer.text, re.S)
    assert refusal is not None
    assert said in unescape(refusal[1])
    assert [one for one in world.memory.dump() if "/inbox/" not in one] == before


@pytest.mark.parametrize("who", ["viewer@vendor.example", "auditor@vendor.example", CLIENT])
@pytest.mark.parametrize("path", ["holds", "release", "pause", "resume", "override", "schedule"])
def test_a_form_of_whoever_may_not_changes_nothing(world: World, who: str, path: str) -> None:
    browser = client_of(world.ports, who)
    before = world.read(d.Tenant, "tenants/alpha")
    page = "/tenants/beta" if who == CLIENT else "/tenants/alpha"
    # A page without forms gives no token: it is that of the sign-out.
    answer = send(browser, f"/tenants/alpha/{path}", page, reason="x", what="deletion", hold="y", instance="77")
    assert answer.status_code == (404 if who == CLIENT else 403)
    assert world.read(d.Tenant, "tenants/alpha") == before


@pytest.mark.parametrize(
    "sent",
    [
        {"token": "other"},
        {"token": ""},
        {"cookie": "other"},
        {"cookie": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/tenants/alpha/holds", "/tenants/alpha/pause", "/sign-in", "/sign-out"])
def test_a_form_of_another_site_is_refused(admin: FlaskClient, world: World, path: str, sent: dict[str, str]) -> None:
    shown = admin.get("/tenants/alpha")
    fields = dict(re.findall(rf'name="({FORM_FIELD}|{KEY_FIELD})" value="([^"]+)"', shown.text))
    if "token" in sent:
        fields[FORM_FIELD] = sent["token"]
    if "cookie" in sent:
        admin.set_cookie(FORM_COOKIE, sent["cookie"], path="/")
    headers = {name: value for name, value in sent.items() if name not in ("token", "cookie")}
    answer = admin.post(path, data=fields | {"reason": "x", "what": "deletion", "email": ADMIN}, headers=headers)
    assert answer.status_code == 403
    assert world.read(d.Tenant, "tenants/alpha").holds == []
    assert not any(one.startswith(COOKIE) for one in answer.headers.getlist("Set-Cookie"))


def test_what_others_wrote_is_shown_as_text(admin: FlaskClient, world: World) -> None:
    hostile = "<script>window.hacked = 1</script>"
    owner = world.read(d.Tenant, "tenants/alpha")
    world.put(("tenants/alpha", replace(owner, name=hostile, unmatched=[hostile])))
    send(admin, "/tenants/alpha/holds", reason=hostile)
    page = admin.get("/tenants/alpha").text
    assert "<script>window" not in page
    assert page.count("&lt;script&gt;window.hacked") >= 12  # in the hold's row and in each point's reasons


def test_a_page_of_a_large_tenant_weighs_a_bounded_number_of_points(world: World) -> None:
    put_stored(world, "alpha", tenants.POINTS_MAX)
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-db")))
    shown = text(client_of(world.ports).get("/tenants/alpha"))
    assert "1 more instance: snapkeep retention plan --tenant alpha --instance NAME" in shown


# --- orphans ------------------------------------------------------------------------------------------------------


def test_orphans_are_shown_by_vault_project(admin: FlaskClient, world: World) -> None:
    assert "No vault projects yet" in text(admin.get("/orphans"))
    now = world.clock.now()
    vault = d.Vault(
        updated_at=now,
        project="v1",
        tenants=["alpha"],
        listed_at=now,
        next_at=now,
        orphans=[gone(now), replace(gone(now), snapshot="sk-b", copy="us-east1")],
        orphans_total=2,
    )
    world.put(("vaults/v1", vault))
    shown = text(admin.get("/orphans"))
    assert "2 orphans " in shown
    assert "snapshot is gone sk-a of point 20261101-o-alpha-app-0badcafe of alpha" in shown
    assert "snapshot is gone sk-b of the copy in us-east1 of point 20261101-o-alpha-app-0badcafe of alpha" in shown


def test_orphans_are_not_for_a_client(world: World) -> None:
    browser = client_of(world.ports, CLIENT)
    assert browser.get("/orphans").status_code == 403
    assert "/orphans" not in browser.get("/").text


def test_points_that_came_to_nothing_stand_on_their_tenants_page_with_the_reason(
    world: World, admin: FlaskClient
) -> None:
    assert "Came to nothing" not in text(admin.get("/tenants/alpha"))
    path = max(path for path, _ in world.documents_in("tenants/alpha/points/"))
    why = d.Failure(code="consistency_unsupported", message="<b>cannot</b> be stopped")
    world.put((path, replace(world.read(d.Point, path), state="failed", failure=why)))
    said = text(admin.get("/tenants/alpha"))
    assert "Came to nothing 1" in said
    assert "consistency_unsupported: <b>cannot</b> be stopped" in said


def test_a_page_that_is_not_there_gives_no_reason(admin: FlaskClient) -> None:
    answer = admin.get("/tenants/nobody")
    assert answer.status_code == 404
    assert "None" not in text(answer)


def test_an_instance_says_how_many_of_its_points_lost_a_snapshot(admin: FlaskClient, world: World) -> None:
    (one,) = world.instances("alpha")
    lost = replace(one, retention=d.RetentionWork(incomplete=1))
    world.put((f"tenants/alpha/instances/{one.id}", lost))
    assert "1 point lost a snapshot" in text(admin.get("/tenants/alpha"))


# --- copies -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(world: World) -> list[str]:
    """A tenant with copies in every state, and a seventh point that has none; the ids of their points."""
    put_tenant(world, "gamma")
    put_stored(world, "gamma", 7)
    return [*put_copies(world, "gamma"), min(point.id for point in world.points("gamma"))]


def row(answer: TestResponse, id: str) -> str:
    """What one row of a table says."""
    (found,) = re.findall(rf'<tr role="row" id="{id}".*?</tr>', answer.text, re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found)).split())


def test_the_region_map_says_where_everything_is(admin: FlaskClient, copied: list[str]) -> None:
    shown = admin.get("/tenants/gamma")
    assert row(shown, "region-southamerica-east1") == "southamerica-east1 home 0m 2026-11-01 00:00Z 6 1.0 GiB"
    assert row(shown, "region-us-east1") == "us-east1 copy until 2027-12-31 2d 0h 2026-10-30 00:00Z 3"
    assert row(shown, "region-us-west1") == "us-west1 copy ended 2026-10-23 5d 0h 2026-10-27 00:00Z 1"
    assert "copies: 3 verified, 1 on their way, 1 missing, 2 late, 1 no longer bought" in text(shown)
    assert "region-us-east1" not in admin.get("/tenants/alpha").text


@pytest.mark.parametrize(
    ("number", "region", "words"),
    [
        (0, BOUGHT, "copying late"),
        (1, BOUGHT, "verified kept daily 1/7"),
        (2, BOUGHT, "failed missing instant_gone: the instant snapshot of acme-pam-1-boot is gone"),
        (3, BOUGHT, "expiring kept again"),
        (4, ENDED, "verified no longer bought"),
        (5, BOUGHT, "verified kept"),
    ],
)
def test_a_copy_stands_below_its_point_and_says_in_words_how_it_stands(
    admin: FlaskClient, copied: list[str], number: int, region: str, words: str
) -> None:
    shown = admin.get("/tenants/gamma")
    id = copied[number]
    assert row(shown, f"copy-{region}-{id}").startswith(f"copy in {region} of {id} {words}")
    assert shown.text.index(f'id="point-{id}"') < shown.text.index(f'id="copy-{region}-{id}"')


def test_a_point_that_is_stored_as_a_copy_alone_says_so(admin: FlaskClient, copied: list[str]) -> None:
    assert "deleted not at home any more 0 B" in row(admin.get("/tenants/gamma"), f"point-{copied[5]}")


def test_a_copy_is_asked_for_and_the_page_says_so(admin: FlaskClient, world: World, copied: list[str]) -> None:
    answer = send(admin, "/tenants/gamma/copies", "/tenants/gamma", point=copied[6], reason="before the move")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/tenants/gamma?did=copying")
    copy = world.read(d.Point, f"tenants/gamma/points/{copied[6]}").copies[BOUGHT]
    assert (copy.state, copy.requested_by, copy.reason) == ("requested", ADMIN, "before the move")
    shown = admin.get(answer.headers["Location"])
    assert "Asked for. Each disk is copied in full" in text(shown)
    assert row(shown, f"copy-{BOUGHT}-{copied[6]}").startswith(f"copy in {BOUGHT} of {copied[6]} requested on its way")


@pytest.mark.parametrize(
    ("point", "status", "said"),
    [
        ("{there}", 409, "has a copy in us-east1 already"),
        ("20200101-s-none-0badcafe", 422, "no point '20200101-s-none-0badcafe'"),
        ("../x", 422, "'../x' is no point's id"),
    ],
)
def test_a_copy_that_cannot_be_is_refused_at_the_top(
    admin: FlaskClient, copied: list[str], point: str, status: int, said: str
) -> None:
    fields = {"point": point.format(there=copied[1]), "reason": "x"}
    answer = send(admin, "/tenants/gamma/copies", "/tenants/gamma", **fields)
    assert answer.status_code == status
    assert said in text(answer)


def test_a_copy_is_held_apart_from_its_point(admin: FlaskClient, world: World, copied: list[str]) -> None:
    fields = {"point": copied[1], "copy": BOUGHT, "reason": "case 4711"}
    answer = send(admin, "/tenants/gamma/holds", "/tenants/gamma", **fields)
    assert answer.headers["Location"] == "/tenants/gamma?did=held"
    point = world.read(d.Point, f"tenants/gamma/points/{copied[1]}")
    assert (point.holds, [hold.reason for hold in point.copies[BOUGHT].holds]) == ([], ["case 4711"])
    shown = admin.get("/tenants/gamma")
    assert f"case 4711 copy in us-east1 of point {copied[1]} · until it is released" in text(shown)
    assert "held: case 4711" in row(shown, f"copy-{BOUGHT}-{copied[1]}")
    (hold,) = point.copies[BOUGHT].holds
    assert send(admin, "/tenants/gamma/release", "/tenants/gamma", hold=hold.id, reason="over").status_code == 303
    assert world.read(d.Point, f"tenants/gamma/points/{copied[1]}").copies[BOUGHT].holds == []


def test_a_copy_can_be_asked_for_where_it_is_bought_by_whoever_may(world: World, copied: list[str]) -> None:
    assert "/tenants/gamma/copies" in forms(client_of(world.ports, "operator@vendor.example"), "/tenants/gamma")
    assert "/tenants/gamma/copies" not in forms(client_of(world.ports, "viewer@vendor.example"), "/tenants/gamma")
    assert "/tenants/alpha/copies" not in forms(client_of(world.ports), "/tenants/alpha")
