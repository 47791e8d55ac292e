"""What `snapkeep doctor` has read of a deployment, as values. Nothing here says whether it is well.

Three things are kept apart: what was read (`Known`, in which None or an absent key says that it is not there), what
could not be read (`Unread`, never taken for well), and what there is none of in this place (`NotHere`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What the platform answered."""

    value: T


@dataclass(frozen=True, slots=True)
class Unread:
    """What could not be read: nobody knows how it is."""

    why: str  # what, and the reason, in one line
    mend: str  # a command after which it can be read


@dataclass(frozen=True, slots=True)
class NotHere:
    """What there is none of in this place, such as APIs to enable on emulators."""

    why: str


Read: TypeAlias = Known[T] | Unread | NotHere


@dataclass(frozen=True, slots=True)
class Function:
    """A Cloud Run function (Cloud Functions v2), or the process of one on the local cloud."""

    state: str  # ACTIVE, or what is wrong with it
    url: str | None
    account: str | None  # email of the service account that it runs as
    ingress: str | None  # ALLOW_INTERNAL_ONLY | ALLOW_INTERNAL_AND_GCLB | ALLOW_ALL
    release: str | None  # the object that it was built of


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription of Pub/Sub."""

    topic: str  # its last part; DELETED_TOPIC where it hears nothing any more
    endpoint: str | None  # None: it is pulled
    account: str | None  # of the OIDC token that a push carries
    audience: str | None
    ack_deadline_s: int
    retry_min_s: float | None  # None: no retry policy, delivered again at once
    retry_max_s: float | None
    dead_letter_topic: str | None  # its last part
    attempts_max: int | None
    retention: timedelta
    expires: timedelta | None  # when nobody uses it; None: never


DELETED_TOPIC = "_deleted-topic_"


@dataclass(frozen=True, slots=True)
class Job:
    """A job of Cloud Scheduler, or of the local cloud's stand-in."""

    cron: str
    timezone: str
    state: str  # ENABLED | PAUSED | DISABLED | UPDATE_FAILED
    topic: str | None  # its last part; None: it does not publish
    changed_at: datetime | None  # since when it is as it is: no tick is missed before that
    failure: str | None  # what its last attempt ended in; None: well, or there was none


@dataclass(frozen=True, slots=True)
class Tick:
    """A document `system/tick-{function}`."""

    at: datetime  # by the function's clock
    written_at: datetime | None  # by Firestore's; None where the two are not to be compared


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters that were settled, as the documents tell."""

    number: int  # of the days that were asked for, up to a bound
    newest: str | None  # the function and the reason of the newest


Columns: TypeAlias = tuple[tuple[str, str], ...]
"""Fields of an index with their directions, without the `__name__` that ends every one."""


@dataclass(frozen=True, slots=True)
class Database:
    """The Firestore database."""

    type: str  # FIRESTORE_NATIVE is what is wanted
    protected: bool  # from being deleted
    recoverable: bool  # to any minute of the last 7 days


@dataclass(frozen=True, slots=True)
class Indexed:
    """How one field is indexed by itself."""

    indexes: frozenset[tuple[str, str]]  # direction and scope
    ready: bool
    expires: bool  # it is the TTL field of its collection


@dataclass(frozen=True, slots=True)
class Binding:
    """A role that a member holds, by an allow policy."""

    role: str
    member: str
    conditional: bool


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of Compute Engine."""

    project: str
    region: str | None  # None: of the whole project
    metric: str
    usage: float
    limit: float


@dataclass(frozen=True, slots=True)
class Resource:
    """A key or a network that a tenant names."""

    kind: str
    link: str
    state: Read[str | None]  # None: it is not there


@dataclass(frozen=True, slots=True)
class TenantProject:
    """A project of one tenant or of several: what Snapkeep's functions hold there."""

    id: str
    tenants: tuple[str, ...]
    places: frozenset[str]  # instances, vault or both
    compute: Read[bool]  # whether its Compute Engine API is enabled
    roles: Read[Mapping[str, frozenset[str] | None]]  # custom roles by id; None: there is none
    policy: Read[frozenset[Binding]]
    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a clock is ahead of another."""

    clock: str
    of: str
    ahead: timedelta


@dataclass(frozen=True, slots=True)
class Facts:
    """One deployment; functions by their names in infra/functions.yaml, topics and subscriptions by their last part."""

    local: bool
    project: str
    now: datetime  # by a clock that the functions' are held to
    functions: Read[Mapping[str, Function]]
    topics: Read[frozenset[str]]
    subscriptions: Read[Mapping[str, Subscription]]
    waiting_letters: Read[int]  # dead letters that nobody has taken yet
    settled_letters: Read[Letters]
    jobs: Read[Mapping[str, Job]]
    ticks: Read[Mapping[str, Tick]]
    clocks: Read[tuple[Offset, ...]]
    apis: Read[frozenset[str]]  # that are enabled
    agent: Read[str]  # the member that Pub/Sub's own service agent is in policies
    grants: Read[Mapping[str, frozenset[Binding]]]  # of the dead-letter topic and of each subscription
    database: Read[Database | None]
    composites: Read[Mapping[tuple[str, str, Columns], str]]  # collection, scope and columns to the state of the index
    fields: Read[Mapping[tuple[str, str], Indexed]]  # collection and field
    roles: Read[Mapping[str, frozenset[str] | None]]  # custom roles by id; None: there is none
    policy: Read[frozenset[Binding]]
    keys: Read[Mapping[str, int]]  # service account (before the @) to keys of it that people made
    quotas: Read[tuple[Quota, ...]]
    projects: Read[tuple[TenantProject, ...]]
