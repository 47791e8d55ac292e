"""Google's control planes as far as `snapkeep doctor` reads them, over HTTP on this machine.

The shapes are those of Google's REST references, and of the clients that are generated for gcloud from its discovery
documents. What is answered is a deployment as it is declared; a test changes the answer to one path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.servers import running

from snapkeep.cli.doctor import declared
from snapkeep.doctor import checks
from snapkeep.doctor.checks import account, deployed_name
from snapkeep.gcp.platform import Plane

PROJECT: Final = "snapkeep-prod"
REGION: Final = "southamerica-east1"
NUMBER: Final = "421337"
AGENT: Final = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
TENANT, VAULT = "acme-prod", "acme-vault"
NETWORK: Final = f"projects/{TENANT}/global/networks/isolated"
KEY: Final = f"projects/keys/locations/{REGION}/keyRings/snapkeep/cryptoKeys/acme"
SERVICES: Final = (
    "cloudfunctions",
    "cloudkms",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "firestore",
    "iam",
    "monitoring",
    "pubsub",
    "serviceusage",
)
WANTED = declared()
DATABASE: Final = f"projects/{PROJECT}/databases/(default)"
PAGE: Final = 5
"""What this Google answers on one page, whatever is asked for."""


@dataclass
class Answer:
    """What is said instead; `body` is sent as it is if it is text."""

    status: int
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str, *reasons: str) -> Answer:
    """An error as Google's APIs write it."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason} for reason in reasons]
    return Answer(status, {"error": {"code": status, "message": message, "status": code, "details": details}})


