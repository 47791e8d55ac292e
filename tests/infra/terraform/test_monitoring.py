"""Metrics, alerts and the dashboard: what infra/monitoring.yaml comes to, held to lines that the real code logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.infra.log_lines import of_a_bad_day
from tests.infra.terraform.running import Apply, Made
from tests.infra.test_contract_doc import code, commands, rows_with

from snapkeep import logged
from snapkeep.cli import root
from snapkeep.deployment import deployment
from snapkeep_local import schedule

ROOT: Final = Path(__file__).parents[3]
TABLE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "infra" / "monitoring.yaml").read_text(encoding="utf-8"))
RUNBOOK: Final = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
PROJECT: Final = "acme-snapkeep"
RATIO: Final = 0.75
CHANNEL: Final = f"projects/{PROJECT}/notificationChannels/1"

NAMES: Final = {name: f"snapkeep-{name.replace('_', '-')}" for name in deployment().functions}

GOOGLES: Final = {
    # Of https://cloud.google.com/monitoring/api/metrics_gcp, in the words of PromQL; with the labels that we use.
    "pubsub_googleapis_com:subscription_dead_letter_message_count": {"subscription_id"},
    "pubsub_googleapis_com:subscription_oldest_unacked_message_age": {"subscription_id"},
    "run_googleapis_com:request_count": {"service_name", "response_code_class"},
    "run_googleapis_com:request_latencies_bucket": {"service_name", "le"},
    "serviceruntime_googleapis_com:quota_allocation_usage": {"project_id", "location", "quota_metric", "service"},
    "serviceruntime_googleapis_com:quota_limit": {"project_id", "location", "quota_metric", "limit_name", "service"},
    "serviceruntime_googleapis_com:quota_exceeded": {"project_id", "location", "quota_metric", "limit_name", "service"},
    "serviceruntime_googleapis_com:api_request_count": {"project_id", "method", "service"},
    "firestore_googleapis_com:document_read_count": set(),
    "firestore_googleapis_com:document_write_count": set(),
}
LOG_METRIC_LATE_MIN: Final = 10
"""By which metrics made of the log may come late, as Google says."""

IN_VAULTS: Final = {"snapshots_deleted": {"project_id", "principal"}}
"""Metrics that infra/gcp/tenant makes in the projects that it is applied to."""

# --- what Terraform makes of it -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def watched(applied: Apply) -> Any:
    """The outputs of infra/gcp/watched, as Terraform evaluates them."""
    given = {
        "functions": {name: {"schedule": one.schedule} for name, one in deployment().functions.items()},
        "names": NAMES,
        "project": PROJECT,
        "quota_alert_ratio": RATIO,
    }
    return applied("infra/gcp/watched", given).outputs


@pytest.fixture(scope="session")
def made(applied: Apply) -> Made:
    """All of infra/gcp for a project whose operators want to be told."""
    given = {
        "project": PROJECT,
        "region": "southamerica-east1",
        "release": "releases/functions-0123456789ab.zip",
        "notification_channels": [CHANNEL],
        "alert_emails": ["ops@vendor.example"],
        "runbook_url": "https://vendor.example/runbook",
        "quota_alert_ratio": RATIO,
    }
    return applied("infra/gcp", given)


# --- log lines meet filters ---------------------------------------------------------------------------------------

Entry = dict[str, Any]
STRIPPED: Final = {"severity"}
"""What Cloud Logging takes out of the payload."""


def entry(line: Mapping[str, Any], function: str) -> Entry:
    """The log entry that Cloud Logging makes of a line that this function has written."""
    return {
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": NAMES[function]}},
        "jsonPayload": {name: value for name, value in line.items() if name not in STRIPPED},
        "severity": line["severity"],
    }


def at(entry: Entry, path: str) -> Any:
    """What stands at `jsonPayload.kind`; None where nothing does."""
    found: Any = entry
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


TERM: Final = re.compile(r'([\w.]+)=(?:"([^"]*)"|\(("[^"]*"(?: OR "[^"]*")*)\))')


def matches(filter: str, entry: Entry) -> bool:
    """The part of the Logging query language that our filters are written in: `a="x" AND b=("y" OR "z")`."""
    for term in filter.split(" AND "):
        found = TERM.fullmatch(term)
        assert found, f"{term!r} is of no form that this test can read"
        path, one, several = found.groups()
        if at(entry, path) not in (re.findall(r'"([^"]*)"', several) if several else [one]):
            return False
    return True


def counted(metric: Mapping[str, Any], entries: list[Entry]) -> list[Entry]:
    """The entries that a metric counts: those that match, with all its labels, and a number where it takes one."""
    fields = [*metric["labels"], *([metric["value"]] if metric["value"] else [])]
    return [
        one
        for one in entries
        if matches(metric["filter"], one)
        and all(at(one, f"jsonPayload.{field}") is not None for field in fields)
        and (metric["value"] is None or isinstance(at(one, f"jsonPayload.{metric['value']}"), int))
    ]


@lru_cache(maxsize=1)
def entries() -> list[Entry]:
    return [entry(line, str(line.get("function", "health"))) for line in of_a_bad_day()]


def renamed(entries: list[Entry], field: str) -> list[Entry]:
    """The same entries, had somebody renamed a field."""
    return [
        {**one, "jsonPayload": {f"{name}_" if name == field else name: v for name, v in one["jsonPayload"].items()}}
        for one in entries
    ]


@pytest.mark.parametrize("name", TABLE["metrics"])
def test_a_line_that_the_code_logs_is_counted_by_each_metric(name: str, watched: Any) -> None:
    assert counted(watched["metrics"][name], entries())


@pytest.mark.parametrize("name", TABLE["metrics"])
def test_a_metric_does_not_count_where_any_field_of_its_own_was_renamed(name: str, watched: Any) -> None:
    metric = watched["metrics"][name]
    used = {*re.findall(r"jsonPayload\.(\w+)", metric["filter"]), *metric["labels"], *filter(None, [metric["value"]])}
    assert used
    assert [field for field in sorted(used) if counted(metric, renamed(entries(), field))] == []


def test_no_metric_counts_what_another_program_of_the_project_logs(watched: Any) -> None:
    others = [{**one, "resource": {"type": "cloud_run_revision", "labels": {"service_name": "x"}}} for one in entries()]
    assert [name for name, metric in watched["metrics"].items() if counted(metric, others)] == []


@pytest.mark.parametrize("name", TABLE["metrics"])
def test_a_metric_is_of_fields_of_its_line_and_its_labels_have_few_values(name: str) -> None:
    metric = TABLE["metrics"][name]
    (kind,) = (kind for kind in logged.KINDS if kind.__struct_config__.tag == metric["line"])
    used = {*metric.get("labels", []), *([metric["value"]] if "value" in metric else [])}
    assert used <= set(kind.__struct_fields__)
    assert not used & {"subject", "oldest"}  # any number of values


# --- queries and alerts -------------------------------------------------------------------------------------------


def series(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that a query in PromQL selects, with the labels that it selects by."""
    for name, _, selected in re.findall(r"([a-z_]+:[a-z_]+)(\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", selected))


