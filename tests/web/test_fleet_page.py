"""What the page says: strips of days, the verdict, what needs somebody. Pure, from views."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.makers import World
from tests.web.figures import MANY, NOW, empty, healthy, put_figures, put_rejected, put_ticks, sum_up, troubled
from tests.web.people import client_of

from snapkeep import views
from snapkeep.documents import RestoreTested, Tick
from snapkeep.web import fleet_page
from snapkeep.web.fleet_page import Tile, Tone, Verdict, concerns, last_day, own_verdict, strip, tiles, verdict
from snapkeep.wording import copies

TODAY = date(2026, 11, 22)


def said(world: World, after: str | None = None) -> str:
    return verdict(views.fleet(world.ports, after), first=after is None).text


@pytest.mark.parametrize(
    ("more", "tone", "text"),
    [
        ({"breach_at": NOW}, "bad", "Acme is in breach"),
        ({"unprotected": ["x in y"]}, "warn", "Acme is at risk"),
        ({}, "good", "Acme is protected"),
        ({"deployment": "private_saas"}, "plain", "Acme is client-managed: the schedule takes nothing of it"),
        ({"left_at": NOW}, "plain", "Acme has left"),
    ],
)
def test_who_sees_one_tenant_alone_reads_how_that_one_stands(more: dict[str, Any], tone: Tone, text: str) -> None:
    world = World(NOW)
    put_figures(world, "acme", name="Acme", **more)
    assert own_verdict(views.fleet(world.ports, only="acme")) == Verdict(tone, text)


def test_who_sees_one_tenant_alone_reads_that_nothing_is_known_of_it_yet() -> None:
    assert own_verdict(views.fleet(World(NOW).ports, only="acme")) == Verdict("plain", "No figures yet")


# --- strips -------------------------------------------------------------------------------------------------------


def test_a_strip_is_the_35_days_that_end_with_the_last_one() -> None:
    shown = strip({"2026-11-20": "verified", "2026-11-21": "missed", "2026-10-01": "failed"}, TODAY)
    assert len(shown.days) == 35
    assert (shown.days[0].day, shown.days[-1].day) == ("2026-10-19", "2026-11-22")
    assert [day.text for day in shown.days[-3:]] == [
        "2026-11-20: verified",
        "2026-11-21: missed",
        "2026-11-22: no slot",
    ]
    assert shown.label == "35 days: 1 verified, 1 missed, 33 without a slot"


def test_a_strip_says_in_its_label_only_what_there_is() -> None:
    whole = {(TODAY - timedelta(days=back)).isoformat(): "verified" for back in range(35)}
    assert strip(whole, TODAY).label == "35 days: 35 verified"


def test_a_day_that_ended_in_a_word_from_a_later_version_is_not_shown_as_verified() -> None:
    day = strip({"2026-11-22": "postponed"}, TODAY).days[-1]
    assert (day.mark, day.text) == ("none", "2026-11-22: postponed")


def test_strips_end_today_or_tomorrow_where_somebody_is_ahead_of_utc() -> None:
    assert last_day(NOW, [{"2026-11-21": "verified"}]) == TODAY
    assert last_day(NOW, [{"2026-11-21": "verified"}, {"2026-11-23": "verified"}]) == TODAY + timedelta(days=1)
    assert last_day(NOW, [{"9999-01-01": "verified"}]) == TODAY
    assert last_day(NOW, []) == TODAY


@given(
    st.dictionaries(
        st.dates(min_value=TODAY - timedelta(days=60), max_value=TODAY + timedelta(days=2)).map(date.isoformat),
        st.sampled_from(["verified", "failed", "missed"]),
    )
)
def test_a_strip_shows_each_day_of_its_window_once_as_it_ended(days: dict[str, str]) -> None:
    shown = strip(days, TODAY)
    assert [day.day for day in shown.days] == [(TODAY - timedelta(days=back)).isoformat() for back in range(34, -1, -1)]
    assert all(day.mark == days.get(day.day, "none") for day in shown.days)
    counts = Counter(day.mark for day in shown.days)
    assert (
        shown.label
        == f"35 days: {', '.join(f'{counts[m]} {w}' for m, w in fleet_page.MARK_WORDS.items() if counts[m])}"
    )


# --- the verdict --------------------------------------------------------------------------------------------------


def test_the_verdict_names_breaches_before_all_else() -> None:
    assert said(troubled()) == "2 tenants in breach"


def test_the_verdict_does_not_call_a_fleet_protected_that_nobody_watches() -> None:
    world = healthy()
    assert said(world) == "Every vendor-managed tenant is protected"
    put_ticks(world, plan=timedelta(minutes=41))
    assert said(world) == "1 function is silent"
    put_ticks(world, plan=timedelta(minutes=41), audit=timedelta(hours=2))
    assert said(world) == "2 functions are silent"


def test_a_fleet_that_has_just_begun_is_not_called_silent() -> None:
    world = World(NOW)
    put_figures(world, "acme")
    sum_up(world)
    assert said(world) == "No function has run yet"
    world.put(("system/tick-health", Tick(updated_at=NOW, at=NOW)))
    assert said(world) == "Not every function has run yet"
    (only,) = concerns(views.fleet(world.ports))
    assert (only.tone, only.who) == ("warn", "Not every function has run yet")
    assert only.reasons[0] == ("never ticked: audit, discover, entitlements, plan, reconcile, restore_test, retention")


def test_the_verdict_counts_who_is_at_risk() -> None:
    world = healthy()
    put_figures(world, "nordlicht", unprotected=["nordlicht-db-2 in europe-west3-a"])
    assert said(world) == "No breach, 1 at risk"


def test_the_verdict_says_or_more_where_those_at_risk_fill_the_page() -> None:
    world = World(NOW)
    put_ticks(world)
    for number in range(60):
        put_figures(world, f"t{number:02}", unprotected=["x in y"])
    sum_up(world)
    assert said(world) == "No breach, 50 or more at risk"


def test_the_verdict_counts_breaches_of_other_pages_by_the_totals() -> None:
    world = World(NOW)
    put_ticks(world)
    for number in range(60):
        put_figures(world, f"t{number:02}", breach_at=NOW)
    sum_up(world)
    assert said(world) == "60 tenants in breach"
    assert said(world, views.fleet(world.ports).next) == "60 tenants in breach"


def test_the_verdict_of_a_later_page_says_no_more_than_it_knows() -> None:
    world = healthy([f"t{number:02}" for number in range(60)])
    assert said(world, views.fleet(world.ports).next) == "No tenant is in breach"


def test_a_restored_tenant_is_no_breach_though_the_totals_are_older() -> None:
    world = healthy()
    put_figures(world, "acme", breach_at=NOW)
    sum_up(world)
    put_figures(world, "acme")
    assert said(world) == "Every vendor-managed tenant is protected"


def test_the_verdict_of_an_empty_fleet() -> None:
    assert said(empty()) == "No tenants yet"


# --- what needs somebody ------------------------------------------------------------------------------------------


def test_what_needs_somebody_comes_worst_first() -> None:
    listed = concerns(views.fleet(troubled().ports))
    assert [(one.what, one.tenant) for one in listed] == [
        ("breached", "a-tenant-whose-id-takes-thirty"),
        ("breached", "mirabellis"),
        ("silent", None),
        ("at risk", "nordlicht"),
        ("at risk", "ostrava"),
        ("messages", None),
    ]


def test_a_breach_says_since_when_and_why() -> None:
    first = concerns(views.fleet(troubled().ports))[0]
    assert first.since == NOW - timedelta(hours=9)
    assert first.reasons == (
        "newest verified point 1d 11h old",
        "the slot of 2026-11-21 was missed",
        "30 instances unprotected",
    )
    assert list(first.names) == MANY


def test_silent_functions_are_one_concern_with_the_last_tick_of_each() -> None:
    world = healthy()
    put_ticks(world, plan=timedelta(minutes=41), audit=timedelta(hours=2))
    (only,) = concerns(views.fleet(world.ports))
    assert (only.who, only.since) == ("2 functions are silent", NOW - timedelta(hours=2))
    assert only.reasons == ("audit: last tick 2h 0m ago, ticks every 5m", "plan: last tick 41m ago, ticks every 5m")


def test_a_fleet_where_nothing_has_run_has_one_concern_and_not_one_for_each_function() -> None:
    assert [one.who for one in concerns(views.fleet(empty().ports))] == ["No function has run yet"]


def test_bad_messages_are_a_concern_for_seven_days() -> None:
    last = concerns(views.fleet(troubled().ports))[-1]
    assert (last.tone, last.who) == ("bad", "3 dead letters and 1 rejected message in 7 days")
    assert last.reasons == ("the newest 2h 0m ago, for snapkeep-reconcile",)


def test_the_newest_bad_message_is_told_of_whichever_kind_it_is() -> None:
    world = troubled()
    put_rejected(world, 5, kind="rejected", function="create", at=NOW - timedelta(minutes=7))
    assert concerns(views.fleet(world.ports))[-1].reasons == ("the newest 7m ago, for create",)


def test_a_healthy_fleet_needs_nobody() -> None:
    assert concerns(views.fleet(healthy().ports)) == []


def test_points_that_lost_a_snapshot_are_one_concern() -> None:
    world = healthy()
    put_figures(world, "acme", incomplete=2)
    sum_up(world)
    (only,) = concerns(views.fleet(world.ports))
    assert (only.tone, only.who) == ("warn", "2 points lost a snapshot")
    assert only.reasons == ("of Acme", "kept for a person to judge")
    assert [one.who for one in concerns(views.fleet(world.ports, only="acme"))] == ["2 points lost a snapshot"]


# --- copies -------------------------------------------------------------------------------------------------------

COPIES = {"verified": 12, "waiting": 1, "lagging": 0, "missing": 0, "unentitled": 0, "bytes": 1 << 30}


def test_copies_that_are_not_there_are_one_concern_however_many_tenants_wait() -> None:
    world = healthy()
    for name in ("acme", "brightwater", "cobaltine", "dunaria"):
        put_figures(world, name, copies=COPIES | {"lagging": 1})
    put_figures(world, "acme", copies=COPIES | {"missing": 1, "lagging": 2})
    sum_up(world)
    view = views.fleet(world.ports)
    (only,) = concerns(view)
    assert (only.tone, only.what, only.who) == ("warn", "copies", "1 copy is missing and 5 copies are late")
    assert only.reasons == ("of Acme, Brightwater, Cobaltine and 1 other",)
    told = "Every vendor-managed tenant is protected, but copies are missing"
    assert verdict(view, first=True) == Verdict("warn", told)


def test_who_sees_one_tenant_alone_reads_of_its_copies() -> None:
    world = healthy()
    put_figures(world, "acme", copies=COPIES | {"lagging": 1})
    view = views.fleet(world.ports, only="acme")
    assert own_verdict(view) == Verdict("warn", "Acme is protected, but copies are late")
    assert [one.who for one in concerns(view)] == ["1 copy is late"]


def test_a_tenant_says_of_its_copies_only_what_somebody_may_have_to_look_at() -> None:
    assert copies({}) == copies(COPIES) == ""
    some = COPIES | {"missing": 1, "lagging": 2, "unentitled": 1300}
    assert copies(some) == "1 missing, 2 late, 1,300 no longer bought"


def test_tiles_of_copies_stand_where_there_are_copies_and_those_of_trouble_where_there_is() -> None:
    world = healthy()
    assert not [tile for tile in tiles(views.fleet(world.ports)) if "copies" in tile.label]
    put_figures(world, "acme", copies=COPIES)
    sum_up(world)
    assert [tile for tile in tiles(views.fleet(world.ports)) if "copies" in tile.label] == [Tile("copies", "12")]
    put_figures(world, "acme", copies=COPIES | {"missing": 1, "lagging": 2, "unentitled": 3})
    sum_up(world)
    assert [tile for tile in tiles(views.fleet(world.ports)) if "copies" in tile.label] == [
        Tile("copies", "12"),
        Tile("copies missing", "1", "warn"),
        Tile("copies late", "2", "warn"),
        Tile("copies no longer bought", "3"),
    ]


# --- tiles --------------------------------------------------------------------------------------------------------


def test_tiles_are_the_totals_and_mark_only_what_is_wrong() -> None:
    shown = {tile.label: (tile.value, tile.tone) for tile in tiles(views.fleet(troubled().ports))}
    assert shown["breached"] == ("2", "bad")
    assert shown["unprotected"] == ("31", "warn")
    assert shown["dead letters, 7 days"] == ("3", "bad")
    assert shown["stored at home"] == ("34.2 TiB", "plain")
    assert {tile.tone for tile in tiles(views.fleet(healthy().ports))} == {"plain"}


def test_there_are_no_tiles_before_health_has_run() -> None:
    assert tiles(views.fleet(empty().ports)) == []


@pytest.mark.parametrize(("text", "length"), [("x" * 400, 400), ("x" * 401, 400), ("", 0)])
def test_what_others_wrote_is_cut(text: str, length: int) -> None:
    assert len(fleet_page.cut(text)) == length


# --- restore tests ------------------------------------------------------------------------------------------------


def with_restore_tests() -> World:
    """Four tenants of which restore tests are wanted, one for each way to stand by them, and one without."""
    world = healthy()
    for name, days_ago, passed in (("acme", 3, True), ("brightwater", 40, True), ("cobaltine", 2, False)):
        last = RestoreTested(
            restore="r", point="p", region="z-1", at=NOW - timedelta(days=days_ago), passed=passed, took_s=744
        )
        put_figures(world, name, restore_test_every_days=30, restore_tested=last)
    put_figures(world, "dunaria", restore_test_every_days=30)
    sum_up(world)
    return world


def test_restore_tests_that_failed_or_are_overdue_need_somebody() -> None:
    told = [(one.tone, one.who, one.reasons) for one in concerns(views.fleet(with_restore_tests().ports))]
    assert told == [
        ("bad", "1 restore test failed", ("of Cobaltine",)),
        ("warn", "1 restore test is overdue", ("of Brightwater",)),
    ]


def test_tiles_count_restore_tests_where_any_are_wanted() -> None:
    shown = [one for one in tiles(views.fleet(with_restore_tests().ports)) if "test" in one.label]
    assert {(one.label, one.value, one.tone) for one in shown} == {
        ("tests failed", "1", "bad"),
        ("tests overdue", "1", "warn"),
        ("never tested", "1", "warn"),
        ("tests passed", "1", "plain"),
    }
    assert not [one for one in tiles(views.fleet(healthy().ports)) if "test" in one.label]


def test_each_tenants_line_says_how_its_restore_tests_stand() -> None:
    world = with_restore_tests()
    page = re.sub(r"<[^>]+>", "", client_of(world.ports).get("/").text)
    assert "restore test passed 3d 0h ago, took 12m 24s" in page
    assert "restore test overdue, passed 40d 0h ago, took 12m 24s" in page
    assert "restore test failed 2d 0h ago, took 12m 24s" in page
    assert page.count("never had a restore test") == 1
