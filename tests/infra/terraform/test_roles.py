"""Who is granted what, as Terraform makes it in Snapkeep's project and in tenants': what is declared, and no more."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tests.infra.terraform.running import ROOT, Apply, Made, Plan, TerraformRefused
from tests.restore import scene

from snapkeep import documents as d
from snapkeep import permissions
from snapkeep.deployment import deployment
from snapkeep.permissions import PUBLISHER, Place, roles

MINIMAL: Final = "infra/gcp/examples/minimal"
COMPLETE: Final = "infra/gcp/examples/complete"
TENANT: Final = "infra/gcp/tenant"
OWN: Final = "acme-snapkeep"
GIVEN: Final = {"project": OWN, "region": "southamerica-east1", "release": "releases/functions-0123456789ab.zip"}

OF_ALPES: Final[dict[str, tuple[Place, ...]]] = {
    "alpes-production": ("instances", "network", "subnetwork", "service_account"),
    "alpes-vault": ("vault",),
}
OF_BORBA: Final[dict[str, tuple[Place, ...]]] = {
    "borba-clinic": ("instances", "vault", "service_account"),
    "borba-network": ("network", "subnetwork"),
}
PLACES: Final = {OWN: ("snapkeep", "topic"), **OF_ALPES, **OF_BORBA}
"""Which kinds of project each project of the complete example is."""

BINDINGS: Final = (
    "google_project_iam_member", "google_pubsub_topic_iam_member", "google_compute_subnetwork_iam_member",
    "google_service_account_iam_member",
)  # fmt: skip
"""What grants a role to an account of Snapkeep."""


@pytest.fixture(scope="module")
def complete(applied: Apply) -> Made:
    return applied(COMPLETE, GIVEN)


def made_roles(made: Made) -> dict[str, dict[str, Any]]:
    """Custom roles by their full name."""
    found = made.of("google_project_iam_custom_role").values()
    return {f"projects/{one['project']}/roles/{one['role_id']}": one for one in found}


def granted(made: Made) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Each grant of a custom role: the function, the project of the role, its id, and the binding."""
    for kind in BINDINGS:
        for binding in made.of(kind).values():
            account = re.fullmatch(rf"serviceAccount:sk-([a-z-]+)@{OWN}\.iam\.gserviceaccount\.com", binding["member"])
            role = re.fullmatch(r"projects/([^/]+)/roles/(snapkeep\..+)", str(binding.get("role")))
            if account and role:
                yield account[1].replace("-", "_"), role[1], role[2], binding


def held(made: Made, function: str) -> set[str]:
    """All permissions that a function has anywhere."""
    known = made_roles(made)
    return {
        permission
        for name, project, role, _ in granted(made)
        for permission in known[f"projects/{project}/roles/{role}"]["permissions"]
        if name == function
    }


# --- what is granted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", PLACES)
def test_a_project_has_the_roles_that_are_declared_for_what_it_is(project: str, complete: Made) -> None:
    found = {one["role_id"]: one["permissions"] for one in made_roles(complete).values() if one["project"] == project}
    found.pop("snapkeep.promote", None)  # no function's: of who may ask for a release (test_pipeline.py)
    assert found == {role.id: list(role.permissions) for role in roles() if role.place in PLACES[project]}


def test_every_function_has_exactly_its_own_roles(complete: Made) -> None:
    seen: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for function, project, id, _ in granted(complete):
        seen[function].add((project, id))
    declared: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for project, places in PLACES.items():
        for role in roles():
            if role.place in places:
                declared[role.function].add((project, role.id))
    assert seen == declared
    assert set(seen) == set(deployment().functions)


def test_a_function_publishes_to_the_topics_that_it_declares_and_to_no_other(complete: Made) -> None:
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for function, project, role, binding in granted(complete):
        if role == PUBLISHER:
            assert project == OWN
            seen[function].add(binding["topic"])
    assert seen == {name: set(one.publishes) for name, one in deployment().functions.items() if one.publishes}


def test_roles_are_bound_under_their_conditions_and_documents_to_the_one_database(complete: Made) -> None:
    conditions = permissions.permissions().conditions
    under = {role.id: role.condition for role in roles()}
    for _, project, id, binding in granted(complete):
        said = [one["expression"] for one in binding.get("condition") or []]
        if project == OWN and id != PUBLISHER:
            assert said == [f'resource.name == "projects/{OWN}/databases/(default)"']
        else:
            condition = under[id]
            assert said == ([conditions[condition].expression] if condition else []), id


