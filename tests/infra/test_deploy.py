"""infra/deploy/*.sh, which `make bootstrap`, `deploy`, `rollback`, `destroy` and the others are: what they call, in
which order and with what, what they refuse, and what is left when one ends half way. On stand-ins that answer as
Google's tools document (tests/infra/google_stand_in.py); what stays unproven by that stands in docs/unproven.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from infra import package

ROOT: Final = Path(__file__).parents[2]
STAND_IN: Final = Path(__file__).parent / "google_stand_in.py"
TIMEOUT_S: Final = 60

BUILT, ARCHIVE = package.release()
OLDER: Final = "functions-0123456789ab.zip"
OLDEST: Final = "functions-00000000000a.zip"
BUCKET: Final = "acme-snapkeep-snapkeep"

CHANGES: Final = (
    "gcloud services enable",
    "gcloud beta services identity create",
    "gcloud storage buckets create",
    "gcloud storage buckets update",
    "gcloud storage cp",
    "gcloud builds triggers run",
    "terraform apply",
    "terraform destroy",
)
"""Calls after which something is another than before."""


@dataclass
class Google:
    """A cloud of stand-ins, and our scripts in front of it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, script: str, **settings: str | None) -> subprocess.CompletedProcess[str]:
        """A setting of None is unset."""
        given = self.environment | settings
        return subprocess.run(  # noqa: S603 - our own script
            [ROOT / "infra" / "deploy" / f"{script}.sh"],
            env={name: value for name, value in given.items() if value is not None},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # which may be killed as a whole
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def said(self) -> list[str]:
        """Each call in a line, Terraform's without its folder."""
        return [" ".join(word for word in call if not word.startswith("-chdir=")) for call in self.calls()]

    def changes(self) -> list[str]:
        return [call for call in self.said() if call.startswith(CHANGES)]

    def forget(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)

    def mishap(self, **of: object) -> None:
        (self.folder / "mishaps").write_text(json.dumps({name.replace("_", " "): how for name, how in of.items()}))

    def mend(self) -> None:
        (self.folder / "mishaps").unlink(missing_ok=True)

    @property
    def deployed(self) -> str | None:
        file = self.folder / "deployed"
        return file.read_text().removeprefix("releases/") if file.exists() else None

    @property
    def bucket(self) -> dict[str, bytes]:
        """Every object by its name."""
        whole = self.folder / "buckets" / BUCKET
        return {f.relative_to(whole).as_posix(): f.read_bytes() for f in whole.rglob("*") if f.is_file()}

    @property
    def settings(self) -> set[str]:
        return set((self.folder / "buckets" / f"{BUCKET}.settings").read_text().split())

    def upload(self, *names: str) -> None:
        for name in names:
            file = self.folder / "buckets" / BUCKET / "releases" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"an older one")

    def prove(self, name: str) -> None:
        self.upload(name)
        (self.folder / "buckets" / BUCKET / "releases" / "proven").write_text(name)
        (self.folder / "deployed").write_text(f"releases/{name}")

    def breaks(self, *names: str) -> None:
        (self.folder / "broken").write_text("\n".join(names))


