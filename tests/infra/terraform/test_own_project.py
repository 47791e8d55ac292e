"""Snapkeep's own project, as Terraform makes it from the lists: functions, deliveries, ticks, documents, the door."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import pytest
import yaml
from tests.infra.terraform.running import ROOT, Apply, Made, Plan, Terraform, TerraformRefused

from snapkeep import documents as d
from snapkeep import fleet
from snapkeep.deployment import deployment
from snapkeep.indexes import Composite, Field, composites, fields

MODULE: Final = "infra/gcp"
MINIMAL: Final = "infra/gcp/examples/minimal"
COMPLETE: Final = "infra/gcp/examples/complete"
GIVEN: Final = {
    "project": "acme-snapkeep",
    "region": "southamerica-east1",
    "release": "releases/functions-0123456789ab.zip",
}
PEOPLE: Final = {"ana@example.com": "admin", "bruno@example.com": "viewer"}

DECLARED: Final = deployment()
DELIVERED: Final = {name: one for name, one in DECLARED.functions.items() if one.topic}
ANSWERING: Final = set(DECLARED.functions) - set(DELIVERED)
PUBSUB: Final = "serviceAccount:service-{}@gcp-sa-pubsub.iam.gserviceaccount.com"

Resources = Mapping[str, dict[str, Any]]


@pytest.fixture(scope="module")
def minimal(applied: Apply) -> Made:
    return applied(MINIMAL, GIVEN | {"people": PEOPLE})


@pytest.fixture(scope="module")
def complete(applied: Apply) -> Made:
    return applied(COMPLETE, GIVEN)


def by_key(resources: Resources, module: str = "module.snapkeep.") -> dict[str, dict[str, Any]]:
    """Resources of the module with `for_each`, by its key."""
    return {
        address.partition('["')[2].removesuffix('"]'): values
        for address, values in resources.items()
        if address.startswith(module)
    }


def name(function: str) -> str:
    return f"snapkeep-{function.replace('_', '-')}"


def env(function: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = function["service_config"][0]["environment_variables"]
    return found


# --- functions ----------------------------------------------------------------------------------------------------


def test_every_function_is_deployed_as_it_is_declared(minimal: Made) -> None:
    functions = by_key(minimal.of("google_cloudfunctions2_function"))
    assert set(functions) == set(DECLARED.functions)
    for key, made in functions.items():
        declared, config, build = DECLARED.functions[key], made["service_config"][0], made["build_config"][0]
        assert made["name"] == name(key)
        assert build["entry_point"] == declared.entry_point
        assert build["source"][0]["storage_source"][0]["object"] == GIVEN["release"]
        assert build["source"][0]["storage_source"][0]["bucket"] == "acme-snapkeep-snapkeep"
        assert config["available_memory"] == f"{declared.memory_mb}Mi"
        assert config["timeout_seconds"] == declared.timeout_s
        assert config["max_instance_count"] == declared.max_instances
        assert not made.get("event_trigger")
        assert {key: env(made)[key] for key in ("SNAPKEEP_PROJECT", "SNAPKEEP_DATABASE")} == {
            "SNAPKEEP_PROJECT": "acme-snapkeep",
            "SNAPKEEP_DATABASE": "(default)",
        }


def test_every_function_works_as_an_account_of_its_own(minimal: Made) -> None:
    functions = by_key(minimal.of("google_cloudfunctions2_function"))
    accounts = {key: one["service_config"][0]["service_account_email"] for key, one in functions.items()}
    assert len(set(accounts.values())) == len(DECLARED.functions)
    made = by_key(minimal.of("google_service_account"))
    assert {key: made[key]["account_id"] for key in accounts} == {
        key: f"sk-{key.replace('_', '-')}" for key in DECLARED.functions
    }
    assert accounts == {key: made[key]["email"] for key in accounts}


def test_without_a_domain_nothing_is_reached_from_outside(minimal: Made) -> None:
    for function in by_key(minimal.of("google_cloudfunctions2_function")).values():
        assert function["service_config"][0]["ingress_settings"] == "ALLOW_INTERNAL_ONLY"
    assert minimal.of("google_compute_global_forwarding_rule") == {}
    assert minimal.of("google_compute_global_address") == {}
    assert minimal.outputs["snapkeep"]["web_address"] is None


@pytest.mark.parametrize("root", [MINIMAL, COMPLETE])
def test_nothing_is_public(root: str, minimal: Made, complete: Made) -> None:
    made = json.dumps((minimal if root == MINIMAL else complete).json["values"])
    assert "allUsers" not in made
    assert "allAuthenticatedUsers" not in made
    assert "ALLOW_ALL" not in made


def test_a_delivered_function_lets_pubsubs_identity_in_alone(minimal: Made) -> None:
    bindings = minimal.of("google_cloud_run_v2_service_iam_binding")
    (push,) = [one["email"] for address, one in minimal.of("google_service_account").items() if ".push" in address]
    assert {one["name"] for one in bindings.values()} == {name(function) for function in DELIVERED}
    for one in bindings.values():
        assert (one["role"], one["members"]) == ("roles/run.invoker", [f"serviceAccount:{push}"])


# --- messages -----------------------------------------------------------------------------------------------------


def test_there_is_a_topic_for_each_function_and_for_what_others_read(minimal: Made) -> None:
    topics = by_key(minimal.of("google_pubsub_topic"))
    assert set(topics) == {one.topic for one in DELIVERED.values()} | set(DECLARED.topics_out)
    for topic in topics.values():
        assert topic["message_storage_policy"][0]["allowed_persistence_regions"] == [GIVEN["region"]]


def test_each_function_with_a_topic_is_pushed_to_and_told_its_topic_by_the_path(minimal: Made) -> None:
    functions = by_key(minimal.of("google_cloudfunctions2_function"))
    deliveries = _deliveries(minimal)
    assert set(deliveries) == set(DELIVERED)
    for key, one in deliveries.items():
        uri = functions[key]["service_config"][0]["uri"]
        (push,) = one["push_config"]
        assert one["name"] == DECLARED.functions[key].topic
        assert push["push_endpoint"] == f"{uri}/projects/acme-snapkeep/topics/{one['name']}"
        assert push["oidc_token"][0]["audience"] == uri
        assert push["oidc_token"][0]["service_account_email"].startswith("sk-push@")
        assert one["ack_deadline_seconds"] > DECLARED.functions[key].timeout_s
        assert one["retry_policy"] == [{"minimum_backoff": "10s", "maximum_backoff": "600s"}]
        assert one["message_retention_duration"] == f"{DECLARED.subscription.retention_days * 86400}s"


def test_no_subscription_is_deleted_for_lack_of_work(minimal: Made) -> None:
    for one in minimal.of("google_pubsub_subscription").values():
        assert one["expiration_policy"] == [{"ttl": ""}]


def test_what_cannot_be_delivered_ends_among_the_dead_letters_and_nowhere_else(minimal: Made) -> None:
    last = DECLARED.subscription.dead_letter_topic
    deliveries = _deliveries(minimal)
    for key, one in deliveries.items():
        if DECLARED.functions[key].topic == last:
            assert not one["dead_letter_policy"]
        else:
            (policy,) = one["dead_letter_policy"]
            assert policy["dead_letter_topic"].endswith(f"/topics/{last}")
            assert policy["max_delivery_attempts"] == DECLARED.subscription.max_delivery_attempts


def test_pubsub_may_move_dead_letters_from_each_subscription(minimal: Made) -> None:
    last = DECLARED.subscription.dead_letter_topic
    agent = PUBSUB.format(_number(minimal))
    publishers = [
        one for one in minimal.of("google_pubsub_topic_iam_member").values() if one["role"] == "roles/pubsub.publisher"
    ]
    assert [(one["topic"], one["member"]) for one in publishers] == [(last, agent)]
    subscribers = minimal.of("google_pubsub_subscription_iam_member").values()
    assert {(one["subscription"], one["role"], one["member"]) for one in subscribers} == {
        (one.topic, "roles/pubsub.subscriber", agent) for one in DELIVERED.values() if one.topic != last
    }


def test_events_wait_for_whoever_reads_them(minimal: Made) -> None:
    waiting = {one["name"]: one for address, one in _subscriptions(minimal).items() if ".out[" in address}
    assert set(waiting) == set(DECLARED.topics_out)
    for one in waiting.values():
        assert not one["push_config"]
        assert one["message_retention_duration"] == f"{31 * 86400}s"


def test_exactly_the_scheduled_functions_are_ticked_by_utc(minimal: Made) -> None:
    ticks = by_key(minimal.of("google_cloud_scheduler_job"))
    assert {key: one["schedule"] for key, one in ticks.items()} == {
        key: one.schedule for key, one in DECLARED.functions.items() if one.schedule
    }
    for key, one in ticks.items():
        assert one["time_zone"] == "Etc/UTC"
        assert one["pubsub_target"][0]["topic_name"].endswith(f"/topics/{DECLARED.functions[key].topic}")
        assert json.loads(base64.b64decode(one["pubsub_target"][0]["data"])) == {"schema": 1, "type": "tick"}
        assert one["retry_config"][0]["retry_count"] > 0


def _subscriptions(made: Made) -> Resources:
    return made.of("google_pubsub_subscription")


def _deliveries(made: Made) -> dict[str, dict[str, Any]]:
    return by_key({address: one for address, one in _subscriptions(made).items() if ".delivery[" in address})


def _number(made: Made) -> str:
    found = json.dumps(made.json).partition("@gcp-sa-pubsub")[0].rpartition("service-")[2]
    assert found
    return found


# --- documents ----------------------------------------------------------------------------------------------------


def test_the_documents_are_protected_and_backed_up(minimal: Made) -> None:
    (database,) = minimal.of("google_firestore_database").values()
    assert database["type"] == "FIRESTORE_NATIVE"
    assert database["location_id"] == GIVEN["region"]
    assert database["delete_protection_state"] == "DELETE_PROTECTION_ENABLED"
    assert database["point_in_time_recovery_enablement"] == "POINT_IN_TIME_RECOVERY_ENABLED"
    assert database["deletion_policy"] == "ABANDON"
    (backup,) = minimal.of("google_firestore_backup_schedule").values()
    assert len(backup["daily_recurrence"]) == 1


def test_documents_that_nobody_needs_may_go_with_the_rest(planned: Plan) -> None:
    made = planned(MODULE, GIVEN | {"deletion_protection": False, "firestore_location": "nam5"})
    (database,) = made.of("google_firestore_database").values()
    assert (database["delete_protection_state"], database["deletion_policy"], database["location_id"]) == (
        "DELETE_PROTECTION_DISABLED",
        "DELETE",
        "nam5",
    )


def test_the_composite_indexes_are_those_that_the_queries_need(minimal: Made) -> None:
    made = {
        Composite(
            one["collection"],
            one["query_scope"],
            tuple((field["field_path"], field["order"]) for field in one["fields"]),
        )
        for one in minimal.of("google_firestore_index").values()
    }
    assert made == set(composites())


def test_the_fields_are_indexed_or_exempt_as_the_queries_need(minimal: Made) -> None:
    made = {
        Field(
            one["collection"],
            one["field"],
            tuple(sorted((index["order"], index["query_scope"]) for index in one["index_config"][0]["indexes"])),
            ttl=bool(one["ttl_config"]),
        )
        for one in minimal.of("google_firestore_field").values()
    }
    assert made == set(fields())


def test_people_stand_in_the_documents_as_the_functions_read_them(minimal: Made) -> None:
    made = by_key(minimal.of("google_firestore_document"))
    assert {email: one["document_id"] for email, one in made.items()} == {email: email for email in PEOPLE}
    for email, one in made.items():
        assert one["collection"] == "principals"
        read = d.from_data(d.Principal, {key: _plain(value) for key, value in json.loads(one["fields"]).items()})
        assert (read.role, read.tenant, read.schema) == (PEOPLE[email], None, d.SCHEMA)


def _plain(value: dict[str, Any]) -> Any:
    """A value of Firestore's REST form as the client reads it."""
    ((kind, plain),) = value.items()
    read: dict[str, Callable[[Any], Any]] = {
        "integerValue": int,
        "stringValue": str,
        "timestampValue": datetime.fromisoformat,
        "nullValue": lambda _: None,
    }
    return read[kind](plain)


