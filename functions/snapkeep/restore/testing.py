"""Restore tests: which set is tested next, and what a test says about it. Pure: facts in, decisions out.

A set that a test has shown to be wrong is never trusted again: `usable` is no, so that it is nobody's newest and fills
no bucket. That may cost its life, so it takes evidence: what says nothing about the set (a quota, a zone that is away,
a network that is not closed) leaves it as it was, is told all the same, and is tried again the next day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec.structs import replace

from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.creation.rules import to_be_weighed
from snapkeep.documents import Failure, Instance, Point, Restore, RestoreTested, StepName, Tenant
from snapkeep.restore.rules import restore_id
from snapkeep.retention import deletion
from snapkeep.retention.rules import restorable

FIRST_WITHIN: Final = timedelta(hours=24)
"""After the fleet file first asks for tests, or asks anew: over this time the first tests of a fleet are spread."""

AGAIN: Final = timedelta(days=1)
"""Until another try where a test could not be carried out, or nothing is there to be tested."""

LIVES_AT_MOST: Final = timedelta(days=4)
"""When a tenant is looked at again whose test is under way: each ends before, and says then when the next one is due.
Four hours to begin, a day to be carried out, a day to be taken back, and as long again while deletion is paused."""

INSTANCES_TRIED_MAX: Final = 5
"""Instances of a tenant among which one choice looks for a set."""

POINT_PAGES_MAX: Final = 3
"""Pages of 100 points, the newest first, that it reads of each. An instance with more keeps what no test reaches."""

EVIDENCE: Final[Mapping[StepName, frozenset[str]]] = {
    "survey": frozenset({"point_gone", "snapshot_changed"}),
    "create_disks": frozenset({"snapshot_changed", "disk_failed"}),
    "check": frozenset({"checks_failed"}),
}
"""What says that the snapshots are not what was stored, or do not make what they should: codes of failures, by the step
that they ended. Not that something is not found where a disk is made: the survey has just seen the snapshot, and a key
or a type that is gone is not the set's fault."""

REFUSED_AS_IT_IS: Final = frozenset(
    {"INVALID_FIELD_VALUE", "INVALID_USAGE", "invalid", "badRequest", "invalidParameter"}
)
"""Why Compute Engine will never make a disk as the point describes it. Evidence only where the disk once was: another
zone may lack its type."""

CHECKED_OF_THE_SET: Final = frozenset({"disks", "instance", "contents"})
"""Checks that follow from the set. What else a test's instance is, it was asked to be for the test."""


# --- which set, and when ------------------------------------------------------------------------------------------


def first_at(tenant: Tenant, now: datetime) -> datetime | None:
    """When the first test of a tenant is due that the fleet file has just asked for; None where it asks for none."""
    if tenant.restore_test is None:
        return None
    share = int(hashlib.sha256(tenant.id.encode()).hexdigest()[:8], 16) / 2**32
    return now + timedelta(seconds=int(share * FIRST_WITHIN.total_seconds()))


def in_order(instances: Sequence[Instance], token: str) -> list[Instance]:
    """Those among which a choice looks, in a random order that the token decides; they may have nothing to test."""
    some = [one for one in instances if one.tally.stored or one.copies.verified or one.newest_verified]
    return sorted(some, key=lambda one: _draw(token, one.id))[:INSTANCES_TRIED_MAX]


def chosen(points: Sequence[Point], tenant: Tenant, token: str, now: datetime) -> tuple[Point, str | None] | None:
    """A random set among these points, as its point and the copy's region (None: at home); None: there is none.

    Verified, complete, usable, and not on its way out. Copies only in the region that is bought.
    """
    bought = copies.entitled(tenant, now)
    regions = {None, bought.region if bought else None}
    found = [
        (point, region)
        for point in points
        for region in sets.stored(point)
        if region in regions and _is_testable(sets.as_point(point, region))
    ]
    return min(found, key=lambda one: _draw(token, sets.name_of(one[0].id, one[1])), default=None)


def _is_testable(one: Point) -> bool:
    return one.state == "verified" and bool(one.disks) and restorable(one)


def _draw(token: str, what: str) -> bytes:
    return hashlib.sha256(f"{token}|{what}".encode()).digest()


def id_of(tenant: str, point: Point, region: str | None, due: datetime) -> str:
    """The id of the test of a set that was due at this instant."""
    what = "|".join((tenant, sets.name_of(point.id, region), due.isoformat()))
    return restore_id(due, "new_instance", "test", point.instance.name, what)


# --- what it says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What follows from the end of a test, to be committed with it."""

    tenant: Tenant
    point: Point  # another one than was given only where the test has shown it to be unusable
    carried_out: bool  # False: nothing is known of the set that was not known before
    event_type: Literal["restore_test.passed", "restore_test.failed"]
    data: dict[str, Any]


