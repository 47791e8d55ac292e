"""The pages as they are sent: headers, assets, bounded reads, escaping. No browser."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from flask.testing import FlaskClient
from tests.makers import World
from tests.web.figures import HOSTILE, NOW, empty, healthy, put_figures, put_rejected, put_ticks, sum_up, troubled
from tests.web.fleets import Counting
from tests.web.people import client_of, put_people

from snapkeep import views
from snapkeep.ports import Doc, Query, Transient, Write
from snapkeep.web import pages

IMPORT_TIMEOUT_S = 60


def client(world: World) -> FlaskClient:
    put_people(world)
    return client_of(world.ports)


def counted(world: World) -> tuple[FlaskClient, Counting]:
    put_people(world)
    counting = Counting(world.documents)
    return client_of(replace(world.ports, documents=counting)), counting


def big(tenants: int) -> World:
    """A fleet of which every bound of the view is reached."""
    world = World(NOW)
    put_ticks(world)
    for number in range(tenants):
        put_figures(world, f"t{number:03}", unprotected=["x in y"] * (number % 3))
    for number in range(80):
        put_rejected(world, number, kind="dead_letter" if number < 40 else "rejected")
    sum_up(world, dead_letters=40, rejected=40)
    world.clock.move(seconds=1)
    return world


# --- reads --------------------------------------------------------------------------------------------------------


def test_a_page_reads_as_much_of_a_large_fleet_as_of_a_small_one() -> None:
    reads = []
    for tenants in (60, 300):
        shown, counting = counted(big(tenants))
        assert shown.get("/").status_code == 200
        reads.append((sum(counting.questions.values()), counting.reads))
    # A page of 50, the totals, a tick of each function that has any, 10 bad messages of each of 2 kinds; and for the
    # version the totals, what is paused, the newest of the tenants' health and the newest bad message; what is paused;
    # and who asks: in 10 questions.
    assert reads == [(10, 50 + 1 + len(views.PERIODS) + 20 + 4 + 1 + 1)] * 2


def test_an_open_page_of_a_fleet_where_nothing_changes_reads_five_documents() -> None:
    world = big(300)
    shown, counting = counted(world)
    answer = shown.get("/fleet", query_string={"seen": views.fleet_version(world.ports)})
    assert (answer.status_code, answer.data) == (204, b"")
    assert counting.reads == 5  # who asks, and the four of the version


def test_an_open_page_is_told_anew_at_the_same_instant() -> None:
    world = healthy()
    seen = views.fleet_version(world.ports)
    put_figures(world, "acme", breach_at=NOW)
    answer = client(world).get("/fleet", query_string={"seen": seen})
    assert (answer.status_code, "1 tenant in breach" in answer.text) == (200, True)


def test_the_page_says_which_time_its_bad_messages_cover_and_how_many_of_them_it_shows() -> None:
    page = client(big(3)).get("/").text
    assert "Of 30 days, the newest 10 of each kind at the most, dead letters first" in page
    assert "40 dead letters and 40 rejected messages in 7 days" in page
    assert "None in 30 days." in client(healthy()).get("/").text


def test_an_open_page_is_told_anew_when_a_health_has_changed_or_a_minute_has_passed() -> None:
    world = healthy()
    seen = views.fleet_version(world.ports)
    world.clock.move(seconds=30)
    put_figures(world, "acme", breach_at=NOW)
    answer = client(world).get("/fleet", query_string={"seen": seen})
    assert answer.status_code == 200
    assert "1 tenant in breach" in answer.text
    assert "<html" not in answer.text
    seen = views.fleet_version(world.ports)
    world.clock.move(seconds=31)
    assert client(world).get("/fleet", query_string={"seen": seen}).status_code == 200


def test_the_fragment_of_a_later_page_is_of_that_page() -> None:
    world = big(60)
    after = views.fleet(world.ports).next
    whole = client(world).get("/", query_string={"after": after}).text
    asked = re.search(r'hx-get="([^"]+)"', whole)
    assert asked is not None
    world.clock.move(minutes=1)
    fragment = client(world).get(asked[1].replace("&amp;", "&")).text
    assert fragment.count('class="strip"') == whole.count('class="strip"') == 10


# --- what is sent -------------------------------------------------------------------------------------------------


class Inline(HTMLParser):
    """Finds what the policy would refuse: scripts, styles and handlers that stand in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if (tag == "script" and "src" not in names) or tag in ("style", "iframe", "object", "base"):
            self.found.append(tag)
        if tag == "form" and (names.get("method") != "post" or not str(names.get("action")).startswith("/")):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith(("on", "hx-on"))]
        self.found += [v for n, v in attrs if n in ("src", "href") and v and not v.startswith(("/", "#"))]


