"""What `snapkeep doctor` reads of Google: the documented answers, and every way in which one fails."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.google import (
    DATABASE,
    KEY,
    NETWORK,
    PROJECT,
    REGION,
    TENANT,
    VAULT,
    WANTED,
    Answer,
    Google,
    as_declared,
    refusal,
    serving,
)

from snapkeep.cli.doctor import read_deployment
from snapkeep.doctor import checks
from snapkeep.doctor.checks import Finding, Verdict, examined, green
from snapkeep.doctor.facts import Known, Unread
from snapkeep.gcp.platform import PAGES_MAX, Plane, read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def one() -> Iterator[Google]:
    with serving() as google:
        yield google


@pytest.fixture
def google(one: Google) -> Google:
    one.answers, one.date = as_declared(), None
    one.asked.clear()
    return one


def verdicts(google: Google, region: str | None = REGION, tenant: str | None = None) -> tuple[Verdict, ...]:
    return examined(read_deployment(google.plane(), WANTED, "(default)", region, tenant), WANTED)


def findings(google: Google) -> list[Finding]:
    return [finding for one in verdicts(google) for finding in one.findings]


def test_a_deployment_as_declared_is_green_in_every_check(google: Google) -> None:
    seen = verdicts(google)
    assert [(one.check, one.stand, one.findings, one.untold) for one in seen] == [
        (one.check, "ok", (), ()) for one in seen
    ]
    assert all(one.said for one in seen)


def test_nothing_is_asked_that_could_change_anything(google: Google) -> None:
    verdicts(google)
    posts = {path.rpartition(":")[2] for method, path, _, _ in google.asked if method != "GET"}
    assert posts == {"getIamPolicy", "runQuery"}


def test_the_region_is_that_of_the_functions_unless_it_is_named(google: Google) -> None:
    assert green(verdicts(google, region=None))
    google.answers[f"/v2/projects/{PROJECT}/locations/-/functions"] = {"functions": []}
    assert not green(verdicts(google, region=None))


def test_one_tenant_can_be_looked_at_alone(google: Google) -> None:
    assert green(verdicts(google, tenant="acme"))
    assert f"/v1/{DATABASE}/documents/tenants" not in [path for _, path, _, _ in google.asked]
    assert not green(verdicts(google, tenant="nobody"))


# --- what cannot be read is never green ---------------------------------------------------------------------------

READ = sorted(path for path in as_declared() if not path.endswith(("/locations/-/functions", "/tenants/acme")))
SOME = [READ[n] for n in range(0, len(READ), 7)]
"""Every kind of failure is tried on some paths, and one of them on each."""


@pytest.mark.parametrize("path", READ)
def test_what_is_forbidden_is_told_with_the_role_that_is_lacking(google: Google, path: str) -> None:
    google.answers[path] = refusal(403, "PERMISSION_DENIED", "Permission 'x.y.get' denied on resource.")
    seen = verdicts(google)
    assert not green(seen)
    untold = [one for verdict in seen for one in verdict.untold]
    assert all("you may not read it (Permission 'x.y.get' denied on resource.)" in one.why for one in untold)
    assert all(one.mend.startswith("gcloud projects add-iam-policy-binding ") for one in untold)
    assert all("--role=roles/" in one.mend for one in untold)


NO_ANSWERS = {
    "a page": Answer(200, "<html>Sign in</html>"),
    "a list": Answer(200, "[]" + " " * 3),
    "nothing": Answer(200, ""),
    "half of it": Answer(
        200, '{"bindings": 7, "documents": 7, "roles": 7, "services": 7, "topics": 7, "includedPermissions": 7'
    ),
    "elsewhere": Answer(302, "", {"Location": "https://accounts.google.com/"}),
    "a stranger's 404": Answer(404, "<html>not found</html>"),
    "400": refusal(400, "INVALID_ARGUMENT", "bad"),
    "503": refusal(503, "UNAVAILABLE", "try later"),
}


# To a query an empty list is an answer: that there is nothing.
@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path in SOME for name in NO_ANSWERS if name != "a list" or not path.endswith(":runQuery")],
)
def test_an_answer_that_is_no_answer_is_never_green(google: Google, path: str, name: str) -> None:
    google.answers[path] = NO_ANSWERS[name]
    assert not green(verdicts(google))


@pytest.mark.parametrize("path", [path for path in READ if "/serviceAccounts/" not in path])
def test_what_is_not_there_is_found_or_told(google: Google, path: str) -> None:
    del google.answers[path]
    assert not green(verdicts(google))


def test_an_api_that_is_not_enabled_is_told_with_its_command(google: Google) -> None:
    google.answers[f"/v1/projects/{PROJECT}/locations/{REGION}/jobs"] = refusal(
        403, "PERMISSION_DENIED", "Cloud Scheduler API has not been used", "SERVICE_DISABLED"
    )
    (untold,) = [one for verdict in verdicts(google) for one in verdict.untold]
    assert untold.mend == f"gcloud services enable cloudscheduler.googleapis.com --project {PROJECT}"


def test_an_answer_that_does_not_come_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never says a word
        plane = Plane(PROJECT, {"pubsub": f"http://127.0.0.1:{silent.getsockname()[1]}"}, timeout_s=0.05)
        told = read(plane.topics)
    assert isinstance(told, Unread)
    assert "no answer" in told.why
    assert isinstance(read(plane.topics), Unread)  # nobody listens there any more


def test_a_fault_that_passes_is_asked_again(google: Google) -> None:
    path = f"/v1/projects/{PROJECT}/topics"
    google.answers[path] = refusal(503, "UNAVAILABLE", "try later")
    read(google.plane().topics)
    assert [asked for _, asked, _, _ in google.asked] == [path] * 3


def test_a_list_is_read_to_its_last_page(google: Google) -> None:
    assert google.plane().topics() == WANTED.topics
    assert len(google.asked) == -(-len(WANTED.topics) // 5)


def test_a_list_without_an_end_is_told(google: Google) -> None:
    google.answers[f"/v1/projects/{PROJECT}/topics"] = Answer(200, {"topics": [], "nextPageToken": "again"})
    told = read(google.plane().topics)
    assert isinstance(told, Unread)
    assert len(google.asked) == PAGES_MAX


def test_a_list_of_which_a_region_did_not_answer_is_told(google: Google) -> None:
    path = f"/v2/projects/{PROJECT}/locations/-/functions"
    google.answers[path] = Answer(200, {"functions": [], "unreachable": ["projects/p/locations/us-east1"]})
    assert isinstance(read(google.plane().region), Unread)


# --- what is found ------------------------------------------------------------------------------------------------


def changed(google: Google, path: str, key: str, number: int, **other: Any) -> None:
    google.answers[path][key][number] |= other


@pytest.mark.parametrize(
    ("path", "key", "other", "where", "said"),
    [
        (f"/v2/projects/{PROJECT}/locations/{REGION}/functions", "functions",
         {"state": "FAILED"}, "function discover", "it is FAILED"),
        (f"/v2/projects/{PROJECT}/locations/{REGION}/functions", "functions",
         {"serviceConfig": {"uri": "https://snapkeep-discover-abc-rj.a.run.app", "ingressSettings": "ALLOW_ALL",
                            "serviceAccountEmail": f"{PROJECT}@appspot.gserviceaccount.com"}},
         "function discover", "its ingress is ALLOW_ALL"),
        (f"/v2/projects/{PROJECT}/locations/{REGION}/functions", "functions",
         {"buildConfig": {"source": {"storageSource": {"object": "releases/functions-0.zip"}}}},
         "functions", "they are of releases releases/functions-0.zip, releases/functions-1.zip"),
        (f"/v1/projects/{PROJECT}/subscriptions", "subscriptions",
         {"pushConfig": {"pushEndpoint": f"https://old.run.app/projects/{PROJECT}/topics/snapkeep-discover"}},
         "subscription snapkeep-discover", "it is signed as nobody"),
        (f"/v1/projects/{PROJECT}/subscriptions", "subscriptions",
         {"expirationPolicy": {"ttl": "2678400s"}}, "subscription snapkeep-discover", "not used for 31 days"),
        (f"/v1/projects/{PROJECT}/locations/{REGION}/jobs", "jobs",
         {"status": {"code": 5, "message": "topic not found"}}, "schedule discover", "code 5 topic not found"),
        (f"/v1/{DATABASE}/collectionGroups/-/indexes", "indexes", {"state": "CREATING"}, "index of ", "it is CREATING"),
    ],
)  # fmt: skip
def test_what_is_not_as_declared_is_found(
    google: Google, path: str, key: str, other: dict[str, Any], where: str, said: str
) -> None:
    changed(google, path, key, 0, **other)
    (found,) = findings(google)
    assert found.where.startswith(where)
    assert said in found.what


def test_each_thing_that_is_wrong_with_the_database_is_found(google: Google) -> None:
    google.answers[f"/v1/{DATABASE}"] = {"name": DATABASE, "type": "DATASTORE_MODE"}
    (found,) = findings(google)
    assert found.what.count(";") == 2


def test_fields_are_held_to_their_indexes_and_ttl(google: Google) -> None:
    path = f"/v1/{DATABASE}/collectionGroups/-/fields"
    for field in google.answers[path]["fields"]:
        field.pop("ttlConfig", None)
        if field["name"].endswith("/fields/*"):
            field["indexConfig"] = {"indexes": [{"queryScope": "COLLECTION", "state": "READY",
                                                 "fields": [{"fieldPath": "*", "order": "ASCENDING"}]}]}  # fmt: skip
    said = {found.where: found.what for found in findings(google)}
    assert said["field inbox.expire_at"] == "it has no TTL: what has expired is kept for ever"
    assert said["field points.*"] == "it has ASCENDING COLLECTION, which no query uses"
    google.answers[path] = {"fields": []}
    assert len(findings(google)) == len(WANTED.fields)


def test_a_role_that_holds_more_or_less_is_found(google: Google) -> None:
    path = f"/v1/projects/{VAULT}/roles/"
    (expiring,) = [p for p in google.answers if p.startswith(path) and "expire" in p and "ours" in p]
    google.answers[expiring]["includedPermissions"] = ["compute.disks.get"]
    (found,) = findings(google)
    assert "it lacks compute.snapshots.delete" in found.what
    assert "it holds compute.disks.get, which nothing declares" in found.what
    assert found.mend == "terraform apply, where infra/gcp/tenant is applied for acme"


def test_a_deleted_role_is_not_there(google: Google) -> None:
    path = f"/v1/projects/{PROJECT}/roles/snapkeep.publisher"
    google.answers[path]["deleted"] = True
    ((where, what),) = [(one.where, one.what) for one in findings(google)]
    assert where == f"role projects/{PROJECT}/roles/snapkeep.publisher"
    assert what.startswith("it is not there")


@pytest.mark.parametrize("project", [PROJECT, TENANT, VAULT])
def test_a_grant_that_nothing_declares_is_found_with_its_removal(google: Google, project: str) -> None:
    member = f"serviceAccount:sk-web@{PROJECT}.iam.gserviceaccount.com"
    google.answers[f"/v1/projects/{project}:getIamPolicy"]["bindings"].append(
        {"role": "roles/editor", "members": [member]}
    )
    (found,) = findings(google)
    assert found.where == f"service account sk-web in {project}"
    expected = f"gcloud projects remove-iam-policy-binding {project} --member={member} --role=roles/editor --all"
    assert found.mend == expected


def test_a_role_that_is_bound_without_its_condition_is_found(google: Google) -> None:
    (binding,) = [
        one
        for one in google.answers[f"/v1/projects/{VAULT}:getIamPolicy"]["bindings"]
        if "condition" in one and ".expire." in one["role"]
    ]
    del binding["condition"]
    (found,) = findings(google)
    assert found.where == f"service account sk-expire in {VAULT}"
    assert found.what.endswith("without the condition on names")


def test_a_role_that_nobody_is_bound_to_is_found(google: Google) -> None:
    policy = google.answers[f"/v1/projects/{PROJECT}:getIamPolicy"]
    policy["bindings"] = [one for one in policy["bindings"] if "snapkeep.plan" not in one["role"]]
    (found,) = findings(google)
    assert found.what == f"it is not bound to projects/{PROJECT}/roles/snapkeep.plan"


def test_a_key_that_people_made_is_found(google: Google) -> None:
    path = f"/v1/projects/{PROJECT}/serviceAccounts/sk-expire@{PROJECT}.iam.gserviceaccount.com/keys"
    google.answers[path] = {"keys": [{"name": "k", "keyType": "USER_MANAGED"}]}
    (found,) = findings(google)
    assert (found.where, found.what) == ("service account sk-expire", "people made 1 key of it")
    asked = [parameters for _, asked, parameters, _ in google.asked if asked == path]
    assert asked == [{"keyTypes": "USER_MANAGED"}]


def test_a_grant_that_dead_letters_need_is_missed(google: Google) -> None:
    google.answers[f"/v1/projects/{PROJECT}/subscriptions/snapkeep-plan:getIamPolicy"] = {"etag": "BwXh"}
    (found,) = findings(google)
    assert found.where == "subscription snapkeep-plan"
    assert "does not hold roles/pubsub.subscriber" in found.what


def test_dead_letters_that_wait_and_that_were_settled_are_found(google: Google) -> None:
    google.answers[f"/v3/projects/{PROJECT}/timeSeries"] = {
        "timeSeries": [{"points": [{"value": {"int64Value": "2"}}]}]
    }
    fields = {"function": {"stringValue": "create"}, "reason": {"stringValue": "HTTP 500"}}
    now = datetime.now(UTC).isoformat()
    document = {"name": f"{DATABASE}/documents/rejected/x", "fields": fields, "updateTime": now}
    google.answers[f"/v1/{DATABASE}/documents:runQuery"] = [{"document": document, "readTime": now}]
    assert [one.what.split(" ", 1)[0] for one in findings(google)] == ["2", "1"]


def test_a_quota_near_its_limit_is_found(google: Google) -> None:
    google.answers[f"/compute/v1/projects/{VAULT}"]["quotas"] = [
        {"metric": "SNAPSHOTS", "limit": 1000.0, "usage": 800.0},
        {"metric": "NETWORKS", "limit": 0.0, "usage": 0.0},
    ]
    (found,) = findings(google)
    assert (found.where, found.what) == (f"quota SNAPSHOTS of {VAULT}, global", "800 of 1000 are used")


def test_a_tenants_project_without_compute_engine_key_or_network_is_found(google: Google) -> None:
    google.answers[f"/v1/projects/{VAULT}/services"] = {"services": []}
    google.answers[f"/v1/{KEY}"]["primary"] = {"state": "DISABLED"}
    del google.answers[f"/compute/v1/{NETWORK}"]
    assert [(one.where, one.what) for one in findings(google)] == [
        (f"KMS key {KEY}", "it is DISABLED"),
        (f"network of restore tests {NETWORK}", "it is not there"),
        (f"API compute.googleapis.com in {VAULT}", "it is not enabled"),
    ]


def test_clocks_are_held_to_googles(google: Google) -> None:
    google.date = datetime.now(UTC) + timedelta(minutes=5)
    facts = read_deployment(google.plane(), WANTED, "(default)", REGION, None)
    assert isinstance(facts.clocks, Known)
    wheres = [one.where for verdict in examined(facts, WANTED) for one in verdict.findings]
    assert wheres == ["the clock of this machine"]


def test_a_functions_clock_is_held_to_firestores(google: Google) -> None:
    path = f"/v1/{DATABASE}/documents/system"
    late = datetime.now(UTC) + timedelta(minutes=2)
    google.answers[path]["documents"][0]["updateTime"] = late.isoformat()
    (found,) = findings(google)
    assert found.where.startswith("the clock of function ")
    assert "behind Firestore's" in found.what


# --- what is looked for is what Terraform makes -------------------------------------------------------------------


def test_the_apis_are_those_that_terraform_enables_in_every_deployment() -> None:
    text = (ROOT / "infra" / "gcp" / "apis.tf").read_text(encoding="utf-8")
    always = text.split("concat(\n    [", 1)[1].split("]", 1)[0]
    assert set(re.findall(r'"([a-z]+\.googleapis\.com)"', always)) == checks.APIS


def test_accounts_and_names_are_those_that_terraform_gives() -> None:
    tf = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "infra" / "gcp").glob("*.tf"))
    assert f'account_id   = "{checks.account("X").replace("X", "")}${{replace(each.key, "_", "-")}}"' in tf
    assert f'account_id   = "{checks.PUSHES}"' in tf
    assert '"snapkeep-${replace(function, "_", "-")}"' in tf
    assert checks.deployed_name("restore_test") == "snapkeep-restore-test"
    assert set(re.findall(r'"(ALLOW_[A-Z_]+)"', tf)) == set(checks.INGRESS)
    assert {checks.PUBLISHES, checks.TAKES} <= set(re.findall(r'"(roles/pubsub\.[a-z]+)"', tf))