@pytest.fixture
def empty(tmp_path: Path) -> Google:
    """An empty project."""
    programs, folder = tmp_path / "bin", tmp_path / "cloud"
    programs.mkdir()
    folder.mkdir()
    for name in ("gcloud", "terraform", "snapkeep"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -ES "{STAND_IN}" {name} "$@"\n')
        (programs / name).chmod(0o755)
    for name in ("bash", "env", "dirname", "basename", "cat", "git", "sh", "python3"):
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    settings = {
        "PATH": str(programs),  # nothing else: a real gcloud on this machine must not be met
        "STAND_IN": str(folder),
        "PROJECT": "acme-snapkeep",
        "REGION": "southamerica-east1",
        "ROOT": str(tmp_path),
        "CONFIRM": "acme-snapkeep",
        "PYTHON": sys.executable,
        "SNAPKEEP": "snapkeep",
        "SNAPKEEP_API": "https://snapkeep.vendor.example",
        "CANARY_TENANT": "canary",
        "CANARY_INSTANCE": "canary-1",
    }
    return Google(folder, settings)


@pytest.fixture
def google(empty: Google) -> Google:
    """A project after make bootstrap."""
    assert empty.run("bootstrap").returncode == 0
    empty.forget()
    return empty


# --- bootstrap ----------------------------------------------------------------------------------------------------

KEPT: Final = {
    "--location=southamerica-east1",
    "--uniform-bucket-level-access",
    "--public-access-prevention",
    "--versioning",
}


def test_an_empty_project_gets_the_apis_that_terraform_calls_and_a_bucket_with_versions_that_nothing_can_publish(
    empty: Google,
) -> None:
    done = empty.run("bootstrap")
    assert (done.returncode, done.stderr) == (0, "")
    assert empty.changes()[0] == (
        "gcloud services enable cloudresourcemanager.googleapis.com iam.googleapis.com "
        "serviceusage.googleapis.com storage.googleapis.com "
        "cloudscheduler.googleapis.com iap.googleapis.com pubsub.googleapis.com --project=acme-snapkeep"
    )
    assert empty.settings == KEPT


def test_the_accounts_that_terraform_grants_roles_to_are_there_before_it(empty: Google) -> None:
    empty.run("bootstrap")
    made = [call.split("--service=")[1].split()[0] for call in empty.said() if " identity create " in call]
    granted = re.findall(r"@gcp-sa-(\w+)\.iam", (ROOT / "infra" / "gcp" / "main.tf").read_text(encoding="utf-8"))
    assert granted
    assert {f"{agent}.googleapis.com" for agent in granted} <= set(made)


def test_bootstrap_asked_for_again_makes_no_second_bucket(google: Google) -> None:
    google.upload(OLDER)
    assert google.run("bootstrap").returncode == 0
    assert [call for call in google.changes() if " buckets create " in call] == []
    assert (google.settings, set(google.bucket)) == (KEPT, {f"releases/{OLDER}"})


def test_a_bucket_that_google_will_not_show_is_not_taken_for_one_that_is_missing(empty: Google) -> None:
    empty.mishap(gcloud_storage_buckets_list=[1, "ERROR: HTTPError 403: operator does not have access"])
    for script in ("bootstrap", "deploy", "destroy", "rollback"):
        done = empty.run(script, RELEASE=OLDER)
        assert done.returncode == 1
        assert "the buckets of acme-snapkeep cannot be looked at: ERROR: HTTPError 403" in done.stderr
    assert not any(" buckets create " in call or call.startswith("terraform") for call in empty.said())


def test_a_strangers_bucket_of_that_name_gets_neither_state_nor_release(google: Google) -> None:
    (google.folder / "strangers").write_text(BUCKET)
    for script in ("deploy", "destroy", "rollback"):
        done = google.run(script, RELEASE=OLDER)
        assert done.returncode == 1
        assert f"acme-snapkeep has no bucket gs://{BUCKET}" in done.stderr
    done = google.run("bootstrap")
    assert (done.returncode, "HTTPError 409" in done.stderr) == (1, True)
    assert not any(call.startswith(("terraform", "gcloud storage cp")) for call in google.said())


# --- deploy -------------------------------------------------------------------------------------------------------


def test_a_first_deployment_that_google_is_not_ready_for_is_tried_once_more(google: Google) -> None:
    (google.folder / "once").write_text("terraform -chdir=" + google.environment["ROOT"] + " apply")
    done = google.run("deploy")
    assert (done.returncode, google.deployed) == (0, BUILT)
    assert "Once more" in done.stderr
    assert [call.split()[:2] for call in google.changes()][-2:] == [["terraform", "apply"]] * 2


def test_a_later_deployment_that_is_refused_is_not_tried_again(google: Google) -> None:
    google.prove(OLDER)
    (google.folder / "once").write_text("terraform -chdir=" + google.environment["ROOT"] + " apply")
    done = google.run("deploy")
    assert (done.returncode, google.deployed) == (1, OLDER)
    assert f"{BUILT} is not deployed" in done.stderr


def test_a_deployment_is_packaged_uploaded_and_applied_in_this_order(google: Google) -> None:
    done = google.run("deploy", ARGS="-var-file=acme.tfvars -parallelism=4")
    assert (done.returncode, done.stderr) == (0, "")
    assert google.bucket == {f"releases/{BUILT}": ARCHIVE}
    assert google.deployed == BUILT
    upload, init, apply = google.said()[-3:]
    assert upload == f"gcloud storage cp --no-clobber build/{BUILT} gs://{BUCKET}/releases/{BUILT}"
    assert (
        init == f"terraform init -input=false -reconfigure -backend-config=bucket={BUCKET} -backend-config=prefix=state"
    )
    assert apply == (
        "terraform apply -var=project=acme-snapkeep -var=region=southamerica-east1 "
        f"-var=release=releases/{BUILT} -input=false -auto-approve -var-file=acme.tfvars -parallelism=4"
    )
    assert {call[1] for call in google.calls() if call[0] == "terraform"} == {f"-chdir={google.environment['ROOT']}"}


def test_a_deployment_asked_for_again_overwrites_nothing(google: Google) -> None:
    google.upload(BUILT)  # with other bytes, to be told from what an upload would leave
    assert google.run("deploy").returncode == 0
    assert google.bucket[f"releases/{BUILT}"] == b"an older one"


def test_an_uploaded_release_is_deployed_by_its_name_and_nothing_is_uploaded(google: Google) -> None:
    google.upload(OLDER)
    for form in (OLDER, "0123456789ab", f"releases/{OLDER}", f"gs://{BUCKET}/releases/{OLDER}"):
        google.forget()
        assert google.run("deploy", RELEASE=form).returncode == 0
        assert google.deployed == OLDER
        assert [call.split()[:2] for call in google.changes()] == [["terraform", "apply"]]


def test_a_release_that_is_neither_uploaded_nor_of_this_tree_is_refused(google: Google) -> None:
    done = google.run("deploy", RELEASE=OLDER)
    assert done.returncode == 1
    assert f"releases/{OLDER} does not exist, and this tree builds {BUILT}" in done.stderr
    assert google.changes() == []


def test_a_plan_changes_nothing(google: Google) -> None:
    done = google.run("plan", CONFIRM=None)
    assert (done.returncode, done.stderr) == (0, "")
    assert google.changes() == []
    assert google.said()[-1].startswith("terraform plan -var=project=acme-snapkeep")


@pytest.mark.parametrize(
    "script",
    ["bootstrap", pytest.param("deploy", marks=pytest.mark.slow), pytest.param("replace", marks=pytest.mark.slow)],
)
def test_one_that_is_killed_anywhere_is_brought_to_its_end_by_the_next(empty: Google, script: str) -> None:
    if script != "bootstrap":
        assert empty.run("bootstrap").returncode == 0
    begun = shutil.copytree(empty.folder, empty.folder.parent / "begun")
    empty.forget()
    assert empty.run(script, RELEASE=BUILT).returncode == 0
    calls, ended = len(empty.calls()), (empty.deployed, empty.bucket, empty.settings)
    assert calls > 3
    for number in range(1, calls + 1):
        shutil.rmtree(empty.folder)
        shutil.copytree(begun, empty.folder)
        empty.forget()
        empty.mishap(killed_before_call=number)
        assert empty.run(script, RELEASE=BUILT).returncode != 0
        empty.mend()
        again = empty.run(script, RELEASE=BUILT)
        assert (again.returncode, (empty.deployed, empty.bucket, empty.settings)) == (0, ended), (number, again.stderr)


def test_a_deployment_that_fails_says_so_by_its_status(google: Google) -> None:
    google.environment["ROOT"] = str(ROOT / "infra")
    for call in ("gcloud storage cp", f"terraform -chdir={ROOT}/infra init", f"terraform -chdir={ROOT}/infra apply"):
        google.mishap(**{call: [1, "it failed"]})
        done = google.run("deploy")
        assert (done.returncode, "is deployed" in done.stdout) == (1, False)


# --- refusals -----------------------------------------------------------------------------------------------------

EVERY: Final = ("bootstrap", "plan", "deploy", "rollback", "replace", "releases", "promote", "destroy")
WITH_TERRAFORM: Final = ("plan", "deploy", "replace", "destroy")
CHANGING: Final = ("deploy", "rollback", "replace", "destroy")


@pytest.mark.parametrize("script", EVERY)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PROJECT": None}, "PROJECT is not set: expected the id of the project"),
        ({"PROJECT": "Acme Snapkeep"}, "PROJECT: 'Acme Snapkeep' is not the id of a project"),
        ({"REGION": None}, "REGION is not set: expected where Snapkeep runs"),
        ({"REGION": "southamerica-east1-a"}, "REGION: 'southamerica-east1-a' is not a region"),
    ],
    ids=["no project", "no id of a project", "no region", "a zone"],
)
def test_without_a_project_or_a_region_nothing_is_called(
    google: Google, script: str, settings: dict[str, str | None], said: str
) -> None:
    done = google.run(script, RELEASE=OLDER, PRODUCTION="acme-production", **settings)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert google.calls() == []


