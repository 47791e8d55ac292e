"""What a living restore has to itself: the hold on its set, the claim on its instance, what a person supplied.

All of it is taken in the commit that makes the restore, and given back in the one that ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep.asking import Clash
from snapkeep.commands import hold_point
from snapkeep.copies import sets
from snapkeep.ports import Write
from snapkeep.restore import rules
from snapkeep.store import Held, TenantStore, created


def region_held(restore: d.Restore) -> str | None:
    """The region of the copy that the restore is made from; None: of the point at home."""
    return restore.source.region if restore.source.copy else None


def taken(store: TenantStore, restore: d.Restore, supplied: Mapping[str, str], now: datetime) -> list[Write]:
    """What a new restore writes besides itself.

    A set in its grace is called back by the hold. Raises Clash where another restore has the instance, or the set's
    deletion has begun.
    """
    writes: list[Write] = []
    if restore.source.undoes is None:
        held, _ = hold_point(store, restore.recovery_point, region_held(restore), rules.hold(restore), now)
        writes.append(held)
    if link := rules.claimed(restore):
        writes.append(_claimed(store, link, restore.id, now))
    if supplied:
        kept = d.Supplied(updated_at=now, values=dict(supplied), expire_at=now + rules.HOLD_FOR)
        writes.append(created(store.path("supplied", restore.id), kept))
    return writes


def _claimed(store: TenantStore, link: str, restore: str, now: datetime) -> Write:
    id = rules.claim_id(link)
    before = store.get(d.RestoreClaim, "restore_claims", id)
    claim = d.RestoreClaim(updated_at=now, instance=link, restore=restore)
    if before is None:
        return created(store.path("restore_claims", id), claim)
    if before.value.restore is not None:
        raise Clash(
            f"{link} has a restore already, {before.value.restore}: one at a time. Wait for its end, or cancel it"
        )
    return before.replaced(claim)


def released(store: TenantStore, restore: d.Restore, now: datetime) -> list[Write]:
    """What the end of a restore writes besides it: the hold on its set, and the rest."""
    point = store.get(d.Point, "points", restore.recovery_point)
    after = without_hold(point.value, restore, now) if point else None
    freed: list[Write] = [point.replaced(after)] if point and after != point.value and after else []
    return freed + released_rest(store, restore, now)


def released_rest(store: TenantStore, restore: d.Restore, now: datetime) -> list[Write]:
    """The same but for the point, for who has more to write of that (`without_hold`)."""
    writes: list[Write] = []
    claim = claim_of(store, restore)
    if claim is not None and claim.value.restore == restore.id:
        writes.append(claim.replaced(replace(claim.value, restore=None, updated_at=now)))
    supplied = store.get(d.Supplied, "supplied", restore.id)
    if supplied is not None and supplied.value.values:
        writes.append(supplied.replaced(replace(supplied.value, values={}, updated_at=now)))
    return writes


def claim_of(store: TenantStore, restore: d.Restore) -> Held[d.RestoreClaim] | None:
    """The claim on the instance of a restore, whoever has it; None where there is none."""
    link = rules.claimed(restore)
    return store.get(d.RestoreClaim, "restore_claims", rules.claim_id(link)) if link is not None else None


def without_hold(point: d.Point, restore: d.Restore, now: datetime) -> d.Point:
    """The point without the hold of a restore; as it is where it has none."""
    holds = _holds(point, restore) or []
    rest = [hold for hold in holds if hold.id != rules.hold_id(restore.id)]
    return replace(_with_holds(point, restore, rest), updated_at=now) if rest != holds else point


def with_hold(point: d.Point, restore: d.Restore) -> d.Point:
    """The point with the hold of a restore; as it is where it has that, or nothing is restored from it."""
    holds = _holds(point, restore)
    if holds is None or any(hold.id == rules.hold_id(restore.id) for hold in holds):
        return point
    return _with_holds(point, restore, [*holds, rules.hold(restore)])


def _holds(point: d.Point, restore: d.Restore) -> list[d.Hold] | None:
    """The holds of the set that is restored from; None where there is no such set, or it is not restored from."""
    region = region_held(restore)
    if restore.source.undoes is not None or (region is not None and region not in point.copies):
        return None
    return sets.as_point(point, region).holds


def _with_holds(point: d.Point, restore: d.Restore, holds: list[d.Hold]) -> d.Point:
    region = region_held(restore)
    stored = replace(sets.as_point(point, region), holds=holds, held=bool(holds))
    return replace(sets.with_set(point, region, stored), updated_at=point.updated_at)
