"""The fleet page in a real browser: what it shows, that it stays current, that it says when it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.makers import World
from tests.web.chromium import browser as chromium
from tests.web.figures import HOSTILE, LONG_NAME, NOW, Site, empty, healthy, put_figures, sum_up, troubled

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
PHONE, DESK = 360, 1440

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def said() -> list[str]:
    """What the page's console said, and what its policy refused."""
    return []


@pytest.fixture
def show(browser: Browser, said: list[str]) -> Iterator[Open]:
    """Opens a page of a site, at a width, in a colour scheme."""
    contexts: list[BrowserContext] = []

    def opened(site: Site, path: str = "", *, width: int = DESK, scheme: Scheme = "light", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.clock.install(time=NOW)
        page.goto(site.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def site() -> Iterator[Callable[[World], Site]]:
    started: list[Site] = []

    def start(world: World) -> Site:
        started.append(Site(world.ports))
        return started[-1]

    yield start
    for one in started:
        one.stop()


Sites = Callable[[World], Site]


# --- what it shows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [empty(), healthy(), troubled()], ids=["empty", "healthy", "troubled"])
def test_the_browser_complains_of_nothing(site: Sites, show: Open, said: list[str], world: World) -> None:
    page = show(site(world))
    expect(page.locator("#live")).to_have_text("Live")
    page.clock.fast_forward(6000)  # and once more, kept current
    expect(page.locator("main")).to_be_visible()
    assert said == []


def test_what_others_wrote_is_text_on_the_page_and_never_runs(site: Sites, show: Open, said: list[str]) -> None:
    world = troubled()
    page = show(site(world))
    expect(page.locator("#tenant-ostrava .name")).to_have_text(f"Ostrava {HOSTILE}")
    expect(page.locator(".messages .reason").last).to_have_text(HOSTILE)
    world.clock.move(minutes=1)
    page.clock.fast_forward(6000)
    expect(page.locator(".clocks b")).to_have_text("03:06")
    assert page.evaluate("window.hacked") is None
    assert said == []


def test_breaches_come_first_on_the_page_and_in_the_table(site: Sites, show: Open) -> None:
    page = show(site(troubled()))
    expect(page).to_have_title("2 tenants in breach · Snapkeep")
    expect(page.locator("h1")).to_have_text("2 tenants in breach")
    states = page.locator(".tenant .state").all_inner_texts()
    assert states == ["breached"] * 2 + ["at risk"] * 2 + ["protected"] * 4 + ["client-managed"]
    first = page.locator(".concern").first
    expect(first.locator(".who")).to_contain_text(LONG_NAME)
    expect(first.locator(".since")).to_have_text("since 2026-11-21 18:05Z · for 9h 0m")
    expect(first.locator(".reasons")).to_contain_text("30 instances unprotected")
    tops = [page.locator(where).bounding_box() for where in ("h1", ".concerns", ".tiles", ".tenants", ".ticks")]
    assert all(tops)
    assert [box["y"] for box in tops if box] == sorted(box["y"] for box in tops if box)


def test_a_strip_has_35_days_each_with_its_words(site: Sites, show: Open) -> None:
    page = show(site(troubled()))
    strip = page.locator("#tenant-a-tenant-whose-id-takes-thirty .strip")
    expect(strip).to_have_attribute("aria-label", "35 days: 29 verified, 1 failed, 2 missed, 3 without a slot")
    cells = strip.get_by_role("listitem")
    assert cells.count() == 35
    assert [text.strip() for text in cells.all_text_contents()[-3:]] == [
        "2026-11-20: failed",
        "2026-11-21: missed",
        "2026-11-22: no slot",
    ]


def test_the_times_of_the_page_are_absolute_too(site: Sites, show: Open) -> None:
    newest = show(site(healthy())).locator("#tenant-acme .newest time")
    expect(newest).to_have_attribute("datetime", "2026-11-21T06:01:00Z")
    expect(newest).to_have_attribute("title", "2026-11-21 06:01Z")
    expect(newest).to_have_text("21h 4m")


def test_without_javascript_it_is_a_plain_page(site: Sites, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site(troubled()).url)
    expect(page.locator(".tenant")).to_have_count(9)
    expect(page.locator("noscript .live")).to_be_visible()
    expect(page.locator("#live")).to_be_hidden()
    context.close()


def test_pages_lead_on_and_back(site: Sites, show: Open) -> None:
    world = healthy([f"t{number:02}" for number in range(59)])
    page = show(site(world))
    expect(page.locator(".tenant")).to_have_count(50)
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".tenant")).to_have_count(10)
    expect(page.locator("h1")).to_have_text("No tenant is in breach")
    world.clock.move(minutes=1)
    page.clock.fast_forward(6000)
    expect(page.locator(".clocks b")).to_have_text("03:06")
    expect(page.locator(".tenant")).to_have_count(10)
    page.get_by_role("link", name="First page").click()
    expect(page.locator(".tenant")).to_have_count(50)


