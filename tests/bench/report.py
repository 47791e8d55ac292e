"""The page that a run of the benchmark writes: docs/performance.md. Pure: measurements in, Markdown out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench import cold, copies, deletion, floor, memory, plans, rest, restores
from tests.bench.fleets import DISKS, Layout, Size
from tests.bench.meter import NOBODY, Used
from tests.bench.proc import Machine

from snapkeep.wording import count

LAYOUTS: Final[Mapping[Layout, str]] = {
    "shared": "100 instances share a project",
    "apart": "a project for each instance",
}
CALLS_AIM: Final[Mapping[Layout, float]] = {"shared": 1.1, "apart": 2.5}
"""Compute Engine calls for a disk, to take its snapshot and to verify it."""

WAYS: Final[Mapping[copies.Way, str]] = {
    "moment": "by the moment, home included",
    "temporary_disk": "through temporary disks",
}
COPIES_AIM: Final[Mapping[copies.Way, Mapping[Layout, float]]] = {
    "moment": {"shared": 5.3, "apart": 7.5},
    "temporary_disk": {"shared": 4.5, "apart": 8.0},
}
"""Compute Engine calls for a copied disk. No fewer than 5 will do by the moment (an instant snapshot, two snapshots,
and the instant snapshot read, compared and deleted), no fewer than 4 through a temporary disk: the rest reads back."""

FLAT: Final = 1.10
"""A function's peak memory is flat where ten times the fleet needs at most so much of it."""

MS: Final = 1000.0
MB: Final = 1 << 20
GB: Final = 1 << 30

FOR_POINTS: Final = ("create", "reconcile")
"""The functions that ask Compute Engine for points; `discover` asks for instances, whether points are taken or not."""


@dataclass(frozen=True, slots=True)
class Results:
    """Parts that were not measured are empty."""

    machine: Machine
    commit: str
    date: str
    memory: Sequence[memory.Measured] = ()
    rest: Sequence[rest.Measured] = ()
    cold: Sequence[cold.Measured] = ()
    plans: Sequence[plans.Measured] = ()
    deletion: Sequence[deletion.Measured] = ()
    copies: Sequence[copies.Measured] = ()
    restores: Sequence[restores.Measured] = ()


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    found: str
    met: bool


# --- numbers ------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that matter, and thousands set apart: 0.0123, 1.07, 42.2, 3,001."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    if abs(value) >= 10:
        digits = 1
    return f"{value:.{digits}f}"


def growth(values: Sequence[float]) -> str:
    """The last against the first: how a thing grows with the fleet. A dash where there is nothing to compare."""
    if len(values) < 2 or not values[0]:
        return "-"
    return f"x{values[-1] / values[0]:.2f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right. Raises ValueError for a ragged one."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"{line}: {len(line)} columns, expected {len(header)}")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def slashed(values: Iterable[float]) -> str:
    """One number for each fleet, the smallest fleet first."""
    return " / ".join(number(value) for value in values)


def per_disk(calls: Mapping[str, Used], size: Size) -> float:
    return sum(calls[name].calls.total() for name in FOR_POINTS if name in calls) / size.disks


def total(used: Mapping[str, Used], of: Callable[[Used], float]) -> float:
    return sum(of(one) for one in used.values())


# --- aims ---------------------------------------------------------------------------------------------------------


