"""A restore in a real browser, from the tenant's page to its end, carried out on a simulated cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no py.typed
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.cli.typing_in import serving
from tests.web.chromium import browser as chromium
from tests.web.test_page import CONTRASTS, DESK, PHONE, SCHEMES, Scheme
from tests.web.test_tenant_page import WIDTHS

from snapkeep import documents as d
from snapkeep import fleet
from snapkeep.local_sign_in import LocalSignIn
from snapkeep.store import Fleet
from snapkeep.web import create_app
from snapkeep.web.restores import POLL_S
from snapkeep_local import demo
from snapkeep_local.people import invite
from snapkeep_local.sim import System

pytestmark = pytest.mark.browser

OPERATOR: Final = "operator@vendor.example"
ADMIN: Final = "admin@vendor.example"
INSTANCE: Final = "acme-pam-1"
LOOKS_MAX: Final = 240
"""Minutes that a restore of the example may take."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def system() -> System:
    """The example fleet after two days, and the people who look after it."""
    one = System(seed=1, start=demo.START)
    one.apply(fleet.read(demo.EXAMPLE))
    one.run(timedelta(days=2))
    invite(one.documents, (held.value for held in Fleet(one.documents).tenants()), one.clock.now())
    return one


@pytest.fixture
def url(system: System) -> Iterator[str]:
    with serving(create_app(system.ports, LocalSignIn())) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def said() -> list[str]:
    """What the pages' consoles said, and what their policy refused."""
    return []


Enter = Callable[..., Page]


@pytest.fixture
def enter(browser: Browser, url: str, system: System, said: list[str]) -> Iterator[Enter]:
    """Signs somebody in and shows a page; its clock stands, so that it asks only when a test lets it."""
    contexts: list[BrowserContext] = []

    def entered(email: str, path: str = "", *, width: int = DESK, scheme: Scheme = "light", **more: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{url}sign-in")
        page.get_by_role("button", name=email).click()
        expect(page.locator(".caller")).to_contain_text(email)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.clock.install(time=system.clock.now())
        page.goto(url + path)
        return page

    yield entered
    for context in contexts:
        context.close()


def ask(page: Page, mode: str = "in_place", **fields: str) -> None:
    """From the fleet's page on: the newest point of the instance, planned and asked for."""
    page.get_by_role("link", name="Acme Bank").first.click()
    page.locator(".of-instance", has=page.locator("summary", has_text=INSTANCE)).locator(".taken a").first.click()
    expect(page.locator("h1")).to_contain_text(INSTANCE)
    page.get_by_label("How").select_option(mode)
    for name, value in fields.items():
        page.locator(f"#restore-{name}").fill(value)
    page.get_by_label("Why").fill("case 4711")
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.locator("#plan")).to_be_visible()
    for waive in page.get_by_label("go without").all():
        waive.check()
    page.get_by_role("button", name="Ask for this restore").click()
    expect(page.locator("main#restore")).to_be_visible()


def look(page: Page) -> None:
    """The open page asks whether anything has changed, and shows it."""
    with page.expect_response("**/now?*") as answered:
        page.clock.fast_forward(POLL_S * 1000)
    answered.value.finished()


def follow(page: Page, system: System, *, until: str) -> list[str]:
    """Minute by minute, as the open page shows it: the states and steps that were seen."""
    seen: list[str] = []
    for _ in range(LOOKS_MAX):
        system.run(timedelta(minutes=1))
        look(page)
        running = page.locator(".step.running .what").all_inner_texts()
        seen += [one for one in running if one not in seen]
        if page.locator("h1 .badge").inner_text() == until:
            return seen
    raise AssertionError(f"not {until} in {LOOKS_MAX} minutes: {page.locator('main').inner_text()}")


def restored(system: System) -> d.Restore:
    """The one that a person has asked for; restore tests are there, too."""
    every = (held.value for held in Fleet(system.documents).tenant("acme").page(d.Restore, "tenant_restores"))
    (found,) = (one for one in every if one.purpose == "restore")
    return found


# --- from the tenant to the end -----------------------------------------------------------------------------------