def grouped(query: str) -> set[str]:
    return {word.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for word in group.split(",")}


def known(watched: Any) -> dict[str, set[str]]:
    """Every metric that there is, in the words of PromQL, with its labels."""
    ours = "logging_googleapis_com:user_snapkeep_"
    found = {name: set(labels) for name, labels in GOOGLES.items()} | {ours + k: v for k, v in IN_VAULTS.items()}
    for name, metric in watched["metrics"].items():
        for part in ("_sum", "_count") if metric["value"] else ("",):
            found[f"{ours}{name}{part}"] = set(metric["labels"])
    return found


def queries(watched: Any) -> dict[str, str]:
    tiles = {
        f"tile {tile['widget']['title']}: {data['legendTemplate']}": data["timeSeriesQuery"]["prometheusQuery"]
        for tile in watched["dashboard"]["mosaicLayout"]["tiles"]
        for data in tile["widget"]["xyChart"]["dataSets"]
    }
    return tiles | {name: alert["query"] for name, alert in watched["alerts"].items() if alert["query"]}


def test_every_query_is_of_metrics_that_there_are_and_of_their_labels(watched: Any) -> None:
    metrics = known(watched)
    for name, query in queries(watched).items():
        used = list(series(query))
        assert used, name
        labels = set()
        for metric, selected in used:
            assert metric in metrics, f"{name}: there is no {metric}"
            labels |= metrics[metric]
            assert selected <= metrics[metric] | {"monitored_resource"}, name
            # Metrics of logs can be of any resource, and PromQL demands to know which.
            assert "monitored_resource" in selected or not metric.startswith("logging_"), name
        assert grouped(query) <= labels, name


