"""The inter-region add-on, on Google's emulators and with real function processes: bought, ended, and bought again.

Weeks pass without ticks, as if Cloud Scheduler were down: only what is done about them takes its time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.conftest import Up, until, up
from tests.e2e.expected import Google, Listener, google_clients

pytestmark = pytest.mark.e2e

START = datetime(2026, 11, 22, 5, tzinfo=UTC)

HOME, AWAY = "southamerica-east1", "us-east1"
ADD_ON = {"inter_region_backup": {"region": AWAY, "valid_until": "2027-12-31"}}

ENDS = "solid"
"""Its add-on ends and comes back. Two of its points are more than is copied in full in a day; one disk is regional."""

STAYS = "united"
"""Its add-on stays. Its disks are taken at one moment: they are under one consistency group."""

INSTANCES = {ENDS: "solid-db", STAYS: "united-web"}
DISKS = {ENDS: 4, STAYS: 2}
SIZE_GB = 1120  # of the disks of ENDS together

UPLOAD = timedelta(minutes=25)
"""More than a snapshot of the largest disk, 500 GB, takes in the simulated cloud, or a disk that is made of one."""

ROUNDS_MAX = 8
"""Times such a pause, that anything here may take: a race that somebody loses costs one."""


def fleet(*, bought: bool) -> str:
    return yaml.safe_dump(
        {
            "tenants": [
                tenant(ENDS, **({"entitlements": ADD_ON} if bought else {})),
                tenant(STAYS, consistency="group", entitlements=ADD_ON),
            ]
        }
    )


def tenant(id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "name": id.title(),
        "project": f"{id}-prod",
        "vault_project": f"{id}-vault",
        "timezone": "UTC",
        # At an hour in which this story lets no tick come: its points are those that it asks for.
        "schedule": {"daily_at": "02:30", "spread_minutes": 0, "catch_up_hours": 1},
        "rpo_hours": 8784,
        "retention": {"keep_within_days": 60, "lock_days": 0},
        "instances": [{"name": INSTANCES[id], "zone": f"{HOME}-a"}],
        **more,
    }


# --- what there is ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stock:
    """What the simulated cloud holds, and what is written down of it."""

    state: dict[str, Any]
    points: dict[str, dict[str, dict[str, Any]]]  # tenant -> id -> document

    def snapshots(self, tenant: str, region: str | None = None) -> list[dict[str, Any]]:
        """What a vault holds, in one region or in all."""
        mine = [one for one in self.state["snapshots"] if f"/projects/{tenant}-vault/" in one["selfLink"]]
        return [one for one in mine if region in (None, *one["storageLocations"])]

    def of(self, tenant: str, point: str, region: str) -> dict[str, dict[str, Any]]:
        """The snapshots that say they are of a point, in one region, by the names of the disks that they should hold.

        Which disk that is, the point says: a copy through a temporary disk was not made from it.
        """
        there = {one["name"]: one for one in self.snapshots(tenant, region)}
        document = self.points[tenant][point]
        disks = document["disks"] if region == HOME else document["copies"][region]["disks"]
        assert all(there[disk["snapshot"]["name"]]["labels"]["snapkeep-point"] == point for disk in disks)
        return {disk["name"]: there[disk["snapshot"]["name"]] for disk in disks}

    def contents(self, tenant: str, point: str, region: str) -> dict[str, str]:
        return {name: one["content"] for name, one in self.of(tenant, point, region).items()}

    def whole(self, tenant: str) -> set[str]:
        """The points of which the cloud has a READY snapshot of every disk in the second region."""
        ready = Counter(
            one["labels"]["snapkeep-point"] for one in self.snapshots(tenant, AWAY) if one["status"] == "READY"
        )
        return {point for point, disks in ready.items() if disks == DISKS[tenant]}


class Teller:
    """Whoever tells it: lets time pass, writes to disks, asks for points, applies the fleet file."""

    def __init__(self, cloud: Up, google: Google, file: Path) -> None:
        self.cloud, self.google, self.file = cloud, google, file
        self.asked = 0
        self.disks = [one["selfLink"].partition("/v1/")[2] for one in cloud.ask("state")["disks"]]

    def tick(self, minutes: int) -> None:
        self.cloud.go_on(timedelta(minutes=minutes))
        self.cloud.arrive()

    def skip(self, to: datetime) -> None:
        """Time passes, and nobody is woken."""
        self.cloud.ask("clock", {"to": to.isoformat(), "ticks": False})
        self.cloud.arrive()

    def write(self, word: str) -> None:
        """Every disk of every machine holds something else from now on."""
        for link in self.disks:
            self.cloud.ask("fleet", {"kind": "write_disk", "disk": link, "content": written(word, link)})

    def ask(self, tenant: str) -> None:
        self.asked += 1
        wanted = {
            "schema": 1,
            "type": "create.requested",
            "id": f"request-{self.asked}",
            "tenant": tenant,
            "claimed_actor": "ci@vendor.example",
            "reason": "before import",
            "data": {"instance": INSTANCES[tenant]},
        }
        self.google.publish("snapkeep-create", json.dumps(wanted).encode())

    def go_on_until(self, condition: Callable[[], bool], what: str, word: str = "") -> None:
        """Two minutes with ticks after each pause, until it is so; given a word, disks are written to meanwhile."""
        for number in range(ROUNDS_MAX):
            self.tick(2)
            if condition():
                return
            if word:
                self.write(f"{word}-{number}")
            least = datetime.fromisoformat(self.cloud.ask("clock")["now"]) + UPLOAD
            # The first of the two is one in which whoever has ticks every ten minutes is woken.
            self.skip(to=least + timedelta(minutes=(9 - least.minute) % 10))
        raise AssertionError(f"not within {ROUNDS_MAX} pauses: {what}{self.cloud.said()}")

    def take(self, tenant: str) -> str:
        """A new point, verified; its id."""
        before = set(self.points(tenant))
        self.ask(tenant)
        self.tick(1)
        (new,) = self.points(tenant).keys() - before
        self.go_on_until(lambda: self.points(tenant)[new]["state"] == "verified", f"{new} is verified")
        return new

    def points(self, tenant: str) -> dict[str, dict[str, Any]]:
        """Those that were asked for: every slot of its schedule is missed."""
        points = self.google.documents("tenants", tenant, "points")
        return {id: point for id, point in points.items() if point["trigger"] == "on_demand"}

    def copy(self, tenant: str, point: str) -> dict[str, Any]:
        nothing = {"state": "none", "next_at": None}
        copy: dict[str, Any] = self.points(tenant)[point]["copies"].get(AWAY, nothing)
        return copy

    def is_copied(self, tenant: str, point: str) -> bool:
        """Verified, and nothing of it is left to do."""
        copy = self.copy(tenant, point)
        return (copy["state"], copy["next_at"]) == ("verified", None) and self.points(tenant)[point]["next_at"] is None

    def until_copied(self, tenant: str, point: str) -> None:
        self.go_on_until(lambda: self.is_copied(tenant, point), f"{point} is copied")
        self.tick(5)  # whoever counts is woken once in it

    def apply(self, *arguments: str, bought: bool) -> tuple[int, str]:
        """The exit status, and all that was said."""
        self.file.write_text(fleet(bought=bought))
        done = self.cloud.snapkeep("fleet", "apply", str(self.file), *arguments)
        return done.returncode, done.stdout + done.stderr


def stock(teller: Teller) -> Stock:
    return Stock(teller.cloud.ask("state"), {tenant: teller.points(tenant) for tenant in INSTANCES})


def written(word: str, link: str) -> str:
    return f"{word} {link.rsplit('/', 1)[1]}"


# --- the story ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What was said about copies, in words and in numbers, and what was there then."""

    stock: Stock
    fleet: dict[str, Any]  # `fleet health`
    tenant: dict[str, Any]  # `fleet show` of ENDS
    points: dict[str, dict[str, Any]]  # `points show` of its points


