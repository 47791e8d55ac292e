"""Scale on paper: how much one project carries, which quota breaks first, how to go beyond it, what a month costs.

Computed from infra/quotas.yaml (Google's quotas and prices, with sources), docs/performance.md (what `make bench`
counted) and the retention rules themselves; `make generate` writes docs/scale.md. A quota or price that nobody found is
`Unknown`: nothing is computed from it, and the page says which one it would take. Pure but for reading these files.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import yaml

from snapkeep.creation.rules import taken_at
from snapkeep.deployment import Deployment, deployment
from snapkeep.documents import CopyRetention, InstanceRef, Point, Retention, Schedule
from snapkeep.messages import INSTANCES_PER_MESSAGE_MAX
from snapkeep.retention.handler import DELETES_PER_RUN_MAX
from snapkeep.retention.rules import EXPIRY_GRACE, Keep, Situation, plan
from snapkeep.wording import count

ROOT: Final = Path(__file__).parents[1]
QUOTAS_YAML: Final = ROOT / "infra" / "quotas.yaml"
PERFORMANCE: Final = ROOT / "docs" / "performance.md"

FLEETS: Final = (100, 1_000, 10_000)
DISKS: Final = (1, 2, 4)
REGIONS: Final = ("southamerica-east1", "us-east1")
STANDS_IN: Final = {"us-east1": "us-central1"}
"""Whose price is taken where a region's own was not found."""

DAYS_A_MONTH: Final = 365 / 12
GIB: Final = 1 << 30


# --- quotas and prices --------------------------------------------------------------------------------------------


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    url: str


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    metric: str | None
    value: float | None
    unit: str
    per: str
    covers: tuple[str, ...]  # methods of Compute Engine
    adjustable: bool
    source: Source
    read: date
    third_party: str | None
    needed: str | None  # how to learn the value


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In one region, or everywhere."""

    value: float | None
    source: Source
    read: date
    third_party: str | None
    needed: str | None = None


class Priced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    unit: str
    regions: dict[str, Price]


class Quotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of infra/quotas.yaml."""

    quotas: dict[str, Quota]
    prices: dict[str, Priced]


def read_quotas(text: str) -> Quotas:
    """Raises msgspec.ValidationError where the file is not as it says it is."""
    return msgspec.convert(yaml.safe_load(text), Quotas)


@dataclass(frozen=True, slots=True)
class Unknown:
    """What cannot be computed, and the quotas or prices that it would take."""

    lacks: tuple[str, ...]


Amount = float | Unknown


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum; Unknown if any of them is."""
    known, lacks = 0.0, list[str]()
    for amount in amounts:
        if isinstance(amount, Unknown):
            lacks += amount.lacks
        else:
            known += amount
    return Unknown(tuple(dict.fromkeys(lacks))) if lacks else known


def times(amount: Amount, factor: float) -> Amount:
    return amount if isinstance(amount, Unknown) else amount * factor


def value_of(quota: Quota, unit: str) -> Amount:
    """Raises ValueError where it counts something else than the formula expects."""
    if quota.unit != unit:
        raise ValueError(f"quota {quota.name}: in {quota.unit}, expected {unit}: mend infra/quotas.yaml")
    return Unknown((quota.name,)) if quota.value is None else quota.value


def price_of(prices: Mapping[str, Priced], name: str, unit: str, region: str) -> Amount:
    """The region's price, else the one that stands in for it, else the one of everywhere. Raises ValueError where it
    is for another unit, or where none of the three is in the file."""
    priced = prices[name]
    if priced.unit != unit:
        raise ValueError(f"price {name}: {priced.unit}, expected {unit}: mend infra/quotas.yaml")
    for place in (region, STANDS_IN.get(region, region), "everywhere"):
        if place in priced.regions:
            value = priced.regions[place].value
            return Unknown((f"{name} in {region}",)) if value is None else value
    raise ValueError(f"price {name}: nothing for {region}, expected it or `everywhere` in infra/quotas.yaml")


# --- what was counted ---------------------------------------------------------------------------------------------


class Counted:
    """The tables of docs/performance.md, read by heading, row and column."""

    def __init__(self, page: str) -> None:
        self._cells: dict[tuple[str, str, str], str] = {}
        part = section = ""
        header: list[str] = []
        for line in page.splitlines():
            if found := re.match(r"(##+) (.*)", line):
                part = found[2] if found[1] == "##" else part
                section = part if found[1] == "##" else f"{part}: {found[2]}"
                header = []
            elif line.startswith("|"):
                cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
                if not header:
                    header = cells
                elif not line.startswith("| ---"):
                    for column, cell in zip(header[1:], cells[1:], strict=True):
                        self._cells[section, cells[0].replace("`", ""), column] = cell

    def number(self, section: str, row: str, column: str, place: int = 0) -> float:
        """The number there; of several between strokes the one at a place. Raises LookupError with what was sought."""
        cell = self._cells.get((section, row, column))
        if cell is None:
            raise LookupError(
                f"docs/performance.md: no `{column}` of `{row}` under `{section}`: "
                "`make bench` writes it, or infra/scale.py is to follow its new words"
            )
        return float(cell.split(" / ")[place].replace(",", ""))


SHARED: Final = "100 instances share a project"
APART: Final = "a project for each instance"
COUNTED_DISKS: Final = 3
"""Of each instance of the benchmark's fleets."""