def test_the_runbook_says_after_how_long_silence_is_told(watched: Any) -> None:
    (row,) = (line for line in RUNBOOK.splitlines() if line.startswith("| one job of Cloud Scheduler"))
    windows = [int(re.findall(r"\[(\d+)m\]", a["query"])[0]) for n, a in watched["alerts"].items() if "silent-" in n]
    assert f"`reconcile` {min(windows)} minutes" in row
    assert f"hourly ones {max(windows) // 60} h {max(windows) % 60} min" in row


def test_what_an_alert_looks_at_of_the_log_reaches_further_back_than_its_metrics_come_late(watched: Any) -> None:
    for name, alert in watched["alerts"].items():
        for minutes in re.findall(r"user_snapkeep_\w+\{[^}]*\}\[(\d+)m\]", alert["query"] or ""):
            assert int(minutes) >= 2 * LOG_METRIC_LATE_MIN, name


def test_messages_that_wait_are_told_of_each_function_and_not_of_what_others_read(watched: Any) -> None:
    """Where nobody reads the events, which nobody has to, an alert on them would never end."""
    told = {name: watched["alerts"][name]["query"] for name in ("backlog", "dead-letters-wait")}
    for topic in (*(one.topic for one in deployment().functions.values() if one.topic), *deployment().topics_out):
        telling = [
            name
            for name, query in told.items()
            if all(
                bool(re.fullmatch(pattern, topic)) == ("!" not in operator)
                for operator, pattern in re.findall(r'subscription_id(=~|!~|!=|=)"([^"]*)"', query)
            )
        ]
        assert len(telling) == (topic not in deployment().topics_out), topic


def test_every_metric_is_looked_at_by_an_alert_or_a_tile(watched: Any) -> None:
    told = " ".join(queries(watched).values())
    assert [name for name in watched["metrics"] if f"user_snapkeep_{name}" not in told] == []


def test_every_function_with_a_schedule_raises_an_alert_when_it_is_silent(watched: Any) -> None:
    for name, function in deployment().functions.items():
        alert = watched["alerts"].get(f"silent-{name.replace('_', '-')}")
        every = schedule.every_min(function.schedule)
        if every is None:
            assert alert is None
            continue
        assert f'function="{name}"' in alert["query"]
        (minutes,) = map(int, re.findall(r"\[(\d+)m\]", alert["query"]))
        # Longer than a tick that failed once takes to come again, shorter than what PromQL can look back at.
        assert (
            timedelta(minutes=2 * every + LOG_METRIC_LATE_MIN + 10) <= timedelta(minutes=minutes) < timedelta(hours=23)
        )
        # A metric that never had a value is silence too.
        assert "or vector(0)" in alert["query"]


@pytest.mark.parametrize("name", TABLE["alerts"])
def test_an_alert_of_an_event_is_of_one_that_goes_out(name: str, watched: Any) -> None:
    event = TABLE["alerts"][name].get("event")
    if event is None:
        assert watched["alerts"][name]["query"] or watched["alerts"][name]["log"]
        return
    assert event in {code(row["event"]) for row in rows_with("event")}
    assert f'"{event}"' in watched["metrics"]["alarms"]["filter"]