@dataclass(frozen=True)
class Story:
    """What each part of it left."""

    first: dict[str, str]  # tenant -> the point that was taken while all was bought
    bought: Told
    not_accepted: tuple[int, str]
    accepted: tuple[int, str]
    unbought: str  # the first point that was taken when ENDS had the add-on no longer
    refused: tuple[int, str]
    in_grace: Stock
    after_grace: Stock
    gone: Stock
    missing: tuple[str, str]  # points taken meanwhile, the newest first
    newest_made_up: Told
    made_up: Told
    events: list[dict[str, Any]]
    audit: dict[str, list[dict[str, Any]]]  # tenant -> bodies


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("copies")
    file = folder / "fleet.yaml"
    file.write_text(fleet(bought=True))
    with up(folder, "--fleet", str(file), "--start", START.isoformat()) as cloud, google_clients(cloud) as google:
        yield tell(Teller(cloud, google, file))


def tell(teller: Teller) -> Story:
    google = teller.google
    first = two_regions(teller)
    bought = told(teller, first[ENDS])

    not_accepted = teller.apply(bought=False)
    accepted = teller.apply("--accept-deletions", "1", bought=False)
    unbought = teller.take(ENDS)
    refusal = teller.cloud.snapkeep("points", "copy", unbought, "--tenant", ENDS, "--reason", "to be sure")

    teller.skip(to=START.replace(hour=12, minute=9) + timedelta(days=29))
    teller.tick(2)
    teller.write("day-29")
    older = teller.take(ENDS)
    in_grace = stock(teller)
    teller.skip(to=START.replace(hour=12, minute=9) + timedelta(days=30))
    teller.go_on_until(lambda: teller.copy(ENDS, first[ENDS])["state"] == "expiring", "nothing keeps the copy")
    after_grace = stock(teller)
    teller.skip(to=START.replace(hour=15, minute=8) + timedelta(days=31))
    teller.write("day-31")
    newer = teller.take(ENDS)
    teller.go_on_until(lambda: teller.copy(ENDS, first[ENDS])["state"] == "deleted", "the copy is gone")
    gone = stock(teller)
    teller.write("later")

    back = teller.apply(bought=True)
    assert back[0] == 0, back[1]
    teller.until_copied(ENDS, newer)
    newest_made_up = told(teller, newer, older)
    # More than a day after the first was asked for, to the next look of `entitlements`.
    teller.skip(to=START.replace(hour=22, minute=16) + timedelta(days=32))
    teller.until_copied(ENDS, older)
    made_up = told(teller, newer, older)

    listener = Listener(google)
    listener.listen()
    return Story(
        first,
        bought,
        not_accepted,
        accepted,
        unbought,
        (refusal.returncode, refusal.stderr),
        in_grace,
        after_grace,
        gone,
        (newer, older),
        newest_made_up,
        made_up,
        listener.heard,
        {tenant: bodies(google, tenant) for tenant in INSTANCES},
    )