@dataclass
class Google:
    """The answers by path, and the paths that were asked for."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    date: datetime | None = None  # what the answers' dates say; None: the time

    def plane(self, *, timeout_s: float = 5.0) -> Plane:
        return Plane(PROJECT, dict.fromkeys(SERVICES, self.url), timeout_s=timeout_s)

    def answer(self, path: str, parameters: dict[str, str]) -> Answer:
        known = self.answers.get(path)
        if isinstance(known, Answer):
            return known
        if known is None:
            return refusal(404, "NOT_FOUND", f"{path} was not found")
        lists = [name for name, value in known.items() if isinstance(value, list)] if isinstance(known, dict) else []
        if lists and parameters.get("pageSize"):
            (name,) = lists
            begin = int(parameters.get("pageToken", "0"))
            page = {name: known[name][begin : begin + PAGE]}
            more = begin + PAGE < len(known[name])
            return Answer(200, page | ({"nextPageToken": str(begin + PAGE)} if more else {}))
        return Answer(200, known)


@contextmanager
def serving() -> Iterator[Google]:
    """A Google in which all is as declared."""
    google = Google(answers=as_declared())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(None)

        def do_POST(self) -> None:
            self._say(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _say(self, body: Any) -> None:
            parts = urlsplit(self.path)
            parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
            google.asked.append((self.command, parts.path, parameters, body))
            answer = google.answer(parts.path, parameters)
            sent = (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()
            self.send_response_only(answer.status)
            self.send_header("Date", format_datetime(google.date or datetime.now(UTC), usegmt=True))
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as google.url:
        yield google


# --- a deployment as it is declared -------------------------------------------------------------------------------


def as_declared() -> dict[str, Any]:
    """The answer to every path that is read."""
    now = datetime.now(UTC)
    deployment = WANTED.deployment
    letters = deployment.subscription.dead_letter_topic
    in_region = f"projects/{PROJECT}/locations/{REGION}"
    roles = {role.id: sorted(role.permissions) for role in WANTED.roles if role.place in ("snapkeep", "topic")}
    functions = [_function(name) for name in deployment.functions]
    return {
        f"/v1/projects/{PROJECT}": {"projectId": PROJECT, "projectNumber": NUMBER, "lifecycleState": "ACTIVE"},
        f"/v1/projects/{PROJECT}/services": _services(PROJECT, sorted(checks.APIS)),
        f"/v2/{in_region}/functions": {"functions": functions},
        f"/v2/projects/{PROJECT}/locations/-/functions": {"functions": functions},
        f"/v1/projects/{PROJECT}/topics": {
            "topics": [{"name": f"projects/{PROJECT}/topics/{topic}"} for topic in sorted(WANTED.topics)]
        },
        f"/v1/projects/{PROJECT}/subscriptions": {
            "subscriptions": [_subscription(name, topic) for name, topic in WANTED.woken.items()]
        },
        f"/v1/{in_region}/jobs": {"jobs": [_job(name, now) for name in WANTED.ticking]},
        f"/v3/projects/{PROJECT}/timeSeries": {
            "timeSeries": [{"points": [{"value": {"int64Value": "0"}}, {"value": {"int64Value": "7"}}]}]
        },
        f"/v1/{DATABASE}": {
            "name": DATABASE,
            "type": "FIRESTORE_NATIVE",
            "deleteProtectionState": "DELETE_PROTECTION_ENABLED",
            "pointInTimeRecoveryEnablement": "POINT_IN_TIME_RECOVERY_ENABLED",
        },
        f"/v1/{DATABASE}/collectionGroups/-/indexes": {"indexes": [_index(*one) for one in sorted(WANTED.composites)]},
        f"/v1/{DATABASE}/collectionGroups/-/fields": {"fields": [_field(*key) for key in sorted(WANTED.fields)]},
        f"/v1/{DATABASE}/documents/system": {
            "documents": [_document(f"system/tick-{name}", now, at={"timestampValue": _text(now)})
                          for name in WANTED.ticking]
        },
        f"/v1/{DATABASE}/documents:runQuery": [{"readTime": _text(now), "done": True}],
        f"/v1/{DATABASE}/documents/tenants": {"documents": [_tenant(now)]},
        f"/v1/{DATABASE}/documents/tenants/acme": _tenant(now),
        f"/v1/{DATABASE}/documents/tenants/acme/instances": {
            "documents": [_document("tenants/acme/instances/1", now, region={"stringValue": REGION})]
        },
        **{f"/v1/projects/{PROJECT}/roles/{id}": {"name": id, "includedPermissions": of} for id, of in roles.items()},
        f"/v1/projects/{PROJECT}:getIamPolicy": _policy(PROJECT, "snapkeep"),
        f"/v1/projects/{PROJECT}/topics/{letters}:getIamPolicy": _grant(checks.PUBLISHES),
        **{
            f"/v1/projects/{PROJECT}/subscriptions/{topic}:getIamPolicy": _grant(checks.TAKES)
            for topic in WANTED.woken.values()
            if topic != letters
        },
        **{f"/v1/projects/{PROJECT}/serviceAccounts/{_email(name)}/keys": {} for name in deployment.functions},
        **_tenant_project(TENANT, "instances"),
        **_tenant_project(VAULT, "vault"),
        f"/compute/v1/{NETWORK}": {"name": "isolated"},
        f"/v1/{KEY}": {"name": KEY, "purpose": "ENCRYPT_DECRYPT", "primary": {"state": "ENABLED"}},
    }  # fmt: skip


def _tenant_project(project: str, place: str) -> dict[str, Any]:
    snapshots = {"metric": "SNAPSHOTS", "limit": 1000.0, "usage": 3.0}
    disks = {"metric": "SSD_TOTAL_GB", "limit": 4096.0, "usage": 100.0}
    return {
        f"/v1/projects/{project}/services": _services(project, ["compute.googleapis.com"]),
        f"/v1/projects/{project}:getIamPolicy": _policy(project, place),
        **{
            f"/v1/projects/{project}/roles/{role.id}": {"includedPermissions": sorted(role.permissions)}
            for role in WANTED.roles
            if role.place == place
        },
        f"/compute/v1/projects/{project}": {"name": project, "quotas": [snapshots]},
        f"/compute/v1/projects/{project}/regions/{REGION}": {"name": REGION, "quotas": [disks]},
    }


def _services(project: str, names: list[str]) -> dict[str, Any]:
    return {"services": [{"name": f"projects/{project}/services/{name}", "state": "ENABLED"} for name in names]}


def _email(function: str) -> str:
    return f"{account(function)}@{PROJECT}.iam.gserviceaccount.com"


def _uri(function: str) -> str:
    return f"https://{deployed_name(function)}-abc-rj.a.run.app"


def _function(name: str) -> dict[str, Any]:
    return {
        "name": f"projects/{PROJECT}/locations/{REGION}/functions/{deployed_name(name)}",
        "state": "ACTIVE",
        "environment": "GEN_2",
        "buildConfig": {
            "runtime": "python311",
            "source": {"storageSource": {"bucket": "b", "object": "releases/functions-1.zip", "generation": "17"}},
        },
        "serviceConfig": {
            "uri": _uri(name),
            "serviceAccountEmail": _email(name),
            "ingressSettings": "ALLOW_INTERNAL_ONLY" if name in WANTED.woken else "ALLOW_INTERNAL_AND_GCLB",
        },
    }


def _subscription(function: str, topic: str) -> dict[str, Any]:
    delivery = WANTED.deployment.subscription
    letters = f"projects/{PROJECT}/topics/{delivery.dead_letter_topic}"
    dying = {"deadLetterTopic": letters, "maxDeliveryAttempts": delivery.max_delivery_attempts}
    return {
        "name": f"projects/{PROJECT}/subscriptions/{topic}",
        "topic": f"projects/{PROJECT}/topics/{topic}",
        "pushConfig": {
            "pushEndpoint": f"{_uri(function)}/projects/{PROJECT}/topics/{topic}",
            "oidcToken": {
                "serviceAccountEmail": f"{checks.PUSHES}@{PROJECT}.iam.gserviceaccount.com",
                "audience": _uri(function),
            },
        },
        "ackDeadlineSeconds": delivery.ack_deadline_s,
        "messageRetentionDuration": f"{delivery.retention_days * 86400}s",
        "expirationPolicy": {},
        "retryPolicy": {"minimumBackoff": f"{delivery.retry_min_s}s", "maximumBackoff": f"{delivery.retry_max_s}s"},
        "state": "ACTIVE",
    } | ({} if topic == delivery.dead_letter_topic else {"deadLetterPolicy": dying})


def _job(function: str, now: datetime) -> dict[str, Any]:
    return {
        "name": f"projects/{PROJECT}/locations/{REGION}/jobs/{deployed_name(function)}",
        "pubsubTarget": {"topicName": f"projects/{PROJECT}/topics/{WANTED.woken[function]}", "data": "e30="},
        "schedule": WANTED.ticking[function],
        "timeZone": "Etc/UTC",
        "state": "ENABLED",
        "status": {},
        "userUpdateTime": _text(now - timedelta(days=3)),
        "lastAttemptTime": _text(now),
    }


def _index(collection: str, scope: str, columns: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    fields = [*columns, ("__name__", columns[-1][1])]
    return {
        "name": f"{DATABASE}/collectionGroups/{collection}/indexes/C1",
        "queryScope": scope,
        "fields": [{"fieldPath": name, "order": order} for name, order in fields],
        "state": "READY",
    }


def _field(collection: str, name: str) -> dict[str, Any]:
    wanted = WANTED.fields[collection, name]
    indexes = [
        {"queryScope": scope, "fields": [{"fieldPath": name, "order": order}], "state": "READY"}
        for order, scope in sorted(wanted.indexes)
    ]
    return {
        "name": f"{DATABASE}/collectionGroups/{collection}/fields/{name}",
        "indexConfig": {"indexes": indexes} if indexes else {},
    } | ({"ttlConfig": {"state": "ACTIVE"}} if wanted.expires else {})


def _document(path: str, now: datetime, **fields: Any) -> dict[str, Any]:
    times = {"createTime": _text(now), "updateTime": _text(now)}
    return {"name": f"{DATABASE}/documents/{path}", "fields": fields} | times


def _tenant(now: datetime) -> dict[str, Any]:
    return _document(
        "tenants/acme",
        now,
        id={"stringValue": "acme"},
        schema={"integerValue": "1"},
        held={"booleanValue": False},
        recovery={"nullValue": None},
        unmatched={"arrayValue": {}},
        project={"stringValue": TENANT},
        vault_project={"stringValue": VAULT},
        kms_keys={"mapValue": {"fields": {REGION: {"stringValue": KEY}}}},
        restore_test={
            "mapValue": {"fields": {"every_days": {"integerValue": "30"}, "network": {"stringValue": NETWORK}}}
        },
    )


def _policy(project: str, place: str) -> dict[str, Any]:
    bindings = [
        {"role": f"projects/{project}/roles/{role.id}", "members": [f"serviceAccount:{_email(role.function)}"]}
        | ({"condition": {"title": "names", "expression": "true"}} if role.conditional else {})
        for role in WANTED.roles
        if role.place == place
    ]
    return {"version": 3, "bindings": [*bindings, {"role": "roles/owner", "members": ["user:ann@vendor.example"]}]}


def _grant(role: str) -> dict[str, Any]:
    return {"version": 1, "bindings": [{"role": role, "members": [AGENT]}]}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