def aims(results: Results) -> list[Aim]:
    """What is aimed at, with what was found. An aim whose part was not measured is left out."""
    found = []
    for layout, most in CALLS_AIM.items():
        calls = [per_disk(n.used, m.size) for m in results.memory if m.size.layout == layout for n in m.nights]
        calls += [sum(m.calls.values()) / m.size.disks for m in results.rest if m.size.layout == layout]
        if calls:
            what = f"Compute Engine calls for a disk, verification included, where {_where(layout)}: at most {most}"
            found.append(Aim(what, f"{min(calls):.3f} to {max(calls):.3f}", max(calls) <= most))
    for way, by_layout in COPIES_AIM.items():
        for layout, most in by_layout.items():
            per_copied = [m.calls.total() / m.size.disks for m in _copied(results, way, layout)]
            if per_copied:
                where = _where(layout)
                what = f"Compute Engine calls for a copied disk, {WAYS[way]}, where {where}: at most {most}"
                found.append(Aim(what, f"{min(per_copied):.3f} to {max(per_copied):.3f}", max(per_copied) <= most))
    grown = {
        f"{name} ({LAYOUTS[layout]})": large / small
        for layout in LAYOUTS
        for name, (small, *_, large) in _peaks(results, layout).items()
    }
    if grown:
        worst = max(grown, key=lambda name: grown[name])
        what = f"Peak memory of each function, flat in the fleet's size: ten times the fleet, at most x{FLAT:.2f}"
        found.append(Aim(what, f"x{grown[worst]:.2f} at most, of {worst}", grown[worst] <= FLAT))
    if len(results.plans) > 1:
        few, *_, many = _by_points(results)
        what = (
            f"A retention plan grows as a sort does: one of {many.points:,} points, counted in sorts of the same list, "
            f"at most x{FLAT:.2f} of one of {few.points:,}"
        )
        found.append(Aim(what, f"x{many.ratio / few.ratio:.2f}", many.ratio / few.ratio <= FLAT))
    return found + list(_aims_of_restores(results))


def _aims_of_restores(results: Results) -> Iterator[Aim]:
    """That disks are restored side by side: neither what one costs nor how long all take grows with their number."""
    calls: dict[str, float] = {}
    times: dict[str, float] = {}
    few, many = restores.DISKS[0], restores.DISKS[-1]
    for mode in restores.MODES:
        by_disks = {m.disks: m for m in results.restores if (m.mode, m.size_gb) == (mode, restores.SIZE_GB)}
        if few in by_disks and many in by_disks:
            one, all_ = by_disks[few], by_disks[many]
            calls[mode] = all_.calls.total() / many / (one.calls.total() / few)
            times[mode] = all_.seconds / one.seconds
    for what, grown in (("Compute Engine calls for a restored disk", calls), ("Time of a restore", times)):
        if grown:
            worst = max(grown, key=lambda mode: grown[mode])
            of = f"{what}, flat in their number: {many} disks against {few}, at most x{FLAT:.2f}"
            yield Aim(of, f"x{grown[worst]:.2f} at most, of {worst}", grown[worst] <= FLAT)


def _where(layout: Layout) -> str:
    return "100 instances share a project" if layout == "shared" else "a project holds one"


def _peaks(results: Results, layout: Layout) -> dict[str, list[float]]:
    """The peak of each function by fleet, where there are fleets to compare."""
    fleets = _sorted(results.rest, layout)
    if len(fleets) < 2:
        return {}
    return {name: [fleet.functions[name].peak_bytes for fleet in fleets] for name in fleets[0].functions}


def _copied(results: Results, way: copies.Way, layout: Layout) -> list[copies.Measured]:
    found = [m for m in results.copies if (m.way, m.size.layout) == (way, layout)]
    return sorted(found, key=lambda m: m.size.instances)


def _by_points(results: Results) -> list[plans.Measured]:
    return sorted(results.plans, key=lambda measured: measured.points)


def _sorted(measured: Sequence[rest.Measured], layout: Layout) -> list[rest.Measured]:
    return sorted((m for m in measured if m.size.layout == layout), key=lambda m: m.size.instances)


# --- the page -----------------------------------------------------------------------------------------------------


def page(results: Results) -> str:
    parts = [_head(results), _aims(results)]
    if results.memory:
        parts += [_costs(results), _functions(results), _calls(results), _quiet(results)]
    if results.plans:
        parts.append(_plans(results))
    if results.deletion:
        parts.append(_deletion(results))
    if results.copies:
        parts.append(_copies(results))
    if results.restores:
        parts.append(_restores(results))
    if results.rest:
        parts += [_end_to_end(results), _processes(results)]
    if results.cold:
        parts.append(_cold(results))
    return "\n".join(parts)