# --- the door -----------------------------------------------------------------------------------------------------


def test_people_come_in_through_identity_aware_proxy_alone(complete: Made) -> None:
    web = by_key(complete.of("google_cloudfunctions2_function"))["web"]
    assert web["service_config"][0]["ingress_settings"] == "ALLOW_INTERNAL_AND_GCLB"
    (backend,) = complete.of("google_compute_backend_service").values()
    (policy,) = complete.of("google_compute_security_policy").values()
    assert backend["iap"][0]["enabled"]
    assert backend["security_policy"] == policy["id"]
    audience = f"/projects/{_number(complete)}/global/backendServices/{int(backend['generated_id'])}"
    assert env(web)["SNAPKEEP_IAP_AUDIENCE"] == audience
    (group,) = complete.of("google_compute_region_network_endpoint_group").values()
    assert group["cloud_run"][0]["service"] == name("web")
    callers = {one["name"]: one["members"] for one in complete.of("google_cloud_run_v2_service_iam_binding").values()}
    assert callers[name("web")] == [f"serviceAccount:service-{_number(complete)}@gcp-sa-iap.iam.gserviceaccount.com"]
    assert {one["member"] for one in complete.of("google_iap_web_backend_service_iam_member").values()} == {
        "domain:example.com"
    }


def test_only_the_door_is_told_the_audience(complete: Made) -> None:
    functions = by_key(complete.of("google_cloudfunctions2_function"))
    assert {key for key, one in functions.items() if "SNAPKEEP_IAP_AUDIENCE" in env(one)} == ANSWERING