def two_regions(teller: Teller) -> dict[str, str]:
    """A point of each tenant, in both regions, while its machine goes on writing; their ids."""
    teller.tick(1)
    teller.write("before")
    for tenant in INSTANCES:
        teller.ask(tenant)
    instants = sum(DISKS.values())
    until(lambda: len(teller.cloud.ask("state")["instant_snapshots"]) == instants, "the moment of every disk")
    teller.write("after")
    teller.tick(1)
    first = {tenant: next(iter(teller.points(tenant))) for tenant in INSTANCES}
    teller.go_on_until(lambda: all(teller.is_copied(*one) for one in first.items()), "both are copied", "written")
    teller.tick(5)
    return first


def told(teller: Teller, *points: str) -> Told:
    cloud = teller.cloud
    return Told(
        stock(teller),
        cloud.json("fleet", "health"),
        cloud.json("fleet", "show", ENDS),
        {point: cloud.json("points", "show", point, "--tenant", ENDS) for point in points},
    )


def bodies(google: Google, tenant: str) -> list[dict[str, Any]]:
    """What the audit chain says, in its order."""
    records = google.documents("tenants", tenant, "audit")
    return [json.loads(records[seq]["bytes"]) for seq in sorted(records)]


# --- bought -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", INSTANCES)
def test_a_point_is_ready_in_both_regions_with_the_contents_of_one_moment(story: Story, tenant: str) -> None:
    stock, point = story.bought.stock, story.first[tenant]
    for region in (HOME, AWAY):
        there = stock.of(tenant, point, region)
        assert len(there) == DISKS[tenant]
        assert {one["status"] for one in there.values()} == {"READY"}
        assert {tuple(one["storageLocations"]) for one in there.values()} == {(region,)}
        assert stock.contents(tenant, point, region) == {disk: f"before {disk}" for disk in there}
    assert {disk["content"].split()[0] for disk in stock.state["disks"]} != {"before"}


@pytest.mark.parametrize("tenant", INSTANCES)
def test_both_regions_were_made_of_the_same_instant_snapshots(story: Story, tenant: str) -> None:
    stock, point = story.bought.stock, story.first[tenant]
    of = {
        region: {disk: one["sourceInstantSnapshotId"] for disk, one in stock.of(tenant, point, region).items()}
        for region in (HOME, AWAY)
    }
    assert of[HOME] == of[AWAY]
    taken = Counter(entry["method"] for entry in stock.state["log"] if f"projects/{tenant}-prod/" in entry["link"])
    if tenant == STAYS:
        moments = {one["moment"] for region in of for one in stock.of(tenant, point, region).values()}
        assert len(moments) == 1
        assert (taken["instantSnapshotGroups.insert"], taken["instantSnapshots.insert"]) == (1, 0)
        assert stock.points[tenant][point]["consistency"] == "group"
    else:
        assert (taken["instantSnapshots.insert"], taken["regionInstantSnapshots.insert"]) == (3, 1)
        assert stock.points[tenant][point]["consistency"] == "crash"


