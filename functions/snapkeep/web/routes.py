"""What the API understands: one list, from which Flask's routes, the OpenAPI document and the tests are made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec
from werkzeug.exceptions import BadRequest, Conflict, NotFound

from snapkeep import commands, views
from snapkeep.access import Action, Caller
from snapkeep.audit import handler as audit
from snapkeep.commands import Asked
from snapkeep.documents import TENANT_ID_WORD, PointState, Retention, learn
from snapkeep.fleet import policy_of
from snapkeep.ports import Ports
from snapkeep.restore import commands as restoring
from snapkeep.restore.planning import RestoreAsk
from snapkeep.store import SYSTEM, Fleet
from snapkeep.web.mistakes import given, mistake

HOLD_WORD: Final = r"h-[0-9a-f]{12}"
POINT_WORD: Final = r"[0-9]{8}-[smor]-[a-z0-9-]{1,24}-[0-9a-f]{8}"
"""A point's id, before it is asked for: Firestore compares at most 1,500 bytes."""

RESTORE_WORD: Final = r"[0-9]{8}-[dnpt]-[a-z0-9-]{1,24}-[0-9a-f]{8}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand in a path or a query. `otherwise`: what a wrong value is called."""

    words: str
    schema: Mapping[str, Any]
    otherwise: str
    accept: Callable[[str], object]
    required: bool = False


def instant(text: str) -> datetime | None:
    """RFC 3339 with an offset, in UTC; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _word(words: str, pattern: str, otherwise: str, **more: Any) -> Parameter:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return Parameter(words, schema, otherwise, re.compile(pattern).fullmatch, **more)


def _choice(words: str, *choices: str, **more: Any) -> Parameter:
    schema = {"type": "string", "enum": list(choices)}
    return Parameter(words, schema, f"none of {', '.join(choices)}", choices.__contains__, **more)


PATH: Final[Mapping[str, Parameter]] = {
    "tenant": _word("a tenant's id", TENANT_ID_WORD, "no tenant's id"),
    "point": _word("a point's id", POINT_WORD, "no point's id"),
    "hold": _word("a hold's id", HOLD_WORD, "no hold's id"),
    "restore": _word("a restore's id", RESTORE_WORD, "no restore's id"),
    "chain": _word("a tenant's id, or `_system`", f"(_system|{TENANT_ID_WORD})", "no chain"),
    "function": _choice("a function that has ticks", *sorted(views.PERIODS)),
}
"""What stands in braces in a path. Anything else in its place is not there (404)."""

TENANT: Final = _word("of this tenant alone", TENANT_ID_WORD, "no tenant's id")
STATE: Final = _choice("in this state alone", *get_args(PointState))
AFTER: Final = Parameter(
    "`next` of the page before", {"type": "string", "maxLength": 200}, "longer than 200 characters",
    lambda text: len(text) <= 200,
)  # fmt: skip
FROM: Final = Parameter(
    "the number of the first record; default 1", {"type": "integer", "minimum": 1, "maximum": 10**12 - 1},
    "no number of a record", re.compile(r"[1-9][0-9]{0,11}", re.A).fullmatch,
)  # fmt: skip


INSTANCE: Final = _word("of the instance with this name or numeric id alone", r"[a-z0-9-]{1,63}", "no instance")
AT: Final = Parameter(
    "as it will be at this moment", {"type": "string", "format": "date-time"},
    "no moment; expected RFC 3339 with an offset, such as 2027-03-01T00:00:00Z", instant,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has come through the door."""

    ports: Ports
    caller: Caller
    verified: bool  # his identity is proved, not only said
    path: Mapping[str, str]
    query: Mapping[str, str | None]
    body: Any = None
    asked: Asked | None = None

    @property
    def tenant(self) -> str:
        return self.path["tenant"]

    @property
    def only(self) -> str | None:
        """The one tenant that the caller sees; None for all of them."""
        return self.caller.tenant if self.caller.role == "client_admin" else None

    @property
    def ask(self) -> Asked:
        assert self.asked is not None
        return self.asked

    def of_tenant(self) -> str | None:
        """The tenant that a list is of: the one that is asked for, else the one that the caller sees."""
        wanted = self.query["tenant"]
        if self.only is None or wanted is None:
            return wanted or self.only
        if wanted != self.only:
            raise NotFound
        return wanted


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. With `{tenant}` or `{chain}` in its path it is an act on that tenant."""

    name: str  # Flask's endpoint, below `api.`
    method: Literal["GET", "POST"]
    path: str  # below /api/v1, parts in braces
    action: Action
    words: str
    answer: Any  # a msgspec type; None: a JSON object as it is
    handle: Callable[[Call], Any]
    body: type[commands.Ask] | None = None
    query: Mapping[str, Parameter] = field(default_factory=dict)
    approves: Callable[[Ports, Mapping[str, str]], str | None] | None = None  # whose request it would approve

    @property
    def parts(self) -> list[str]:
        """Names of the parts of its path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def of(self) -> str | None:
        """The part that names whose it is."""
        return next((part for part in self.parts if part in ("tenant", "chain")), None)

    @property
    def changes(self) -> bool:
        """Whether it changes anything, and so needs a key."""
        return not self.action.endswith(".read")


