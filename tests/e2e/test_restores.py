"""Restores, on Google's emulators and with real function processes, each asked for after new contents were written.

What was lost differs: what was written, an instance, a zone, a region's snapshots, all documents. Hours pass without
ticks, as if Cloud Scheduler were down: only what is done about restores takes its time.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from tests.e2e.conftest import COMMAND_TIMEOUT_S, Up, environment, run, until, up
from tests.e2e.expected import Google, google_clients

pytestmark = pytest.mark.e2e

START = datetime(2026, 11, 22, 5, tzinfo=UTC)
HOME, AWAY = "southamerica-east1", "us-east1"
LOST_ZONE = f"{HOME}-b"

OVERWRITTEN = "elder"
"""Something wrong was written to its instance: restored in place, and that is undone."""

DELETED = "delta"
"""Its instance and all disks of it are gone."""

ZONE_LOST = "quince"
"""Its instance is in a zone that answers 503 to everything; one of its disks is regional, with a replica there."""

REGION_LOST = "iris"
"""Its snapshots at home are gone, it has copies, and it may be restored where those are."""

TESTED = "flint"
"""A restore test of it is due an hour after the start. At the end it is lost with all of Snapkeep's documents."""

INSTANCES = {
    OVERWRITTEN: ("elder-web", f"{HOME}-c"),
    DELETED: ("delta-web", f"{HOME}-a"),
    ZONE_LOST: ("quince-web", LOST_ZONE),
    REGION_LOST: ("iris-pam", f"{HOME}-a"),
    TESTED: ("flint-app", f"{HOME}-a"),
}
DISKS = {OVERWRITTEN: 3, DELETED: 3, ZONE_LOST: 3, REGION_LOST: 3, TESTED: 2}

MORE: dict[str, dict[str, Any]] = {
    OVERWRITTEN: {"probe": {"kind": "tcp", "port": 443}},
    REGION_LOST: {
        "entitlements": {
            "inter_region_backup": {"region": AWAY, "valid_until": "2027-12-31"},
            "multi_region_dr": {"region": AWAY, "valid_until": "2027-12-31"},
        },
        "recovery": {
            "network": "projects/iris-prod/global/networks/main",
            "subnetworks": {AWAY: f"projects/iris-prod/regions/{AWAY}/subnetworks/recovery"},
        },
    },
    TESTED: {"restore_test": {"network": "projects/flint-prod/global/networks/isolated"}},
}

ASKS, APPROVES = "operator@vendor.example", "admin@vendor.example"

PAUSE = timedelta(minutes=25)
"""More than a snapshot of the largest disk takes in the simulated cloud, or a disk that is made of one."""

ROUNDS_MAX = 8
SCRIPT_TIMEOUT_S = 120


def tenant(id: str) -> dict[str, Any]:
    name, zone = INSTANCES[id]
    return {
        "id": id,
        "name": id.title(),
        "project": f"{id}-prod",
        "vault_project": f"{id}-vault",
        "timezone": "UTC",
        # One point of each, at the beginning of this story.
        "schedule": {"daily_at": "05:00", "spread_minutes": 0, "catch_up_hours": 1},
        "instances": [{"name": name, "zone": zone}],
        **MORE.get(id, {}),
    }


# --- what there is ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cloud:
    """What the simulated cloud holds at one moment."""

    state: dict[str, Any]

    def instances(self, tenant: str) -> dict[str, dict[str, Any]]:
        """By link, as every resource here."""
        return self._of(tenant, "instances")

    def disks(self, tenant: str) -> dict[str, dict[str, Any]]:
        return self._of(tenant, "disks")

    def attached(self, instance: str) -> dict[str, dict[str, Any]]:
        """The persistent disks of an instance, by device name."""
        (one,) = (one for one in self.state["instances"] if link(one) == instance)
        disks = {link(disk): disk for disk in self.state["disks"]}
        return {
            disk["deviceName"]: disks[disk["source"].partition("/v1/")[2]] | {"attachment": disk}
            for disk in one["disks"]
            if disk["type"] == "PERSISTENT"
        }

    def contents(self, instance: str) -> dict[str, str]:
        return {device: disk["content"] for device, disk in self.attached(instance).items()}

    def _of(self, tenant: str, kind: str) -> dict[str, dict[str, Any]]:
        return {link(one): one for one in self.state[kind] if link(one).startswith(f"projects/{tenant}-prod/")}