def test_nothing_that_a_moment_was_held_in_is_left(story: Story) -> None:
    for stock in (story.bought.stock, story.gone, story.made_up.stock):
        assert (stock.state["instant_snapshots"], stock.state["instant_snapshot_groups"]) == ([], [])
    moments = [story.bought.stock.points[tenant][point]["moment"] for tenant, point in story.first.items()]
    assert [moment["state"] for moment in moments] == ["released", "released"]


# --- no longer bought ---------------------------------------------------------------------------------------------


def test_ending_the_add_on_says_which_copies_go_and_wants_their_number(story: Story) -> None:
    status, said = story.not_accepted
    assert status == 1
    assert f"the copy in {AWAY} of {story.first[ENDS]}" in said
    assert "--accept-deletions 1 accepts it" in said
    assert story.accepted[0] == 0, story.accepted[1]


def test_points_have_no_copies_from_then_on(story: Story) -> None:
    taken = {story.unbought, *story.missing}
    points = {id: story.gone.points[ENDS][id] for id in taken}
    assert {point["state"] for point in points.values()} == {"verified"}
    assert [(point["copies"], point["moment"]) for point in points.values()] == [({}, None)] * 3
    assert story.gone.snapshots(ENDS, AWAY) == []


def test_the_other_tenants_copies_stay(story: Story) -> None:
    before = story.bought.stock.snapshots(STAYS, AWAY)
    assert len(before) == DISKS[STAYS]
    assert story.made_up.stock.snapshots(STAYS, AWAY) == before


def test_the_end_is_told_once(story: Story) -> None:
    (event,) = (event for event in story.events if event["type"] == "copy.unentitled")
    ended = datetime.fromisoformat(event["data"]["ended_at"])
    assert (event["tenant"], event["data"]["region"]) == (ENDS, AWAY)
    # At once: the fleet file wakes `entitlements`, whose own tick would come at 17 past.
    assert ended.minute != 17
    assert datetime.fromisoformat(event["data"]["kept_until"]) == ended + timedelta(days=30)


def test_a_copy_that_is_not_bought_is_refused_with_its_reason_and_audited(story: Story) -> None:
    status, said = story.refused
    assert status == 1
    assert "solid is not entitled to copies: it has no inter_region_backup" in said
    (refused,) = (body for body in story.audit[ENDS] if body["action"] == "act.refused")
    assert (refused["actor"], refused["outcome"]) == ("admin@vendor.example", "refused")
    assert "is not entitled to copies" in json.dumps(refused["detail"])


def test_the_copies_are_there_to_the_end_of_their_grace_and_then_go(story: Story) -> None:
    def state(stock: Stock) -> tuple[str, int]:
        copy = stock.points[ENDS][story.first[ENDS]]["copies"][AWAY]
        return copy["state"], len(stock.snapshots(ENDS, AWAY))

    assert state(story.in_grace) == ("verified", DISKS[ENDS])
    assert state(story.after_grace) == ("expiring", DISKS[ENDS])
    assert state(story.gone) == ("deleted", 0)
    assert story.gone.points[ENDS][story.first[ENDS]]["state"] == "verified"
    assert len(story.gone.of(ENDS, story.first[ENDS], HOME)) == DISKS[ENDS]


# --- bought again -------------------------------------------------------------------------------------------------


def test_what_is_missing_is_made_up_within_what_a_day_may_copy_the_newest_first(story: Story) -> None:
    newer, older = story.missing
    assert story.newest_made_up.stock.whole(ENDS) == {newer}
    assert story.made_up.stock.whole(ENDS) == {newer, older}
    assert AWAY not in story.made_up.stock.points[ENDS][story.unbought]["copies"], "taken more than 14 days before"
    stock = story.made_up.stock
    ways = [stock.points[ENDS][point]["copies"][AWAY]["way"] for point in story.missing]
    assert ways == ["temporary_disk", "temporary_disk"]


def test_what_was_made_up_holds_what_its_point_holds(story: Story) -> None:
    stock = story.made_up.stock
    for point, day in zip(story.missing, ("day-31", "day-29"), strict=True):
        there = stock.of(ENDS, point, AWAY)
        assert {one["status"] for one in there.values()} == {"READY"}
        assert stock.contents(ENDS, point, AWAY) == {disk: f"{day} {disk}" for disk in there}
        assert stock.contents(ENDS, point, AWAY) == stock.contents(ENDS, point, HOME)