COUNTED_FLEET: Final = "1,000"
SIZES: Final = "100 / 1,000 / 10,000 instances"
NIGHT: Final = f"What a point costs: {SIZES}, {{}}"
MIDDLE: Final = 1
"""The fleet of 1,000 between strokes."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What Snapkeep asks of Compute Engine for one thing, by method."""

    name: str
    per_disk: Mapping[str, float]
    per_instance: Mapping[str, float]  # pages of lists, which hold many disks

    def calls(self, methods: Iterable[str], disks: int) -> float:
        """For one instance with so many disks."""
        return sum(self.per_disk.get(m, 0) * disks + self.per_instance.get(m, 0) for m in methods)


def activity(name: str, per_disk: Mapping[str, float]) -> Activity:
    """What was counted for a disk, of instances with three: lists are an instance's, everything else is a disk's."""
    lists = {method: calls * COUNTED_DISKS for method, calls in per_disk.items() if method.endswith("ist")}
    return Activity(name, {m: c for m, c in per_disk.items() if m not in lists}, lists)


def activities(counted: Counted, layout: str) -> list[Activity]:
    """What one project is asked: points, deletions, copies both ways, restores."""

    def of(section: str, row: str, columns: Sequence[str], prefix: str = "") -> dict[str, float]:
        return {prefix + column: counted.number(section, row, column) for column in columns}

    row = f"{layout}, {COUNTED_FLEET}"
    lists = ("snapshots.list", "instances.aggregatedList", "disks.aggregatedList")
    instant = tuple(f"instantSnapshots.{word}" for word in ("insert", "get", "delete", "aggregatedList"))
    moment = "What a copy costs: A copied disk, by the moment, home included"
    temporary = "What a copy costs: A copied disk, through temporary disks"
    restore = "What a restore costs: Where its calls go, for a disk"
    disks = ("disks.insert", "disks.get", "disks.delete", "disks.aggregatedList")
    return [
        activity("points", of("Where the calls go", f"{row}, night 2", ("snapshots.insert", *lists))),
        activity("deletions", of("What a deletion costs", row, ("get", "delete", "list"), "snapshots.")),
        activity("points with a copy, by the moment", of(moment, row, ("snapshots.insert", *instant, *lists))),
        activity("copies through temporary disks", of(temporary, row, (*disks, "snapshots.insert", "snapshots.list"))),
        activity(
            "restores as new instances",
            of(
                restore,
                "new_instance, 16 disks",
                ("snapshots.get", "disks.insert", "disks.get", "zoneOperations.get", "instances.get"),
            ),
        ),
    ]


# --- how much, how fast -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Most:
    """How many instances an hour one project carries."""

    per_hour: Amount
    first: str  # the known quota that breaks first; empty: none is known
    lacks: tuple[str, ...]  # quotas that are spent too and whose value nobody found


def most_per_hour(doing: Activity, quotas: Iterable[Quota], disks: int) -> Most:
    """By every rate quota that the activity spends, as if it did nothing else and had each quota to itself."""
    bounds: list[tuple[float, str]] = []
    lacks: list[str] = []
    for quota in quotas:
        spent = doing.calls(quota.covers, disks)
        if not spent:
            continue
        rate = value_of(quota, "requests/minute")
        if isinstance(rate, Unknown):
            lacks += rate.lacks
        else:
            bounds.append((rate * 60 / spent, quota.name))
    if not bounds:
        return Most(Unknown(tuple(lacks)), "", tuple(lacks))
    per_hour, first = min(bounds)
    return Most(per_hour, first, tuple(lacks))


