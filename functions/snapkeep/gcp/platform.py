"""Google's control planes as `snapkeep doctor` reads them: by plain REST, bounded, and nothing is ever changed.

Each read answers what is there, or why it cannot be told: with 403 also which role whoever asks lacks. Over plain http
(the emulators of a local cloud) no credentials are sent; over https the operator's Application Default Credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, TypeVar

import google.auth
import msgspec
import requests
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from snapkeep.doctor.facts import Known, Letters, Read, Subscription, Tick, Unread

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
                raise Untold(f"{path}: it is not there", "check the project, the region and the database")
            yield from _converted(list[kind], path, page.get(key, []))  # type: ignore[valid-type]  # a type made here
            token = page.get("nextPageToken")
            if not token:
                return
            parameters["pageToken"] = token
        raise Untold(f"{path}: more than {PAGES_MAX} pages", "narrow it: --tenant")

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
        documents = [one.document for one in answer or () if one.document is not None]
        if not documents:
            return Letters(0, None)
        newest = _converted(_Rejected, path, _decoded_fields(path, documents[0].fields))
        return Letters(len(documents), f"{newest.function}: {newest.reason}")

    def _documents(self, database: str) -> str:
        return f"v1/projects/{self.project}/databases/{database}/documents"


PUBSUB_VIEWER: Final = "roles/pubsub.viewer"
DATASTORE_VIEWER: Final = "roles/datastore.viewer"


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
