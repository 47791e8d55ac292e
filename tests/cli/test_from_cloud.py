"""`snapkeep restore plan --from-cloud`: points, plans and scripts from what Compute Engine alone holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.cli.typing_in import NOT_OURS
from tests.contract.clouds import served
from tests.creation.scene import Scene
from tests.makers import PROJECT, REGION, ZONE
from tests.restore.test_manifest import SECOND, a_point, snapshots

from snapkeep import cloud
from snapkeep.cli import root
from snapkeep.gcp.compute import GoogleCompute
from snapkeep.restore import bare, catalogue, script
from snapkeep_local.rest import Simulator

DEFINITION: dict[str, Any] = {
    "machineType": f"projects/{PROJECT}/zones/{ZONE}/machineTypes/n2-standard-4",
    "minCpuPlatform": "Intel Ice Lake",
    "hostname": "pam.acme.example",
    "canIpForward": True,
    "deletionProtection": True,
    "networkInterfaces": [
        {
            "network": f"projects/{PROJECT}/global/networks/main",
            "subnetwork": f"projects/{PROJECT}/regions/{REGION}/subnetworks/main",
            "networkIP": "10.1.0.5",
            "nicType": "GVNIC",
            "stackType": "IPV4_ONLY",
            "accessConfigs": [
                {"type": "ONE_TO_ONE_NAT", "name": "External NAT", "natIP": "1.2.3.4", "networkTier": "PREMIUM"}
            ],
        }
    ],
    "tags": {"items": ["pam", "web"], "fingerprint": "abc="},
    "labels": {"tier": "gold"},
    "serviceAccounts": [{"email": "pam@acme.example", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}],
    "scheduling": {
        "onHostMaintenance": "MIGRATE", "automaticRestart": True, "preemptible": False, "graceful": {"on": 1},
    },
    "shieldedInstanceConfig": {"enableSecureBoot": False, "enableVtpm": True, "enableIntegrityMonitoring": True},
    "advancedMachineFeatures": {"threadsPerCore": 1, "enableNestedVirtualization": True},
    "displayDevice": {"enableDisplay": True},
    "reservationAffinity": {"consumeReservationType": "NO_RESERVATION"},
    "description": "Acme's PAM, the first",
    "metadata": {"enable-oslogin": "TRUE"},
    "left_out": ["disk scratch (local SSD)", "metadata startup-script"],
}  # fmt: skip


@dataclass
class Site:
    """A cloud with one verified point, and nothing else of Snapkeep."""

    scene: Scene
    simulator: Simulator
    endpoint: str
    point: str

    def run(self, *arguments: str, as_json: bool = False) -> Result:
        runner = CliRunner(env=dict.fromkeys(NOT_OURS) | {"SNAPKEEP_COMPUTE_ENDPOINT": self.endpoint})
        return runner.invoke(root, [*(["--json"] if as_json else []), "restore", "plan", "--from-cloud", *arguments])

    def said(self, *arguments: str) -> str:
        result = self.run("--project", PROJECT, *arguments)
        assert result.exit_code == 0, result.output + result.stderr
        return result.stdout

    def read(self, *arguments: str) -> Any:
        result = self.run("--project", PROJECT, *arguments, as_json=True)
        assert result.exit_code == 0, result.output + result.stderr
        return json.loads(result.stdout)

    def refused(self, *arguments: str) -> str:
        result = self.run("--project", PROJECT, *arguments)
        assert result.exit_code == 1, result.output
        (line,) = result.stderr.splitlines()
        return line.removeprefix("snapkeep: ")


@contextmanager
def a_site() -> Iterator[Site]:
    scene = Scene()
    scene.ask()
    point = scene.finish()
    assert point.state == "verified"
    simulator = Simulator(scene.cloud)
    with served(simulator) as endpoint:
        yield Site(scene, simulator, endpoint, point.id)


@pytest.fixture
def site() -> Iterator[Site]:
    with a_site() as one:
        yield one


# --- the points ----------------------------------------------------------------------------------------------------


def test_a_point_is_listed_without_any_database(site: Site) -> None:
    said = site.said()
    (row,) = [line.split() for line in said.splitlines() if site.point in line]
    assert row[2:9] == ["acme", "acme-pam-1", site.point, REGION, "home", "2", "yes"]
    assert f"1 point in 1 set, as the snapshots of {PROJECT} say" in said


def test_the_listing_as_data_has_the_manifest_and_the_snapshots(site: Site) -> None:
    (one,) = site.read()["sets"]
    stored = site.scene.the_point()
    assert one["complete"]
    assert one["manifest"]["definition"] == stored.definition
    assert {disk["snapshot_id"] for disk in one["disks"]} == {disk.snapshot.id for disk in stored.disks}
    assert {disk["id"] for disk in one["disks"]} == {disk.id for disk in stored.disks}


def test_a_point_that_lost_a_snapshot_is_not_complete_and_says_which_disk(site: Site) -> None:
    gone = site.scene.the_point().disks[1]
    assert gone.snapshot.id
    deletion = cloud.DeleteSnapshot(PROJECT, gone.snapshot.name, gone.snapshot.id, attempt=1)
    site.scene.watched.start(deletion, cloud.request_id(deletion))
    site.scene.let_pass(timedelta(minutes=5))
    assert f"{gone.device_name}: no snapshot of it is there" in site.said()
    assert "is not complete" in site.refused("--point", site.point)


def test_another_tenants_points_are_not_listed(site: Site) -> None:
    assert "0 points in 0 sets" in site.said("--tenant", "globex")


def test_a_point_that_is_not_there_is_told(site: Site) -> None:
    assert site.refused("--point", "nope") == (
        f"{PROJECT} has no snapshot of a point 'nope'; without --point all are listed"
    )
    assert "in us-east1;" in site.refused("--point", site.point, "--region", "us-east1")


def test_what_compute_engine_refuses_is_told_in_one_line(site: Site) -> None:
    fault = {"effect": {"kind": "error_before", "status": 403, "reason": "forbidden", "message": "no\nright"}}
    reply = site.simulator.app.test_client().post("/_sim/faults", json=fault)
    assert reply.status_code < 300, reply.text
    assert site.refused() == f"Compute Engine does not list the snapshots of {PROJECT} to you: no right"


# --- the plan ------------------------------------------------------------------------------------------------------


def test_the_changes_of_a_plan_bring_the_instance_back(site: Site) -> None:
    plan = site.read("--point", site.point, "--name", "pam-2")
    assert [one["change"] for one in plan["changes"]] == ["InsertDisk", "InsertDisk", "InsertInstance"]
    compute = GoogleCompute(site.endpoint)
    for one in plan["changes"]:
        change = as_change(one)
        compute.start(change, cloud.request_id(change))
        site.scene.let_pass(timedelta(minutes=10))
    made = compute.get(cloud.Instance, f"projects/{PROJECT}/zones/{ZONE}/instances/pam-2")
    was = compute.get(cloud.Instance, f"projects/{PROJECT}/zones/{ZONE}/instances/acme-pam-1")
    assert made is not None
    assert was is not None
    assert made.status == "RUNNING"
    assert [(d.device_name, d.boot, d.mode, d.auto_delete) for d in made.disks] == [
        (d.device_name, d.boot, d.mode, d.auto_delete) for d in was.disks
    ]
    assert made.definition["machineType"].rsplit("/", 1)[-1] == was.definition["machineType"].rsplit("/", 1)[-1]
    assert [site.scene.cloud.content(d.source) for d in made.disks] == site.scene.held()


def as_change(data: dict[str, Any]) -> cloud.InsertDisk | cloud.InsertInstance:
    kinds = {"InsertDisk": cloud.InsertDisk, "InsertInstance": cloud.InsertInstance}
    return msgspec.convert({name: value for name, value in data.items() if name != "change"}, kinds[data["change"]])


def test_the_disks_alone_may_be_planned_in_another_zone(site: Site) -> None:
    plan = site.read("--point", site.point, "--mode", "disks", "--zone", f"{REGION}-c")
    assert [(one["change"], one["scope"]) for one in plan["changes"]] == [("InsertDisk", f"zones/{REGION}-c")] * 2
    said = site.said("--point", site.point, "--mode", "disks", "--zone", f"{REGION}-c")
    assert "Firestore holds that" in said
    assert "nothing is changed by this one" in said


def test_a_zone_of_another_region_is_refused(site: Site) -> None:
    assert f"--zone: us-east1-b is not in {REGION}" in site.refused("--point", site.point, "--zone", "us-east1-b")


def test_a_name_that_no_resource_can_have_is_refused(site: Site) -> None:
    assert "--name: 'Pam 2' is no name" in site.refused("--point", site.point, "--name", "Pam 2")


def found(listed: list[cloud.Snapshot]) -> catalogue.Found:
    (one,) = catalogue.read(listed).sets
    return one


def test_a_copy_is_restored_in_a_zone_of_its_own_region_with_what_is_only_at_home_told() -> None:
    definition = {**DEFINITION, "resourcePolicies": [f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/nightly"]}
    copy = found(snapshots(a_point(2, definition), SECOND))
    with pytest.raises(bare.CannotPlan, match="--zone: missing; expected a zone of us-east1"):
        bare.plan(copy, PROJECT, "new_instance", None, None)
    plan = bare.plan(copy, PROJECT, "new_instance", "us-east1-b", None)
    assert {disk.scope for disk in plan.disks} == {"zones/us-east1-b"}
    assert plan.instance is not None
    (nic,) = plan.instance.definition["networkInterfaces"]
    assert nic["network"] == f"projects/{PROJECT}/global/networks/main"
    assert "subnetwork" not in nic
    assert any("its subnetwork is not in us-east1" in line for line in plan.lines)
    assert "does not go with it to us-east1-b: resourcePolicies" in plan.lines


def test_without_a_manifest_the_disks_alone_can_be_planned() -> None:
    bare_set = found([changed(one, description="") for one in snapshots(a_point())])
    with pytest.raises(bare.CannotPlan, match="--mode disks makes its disks"):
        bare.plan(bare_set, PROJECT, "new_instance", ZONE, None)
    plan = bare.plan(bare_set, PROJECT, "disks", ZONE, None)
    assert [(disk.size_gb, disk.type) for disk in plan.disks] == [(100, "pd-balanced")] * 2
    assert any("what it was is not known" in line for line in plan.lines)


@pytest.mark.parametrize(
    "definition",
    [
        {"networkInterfaces": "x"},
        {"networkInterfaces": [{"accessConfigs": 7, "aliasIpRanges": "x"}]},
        {"metadata": []},
        {"tags": {"items": 7}},
        {"machineType": 7},
        {"guestAccelerators": [{"acceleratorType": 7}]},
    ],
)
def test_a_forged_definition_makes_no_plan_and_no_traceback(definition: dict[str, Any]) -> None:
    forged = found(snapshots(a_point(1, {"left_out": [], **definition})))
    with pytest.raises(bare.CannotPlan, match="--mode disks"):
        bare.plan(forged, PROJECT, "new_instance", None, None)
    assert bare.plan(forged, PROJECT, "disks", None, None).disks


# --- the script ----------------------------------------------------------------------------------------------------

STAND_IN = """#!/usr/bin/env python3
import json, os, sys
asked = sys.argv[1:]
with open(os.environ["ASKED"], "a") as log:
    log.write(json.dumps(asked) + "\\n")