# --- reading ------------------------------------------------------------------------------------------------------


def fleet(call: Call) -> views.FleetView:
    return views.fleet(call.ports, call.query["after"], only=call.only)


def tenant(call: Call) -> views.TenantView:
    found = views.tenant(call.ports, call.tenant)
    if found is None:
        raise NotFound
    return found


def points(call: Call) -> views.PointsView:
    return views.points(call.ports, tenant=call.of_tenant(), state=call.query["state"], after=call.query["after"])


def point(call: Call) -> views.PointView:
    of = call.of_tenant()
    if of is not None:
        found = views.point_of(call.ports, of, call.path["point"])
        if found is None:
            raise NotFound
        return found
    match views.point(call.ports, call.path["point"]):
        case [one]:
            return one
        case []:
            raise NotFound
        case several:
            tenants = ", ".join(sorted(one.tenant for one in several))
            raise Conflict(f"tenants {tenants} have a point of this id each; say which with ?tenant=")


def retention(call: Call) -> views.RetentionView:
    at = call.query["at"]
    return _planned(call, call.query["instance"], instant(at) if at else None)


def try_policy(call: Call) -> views.RetentionView:
    policy, mistakes = policy_of(call.body.retention, "body")
    if policy is None:
        raise commands.Wrong("\n".join(str(mistake) for mistake in mistakes))
    at = call.body.at
    return _planned(call, call.body.instance, commands.utc(at, "at") if at else None, policy)


def _planned(
    call: Call, instance: str | None, at: datetime | None, policy: Retention | None = None
) -> views.RetentionView:
    found = views.retention(call.ports, call.tenant, instance=instance, at=at, policy=policy)
    if found is None:
        raise NotFound
    return found


def holds(call: Call) -> views.HoldsView:
    of = call.of_tenant()
    if of is not None and not Fleet(call.ports.documents).tenants_by_id([of]):
        raise NotFound
    return views.holds(call.ports, of)


def restores(call: Call) -> views.RestoresView:
    found = views.restores(call.ports, call.tenant, call.query["after"])
    if found is None:
        raise NotFound
    return found


def restore(call: Call) -> views.RestoreView:
    found = views.restore_of(call.ports, call.tenant, call.path["restore"])
    if found is None:
        raise NotFound
    return found


def orphans(call: Call) -> views.OrphansView:
    return views.orphans(call.ports, call.query["after"])


def controls(call: Call) -> views.ControlsView:
    return views.controls(call.ports, only=call.only)


def access_tables(call: Call) -> views.AccessView:
    return views.access_tables()


def me(call: Call) -> views.MeView:
    return views.me(call.caller, verified=call.verified)


def chains(call: Call) -> views.ChainsView:
    return views.chains(call.ports, call.query["after"], only=call.only)


def chain(call: Call) -> audit.Page:
    id = call.path["chain"]
    fleet = Fleet(call.ports.documents)
    one = audit.page(fleet.tenant(id), int(call.query["from"] or 1))
    # A chain outlives its tenant; of a name that never was one there is nothing.
    if not one.stored and not one.numbered and id != SYSTEM and not fleet.tenants_by_id([id]):
        raise NotFound
    return one


def openapi_document(call: Call) -> dict[str, Any]:
    from snapkeep.web.openapi import document  # made from this list, which names it

    return document()


# --- acting -------------------------------------------------------------------------------------------------------


Act = Callable[[Ports, Asked, str, Any], commands.Answer]
"""A command on a tenant, with the body that it takes."""

Switch = Callable[..., commands.PauseAnswer]
"""`commands.pause` or `commands.resume`."""


def act(command: Act) -> Callable[[Call], commands.Answer]:
    return lambda call: command(call.ports, call.ask, call.tenant, call.body)


def release_hold(call: Call) -> commands.HoldAnswer:
    return commands.release_hold(call.ports, call.ask, call.tenant, call.path["hold"], call.body)


def request_copy(call: Call) -> commands.CopyAnswer:
    return commands.request_copy(call.ports, call.ask, call.tenant, call.path["point"], call.body)


