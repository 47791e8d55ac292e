"""Faults as data: what goes wrong, with which calls, how often. Chance comes from the cloud's seed alone.

A fault is a msgspec Struct, so the same value is written in a test and read from JSON:
`{"method": "snapshots.insert", "resource": "acme-db", "count": 2, "effect": {"kind": "error_after", "status": 503}}`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from snapkeep_local.errors import ApiError, Json

INSERT: Final = "snapshots.insert"
DELETE: Final = "snapshots.delete"
LABEL: Final = "snapshots.setLabels"
DISK_INSERTS: Final = ("disks.insert", "regionDisks.insert")
DISK_DELETES: Final = ("disks.delete", "regionDisks.delete")
DISK_LABELS: Final = ("disks.setLabels", "regionDisks.setLabels")
INSTANCE_INSERT: Final = "instances.insert"
INSTANCE_DELETE: Final = "instances.delete"
INSTANCE_STOP: Final = "instances.stop"
INSTANCE_START: Final = "instances.start"
ATTACH: Final = "instances.attachDisk"
DETACH: Final = "instances.detachDisk"
INSTANT_INSERTS: Final = (
    "instantSnapshots.insert",
    "regionInstantSnapshots.insert",
    "instantSnapshotGroups.insert",
    "regionInstantSnapshotGroups.insert",
)
DELETES: Final = (
    DELETE,
    *DISK_DELETES,
    INSTANCE_DELETE,
    "instantSnapshots.delete",
    "regionInstantSnapshots.delete",
    "instantSnapshotGroups.delete",
    "regionInstantSnapshotGroups.delete",
)
ON_INSTANCES: Final = (INSTANCE_STOP, INSTANCE_START, ATTACH, DETACH)
MUTATIONS: Final = (
    INSERT,
    *DISK_INSERTS,
    INSTANCE_INSERT,
    *INSTANT_INSERTS,
    *DELETES,
    LABEL,
    *DISK_LABELS,
    *ON_INSTANCES,
)


class _Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class ErrorBefore(_Effect, frozen=True, kw_only=True, tag="error_before"):
    """The call answers with an error and does nothing."""

    status: int = 503
    reason: str = "backendError"
    message: str = "Backend Error"


class ErrorAfter(_Effect, frozen=True, kw_only=True, tag="error_after"):
    """The call does what was asked and then answers with an error: the caller cannot know."""

    status: int = 503
    reason: str = "backendError"
    message: str = "Backend Error"


class Slow(_Effect, frozen=True, kw_only=True, tag="slow"):
    """The operation, and what it makes, take `factor` times as long."""

    factor: float


class Stuck(_Effect, frozen=True, kw_only=True, tag="stuck"):
    """The operation never ends; a snapshot that it makes stays as `snapshot` says, anything else CREATING.

    An instance that is made or started stays STAGING, one that is stopped or deleted STOPPING. Nothing is attached,
    detached or labelled.
    """

    snapshot: Literal["CREATING", "UPLOADING"] = "UPLOADING"


class OperationFails(_Effect, frozen=True, kw_only=True, tag="operation_fails"):
    """The operation ends in an error. What it was to make is then absent, or FAILED; what was to be deleted stays.

    `snapshot` says which of the two, of disks and instant snapshots as well. An instance that is to be FAILED is made
    all the same, and never runs: it ends TERMINATED. What was to be changed stays as it was.

    `http_status` becomes its httpErrorStatusCode; without it the operation carries `error.errors` alone.
    """

    code: str = "INTERNAL_ERROR"
    message: str = "Internal error. Please try again or contact Google Support."
    http_status: int | None = None
    snapshot: Literal["absent", "FAILED"] = "absent"


class SnapshotFails(_Effect, frozen=True, kw_only=True, tag="snapshot_fails"):
    """The snapshot turns FAILED where it would have become READY, though its operation ends well."""


class SnapshotVanishes(_Effect, frozen=True, kw_only=True, tag="snapshot_vanishes"):
    """The snapshot is gone `after_s` seconds after it was asked for, without any call."""

    after_s: float = 60.0


class InstantVanishes(_Effect, frozen=True, kw_only=True, tag="instant_vanishes"):
    """The instant snapshot, or each of a group, is gone `after_s` seconds after it was asked for, without any call."""

    after_s: float = 60.0


class DiskFails(_Effect, frozen=True, kw_only=True, tag="disk_fails"):
    """The disk turns FAILED where it would have become READY, though its operation ends well."""


class DeletionLies(_Effect, frozen=True, kw_only=True, tag="deletion_lies"):
    """The operation of a deletion ends DONE without an error, and what was to go is still there as it was."""


Effect = (
    ErrorBefore
    | ErrorAfter
    | Slow
    | Stuck
    | OperationFails
    | SnapshotFails
    | SnapshotVanishes
    | InstantVanishes
    | DiskFails
    | DeletionLies
)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strikes calls whose method matches the glob `method` and whose resource's link holds the regex `resource`.

    The links of an insert are those of what is made, of what it is made from and of where that is to lie: the region
    of a snapshot (`projects/P/regions/R`), the zones of a regional disk. To attach a disk concerns the instance and the
    disk. The link of a list is `projects/P`.
    An aggregated list goes on without a zone or region (`projects/P/zones/Z`) that an error before the effect is meant
    for, and says of it UNREACHABLE. So one fault takes a zone away:
    `{"effect": {"kind": "error_before"}, "resource": "zones/us-east1-b"}`.
    A matching call is struck with `probability`, `count` times at most (None: without end). An effect that means
    nothing to a call (a slow operation to a read) does not strike it.
    """

    effect: Effect
    method: str = "*"
    resource: str = ""
    probability: float = 1.0
    count: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability: {self.probability} is not between 0 and 1")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count: {self.count} is not a number of times; leave it out for no end")
        try:
            re.compile(self.resource)
        except re.error as error:
            raise ValueError(f"resource: '{self.resource}' is not a regular expression: {error}") from None

    def meant_for(self, method: str) -> bool:
        """Whether it can strike calls of this method at all."""
        match self.effect:
            case SnapshotFails() | SnapshotVanishes():
                possible = method == INSERT
            case InstantVanishes():
                possible = method in INSTANT_INSERTS
            case DiskFails():
                possible = method in DISK_INSERTS
            case DeletionLies():
                possible = method in DELETES
            case Slow() | Stuck() | OperationFails():
                possible = method in MUTATIONS
            case ErrorBefore() | ErrorAfter():
                possible = True
        return possible and fnmatchcase(method, self.method)

    def concerns(self, links: Iterable[str]) -> bool:
        """Whether one of a call's resources is meant."""
        return any(re.search(self.resource, link) for link in links)


