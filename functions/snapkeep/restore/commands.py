"""What a person may ask of restores: a plan, a restore, its approval, its end, and that it is undone.

From documents alone: nothing here reaches Compute Engine. What was decided, function `restore` carries out.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import hints
from snapkeep.access import RIGHTS
from snapkeep.commands import Act, Answer, Ask, Asked, Clash, Wrong, once, owner_of, record_of
from snapkeep.messages import Reason, RestoreBatch, RestoreRef
from snapkeep.ports import Ports, Write
from snapkeep.restore import claims, life, planning, rules, testing, words
from snapkeep.restore.planning import Plan, RestoreAsk
from snapkeep.store import Event, Fleet, Held, TenantStore, created
from snapkeep.wording import moment

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

CANCELLED: Final = "cancelled"
"""The code of the failure of a restore that a person has ended."""


class RestorePlan(Answer, frozen=True, kw_only=True):
    """What a restore would be, or is asked for as."""

    mode: d.RestoreMode
    point: str
    instance: d.InstanceRef  # the point's
    source: d.RestoreSource
    target: d.RestoreTarget
    disks: list[d.RestoreDisk]
    size_gb: int  # of those disks together
    steps: list[str]
    lacking: list[d.Lacking]
    unhandled: list[str]  # items of these that are neither supplied nor waived: it cannot be asked for so
    needs_approval: bool
    approvers: list[str]  # roles; nobody approves his own request
    estimate_s: int | None  # null: none has been measured yet
    lines: list[str]  # all that a person should know, in sentences, the gravest first


class RestoreAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    restore: str | None  # its id; null in a dry run
    state: str
    request_sha256: str | None  # what an approval names; null in a dry run
    approve_by: datetime | None
    plan: RestorePlan
    dry_run: bool = False


class ApprovalAsk(Ask, frozen=True, kw_only=True):
    """Approve the one request that has this hash, and no other."""

    request_sha256: Sha256


class CancelAsk(Ask, frozen=True, kw_only=True):
    reason: Reason
    dry_run: bool = False


class UndoAsk(Ask, frozen=True, kw_only=True):
    """Put back the disks that a completed restore in place has detached."""

    reason: Reason
    dry_run: bool = False


class RestoreState(Answer, frozen=True, kw_only=True):
    """Where a restore stands after an act on it."""

    tenant: str
    restore: str
    state: str
    abandoned: bool = False  # what it did is being taken back; it ends when that is done
    dry_run: bool = False


# --- asking for one -----------------------------------------------------------------------------------------------


def request(ports: Ports, asked: Asked, tenant: str, ask: RestoreAsk) -> RestoreAnswer:
    """Commit a restore with all that it has to itself; or, in a dry run, plan it.

    Raises NoTenant, Wrong (what is lacking and not spoken of too), Clash, Transient.
    """
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[RestoreAnswer, Act | None]:
        owner = owner_of(store).value
        stored = store.get(d.Point, "points", ask.point)
        if stored is None:
            raise Wrong(f"point: {tenant!r} has no point {ask.point!r}")
        point = stored.value
        instance = store.get(d.Instance, "instances", point.instance.id)
        plan = planning.plan(
            ask,
            owner,
            instance.value if instance else None,
            point,
            _past(store),
            now,
            by=asked.by,
            act=asked.act,
            paused=_paused(ports, owner),
        )
        if ask.dry_run:
            return _answer(owner, plan, dry_run=True), None
        if plan.unhandled:
            lacks = words.named(repr(item) for item in plan.unhandled)
            raise Wrong(f"supply, waive: nothing is said of {lacks}; expected each to be supplied or waived")
        return _answer(owner, plan), _requested(store, asked, plan, now, [])

    return _told(ports, once(ports, tenant, asked, RestoreAnswer, decide))


def undo(ports: Ports, asked: Asked, tenant: str, restore: str, ask: UndoAsk) -> RestoreAnswer:
    """Commit a restore that puts back what another has detached. Raises NoTenant, Wrong, Clash, Transient."""
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[RestoreAnswer, Act | None]:
        owner = owner_of(store).value
        done = _restore(store, restore)
        instance = store.get(d.Instance, "instances", done.value.instance.id)
        if why := planning.not_replaceable(owner, instance.value if instance else None, done.value.instance):
            raise Clash(why)
        plan = planning.undo_plan(
            done.value, owner, ask.reason, _past(store), now, by=asked.by, act=asked.act, paused=_paused(ports, owner)
        )
        if ask.dry_run:
            return _answer(owner, plan, dry_run=True), None
        return _answer(owner, plan), _requested(store, asked, plan, now, [done.replaced(_kept_for(done.value, now))])

    return _told(ports, once(ports, tenant, asked, RestoreAnswer, decide))


def _requested(store: TenantStore, asked: Asked, plan: Plan, now: datetime, more: list[Write]) -> Act:
    one = plan.restore
    detail = {
        "mode": one.mode,
        "point": one.recovery_point,
        "source": one.source,
        "target": one.target,
        "disks": len(one.disks),
        "lacking": one.lacking,
        "reason": one.reason,
        "request_sha256": one.request_sha256,
        "needs_approval": one.needs_approval,
        "approve_by": one.approve_by,
    }
    writes = [created(store.path("restores", one.id), one), *claims.taken(store, one, plan.supplied, now), *more]
    return Act(record_of(now, asked, "restore.requested", f"restores/{one.id}", detail, "requested"), writes)


def _kept_for(done: d.Restore, now: datetime) -> d.Restore:
    """The restore that is to be undone: its former disks are kept at least for as long as that may take."""
    until = max(done.keep_until or now, now + rules.HOLD_FOR)
    return replace(done, keep_until=until, next_at=until if done.next_at else None, updated_at=now)


def _answer(owner: d.Tenant, plan: Plan, *, dry_run: bool = False) -> RestoreAnswer:
    one = plan.restore
    told = RestorePlan(
        mode=one.mode,
        point=one.recovery_point,
        instance=one.instance,
        source=one.source,
        target=one.target,
        disks=one.disks,
        size_gb=sum(disk.size_gb for disk in one.disks),
        steps=[step.name for step in one.steps],
        lacking=one.lacking,
        unhandled=list(plan.unhandled),
        needs_approval=one.needs_approval,
        approvers=list(RIGHTS["restore.approve"].roles(owner.deployment)) if one.needs_approval else [],
        estimate_s=one.estimate_s,
        lines=list(plan.lines),
    )
    return RestoreAnswer(
        tenant=owner.id,
        # They follow from the moment, too: the request itself will have others.
        restore=None if dry_run else one.id,
        request_sha256=None if dry_run else one.request_sha256,
        state=one.state,
        approve_by=one.approve_by,
        plan=told,
        dry_run=dry_run,
    )


def _past(store: TenantStore) -> list[d.Restore]:
    """The tenant's newest restores, a page of them: what an estimate is made from."""
    return [one.value for one in store.walk(d.Restore, "tenant_restores", pages=1)]