def test_port_80_does_nothing_but_send_to_tls(complete: Made) -> None:
    rules = {one["port_range"]: one for one in complete.of("google_compute_global_forwarding_rule").values()}
    assert set(rules) == {"443", "80"}
    maps = {one["name"]: one for one in complete.of("google_compute_url_map").values()}
    assert maps["snapkeep-door-plain"]["default_url_redirect"][0]["https_redirect"]
    assert not maps["snapkeep-door-plain"]["default_service"]
    (tls,) = complete.of("google_compute_ssl_policy").values()
    assert tls["min_tls_version"] == "TLS_1_2"


def test_only_function_restore_reaches_into_a_network(complete: Made) -> None:
    functions = by_key(complete.of("google_cloudfunctions2_function"))
    assert {key for key, one in functions.items() if one["service_config"][0]["vpc_connector"]} == {"restore"}
    assert functions["restore"]["service_config"][0]["vpc_connector_egress_settings"] == "PRIVATE_RANGES_ONLY"


@pytest.mark.parametrize("root", [MINIMAL, COMPLETE])
def test_everything_that_carries_labels_says_whose_it_is(root: str, minimal: Made, complete: Made) -> None:
    made = minimal if root == MINIMAL else complete
    for kind in ("google_cloudfunctions2_function", "google_pubsub_topic", "google_pubsub_subscription"):
        for address, one in made.of(kind).items():
            assert one["labels"]["app"] == "snapkeep", address