def test_a_subnetwork_that_is_named_is_granted_alone(complete: Made) -> None:
    on_projects = {(one["project"], one["role"]) for one in complete.of("google_project_iam_member").values()}
    on_projects = {(project, role.rsplit("/", 1)[1]) for project, role in on_projects}
    # Alpes has named none: its own may be used. Borba's host project has named one.
    assert ("alpes-production", "snapkeep.restore.subnetwork") in on_projects
    assert ("borba-network", "snapkeep.restore.subnetwork") not in on_projects
    bound = complete.of("google_compute_subnetwork_iam_member").values()
    assert {(one["project"], one["region"], one["subnetwork"]) for one in bound} == {
        ("borba-network", "southamerica-east1", "clinic"),
        ("alpes-production", "southamerica-east1", "snapkeep-restore-test-southamerica-east1"),
        ("alpes-production", "southamerica-west1", "snapkeep-restore-test-southamerica-west1"),
    }


def test_restored_instances_run_as_named_accounts_alone(complete: Made) -> None:
    may = {
        one["service_account_id"].rsplit("/", 1)[1]
        for _, _, id, one in granted(complete)
        if id == "snapkeep.restore.service_account"
    }
    assert may == {
        "app@alpes-production.iam.gserviceaccount.com", "clinic@borba-clinic.iam.gserviceaccount.com",
    }  # fmt: skip


def test_keys_are_compute_engines_alone(complete: Made) -> None:
    keys = complete.of("google_kms_crypto_key_iam_member").values()
    assert len(keys) == 4  # two keys, for the project of the disks and that of the snapshots
    for one in keys:
        assert re.fullmatch(r"serviceAccount:service-\d+@compute-system\.iam\.gserviceaccount\.com", one["member"])
        assert one["role"] == permissions.permissions().agents[0].role


# --- what is separated --------------------------------------------------------------------------------------------


def test_creation_cannot_delete_and_expiry_cannot_touch_a_disk(complete: Made) -> None:
    assert [one for one in held(complete, "create") if "delete" in one.lower()] == []
    assert [one for one in held(complete, "expire") if "disk" in one.lower()] == []
    assert [f for f in deployment().functions if "compute.snapshots.delete" in held(complete, f)] == ["expire"]


def test_only_restore_may_do_anything_with_instances_and_the_web_nothing_in_compute_engine(complete: Made) -> None:
    looks = {"compute.instances.get", "compute.instances.list"}
    for function in deployment().functions:
        acts = {one for one in held(complete, function) if one.startswith("compute.instances.")} - looks
        assert bool(acts) == (function == "restore"), function
    assert {one.split(".")[0] for one in held(complete, "web")} == {"datastore", "pubsub"}


@pytest.mark.parametrize("root", [MINIMAL, COMPLETE])
def test_no_key_is_made_and_nobody_is_let_change_who_may_do_what(root: str, applied: Apply) -> None:
    made = applied(root, GIVEN)
    assert [kind for kind in made.kinds if "service_account_key" in kind or kind.endswith("_iam_policy")] == []
    assert [one for one in made_roles(made).values() for p in one["permissions"] if "IamPolicy" in p or "*" in p] == []


def test_a_functions_account_has_no_role_but_these(complete: Made) -> None:
    """Nothing grants a predefined role to an account that a function works as."""
    functions = {
        f"serviceAccount:sk-{f.replace('_', '-')}@{OWN}.iam.gserviceaccount.com" for f in deployment().functions
    }
    for kind in complete.kinds:
        if "_iam_" not in kind or kind == "google_project_iam_custom_role":
            continue
        for address, one in complete.of(kind).items():
            members = set(one.get("members") or [one.get("member")])
            if members & functions:
                assert re.fullmatch(r"projects/[^/]+/roles/snapkeep\..+", one["role"]), address


def test_snapshots_are_deleted_by_expiry_alone_where_deletions_are_denied(complete: Made, applied: Apply) -> None:
    policies = complete.of("google_iam_deny_policy").values()
    assert {one["parent"].rsplit("%2F", 1)[1] for one in policies} == {OWN, "alpes-vault"}
    for policy in policies:
        (rule,) = [
            rule["deny_rule"][0]
            for rule in policy["rules"]
            if rule["deny_rule"][0]["denied_permissions"] == ["compute.googleapis.com/snapshots.delete"]
        ]
        assert rule["denied_principals"] == ["principalSet://goog/public:all"]
        assert rule["exception_principals"] == [
            f"principal://iam.googleapis.com/projects/-/serviceAccounts/sk-expire@{OWN}.iam.gserviceaccount.com"
        ]
        assert not rule.get("exception_permissions")
    assert applied(MINIMAL, GIVEN).of("google_iam_deny_policy") == {}


# --- what a tenant's project gets besides -------------------------------------------------------------------------