@pytest.mark.parametrize("script", EVERY)
def test_without_gcloud_or_its_credentials_nothing_is_changed(google: Google, script: str) -> None:
    google.mishap(gcloud_auth_list=[0, "No credentialed accounts."])
    done = google.run(script, RELEASE=OLDER, PRODUCTION="acme-production")
    assert (done.returncode, done.stderr) == (1, "gcloud has no credentials: gcloud auth login\n")
    assert google.changes() == []
    (google.folder.parent / "bin" / "gcloud").unlink()
    done = google.run(script, RELEASE=OLDER, PRODUCTION="acme-production")
    assert done.returncode == 1
    assert done.stderr.startswith("gcloud is not on the path: install the Google Cloud CLI")


@pytest.mark.parametrize("script", WITH_TERRAFORM)
def test_without_terraform_its_credentials_or_its_root_nothing_is_changed(google: Google, script: str) -> None:
    done = google.run(script, ROOT="/nowhere")
    assert (done.returncode, done.stderr.startswith("ROOT: '/nowhere' is not a folder: expected")) == (1, True)
    google.mishap(**{"gcloud auth application-default": [1, "no credentials"]})
    done = google.run(script)
    assert done.returncode == 1
    assert done.stderr == "Terraform would find no credentials: gcloud auth application-default login\n"
    google.mend()
    (google.folder.parent / "bin" / "terraform").unlink()
    done = google.run(script)
    assert done.returncode == 1
    assert done.stderr.startswith("terraform is not on the path: install Terraform 1.9 or newer")
    assert google.changes() == []


