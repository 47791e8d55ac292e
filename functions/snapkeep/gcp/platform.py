"""Google's control planes as `snapkeep doctor` reads them: by plain REST, bounded, and nothing is ever changed.

Each read answers what is there, or why it cannot be told: with 403 also which role whoever asks lacks. Over plain http
(the emulators of a local cloud) no credentials are sent; over https the operator's Application Default Credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeVar

import google.auth
import msgspec
import requests
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from snapkeep.doctor.facts import (
    Binding,
    Columns,
    Database,
    Function,
    Indexed,
    Job,
    Known,
    Letters,
    Quota,
    Read,
    Subscription,
    Tick,
    Unread,
)

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 10.0
"""To connect, and again between two pieces of an answer."""

TRIES_AGAIN: Final = 2
"""After the first try of a call, on faults that may pass."""

PASSING: Final = (429, 500, 502, 503, 504)

PAGES_MAX: Final = 50
"""Of one list: what has more is not told."""

PAGE: Final = 100

SAID_CHARS_MAX: Final = 200
"""Of what Google says of a refusal."""

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

LETTERS_MAX: Final = 100
"""Dead letters that are counted."""

TENANTS_MAX: Final = 50
"""Whose projects are looked at in one run: each is a hundred calls at the most."""

DATABASE_MEND: Final = "set SNAPKEEP_DATABASE to the database of this deployment"

BACKLOG: Final = timedelta(minutes=15)
"""How far back Cloud Monitoring is asked: its counts come up to a few minutes late."""


class Untold(Exception):
    """Why something cannot be read, and what to do about it."""

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.unread = Unread(why, mend)


def read(call: Callable[[], T]) -> Read[T]:
    """What the call answers, or why it cannot be told. Google's sign-in errors rise: without it nothing can be read."""
    try:
        return Known(call())
    except Untold as reason:
        return reason.unread