def test_no_temporary_disk_is_left(story: Story) -> None:
    log = Counter(entry["method"] for entry in story.made_up.stock.state["log"])
    assert (log["disks.insert"], log["disks.delete"]) == (2 * DISKS[ENDS], 2 * DISKS[ENDS])
    for told in (story.newest_made_up, story.made_up):
        assert disks(told.stock) == disks(story.bought.stock)


def disks(stock: Stock) -> set[str]:
    return {disk["id"] for disk in stock.state["disks"]}


def test_nothing_was_ever_asked_for_outside_the_two_regions(story: Story) -> None:
    stock = story.made_up.stock
    assert {entry["region"] for entry in stock.state["log"] if entry["method"].endswith(".insert")} == {HOME, AWAY}
    assert {where for tenant in INSTANCES for one in stock.snapshots(tenant) for where in one["storageLocations"]} == {
        HOME,
        AWAY,
    }


# --- what is said of it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["bought", "newest_made_up", "made_up"])
def test_the_numbers_of_health_agree_with_the_cloud(story: Story, part: str) -> None:
    told: Told = getattr(story, part)
    missing = {"bought": 0, "newest_made_up": 1, "made_up": 0}[part]
    full = {"bought": 0, "newest_made_up": 1, "made_up": 2}[part]
    copies = told.tenant["health"]["copies"]
    assert copies == {
        "verified": len(told.stock.whole(ENDS)),
        "waiting": 0,
        "lagging": 0,
        "missing": missing,
        "unentitled": 0,
        "bytes": stored(told.stock.snapshots(ENDS, AWAY)),
        "catch_up_disks": full * DISKS[ENDS],
        "catch_up_bytes": full * SIZE_GB * 2**30,
    }
    others = {"verified": len(told.stock.whole(STAYS)), "bytes": stored(told.stock.snapshots(STAYS, AWAY))}
    assert others["verified"] == 1
    assert told.fleet["fleet"]["copies"] == {name: number + others.get(name, 0) for name, number in copies.items()}


@pytest.mark.parametrize("part", ["bought", "newest_made_up", "made_up"])
def test_the_region_map_agrees_with_the_cloud(story: Story, part: str) -> None:
    told: Told = getattr(story, part)
    regions = {(line["region"], line["role"]): line for line in told.tenant["regions"]}
    assert regions.keys() == {(HOME, "home"), (AWAY, "copy")}
    home, away = regions[HOME, "home"], regions[AWAY, "copy"]
    assert (away["bought_until"], away["sets"]) == ("2027-12-31", len(told.stock.whole(ENDS)))
    assert home["sets"] == len(told.stock.points[ENDS])
    for line in (home, away):
        assert line["bytes"] == stored(told.stock.snapshots(ENDS, line["region"]))


@pytest.mark.parametrize("part", ["bought", "newest_made_up", "made_up"])
def test_a_point_is_shown_as_the_cloud_has_it(story: Story, part: str) -> None:
    told: Told = getattr(story, part)
    for id, shown in told.points.items():
        for line in shown["sets"]:
            there = told.stock.of(ENDS, id, line["region"]).values()
            assert (line["disks"], line["ready"], line["bytes"]) == (DISKS[ENDS], len(there), stored(there))
            assert line["state"] == "verified"
            assert datetime.fromisoformat(line["taken_at"]) == min(moment(told.stock, id))


def stored(snapshots: Iterable[dict[str, Any]]) -> int:
    return sum(int(one["storageBytes"]) for one in snapshots)


def moment(stock: Stock, point: str) -> Iterator[datetime]:
    """The instants that the contents of a point's snapshots at home are of."""
    return (datetime.fromisoformat(one["moment"]) for one in stock.of(ENDS, point, HOME).values())


def test_the_audit_tells_of_every_end_and_beginning(story: Story) -> None:
    said = [(body["action"], body["outcome"]) for body in story.audit[ENDS]]
    assert said.count(("copy.verified", "succeeded")) == 3
    assert said.count(("copy.deleted", "succeeded")) == 1
    assert [action for action, _ in said if action.startswith("entitlement.")] == [
        "entitlement.ended",
        "entitlement.returned",
    ]
    events = {event["id"]: event for event in story.events if event.get("tenant") == ENDS}  # each at least once
    heard = Counter(event["type"] for event in events.values())
    assert (heard["copy.verified"], heard["copy.deleted"]) == (3, 1)
    # Of a point that waits for its turn people may also hear that its copy is late.
    assert len({event["data"]["point"] for event in events.values() if event["type"] == "copy.missing"}) == 2
    assert (heard["copy.failed"], heard["point.failed"]) == (0, 0)