def most_stored(snapshots: Quota, kept: int, disks: int) -> Amount:
    """How many instances' points one project holds."""
    return times(value_of(snapshots, "snapshots"), 1 / (kept * disks))


VISITS_A_DELETION: Final = 2
"""Of an instance, at least: one begins the deletion, a later one reads back that it is gone."""


def looks_an_hour(deployed: Deployment) -> int:
    """How often retention hands a tenant's due instances on, so many of them each time."""
    schedule = deployed.functions["retention"].schedule
    return _runs_a_day(schedule) // 24 if schedule else 0


def most_of_a_tenant(deployed: Deployment, disks: int) -> int:
    """Instances of one tenant of which Snapkeep itself deletes a point a day, by what one run does for a tenant."""
    looks = 24 * looks_an_hour(deployed)
    return min(looks * DELETES_PER_RUN_MAX // disks, looks * INSTANCES_PER_MESSAGE_MAX // VISITS_A_DELETION)


@dataclass(frozen=True, slots=True)
class Load:
    """A fleet on its projects, each its own vault."""

    fleet: int
    projects: int
    disks: int
    snapshots: int  # that each project holds
    of_snapshots: Amount  # of the quota SNAPSHOTS: more than 1 breaks it
    of_writes: Amount  # of the quota of snapshot writes while the slots of a night are spread
    vaults: Amount  # projects that the fleet's snapshots need as long as SNAPSHOTS is not raised
    catch_up_minutes: Amount  # what the quota of snapshot writes takes after a day's outage

    @property
    def first(self) -> str:
        """Which known quota breaks first; empty: none does."""
        shares = {"SNAPSHOTS": self.of_snapshots, "snapshot writes": self.of_writes}
        known = {name: share for name, share in shares.items() if not isinstance(share, Unknown) and share > 1}
        return max(known, key=lambda name: known[name]) if known else ""


def load(fleet: int, projects: int, disks: int, quotas: Mapping[str, Quota], kept: int, insert: float) -> Load:
    """After a day's outage every instance gets one point at once, since only the newest slot is still taken, and two
    days' points are to be deleted: three writes for each disk."""
    each = math.ceil(fleet / projects)
    per_minute = value_of(quotas["snapshot_writes"], "requests/minute")
    holds = value_of(quotas["snapshots"], "snapshots")
    stored = each * disks * kept
    writes = each * disks * insert

    def share(needed: float, of: Amount) -> Amount:
        return of if isinstance(of, Unknown) else needed / of

    vaults = share(fleet * disks * kept, holds)
    return Load(
        fleet=fleet,
        projects=projects,
        disks=disks,
        snapshots=stored,
        of_snapshots=share(stored, holds),
        of_writes=share(writes / Schedule().spread_minutes, per_minute),
        vaults=vaults if isinstance(vaults, Unknown) else math.ceil(vaults),
        catch_up_minutes=share(writes + 2 * each * disks, per_minute),
    )


def loads(quotas: Mapping[str, Quota], kept: int, insert: float) -> list[Load]:
    return [
        load(fleet, projects, disks, quotas, kept, insert)
        for fleet in FLEETS
        for projects in dict.fromkeys((1, fleet // 100, fleet))
        for disks in DISKS
    ]


# --- what is kept -------------------------------------------------------------------------------------------------

NOON: Final = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HISTORY_DAYS: Final = 500
"""More than the default policies reach back. It is a year of 12 months, whichever day it is seen from."""


def ages_kept(policy: Retention) -> list[int]:
    """How old, in days, the points are that the rules of retention themselves keep of one a day. Newest first."""
    home = InstanceRef(id="1", name="i", project="p", zone="z-a", region="z")
    points = [_verified(home, NOON - timedelta(days=age), policy) for age in range(HISTORY_DAYS)]
    nothing = Situation(
        policy, "America/Sao_Paulo", None, in_breach=False, override=None, instance_holds=(), tenant_holds=()
    )
    decisions = plan(points, nothing, NOON).decisions
    return sorted((NOON - taken_at(one.point)).days for one in decisions if isinstance(one.decision, Keep))


def _verified(home: InstanceRef, at: datetime, policy: Retention) -> Point:
    return Point(
        updated_at=at,
        id=f"{at:%Y%m%d}",
        trigger="scheduled",
        state="verified",
        instance=home,
        vault_project=home.project,
        requested_at=at,
        start_after=at,
        start_by=at,
        deadline=at,
        requested_by="snapkeep",
        reason="a day's",
        expected_s=0,
        next_at=None,
        lock_until=at + timedelta(days=policy.lock_days),
    )


def held(ages: Sequence[int]) -> int:
    """Points of one instance that lie in its vault on any day: those that are kept, and those in their grace."""
    return len(ages) + math.ceil(EXPIRY_GRACE / timedelta(days=1))


def chain(ages: Sequence[int], daily_change: float) -> float:
    """Stored bytes of a chain of snapshots, in disks' used bytes: the oldest is whole, each later one has what changed
    since the one before it, blocks taken to change at random."""
    gaps = (older - newer for newer, older in pairwise(ages))
    return 1 + sum(1 - (1 - daily_change) ** gap for gap in gaps)


# --- what a month costs -------------------------------------------------------------------------------------------


def _alert_conditions() -> int:
    """Those of infra/monitoring.yaml, and one for the silence of each function with a schedule."""
    alerts = yaml.safe_load((ROOT / "infra" / "monitoring.yaml").read_text(encoding="utf-8"))["alerts"]
    return len(alerts) + sum(one.schedule is not None for one in deployment().functions.values())


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What nobody measured: parameters, to be replaced by yours."""

    instances: int = 1_000
    disks: int = 3
    used_gib_per_disk: float = 50.0
    daily_change: float = 0.01  # of the used bytes
    document_kib_per_point: float = 20.0  # 9 of a point and its records after its night, in JSON; its end, few indexes
    months_of_documents: int = 12  # documents of points that are gone stay
    waiting: float = 3.0  # seconds billed for a second of CPU
    idle_delivery_s: float = 0.3  # billed for a tick that finds nothing
    memory_gib: float = 0.5
    vcpu: float = 1.0
    log_kib_per_delivery: float = 4.0
    alert_conditions: int = field(default_factory=_alert_conditions)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a month's bill."""

    service: str
    what: str
    usd: Mapping[str, Amount]  # by region


def ticks_a_day(deployed: Deployment) -> int:
    """Deliveries that the schedules bring. Raises ValueError for a form of cron that none of them has."""
    return sum(_runs_a_day(one.schedule) for one in deployed.functions.values() if one.schedule)


def _runs_a_day(cron: str) -> int:
    minute, *rest = cron.split()
    if rest != ["*"] * 4:
        raise ValueError(f"{cron}: expected `MINUTE * * * *`")
    if minute == "*":
        return 24 * 60
    if found := re.fullmatch(r"\*/(\d+)", minute):
        return 24 * 60 // int(found[1])
    if re.fullmatch(r"\d+", minute):
        return 24
    raise ValueError(f"{cron}: expected `*`, `*/N` or a number of minutes")


@dataclass(frozen=True, slots=True)
class Use:
    """Of one month, of all instances."""

    reads: float
    writes: float
    deliveries: float
    messages: float
    billed_s: float
    document_gib: float
    log_gib: float


def use(counted: Counted, deployed: Deployment, layout: str, assumed: Assumptions) -> Use:
    """A later night, the deletion of as many snapshots as were made, and 24 quiet hours, which counts the ticks of the
    night twice: too much rather than too little."""
    points = assumed.instances * DAYS_A_MONTH
    night = NIGHT.format(layout)
    deletion, row = "What a deletion costs", f"{layout}, {COUNTED_FLEET}"

    def for_a_point(what: str) -> float:
        return counted.number(night, f"{what} for a point", "later night", MIDDLE)

    def quiet(column: str) -> float:
        return 24 * counted.number("An hour in which nothing is due", layout, column, MIDDLE)

    def gone(column: str) -> float:
        return assumed.disks * counted.number(deletion, row, column)

    ticks = ticks_a_day(deployed) * DAYS_A_MONTH
    told = for_a_point("messages to functions") * points
    end_to_end = counted.number("From the tick to the last verified point", row, "CPU ms for a point")
    return Use(
        reads=points * (for_a_point("documents read") + quiet("read for an instance") + gone("read")),
        writes=points * (for_a_point("documents written") + quiet("written for an instance") + gone("written")),
        deliveries=ticks + told,
        messages=ticks + told + for_a_point("events published") * points,
        billed_s=points * end_to_end / 1000 * assumed.waiting + ticks * assumed.idle_delivery_s,
        document_gib=points * assumed.months_of_documents * assumed.document_kib_per_point * 1024 / GIB,
        log_gib=(ticks + told) * assumed.log_kib_per_delivery * 1024 / GIB,
    )


def service_lines(prices: Mapping[str, Priced], used: Use, deployed: Deployment, assumed: Assumptions) -> list[Line]:
    """What Snapkeep itself costs in a month, before free tiers."""
    jobs = sum(one.schedule is not None for one in deployed.functions.values())
    per_100k = "USD/100000 documents"
    cpu, memory = used.billed_s * assumed.vcpu, used.billed_s * assumed.memory_gib
    tib = 2 * used.messages * 1024 / (GIB * 1024)
    stored = used.document_gib
    bill = (
        ("Firestore", f"{used.reads / 1e6:,.1f} million reads", "document_reads", per_100k, used.reads / 1e5),
        ("Firestore", f"{used.writes / 1e6:,.1f} million writes", "document_writes", per_100k, used.writes / 1e5),
        ("Firestore", f"{stored:,.1f} GiB of documents", "document_storage", "USD/GiB-month", stored),
        ("Firestore", f"{stored:,.1f} GiB for point-in-time recovery", "document_history", "USD/GiB-month", stored),
        ("Cloud Run", f"{cpu:,.0f} vCPU-seconds", "function_cpu", "USD/vCPU-second", cpu),
        ("Cloud Run", f"{memory:,.0f} GiB-seconds", "function_memory", "USD/GiB-second", memory),
        (
            "Cloud Run",
            f"{used.deliveries:,.0f} requests",
            "function_requests",
            "USD/1000000 requests",
            used.deliveries / 1e6,
        ),
        ("Pub/Sub", f"{used.messages:,.0f} messages in and out, 1 KiB each", "messages", "USD/TiB", tib),
        ("Cloud Scheduler", count(jobs, "job"), "schedules", "USD/job-month", jobs),
        ("Cloud Logging", f"{used.log_gib:,.2f} GiB", "logs", "USD/GiB", used.log_gib),
        (
            "Cloud Monitoring",
            count(assumed.alert_conditions, "condition"),
            "alert_conditions",
            "USD/condition-month",
            assumed.alert_conditions,
        ),
        ("Load balancer", "one forwarding rule (only with a web address)", "load_balancer", "USD/hour", 730),
    )
    return [
        Line(service, what, {r: times(price_of(prices, name, unit, r), amount) for r in REGIONS})
        for service, what, name, unit, amount in bill
    ]


def storage_line(prices: Mapping[str, Priced], ages: Sequence[int], assumed: Assumptions) -> Line:
    gib = assumed.instances * assumed.disks * assumed.used_gib_per_disk * chain(ages, assumed.daily_change)
    price = {r: price_of(prices, "snapshot_storage", "USD/GiB-month", r) for r in REGIONS}
    return Line("Compute Engine", f"{gib:,.0f} GiB of snapshots", {r: times(price[r], gib) for r in REGIONS})


def transfer_line(prices: Mapping[str, Priced], assumed: Assumptions) -> Line:
    """What a month's changes cost on their way to another region, each day's points being copied."""
    gib = assumed.instances * assumed.disks * assumed.used_gib_per_disk * assumed.daily_change * DAYS_A_MONTH
    price = {r: price_of(prices, "snapshot_transfer", "USD/GiB", r) for r in REGIONS}
    return Line("Compute Engine", f"{gib:,.0f} GiB sent to another region", {r: times(price[r], gib) for r in REGIONS})


# --- the page -----------------------------------------------------------------------------------------------------

WIDTH: Final = 118


def prose(text: str, first: str = "") -> str:
    """A paragraph, or a list's item that begins with `first`, in lines of one width."""
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def shown(amount: Amount, form: str = ",.0f") -> str:
    return "unknown" if isinstance(amount, Unknown) else format(amount, form)


def floored(amount: Amount) -> str:
    """Of things there are whole ones only."""
    return "unknown" if isinstance(amount, Unknown) else f"{math.floor(amount):,}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table whose first columns are text and whose others are numbers."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def by_disks(values: Iterable[str]) -> str:
    return f"{' / '.join(values)} instances with {' / '.join(map(str, DISKS))} disks"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page is made of."""

    limits: Quotas
    counted: Counted
    deployed: Deployment
    assumed: Assumptions
    ages: Sequence[int]  # of the points of an instance that the default policy keeps, in days

    @property
    def kept(self) -> int:
        return held(self.ages)

    @property
    def insert(self) -> float:
        """Snapshot writes for a disk and night."""
        return activities(self.counted, SHARED)[0].per_disk["snapshots.insert"]

    @property
    def stored(self) -> str:
        snapshots = self.limits.quotas["snapshots"]
        return by_disks(floored(most_stored(snapshots, self.kept, disks)) for disks in DISKS)

    def rates(self) -> list[Quota]:
        return [quota for quota in self.limits.quotas.values() if quota.covers]

    def bill(self, layout: str) -> list[Line]:
        used = use(self.counted, self.deployed, layout, self.assumed)
        return service_lines(self.limits.prices, used, self.deployed, self.assumed)


def facts(limits: Quotas, counted: Counted, deployed: Deployment, assumed: Assumptions) -> Facts:
    return Facts(limits, counted, deployed, assumed, ages_kept(Retention()))


def page(of: Facts) -> str:
    parts = (_answer(of), _project(of), _fleets(of), _raise(of), _month(of), _sources(of.limits))
    return "\n\n".join(block for part in parts for block in part) + "\n"


def _answer(of: Facts) -> list[str]:
    points = activities(of.counted, SHARED)[0]
    most = [most_per_hour(points, of.rates(), disks) for disks in DISKS]
    bill = of.bill(SHARED)
    known = [shown(sum(_known(bill, region))) for region in REGIONS]
    stores = storage_line(of.limits.prices, of.ages, of.assumed)
    snapshots = [shown(stores.usd[region]) for region in REGIONS]
    first = load(1_000, 10, 1, of.limits.quotas, of.kept, of.insert).first or "none of the known quotas"
    holds = shown(value_of(of.limits.quotas["snapshots"], "snapshots"))
    return [
        "# Scale",
        prose("""Computed by `infra/scale.py` (`make generate`) from [infra/quotas.yaml](../infra/quotas.yaml) and from
            what [make bench](performance.md) counted; change nothing here by hand. On paper: nobody has run it against
            Google ([what is not proven](unproven.md#quotas-and-costs))."""),
        "## The answer",
        "\n".join(
            (
                prose(
                    f"""**What breaks first, with 100 instances in a project: {first}.** The default policy holds
                    {of.kept} points of an instance. At {holds} snapshots a vault project carries {of.stored}. Raise it
                    first, or give tenants vault projects of their own.""",
                    "- ",
                ),
                prose(
                    f"""**Then `{most[0].first}`**: {by_disks(floored(one.per_hour) for one in most)} an hour and
                    project. A fleet meets it only where a project holds thousands.""",
                    "- ",
                ),
                prose(
                    f"""**{of.assumed.instances:,} instances cost about ${known[0]} a month** in {REGIONS[0]}
                    (${known[1]} in {REGIONS[1]}) for Snapkeep itself, as far as prices are known, and their snapshots
                    ${snapshots[0]} (${snapshots[1]}), under the assumptions below.""",
                    "- ",
                ),
            )
        ),
    ]


def _project(of: Facts) -> list[str]:
    rates = of.rates()
    rows = []
    for doing, apart in zip(activities(of.counted, SHARED), activities(of.counted, APART), strict=True):
        most = [most_per_hour(doing, rates, disks) for disks in DISKS]
        alone = most_per_hour(apart, rates, DISKS[0])
        first = f"`{most[0].first}`" if most[0].first else "none is known"
        lacks = ", ".join(f"`{name}`" for name in most[0].lacks) or "-"
        rows.append((doing.name, first, lacks, *(floored(one.per_hour) for one in most), floored(alone.per_hour)))
    header = ("instances an hour", "breaks first", "unknown, may break before")
    columns = (*(count(disks, "disk") for disks in DISKS), f"alone, {count(DISKS[0], 'disk')}")
    tenant = by_disks(f"{most_of_a_tenant(of.deployed, disks):,}" for disks in DISKS)
    operations = value_of(of.limits.quotas["document_operations"], "operations/second")
    written = of.counted.number(NIGHT.format(SHARED), "documents written for a point", "later night", MIDDLE)
    return [
        "## What one project carries",
        prose("""The most instances an hour by every rate quota whose value is known, as if nothing else were asked of
            the project; *alone* is counted where each instance has a project of its own, whose lists hold nobody
            else's. Deletions are of one point of each instance. What is unknown takes no part, and is named. The
            project of a resource provides the quota of every call to it, whoever calls
            ([About the quota project](https://cloud.google.com/docs/quotas/quota-project)): snapshots the vault
            project's, everything else the instances'."""),
        table((*header, *columns), rows, texts=3),
        prose(f"""By what is stored (`SNAPSHOTS`), one vault project holds {of.stored}: {len(of.ages)} points that the
            default policy keeps, and {of.kept - len(of.ages)} in its grace. One database takes
            {floored(times(operations, 3600 / written))} points an hour before it has warmed up, by documents written.
            Snapkeep's own bound: {count(looks_an_hour(of.deployed), "time")} an hour it visits
            {INSTANCES_PER_MESSAGE_MAX} instances of a tenant and begins {DELETES_PER_RUN_MAX} deletions, so that a
            tenant of more than {tenant} is never done with a day's.
            No number of projects lifts these: {_limit(of, "snapshots_of_a_disk")};
            {_limit(of, "disks_of_a_snapshot")}; {_limit(of, "instant_snapshots_of_a_disk")}."""),
    ]


def _limit(of: Facts, name: str) -> str:
    quota = of.limits.quotas[name]
    return f"{shown(value_of(quota, quota.unit))} {quota.name}"


def _fleets(of: Facts) -> list[str]:
    rows = [
        (
            f"{one.fleet:,}",
            f"{one.projects:,}",
            one.first or "none of the known ones",
            str(one.disks),
            f"{one.snapshots:,}",
            shown(one.of_snapshots, ",.2f"),
            shown(one.of_writes, ",.2f"),
            shown(one.vaults),
            shown(one.catch_up_minutes, ",.1f"),
        )
        for one in loads(of.limits.quotas, of.kept, of.insert)
    ]
    header = ("instances", "projects", "breaks first", "disks", "snapshots in each", "of `SNAPSHOTS`")
    return [
        "## Fleets",
        prose(f"""Each project its own vault; a share of a quota above 1 breaks it. Snapshot writes
            (`{of.limits.quotas["snapshot_writes"].name}`) are of the minutes over which a night's slots are spread
            ({Schedule().spread_minutes} by default); beyond the quota a night takes longer, and nothing is lost. *Vault
            projects* is how many the fleet's snapshots need as long as `SNAPSHOTS` is what it is. *Catching up* is
            after a day without Snapkeep: one point of every instance at once, since only the newest slot is still
            taken, and two days' deletions, by snapshot writes alone."""),
        table((*header, "of snapshot writes", "vault projects", "catching up, minutes"), rows, texts=3),
    ]


def _raise(of: Facts) -> list[str]:
    writes, snapshots = of.limits.quotas["snapshot_writes"], of.limits.quotas["snapshots"]
    steps = (
        f"""`{snapshots.name}` (`{snapshots.metric}`) of each vault project: to {of.kept} x disks x instances, and a
        fifth more for points on demand. Copies' snapshots count in the same vault project.""",
        """A vault project for each tenant or group of tenants (`vault_project`): snapshots, their writes, reads and
        lists are then that project's own. One tenant's snapshots lie in one vault project.""",
        f"""`schedule.spread_minutes`, up to 240, where a project's night goes beyond `{writes.name}`: eight times as
        many minutes are an eighth of the writes in each.""",
        f"""`{writes.name}` (`{writes.metric}`) of the same projects.""",
        """A second Snapkeep with other tenants, in a project and with a database of its own: where the database's
        writes, or the function `health`, which reads every tenant that changed, are what is waited for.""",
    )
    return [
        "## What to raise, how to shard",
        "\n".join(prose(step, f"{number}. ") for number, step in enumerate(steps, start=1)),
    ]


def _month(of: Facts) -> list[str]:
    assumed, prices = of.assumed, of.limits.prices
    header = ("service", "what", *REGIONS)
    bill = of.bill(SHARED)
    apart = " and ".join(f"{cell} in {region}" for cell, region in zip(_sums(of.bill(APART)), REGIONS, strict=True))
    copied = ages_kept(Retention(**msgspec.structs.asdict(CopyRetention())))
    changes = (assumed.daily_change / 2, assumed.daily_change, assumed.daily_change * 2)
    stored = [(change, storage_line(prices, of.ages, replace(assumed, daily_change=change))) for change in changes]
    names = assumed.__dataclass_fields__
    return [
        f"## What a month of {assumed.instances:,} instances costs",
        prose(f"""USD, list prices, before free tiers, discounts and taxes; where {REGIONS[1]} has no price,
            {STANDS_IN[REGIONS[1]]}'s stands for it. Documents, messages, deliveries and CPU are counted. Assumed are
            (`Assumptions` in infra/scale.py, where each stands with its meaning):"""),
        table(("parameter", "value"), [(f"`{name}`", f"{getattr(assumed, name):,g}") for name in names]),
        f"### Snapkeep itself, {SHARED}",
        table(header, [*_rows(bill), ("**together**", "", *_sums(bill))], texts=2),
        prose(f"""Where each instance has a project of its own, the same comes to {apart}. Not in it: deletions by TTL,
            backups of the database, the network, and what web pages read."""),
        "### What is stored",
        prose(f"""Snapshots of one point a day, by the default policy: {len(of.ages)} of an instance are kept, as the
            rules of retention themselves decide. A later snapshot holds what changed since the one before; blocks are
            taken to change at random, and nothing is taken off for compression."""),
        table(
            ("of the used bytes change in a day", "what", *REGIONS),
            [(f"{change:.1%}", line.what, *_money(line)) for change, line in stored],
            texts=2,
        ),
        "### The add-on: copies in another region",
        prose(f"""Beside the above, where every instance's points are copied and kept by the copies' default policy
            ({len(copied)} of an instance), at the price of the region that the copies lie in. The first copy sends all
            used bytes once. What documents a copy takes is not counted: the add-on's part of Firestore is unknown."""),
        table(header, _rows([storage_line(prices, copied, assumed), transfer_line(prices, assumed)]), texts=2),
    ]


def _money(line: Line) -> list[str]:
    return [shown(line.usd[region], ",.2f") for region in REGIONS]


def _rows(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    return [(line.service, line.what, *_money(line)) for line in lines]


def _known(lines: Sequence[Line], region: str) -> list[float]:
    return [amount for line in lines if not isinstance(amount := line.usd[region], Unknown)]


def _sums(lines: Sequence[Line]) -> list[str]:
    """The sum of the known lines in each region, which says how many are unknown."""
    known = {region: _known(lines, region) for region in REGIONS}
    lacks = {region: len(lines) - len(known[region]) for region in REGIONS}
    return [f"**{sum(known[r]):,.2f}**{f' and {lacks[r]} unknown' if lacks[r] else ''}" for r in REGIONS]


def _sources(limits: Quotas) -> list[str]:
    quotas = [
        (
            f"`{quota.name}`" if quota.metric else quota.name,
            f"{shown(value_of(quota, quota.unit))} {quota.unit}",
            quota.per,
            *_source(quota),
        )
        for quota in limits.quotas.values()
    ]
    priced = [
        (name, one.unit, region, price) for name, one in limits.prices.items() for region, price in one.regions.items()
    ]
    prices = [
        (
            name,
            "unknown" if price.value is None else f"{price.value:.7f}".rstrip("0").rstrip("."),
            unit,
            region,
            *_source(price),
        )
        for name, unit, region, price in priced
    ]
    lacking = [(f"`{one.name}`", f"`{one.needed}`") for one in limits.quotas.values() if one.value is None]
    lacking += [(f"{name}, {region}", price.needed or "") for name, _, region, price in priced if price.value is None]
    return [
        "## Sources",
        prose("""Read from stored copies of the pages, on the day that is named. Quotas differ from project to project:
            the commands in [unproven.md](unproven.md#quotas-and-costs) say yours."""),
        table(("quota", "value", "per", "source", "read"), quotas, texts=5),
        table(("price", "USD", "unit", "region", "source", "read"), prices, texts=6),
        "### What nobody found, and how to learn it",
        table(("unknown", "it takes"), lacking, texts=2),
    ]


def _source(of: Quota | Price) -> tuple[str, str]:
    told = f"; not by Google: {of.third_party}" if of.third_party else ""
    return f"[{of.source.title}]({of.source.url})", f"{of.read}{told}"


def written() -> str:
    """docs/scale.md, from the files as they are."""
    limits = read_quotas(QUOTAS_YAML.read_text(encoding="utf-8"))
    counted = Counted(PERFORMANCE.read_text(encoding="utf-8"))
    return page(facts(limits, counted, deployment(), Assumptions()))
