"""The page of a run of the benchmark, from measurements that are written here by hand. Nothing is timed."""

from collections import Counter

import pytest
from tests.bench import cold, copies, deletion, floor, memory, plans, report, rest, restores
from tests.bench.fleets import Size
from tests.bench.meter import Used
from tests.bench.proc import Machine

MACHINE = Machine(cores=2, memory_bytes=8 << 30, cpu="A CPU", python="3.11.7", system="Linux 6")


def used(*, inserts: int, lists: int, reads: int = 0) -> dict[str, Used]:
    return {
        "create": Used(deliveries=1, reads=reads, calls=Counter({"snapshots.insert": inserts})),
        "reconcile": Used(deliveries=1, calls=Counter({"snapshots.list": lists})),
        "discover": Used(deliveries=1, calls=Counter({"instances.aggregatedList": 10_000})),
    }


def in_memory(size: Size, *, lists: int) -> memory.Measured:
    night = memory.Night(size, 1, used(inserts=size.disks, lists=lists), minutes=60, verified=size.instances)
    return memory.Measured(size, {}, (night,), used(inserts=0, lists=0))


def over_rest(size: Size, *, peak_mb: int) -> rest.Measured:
    function = rest.OfFunction(deliveries=3, failed=0, cpu_s=1.5, peak_bytes=peak_mb << 20)
    least = floor.Floor(inserts_s=1.0, lists_s=0.5, commits_s=0.5)
    calls = {"snapshots.insert": size.disks}
    return rest.Measured(
        size=size,
        verified=size.instances,
        calls=calls,
        discovery_calls={},
        functions={"create": function},
        seconds=8.0,
        minutes=30.0,
        quiet_minute_s=0.1,
        floor=least,
    )