# --- what tenants' projects grant ---------------------------------------------------------------------------------


def test_what_a_tenants_module_says_is_taken_by_the_fleet_file(complete: Made) -> None:
    tenants = [
        {"id": tenant, "name": tenant.title(), "instances": {"label": "snapkeep=yes"}} | said
        for tenant, said in complete.outputs["fleet"].items()
    ]
    reading = fleet.parse({"fleet.yaml": yaml.safe_dump({"tenants": tenants}).encode()})
    assert reading.mistakes == ()
    (alpes,) = [one for one in tenants if one["id"] == "alpes"]
    assert alpes["vault_project"] == "alpes-vault"
    assert set(alpes["restore_test"]["subnetworks"]) == {"southamerica-east1", "southamerica-west1"}


# --- once more ----------------------------------------------------------------------------------------------------


# --- one deployment after the other --------------------------------------------------------------------------------

DEPLOYED: Final = GIVEN | {"people": PEOPLE}


@pytest.fixture(scope="module")
def deployed(terraform: Terraform) -> Made:
    """Really applied; the last test takes it away."""
    return terraform.apply(MINIMAL, DEPLOYED)


def test_what_is_applied_is_what_was_foreseen(deployed: Made, minimal: Made) -> None:
    assert deployed.of("google_pubsub_subscription") == minimal.of("google_pubsub_subscription")