def link(resource: dict[str, Any]) -> str:
    return str(resource["selfLink"].partition("/v1/")[2])


def instance_link(tenant: str, zone: str | None = None) -> str:
    name, own = INSTANCES[tenant]
    return f"projects/{tenant}-prod/zones/{zone or own}/instances/{name}"


class Teller:
    """Whoever tells it: lets time pass, writes to disks, does harm, and asks for restores as an operator."""

    def __init__(self, cloud: Up, google: Google) -> None:
        self.cloud, self.google = cloud, google

    def see(self) -> Cloud:
        return Cloud(self.cloud.ask("state"))

    def tick(self, minutes: int) -> None:
        self.cloud.go_on(timedelta(minutes=minutes))
        self.cloud.arrive()

    def pause(self) -> None:
        """Time passes, and nobody is woken."""
        self.cloud.ask("clock", {"advance_seconds": PAUSE.total_seconds(), "ticks": False})
        self.cloud.arrive()

    def go_on_until(self, condition: Callable[[], bool], what: str, minutes: int = 2) -> None:
        for _ in range(ROUNDS_MAX):
            self.tick(minutes)
            if condition():
                return
            self.pause()
        raise AssertionError(f"not within {ROUNDS_MAX} pauses: {what}{self.cloud.said()}")

    def change(self, kind: str, **more: Any) -> None:
        self.cloud.ask("fleet", {"kind": kind, **more})

    def write(self, word: str) -> None:
        """Every disk of every instance holds something else from now on."""
        for tenant in INSTANCES:
            for device, disk in self.see().attached(instance_link(tenant)).items():
                self.change("write_disk", disk=link(disk), content=f"{word} {device}")

    def remove(self, tenant: str) -> None:
        """An instance goes, with all its disks."""
        disks = self.see().disks(tenant)
        self.change("remove_instance", instance=instance_link(tenant))
        for one in disks:
            self.change("remove_disk", disk=one)

    def point(self, tenant: str) -> dict[str, Any]:
        """Its one scheduled point, with its id."""
        points = self.google.documents("tenants", tenant, "points")
        (found,) = ({"id": id, **one} for id, one in points.items() if one["trigger"] == "scheduled")
        return found

    def is_stored(self, tenant: str) -> bool:
        """Verified, and its copy too if one is bought."""
        points = self.google.documents("tenants", tenant, "points")
        states = [one["state"] for one in points.values() if one["trigger"] == "scheduled"]
        copies = [copy["state"] for one in points.values() for copy in one["copies"].values()]
        return states == ["verified"] and copies == ["verified"] * (tenant == REGION_LOST)

    def restores(self, tenant: str) -> dict[str, dict[str, Any]]:
        return self.google.documents("tenants", tenant, "restores")

    # --- as an operator -------------------------------------------------------------------------------------------

    def restore(self, *arguments: str, by: str = ASKS) -> Any:
        done = self.cloud.snapkeep("--json", "restore", *arguments, SNAPKEEP_USER=by)
        assert done.returncode == 0, done.stderr + self.cloud.said()
        return json.loads(done.stdout)

    def request(self, tenant: str, mode: str, *arguments: str) -> dict[str, Any]:
        """A restore of a tenant's point is asked for."""
        point = self.point(tenant)["id"]
        where = ("--tenant", tenant, "--point", point, "--mode", mode, "--reason", "case 4711", "--waive-all")
        answer: dict[str, Any] = self.restore("request", *where, *arguments)
        return answer

    def approve(self, asked: dict[str, Any], by: str = APPROVES) -> subprocess.CompletedProcess[str]:
        hash = ("--request-sha256", asked["request_sha256"])
        return self.cloud.snapkeep(
            "restore", "approve", asked["restore"], "--tenant", asked["tenant"], *hash, SNAPKEEP_USER=by
        )