answers = json.loads(os.environ["ANSWERS"])
if asked[2] == "describe":
    if asked[3] not in answers:
        sys.exit(1)
    print(answers[asked[3]])
"""


@dataclass
class Played:
    status: int
    errors: str
    asked: list[list[str]]

    @property
    def created(self) -> list[list[str]]:
        return [one for one in self.asked if one[2] == "create"]


def play(text: str, folder: Path, answers: dict[str, str]) -> Played:
    """Run a script with a gcloud that writes down what it is asked, and knows what `answers` has."""
    (folder / "gcloud").write_text(STAND_IN, encoding="utf-8")
    (folder / "gcloud").chmod(0o755)
    (folder / "asked").unlink(missing_ok=True)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "ASKED": str(folder / "asked"),
        "ANSWERS": json.dumps(answers),
    }
    bash = shutil.which("bash")
    assert bash, "no bash on this machine: the script is one for it"
    done = subprocess.run(  # noqa: S603 - what is tested is that it carries out nothing foreign
        [bash], input=text, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    lines = (folder / "asked").read_text(encoding="utf-8").splitlines()
    return Played(done.returncode, done.stderr, [json.loads(line) for line in lines])


def scripted(plan: bare.BarePlan) -> str:
    return script.shell(["a test", *plan.lacking], plan.disks, plan.snapshot_ids, plan.instance)


def answers_to(plan: bare.BarePlan) -> dict[str, str]:
    """What gcloud says of the snapshots, and of the disks once they are made."""
    known = {link.rsplit("/", 1)[-1]: f"{id} READY" for link, id in plan.snapshot_ids.items()}
    return known | {disk.name: plan.snapshot_ids[disk.source_snapshot] for disk in plan.disks}


def test_the_script_says_everything_of_the_definition_or_names_it(tmp_path: Path) -> None:
    plan = bare.plan(found(snapshots(a_point(2, DEFINITION))), PROJECT, "new_instance", None, "pam-2")
    text = scripted(plan)
    played = play(text, tmp_path, answers_to(plan))
    assert played.status == 0, played.errors
    (made,) = played.created  # the disks are there already
    assert made[:4] == ["compute", "instances", "create", "pam-2"]
    nic = (
        f"network=projects/{PROJECT}/global/networks/main,subnet=projects/{PROJECT}/regions/{REGION}/subnetworks/main,"
        "nic-type=GVNIC,stack-type=IPV4_ONLY,network-tier=PREMIUM,address="
    )
    assert made[4:] == [
        f"--project={PROJECT}",
        f"--zone={ZONE}",
        "--machine-type=n2-standard-4",
        "--min-cpu-platform=Intel Ice Lake",
        "--hostname=pam.acme.example",
        "--can-ip-forward",
        f"--network-interface={nic}",
        "--tags=pam,web",
        "--service-account=pam@acme.example",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
        "--maintenance-policy=MIGRATE",
        "--restart-on-failure",
        "--no-shielded-secure-boot",
        "--shielded-vtpm",
        "--shielded-integrity-monitoring",
        "--enable-nested-virtualization",
        "--threads-per-core=1",
        "--enable-display-device",
        "--reservation-affinity=none",
        f"--labels=snapkeep-restore={plan.restore},snapkeep-role=restored,snapkeep-tenant=acme,tier=gold",
        "--metadata=enable-oslogin=TRUE",
        "--description=Acme's PAM, the first",
        f"--disk=name={plan.disks[0].name},device-name=disk-0,boot=yes,auto-delete=yes,mode=rw,interface=SCSI",
        f"--disk=name={plan.disks[1].name},device-name=disk-1,boot=no,auto-delete=yes,mode=rw,interface=SCSI",
    ]
    assert '# no option of gcloud for: scheduling.graceful = {"on":1}' in text.splitlines()
    assert "# metadata startup-script" in text.splitlines()
    assert any("not protected from deletion" in line for line in plan.lines)


@pytest.mark.parametrize(
    ("scheduling", "options"),
    [
        ({"preemptible": True}, ["--preemptible"]),
        (
            {"preemptible": True, "provisioningModel": "SPOT", "instanceTerminationAction": "STOP"},
            ["--provisioning-model=SPOT", "--instance-termination-action=STOP"],
        ),
        ({"automaticRestart": False}, ["--no-restart-on-failure"]),
    ],
)
def test_how_an_instance_is_scheduled_is_said_once(scheduling: dict[str, Any], options: list[str]) -> None:
    definition = {"machineType": "e2-medium", "scheduling": scheduling, "left_out": []}
    plan = bare.plan(found(snapshots(a_point(1, definition))), PROJECT, "new_instance", None, None)
    lines = [line.strip(" \\") for line in scripted(plan).splitlines()]
    at = lines.index("--no-scopes") + 1
    assert lines[at : at + len(options)] == options
    assert not any("preemptible" in line for line in lines if line not in options)


def test_the_script_makes_what_is_not_there_and_leaves_what_is(tmp_path: Path) -> None:
    plan = bare.plan(found(snapshots(a_point(2, DEFINITION))), PROJECT, "disks", None, None)
    answers = answers_to(plan)
    missing = plan.disks[1]
    del answers[missing.name]
    played = play(scripted(plan), tmp_path, answers)
    (made,) = played.created
    assert made[3:5] == [missing.name, f"--project={PROJECT}"]
    assert f"--source-snapshot={missing.source_snapshot}" in made
    # The stand-in makes nothing, so that what was made is not seen to be right.
    assert played.status == 1


def test_the_script_stops_before_it_makes_anything_of_another_snapshot(tmp_path: Path) -> None:
    plan = bare.plan(found(snapshots(a_point(1, DEFINITION))), PROJECT, "new_instance", None, None)
    (link,) = plan.snapshot_ids
    played = play(scripted(plan), tmp_path, {link.rsplit("/", 1)[-1]: "666 READY"})
    assert (played.status, played.created) == (1, [])
    assert "is '666 READY', not '9000 READY'" in played.errors


def test_the_script_stops_at_a_disk_of_that_name_that_is_made_of_something_else(tmp_path: Path) -> None:
    plan = bare.plan(found(snapshots(a_point(1, DEFINITION))), PROJECT, "new_instance", None, None)
    played = play(scripted(plan), tmp_path, {**answers_to(plan), plan.disks[0].name: "666"})
    assert (played.status, played.created) == (1, [])
    assert "is made of snapshot '666', not of 9000" in played.errors


NASTY = "'; touch pwned; $(touch pwned) `touch pwned`\n touch pwned\r\ntouch pwned \u2028 touch pwned"


def test_nothing_of_a_forged_manifest_is_carried_out(tmp_path: Path) -> None:
    definition = {
        "machineType": NASTY,
        "hostname": NASTY,
        "labels": {NASTY: NASTY, "with,comma|": "a,b"},
        "metadata": {"enable-oslogin": NASTY},
        "tags": {"items": [NASTY]},
        "scheduling": {NASTY: NASTY},
        NASTY: [NASTY],
        "networkInterfaces": [{"network": NASTY, NASTY: 1}],
        "serviceAccounts": [{"email": NASTY, "scopes": [NASTY]}],
        "description": NASTY,
        "left_out": [NASTY],
    }
    plan = bare.plan(found(snapshots(a_point(1, definition))), PROJECT, "new_instance", None, None)
    played = play(scripted(plan), tmp_path, answers_to(plan))
    assert played.status == 0, played.errors
    assert [one[:3] for one in played.created] == [["compute", "instances", "create"]]
    assert not (tmp_path / "pwned").exists()
    assert f"--hostname={NASTY}" in played.created[0]


def test_a_list_whose_values_have_commas_is_divided_by_something_else(tmp_path: Path) -> None:
    definition = {**DEFINITION, "metadata": {"a": "1,2", "b": "x|y"}}
    plan = bare.plan(found(snapshots(a_point(1, definition))), PROJECT, "new_instance", None, None)
    (made,) = play(scripted(plan), tmp_path, answers_to(plan)).created
    assert "--metadata=^~^a=1,2~b=x|y" in made


def test_the_script_of_the_command_has_the_head_that_a_person_reads(site: Site) -> None:
    lines = site.said("--point", site.point, "--script").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith(f"# Snapkeep: recovery point {site.point} of acme, taken 2026-11-01 00:00Z")
    assert any(re.fullmatch(r"# lacking: address nic0 [0-9.]+; to keep it, .*", line) for line in lines)
    assert "set -euo pipefail" in lines


def test_a_script_is_of_one_point(site: Site) -> None:
    refused = site.run("--project", PROJECT, "--script")
    assert refused.exit_code == 2
    assert "--script needs --point" in refused.stderr


def test_a_plan_fits_into_80_columns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # as a terminal of that width has it
    table = site.said("--point", site.point).partition("OF SNAPSHOT")[2].partition("(left out")[0]
    assert table
    assert max(len(line) for line in table.splitlines()) <= 80
