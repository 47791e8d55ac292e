"""The triggers of Cloud Build and the account that deploys, as Terraform makes them: staging asks, production waits."""

from __future__ import annotations

from typing import Any, Final

import pytest
from tests.infra.terraform.running import Apply, Made, Plan, TerraformRefused

MODULE: Final = "infra/gcp"
GIVEN: Final = {
    "project": "acme-staging",
    "region": "southamerica-east1",
    "release": "releases/functions-0123456789ab.zip",
}
PIPELINE: Final[dict[str, Any]] = {
    "repository": "projects/acme-staging/locations/southamerica-east1/connections/git/repositories/snapkeep",
    "branch": "release-1.0",
    "api": "https://staging.example.com",
    "iap_client": "1-a.apps.googleusercontent.com",
    "canary": {"tenant": "canary", "instance": "canary-1"},
}
PEOPLE: Final = {
    "approvers": ["group:releases@example.com"],
    "promoters": ["serviceAccount:sk-deploy@acme-testing.iam.gserviceaccount.com"],
}


@pytest.fixture(scope="module")
def none(applied: Apply) -> Made:
    return applied(MODULE, GIVEN)


@pytest.fixture(scope="module")
def staging(applied: Apply) -> Made:
    return applied(MODULE, GIVEN | {"pipeline": PIPELINE | {"production": "acme-production"}})


@pytest.fixture(scope="module")
def production(applied: Apply) -> Made:
    return applied(MODULE, GIVEN | {"pipeline": PIPELINE | PEOPLE})


def the_trigger(made: Made) -> dict[str, Any]:
    (trigger,) = made.of("google_cloudbuild_trigger").values()
    return trigger


def roles_of_the_deployer(made: Made) -> set[str]:
    bindings = made.of("google_project_iam_member").items()
    return {one["role"] for address, one in bindings if "google_project_iam_member.deploy[" in address}


def test_without_a_repository_nothing_deploys(none: Made) -> None:
    assert none.of("google_cloudbuild_trigger") == {}
    assert [one for one in none.of("google_service_account").values() if one["account_id"] == "sk-deploy"] == []
    assert roles_of_the_deployer(none) == set()


def test_staging_tests_every_push_to_one_branch_and_asks_in_production(staging: Made) -> None:
    trigger = the_trigger(staging)
    assert (trigger["name"], trigger["filename"]) == ("snapkeep-staging", "cloudbuild.yaml")
    (event,) = trigger["repository_event_config"]
    assert event["repository"] == PIPELINE["repository"]
    assert [push["branch"] for push in event["push"]] == [r"^release-1\.0$"]
    assert trigger["substitutions"] == {
        "_REGION": "southamerica-east1",
        "_ROOT": "infra/gcp/examples/minimal",
        "_API": "https://staging.example.com",
        "_IAP_CLIENT": "1-a.apps.googleusercontent.com",
        "_CANARY_TENANT": "canary",
        "_CANARY_INSTANCE": "canary-1",
        "_PRODUCTION": "acme-production",
    }
    assert trigger["approval_config"] in ([], None)


def test_staging_that_names_itself_as_production_is_refused(planned: Plan) -> None:
    with pytest.raises(TerraformRefused, match=r"expected\s+production\s+to\s+be\s+another\s+project"):
        planned(MODULE, GIVEN | {"pipeline": PIPELINE | {"production": "acme-staging"}})


def test_production_waits_for_an_approval_and_is_started_by_nothing_of_itself(production: Made) -> None:
    trigger = the_trigger(production)
    assert trigger["name"] == "snapkeep-production"
    assert [one["approval_required"] for one in trigger["approval_config"]] == [True]
    assert [one["path"] for one in trigger["git_file_source"]] == ["cloudbuild-promote.yaml"]
    for event in ("repository_event_config", "github", "trigger_template", "pubsub_config", "webhook_config"):
        assert trigger[event] in ([], None), event
    assert "_RELEASE" in trigger["substitutions"]
    assert "_PRODUCTION" not in trigger["substitutions"]


def test_who_asks_for_a_release_can_neither_approve_it_nor_act_as_the_account_that_deploys(production: Made) -> None:
    held = [one for one in production.of("google_project_iam_member").values() if one["member"] in PEOPLE["promoters"]]
    custom = {one["role_id"]: one for one in production.of("google_project_iam_custom_role").values()}
    assert set(custom["snapkeep.promote"]["permissions"]) == {"cloudbuild.builds.create", "cloudbuild.builds.get"}
    assert len(held) == 1
    approving = [
        one["member"]
        for one in production.of("google_project_iam_member").values()
        if one["role"] == "roles/cloudbuild.builds.approver"
    ]
    assert approving == PEOPLE["approvers"]
    acting = production.of("google_service_account_iam_member").values()
    assert [one for one in acting if "sk-deploy" in str(one["service_account_id"])] == []


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_the_deployer_works_by_named_roles_alone_and_owns_no_project(
    stage: str, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(stage)
    roles = roles_of_the_deployer(made)
    assert len(roles) > 10
    assert roles.isdisjoint({"roles/owner", "roles/editor", "roles/storage.admin", "roles/compute.admin"})
    # What is there for the door, the network or a secret is given where there is one.
    assert not any(role.startswith(("roles/compute.", "roles/iap.", "roles/vpc", "roles/secret")) for role in roles)
    buckets = made.of("google_storage_bucket_iam_member").values()
    assert {one["bucket"] for one in buckets} == {"acme-staging-snapkeep"}
    assert the_trigger(made)["service_account"].endswith(
        "/serviceAccounts/sk-deploy@acme-staging.iam.gserviceaccount.com"
    )