def test_a_second_deployment_changes_nothing(deployed: Made, terraform: Terraform) -> None:
    assert terraform.changes(MINIMAL, DEPLOYED, DEPLOYED) == {}


def test_another_release_changes_the_functions_and_nothing_else(deployed: Made, terraform: Terraform) -> None:
    changes = terraform.changes(MINIMAL, DEPLOYED, DEPLOYED | {"release": "releases/functions-ba9876543210.zip"})
    assert changes == {
        f'module.snapkeep.google_cloudfunctions2_function.function["{name}"]': ["update"] for name in DECLARED.functions
    }


def test_a_role_that_changes_is_written_anew_for_that_person_alone(deployed: Made, terraform: Terraform) -> None:
    after = PEOPLE | {"bruno@example.com": "operator"}
    assert terraform.changes(MINIMAL, DEPLOYED, DEPLOYED | {"people": after}) == {
        'module.snapkeep.google_firestore_document.principal["bruno@example.com"]': ["delete", "create"],
        'module.snapkeep.terraform_data.role["bruno@example.com"]': ["update"],
    }


def test_nothing_stays_when_it_goes_away(deployed: Made, terraform: Terraform) -> None:
    assert deployed.kinds
    # What Google keeps all the same (the database is abandoned) is its provider's to do: the stand-in keeps nothing.
    assert terraform.destroy(MINIMAL, DEPLOYED).kinds == set()


# --- variables ----------------------------------------------------------------------------------------------------


def test_the_readme_has_every_variable() -> None:
    declared = re.findall(r'^variable "(\w+)"', (ROOT / MODULE / "variables.tf").read_text(encoding="utf-8"), re.M)
    table = (ROOT / MODULE / "README.md").read_text(encoding="utf-8").partition("| variable |")[2].partition("\n\n")[0]
    told = [
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.partition("|")[2].partition("|")[0])
    ]
    assert sorted(told) == sorted(declared)


PIPELINE: Final = {
    "repository": "projects/p/locations/r/connections/c/repositories/snapkeep",
    "api": "https://snapkeep.example.com",
    "iap_client": "1-a.apps.googleusercontent.com",
    "canary": {"tenant": "canary", "instance": "canary-1"},
}

BAD: Final[tuple[Mapping[str, tuple[Any, str]], ...]] = (
    {
        "project": ("1234567890", "expected the id of a project"),
        "region": ("southamerica-east1-a", "expected a region"),
        "release": ("functions.zip", "expected releases/functions-HASH.zip"),
        "bucket": ("gs://acme", "without gs://"),
        "firestore_location": ("brazil", "firestore_location: expected a region"),
        "database": ("Snapkeep!", "database: expected (default)"),
        "people": ({"ana@example.com": "owner"}, "expected each role to be one of viewer, operator, admin, auditor"),
        "domain": ("https://snapkeep.example.com/", "domain: expected a full domain name"),
        "iap_members": (["allUsers"], "never allUsers or allAuthenticatedUsers"),
        "iap_oauth": ({"client_id": "abc", "secret": "name"}, "to end in .apps.googleusercontent.com"),
        "door_requests_per_minute": (1, "expected 60 to 1000000, or null"),
        "network": ({"network": "hub", "subnetwork": "projects/p/regions/r/subnetworks/s"}, "expected network as"),
        "notification_channels": (["ops"], "expected projects/PROJECT/notificationChannels/NUMBER"),
        "alert_emails": (["ops"], "alert_emails: expected email addresses"),
        "quota_alert_ratio": (80, "expected more than 0 and less than 1"),
        "labels": ({"Cost": "x"}, "labels: expected keys and values"),
        "pipeline": (PIPELINE | {"repository": "git@example.com:snapkeep"}, "pipeline: expected repository as"),
    },
    {
        "pipeline": (PIPELINE | {"branch": "^main$"}, "expected branch to be a branch's name"),
        "people": ({"Ana": "admin"}, "expected email addresses in small letters"),
        "iap_oauth": (
            {"client_id": "1-a.apps.googleusercontent.com", "secret": "projects/p/secrets/s"},
            "to be the name of a secret",
        ),
        "network": (
            {"network": "projects/p/global/networks/hub", "subnetwork": "probe"},
            "expected subnetwork as projects/PROJECT/regions/REGION/subnetworks/NAME",
        ),
    },
)