class Plane:
    """The control planes of one project."""

    def __init__(
        self, project: str, roots: Mapping[str, str] | None = None, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        """`roots`: services (`pubsub`) that are elsewhere than at Google, by the URL that they are at."""
        self.project = project
        self._roots = dict(roots or {})
        self._timeout_s = timeout_s

    # --- one call -----------------------------------------------------------------------------------------------

    @cached_property
    def _anonymous(self) -> requests.Session:
        session = _patient(requests.Session())
        session.trust_env = False  # an emulator of this machine is not behind the environment's proxy
        return session

    @cached_property
    def _signed(self) -> requests.Session:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        return _patient(AuthorizedSession(credentials))  # type: ignore[no-untyped-call]  # google-auth types none

    def _answer(self, service: str, path: str, role: str, project: str, **asked: Any) -> requests.Response | None:
        """The answer to one call; None where Google says that there is no such thing. Raises Untold."""
        root = self._roots.get(service, f"https://{service}.googleapis.com")
        session = self._anonymous if root.startswith("http:") else self._signed
        method = "POST" if "json" in asked else "GET"
        try:
            answer = session.request(method, f"{root}/{path}", timeout=self._timeout_s, allow_redirects=False, **asked)
        except requests.RequestException as fault:
            raise Untold(f"{path}: {_kind(fault)}: {_brief(fault)}", "try again; check your way to " + root) from None
        if answer.status_code == requests.codes.ok:
            return answer
        status, reasons, said = _refusal(answer)
        if answer.status_code == requests.codes.not_found and status in ("NOT_FOUND", "notFound"):
            return None
        if "SERVICE_DISABLED" in reasons or "accessNotConfigured" in reasons:
            raise Untold(
                f"{path}: {service}.googleapis.com is not enabled in {project}",
                f"gcloud services enable {service}.googleapis.com --project {project}",
            )
        if answer.status_code == requests.codes.forbidden:
            grant = f"gcloud projects add-iam-policy-binding {project} --member=user:YOU --role={role}"
            raise Untold(f"{path}: you may not read it ({said})", grant)
        raise Untold(f"{path}: {answer.status_code} {said}", "try again")

    def _shown(
        self, kind: type[T], service: str, path: str, role: str, *, project: str | None = None, **asked: Any
    ) -> T | None:
        """What is at a path; None where nothing is. Raises Untold."""
        answer = self._answer(service, path, role, project or self.project, **asked)
        return None if answer is None else _decoded(kind, path, answer)

    def _listed(
        self,
        kind: type[T],
        key: str,
        service: str,
        path: str,
        role: str,
        *,
        project: str | None = None,
        **asked: Any,
    ) -> Iterator[T]:
        """All pages of a list. Raises Untold, also where there is nothing of this name, or no end."""
        parameters = {"pageSize": PAGE, **asked}
        for _ in range(PAGES_MAX):
            page = self._shown(dict[str, Any], service, path, role, project=project, params=parameters)
            if page is None:
                raise Untold(f"{path}: it is not there", "check --project and --region")
            if page.get("unreachable"):
                raise Untold(f"{path}: not every region answered: {_cut(str(page['unreachable']))}", "try again")
            # mypy knows no type that is made of a variable; msgspec does.
            yield from _converted(list[kind], path, page.get(key, []))  # type: ignore[valid-type]
            token = page.get("nextPageToken")
            if not token:
                return
            parameters["pageToken"] = token
        raise Untold(f"{path}: more than {PAGES_MAX} pages", "narrow it: --tenant")

    # --- the project ----------------------------------------------------------------------------------------------

    def google_time(self) -> tuple[datetime, str]:
        """Google's time, and the member that Pub/Sub's service agent is. Raises Untold."""
        path = f"v1/projects/{self.project}"
        answer = self._answer("cloudresourcemanager", path, BROWSER, self.project)
        if answer is None:
            raise Untold(f"{path}: there is no such project", "check --project")
        number = _decoded(_Project, path, answer).project_number
        try:
            at = parsedate_to_datetime(answer.headers["Date"])
        except (KeyError, ValueError):
            raise Untold(f"{path}: the answer has no date", "try again") from None
        return at, f"serviceAccount:service-{number}@gcp-sa-pubsub.iam.gserviceaccount.com"

    def apis(self, project: str) -> frozenset[str]:
        """The APIs that are enabled in a project. Raises Untold."""
        path = f"v1/projects/{project}/services"
        listed = self._listed(
            _Service, "services", "serviceusage", path, SERVICE_VIEWER, project=project, filter="state:ENABLED"
        )
        return frozenset(_last(one.name) for one in listed)

    def functions(self, region: str) -> Mapping[str, Function]:
        """The functions of the region by their names (`-`: of every region). Raises Untold."""
        path = f"v2/projects/{self.project}/locations/{region}/functions"
        listed = self._listed(_Function, "functions", "cloudfunctions", path, FUNCTIONS_VIEWER)
        return {_last(one.name): one.fact() for one in listed}

    def region(self) -> str:
        """The region that Snapkeep's functions are in. Raises Untold."""
        path = f"v2/projects/{self.project}/locations/-/functions"
        listed = self._listed(_Function, "functions", "cloudfunctions", path, FUNCTIONS_VIEWER)
        found = sorted({one.name.split("/")[3] for one in listed if _last(one.name).startswith("snapkeep-")})
        if len(found) != 1:
            raise Untold(f"{path}: functions of Snapkeep in {', '.join(found) or 'no region'}", "name one: --region")
        return found[0]

    def jobs(self, region: str) -> Mapping[str, Job]:
        """The jobs of Cloud Scheduler by their names. Raises Untold."""
        path = f"v1/projects/{self.project}/locations/{region}/jobs"
        listed = self._listed(_Job, "jobs", "cloudscheduler", path, SCHEDULER_VIEWER)
        return {_last(one.name): one.fact() for one in listed}

    def waiting(self, subscription: str, until: datetime) -> int:
        """Messages of a subscription that nobody acknowledged, as Cloud Monitoring last counted. Raises Untold."""
        path = f"v3/projects/{self.project}/timeSeries"
        metric = 'metric.type="pubsub.googleapis.com/subscription/num_undelivered_messages"'
        interval = {
            "interval.startTime": (until - BACKLOG).astimezone(UTC).isoformat(),
            "interval.endTime": until.astimezone(UTC).isoformat(),
        }
        where = f'{metric} AND resource.labels.subscription_id="{subscription}"'
        listed = self._listed(_Series, "timeSeries", "monitoring", path, MONITORING_VIEWER, filter=where, **interval)
        counts = [int(one.points[0].value.int64_value) for one in listed if one.points]
        if not counts:
            raise Untold(
                f"{path}: nothing was counted of {subscription} in {BACKLOG}",
                f"look at https://console.cloud.google.com/cloudpubsub/subscription/detail/{subscription}"
                f"?project={self.project}, and try again in a few minutes",
            )
        return sum(counts)

    # --- Firestore ------------------------------------------------------------------------------------------------

    def database(self, name: str) -> Database | None:
        """Raises Untold."""
        path = f"v1/projects/{self.project}/databases/{name}"
        found = self._shown(_Database, "firestore", path, DATASTORE_VIEWER)
        if found is None:
            return None
        return Database(
            type=found.type,
            protected=found.delete_protection_state == "DELETE_PROTECTION_ENABLED",
            recoverable=found.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED",
        )

    def composites(self, database: str) -> Mapping[tuple[str, str, Columns], str]:
        """The state of every composite index. Raises Untold."""
        path = f"v1/projects/{self.project}/databases/{database}/collectionGroups/-/indexes"
        listed = self._listed(_Index, "indexes", "firestore", path, DATASTORE_VIEWER)
        return {(one.name.split("/")[5], one.query_scope, one.columns()): one.state for one in listed}

    def fields(self, database: str) -> Mapping[tuple[str, str], Indexed]:
        """Every field that is configured by itself. Raises Untold."""
        path = f"v1/projects/{self.project}/databases/{database}/collectionGroups/-/fields"
        # ListFields takes these two filters and no other.
        listed = self._listed(
            _Field,
            "fields",
            "firestore",
            path,
            DATASTORE_VIEWER,
            filter="indexConfig.usesAncestorConfig:false OR ttlConfig:*",
        )
        # A field's name may hold slashes: it is all that comes after `fields/`.
        return {(one.name.split("/")[5], one.name.split("/", 7)[7].strip("`")): one.fact() for one in listed}

    def tenants(self, database: str, only: str | None) -> list[TenantDocument]:
        """What the tenants' documents say of their projects. Raises Untold, also for more than TENANTS_MAX."""
        path = f"{self._documents(database)}/tenants"
        if only is not None:
            found = self._shown(_Document, "firestore", f"{path}/{only}", DATASTORE_VIEWER)
            if found is None:
                raise Untold(f"{path}/{only}: there is no such tenant", "snapkeep fleet list")
            return [_converted(TenantDocument, path, _decoded_fields(path, found.fields))]
        listed = self._listed(_Document, "documents", "firestore", path, DATASTORE_VIEWER)
        documents = list(islice(listed, TENANTS_MAX + 1))
        if len(documents) > TENANTS_MAX:
            raise Untold(f"{path}: more than {TENANTS_MAX} tenants", "look at one at a time: --tenant")
        return [_converted(TenantDocument, path, _decoded_fields(path, one.fields)) for one in documents]

    def regions(self, database: str, tenant: str) -> frozenset[str]:
        """The regions that a tenant's instances are in. Raises Untold."""
        path = f"{self._documents(database)}/tenants/{tenant}/instances"
        listed = self._listed(
            _Document, "documents", "firestore", path, DATASTORE_VIEWER, **{"mask.fieldPaths": "region"}
        )
        return frozenset(_converted(_Located, path, _decoded_fields(path, one.fields)).region for one in listed)

    # --- who may do what ------------------------------------------------------------------------------------------

    def roles(self, project: str, ids: Iterable[str]) -> Mapping[str, frozenset[str] | None]:
        """The permissions of these custom roles of a project; None where there is none. Raises Untold."""
        held: dict[str, frozenset[str] | None] = {}
        for id in ids:
            path = f"v1/projects/{project}/roles/{id}"
            found = self._shown(_Role, "iam", path, SECURITY_REVIEWER, project=project)
            held[id] = None if found is None or found.deleted else frozenset(found.included_permissions)
        return held

    def policy(self, project: str) -> frozenset[Binding]:
        """Who holds which role of a project. Raises Untold."""
        path = f"v1/projects/{project}:getIamPolicy"
        asked = {"options": {"requestedPolicyVersion": 3}}  # without it conditions are left out
        found = self._shown(_Policy, "cloudresourcemanager", path, SECURITY_REVIEWER, project=project, json=asked)
        if found is None:
            raise Untold(f"{path}: there is no such project", "check the fleet file")
        return found.held()

    def grants(self, topics: Iterable[str], subscriptions: Iterable[str]) -> Mapping[str, frozenset[Binding]]:
        """Who holds which role of these topics and subscriptions (`topic T`, `subscription S`). Raises Untold."""
        held = {}
        for kind, names in (("topic", topics), ("subscription", subscriptions)):
            for name in names:
                path = f"v1/projects/{self.project}/{kind}s/{name}:getIamPolicy"
                found = self._shown(_Policy, "pubsub", path, SECURITY_REVIEWER)
                held[f"{kind} {name}"] = found.held() if found else frozenset()
        return held

    def keys(self, accounts: Iterable[str]) -> Mapping[str, int]:
        """How many keys people made of these service accounts (before the @). Raises Untold."""
        made = {}
        for account in accounts:
            email = f"{account}@{self.project}.iam.gserviceaccount.com"
            path = f"v1/projects/{self.project}/serviceAccounts/{email}/keys"
            found = self._shown(_Keys, "iam", path, SECURITY_REVIEWER, params={"keyTypes": "USER_MANAGED"})
            made[account] = len(found.keys) if found else 0  # an account that is not there has none
        return made

    # --- Compute Engine and keys ----------------------------------------------------------------------------------

    def quotas(self, project: str, regions: Iterable[str]) -> tuple[Quota, ...]:
        """The quotas of a project, and of these regions of it. Raises Untold."""
        places: list[tuple[str | None, str]] = [(None, f"compute/v1/projects/{project}")]
        places += [(region, f"compute/v1/projects/{project}/regions/{region}") for region in sorted(set(regions))]
        found = []
        for region, path in places:
            shown = self._shown(_Quotas, "compute", path, COMPUTE_VIEWER, project=project)
            if shown is None:
                raise Untold(f"{path}: it is not there", "check the fleet file")
            found += [Quota(project, region, one.metric, one.usage, one.limit) for one in shown.quotas]
        return tuple(found)

    def network(self, link: str) -> str | None:
        """`there`, or None. Raises Untold."""
        path = f"compute/v1/{link}"
        found = self._shown(_Named, "compute", path, COMPUTE_VIEWER, project=link.split("/")[1])
        return "there" if found else None

    def key(self, link: str) -> str | None:
        """The state of a key's primary version; None where there is no such key. Raises Untold."""
        path = f"v1/{link}"
        found = self._shown(_Key, "cloudkms", path, KMS_VIEWER, project=link.split("/")[1])
        return found.primary.state if found else None

    # --- Pub/Sub --------------------------------------------------------------------------------------------------

    def topics(self) -> frozenset[str]:
        """The topics of the project, by their last part. Raises Untold."""
        path = f"v1/projects/{self.project}/topics"
        return frozenset(_last(one.name) for one in self._listed(_Named, "topics", "pubsub", path, PUBSUB_VIEWER))

    def subscriptions(self) -> Mapping[str, Subscription]:
        """The subscriptions of the project, by their last part. Raises Untold."""
        path = f"v1/projects/{self.project}/subscriptions"
        listed = self._listed(_Subscription, "subscriptions", "pubsub", path, PUBSUB_VIEWER)
        return {_last(one.name): one.fact(path) for one in listed}

    # --- documents ------------------------------------------------------------------------------------------------

    def ticks(self, database: str, *, comparable: bool) -> Mapping[str, Tick]:
        """When each function last carried out its tick. `comparable`: its clock is meant to be Firestore's.

        Raises Untold.
        """
        path = f"{self._documents(database)}/system"
        ticks = {}
        for document in self._listed(_Document, "documents", "firestore", path, DATASTORE_VIEWER):
            kind, _, function = _last(document.name).partition("-")
            if kind == "tick":
                value = _decoded_fields(path, document.fields)
                tick = _converted(_Tick, path, value)
                ticks[function] = Tick(tick.at, document.update_time if comparable else None)
        return ticks

    def dead_letters(self, database: str, since: datetime) -> Letters:
        """Those that function dead_letters settled since then, by the documents. Raises Untold."""
        path = f"{self._documents(database)}:runQuery"
        query = {
            "from": [{"collectionId": "rejected"}],
            "where": {
                "compositeFilter": {
                    "op": "AND",
                    "filters": [
                        _filter("kind", "EQUAL", {"stringValue": "dead_letter"}),
                        _filter("at", "GREATER_THAN_OR_EQUAL", {"timestampValue": since.astimezone(UTC).isoformat()}),
                    ],
                }
            },
            "orderBy": [{"field": {"fieldPath": "at"}, "direction": "DESCENDING"}],
            "limit": LETTERS_MAX,
        }
        answer = self._shown(list[_Found], "firestore", path, DATASTORE_VIEWER, json={"structuredQuery": query})
        if answer is None:
            raise Untold(f"{path}: there is no such database", DATABASE_MEND)
        documents = [one.document for one in answer if one.document is not None]
        if not documents:
            return Letters(0, None)
        newest = _converted(_Rejected, path, _decoded_fields(path, documents[0].fields))
        return Letters(len(documents), f"{newest.function}: {newest.reason}")

    def _documents(self, database: str) -> str:
        return f"v1/projects/{self.project}/databases/{database}/documents"


# Predefined roles that let somebody read these and change nothing.
BROWSER: Final = "roles/browser"
COMPUTE_VIEWER: Final = "roles/compute.viewer"
DATASTORE_VIEWER: Final = "roles/datastore.viewer"
FUNCTIONS_VIEWER: Final = "roles/cloudfunctions.viewer"
KMS_VIEWER: Final = "roles/cloudkms.viewer"
MONITORING_VIEWER: Final = "roles/monitoring.viewer"
PUBSUB_VIEWER: Final = "roles/pubsub.viewer"
SCHEDULER_VIEWER: Final = "roles/cloudscheduler.viewer"
SECURITY_REVIEWER: Final = "roles/iam.securityReviewer"
SERVICE_VIEWER: Final = "roles/serviceusage.serviceUsageViewer"


# --- what is answered ---------------------------------------------------------------------------------------------


class _Said(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is read of an answer; Google's have more fields, which are passed over."""


class _Named(_Said, frozen=True, kw_only=True):
    name: str


class _OidcToken(_Said, frozen=True, kw_only=True):
    service_account_email: str = ""
    audience: str = ""


class _PushConfig(_Said, frozen=True, kw_only=True):
    push_endpoint: str = ""
    oidc_token: _OidcToken = _OidcToken()


class _DeadLetterPolicy(_Said, frozen=True, kw_only=True):
    dead_letter_topic: str = ""
    max_delivery_attempts: int = 5  # what Pub/Sub takes where it is 0


class _RetryPolicy(_Said, frozen=True, kw_only=True):
    minimum_backoff: str = "10s"
    maximum_backoff: str = "600s"


class _ExpirationPolicy(_Said, frozen=True, kw_only=True):
    ttl: str | None = None  # none: it never expires


class _Subscription(_Named, frozen=True, kw_only=True):
    topic: str
    push_config: _PushConfig = _PushConfig()
    ack_deadline_seconds: int = 10
    message_retention_duration: str = "604800s"
    dead_letter_policy: _DeadLetterPolicy | None = None
    retry_policy: _RetryPolicy | None = None
    # The emulator knows of none and says none; Pub/Sub always says the one in force.
    expiration_policy: _ExpirationPolicy = _ExpirationPolicy()

    def fact(self, path: str) -> Subscription:
        push, letters, retry = self.push_config, self.dead_letter_policy, self.retry_policy
        ttl = self.expiration_policy.ttl
        return Subscription(
            topic=_last(self.topic),
            endpoint=push.push_endpoint or None,
            account=push.oidc_token.service_account_email or None,
            audience=push.oidc_token.audience or None,
            ack_deadline_s=self.ack_deadline_seconds,
            retry_min_s=_seconds(path, retry.minimum_backoff) if retry else None,
            retry_max_s=_seconds(path, retry.maximum_backoff) if retry else None,
            dead_letter_topic=_last(letters.dead_letter_topic) if letters else None,
            attempts_max=letters.max_delivery_attempts if letters else None,
            retention=timedelta(seconds=_seconds(path, self.message_retention_duration)),
            expires=timedelta(seconds=_seconds(path, ttl)) if ttl else None,
        )


class TenantDocument(msgspec.Struct, frozen=True):
    """What is read of a document `tenants/{t}`."""

    id: str
    project: str
    vault_project: str
    kms_keys: dict[str, str] = {}
    restore_test: TenantTest | None = None


class TenantTest(msgspec.Struct, frozen=True):
    """What is read of its restore tests."""

    network: str


class _Located(msgspec.Struct, frozen=True):
    region: str


class _Project(_Said, frozen=True, kw_only=True):
    project_number: str


class _Service(_Named, frozen=True, kw_only=True):
    """Of one that is enabled."""


class _StorageSource(_Said, frozen=True, kw_only=True):
    object: str | None = None


class _Source(_Said, frozen=True, kw_only=True):
    storage_source: _StorageSource = _StorageSource()


class _BuildConfig(_Said, frozen=True, kw_only=True):
    source: _Source = _Source()


class _ServiceConfig(_Said, frozen=True, kw_only=True):
    uri: str | None = None
    service_account_email: str | None = None
    ingress_settings: str | None = None


class _Function(_Named, frozen=True, kw_only=True):
    state: str
    build_config: _BuildConfig = _BuildConfig()
    service_config: _ServiceConfig = _ServiceConfig()

    def fact(self) -> Function:
        service = self.service_config
        return Function(
            state=self.state,
            url=service.uri,
            account=service.service_account_email,
            ingress=service.ingress_settings,
            release=self.build_config.source.storage_source.object,
        )


class _PubsubTarget(_Said, frozen=True, kw_only=True):
    topic_name: str = ""


class _Status(_Said, frozen=True, kw_only=True):
    code: int = 0
    message: str = ""


class _Job(_Named, frozen=True, kw_only=True):
    schedule: str = ""
    time_zone: str = "UTC"
    state: str
    pubsub_target: _PubsubTarget = _PubsubTarget()
    user_update_time: datetime | None = None
    status: _Status = _Status()

    def fact(self) -> Job:
        status = self.status
        return Job(
            cron=self.schedule,
            timezone=self.time_zone,
            state=self.state,
            topic=_last(self.pubsub_target.topic_name) or None,
            changed_at=self.user_update_time,
            failure=_cut(f"code {status.code} {status.message}") if status.code else None,
        )


class _Value(_Said, frozen=True, kw_only=True):
    int64_value: str


class _SeriesPoint(_Said, frozen=True, kw_only=True):
    value: _Value


class _Series(_Said, frozen=True, kw_only=True):
    points: list[_SeriesPoint] = []  # the newest first


class _Database(_Said, frozen=True, kw_only=True):
    type: str
    delete_protection_state: str = ""
    point_in_time_recovery_enablement: str = ""


class _IndexField(_Said, frozen=True, kw_only=True):
    field_path: str
    order: str = ""


class _Index(_Said, frozen=True, kw_only=True):
    name: str = ""  # empty of a single field's
    query_scope: str
    fields: list[_IndexField]
    state: str = ""

    def columns(self) -> Columns:
        """Without `__name__`, which Firestore adds where nobody says it."""
        return tuple((one.field_path, one.order) for one in self.fields if one.field_path != "__name__")


class _IndexConfig(_Said, frozen=True, kw_only=True):
    indexes: list[_Index] = []
    reverting: bool = False


class _Ttl(_Said, frozen=True, kw_only=True):
    state: str = ""


class _Field(_Named, frozen=True, kw_only=True):
    index_config: _IndexConfig = _IndexConfig()
    ttl_config: _Ttl | None = None

    def fact(self) -> Indexed:
        indexes = self.index_config.indexes
        return Indexed(
            indexes=frozenset((one.fields[0].order, one.query_scope) for one in indexes if one.fields),
            ready=all(one.state == "READY" for one in indexes) and not self.index_config.reverting,
            expires=self.ttl_config is not None and self.ttl_config.state in ("ACTIVE", "CREATING"),
        )


class _Role(_Said, frozen=True, kw_only=True):
    included_permissions: list[str] = []
    deleted: bool = False


class _Bound(_Said, frozen=True, kw_only=True):
    role: str
    members: list[str] = []
    condition: dict[str, Any] | None = None


class _Policy(_Said, frozen=True, kw_only=True):
    bindings: list[_Bound] = []

    def held(self) -> frozenset[Binding]:
        return frozenset(
            Binding(one.role, member, one.condition is not None) for one in self.bindings for member in one.members
        )


class _Keys(_Said, frozen=True, kw_only=True):
    keys: list[dict[str, Any]] = []


class _Quota(_Said, frozen=True, kw_only=True):
    metric: str
    usage: float = 0.0
    limit: float = 0.0


class _Quotas(_Said, frozen=True, kw_only=True):
    quotas: list[_Quota] = []


class _Primary(_Said, frozen=True, kw_only=True):
    state: str = "without a primary version"


class _Key(_Said, frozen=True, kw_only=True):
    primary: _Primary = _Primary()


class _Document(_Named, frozen=True, kw_only=True):
    fields: dict[str, dict[str, Any]] = {}
    update_time: datetime


class _Found(_Said, frozen=True, kw_only=True):
    document: _Document | None = None


class _Tick(msgspec.Struct, frozen=True):
    at: datetime


class _Rejected(msgspec.Struct, frozen=True):
    function: str
    reason: str


def _patient(session: requests.Session) -> requests.Session:
    again = Retry(
        total=TRIES_AGAIN,
        backoff_factor=0.2,
        status_forcelist=PASSING,
        allowed_methods=("GET", "POST"),  # every POST here is a question
        raise_on_status=False,
        respect_retry_after_header=False,  # it may say minutes
    )
    session.mount("http://", HTTPAdapter(max_retries=again))
    session.mount("https://", HTTPAdapter(max_retries=again))
    return session


def _decoded(kind: type[T], path: str, answer: requests.Response) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Untold(f"{path}: what answers is not Google's API as it is documented ({error})", "try again") from None


def _converted(kind: type[T], path: str, value: Any) -> T:
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.MsgspecError as error:
        raise Untold(f"{path}: what answers is not Google's API as it is documented ({error})", "try again") from None


def _refusal(answer: requests.Response) -> tuple[str, frozenset[str], str]:
    """Google's status (`PERMISSION_DENIED`), the reasons that it names, and what it says, in one line."""
    try:
        error = answer.json()["error"]
        details = [*error.get("details", []), *error.get("errors", [])]
        reasons = [str(one["reason"]) for one in details if isinstance(one, dict) and "reason" in one]
        status = str(error.get("status") or (reasons[0] if reasons else ""))
        return status, frozenset(reasons), _cut(str(error["message"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", frozenset(), _cut(answer.text) or answer.reason


def _cut(text: str) -> str:
    return " ".join(text.split())[:SAID_CHARS_MAX]


def _kind(fault: requests.RequestException) -> str:
    return "no answer in time" if isinstance(fault, requests.Timeout) else "no answer"


def _brief(fault: requests.RequestException) -> str:
    inner = fault.args[0] if fault.args else fault
    return _cut(str(getattr(inner, "reason", inner)))


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _seconds(path: str, duration: str) -> float:
    """Of a duration as Google's JSON writes it: `604800s`, `0.5s`."""
    try:
        return float(duration.removesuffix("s"))
    except ValueError:
        raise Untold(f"{path}: {duration!r} is not a duration", "try again") from None


def _filter(field: str, operator: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"fieldFilter": {"field": {"fieldPath": field}, "op": operator, "value": value}}


def _decoded_fields(path: str, fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The fields of a document of Firestore's REST API as plain values. Raises Untold."""
    try:
        return {name: _plain(value) for name, value in fields.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise Untold(f"{path}: a document that cannot be read ({error})", "try again") from None


def _plain(value: Mapping[str, Any]) -> Any:
    ((kind, inner),) = value.items()
    match kind:
        case "nullValue":
            return None
        case "integerValue":
            return int(inner)
        case "timestampValue":
            return datetime.fromisoformat(inner)
        case "mapValue":
            return {name: _plain(one) for name, one in inner.get("fields", {}).items()}
        case "arrayValue":
            return [_plain(one) for one in inner.get("values", [])]
        case _:
            return inner