OnRestore = Callable[[Ports, Asked, str, str, Any], commands.Answer]
"""A command on one restore of a tenant, with the body that it takes."""


def on_restore(command: OnRestore) -> Callable[[Call], commands.Answer]:
    return lambda call: command(call.ports, call.ask, call.tenant, call.path["restore"], call.body)


def whose_restore(ports: Ports, path: Mapping[str, str]) -> str | None:
    return restoring.requested_by(ports, path["tenant"], path["restore"])


def in_tenant(switch: Switch) -> Callable[[Call], commands.PauseAnswer]:
    def handle(call: Call) -> commands.PauseAnswer:
        ask: commands.PauseAsk = call.body
        return switch(call.ports, call.ask, ask.what, ask.reason, tenant=call.tenant, dry_run=ask.dry_run)

    return handle


def in_fleet(switch: Switch) -> Callable[[Call], commands.PauseAnswer]:
    def handle(call: Call) -> commands.PauseAnswer:
        ask: commands.FleetPauseAsk = call.body
        return switch(call.ports, call.ask, ask.what, ask.reason, project=ask.project, dry_run=ask.dry_run)

    return handle


def tick(call: Call) -> commands.TickAnswer:
    return commands.tick(call.ports, call.ask, call.path["function"])


ROUTES: Final[tuple[Route, ...]] = (
    Route("fleet", "GET", "/fleet", "fleet.read", "the fleet: totals, a page of its tenants, those in need first",
          views.FleetView, fleet, query={"after": AFTER}),
    Route("tenant", "GET", "/tenants/{tenant}", "tenant.read", "one tenant, its instances and its newest points",
          views.TenantView, tenant),
    Route("points", "GET", "/points", "point.read", "a page of points, the most recently requested first",
          views.PointsView, points, query={"tenant": TENANT, "state": STATE, "after": AFTER}),
    Route("point", "GET", "/points/{point}", "point.read", "one point",
          views.PointView, point, query={"tenant": TENANT}),
    Route("retention", "GET", "/tenants/{tenant}/retention", "retention.read",
          "every stored point, what becomes of it, why", views.RetentionView, retention,
          query={"instance": INSTANCE, "at": AT}),
    Route("policy_try", "POST", "/tenants/{tenant}/retention", "retention.read", "the same by another policy",
          views.RetentionView, try_policy, commands.PolicyAsk),
    Route("restores", "GET", "/tenants/{tenant}/restores", "restore.read",
          "a page of a tenant's restores, the most recently requested first",
          views.RestoresView, restores, query={"after": AFTER}),
    Route("restore", "GET", "/tenants/{tenant}/restores/{restore}", "restore.read", "one restore, step by step",
          views.RestoreView, restore),
    Route("holds", "GET", "/holds", "hold.read", "holds of tenants, instances and points",
          views.HoldsView, holds, query={"tenant": TENANT}),
    Route("orphans", "GET", "/orphans", "orphan.read", "a page of vault projects, and the orphans found in each",
          views.OrphansView, orphans, query={"after": AFTER}),
    Route("controls", "GET", "/controls", "controls.read", "what is paused",
          views.ControlsView, controls),
    Route("access", "GET", "/access", "access.read", "who may do what, and whose work is what",
          views.AccessView, access_tables),
    Route("me", "GET", "/me", "me.read", "who asks, and what he may do",
          views.MeView, me),
    Route("chains", "GET", "/audit", "audit.read", "a page of the names of audit chains",
          views.ChainsView, chains, query={"after": AFTER}),
    Route("chain", "GET", "/audit/{chain}", "audit.read", "a part of an audit chain, as it is stored",
          audit.Page, chain, query={"from": FROM}),
    Route("openapi", "GET", "/openapi.json", "access.read", "this interface, as an OpenAPI 3.1 document",
          None, openapi_document),
    Route("point_request", "POST", "/tenants/{tenant}/points", "point.request", "ask for a point now",
          commands.PointAnswer, act(commands.request_point), commands.PointAsk),
    Route("copy_request", "POST", "/tenants/{tenant}/points/{point}/copies", "copy.request",
          "ask for a copy of a point in the region that is bought",
          commands.CopyAnswer, request_copy, commands.CopyAsk),
    Route("restore_request", "POST", "/tenants/{tenant}/restores", "restore.request",
          "ask for a restore; with `dry_run` for a plan of one",
          restoring.RestoreAnswer, act(restoring.request), RestoreAsk),
    Route("restore_approve", "POST", "/tenants/{tenant}/restores/{restore}/approval", "restore.approve",
          "approve what somebody else asked for",
          restoring.RestoreState, on_restore(restoring.approve), restoring.ApprovalAsk, approves=whose_restore),
    Route("restore_cancel", "POST", "/tenants/{tenant}/restores/{restore}/cancellation", "restore.cancel",
          "end a restore, and have taken back what it did",
          restoring.RestoreState, on_restore(restoring.cancel), restoring.CancelAsk),
    Route("restore_undo", "POST", "/tenants/{tenant}/restores/{restore}/undo", "restore.request",
          "ask for the disks back that a restore in place has replaced",
          restoring.RestoreAnswer, on_restore(restoring.undo), restoring.UndoAsk),
    Route("hold_add", "POST", "/tenants/{tenant}/holds", "hold.add", "hold a point, a copy, an instance or the tenant",
          commands.HoldAnswer, act(commands.add_hold), commands.HoldAsk),
    Route("hold_release", "POST", "/tenants/{tenant}/holds/{hold}/release", "hold.release", "end a hold",
          commands.HoldAnswer, release_hold, commands.ReleaseAsk),
    Route("tenant_pause", "POST", "/tenants/{tenant}/pause", "tenant.pause", "stop one kind of change of a tenant",
          commands.PauseAnswer, in_tenant(commands.pause), commands.PauseAsk),
    Route("tenant_resume", "POST", "/tenants/{tenant}/resume", "tenant.resume", "let it go on",
          commands.PauseAnswer, in_tenant(commands.resume), commands.PauseAsk),
    Route("apply", "POST", "/tenants/{tenant}/apply", "tenant.apply", "store a tenant as the fleet file has it",
          commands.ApplyAnswer, act(commands.apply_tenant), commands.ApplyAsk),
    Route("override", "POST", "/tenants/{tenant}/override", "retention.override",
          "let points go once in spite of a breach",
          commands.OverrideAnswer, act(commands.override), commands.OverrideAsk),
    Route("offboard", "POST", "/tenants/{tenant}/offboard", "tenant.offboard", "say when a tenant leaves, or stays",
          commands.OffboardAnswer, act(commands.offboard), commands.OffboardAsk),
    Route("schedule", "POST", "/tenants/{tenant}/schedule", "schedule.switch", "switch a client's schedule on or off",
          commands.SwitchAnswer, act(commands.switch_schedule), commands.SwitchAsk),
    Route("pause", "POST", "/controls/pause", "fleet.pause", "stop one kind of change of the fleet or of a project",
          commands.PauseAnswer, in_fleet(commands.pause), commands.FleetPauseAsk),
    Route("resume", "POST", "/controls/resume", "fleet.resume", "let it go on",
          commands.PauseAnswer, in_fleet(commands.resume), commands.FleetPauseAsk),
    Route("tick", "POST", "/ticks/{function}", "tick", "wake a function now",
          commands.TickAnswer, tick, commands.TickAsk),
)  # fmt: skip