# --- the story ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A restore at its end, and the cloud then."""

    tenant: str
    restore: dict[str, Any]  # `restore status`
    before: Cloud  # when it was asked for
    after: Cloud

    @property
    def instance(self) -> str:
        """The instance that was restored, or restored into."""
        to = self.restore["target"]
        return f"projects/{to['project']}/zones/{to['zone']}/instances/{to['name']}"


@dataclass(frozen=True)
class Story:
    """What each part of it left."""

    points: dict[str, dict[str, Any]]  # tenant -> document
    lost: dict[str, Any]  # document of the instance that was deleted, once that was noticed
    test: dict[str, Any]  # document of the restore test
    tested: dict[str, Any]  # `fleet show` of its tenant
    restores: dict[str, Ended]  # in their order; "undone" is of the first
    approvals: list[subprocess.CompletedProcess[str]]  # of the restore in place: by who asked for it, then by another
    audit: list[dict[str, Any]]  # of OVERWRITTEN
    listing: str  # `restore plan --from-cloud`, when no document was left
    ran: subprocess.CompletedProcess[str]  # its script
    from_cloud: Cloud


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("restores")
    file = folder / "fleet.yaml"
    file.write_text(yaml.safe_dump({"tenants": [tenant(id) for id in INSTANCES]}))
    with up(folder, "--fleet", str(file), "--start", START.isoformat()) as cloud, google_clients(cloud) as google:
        yield tell(Teller(cloud, google), folder)


def tell(teller: Teller, folder: Path) -> Story:
    teller.write("old")
    teller.go_on_until(lambda: all(map(teller.is_stored, INSTANCES)), "every point is stored", minutes=6)
    points = {tenant: teller.point(tenant) for tenant in INSTANCES}
    teller.write("new")
    lost = harm(teller)
    (test,) = teller.restores(TESTED).values()
    restores, approvals = restored(teller)
    tested = teller.cloud.json("fleet", "show", TESTED)
    audit = bodies(teller.google, OVERWRITTEN)

    teller.remove(TESTED)
    # One of its disks is regional: without Snapkeep nothing makes that zonal but a person, who edits the script.
    assert requests.delete(f"{teller.cloud.addresses['sim']}/_sim/faults", timeout=COMMAND_TIMEOUT_S).ok
    forget(teller)
    listing, ran = carried_out(teller, points[TESTED]["id"], folder)
    return Story(points, lost, test, tested, restores, approvals, audit, listing, ran, teller.see())


def harm(teller: Teller) -> dict[str, Any]:
    """What can be lost is lost; the document of the instance that was deleted, once function `discover` has looked.

    It looks before the zone is lost: of a project that it cannot read as a whole it says nothing.
    """
    teller.remove(DELETED)

    def noticed() -> bool:
        (found,) = teller.google.documents("tenants", DELETED, "instances").values()
        lost.update(found)
        return found["lost_at"] is not None and is_tested(teller)

    lost: dict[str, Any] = {}
    teller.go_on_until(noticed, "the loss is noticed, and the restore test over", minutes=10)
    teller.change("set_zone", zone=LOST_ZONE, up=False)
    teller.cloud.ask("faults", {"effect": {"kind": "error_before"}, "resource": f"zones/{LOST_ZONE}"})
    for disk in teller.point(REGION_LOST)["disks"]:
        teller.google.snapshots.delete(project=f"{REGION_LOST}-vault", snapshot=disk["snapshot"]["name"])
    return lost


def is_tested(teller: Teller) -> bool:
    return [one["state"] for one in teller.restores(TESTED).values()] == ["completed"]