def test_every_alert_says_what_it_means_what_to_do_first_and_where_it_is_written(watched: Any) -> None:
    headings = {line.lstrip("# ") for line in RUNBOOK.splitlines() if line.startswith("##")}
    there_are = {name for name, _ in commands(root)}
    for name, alert in watched["alerts"].items():
        assert alert["runbook"] in headings, f"{name}: docs/runbook.md has no {alert['runbook']!r}"
        assert alert["severity"] in ("CRITICAL", "ERROR", "WARNING"), name
        assert len(alert["means"]) > 40, name
        words = alert["first"].split()
        assert words[0] == "gcloud" or {" ".join(words[:n]) for n in (2, 3)} & there_are, f"{name}: {alert['first']}"
        assert (alert["query"] is None) != (alert["log"] is None), name
        assert alert["for_s"] % 60 == 0, name


def test_what_the_quota_alert_is_raised_at_is_what_was_asked_for(watched: Any) -> None:
    assert watched["alerts"]["quota"]["query"].endswith(f"> {RATIO}")


def test_the_deployer_alone_may_change_roles_without_an_alert(watched: Any) -> None:
    for name in ("roles-changed", "documents-changed"):
        assert (
            f'NOT protoPayload.authenticationInfo.principalEmail="sk-deploy@{PROJECT}.iam.gserviceaccount.com"'
            in (watched["alerts"][name]["log"])
        )


def test_what_takes_many_documents_at_once_raises_an_alert_though_no_write_of_it_is_logged(watched: Any) -> None:
    (methods,) = re.findall(r'methodName=~"([^"]*)"', watched["alerts"]["documents-changed"]["log"])
    for method in ("BulkDeleteDocuments", "ImportDocuments", "DeleteDatabase", "UpdateDatabase", "DeleteBackup"):
        assert re.search(methods, f"google.firestore.admin.v1.FirestoreAdmin.{method}"), method
    # What Google and Terraform do every day raises none.
    for method in ("GetDatabase", "ListBackups", "CreateIndex", "UpdateField", "ExportDocuments"):
        assert not re.search(methods, f"google.firestore.admin.v1.FirestoreAdmin.{method}"), method


# --- what is created of it ----------------------------------------------------------------------------------------


def test_each_metric_is_created_with_its_filter_its_labels_and_its_value(watched: Any, made: Made) -> None:
    created = {one["name"]: one for one in made.of("google_logging_metric").values()}
    assert set(created) == {f"snapkeep/{name}" for name in watched["metrics"]}
    for name, metric in watched["metrics"].items():
        one = created[f"snapkeep/{name}"]
        (descriptor,) = one["metric_descriptor"]
        labels = {label["key"] for label in descriptor.get("labels") or []}
        assert one["filter"] == metric["filter"]
        assert one["label_extractors"] == {label: f"EXTRACT(jsonPayload.{label})" for label in labels}
        assert labels == set(metric["labels"])
        value = metric["value"]
        assert one.get("value_extractor") == (f"EXTRACT(jsonPayload.{value})" if value else None)
        assert descriptor["value_type"] == ("DISTRIBUTION" if value else "INT64")
        assert bool(one.get("bucket_options")) == bool(value)


def test_each_alert_is_created_with_one_condition_and_tells_everybody(watched: Any, made: Made) -> None:
    policies = {one["user_labels"]["alert"]: one for one in made.of("google_monitoring_alert_policy").values()}
    assert set(policies) == set(watched["alerts"])
    (email,) = made.of("google_monitoring_notification_channel").values()
    assert email["labels"] == {"email_address": "ops@vendor.example"}
    for name, alert in watched["alerts"].items():
        policy = policies[name]
        ((condition,), (strategy,)) = policy["conditions"], policy["alert_strategy"]
        (documentation,) = policy["documentation"]
        assert len(policy["notification_channels"]) == 2
        assert CHANNEL in policy["notification_channels"]
        assert policy["severity"] == alert["severity"]
        assert bool(strategy.get("notification_channel_strategy")) == (alert["severity"] == "CRITICAL")
        if alert["query"]:
            (promql,) = condition["condition_prometheus_query_language"]
            assert (promql["query"], promql["duration"]) == (alert["query"], f"{alert['for_s']}s")
            assert promql["disable_metric_validation"] is True
            assert not strategy.get("notification_rate_limit")  # which is refused but for log entries
        else:
            (matched,) = condition["condition_matched_log"]
            assert matched["filter"] == alert["log"]
            assert strategy["notification_rate_limit"]
        assert alert["first"] in documentation["content"]
        (link,) = documentation["links"]
        assert link["url"].removeprefix("https://vendor.example/runbook#") == anchor(alert["runbook"])