@pytest.mark.parametrize("world", [empty(), healthy(), troubled()], ids=["empty", "healthy", "troubled"])
@pytest.mark.parametrize("path", ["/", "/fleet", "/?after=nonsense"])
def test_nothing_inline_and_nothing_from_elsewhere_is_in_a_page(world: World, path: str) -> None:
    answer = client(world).get(path)
    inline = Inline()
    inline.feed(answer.text)
    assert inline.found == []
    assert answer.headers["Content-Security-Policy"] == pages.POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in pages.POLICY
    assert "http" not in pages.POLICY
    assert pages.POLICY.startswith("default-src 'none'")


def test_what_others_wrote_is_shown_as_text() -> None:
    text = client(troubled()).get("/").text
    assert "<script>window" not in text
    assert "<img src=x" not in text
    # A name twice, since the tenant is at risk; a reason and an excerpt.
    assert text.count("&lt;script&gt;window.hacked") == 4


@pytest.mark.parametrize("after", ["nonsense", "9|../etc", HOSTILE, "0|" + "x" * 5000])
def test_a_page_that_no_page_leads_to_is_refused_in_words(after: str) -> None:
    answer = client(healthy()).get("/", query_string={"after": after})
    assert (answer.status_code, answer.mimetype) == (400, "text/html")
    assert "<script>window" not in answer.text
    assert "The fleet, from its first page" in answer.text


class Gone:
    """A database that does not answer."""

    def get(self, *paths: str) -> list[Doc | None]:
        raise Transient("deadline exceeded")

    def find(self, query: Query) -> list[Doc]:
        raise Transient("deadline exceeded")

    def commit(self, *writes: Write) -> None:
        raise AssertionError("whoever looks changes nothing")


@pytest.mark.parametrize("path", ["/", "/fleet?seen=x"])
def test_a_database_that_does_not_answer_is_said_so(path: str) -> None:
    answer = client_of(replace(empty().ports, documents=Gone())).get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "The database did not answer" in answer.text
    assert "deadline" not in answer.text


def test_an_empty_fleet_says_what_to_do() -> None:
    world = empty()
    assert "snapkeep sim advance 10m" in client(world).get("/").text
    sum_up(world)
    text = client(world).get("/").text
    assert "snapkeep fleet apply fleet.yaml" in text
    assert "No figures yet" not in text


# --- assets -------------------------------------------------------------------------------------------------------


def test_assets_are_kept_as_long_as_they_are_asked_for_by_their_hash() -> None:
    shown = client(healthy())
    found = re.findall(r'(?:src|href)="(/assets/[^"]+)"', shown.get("/").text)
    assert {path.split("?")[0] for path in found} == {
        "/assets/logo.svg",
        "/assets/fleet.css",
        "/assets/live.js",
        "/assets/htmx.min.js",
    }
    for path in found:
        answer = shown.get(path, buffered=True)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, pages.FOREVER)
        for stale in (path.split("?")[0], path[:-1] + "-"):
            assert shown.get(stale, buffered=True).headers["Cache-Control"] == "no-cache"
    assert shown.get("/assets/none.js?v=1").status_code == 404


@pytest.mark.parametrize("name", ["../__init__.py", "%00", "none.js", "logo.svg"])
def test_asking_what_may_be_asked_of_a_file_reads_none(name: str) -> None:
    pages._hash.cache_clear()
    answer = client_of(World().ports, "").options(f"/assets/{name}?v=1")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert pages._hash.cache_info().misses == 0, "a file was read"


def test_htmx_is_the_file_that_its_note_says_and_its_licence_stands_beside_it() -> None:
    note = (pages.ASSETS / "README.md").read_text(encoding="utf-8")
    script = (pages.ASSETS / "htmx.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() in note
    version = re.search(rb'version="([0-9.]+)"', script)
    assert version is not None
    assert f"htmx {version[1].decode()}," in note
    assert (pages.ASSETS / "htmx.LICENSE").read_text(encoding="utf-8").startswith("Zero-Clause BSD")


def test_the_pages_load_neither_google_nor_the_command_line() -> None:
    # Compute Engine's client alone is a second of a cold start.
    code = "import sys, snapkeep.web; print(*sorted(sys.modules))"
    said = subprocess.run(  # noqa: S603 - this interpreter, fixed words
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=IMPORT_TIMEOUT_S
    )
    loaded = said.stdout.split()
    assert "snapkeep.web.pages" in loaded
    assert [
        name for name in loaded if name.startswith(("google.cloud.", "grpc", "rich", "snapkeep.cli", "snapkeep.gcp"))
    ] == []