def _paused(ports: Ports, owner: d.Tenant) -> bool:
    controls = Fleet(ports.documents).controls()
    return controls is not None and controls.paused.restore.covers(project=owner.project, tenant=owner.id)


def _told(ports: Ports, answer: RestoreAnswer) -> RestoreAnswer:
    if not answer.dry_run and answer.restore is not None:
        _hint(ports, answer.tenant, answer.restore, begins=answer.state == "approved")
    return answer


def _hint(ports: Ports, tenant: str, restore: str, *, begins: bool) -> None:
    if begins:
        hints.send(ports.bus, "restore", RestoreBatch(restores=[RestoreRef(tenant, restore)]))
    hints.nudge(ports.bus, [tenant], "audit")


# --- deciding about one -------------------------------------------------------------------------------------------


def requested_by(ports: Ports, tenant: str, restore: str) -> str | None:
    """Who asked for a restore; None where there is none. What the door holds self-approval by."""
    found = Fleet(ports.documents).tenant(tenant).get(d.Restore, "restores", restore)
    return found.value.requested_by if found else None


def approve(ports: Ports, asked: Asked, tenant: str, restore: str, ask: ApprovalAsk) -> RestoreState:
    """Let a request begin: once, in time, by its hash, and by another person than asked for it.

    Raises NoTenant, Wrong, Clash, Transient.
    """
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[RestoreState, Act]:
        owner_of(store)
        seen = _restore(store, restore)
        one = seen.value
        _may_be_approved(one, asked.by, ask.request_sha256, now)
        after = replace(
            one,
            state="approved",
            approved_by=asked.by,
            approved_at=now,
            start_by=now + rules.BEGIN_WITHIN,
            next_at=now,
            updated_at=now,
        )
        detail = {"request_sha256": one.request_sha256, "requested_by": one.requested_by, "mode": one.mode}
        record = record_of(now, asked, "restore.approved", f"restores/{one.id}", detail)
        return RestoreState(tenant=tenant, restore=one.id, state=after.state), Act(record, [seen.replaced(after)])

    answer = once(ports, tenant, asked, RestoreState, decide)
    _hint(ports, tenant, restore, begins=True)
    return answer


