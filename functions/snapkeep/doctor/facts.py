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