BY_NAME: Final[Mapping[str, Route]] = {route.name: route for route in ROUTES}

# An act's answer too: it is read again where the same key asks once more.
learn(*(kind for route in ROUTES if route.body for kind in (route.body, route.answer) if kind))


def checked(given: Mapping[str, list[str]], allowed: Mapping[str, Parameter]) -> dict[str, str | None]:
    """The parameters of a query, each at most once; None for one that is not given. Raises BadRequest."""
    unknown = sorted(given.keys() - allowed.keys())
    if unknown:
        expected = f"expected {', '.join(allowed)}" if allowed else "none is expected"
        raise BadRequest(f"{unknown[0]}: no such parameter here; {expected}")
    values: dict[str, str | None] = {}
    for name, parameter in allowed.items():
        said = given.get(name, [])
        if len(said) > 1:
            raise BadRequest(f"{name}: given more than once")
        value = said[0] if said else None
        if value == "":
            raise BadRequest(f"{name}: empty; leave it out, or give {parameter.words}")
        if value is None and parameter.required:
            raise BadRequest(f"{name}: missing; expected {parameter.words}")
        if value is not None and not parameter.accept(value):
            raise BadRequest(f"{name}: {value!r} is {parameter.otherwise}")
        values[name] = value
    return values


def parsed(body: bytes, kind: type[commands.Ask]) -> commands.Ask:
    """The body of a request. Raises BadRequest with what is wrong and where."""
    try:
        return msgspec.json.decode(body.decode(), type=kind)
    except UnicodeDecodeError:
        raise BadRequest("body: not UTF-8") from None
    except msgspec.ValidationError as error:
        raise BadRequest(mistake(error, given(body), kind)) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"body: not JSON ({error})") from None
    except RecursionError:
        raise BadRequest("body: nested too deeply") from None