def concluded(
    restore: Restore, tenant: Tenant, point: Point, passed: bool, failure: Failure | None, now: datetime
) -> Conclusion:
    """The end of a test: the tenant with its result and the date of the next one, and the point as it is known now.

    `restore` as it is about to be stored, its steps, disks and checks included. Where the point comes back changed, its
    instance is to be weighed in the same commit (`weighed_after`).
    """
    carried_out = passed or _says_of_the_set(restore)
    took_s = _took_s(restore, now)
    after = _next(tenant, restore, now + (_every(tenant) if carried_out else AGAIN), now)
    if carried_out:
        result = RestoreTested(
            restore=restore.id,
            point=restore.recovery_point,
            region=restore.source.region,
            at=now,
            passed=passed,
            took_s=took_s,
            failure=None if passed else failure,
        )
        after = replace(after, restore_tested=result)
    data = told(point, restore.source.region if restore.source.copy else None) | {
        "restore": restore.id,
        "carried_out": carried_out,
        "took_s": took_s,
    }
    if not passed and failure:
        data["failure"] = {"code": failure.code, "message": failure.message}
    return Conclusion(
        tenant=after,
        point=_unusable(point, restore, now) if carried_out and not passed else point,
        carried_out=carried_out,
        event_type="restore_test.passed" if passed else "restore_test.failed",
        data=data,
    )


def given_up(restore: Restore, tenant: Tenant, now: datetime) -> tuple[Tenant, dict[str, Any]]:
    """The end of a test of which nothing is known: cancelled before it began, or its point has no document any more.
    Another one is tried the next day. Also what the event `restore_test.failed` says of it."""
    was = restore.instance
    data: dict[str, Any] = {
        "point": restore.recovery_point,
        "region": restore.source.region,
        "copy": restore.source.copy,
        "instance": was.name,
        "zone": was.zone,
        "restore": restore.id,
        "carried_out": False,
        "took_s": 0,
    }
    if restore.failure:
        data["failure"] = {"code": restore.failure.code, "message": restore.failure.message}
    return _next(tenant, restore, now + AGAIN, now), data


def told(point: Point, region: str | None) -> dict[str, Any]:
    """What events and records of a test say of its set; `region`: of a copy, None: at home."""
    return {
        "point": point.id,
        "region": region or point.instance.region,
        "copy": region is not None,
        "instance": point.instance.name,
        "zone": point.instance.zone,
    }


def not_begun(tenant: Tenant, now: datetime) -> Tenant:
    """The tenant of which nothing could be tested now: another try is made the next day."""
    return replace(tenant, restore_test_at=now + AGAIN if tenant.restore_test else None)


def begun(tenant: Tenant, restore: Restore, now: datetime) -> Tenant:
    """The tenant whose test this is from now on."""
    return replace(tenant, restore_testing=restore.id, restore_test_at=now + LIVES_AT_MOST, updated_at=now)


def weighed_after(
    instance: Instance, tenant: Tenant, before: Point, after: Point, stored: Sequence[Point], now: datetime
) -> Instance:
    """The instance after a test has changed this point of it: without it where it was the newest, to be weighed by
    `expire`, its copies counted.

    `stored`: its points of which snapshots may exist (query `instance_points`), as they were read.
    """
    bought = copies.entitled(tenant, now)
    work = copies.counted(instance.copies, before, after, bought.region if bought else None)
    points = [after if point.id == after.id else point for point in stored]
    return replace(to_be_weighed(deletion.with_newest(instance, tenant, points), now), copies=work, updated_at=now)


def _says_of_the_set(restore: Restore) -> bool:
    """Whether a test that did not pass shows that the set cannot be restored from."""
    if restore.abandoned is not None and restore.abandoned.ends_as == "cancelled":
        return False  # whoever ended it did not wait for the answer
    ended = next((step for step in restore.steps if step.state == "failed" and not step.undo), None)
    if ended is None or ended.failure is None:
        return False
    if ended.name == "create_disks" and ended.failure.code in REFUSED_AS_IT_IS:
        return restore.target.zone == restore.instance.zone
    if ended.name == "check" and not any(c.state == "failed" and c.name in CHECKED_OF_THE_SET for c in restore.checks):
        return False
    return ended.failure.code in EVIDENCE.get(ended.name, ())


def _took_s(restore: Restore, now: datetime) -> int:
    """Seconds from its start until everything was checked, or until it failed."""
    checked = (step.at for step in restore.steps if step.name == "check" and step.state in ("done", "failed"))
    until = next((at for at in checked if at), now)
    return max(int((until - (restore.started_at or until)).total_seconds()), 0)


def _every(tenant: Tenant) -> timedelta:
    return timedelta(days=tenant.restore_test.every_days) if tenant.restore_test else AGAIN


def _next(tenant: Tenant, restore: Restore, at: datetime, now: datetime) -> Tenant:
    """The tenant without this test, and with the date of the next; whose file asks for none any more has no date."""
    mine = tenant.restore_testing == restore.id
    return replace(
        tenant,
        restore_testing=None if mine else tenant.restore_testing,
        restore_test_at=at if tenant.restore_test else None,
        updated_at=now,
    )


def _unusable(point: Point, restore: Restore, now: datetime) -> Point:
    region = restore.source.region if restore.source.copy else None
    if region is None:
        return replace(point, usable=False, updated_at=now)
    if region not in point.copies:
        return point
    copy = replace(point.copies[region], usable=False)
    return replace(point, copies={**point.copies, region: copy}, updated_at=now)