@pytest.mark.parametrize("script", CHANGING)
def test_where_nobody_can_say_yes_it_has_to_be_said_beforehand_for_this_very_project(
    google: Google, script: str
) -> None:
    google.upload(OLDER)
    done = google.run(script, CONFIRM=None, RELEASE=OLDER)
    assert done.returncode == 1
    assert done.stderr.endswith("nobody is here to say yes: CONFIRM=acme-snapkeep says it beforehand\n")
    done = google.run(script, CONFIRM="acme-production", RELEASE=OLDER)
    assert done.returncode == 1
    assert done.stderr.endswith("CONFIRM: 'acme-production' is not this project: expected CONFIRM=acme-snapkeep\n")
    assert google.changes() == []


@pytest.mark.parametrize("script", ["plan", "deploy", "rollback", "replace", "releases", "destroy"])
def test_before_bootstrap_each_says_that_it_is_missing(empty: Google, script: str) -> None:
    done = empty.run(script, RELEASE=OLDER)
    assert done.returncode == 1
    assert (
        f"acme-snapkeep has no bucket gs://{BUCKET}: make bootstrap PROJECT=acme-snapkeep REGION=southamerica-east1"
        in done.stderr
    )
    assert empty.changes() == []


@pytest.mark.parametrize("release", ["main", "functions-0123.zip", "functions-0123456789AB.zip", "../x", "a b"])
def test_what_is_no_release_is_refused_by_its_name(google: Google, release: str) -> None:
    for script in ("deploy", "rollback", "replace", "plan"):
        done = google.run(script, RELEASE=release)
        assert done.returncode == 1
        assert f"RELEASE: '{release}' is not a release, such as functions-0123456789ab.zip" in done.stderr
    assert google.changes() == []