def test_the_network_of_restore_tests_is_one_that_restore_takes_for_isolated(complete: Made) -> None:
    one = scene.Restoring(restore_test=d.RestoreTest(every_days=30, network=scene.NETWORK))
    rules = complete.of("google_compute_firewall").values()
    assert len(rules) == 2
    for rule in rules:
        assert not rule.get("allow")
        ranges = rule["source_ranges"] if rule["direction"] == "INGRESS" else rule["destination_ranges"]
        one.cloud.add_firewall(
            project=scene.PROJECT, name=rule["name"], network=scene.NETWORK, direction=rule["direction"],
            priority=rule["priority"], protocol=rule["deny"][0]["protocol"], ranges=tuple(ranges),
            target_tags=tuple(rule.get("target_tags") or ()), disabled=bool(rule.get("disabled")),
        )  # fmt: skip
    assert one.finish(one.ask_test()).state == "completed"
    (network,) = complete.of("google_compute_network").values()
    assert (network["auto_create_subnetworks"], network["delete_default_routes_on_create"]) == (False, True)
    assert [s for s in complete.of("google_compute_subnetwork").values() if s["private_ip_google_access"]] == []


def test_disks_of_one_moment_are_under_one_consistency_group(complete: Made) -> None:
    (group,) = complete.of("google_compute_resource_policy").values()
    assert group["disk_consistency_group_policy"][0]["enabled"] is True
    members = complete.of("google_compute_disk_resource_policy_attachment").values()
    assert {(one["name"], one["zone"], one["disk"]) for one in members} == {
        (group["name"], "southamerica-east1-a", "database-boot"),
        (group["name"], "southamerica-east1-a", "database-data"),
    }


def test_it_says_what_the_fleet_file_needs_of_it(complete: Made) -> None:
    assert complete.outputs["fleet"]["borba"] == {"project": "borba-clinic", "vault_project": "borba-clinic"}
    alpes = complete.outputs["fleet"]["alpes"]
    assert set(alpes) == {"project", "vault_project", "kms_keys", "restore_test"}
    assert set(alpes["restore_test"]["subnetworks"]) == {"southamerica-east1", "southamerica-west1"}


# --- variables ----------------------------------------------------------------------------------------------------

ACCOUNTS: Final = {
    f: f"sk-{f.replace('_', '-')}@{OWN}.iam.gserviceaccount.com" for f in deployment().functions
}  # fmt: skip

WRONG: Final[dict[str, tuple[Any, str]]] = {
    "project": ("123456", "project: expected the id of a project"),
    "vault_project": ("My Vault", "vault_project: expected the id"),
    "network_project": ("x", "network_project: expected the id"),
    "service_accounts": ({"expire": "me@example.com"}, "service_accounts: expected addresses as sk-expire@"),
    "kms_keys": ({"us-east1": "projects/p/locations/eu/keyRings/r/cryptoKeys/k"}, "with the same region"),
    "subnetworks": (["main"], "subnetworks: expected projects/P/regions/R/subnetworks/N"),
    "run_as": (["app@another.iam.gserviceaccount.com"], "run_as: expected addresses of service accounts of `project`"),
    "restore_test": ({"ranges": {}}, "restore_test: expected ranges"),
    "consistency_groups": ({"g": {"region": "us-east1", "disks": ["data"]}}, "expected disks as zones/ZONE/disks/NAME"),
    "monitored_by": ("-", "monitored_by: expected the id"),
    "role_prefix": ("snap keep", "role_prefix: expected 3 to 20"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_variable_that_is_wrong_is_refused_with_what_is_expected(name: str, planned: Plan) -> None:
    value, expected = WRONG[name]
    with pytest.raises(TerraformRefused) as refused:
        planned(TENANT, {"project": "acme-prod", "service_accounts": ACCOUNTS} | {name: value})
    assert expected in re.sub(r"[\s│]+", " ", str(refused.value))


def test_a_function_without_an_account_is_named(planned: Plan) -> None:
    without = {name: address for name, address in ACCOUNTS.items() if name != "expire"}
    with pytest.raises(TerraformRefused, match="service_accounts: expected one for each of"):
        planned(TENANT, {"project": "acme-prod", "service_accounts": without})


def test_a_vault_that_another_tenants_module_grants_is_left_alone(planned: Plan) -> None:
    given = {
        "project": "acme-prod",
        "vault_project": "shared-vault",
        "service_accounts": ACCOUNTS,
        "grants_vault": False,
    }
    made = planned(TENANT, {**given, "deny_deletions": True})
    assert {one["project"] for one in made.of("google_project_iam_custom_role").values()} == {"acme-prod"}
    assert made.of("google_iam_deny_policy") == {}


def test_the_readme_has_every_variable() -> None:
    declared = re.findall(r'^variable "(\w+)"', (ROOT / TENANT / "variables.tf").read_text(encoding="utf-8"), re.M)
    table = (ROOT / TENANT / "README.md").read_text(encoding="utf-8").partition("| variable |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.M)) == sorted(declared)