def _head(results: Results) -> str:
    machine = results.machine
    where = f"{machine.cores} cores ({machine.cpu}), {machine.memory_bytes / GB:.0f} GB, Python {machine.python}"
    return f"""# Performance

Written by `make bench` on {results.date}, commit {results.commit}; change nothing here by hand. Counts in memory
are the same on every machine. Seconds are those of one, and no test looks at them: {where}, {machine.system}.

Fleets are generated; every instance has {DISKS} disks where no other number is named. Numbers with strokes between them
are of fleets of different sizes, the smallest first; x1.20 says that the last is larger than the first by a fifth. What
is counted for a point and grows by x1.00 costs a fleet in proportion to its size.
"""


def _aims(results: Results) -> str:
    rows = [(aim.what, aim.found, "met" if aim.met else "**missed**") for aim in aims(results)]
    return "## Aims\n\n" + table(("aim", "found", ""), rows)


def _fleets(results: Results) -> list[tuple[Layout, list[memory.Measured]]]:
    return [
        (layout, sorted((m for m in results.memory if m.size.layout == layout), key=lambda m: m.size.instances))
        for layout in LAYOUTS
        if any(m.size.layout == layout for m in results.memory)
    ]


def _costs(results: Results) -> str:
    text = """## What a point costs

All of Snapkeep in one process, on memory ports, with counters between. A night lasts from before the first slot until
every point is verified and its records are numbered; ticks and discovery meanwhile are in the counts. In the first
night whole disks are uploaded, which takes 1 to 30 minutes, and nobody knows how long beforehand; a later night tells
from the one before. A read is what Firestore bills as one: a document, or a look that finds nothing.
"""
    for layout, fleets in _fleets(results):
        first = [per_disk(m.nights[0].used, m.size) for m in fleets]
        later = [per_disk(m.nights[-1].used, m.size) for m in fleets]
        rows = [_row("Compute Engine calls for a disk, first night", first)]
        rows += [_row("Compute Engine calls for a disk, later night", later)]
        for what, of in COUNTED.items():
            values = [total(m.nights[-1].used, of) / m.size.instances for m in fleets]
            rows.append(_row(f"{what} for a point", values))
        text += _heading(layout, fleets) + table(("", "later night", "grows"), rows)
    return text


COUNTED: Final[Mapping[str, Callable[[Used], float]]] = {
    "documents read": lambda u: u.reads,
    "documents written": lambda u: u.writes,
    "commits": lambda u: u.commits,
    "messages to functions": lambda u: u.messages.total() - u.messages["snapkeep-events"],
    "events published": lambda u: u.messages["snapkeep-events"],
    "CPU ms of the handlers": lambda u: (u.cpu_s - u.ports_cpu_s) * MS,
}


def _row(what: str, values: Sequence[float]) -> tuple[str, str, str]:
    return what, slashed(values), growth(values)


def _heading(layout: Layout, fleets: Sequence[memory.Measured] | Sequence[rest.Measured]) -> str:
    sizes = " / ".join(f"{m.size.instances:,}" for m in fleets)
    return f"\n### {sizes} instances, {LAYOUTS[layout]}\n\n"


def _functions(results: Results) -> str:
    text = """## Which function

For a point of a later night, in memory. CPU is the handler's own, without what the simulated cloud and database took.
The last column is how many documents the largest delivery read: in pages, so they are not in memory together.
"""
    for layout, fleets in _fleets(results):
        names = {name for m in fleets for name in m.nights[-1].used} - {NOBODY}
        rows = []
        for name in sorted(names):
            used = [(m.nights[-1].used.get(name, Used()), m.size.instances) for m in fleets]
            rows.append(
                (
                    f"`{name}`",
                    slashed(u.reads / n for u, n in used),
                    slashed(u.writes / n for u, n in used),
                    slashed(u.deliveries / n for u, n in used),
                    slashed((u.cpu_s - u.ports_cpu_s) / n * MS for u, n in used),
                    slashed(u.most_read for u, _ in used),
                )
            )
        header = ("", "read", "written", "deliveries", "CPU ms", "most in one delivery")
        text += _heading(layout, fleets) + table(header, rows)
    return text