# --- rollback, releases -------------------------------------------------------------------------------------------


def test_a_roll_back_deploys_an_uploaded_release_and_no_other(google: Google) -> None:
    assert google.run("deploy").returncode == 0
    google.upload(OLDER)
    assert google.run("rollback", RELEASE=OLDER).returncode == 0
    assert google.deployed == OLDER
    for missing in (OLDEST, ""):
        done = google.run("rollback", RELEASE=missing)
        assert (done.returncode, google.deployed) == (1, OLDER)
        assert "make releases lists" in done.stderr


def test_a_release_that_this_tree_builds_and_nobody_uploaded_is_no_roll_back(google: Google) -> None:
    assert google.run("rollback", RELEASE=BUILT).returncode == 1
    assert google.changes() == []


def test_the_list_says_which_release_is_deployed_and_which_was_proven(google: Google) -> None:
    assert google.run("releases").returncode == 1  # none yet
    google.prove(OLDER)
    google.upload(OLDEST)
    assert google.run("deploy").returncode == 0
    google.forget()
    lines = [line.split()[1:] for line in google.run("releases").stdout.splitlines()]
    assert sorted(lines) == sorted([[OLDEST], [OLDER, "proven"], [BUILT, "deployed"]])
    assert google.changes() == []


# --- replace ------------------------------------------------------------------------------------------------------


def test_a_release_that_works_stays_and_is_the_one_to_go_back_to(google: Google) -> None:
    google.prove(OLDER)
    done = google.run("replace", RELEASE=BUILT)
    assert (done.returncode, done.stderr) == (0, "")
    assert (google.deployed, google.bucket["releases/proven"].decode()) == (BUILT, BUILT)
    doctor, point = (call for call in google.calls() if call[0] == "snapkeep")
    assert doctor == ["snapkeep", "doctor", "--project=acme-snapkeep", "--region=southamerica-east1"]
    assert point[1:] == [
        *("points", "create", "--tenant", "canary", "--instance", "canary-1", "--wait", "20m"),
        *("--reason", f"smoke test of {BUILT}"),
    ]


def test_a_release_that_does_not_work_is_taken_back_to_the_one_that_was_proven_last(google: Google) -> None:
    google.prove(OLDER)
    google.upload(OLDEST)
    google.breaks(BUILT)
    done = google.run("replace", RELEASE=BUILT)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{BUILT} does not work; {OLDER} runs in acme-snapkeep again\n")
    assert (google.deployed, google.bucket["releases/proven"].decode()) == (OLDER, OLDER)


def test_a_release_whose_deployment_fails_half_way_is_taken_back_too(google: Google) -> None:
    google.prove(OLDER)
    google.environment["ROOT"] = str(ROOT / "infra")
    apply = f"terraform -chdir={ROOT}/infra apply -var=project=acme-snapkeep -var=region=southamerica-east1"
    google.mishap(**{f"{apply} -var=release=releases/{BUILT}": [1, "Error: quota exceeded"]})
    done = google.run("replace", RELEASE=BUILT)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{BUILT} does not work; {OLDER} runs in acme-snapkeep again\n")
    google.mishap(**{apply: [1, "Error: quota exceeded"]})
    done = google.run("replace", RELEASE=BUILT)
    assert done.returncode == 1
    assert f"half way between {BUILT} and {OLDER}: make rollback RELEASE={OLDER};\n" in done.stderr
    assert done.stderr.endswith("check out its commit and make deploy\n")