def anchor(heading: str) -> str:
    """What a heading is linked by, as GitHub and most others make it."""
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


def test_the_dashboard_is_created_as_it_was_made(watched: Any, made: Made) -> None:
    (one,) = made.of("google_monitoring_dashboard").values()
    assert json.loads(one["dashboard_json"]) == watched["dashboard"]


def test_writes_to_the_documents_are_logged_of_everybody_but_the_functions(made: Made) -> None:
    (one,) = made.of("google_project_iam_audit_config").values()
    ((config,), service) = one["audit_log_config"], one["service"]
    assert (service, config["log_type"]) == ("datastore.googleapis.com", "DATA_WRITE")
    accounts = {account["account_id"] for account in made.of("google_service_account").values()}
    exempted = {member.removeprefix("serviceAccount:").split("@")[0] for member in config["exempted_members"]}
    assert exempted == {f"sk-{name.replace('_', '-')}" for name in deployment().functions}
    assert exempted <= accounts


def test_in_a_vault_all_deletions_but_those_of_expire_are_counted(applied: Apply) -> None:
    accounts = {
        name: f"sk-{name.replace('_', '-')}@{PROJECT}.iam.gserviceaccount.com" for name in deployment().functions
    }
    of = applied(
        "infra/gcp/tenant", {"project": "acme-prod", "vault_project": "acme-vault", "service_accounts": accounts}
    )
    (one,) = of.of("google_logging_metric").values()
    assert (one["project"], one["name"]) == ("acme-vault", "snapkeep/snapshots_deleted")
    assert one["filter"].endswith(f'NOT protoPayload.authenticationInfo.principalEmail="{accounts["expire"]}"')
    assert {"project_id", *one["label_extractors"]} == IN_VAULTS["snapshots_deleted"]


# --- the dashboard ------------------------------------------------------------------------------------------------


def test_the_dashboards_tiles_fill_its_rows_and_none_lies_on_another(watched: Any) -> None:
    layout = watched["dashboard"]["mosaicLayout"]
    cells: set[tuple[int, int]] = set()
    for tile in layout["tiles"]:
        assert set(tile) == {"xPos", "yPos", "width", "height", "widget"}
        taken = {
            (x, y)
            for x in range(tile["xPos"], tile["xPos"] + tile["width"])
            for y in range(tile["yPos"], tile["yPos"] + tile["height"])
        }
        assert not taken & cells
        assert max(x for x, _ in taken) < layout["columns"]
        cells |= taken
    assert len(layout["tiles"]) == len(TABLE["dashboard"]) == 18


def test_every_tile_is_a_chart_as_the_api_documents_it(watched: Any) -> None:
    for tile in watched["dashboard"]["mosaicLayout"]["tiles"]:
        widget = tile["widget"]
        assert set(widget) == {"title", "xyChart"}
        assert set(widget["xyChart"]) == {"dataSets", "yAxis"}
        assert widget["xyChart"]["dataSets"]
        for data in widget["xyChart"]["dataSets"]:
            assert set(data) == {"plotType", "targetAxis", "legendTemplate", "timeSeriesQuery"}
            assert (data["plotType"], data["targetAxis"]) == ("LINE", "Y1")
            assert set(data["timeSeriesQuery"]) == {"prometheusQuery", "unitOverride"}