def _calls(results: Results) -> str:
    rows = []
    for layout, fleets in _fleets(results):
        for measured in fleets:
            for night in measured.nights:
                calls = [
                    sum(night.used[name].calls[method] for name in FOR_POINTS if name in night.used)
                    for method in METHODS
                ]
                what = f"{LAYOUTS[layout]}, {measured.size.instances:,}, night {night.number}"
                rows.append((what, *(f"{number / measured.size.disks:.3f}" for number in calls)))
    header = ("", *(f"`{method}`" for method in METHODS))
    return "## Where the calls go\n\nFor each disk; a page of a list is a call.\n\n" + table(header, rows)


METHODS: Final = (
    "snapshots.insert",
    "snapshots.list",
    "instances.aggregatedList",
    "disks.aggregatedList",
    "snapshots.get",
    "globalOperations.get",
)


def _quiet(results: Results) -> str:
    rows = []
    for layout, fleets in _fleets(results):
        quiet = [(m.quiet_hour, m.size) for m in fleets]
        rows += [
            (
                LAYOUTS[layout],
                slashed(total(u, lambda one: one.calls.total()) / size.projects for u, size in quiet),
                slashed(total(u, lambda one: one.reads) / size.instances for u, size in quiet),
                slashed(total(u, lambda one: one.writes) / size.instances for u, size in quiet),
            )
        ]
    header = ("", "calls for a project", "read for an instance", "written for an instance")
    text = """## An hour in which nothing is due

The ticks, which cost the same for every fleet, and discovery: once an hour it reads each project's instances and disks.

"""
    return text + table(header, rows)


def _plans(results: Results) -> str:
    rows = [
        (f"{m.points:,} points", number(1 / m.plan_s), number(1 / m.sort_s), f"x{m.ratio:.1f}")
        for m in _by_points(results)
    ]
    text = """## Retention plans

A plan weighs all points of one instance by every rule; here three points a day, each of three disks, given in no order.
Beside it, sorting the same list by the points' moments, in turn in the same process; the best of each counts. The ratio
is how many sorts a plan costs.

"""
    return text + table(("", "plans a second", "sorts a second", "ratio"), rows)


def _deletion(results: Results) -> str:
    rows = []
    for layout in LAYOUTS:
        for m in sorted((m for m in results.deletion if m.size.layout == layout), key=lambda m: m.size.instances):
            calls = [m.used.calls.total(), *(m.used.calls[method] for method in DELETION_METHODS)]
            rows.append(
                (
                    f"{LAYOUTS[layout]}, {m.size.instances:,}",
                    *(f"{count / m.snapshots:.3f}" for count in calls),
                    number(m.used.reads / m.snapshots),
                    number(m.used.writes / m.snapshots),
                    f"{m.minutes}",
                )
            )
    methods = (f"`{method.removeprefix('snapshots.')}`" for method in DELETION_METHODS)
    text = """## What a deletion costs

Of one snapshot whose point's grace is over, in memory, by the function that deletes: it reads the snapshot and compares
its numeric id, asks for its deletion, and later reads by one list call which ones are gone. Documents are read and
written for the points, their instances and their records. The last column is simulated minutes until the last one was
read back as gone: a run begins at most 100 deletions of a tenant. The daily listing of each vault, in search of
orphans, is not in it.

"""
    return text + table(("", "calls", *methods, "read", "written", "minutes"), rows)


DELETION_METHODS: Final = ("snapshots.get", "snapshots.delete", "snapshots.list")