@pytest.mark.parametrize("bad", BAD, ids=["each", "in another way"])
def test_a_variable_that_is_wrong_is_refused_with_what_is_expected(
    bad: Mapping[str, tuple[Any, str]], planned: Plan
) -> None:
    with pytest.raises(TerraformRefused) as refused:
        planned(MODULE, GIVEN | {variable: value for variable, (value, _) in bad.items()})
    said = " ".join(str(refused.value).replace("│", " ").split())  # Terraform breaks its lines
    for variable, (_, expected) in bad.items():
        assert expected in said, variable


def test_a_subnetwork_of_another_region_is_refused(planned: Plan) -> None:
    elsewhere = {
        "network": "projects/p-hub/global/networks/hub",
        "subnetwork": "projects/p-hub/regions/us-east1/subnetworks/probe",
    }
    with pytest.raises(TerraformRefused, match=r"has\s+to\s+be\s+in\s+southamerica-east1"):
        planned(MODULE, GIVEN | {"network": elsewhere})


@pytest.mark.parametrize("root", [MINIMAL, COMPLETE])
def test_what_there_is_of_anything_is_known_before_google_is_asked(root: str, planned: Plan) -> None:
    """A `for_each` over what only Google knows would be refused on an empty project, and only there."""
    assert planned(root, GIVEN).kinds


# --- in which order -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_order(terraform: Terraform) -> Made:
    """Really applied: a plan does not say what waits for what."""
    return terraform.apply(COMPLETE, GIVEN)


def test_nothing_is_asked_of_an_api_that_is_not_on_yet(in_order: Made) -> None:
    own = "module.snapkeep.google_project_service.api"
    for address, after in in_order.after.items():
        _, module, kind = address.split(".")[:3]
        if kind in ("google_project_service", "terraform_data"):
            continue
        if module == "snapkeep" or kind == "google_monitoring_monitored_project":  # of Snapkeep's metrics scope
            assert own in after, address
        elif kind.startswith(("google_compute_", "google_kms_")) and "restored" not in address:  # not the tenant's own
            assert f"module.{module}.google_project_service.compute" in after, address


def test_an_account_is_made_before_anything_names_it(in_order: Made) -> None:
    """A policy that names one that is not there is refused, also where it only exempts it from a log."""
    made = {one["email"]: address.partition("[")[0] for address, one in in_order.of("google_service_account").items()}
    named = 0
    for kind in in_order.kinds - {"google_service_account", "google_monitoring_alert_policy"}:  # whose filters are text
        for address, values in in_order.of(kind).items():
            for email in re.findall(r"[a-z-]+@acme-snapkeep\.iam\.gserviceaccount\.com", json.dumps(values)):
                named += 1
                assert made[email] in in_order.after[address], f"{address} names {email}"
    assert named > len(made)


def test_a_function_runs_when_its_rights_and_the_indexes_of_its_queries_are_there(in_order: Made) -> None:
    needed = {
        f"module.snapkeep.{one}"
        for one in (
            "google_project_iam_member.function",
            "google_pubsub_topic_iam_member.publisher",
            "google_firestore_index.composite",
            "google_firestore_field.field",
        )
    }
    for address in in_order.of("google_cloudfunctions2_function"):
        assert needed <= in_order.after[address], address