# --- current, or said not to be -----------------------------------------------------------------------------------


def test_a_change_comes_onto_the_page_without_a_reload(site: Sites, show: Open) -> None:
    world = troubled()
    page = show(site(world))
    navigations: list[str] = []
    page.on("framenavigated", lambda frame: navigations.append(frame.url))
    page.evaluate("window.loadedOnce = true")
    summary = page.locator(".concern summary")
    summary.click()
    expect(page.locator(".names li").first).to_be_visible()
    page.locator("#concern-mirabellis").get_by_role("link").focus()
    page.evaluate("window.scrollTo(0, 400)")

    put_figures(world, "cobaltine", breach_at=NOW, updated_at=NOW.replace(minute=6))
    sum_up(world)
    page.clock.fast_forward(6000)

    expect(page.locator("h1")).to_have_text("3 tenants in breach")
    expect(page).to_have_title("3 tenants in breach · Snapkeep")
    expect(page.locator(".tenant .id").nth(1)).to_have_text("cobaltine")
    assert page.evaluate("window.loadedOnce") is True
    assert navigations == []
    # Whoever reads keeps his place: focus, scroll, what he has unfolded.
    assert page.evaluate("document.activeElement.textContent") == "Mirabellis"
    assert page.evaluate("Math.abs(window.scrollY - 400) < 120")
    expect(page.locator(".names li").first).to_be_visible()
    # And the next change, too.
    put_figures(world, "dunaria", breach_at=NOW, updated_at=NOW.replace(minute=7))
    page.clock.fast_forward(6000)
    expect(page.locator("h1")).to_have_text("4 tenants in breach")


def test_a_page_that_comes_back_into_sight_asks_at_once(site: Sites, show: Open) -> None:
    page = show(site(healthy()))
    expect(page.locator("#live")).to_have_text("Live")
    with page.expect_response("**/fleet?*") as answered:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert answered.value.status == 204


def test_a_page_whose_server_is_gone_says_so_and_recovers_by_itself(site: Sites, show: Open) -> None:
    world = healthy()
    served = site(world)
    page = show(served)
    expect(page.locator("#live")).to_have_text("Live")
    served.stop()
    for _ in range(13):
        page.clock.fast_forward(15_000)
    expect(page.get_by_role("alert")).to_have_text("Not current: last update 3 min ago. Asking again every 5 s.")
    expect(page.locator("#live")).to_have_text("Not current")
    expect(page).to_have_title("Not current · Every vendor-managed tenant is protected · Snapkeep")
    put_figures(world, "acme", breach_at=NOW, updated_at=NOW.replace(minute=6))
    served.start()
    page.clock.fast_forward(6000)
    expect(page.locator("h1")).to_have_text("1 tenant in breach")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page).to_have_title("1 tenant in breach · Snapkeep")


@pytest.mark.parametrize(
    ("status", "body"), [(503, "<h1>down</h1>"), (200, "<h1>Sign in</h1>"), (404, ""), (302, "")], ids=str
)
def test_an_answer_that_is_not_this_pages_is_no_sign_of_life(site: Sites, show: Open, status: int, body: str) -> None:
    page = show(site(healthy()))
    expect(page.locator("#live")).to_have_text("Live")
    elsewhere = {"Location": "https://sign-in.example/"} if status == 302 else {}
    page.route("**/fleet?*", lambda route: route.fulfill(status=status, body=body, headers=elsewhere))
    page.clock.fast_forward(6000)
    page.clock.fast_forward(25_000)
    expect(page.get_by_role("alert")).to_contain_text("Not current: last update less than a minute ago")
    expect(page.locator(".tenant")).to_have_count(5)
    page.unroute("**/fleet?*")
    page.clock.fast_forward(6000)
    expect(page.get_by_role("alert")).to_be_hidden()