def test_a_replacement_by_nothing_in_particular_is_refused(google: Google) -> None:
    done = google.run("replace")
    assert done.returncode == 1
    assert done.stderr.startswith("RELEASE is not set: expected the release that staging was tested with")
    assert google.changes() == []


def test_where_nothing_was_proven_or_nothing_works_it_is_said(google: Google) -> None:
    google.breaks(BUILT, OLDER)
    assert google.run("replace", RELEASE=BUILT).stderr.endswith(
        "no release was proven in acme-snapkeep before: nothing to go back to\n"
    )
    google.prove(OLDER)
    done = google.run("replace", RELEASE=BUILT)
    assert "and does not work either" in done.stderr
    assert (done.returncode, google.deployed) == (1, OLDER)
    done = google.run("replace", RELEASE=OLDER)
    assert (done.returncode, "though it did before" in done.stderr) == (1, True)


def test_a_smoke_test_without_a_canary_is_refused(google: Google) -> None:
    for name in ("CANARY_TENANT", "CANARY_INSTANCE"):
        done = google.run("smoke", **{name: None})
        assert (done.returncode, done.stderr[: len(name) + 11]) == (1, f"{name} is not set")
    assert google.calls() == []


# --- promote ------------------------------------------------------------------------------------------------------


def test_what_staging_runs_is_asked_for_in_production_by_commit_and_name(google: Google) -> None:
    assert google.run("deploy").returncode == 0
    google.forget()
    done = google.run("promote", PRODUCTION="acme-production", COMMIT="a" * 40, TRIGGER_REGION="europe-west1")
    assert (done.returncode, done.stderr) == (0, "")
    (started,) = google.changes()
    assert started == (
        "gcloud builds triggers run snapkeep-production --project=acme-production --region=europe-west1 "
        f"--sha={'a' * 40} --substitutions=_RELEASE={BUILT}"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PRODUCTION": None}, "PRODUCTION is not set"),
        ({"PRODUCTION": "acme-snapkeep"}, "PRODUCTION: 'acme-snapkeep' is PROJECT"),
        ({"COMMIT": "main"}, "COMMIT: 'main' is not the 40 digits of a commit"),
    ],
    ids=["no production", "staging itself", "a branch"],
)
def test_a_promotion_to_nowhere_or_of_no_commit_is_refused(
    google: Google, settings: dict[str, str | None], said: str
) -> None:
    assert google.run("deploy").returncode == 0
    google.forget()
    done = google.run("promote", **({"PRODUCTION": "acme-production", "COMMIT": "a" * 40} | settings))
    assert (done.returncode, done.stderr[: len(said)]) == (1, said)
    assert google.changes() == []


def test_what_staging_does_not_run_is_not_promoted(google: Google) -> None:
    for running in (None, OLDER):
        if running:
            google.prove(running)
        done = google.run("promote", PRODUCTION="acme-production", COMMIT="a" * 40)
        assert done.returncode == 1
        assert done.stderr.startswith(f"staging (acme-snapkeep) runs {running or 'no release'}, and this tree builds")
    assert google.changes() == []


# --- destroy ------------------------------------------------------------------------------------------------------


def test_going_away_says_what_stays_and_touches_no_snapshot_and_no_release(google: Google) -> None:
    assert google.run("deploy").returncode == 0
    kept = google.bucket
    google.forget()
    for _ in range(2):  # the second finds nothing, and is no error
        done = google.run("destroy")
        assert done.returncode == 0
        assert "any snapshot, copy, disk or instance" in done.stderr
        assert "deletion_protection = false" in done.stderr
        assert (google.deployed, google.bucket) == (None, kept)
    assert {call.split()[1] for call in google.changes()} == {"destroy"}
    assert not any("compute" in call or " rm " in call or " delete" in call for call in google.said())


def test_what_stays_is_said_before_anything_is_asked(google: Google) -> None:
    assert google.run("deploy").returncode == 0
    done = google.run("destroy", CONFIRM=None)
    assert (done.returncode, google.deployed) == (1, BUILT)
    assert done.stderr.index("does not touch") < done.stderr.index("nobody is here to say yes")