def _copies(results: Results) -> str:
    text = """## What a copy costs

Calls for each disk of a point that is stored in two regions, in memory, by the functions that ask for points and
copies. By the moment: a later night of tenants who have bought copies, their points at home included, since one
instant snapshot of each disk serves both. Through temporary disks: every point of the first night is copied after the
add-on was bought, as a person asks; to take the points at home is not in it. An instant snapshot and a temporary disk
are read, and compared by their numeric ids, before they are deleted, and read to be gone. The last column is simulated
minutes until nothing was left to do.
"""
    for way, methods in COPIES_METHODS.items():
        rows = [
            (
                f"{LAYOUTS[layout]}, {m.size.instances:,}",
                f"{m.calls.total() / m.size.disks:.3f}",
                *(f"{m.calls[method] / m.size.disks:.3f}" for method in methods),
                f"{m.minutes}",
            )
            for layout in LAYOUTS
            for m in _copied(results, way, layout)
        ]
        if rows:
            header = ("", "calls", *(f"`{method}`" for method in methods), "minutes")
            text += f"\n### A copied disk, {WAYS[way]}\n\n" + table(header, rows)
    return text


COPIES_METHODS: Final[Mapping[copies.Way, Sequence[str]]] = {
    "moment": (
        "snapshots.insert",
        "instantSnapshots.insert",
        "instantSnapshots.get",
        "instantSnapshots.delete",
        "instantSnapshots.aggregatedList",
        "snapshots.list",
        "instances.aggregatedList",
        "disks.aggregatedList",
    ),
    "temporary_disk": (
        "disks.insert",
        "snapshots.insert",
        "disks.get",
        "disks.delete",
        "disks.aggregatedList",
        "snapshots.list",
    ),
}


def _restores(results: Results) -> str:
    found = sorted(results.restores, key=lambda m: (restores.MODES.index(m.mode), m.size_gb, m.disks))
    by_number = [m for m in found if m.size_gb == restores.SIZE_GB]
    by_size = sorted(
        (m for m in found if (m.mode, m.disks) == ("in_place", restores.DISKS_WAITED_FOR)), key=lambda m: m.size_gb
    )
    text = f"""## What a restore costs

One instance's point, in memory, restored by function `restore` alone, from its start to its end, every check passed;
disks have {restores.SIZE_GB} GB. The least that any program must ask for: an insert of each disk and a read that it is
there; in place also a detachment and an attachment of each; for a new instance its insert and a read; in place a read
of what is attached, a stop, a start, and a read that it runs. What is asked beyond that: each snapshot is read before
anything is changed, and each look reads every disk and every operation that is under way, by its link, since a list
fails with any one zone. Seconds are simulated; "of operations" is how many of them Compute Engine was at work on a disk
or the instance: the rest is waiting for the next look, once a minute.

"""
    rows: list[tuple[str, ...]] = []
    for m in by_number:
        calls = m.calls.total()
        rows.append(
            (
                f"`{m.mode}`, {count(m.disks, 'disk')}",
                f"{calls:,}",
                number(calls / m.disks),
                f"{m.least}",
                f"x{calls / m.least:.1f}",
                f"{m.looks}",
                number(m.seconds),
                number(m.seconds / m.disks),
                number(m.operations_s),
                f"x{m.seconds / m.operations_s:.2f}",
            )
        )
    header = ("", "calls", "for a disk", "least", "ratio", "looks", "seconds", "for a disk", "of operations", "ratio")
    text += table(header, rows)
    largest = [m for m in by_number if m.disks == max(one.disks for one in by_number)]
    rows = [
        (
            f"`{m.mode}`, {count(m.disks, 'disk')}",
            *(f"{m.calls[method] / m.disks:.2f}" for method in RESTORE_METHODS),
            f"{(m.calls.total() - sum(m.calls[method] for method in RESTORE_METHODS)) / m.disks:.2f}",
        )
        for m in largest
    ]
    text += "\n### Where its calls go, for a disk\n\n"
    text += table(("", *(f"`{method}`" for method in RESTORE_METHODS), "others"), rows)
    rows = [
        (
            f"{m.size_gb:,} GB",
            f"{m.looks}",
            f"{m.calls.total():,}",
            number(m.calls.total() / m.looks),
            number(m.seconds),
            f"x{m.seconds / m.operations_s:.2f}",
        )
        for m in by_size
    ]
    if rows:
        text += f"""
### How it is waited for

In place, {restores.DISKS_WAITED_FOR} disks, which take the longer to be made the larger they are. What was waited for
long is looked at seldom, at least every five minutes. The ratio is that of the time to the operations' own.

"""
        text += table(("", "looks", "calls", "for a look", "seconds", "ratio"), rows)
    return text