def restored(teller: Teller) -> tuple[dict[str, Ended], list[subprocess.CompletedProcess[str]]]:
    """Everything is restored side by side; then the restore in place is undone."""
    before = teller.see()
    in_place = teller.request(OVERWRITTEN, "in_place")
    asked = {
        "in place": in_place,
        "deleted": teller.request(DELETED, "new_instance", "--name", INSTANCES[DELETED][0]),
        "zone lost": teller.request(ZONE_LOST, "new_instance", "--name", INSTANCES[ZONE_LOST][0], "--region", HOME),
        "region lost": teller.request(
            REGION_LOST, "new_instance", "--name", INSTANCES[REGION_LOST][0], "--region", AWAY
        ),
    }
    approvals = [teller.approve(in_place, by=ASKS), teller.approve(in_place)]
    until_over(teller)
    restores = {name: end(teller, one, before) for name, one in asked.items()}

    before = teller.see()
    undo = teller.restore("undo", in_place["restore"], "--tenant", OVERWRITTEN, "--reason", "it was the wrong point")
    approvals.append(teller.approve(undo))
    until_over(teller)
    return restores | {"undone": end(teller, undo, before)}, approvals


def until_over(teller: Teller) -> None:
    def over() -> bool:
        states = {one["state"] for id in INSTANCES for one in teller.restores(id).values()}
        return states <= {"completed", "failed", "cancelled"}

    teller.go_on_until(over, "every restore has ended", minutes=6)


def end(teller: Teller, asked: dict[str, Any], before: Cloud) -> Ended:
    tenant = asked["tenant"]
    return Ended(tenant, teller.restore("status", asked["restore"], "--tenant", tenant), before, teller.see())


def bodies(google: Google, tenant: str) -> list[dict[str, Any]]:
    """What the audit chain says, in its order."""
    records = google.documents("tenants", tenant, "audit")
    return [json.loads(records[seq]["bytes"]) for seq in sorted(records)]


def forget(teller: Teller) -> None:
    """All documents go: of Snapkeep nothing is left but what Compute Engine holds."""
    of = teller.cloud.addresses
    url = f"http://{of['firestore']}/emulator/v1/projects/{of['project']}/databases/{of['database']}/documents"
    assert requests.delete(url, timeout=COMMAND_TIMEOUT_S).ok
    assert teller.google.documents("tenants") == {}