def _may_be_approved(one: d.Restore, by: str, sha256: str, now: datetime) -> None:
    """Raises Clash with what stands against it."""
    if not one.needs_approval:
        raise Clash(f"{one.id} needs no approval")
    if one.approved_by is not None:
        raise Clash(f"{one.id} was approved already, by {one.approved_by}: an approval is used once")
    if one.state != "requested":
        raise Clash(f"{one.id} is {one.state}: ask for it again")
    if one.approve_by is not None and one.approve_by <= now:
        raise Clash(f"{one.id} had to be approved by {moment(one.approve_by)}: ask for it again")
    if one.request_sha256 != sha256:
        raise Clash(f"request_sha256: not that of {one.id}; read what it is now, and approve that")
    if one.requested_by == by:
        raise Clash("nobody approves his own request")


def cancel(ports: Ports, asked: Asked, tenant: str, restore: str, ask: CancelAsk) -> RestoreState:
    """End a restore: at once where it has not begun, else by taking back what it did.

    Raises NoTenant, Wrong, Clash (it has ended; it is being taken back), Transient.
    """
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[RestoreState, Act | None]:
        owner = owner_of(store)
        seen = _restore(store, restore)
        one = seen.value
        event = None
        why = d.Failure(code=CANCELLED, message=f"{asked.by}: {ask.reason}"[:500])
        detail = {"was": one.state, "reason": ask.reason, "mode": one.mode}
        writes: list[Write]
        if one.state in ("requested", "approved"):
            action = "restore.cancelled"
            after = life.over(one, "cancelled", why, now)
            writes = [seen.replaced(after), *claims.released(store, one, now)]
            if one.purpose == "test":
                told, said = testing.given_up(after, owner.value, now)
                event = Event("restore_test.failed", after.id, said)
                writes.append(owner.replaced(told))
        elif one.state == "running" and one.abandoned is None:
            action = "restore.abandoned"
            after = rules.abandon(one, "cancelled", asked.by, why, now)
            writes = [seen.replaced(after)]
        elif one.state == "running":
            raise Clash(f"{one.id} was given up already: what it did is being taken back")
        else:
            raise Clash(f"{one.id} is {one.state}: there is nothing to cancel")
        given_up = after.abandoned is not None
        answer = RestoreState(tenant=tenant, restore=one.id, state=after.state, abandoned=given_up, dry_run=ask.dry_run)
        if ask.dry_run:
            return answer, None
        record = record_of(now, asked, action, f"restores/{one.id}", detail)
        return answer, Act(dataclasses.replace(record, event=event), writes)

    answer = once(ports, tenant, asked, RestoreState, decide)
    if not ask.dry_run:
        _hint(ports, tenant, restore, begins=answer.abandoned)
    return answer


def _restore(store: TenantStore, id: str) -> Held[d.Restore]:
    found = store.get(d.Restore, "restores", id)
    if found is None:
        raise Wrong(f"restore: {store.tenant!r} has no restore {id!r}")
    return found