def test_a_point_is_found_planned_asked_for_approved_by_another_and_followed_to_its_end(
    system: System, enter: Enter, said: list[str]
) -> None:
    page = enter(OPERATOR)
    ask(page)
    expect(page.locator(".stands")).to_contain_text("Waits for the approval of a second person")
    expect(page.get_by_text("You have asked for it, so somebody else has to approve it")).to_be_visible()
    expect(page.get_by_role("button", name="Approve exactly this")).to_have_count(0)
    path = page.url.split("/", 3)[3].partition("?")[0]

    other = enter(ADMIN, path)
    hash = restored(system).request_sha256
    expect(other.locator(".exactly")).to_contain_text(hash)
    other.get_by_role("button", name="Approve exactly this").click()
    expect(other.get_by_text("Approved. It begins within a minute.")).to_be_visible()

    loaded = page.evaluate("window.loadedOnce = true")
    seen = follow(page, system, until="completed")
    assert any("Make the disks" in one for one in seen)
    expect(page.locator(".stands")).to_contain_text("Completed in")
    expect(page.locator("#live")).to_have_text("Ended")
    assert page.evaluate("window.loadedOnce") is loaded  # live: the page was never loaded again
    expect(page.locator("#checks-title")).to_be_visible()
    expect(page.locator("#former-title")).to_be_visible()
    expect(page.get_by_role("button", name="Ask to undo it")).to_be_visible()
    assert restored(system).state == "completed"

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(60_000)
    expect(page.locator("#stale")).to_be_hidden()  # it has ended: silence means nothing
    assert asked == []
    page.get_by_role("link", name="acme", exact=True).click()
    expect(page.locator(f"#restore-{restored(system).id} .badge")).to_have_text("completed")
    assert said == []


def test_a_cancelled_one_shows_how_it_is_taken_back(system: System, enter: Enter, said: list[str]) -> None:
    page = enter(OPERATOR)
    ask(page)
    other = enter(ADMIN, page.url.split("/", 3)[3].partition("?")[0])
    other.get_by_role("button", name="Approve exactly this").click()
    for _ in range(LOOKS_MAX):
        system.run(timedelta(minutes=1))
        look(page)
        if page.locator(".step.running", has_text="Make the disks").count():
            break
    page.get_by_label("Why it is cancelled").fill("the wrong po")
    page.get_by_label("Why it is cancelled").press("End")
    system.run(timedelta(seconds=20))
    look(page)  # whoever is writing keeps what he has written
    page.keyboard.type("int")
    expect(page.get_by_label("Why it is cancelled")).to_have_value("the wrong point")
    page.get_by_role("button", name="Cancel the restore").click()
    expect(page.locator(".stands")).to_have_text("It was cancelled; what it did is being taken back")
    expect(page.locator(".step.undo").first).to_contain_text("taking back:")
    follow(page, system, until="cancelled")
    expect(page.locator(".step.undo .badge").first).to_have_text("done")
    expect(page.locator(".why").first).to_contain_text("the wrong point")
    assert restored(system).left == []
    assert said == []


def test_without_javascript_a_restore_is_planned_and_asked_for_too(system: System, enter: Enter) -> None:
    page = enter(OPERATOR, java_script_enabled=False)
    ask(page, "new_instance", name="acme-pam-1-b")
    expect(page.locator("noscript .live")).to_be_visible()
    assert restored(system).target.name == "acme-pam-1-b"


# --- how it looks -------------------------------------------------------------------------------------------------


def planned(page: Page) -> None:
    """A point's page with a plan, and all that it lacks."""
    ask_for = page.locator(".of-instance", has=page.locator("summary", has_text=INSTANCE)).locator(".taken a").first
    ask_for.click()
    page.get_by_label("How").select_option("new_instance")
    page.locator("#restore-name").fill("acme-pam-1-b")
    page.get_by_label("Why").fill("case 4711")
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.locator("#plan")).to_be_visible()


def ended(page: Page, system: System) -> None:
    """The page of a restore that has ended, with all that it can show."""
    page.goto(page.url.partition("/tenants")[0] + "/")
    ask(page, "new_instance", name="acme-pam-1-b")
    follow(page, system, until="completed")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_axe_finds_nothing_every_text_has_contrast_and_no_width_scrolls_sideways(
    system: System, enter: Enter, scheme: Scheme, width: int
) -> None:
    page = enter(ADMIN, "tenants/acme", width=width, scheme=scheme)
    for show in (planned, lambda page: ended(page, system)):
        show(page)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
        for narrow in WIDTHS:
            page.set_viewport_size({"width": narrow, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") == narrow
        page.set_viewport_size({"width": width, "height": 900})