def carried_out(teller: Teller, point: str, folder: Path) -> tuple[str, subprocess.CompletedProcess[str]]:
    """The listing without a database, and how the script of one point ended."""
    compute = teller.cloud.addresses["compute"]

    def plan(*arguments: str) -> str:
        where = ("--from-cloud", "--project", f"{TESTED}-vault", *arguments)
        done = run("restore", "plan", *where, SNAPKEEP_COMPUTE_ENDPOINT=compute)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listing = plan()
    file = folder / "restore.sh"
    file.write_text(plan("--point", point, "--script"))
    with subprocess.Popen(  # noqa: S603 - our own script
        ["bash", str(file)],  # noqa: S607 - whichever bash is here: the script is written for all
        env=environment(
            CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE=f"{compute}/compute/v1/",
            CLOUDSDK_AUTH_DISABLE_CREDENTIALS="true",
            CLOUDSDK_CONFIG=str(folder / "gcloud"),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:

        def ended() -> bool:
            teller.pause()  # time passes while gcloud waits for what it asked for
            return process.poll() is not None

        until(ended, "the script ends", SCRIPT_TIMEOUT_S)
        assert process.stdout is not None
        return listing, subprocess.CompletedProcess(process.args, process.returncode, process.stdout.read())


# --- every restore ------------------------------------------------------------------------------------------------

MODES = {"in place": "in_place", "deleted": "new_instance", "zone lost": "new_instance", "region lost": "new_instance"}


def of_word(word: str, point: dict[str, Any]) -> dict[str, str]:
    """Device names of a point's disks, to what was once written to them."""
    return {disk["device_name"]: f"{word} {disk['device_name']}" for disk in point["disks"]}


@pytest.mark.parametrize("which", MODES)
def test_what_was_written_before_the_point_is_back_on_every_disk_under_its_device_name(
    story: Story, which: str
) -> None:
    one = story.restores[which]
    assert (one.restore["state"], one.restore["mode"]) == ("completed", MODES[which]), one.restore["failure"]
    old = of_word("old", story.points[one.tenant])
    assert len(old) == DISKS[one.tenant]
    assert one.after.contents(one.instance) == old
    assert one.after.instances(one.tenant)[one.instance]["status"] == "RUNNING"


@pytest.mark.parametrize("which", [*MODES, "undone"])
def test_it_is_completed_only_when_every_check_has_passed(story: Story, which: str) -> None:
    one = story.restores[which]
    checks = {check["name"]: check["state"] for check in one.restore["checks"]}
    probe = "passed" if one.tenant == OVERWRITTEN else "none"
    named = ("disks", "instance", "devices", "definition", "probe", "contents")
    # An undo makes nothing of a snapshot that contents could be compared with.
    contents = "none" if which == "undone" else "passed"
    expected = dict.fromkeys(named, "passed") | {"probe": probe, "contents": contents}
    assert checks == expected


# --- in place, and undone -----------------------------------------------------------------------------------------


def test_a_restore_in_place_is_not_approved_by_who_asked_for_it(story: Story) -> None:
    his_own, anothers, of_undo = story.approvals
    assert (his_own.returncode, his_own.stderr) == (1, "snapkeep: nobody approves his own request\n")
    assert (anothers.returncode, of_undo.returncode) == (0, 0)
    for name in ("in place", "undone"):
        restore = story.restores[name].restore
        assert (restore["requested_by"], restore["approved_by"]) == (ASKS, APPROVES)


def test_the_audit_says_who_asked_who_approved_and_how_it_ended(story: Story) -> None:
    for name in ("in place", "undone"):
        subject = f"restores/{story.restores[name].restore['id']}"
        mine = [(body["action"], body["actor"]) for body in story.audit if body["subject"] == subject]
        ends = [said for said in mine if said[0] != "restore.step"]
        assert ends == [
            ("restore.requested", ASKS),
            ("restore.approved", APPROVES),
            ("restore.started", "snapkeep"),
            ("restore.completed", "snapkeep"),
        ]


def test_it_is_still_the_same_instance(story: Story) -> None:
    before, after = (
        cloud.instances(OVERWRITTEN)[instance_link(OVERWRITTEN)]
        for cloud in (story.restores["in place"].before, story.restores["in place"].after)
    )
    assert after["id"] == before["id"]
    assert after["networkInterfaces"][0]["networkIP"] == before["networkInterfaces"][0]["networkIP"]


def test_the_disks_before_the_restore_are_kept_with_all_that_was_new_and_labelled(story: Story) -> None:
    one = story.restores["in place"]
    before = one.before.attached(one.instance)
    kept_until = datetime.fromisoformat(one.restore["finished_at"]) + timedelta(days=7)
    assert datetime.fromisoformat(one.restore["keep_until"]) == kept_until
    there = {disk["id"]: disk for disk in one.after.disks(OVERWRITTEN).values()}
    for device, was in before.items():
        disk = there[was["id"]]
        assert (disk["content"], disk.get("users", [])) == (f"new {device}", [])
        assert disk["labels"] == {
            "snapkeep-tenant": OVERWRITTEN,
            "snapkeep-restore": one.restore["id"],
            "snapkeep-role": "former",
            "snapkeep-kept-until": f"{kept_until:%Y-%m-%d}",
        }


def test_a_restore_in_place_undone_brings_back_the_very_disks_with_all_that_was_new(story: Story) -> None:
    first, undone = story.restores["in place"], story.restores["undone"]
    assert undone.restore["source"]["undoes"] == first.restore["id"]
    before, after = first.before.attached(first.instance), undone.after.attached(first.instance)
    assert {device: disk["id"] for device, disk in after.items()} == {
        device: one["id"] for device, one in before.items()
    }
    assert undone.after.contents(first.instance) == of_word("new", story.points[OVERWRITTEN])
    assert [disk.get("labels", {}) for disk in after.values()] == [disk.get("labels", {}) for disk in before.values()]
    assert {device: disk["attachment"]["autoDelete"] for device, disk in after.items()} == {
        device: disk["attachment"]["autoDelete"] for device, disk in before.items()
    }


def test_what_an_undo_takes_out_is_kept_in_turn(story: Story) -> None:
    undone = story.restores["undone"]
    taken_out = {disk["id"] for disk in undone.before.attached(undone.instance).values()}
    kept = [disk for disk in undone.after.disks(OVERWRITTEN).values() if disk["id"] in taken_out]
    assert {disk["labels"]["snapkeep-role"] for disk in kept} == {"former"}
    assert len(kept) == DISKS[OVERWRITTEN]


# --- what was lost ------------------------------------------------------------------------------------------------


def test_a_deleted_instance_is_made_again_under_its_name_where_it_was(story: Story) -> None:
    one = story.restores["deleted"]
    assert (story.lost["lost_reason"], one.before.instances(DELETED), one.before.disks(DELETED)) == ("gone", {}, {})
    assert list(one.after.instances(DELETED)) == [instance_link(DELETED)]
    assert one.after.instances(DELETED)[one.instance]["id"] != story.lost["id"]


def test_out_of_a_lost_zone_nothing_is_needed_that_is_in_it(story: Story) -> None:
    one = story.restores["zone lost"]
    for cloud in (one.before, one.after):
        (fault,) = cloud.state["faults"]
        assert (fault["resource"], cloud.state["zones_down"]) == (f"zones/{LOST_ZONE}", [LOST_ZONE])
    new = one.after.attached(one.instance)
    zone = one.restore["target"]["zone"]
    assert zone != LOST_ZONE
    assert all(f"/zones/{zone}/disks/" in f"/{link(disk)}" for disk in new.values()), "a regional disk needs two zones"
    assert one.after.contents(instance_link(ZONE_LOST)) == of_word("new", story.points[ZONE_LOST]), "the source stays"


def test_in_another_region_it_is_made_of_the_copy_alone(story: Story) -> None:
    one = story.restores["region lost"]
    snapshots = [snapshot for snapshot in one.before.state["snapshots"] if f"/{REGION_LOST}-vault/" in link(snapshot)]
    ready = {tuple(one["storageLocations"]) for one in snapshots if one["status"] == "READY"}
    assert ready == {(AWAY,)}
    assert one.restore["source"]["copy"]
    (nic,) = one.after.instances(REGION_LOST)[one.instance]["networkInterfaces"]
    assert nic["subnetwork"].endswith(f"regions/{AWAY}/subnetworks/recovery")
    assert {disk["sourceSnapshotId"] for disk in one.after.attached(one.instance).values()} == {
        disk["snapshot"]["id"] for disk in story.points[REGION_LOST]["copies"][AWAY]["disks"]
    }


def test_without_any_document_a_point_is_found_and_the_script_brings_it_back(story: Story) -> None:
    point = story.points[TESTED]
    assert point["id"] in story.listing
    assert story.ran.returncode == 0, story.ran.stdout
    assert story.from_cloud.contents(instance_link(TESTED)) == of_word("old", point)
    assert story.from_cloud.instances(TESTED)[instance_link(TESTED)]["status"] == "RUNNING"


# --- tests of restores --------------------------------------------------------------------------------------------


def test_a_restore_test_ran_by_its_tick_and_passed(story: Story) -> None:
    test = story.test
    assert (test["purpose"], test["state"], test["requested_at"].minute) == ("test", "completed", 23)
    checks = {check["name"]: check["state"] for check in test["checks"]}
    assert (checks["disks"], checks["instance"], checks["contents"]) == ("passed", "passed", "passed")
    of_tenant = story.tested["tenant"]["restore_tested"]
    assert (of_tenant["restore"], of_tenant["point"], of_tenant["passed"]) == (
        test["id"],
        story.points[TESTED]["id"],
        True,
    )


def test_a_restore_test_leaves_nothing(story: Story) -> None:
    before = story.restores["in place"].before
    assert list(before.instances(TESTED)) == [instance_link(TESTED)]
    assert before.disks(TESTED).keys() == {link(disk) for disk in before.attached(instance_link(TESTED)).values()}
    made = [entry["method"] for entry in before.state["log"] if f"projects/{TESTED}-prod/" in entry["link"]]
    assert (made.count("instances.insert"), made.count("instances.delete")) == (1, 1)
    assert made.count("disks.insert") + made.count("regionDisks.insert") == DISKS[TESTED]