@dataclass(slots=True)
class Struck:
    """What one call meets. `error` is raised once the call has taken effect."""

    slow: float = 1.0
    stuck: Stuck | None = None
    fails: OperationFails | None = None
    snapshot_fails: bool = False
    vanishes_after_s: float | None = None
    disk_fails: bool = False
    deletion_lies: bool = False
    error: ApiError | None = None


@dataclass(slots=True)
class Faults:
    """The faults in force, each with the number of calls that it has struck."""

    rng: random.Random
    active: dict[int, tuple[Fault, int]] = field(default_factory=dict)
    added: int = 0
    _able_by_method: dict[str, tuple[int, ...]] = field(default_factory=dict)  # see `_able`

    def add(self, fault: Fault) -> int:
        self.added += 1
        self.active[self.added] = (fault, 0)
        self._able_by_method.clear()
        return self.added

    def clear(self, number: int | None = None) -> None:
        """End one fault, or all. Raises KeyError for a fault that is not in force."""
        if number is None:
            self.active.clear()
        else:
            del self.active[number]
        self._able_by_method.clear()

    def strike(self, method: str, links: tuple[str, ...]) -> Struck:
        """Draw what this call meets. Raises ApiError for an error before the effect."""
        struck = Struck()
        for number in self._able(method):
            fault, times = self.active[number]
            if not fault.concerns(links):
                continue
            if fault.probability < 1 and self.rng.random() >= fault.probability:
                continue
            self.active[number] = (fault, times + 1)
            if times + 1 == fault.count:
                self._able_by_method.clear()
            match fault.effect:
                case ErrorBefore(status=status, reason=reason, message=message):
                    raise ApiError(status, reason, message)
                case ErrorAfter(status=status, reason=reason, message=message):
                    struck.error = ApiError(status, reason, message)
                case Slow(factor=factor):
                    struck.slow *= factor
                case Stuck() as stuck:
                    struck.stuck = stuck
                case OperationFails() as fails:
                    struck.fails = fails
                case SnapshotFails():
                    struck.snapshot_fails = True
                case SnapshotVanishes(after_s=after_s) | InstantVanishes(after_s=after_s):
                    struck.vanishes_after_s = after_s
                case DiskFails():
                    struck.disk_fails = True
                case DeletionLies():
                    struck.deletion_lies = True
        return struck

    def away(self, method: str, whole: str, places: Callable[[], Iterable[str]]) -> list[str]:
        """The places (links) that a list of the `whole` (a project's link) is to go on without."""
        found: set[str] = set()
        for number in self._able(method):
            fault, times = self.active[number]
            if not isinstance(fault.effect, ErrorBefore) or fault.concerns((whole,)):
                continue
            meant = [place for place in places() if fault.concerns((place,))]
            if not meant or (fault.probability < 1 and self.rng.random() >= fault.probability):
                continue
            self.active[number] = (fault, times + 1)
            if times + 1 == fault.count:
                self._able_by_method.clear()
            found.update(meant)
        return sorted(found)

    def _able(self, method: str) -> tuple[int, ...]:
        """Those that have not struck as often as they may and are meant for the method, in the order of striking.

        Errors before the effect come first: a call that one of them ends has met nothing else.
        """
        known = self._able_by_method.get(method)
        if known is None:
            able = [
                (number, fault)
                for number, (fault, times) in self.active.items()
                if (fault.count is None or times < fault.count) and fault.meant_for(method)
            ]
            known = tuple(number for number, _ in sorted(able, key=_ends_the_call, reverse=True))
            self._able_by_method[method] = known
        return known

    def list(self) -> list[Json]:
        """Each fault in its JSON shape with its `id` and how many calls it has `struck`."""
        return [
            {"id": number, **msgspec.to_builtins(fault), "struck": times}
            for number, (fault, times) in self.active.items()
        ]


def _ends_the_call(able: tuple[int, Fault]) -> bool:
    return isinstance(able[1].effect, ErrorBefore)