RESTORE_METHODS: Final = ("snapshots.get", "disks.insert", "disks.get", "zoneOperations.get", "instances.get")


def _end_to_end(results: Results) -> str:
    rows = []
    for layout in LAYOUTS:
        for m in _sorted(results.rest, layout):
            least = m.floor
            cpu_s = sum(of.cpu_s for of in m.functions.values())
            rows.append(
                (
                    f"{LAYOUTS[layout]}, {m.size.instances:,}",
                    f"{sum(m.calls.values()) / m.size.disks:.2f}",
                    f"{sum(of.deliveries for of in m.functions.values()) / m.verified:.3f}",
                    number(cpu_s / m.verified * MS),
                    f"{m.seconds:.1f}",
                    f"{m.minutes * m.quiet_minute_s:.1f}",
                    f"{least.seconds:.1f}",
                    f"x{m.seconds / least.seconds:.1f}",
                )
            )
    header = (
        "",
        "calls for a disk",
        "deliveries for a point",
        "CPU ms for a point",
        "seconds",
        "of it ticks",
        "floor",
        "ratio",
    )
    text = f"""## From the tick to the last verified point

`snapkeep up`: the functions as processes on Google's emulators, Compute Engine simulated over REST. All slots fall on
one minute, so that one tick brings every point of the night, the first of each disk. Seconds are real ones, from
sending the clock to that minute until a client sees the last point verified. Simulated time does not wait for the
cloud, so they are the work of the functions, the emulators and the simulator, on the same cores; "of it ticks" is what
as many simulated minutes take when nothing is due.

The floor is what a plain client with {floor.THREADS} threads takes for the least that any program must do, on the same
servers right after: an insert for each disk, a list of each project's snapshots, and three commits of a point with a
record. It plans and reads nothing, sends no message and numbers no audit record.

"""
    return text + table(header, rows)


def _processes(results: Results) -> str:
    text = """## Each function's process

CPU of the whole process group for a point of that night, and the peak of the worker's memory (VmHWM) since it started.
"""
    for layout in LAYOUTS:
        fleets = _sorted(results.rest, layout)
        if not fleets:
            continue
        rows = []
        for name in sorted(fleets[0].functions):
            used = [m.functions[name] for m in fleets]
            cpu = [of.cpu_s / m.verified * MS for of, m in zip(used, fleets, strict=True)]
            peaks = [of.peak_bytes / MB for of in used]
            rows.append((f"`{name}`", slashed(cpu), growth(cpu), slashed(peaks), growth(peaks)))
        text += _heading(layout, fleets) + table(("", "CPU ms", "grows", "peak MB", "grows"), rows)
    return text


def _cold(results: Results) -> str:
    rows = [
        (f"`{m.function}`", f"{m.seconds:.2f}", f"{max(m.all_seconds):.2f}", number(m.peak_bytes / MB))
        for m in results.cold
    ]
    starts = len(results.cold[0].all_seconds)
    text = f"""## Cold start

From the start of the process under functions-framework to its first answered delivery, Google's clients loaded and
connected, best and worst of {starts}; modules are compiled before. Memory is the worker's peak after that delivery.

"""
    return text + table(("", "best, s", "worst, s", "MB"), rows)
