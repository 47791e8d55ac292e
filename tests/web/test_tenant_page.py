"""Sign-in, a tenant's page and its forms in a real browser: what it shows, what it does, how it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no py.typed
from msgspec.structs import replace
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.cli.typing_in import local_cloud
from tests.makers import World, instance
from tests.web.chromium import browser as chromium
from tests.web.figures import HOSTILE, LONG_NAME, troubled
from tests.web.fleets import put_copies, put_stored, put_tenant
from tests.web.people import ADMIN, put_people
from tests.web.test_page import CONTRASTS, DESK, PHONE, SCHEMES, Scheme

from snapkeep import documents as d

pytestmark = pytest.mark.browser

WIDTHS: Final = (320, PHONE, 760, 780, 1200, 1220, DESK)
POINT: Final = "tenants/gamma/points/20261121-s-gamma-app-00000001"
"""With a copy on its way, and with all that a point's page can say of it."""

PAGES: Final = ("tenants/acme", "tenants/gamma", POINT, "orphans", "sign-in", "tenants/nobody", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def world() -> World:
    """A fleet in trouble, and of it one tenant with all that its page can show."""
    one = troubled()
    put_people(one, anna="acme")
    now = one.clock.now()
    put_tenant(one, "acme", name=LONG_NAME)
    put_stored(one, "acme", 45, lock_until=None)
    paths = sorted(path for path, _ in one.documents_in("tenants/acme/points/"))
    for number, path in enumerate(paths[:3]):
        expiry = d.Expiry(
            was="verified",
            reason="no rule keeps it",
            decided_at=now,
            delete_after=now + timedelta(hours=(number - 1) * 20),
            begun_at=now if number == 2 else None,
        )
        one.put((path, replace(one.read(d.Point, path), state="expiring", expiry=expiry)))
    name = "acme-pam-with-a-name-that-takes-all-sixty-three-characters-of-it"
    late = now - timedelta(days=2)
    one.put(("tenants/acme/instances/77", instance(id="77", name=name[:63], breach_at=late, seen_at=late)))
    owner = one.read(d.Tenant, "tenants/acme")
    held = d.Hold(id="h-0123456789ab", reason=HOSTILE, by=ADMIN, at=now)
    one.put(("tenants/acme", replace(owner, holds=[held], held=True, unmatched=[HOSTILE])))
    kinds = d.PausedKinds(deletion=d.Paused(fleet=True, tenants=["acme"]))
    one.put(("system/controls", d.Controls(updated_at=now, paused=kinds)))
    fields: dict[str, Any] = {"kind": "snapshot_gone", "id": "1", "tenant": "acme", "created_at": now, "found_at": now}
    lost = d.Orphan(snapshot="sk-" + "x" * 60, point="20261101-o-acme-pam-1-0badcafe", bytes=7 << 30, **fields)
    vault = d.Vault(
        updated_at=now, project="acme-vault", tenants=["acme"], next_at=now, orphans=[lost], orphans_total=9,
        failure=d.Failure(code="forbidden", message=HOSTILE),
    )  # fmt: skip
    one.put(("vaults/acme-vault", vault))
    put_tenant(one, "gamma")
    put_stored(one, "gamma", 7)
    put_copies(one, "gamma")
    shown = one.read(d.Point, POINT)
    parts = {"holds": [held], "gone": [shown.disks[0].snapshot.name], "definition": {"left_out": [HOSTILE]}}
    one.put((POINT, replace(shown, usable=False, held=True, failure=vault.failure, **parts)))
    return one


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with local_cloud(world) as address:
        yield f"{address}/"


@pytest.fixture
def said() -> list[str]:
    return []


Enter = Callable[..., Page]


@pytest.fixture
def enter(browser: Browser, url: str, said: list[str]) -> Iterator[Enter]:
    """Signs somebody in by the page that asks who he is, and shows a page."""
    contexts: list[BrowserContext] = []

    def entered(path: str, email: str = ADMIN, *, width: int = DESK, scheme: Scheme = "light", **more: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{url}sign-in")
        page.get_by_role("button", name=email).click()
        expect(page.locator(".caller")).to_contain_text(email)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url + path)
        return page

    yield entered
    for context in contexts:
        context.close()


# --- what it does -------------------------------------------------------------------------------------------------


def test_somebody_signs_in_holds_releases_pauses_and_signs_out(enter: Enter, said: list[str], world: World) -> None:
    page = enter("tenants/acme")
    page.get_by_label("Hold", exact=True).select_option("77")
    page.get_by_label("Reason").first.fill("case 4711")
    page.get_by_label("Until (UTC), or open").fill("2026-12-24T18:00")
    page.get_by_role("button", name="Add hold").click()
    expect(page.get_by_role("status")).to_contain_text("Held.")
    (hold,) = world.read(d.Instance, "tenants/acme/instances/77").holds
    assert (hold.by, f"{hold.until:%Y-%m-%d %H:%M %Z}") == (ADMIN, "2026-12-24 18:00 UTC")
    row = page.locator(f"#hold-{hold.id}")
    expect(row).to_contain_text("case 4711")
    row.get_by_label("Why it ends").fill("closed")
    row.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status")).to_contain_text("Released.")
    expect(page.locator(f"#hold-{hold.id}")).to_have_count(0)
    creation = page.get_by_role("form", name="Pause creation")
    creation.get_by_label("Reason").fill("quota")
    creation.get_by_role("button").click()
    expect(page.get_by_text("New points: paused for tenant acme")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Who are you today?")).to_be_visible()
    assert said == []


def test_somebody_asks_for_a_copy_and_holds_it(enter: Enter, said: list[str], world: World) -> None:
    bare = min(point.id for point in world.points("gamma"))
    page = enter("tenants/gamma")
    form = page.get_by_role("form", name="Ask for a copy")
    form.get_by_label("Copy to us-east1 the point").fill(bare)
    form.get_by_label("Why a copy").fill("before the move")
    form.get_by_role("button").click()
    expect(page.get_by_role("status")).to_contain_text("Asked for.")
    row = page.locator(f"#copy-us-east1-{bare}")
    expect(row).to_contain_text("on its way")
    hold = page.get_by_role("form", name="Add a hold")
    hold.get_by_label("or one point").fill(bare)
    hold.get_by_label("of that point").select_option("us-east1")
    hold.get_by_label("Reason").fill("case 4711")
    hold.get_by_role("button").click()
    expect(page.get_by_role("status")).to_contain_text("Held.")
    expect(row).to_contain_text("held: case 4711")
    copy = world.read(d.Point, f"tenants/gamma/points/{bare}").copies["us-east1"]
    assert (copy.reason, [one.reason for one in copy.holds]) == ("before the move", ["case 4711"])
    assert said == []


def test_a_reason_is_asked_for_before_anything_is_sent(enter: Enter, world: World) -> None:
    page = enter("tenants/acme")
    page.get_by_role("button", name="Add hold").click()
    assert page.evaluate("document.activeElement.name") == "reason"
    assert [hold.reason for hold in world.read(d.Tenant, "tenants/acme").holds] == [HOSTILE]


def test_what_is_refused_is_said_at_the_top(enter: Enter) -> None:
    page = enter("tenants/acme")
    page.get_by_label("or one point").fill("20200101-s-none-0badcafe")
    page.get_by_label("Reason").first.fill("x")
    page.get_by_role("button", name="Add hold").click()
    expect(page.get_by_role("alert")).to_contain_text("20200101-s-none-0badcafe")


def test_who_may_only_look_finds_no_form(enter: Enter) -> None:
    page = enter("tenants/acme", "viewer@vendor.example")
    expect(page.get_by_role("heading", name="Holds")).to_be_visible()
    expect(page.locator("main form")).to_have_count(0)


def test_a_client_sees_his_tenant_and_finds_no_other(enter: Enter, url: str) -> None:
    page = enter("", "anna@acme.example")
    expect(page.locator(".tenant")).to_have_count(1)
    expect(page.locator(".ticks")).to_have_count(0)
    expect(page.get_by_role("link", name="Orphans")).to_have_count(0)
    page.locator(".tenant").get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text(LONG_NAME)
    page.goto(f"{url}tenants/mirabellis")
    expect(page.locator("h1")).to_have_text("There is nothing here")


def test_it_works_without_javascript(enter: Enter) -> None:
    page = enter("tenants/acme", java_script_enabled=False)
    page.get_by_label("Reason").first.fill("case 4711")
    page.get_by_role("button", name="Add hold").click()
    expect(page.get_by_role("status")).to_contain_text("Held.")


# --- what it shows ------------------------------------------------------------------------------------------------


def test_points_are_shown_newest_first_and_what_goes_stands_out(enter: Enter) -> None:
    page = enter("tenants/acme")
    lines = page.locator(".kept tbody tr")
    expect(lines).to_have_count(45)
    expect(lines.first.locator(".chips")).to_contain_text("newest verified")
    expect(page.locator(".kept .goes").first).to_contain_text("being deleted")


@pytest.mark.parametrize("path", PAGES)
def test_the_browser_complains_of_nothing_but_of_what_is_not_there(enter: Enter, said: list[str], path: str) -> None:
    page = enter(path)
    expect(page.locator("main")).to_be_visible()
    expect(page.locator("#unverified")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert [one for one in said if "404" not in one] == []


# --- how it looks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_no_width_needs_sideways_scroll(enter: Enter, path: str) -> None:
    page = enter(path)
    for summary in page.locator("details:not([open]) > summary").all():
        summary.click()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        seen = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('thead, select'))"
        over = f"{seen}.filter(e => e.getBoundingClientRect().right > {width})"
        assert page.evaluate(f"{over}.map(e => e.tagName + '.' + e.className)") == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES)
def test_every_text_has_the_contrast_that_wcag_aa_asks_for(enter: Enter, scheme: Scheme, path: str) -> None:
    measured = enter(path, scheme=scheme).evaluate(CONTRASTS)
    assert len(measured) > 8
    assert [one for one in measured if one[0] < 4.5] == []


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_that_keeps_anybody_out(enter: Enter, path: str, scheme: Scheme, width: int) -> None:
    found = Axe().run(enter(path, scheme=scheme, width=width))
    assert found.violations_count == 0, found.generate_report()


def test_every_field_has_a_label_and_every_button_a_name(enter: Enter) -> None:
    page = enter("tenants/acme")
    fields = "[...document.querySelectorAll('input:not([type=hidden]), select')]"
    assert page.evaluate(f"{fields}.filter(e => !e.labels.length).length") == 0
    assert page.evaluate(f"{fields}.length") >= 6
    assert page.evaluate("[...document.querySelectorAll('button')].filter(e => !e.textContent.trim()).length") == 0
    ids = "[...document.querySelectorAll('[id]')].map(e => e.id)"
    assert page.evaluate(f"{ids}.length") == page.evaluate(f"new Set({ids}).size")


def test_the_focus_is_seen_on_everything_that_the_keyboard_reaches(enter: Enter) -> None:
    page = enter("tenants/acme")
    put = "getComputedStyle(document.activeElement)"
    reached = set()
    for _ in range(200):  # a link for each of 45 points, and all the rest
        page.keyboard.press("Tab")
        tag, style, width = page.evaluate(f"[document.activeElement.tagName, {put}.outlineStyle, {put}.outlineWidth]")
        if tag == "BODY":
            break
        assert (tag, style, width) == (tag, "solid", "3px")
        reached.add(tag)
    assert reached == {"A", "SUMMARY", "INPUT", "SELECT", "BUTTON"}
