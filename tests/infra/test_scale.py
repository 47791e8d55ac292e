"""Scale on paper: what it computes follows its quotas and prices, and what is unknown stays unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest
import yaml
from infra.scale import Unknown

from infra import scale
from snapkeep.deployment import deployment
from snapkeep.documents import CopyRetention, Retention

LIMITS: Final = scale.read_quotas(scale.QUOTAS_YAML.read_text(encoding="utf-8"))
COUNTED: Final = scale.Counted(scale.PERFORMANCE.read_text(encoding="utf-8"))
DOING: Final = {
    f"{doing.name}, {layout}": doing
    for layout in (scale.SHARED, scale.APART)
    for doing in scale.activities(COUNTED, layout)
}
ASSUMED: Final = scale.Assumptions()
PRICES: Final = [(name, region, price) for name, one in LIMITS.prices.items() for region, price in one.regions.items()]


def rates(factor: float | None = 1) -> list[scale.Quota]:
    """The rate quotas whose value is known, so many times as large; None: unknown."""
    known = [quota for quota in LIMITS.quotas.values() if quota.covers and quota.value is not None]
    return [msgspec.structs.replace(one, value=factor and (one.value or 0) * factor) for one in known]


def with_quota(name: str, value: float | None) -> scale.Quotas:
    changed = msgspec.structs.replace(LIMITS.quotas[name], value=value)
    return msgspec.structs.replace(LIMITS, quotas=LIMITS.quotas | {name: changed})


def with_price(name: str, value: float | None) -> scale.Quotas:
    priced = LIMITS.prices[name]
    regions = {region: msgspec.structs.replace(price, value=value) for region, price in priced.regions.items()}
    changed = msgspec.structs.replace(priced, regions=regions)
    return msgspec.structs.replace(LIMITS, prices=LIMITS.prices | {name: changed})


def facts(limits: scale.Quotas) -> scale.Facts:
    return scale.facts(limits, COUNTED, deployment(), ASSUMED)


def number(amount: scale.Amount) -> float:
    assert not isinstance(amount, Unknown)
    return amount


# --- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quota", LIMITS.quotas.values(), ids=list(LIMITS.quotas))
def test_a_quota_has_a_source_and_a_date_and_says_how_to_learn_what_nobody_found(quota: scale.Quota) -> None:
    assert quota.source.title
    assert quota.source.url.startswith("https://")
    assert quota.read.year >= 2026
    assert quota.value is None or quota.value > 0
    assert quota.needed or (quota.value is not None and quota.third_party is None)


@pytest.mark.parametrize(("name", "region", "price"), PRICES, ids=lambda part: part if isinstance(part, str) else "")
def test_a_price_has_a_source_and_a_date_or_says_what_it_takes(name: str, region: str, price: scale.Price) -> None:
    assert region == "everywhere" or region in (*scale.REGIONS, *scale.STANDS_IN.values())
    assert price.source.url.startswith("https://")
    assert price.read.year >= 2026
    assert price.value is not None or price.needed


@pytest.mark.parametrize("change", [{"value": "many"}, {"sauce": "x"}, {"read": "yesterday"}, {"source": None}])
def test_a_quota_that_is_not_as_the_file_says_is_refused(change: dict[str, Any]) -> None:
    raw = yaml.safe_load(scale.QUOTAS_YAML.read_text(encoding="utf-8"))
    raw["quotas"]["snapshots"] |= change
    with pytest.raises(msgspec.ValidationError, match=r"\$\.quotas"):
        scale.read_quotas(yaml.safe_dump(raw))


def test_what_was_not_read_from_google_is_among_what_is_not_proven() -> None:
    unproven = (scale.ROOT / "docs" / "unproven.md").read_text(encoding="utf-8")
    section = unproven.partition("## Quotas and costs\n")[2].partition("\n## ")[0]
    doubtful = [quota.name for quota in LIMITS.quotas.values() if quota.value is None or quota.third_party]
    assert len(doubtful) > 3
    assert [name for name in doubtful if f"`{name}`" not in section] == []


def test_every_call_that_is_counted_spends_a_quota_and_every_quota_covers_a_call_that_is_counted() -> None:
    counted = {method for doing in DOING.values() for method in (*doing.per_disk, *doing.per_instance)}
    covered = [method for quota in LIMITS.quotas.values() for method in quota.covers]
    assert counted - set(covered) == set()
    assert set(covered) - counted == {"instances.insert"}, "one for a restore: not among the columns of the benchmark"
    assert len(covered) == len(set(covered))


# --- how much, how fast ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doing", DOING.values(), ids=list(DOING))
@pytest.mark.parametrize("disks", scale.DISKS)
def test_with_doubled_quotas_a_project_carries_twice_as_much(doing: scale.Activity, disks: int) -> None:
    once, twice = (scale.most_per_hour(doing, rates(factor), disks) for factor in (1, 2))
    assert number(twice.per_hour) == pytest.approx(2 * number(once.per_hour))
    assert twice.first == once.first


def test_the_smallest_of_several_bounds_counts_and_has_its_name() -> None:
    doing = scale.Activity("x", {"snapshots.insert": 1.0}, {"snapshots.list": 0.5})
    writes, lists = LIMITS.quotas["snapshot_writes"], LIMITS.quotas["lists"]
    narrow, wide = (msgspec.structs.replace(writes, value=value) for value in (60, 60_000))
    lists = msgspec.structs.replace(lists, value=300)
    assert scale.most_per_hour(doing, [narrow, lists], 4) == scale.Most(900.0, writes.name, ())
    assert scale.most_per_hour(doing, [wide, lists], 4) == scale.Most(36_000.0, lists.name, ())


@pytest.mark.parametrize("doing", DOING.values(), ids=list(DOING))
def test_unknown_quotas_give_no_number(doing: scale.Activity) -> None:
    most = scale.most_per_hour(doing, rates(None), 1)
    assert isinstance(most.per_hour, Unknown)
    assert most.first == ""
    assert set(most.lacks) == set(most.per_hour.lacks) != set()


def test_an_unknown_quota_takes_no_part_beside_known_ones_and_is_named() -> None:
    doing = DOING[f"points, {scale.SHARED}"]
    quotas = with_quota("lists", None).quotas
    most = scale.most_per_hour(doing, quotas.values(), 1)
    assert most.first == quotas["snapshot_writes"].name
    assert quotas["lists"].name in most.lacks


def test_with_twice_the_snapshots_a_vault_holds_twice_as_many_instances_and_a_fleet_needs_half_the_vaults() -> None:
    once, twice = (with_quota("snapshots", value).quotas for value in (1_000, 2_000))
    held = [number(scale.most_stored(quotas["snapshots"], 31, 2)) for quotas in (once, twice)]
    assert held[1] == 2 * held[0]
    loads = [scale.load(10_000, 100, 4, quotas, 25, 1.0) for quotas in (once, twice)]
    assert [load.vaults for load in loads] == [1_000, 500]
    assert [load.of_snapshots for load in loads] == [10.0, 5.0]


def test_unknown_quotas_leave_a_fleets_shares_unknown_and_break_nothing() -> None:
    quotas = LIMITS.quotas | with_quota("snapshots", None).quotas
    load = scale.load(10_000, 1, 4, quotas, 31, 1.0)
    assert isinstance(load.of_snapshots, Unknown)
    assert isinstance(load.vaults, Unknown)
    assert load.first == "snapshot writes"
    quotas = quotas | {"snapshot_writes": with_quota("snapshot_writes", None).quotas["snapshot_writes"]}
    assert scale.load(10_000, 1, 4, quotas, 31, 1.0).first == ""


def test_after_a_day_without_snapkeep_each_disk_takes_three_writes() -> None:
    quotas = with_quota("snapshot_writes", 300).quotas
    assert scale.load(1_000, 10, 2, quotas, 31, 1.0).catch_up_minutes == pytest.approx(100 * 2 * 3 / 300)


def test_how_many_instances_a_tenant_may_have_follows_the_schedule_of_retention() -> None:
    once = deployment()
    seldom = msgspec.structs.replace(once.functions["retention"], schedule="*/20 * * * *")
    half = msgspec.structs.replace(once, functions=once.functions | {"retention": seldom})
    assert scale.looks_an_hour(once) == 6
    for deployed, factor in ((once, 1.0), (half, 0.5)):
        assert scale.most_of_a_tenant(deployed, 1) == 144 * 50 / 2 * factor, "by instances that are visited"
        assert scale.most_of_a_tenant(deployed, 8) == 144 * 100 / 8 * factor, "by snapshots that begin to go"


def test_another_unit_is_refused() -> None:
    quota = msgspec.structs.replace(LIMITS.quotas["snapshot_writes"], unit="requests/second")
    with pytest.raises(ValueError, match=r"in requests/second, expected requests/minute"):
        scale.most_per_hour(DOING[f"points, {scale.SHARED}"], [quota], 1)
    with pytest.raises(ValueError, match=r"USD/TiB, expected USD/GiB"):
        scale.price_of(LIMITS.prices, "messages", "USD/GiB", "us-east1")


# --- what a month costs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["document_reads", "function_cpu", "messages", "logs", "alert_conditions"])
def test_a_doubled_price_doubles_its_line_and_no_other(name: str) -> None:
    once, twice = (facts(with_price(name, value)).bill(scale.SHARED) for value in (0.5, 1.0))
    changed = [(a, b) for a, b in zip(once, twice, strict=True) if a != b]
    assert len(changed) == 1
    for a, b in changed:
        assert [number(b.usd[r]) for r in scale.REGIONS] == pytest.approx([2 * number(a.usd[r]) for r in scale.REGIONS])


def test_an_unknown_price_gives_an_unknown_line_and_the_sum_says_that_it_lacks_one() -> None:
    of = facts(with_price("snapshot_storage", None))
    line = scale.storage_line(of.limits.prices, of.ages, ASSUMED)
    assert all(isinstance(amount, Unknown) for amount in line.usd.values())
    assert "snapshots | unknown | unknown |" in scale.page(of)
    lacking = scale._sums(facts(with_price("document_writes", None)).bill(scale.SHARED))
    before = scale._sums(facts(LIMITS).bill(scale.SHARED))
    assert [cell.partition(" and ")[2] for cell in before] == ["1 unknown", ""]
    assert [cell.partition(" and ")[2] for cell in lacking] == ["2 unknown", "1 unknown"]


def test_what_stands_in_for_a_region_is_taken_only_where_its_own_is_missing() -> None:
    prices = LIMITS.prices
    unit = "USD/100000 documents"
    assert scale.price_of(prices, "document_reads", unit, "us-east1") == 0.03
    assert scale.price_of(prices, "document_reads", unit, "southamerica-east1") == 0.045
    with pytest.raises(ValueError, match="nothing for europe-west1"):
        scale.price_of(prices, "document_reads", unit, "europe-west1")


def test_a_sum_with_something_unknown_is_unknown_and_names_it_once() -> None:
    assert scale.total([1.5, 2.0]) == 3.5
    assert scale.total([1.5, Unknown(("a",)), Unknown(("b", "a"))]) == Unknown(("a", "b"))
    assert scale.times(Unknown(("a",)), 2) == Unknown(("a",))


@pytest.mark.parametrize(
    ("policy", "ages"),
    [
        ({"keep_daily": 3}, [0, 1, 2]),
        ({"keep_last": 2}, [0, 1]),
        ({"keep_daily": 1, "lock_days": 4}, [0, 1, 2, 3]),
    ],
)
def test_what_is_kept_is_what_the_rules_of_retention_keep(policy: dict[str, int], ages: Sequence[int]) -> None:
    nothing = {"keep_last": 0, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "lock_days": 0}
    assert scale.ages_kept(Retention(**nothing | policy)) == ages


def test_the_default_policies_keep_about_a_year_at_home_and_a_month_of_copies() -> None:
    home = scale.ages_kept(Retention())
    copies = scale.ages_kept(Retention(**msgspec.structs.asdict(CopyRetention())))
    assert home[:14] == list(range(14))
    assert 300 < home[-1] <= 366
    assert copies[:7] == list(range(7))
    assert 14 < copies[-1] <= 28
    assert scale.held(home) == len(home) + 1


def test_a_chain_of_snapshots_is_one_whole_disk_and_what_changed_between() -> None:
    assert scale.chain([0], 0.1) == 1
    assert scale.chain([0, 1, 3], 0.1) == pytest.approx(1 + 0.1 + (1 - 0.9**2))
    sizes = [scale.chain([0, 1, 7, 30], change) for change in (0, 0.01, 0.1, 1)]
    assert sizes[0] == 1
    assert sizes[-1] == 4
    assert all(one < two for one, two in pairwise(sizes))


# --- what was counted ------------------------------------------------------------------------------------------------


def test_a_number_of_the_benchmark_is_found_by_heading_row_column_and_place() -> None:
    page = "## A\n\n### B\n\n|  | `x` | y |\n| --- | ---: | ---: |\n| `one`, two | 1.5 / 2,000 / 3 | 7 |\n"
    counted = scale.Counted(page)
    assert counted.number("A: B", "one, two", "x", 1) == 2000
    assert counted.number("A: B", "one, two", "y") == 7
    with pytest.raises(LookupError, match=re.escape("no `z` of `one, two` under `A: B`")):
        counted.number("A: B", "one, two", "z")


def test_the_ticks_of_a_day_are_those_of_the_schedules() -> None:
    schedules = [one.schedule for one in deployment().functions.values() if one.schedule]
    assert scale.ticks_a_day(deployment()) == sum(
        {"* * * * *": 1440, "*/5 * * * *": 288, "*/10 * * * *": 144}.get(cron, 24) for cron in schedules
    )
    with pytest.raises(ValueError, match=r"0 3 \* \* \*"):
        scale._runs_a_day("0 3 * * *")