def deleted(size: Size) -> deletion.Measured:
    calls = Counter({"snapshots.get": size.disks, "snapshots.delete": size.disks, "snapshots.list": size.disks // 10})
    return deletion.Measured(size, size.disks, Used(reads=2 * size.disks, writes=size.disks, calls=calls), minutes=45)


def copied(size: Size, *, lists: int) -> copies.Measured:
    one = dict.fromkeys(("disks.insert", "snapshots.insert", "disks.get", "disks.delete"), size.disks)
    return copies.Measured(size, "temporary_disk", size.instances, Counter(one | {"snapshots.list": lists}), minutes=61)


def results(*, lists: int = 15, peaks_mb: tuple[int, int] = (100, 101)) -> report.Results:
    small, large = Size("shared", 100), Size("shared", 1000)
    return report.Results(
        MACHINE,
        "abc1234",
        "2026-11-23",
        memory=[in_memory(small, lists=lists)],
        rest=[over_rest(large, peak_mb=peaks_mb[1]), over_rest(small, peak_mb=peaks_mb[0])],
        cold=[cold.Measured("plan", 0.4, (0.4, 0.6), peak_bytes=80 << 20, now_bytes=70 << 20)],
        deletion=[deleted(large), deleted(small)],
        plans=[plans.Measured(10_000, 0.060, 0.020), plans.Measured(100, 0.0005, 0.0001)],
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.012"), (1.0666, "1.07"), (42.19, "42.2"), (366.4, "366"), (3001, "3,001"), (-2.5, "-2.50")],
)
def test_a_number_shows_three_digits_that_matter(value: float, shown: str) -> None:
    assert report.number(value) == shown


def test_growth_compares_the_largest_fleet_with_the_smallest() -> None:
    assert report.growth([2.0, 9.0, 3.0]) == "x1.50"
    assert report.growth([2.0]) == report.growth([0.0, 3.0]) == "-"


def test_a_table_has_a_line_for_each_row_and_as_many_columns_in_each() -> None:
    assert report.table(("a", "b"), [("x", "1"), ("y", "2")]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n"
    with pytest.raises(ValueError, match="1 columns, expected 2"):
        report.table(("a", "b"), [("x",)])


def test_discoverys_calls_are_not_counted_for_the_points() -> None:
    size = Size("shared", 100)
    assert report.per_disk(used(inserts=300, lists=15), size) == 1.05


def test_an_aim_is_met_by_the_worst_that_was_found() -> None:
    met = {aim.what: aim.met for aim in report.aims(results())}
    assert list(met.values()) == [True, True, True]
    missed = {aim.what: (aim.found, aim.met) for aim in report.aims(results(lists=31))}
    assert next(iter(missed.values())) == ("1.000 to 1.103", False)


def test_memory_that_grows_with_the_fleet_misses_its_aim_and_names_the_function() -> None:
    _, memory_aim, _ = report.aims(results(peaks_mb=(100, 120)))
    assert not memory_aim.met
    assert "x1.20 at most, of create" in memory_aim.found
    assert "**missed**" in report.page(results(peaks_mb=(100, 120)))


def test_plans_are_shown_beside_sorts_and_must_not_grow_faster() -> None:
    page = report.page(results())
    assert "| 100 points | 2,000 | 10,000 | x5.0 |\n| 10,000 points | 16.7 | 50.0 | x3.0 |" in page
    *_, aim = report.aims(results())
    assert (aim.found, aim.met) == ("x0.60", True)
    quadratic = [plans.Measured(100, 0.0005, 0.0001), plans.Measured(10_000, 5.0, 0.020)]
    (aim,) = report.aims(report.Results(MACHINE, "abc1234", "2026-11-23", plans=quadratic))
    assert (aim.found, aim.met) == ("x50.00", False)


def test_a_deletion_is_counted_by_the_snapshot() -> None:
    page = report.page(results())
    assert "| 100 instances share a project, 100 | 2.100 | 1.000 | 1.000 | 0.100 | 2.00 | 1.00 | 45 |" in page


def test_a_copy_is_counted_by_the_disk_and_held_to_the_aim_of_its_way() -> None:
    small, large = Size("shared", 100), Size("shared", 1000)
    measured = [copied(large, lists=300), copied(small, lists=90)]
    whole = report.Results(MACHINE, "abc1234", "2026-11-23", copies=measured)
    (aim,) = report.aims(whole)
    assert "through temporary disks, where 100 instances share a project" in aim.what
    assert (aim.found, aim.met) == ("4.100 to 4.300", True)
    page = report.page(whole)
    first = "| 100 instances share a project, 100 | 4.300 | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 | 0.300 | 61 |"
    assert f"{first}\n| 100 instances share a project, 1,000 | 4.100 |" in page
    assert "by the moment, home included" not in page
    missed = report.Results(MACHINE, "abc1234", "2026-11-23", copies=[copied(small, lists=300)])
    (aim,) = report.aims(missed)
    assert (aim.found, aim.met) == ("5.000 to 5.000", False)


def restored(disks: int, *, calls: int, seconds: float = 600.0, size_gb: int = restores.SIZE_GB) -> restores.Measured:
    made = Counter({"disks.insert": disks, "disks.get": calls - disks})
    return restores.Measured("in_place", disks, size_gb, made, looks=10, seconds=seconds, operations_s=300.0)


def test_a_restore_is_held_to_the_least_that_it_takes_and_must_not_grow_with_its_disks() -> None:
    measured = [restored(16, calls=680), restored(1, calls=40), restored(4, calls=170)]
    larger = restored(4, calls=1_300, seconds=25_920, size_gb=10_000)
    whole = report.Results(MACHINE, "abc1234", "2026-11-23", restores=[larger, *measured])
    assert [(aim.found, aim.met) for aim in report.aims(whole)] == [
        ("x1.06 at most, of in_place", True),
        ("x1.00 at most, of in_place", True),
    ]
    page = report.page(whole)
    assert "| `in_place`, 1 disk | 40 | 40.0 | 8 | x5.0 | 10 | 600 | 600 | 300 | x2.00 |" in page
    assert "| `in_place`, 16 disks | 680 | 42.5 | 68 | x10.0 | 10 | 600 | 37.5 | 300 | x2.00 |" in page
    assert "| `in_place`, 16 disks | 0.00 | 1.00 | 41.50 | 0.00 | 0.00 | 0.00 |" in page
    assert "| 100 GB | 10 | 170 | 17.0 | 600 | x2.00 |\n| 10,000 GB | 10 | 1,300 | 130 | 25,920 | x86.40 |" in page
    one_by_one = [restored(1, calls=40), restored(16, calls=640, seconds=9_600)]
    *_, aim = report.aims(report.Results(MACHINE, "abc1234", "2026-11-23", restores=one_by_one))
    assert (aim.found, aim.met) == ("x16.00 at most, of in_place", False)


def test_the_page_says_where_and_when_it_was_measured() -> None:
    page = report.page(results())
    assert "2026-11-23, commit abc1234" in page
    assert "2 cores (A CPU), 8 GB, Python 3.11.7" in page


def test_fleets_of_the_page_go_from_small_to_large_whatever_order_they_were_measured_in() -> None:
    page = report.page(results())
    assert "### 100 / 1,000 instances, 100 instances share a project" in page
    assert "| `create` | 15.0 / 1.50 | x0.10 | 100 / 101 | x1.01 |" in page


def test_the_way_to_the_last_verified_point_is_compared_with_the_floor() -> None:
    assert "| 100 instances share a project, 100 | 1.00 | 0.030 | 15.0 | 8.0 | 3.0 | 2.0 | x4.0 |" in report.page(
        results()
    )


def test_parts_that_were_not_measured_are_not_on_the_page() -> None:
    page = report.page(
        report.Results(MACHINE, "abc1234", "2026-11-23", memory=[in_memory(Size("apart", 100), lists=1)])
    )
    assert "## What a point costs" in page
    assert "Cold start" not in page
    assert "floor" not in page


def test_every_line_of_a_table_has_the_columns_of_its_head() -> None:
    columns: int | None = None
    for line in report.page(results()).splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        columns = columns or line.count("|")
        assert line.count("|") == columns, line
