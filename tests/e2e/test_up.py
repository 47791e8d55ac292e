"""`snapkeep up` comes up, keeps its functions alive, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tests.e2e.conftest import (
    ADVANCE_TIMEOUT_S,
    COMMAND_TIMEOUT_S,
    SNAPKEEP,
    STOP_TIMEOUT_S,
    Up,
    alive,
    at_work_in,
    children,
    command_of,
    descendants,
    environment,
    launch,
    run,
    stop,
    until,
    up,
)

from snapkeep.cloud import Instance, Zone
from snapkeep.documents import Probe
from snapkeep.gcp.compute import GoogleCompute
from snapkeep.guests import LocalGuests
from snapkeep.ports import Transient

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up"), "--start", "2026-11-22T00:00:00Z") as running:
        yield running


def test_every_function_has_a_process_that_handled_its_first_messages(cloud: Up) -> None:
    status = cloud.json("sim", "status")
    assert set(status["functions"]) == set(cloud.addresses["functions"])
    assert all(of["pid"] for of in status["functions"].values())
    assert status["functions"]["discover"]["delivered"] >= 1, cloud.said()
    assert [of["failed"] for of in status["functions"].values()] == [0] * len(status["functions"]), cloud.said()


def test_time_stands_still_until_it_is_told_to_pass(cloud: Up) -> None:
    assert cloud.json("sim", "status")["clock"]["now"] == "2026-11-22T00:00:00+00:00"
    done = cloud.snapkeep("sim", "advance", "90s")
    assert (done.returncode, done.stdout) == (0, "it is 2026-11-22T00:01:30+00:00\n")


def test_faults_are_added_listed_and_cleared(cloud: Up) -> None:
    added = cloud.json("sim", "fault", "add", "slow", "--method", "snapshots.insert", "--set", "factor=20")
    (fault,) = cloud.json("sim", "fault", "list")
    assert fault["id"] == added["id"]
    assert fault["effect"] == {"kind": "slow", "factor": 20.0}
    assert "factor=20.0" in cloud.snapkeep("sim", "fault", "list").stdout
    wrong = cloud.snapkeep("sim", "fault", "add", "slow", "--set", "speed=1")
    assert (wrong.returncode, wrong.stdout, len(wrong.stderr.splitlines())) == (1, "", 1)
    assert cloud.snapkeep("sim", "fault", "clear", str(added["id"])).returncode == 0
    assert cloud.snapkeep("sim", "fault", "clear", str(added["id"])).returncode == 1
    assert cloud.json("sim", "fault", "list") == []


def test_the_fleet_is_listed_and_changed(cloud: Up) -> None:
    disk = cloud.json("sim", "fleet", "list", "--project", "brightwater-prod")[0]
    assert disk["instances"] == ["projects/brightwater-prod/zones/southamerica-east1-c/instances/brightwater-app-1"]
    done = cloud.snapkeep("sim", "fleet", "change", "resize_disk", f"disk={disk['disk']}", "size_gb=900")
    assert (done.returncode, done.stdout) == (0, f"{disk['disk']}\n")
    assert cloud.json("sim", "fleet", "list", "--project", "brightwater-prod")[0]["size_gb"] == 900
    wrong = cloud.snapkeep("sim", "fleet", "change", "resize_disk", "disk=projects/p/zones/z/disks/none", "size_gb=9")
    assert (wrong.returncode, wrong.stdout, len(wrong.stderr.splitlines())) == (1, "", 1)


def test_one_line_takes_a_whole_zone_away_and_one_lets_it_say_so(cloud: Up) -> None:
    zone, project = "southamerica-east1-c", "brightwater-prod"
    compute = GoogleCompute(cloud.addresses["compute"])
    added = cloud.json("sim", "fault", "add", "error_before", "--resource", f"zones/{zone}")
    with pytest.raises(Transient, match=f"no answer from zones/{zone}"):
        list(compute.find(Instance, project))
    cloud.json("sim", "fault", "clear", str(added["id"]))
    assert [one.zone for one in compute.find(Instance, project)] == [zone]
    link = f"projects/{project}/zones/{zone}"
    for up_or_down, says in (("false", False), ("true", True)):
        assert cloud.snapkeep("sim", "fleet", "change", "set_zone", f"zone={zone}", f"up={up_or_down}").returncode == 0
        found = compute.get(Zone, link)
        assert found is not None
        assert found.up is says


def test_functions_ask_the_local_cloud_whether_an_application_answers(cloud: Up) -> None:
    status = cloud.json("sim", "status")
    given = Path(f"/proc/{status['functions']['create']['pid']}/environ").read_text().split("\0")
    (url,) = [line.partition("=")[2] for line in given if line.startswith("SNAPKEEP_GUESTS=")]
    (one,) = GoogleCompute(cloud.addresses["compute"]).find(Instance, "brightwater-prod")
    address = one.definition["networkInterfaces"][0]["networkIP"]
    guests, probe = LocalGuests(url), Probe(kind="tcp", port=443)
    assert guests.reach(address, probe) is None
    cloud.snapkeep("sim", "fleet", "change", "set_guest_answers", f"instance={one.link}", "answers=false")
    assert "does not answer" in str(guests.reach(address, probe))
    cloud.snapkeep("sim", "fleet", "change", "set_guest_answers", f"instance={one.link}", "answers=true")
    disk = cloud.json("sim", "fleet", "list", "--project", "brightwater-prod")[0]
    assert guests.contents(disk["disk"]) == disk["content"]


def fetched(url: str) -> str:
    answer = requests.get(url, headers={"X-Snapkeep-Local-User": "admin@vendor.example"}, timeout=COMMAND_TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    return str(answer.content, "utf-8")


def test_the_page_and_the_api_are_at_the_printed_addresses(cloud: Up) -> None:
    tenants = {tenant["id"] for tenant in cloud.json("fleet", "list")}
    assert len(tenants) >= 10
    fleet = json.loads(fetched(f"{cloud.addresses['api']}/fleet"))
    assert {tenant["id"] for tenant in fleet["tenants"]} == tenants
    assert fleet["totals"]["tenants"] == len(tenants)
    page = fetched(cloud.addresses["dashboard"])
    assert all(tenant in page for tenant in tenants)


def test_a_function_is_woken_by_hand(cloud: Up) -> None:
    before = cloud.json("sim", "status")["functions"]["plan"]["delivered"]
    assert cloud.json("tick", "plan") == {"function": "plan", "topic": "snapkeep-plan"}
    until(lambda: cloud.json("sim", "status")["functions"]["plan"]["delivered"] == before + 1, "its tick is delivered")


def test_a_point_is_asked_for_and_listed(cloud: Up) -> None:
    arguments = ("--tenant", "brightwater", "--instance", "brightwater-app-1", "--reason", "before import")
    for _ in range(2):
        asked = cloud.json("points", "create", *arguments, "--id", "import-1")
        assert asked["id"] == "import-1"
    until(lambda: cloud.json("points", "list", "--state", "creating"), "the point is started")
    (point,) = cloud.json("points", "list", "--tenant", "brightwater")
    assert (point["trigger"], point["reason"]) == ("on_demand", "before import")
    shown = cloud.snapkeep("points", "show", point["id"])
    assert all(disk["snapshot"]["name"] in shown.stdout for disk in point["disks"])
    assert point["disks"]


def test_the_smoke_test_of_a_deployment_passes_here_too(cloud: Up) -> None:
    """infra/deploy/smoke.sh, as make smoke runs it: doctor, and a point that is waited for. Time passes meanwhile."""
    with (cloud.folder / "smoke").open("w+") as told:
        smoke = subprocess.Popen(  # noqa: S603 - our own script
            [ROOT / "infra" / "deploy" / "smoke.sh"],
            env=environment(
                SNAPKEEP_API=cloud.addresses["sim"],
                SNAPKEEP=str(Path(sys.executable).parent / "snapkeep"),
                PYTHONPATH=os.pathsep.join(str(ROOT / part) for part in ("functions", "infra/local")),
                CANARY_TENANT="acme",
                CANARY_INSTANCE="acme-pam-1",
                CANARY_WAIT="2m",
            ),
            stdout=told,
            stderr=told,
        )
        try:
            until(
                lambda: smoke.poll() is not None or bool(cloud.json("points", "list", "--tenant", "acme")),
                "the smoke test asks for a point",
            )
            while smoke.poll() is None:
                assert cloud.snapkeep("sim", "advance", "5m", timeout_s=ADVANCE_TIMEOUT_S).returncode == 0, cloud.said()
        finally:
            smoke.kill()
            smoke.wait()
        told.seek(0)
        said = told.read()
    assert smoke.returncode == 0, said + cloud.said()
    (point,) = (one for one in cloud.json("points", "list", "--tenant", "acme") if one["trigger"] == "on_demand")
    assert (point["state"], point["reason"]) == ("verified", "smoke test")
    assert said.endswith(f"{point['id']} is verified\n")


def test_a_hold_is_set_shown_and_released_by_whoever_may(cloud: Up) -> None:
    held = cloud.json("hold", "add", "--tenant", "brightwater", "--reason", "case 4711")
    assert held["hold"]["by"] == "admin@vendor.example"
    assert [line["hold"]["id"] for line in cloud.json("hold", "list")["holds"]] == [held["hold"]["id"]]
    assert "held: all of it until it is released: case 4711" in cloud.snapkeep("fleet", "show", "brightwater").stdout
    release = ("hold", "release", held["hold"]["id"], "--tenant", "brightwater", "--reason", "closed")
    refused = cloud.snapkeep(*release, SNAPKEEP_USER="operator@vendor.example")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "it needs admin" in refused.stderr
    assert cloud.snapkeep(*release).returncode == 0
    assert cloud.json("hold", "list")["holds"] == []


def test_each_of_the_invented_people_is_known(cloud: Up) -> None:
    for email in ("viewer", "operator", "admin", "auditor"):
        shown = cloud.snapkeep("access", "show", SNAPKEEP_USER=f"{email}@vendor.example")
        assert shown.stdout.startswith(f"{email}@vendor.example, {email} (not verified")
    client = cloud.snapkeep("--json", "fleet", "list", SNAPKEEP_USER="client@estrelinha.example")
    assert [tenant["id"] for tenant in json.loads(client.stdout)] == ["estrelinha"]
    nobody = cloud.snapkeep("fleet", "list", SNAPKEEP_USER="nobody@vendor.example")
    assert (nobody.returncode, len(nobody.stderr.splitlines())) == (1, 1)


def test_whoever_opens_the_dashboard_is_asked_who_he_is(cloud: Up) -> None:
    answer = requests.get(cloud.addresses["dashboard"], timeout=COMMAND_TIMEOUT_S)
    page = str(answer.content, "utf-8")
    assert answer.status_code == 401
    assert "admin@vendor.example" in page
    assert "Identities are not verified here" in page


def test_a_file_that_was_applied_changes_nothing_the_second_time(cloud: Up) -> None:
    example = Path(__file__).parents[2] / "examples" / "fleet.yaml"
    done = cloud.snapkeep("fleet", "apply", str(example))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 tenants changed, 12 unchanged")


@pytest.mark.parametrize("duration", ["26", "h", "1w", "-5m", "0h", "1.5h", ""])
def test_what_is_no_duration_is_wrong_usage(duration: str) -> None:
    done = run("sim", "advance", "--", duration)
    assert done.returncode == 2
    assert "DURATION" in done.stderr


def test_a_function_that_dies_is_started_again(cloud: Up) -> None:
    before = cloud.json("sim", "status")["functions"]["health"]["pid"]
    os.killpg(before, signal.SIGKILL)
    until(lambda: cloud.json("sim", "status")["functions"]["health"]["pid"] not in (None, before), "a new process")
    until(lambda: cloud.snapkeep("sim", "advance", "5m").returncode == 0, "time goes on")
    status = cloud.json("sim", "status")["functions"]["health"]
    assert status["restarts"] >= 1
    assert "function health ended" in cloud.said()


def test_the_nursery_that_dies_takes_nothing_with_it_for_long(cloud: Up) -> None:
    (nursery,) = (pid for pid in children(cloud.process.pid) if b"snapkeep_local.nursery" in command_of(pid))
    before = {name: of["pid"] for name, of in cloud.json("sim", "status")["functions"].items()}
    os.kill(nursery, signal.SIGKILL)

    def all_are_new() -> bool:
        now = {name: of["pid"] for name, of in cloud.json("sim", "status")["functions"].items()}
        return all(now[name] not in (None, pid) for name, pid in before.items())

    until(all_are_new, "every function starts again")
    until(lambda: cloud.snapkeep("sim", "advance", "5m").returncode == 0, "time goes on")


def test_a_port_that_is_taken_is_said_in_one_line(cloud: Up, tmp_path: Path) -> None:
    port = cloud.addresses["sim"].rsplit(":", 1)[1]
    done = subprocess.run(  # noqa: S603 - our own command
        [*SNAPKEEP, "up", "--port", port],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=STOP_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (f"snapkeep: port {port} is in use: end what listens there, or take another with --port\n")
    assert cloud.snapkeep("sim", "status").returncode == 0


def test_sigterm_leaves_no_process_behind(tmp_path: Path, emulators_installed: None) -> None:
    with up(tmp_path) as running:
        started = running.descendants()
        assert len(started) >= len(running.addresses["functions"])
        assert stop(running.process) == 0
        assert alive(started) == []
        assert at_work_in(tmp_path) == []


def test_sigkill_leaves_no_process_behind(tmp_path: Path, emulators_installed: None) -> None:
    with up(tmp_path) as running:
        started = running.descendants()
        running.process.kill()
        until(lambda: not alive(started), "what it started ends")


def test_two_do_not_run_in_one_folder(cloud: Up) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [*SNAPKEEP, "up", "--port", "0"],
        env=environment(),
        cwd=cloud.folder,
        capture_output=True,
        text=True,
        timeout=STOP_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("snapkeep: another `snapkeep up` runs in ")
    assert len(done.stderr.splitlines()) == 1
    assert cloud.snapkeep("sim", "status").returncode == 0


def test_sigterm_during_the_start_leaves_no_process_behind(tmp_path: Path, emulators_installed: None) -> None:
    process = launch(tmp_path)
    started: dict[int, str] = {}

    def functions_run() -> bool:
        started.update(descendants(process.pid))
        return len(started) > 7

    try:
        until(functions_run, "the first processes")
    finally:
        status = stop(process)
    assert status == 0
    assert alive(started) == []
    assert at_work_in(tmp_path) == []


def test_without_emulators_the_line_that_installs_them_is_said(tmp_path: Path) -> None:
    done = run("up", "--port", "0", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "gcloud components install beta cloud-firestore-emulator pubsub-emulator" in done.stderr


def test_an_emulator_that_is_named_and_not_there_is_said_in_one_line() -> None:
    done = run("up", "--port", "0", FIRESTORE_EMULATOR_HOST="127.0.0.1:1", PUBSUB_EMULATOR_HOST="127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("snapkeep: FIRESTORE_EMULATOR_HOST: no emulator at '127.0.0.1:1'")
    assert len(done.stderr.splitlines()) == 1


def test_the_mistakes_of_a_fleet_file_are_said_and_nothing_is_started(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("tenants:\n  - {id: X, project: p-1, instances: []}\n")
    done = run("up", "--port", "0", "--fleet", str(path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "tenants[0].id" in done.stderr


def test_a_start_of_the_machines_own_clock_is_wrong_usage() -> None:
    done = run("up", "--clock", "system", "--start", "2026-11-22T00:00:00Z")
    assert done.returncode == 2
    assert "--start goes with --clock simulated" in done.stderr