# --- how it looks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [empty(), healthy(), troubled()], ids=["empty", "healthy", "troubled"])
def test_no_width_needs_sideways_scroll(site: Sites, show: Open, world: World) -> None:
    page = show(site(world))
    for summary in page.locator("summary").all():
        summary.click()
    for width in (320, PHONE, 760, 780, 1200, 1220, DESK):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Where tenants are cards, the table's head is there for whoever does not see the page, and clipped.
        seen = "[...document.querySelectorAll('main *')].filter(e => !e.closest('thead'))"
        over = f"{seen}.filter(e => e.getBoundingClientRect().right > {width})"
        assert page.evaluate(f"{over}.map(e => e.className)") == []


def test_the_days_of_a_strip_can_be_told_apart_on_a_phone(site: Sites, show: Open) -> None:
    page = show(site(troubled()), width=PHONE)
    boxes = [cell.bounding_box() for cell in page.locator("#tenant-mirabellis .strip .day").all()]
    assert all(box and box["width"] >= 5 for box in boxes)
    gaps = [b["x"] - a["x"] - a["width"] for a, b in pairwise(boxes) if a and b]
    assert min(gaps) >= 1


def test_light_and_dark_are_two_designs(site: Sites, show: Open) -> None:
    served = site(troubled())
    papers = []
    for scheme in SCHEMES:
        page = show(served, scheme=scheme)
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(243, 241, 234)", "rgb(15, 21, 19)"]


CONTRASTS: Final = """
() => {
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.closest("noscript, .day")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([Math.round(ratio * 100) / 100, element.className || element.tagName, walk.currentNode.data.trim()]);
  }
  return found;
}
"""
"""Of every text on the page: its contrast with what is behind it, as WCAG 2 defines it."""

MARKS: Final = """
() => [...document.querySelectorAll(".legend .day")].map(e => {
  const style = getComputedStyle(e);
  return [e.className, e.offsetHeight, style.borderTopWidth, style.backgroundColor, style.backgroundImage !== "none"];
})
"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_text_has_the_contrast_that_wcag_aa_asks_for(site: Sites, show: Open, scheme: Scheme, width: int) -> None:
    served = site(troubled())
    page = show(served, scheme=scheme, width=width)
    measured = page.evaluate(CONTRASTS)
    assert len(measured) > 100
    assert [one for one in measured if one[0] < 4.5] == []
    served.stop()
    page.clock.fast_forward(6000)
    page.clock.fast_forward(25_000)
    expect(page.get_by_role("alert")).to_be_visible()
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    served.start()


def test_days_and_states_are_told_by_shape_and_not_by_colour_alone(site: Sites, show: Open) -> None:
    page = show(site(troubled()))
    shapes = {
        (height, border, hatched, fill == "rgba(0, 0, 0, 0)")
        for _, height, border, fill, hatched in page.evaluate(MARKS)
    }
    assert len(shapes) == 4
    paths = page.eval_on_selector_all(".tenant .badge path", "paths => paths.map(p => p.getAttribute('d'))")
    words = page.locator(".tenant .badge").all_inner_texts()
    assert len({*zip(words, paths, strict=True)}) == len({*paths}) == len({*words}) == 4


def test_the_focus_is_seen_on_everything_that_the_keyboard_reaches(site: Sites, show: Open) -> None:
    page = show(site(healthy(["acme"])))
    put = "getComputedStyle(document.activeElement)"
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        name, style, width = page.evaluate(
            f"[document.activeElement.textContent, {put}.outlineStyle, {put}.outlineWidth]"
        )
        if page.evaluate("document.activeElement.tagName") == "BODY":
            break
        assert (style, width) == ("solid", "3px")
        reached.append(name)
    assert reached == ["Snapkeep", "Fleet", "Orphans", "Acme", "Estrelinha", "/api/v1/fleet"]


def test_on_paper_it_is_dark_on_light_whatever_the_screen(site: Sites, show: Open) -> None:
    page = show(site(troubled()), scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 36, 32)"
    expect(page.locator("#live")).to_be_hidden()
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []


def test_nothing_moves_for_whoever_asked_for_no_motion(site: Sites, show: Open) -> None:
    page = show(site(healthy()), reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert page.evaluate("getComputedStyle(document.getElementById('stale')).animationName") == "none"
