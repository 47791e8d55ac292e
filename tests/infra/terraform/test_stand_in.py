"""Terraform with the stand-in provider refuses what Google's would, and knows what follows from what."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest
from tests.infra.terraform.running import EXAMPLE, Apply, Checked, Plan, StandIn, Terraform, TerraformRefused

PROJECT: Final = {"project": "acme-snapkeep"}


def test_what_was_held_to_the_schema_is_counted(terraform: Terraform) -> None:
    # Four resources and a data source; for_each counts once. Arguments: account_id; name, labels; name, location,
    # service_account_email; name, topic, push_endpoint, service_account_email, minimum_backoff. Blocks: one, and three.
    assert terraform.validate("example") == ([], Checked(resources=5, arguments=11, blocks=4))


def test_a_plan_knows_what_was_given_and_not_what_google_fills_in(planned: Plan) -> None:
    plan = planned("example", PROJECT)
    topic = plan.of("google_pubsub_topic")['google_pubsub_topic.this["plan"]']
    assert (topic["name"], topic["project"], topic["labels"]) == ("plan", "acme-snapkeep", {"number": "123456789012"})
    assert "id" not in topic
    assert plan.outputs == {"project": "acme-snapkeep"}


def test_an_account_is_known_by_its_address_before_it_is_made(planned: Plan) -> None:
    [push] = planned("example", PROJECT).of("google_service_account").values()
    assert push["member"] == "serviceAccount:sk-push@acme-snapkeep.iam.gserviceaccount.com"


def test_what_google_fills_in_is_made_up_by_apply_and_handed_on(applied: Apply) -> None:
    made = applied("example", PROJECT)
    subscription = made.of("google_pubsub_subscription")['google_pubsub_subscription.this["create"]']
    assert subscription["topic"] == "projects/acme-snapkeep/topics/create"
    assert subscription["push_config"][0]["push_endpoint"] == (
        "https://snapkeep-plan-abcdefghij-ew.a.run.app/projects/acme-snapkeep/topics/create"
    )
    assert len(made.of("google_pubsub_subscription")) == 2


def test_what_was_applied_is_not_planned_again_and_goes_away_again(terraform: Terraform) -> None:
    assert len(terraform.apply("example", PROJECT).of("google_pubsub_topic")) == 2
    assert terraform.changes("example", PROJECT, PROJECT) == {}
    assert terraform.changes("example", PROJECT, PROJECT | {"topics": ["plan", "expire"]}) != {}
    assert terraform.destroy("example", PROJECT).kinds == set()


def test_a_variable_that_is_not_given_is_refused(planned: Plan) -> None:
    with pytest.raises(TerraformRefused, match="No value for required variable"):
        planned("example", {})


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        pytest.param("labels =", "lables =", 'An argument named "lables" is not expected here', id="misspelt"),
        pytest.param('account_id = "sk-push"', "", 'The argument "account_id" is required', id="missing"),
        pytest.param("oidc_token {", "oidc {", 'Blocks of type "oidc" are not expected here', id="no-such-block"),
        pytest.param(
            '    minimum_backoff = "10s"',
            '    push_endpoint = "https://a"',
            'An argument named "push_endpoint" is not expected here',
            id="misplaced",
        ),
        pytest.param(
            "  retry_policy {", "  retry_policy {}\n  retry_policy {", "Too many retry_policy blocks", id="one-too-many"
        ),
        pytest.param(
            'resource "google_service_account"',
            'resource "google_service_acount"',
            'does not support resource type "google_service_acount"',
            id="unknown-resource",
        ),
        pytest.param(
            'data "google_project" "own" {}',
            'data "google_projekt" "own" {}',
            'does not support data source "google_projekt"',
            id="unknown-data-source",
        ),
        pytest.param(
            "google_service_account.push.email",
            "google_service_account.push.address",
            "Unsupported attribute",
            id="no-such-attribute",
        ),
        pytest.param(
            "service_config[0].uri", "service_config[0].endpoint", "Unsupported attribute", id="none-in-the-block"
        ),
        pytest.param("data.google_project.own.number", '["a"]', "Incorrect attribute value type", id="type"),
        pytest.param(
            "google_service_account.push.email", "google_service_account.pull.email", "undeclared", id="undeclared"
        ),
    ],
)
def test_a_mistake_is_refused_with_its_file_and_line(
    stand_in: StandIn, tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "tree" / "example")
    file = tmp_path / "tree" / "example" / "main.tf"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    refused, _ = Terraform(tmp_path / "tree", tmp_path / "data", stand_in.socket, stand_in.log).validate("example")
    assert [one for one in refused if said in one and one.startswith("main.tf:")], refused


def test_a_plan_refuses_what_only_follows_from_values(stand_in: StandIn, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "tree" / "example")
    file = tmp_path / "tree" / "example" / "main.tf"
    file.write_text(file.read_text().replace("topic = each.value.id", "topic = each.value.topic_id"))
    terraform = Terraform(tmp_path / "tree", tmp_path / "data", stand_in.socket, stand_in.log)
    # What each.value is depends on what it is made of: validate lets it pass.
    assert terraform.validate("example")[0] == []
    with pytest.raises(TerraformRefused, match="This object does not have an attribute named"):
        terraform.plan("example", PROJECT)
