"""`snapkeep doctor`: what is wrong with a deployment or a local cloud, and how it is mended.

A local cloud is read through its controls and its emulators, a deployment through Google's control planes with the
operator's own Application Default Credentials. Nothing is changed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from snapkeep import indexes, permissions, wiring
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.cli.target import Unheard
from snapkeep.cli.typed import Name
from snapkeep.cloud import partial_link
from snapkeep.deployment import deployment
from snapkeep.doctor import checks
from snapkeep.doctor.checks import LETTERS_DAYS, RESTART, Granted, Verdict, Wanted
from snapkeep.doctor.facts import (
    Facts,
    Function,
    Indexed,
    Job,
    Known,
    NotHere,
    Offset,
    Read,
    Resource,
    TenantProject,
    Tick,
    Unread,
)
from snapkeep.wording import count

if TYPE_CHECKING:
    from snapkeep.gcp.platform import Plane, TenantDocument

ROLE_PREFIX: Final = "snapkeep"
"""What the ids of custom roles begin with, where Terraform was given nothing else."""

TEXT_WIDTH_MAX: Final = 100
"""Of what is read as text, however wide the terminal is."""


@click.command()
@click.option("--project", type=Name(), help="Of a deployment: its project.  [default: SNAPKEEP_PROJECT]")
@click.option("--region", help="Of a deployment: its region.  [default: that of its functions]")
@click.option("--tenant", type=Name(), help="Of the tenants look at this one alone.")
@click.option(
    "--role-prefix",
    default=ROLE_PREFIX,
    show_default=True,
    help="Of a deployment: what the ids of its custom roles begin with, as Terraform's role_prefix says.",
)
@click.pass_obj
def doctor(output: Output, project: str | None, region: str | None, tenant: str | None, role_prefix: str) -> None:
    """Say what is wrong with this Snapkeep, and how to mend it. Status 0: all is well and could be looked at.

    The local cloud at SNAPKEEP_API, or a deployment: with an https SNAPKEEP_API, or a --project.
    """
    wanted = declared(role_prefix)
    if project or target.over_https():
        project = project or target.project()
        if project is None:
            raise click.UsageError("--project: missing, and SNAPKEEP_PROJECT is not set: a deployment is in one")
        facts = _deployed(wanted, project, region, tenant)
    else:
        if tenant or region:
            raise click.UsageError(
                f"--{'tenant' if tenant else 'region'}: of a deployment; a local cloud has none to look at"
            )
        facts = _local()
    verdicts = checks.examined(facts, wanted)
    if output.as_json:
        output.json({"project": facts.project, "green": checks.green(verdicts), "checks": verdicts})
    else:
        _print(output, verdicts)
    if not checks.green(verdicts):
        fail(_summary(verdicts))


# --- a local cloud ------------------------------------------------------------------------------------------------


NO_POLICIES: Final = NotHere("a local cloud has no IAM: everybody may do everything")
NO_INDEXES: Final = NotHere("the emulator answers queries without indexes")


class _Environment(msgspec.Struct, frozen=True):
    """What is read of `GET /_sim/environment`."""

    project: str
    database: str
    pubsub: str
    firestore: str


class _Delivery(msgspec.Struct, frozen=True):
    """What is read of `GET /_sim/deliveries`, of one function."""

    pid: int | None
    in_flight: int
    unsettled: int


class _Scheduler(msgspec.Struct, frozen=True):
    """`GET /_sim/scheduler`."""

    running: bool
    since: datetime


class _Clock(msgspec.Struct, frozen=True):
    """What is read of `GET /_sim/clock`."""

    now: datetime


class _Fleet(msgspec.Struct, frozen=True):
    """What is read of `GET /api/v1/fleet`."""

    at: datetime


def _local() -> Facts:
    """What a local cloud's controls and emulators say. Ends with status 1 where there is none."""
    from snapkeep.gcp.platform import Plane, read

    try:
        where = target.hear(_Environment, "/_sim/environment")
        now = target.hear(_Clock, "/_sim/clock").now
    except Unheard as reason:
        fail(str(reason))
    plane = Plane(where.project, {"pubsub": f"http://{where.pubsub}", "firestore": f"http://{where.firestore}"})
    deliveries = _heard(dict[str, _Delivery], "/_sim/deliveries")
    since = now - timedelta(days=LETTERS_DAYS)
    return Facts(
        local=True,
        project=where.project,
        now=now,
        functions=_mapped(deliveries, _processes),
        topics=_emulated(read(plane.topics)),
        subscriptions=_emulated(read(plane.subscriptions)),
        waiting_letters=_mapped(deliveries, lambda of: of["dead_letters"].in_flight + of["dead_letters"].unsettled),
        settled_letters=_emulated(read(lambda: plane.dead_letters(where.database, since))),
        jobs=_mapped(_heard(_Scheduler, "/_sim/scheduler"), _jobs),
        ticks=_emulated(read(lambda: plane.ticks(where.database, comparable=False))),
        clocks=_clocks(),
        apis=NotHere("a local cloud asks for no APIs"),
        agent=NO_POLICIES,
        grants=NO_POLICIES,
        database=NotHere("the emulator has neither protection nor recovery"),
        composites=NO_INDEXES,
        fields=NO_INDEXES,
        roles=NO_POLICIES,
        policy=NO_POLICIES,
        keys=NO_POLICIES,
        quotas=NotHere("the simulated Compute Engine has none"),
        projects=NO_POLICIES,
    )


def _heard(kind: type[Any], path: str) -> Read[Any]:
    try:
        return Known(target.hear(kind, path))
    except Unheard as reason:
        return Unread(str(reason), RESTART)


def _emulated(read: Read[Any]) -> Read[Any]:
    """An emulator that does not answer comes back with its local cloud alone."""
    return Unread(read.why, RESTART) if isinstance(read, Unread) else read


def _mapped(read: Read[Any], into: Any) -> Read[Any]:
    return Known(into(read.value)) if isinstance(read, Known) else read


def _processes(deliveries: dict[str, _Delivery]) -> dict[str, Function]:
    """Each function's process; one without an id has died and is on its way back."""
    return {
        name: Function("ACTIVE" if of.pid else "without a process", None, None, None, None)
        for name, of in deliveries.items()
    }


def _jobs(scheduler: _Scheduler) -> dict[str, Job]:
    """The stand-in has the schedules of infra/functions.yaml itself; it runs, or it does not."""
    state = "ENABLED" if scheduler.running else "PAUSED"
    return {
        name: Job(function.schedule, "UTC", state, function.topic, scheduler.since, None)
        for name, function in deployment().functions.items()
        if function.schedule is not None
    }


def _clocks() -> Read[tuple[Offset, ...]]:
    """The clock that the API lives by, held to the local cloud's: to what that said before and after."""
    try:
        before = target.hear(_Clock, "/_sim/clock").now
        at = target.hear(_Fleet, f"{target.API_PATH}/fleet").at
        after = target.hear(_Clock, "/_sim/clock").now
    except Unheard as reason:
        return Unread(str(reason), RESTART)
    nearest = min(max(at, before), after)
    return Known((Offset("the clock of function web", "the local cloud's", at - nearest),))


# --- a deployment -------------------------------------------------------------------------------------------------


def declared(role_prefix: str = ROLE_PREFIX) -> Wanted:
    """What is declared of functions, indexes and roles, whose ids begin with `role_prefix`."""
    return Wanted(
        deployment=deployment(),
        composites=frozenset((one.collection, one.scope, one.fields) for one in indexes.composites()),
        fields={
            (one.collection, one.field): Indexed(frozenset(one.indexes), ready=True, expires=one.ttl)
            for one in indexes.fields()
        },
        roles=tuple(
            Granted(
                id=f"{role_prefix}{one.id.removeprefix(ROLE_PREFIX)}",
                function=one.function,
                place=one.place,
                permissions=frozenset(one.permissions),
                conditional=one.condition is not None,
            )
            for one in permissions.roles()
        ),
    )


def _deployed(wanted: Wanted, project: str, region: str | None, tenant: str | None) -> Facts:
    """What Google's control planes say. Ends with status 1 where nobody is signed in."""
    from snapkeep.gcp.platform import Plane
    from snapkeep.gcp.signin import CannotSignIn, signed_in

    try:
        with signed_in():
            return read_deployment(Plane(project), wanted, target.database(), region, tenant)
    except CannotSignIn as reason:
        fail(str(reason))


def read_deployment(plane: Plane, wanted: Wanted, database: str, region: str | None, tenant: str | None) -> Facts:
    """What can be read of a deployment. Raises google.auth's exceptions where nobody is signed in."""
    from snapkeep.gcp.platform import read

    clock = wiring.SystemClock()
    before = clock.now()
    google = read(plane.google_time)
    after = clock.now()
    now = google.value[0] if isinstance(google, Known) else before
    where = Known(region) if region else read(plane.region)
    ticks = read(lambda: plane.ticks(database, comparable=True))
    letters = wanted.deployment.subscription.dead_letter_topic
    dying = [topic for topic in wanted.woken.values() if topic != letters]
    own = dict.fromkeys(role.id for role in wanted.roles if role.place in ("snapkeep", "topic"))
    tenants = read(lambda: plane.tenants(database, tenant))
    return Facts(
        local=False,
        project=plane.project,
        now=now,
        functions=_named(_then(where, lambda at: read(lambda: plane.functions(at))), wanted.deployment.functions),
        topics=read(plane.topics),
        subscriptions=read(plane.subscriptions),
        waiting_letters=read(lambda: plane.waiting(letters, now)),
        settled_letters=read(lambda: plane.dead_letters(database, now - timedelta(days=LETTERS_DAYS))),
        jobs=_named(_then(where, lambda at: read(lambda: plane.jobs(at))), wanted.ticking),
        ticks=ticks,
        clocks=_then(google, lambda of: _mapped(ticks, lambda found: _apart(before, after, of[0], found))),
        apis=read(lambda: plane.apis(plane.project)),
        agent=_mapped(google, lambda of: of[1]),
        grants=read(lambda: plane.grants([letters], dying)),
        database=read(lambda: plane.database(database)),
        composites=read(lambda: plane.composites(database)),
        fields=read(lambda: plane.fields(database)),
        roles=read(lambda: plane.roles(plane.project, own)),
        policy=read(lambda: plane.policy(plane.project)),
        keys=read(lambda: plane.keys(map(checks.account, wanted.deployment.functions))),
        quotas=_then(tenants, lambda found: _quotas(plane, database, found)),
        projects=_mapped(tenants, lambda found: _projects(plane, wanted, found)),
    )


def _then(first: Read[Any], following: Callable[[Any], Read[Any]]) -> Read[Any]:
    """What is read by what was read before."""
    return following(first.value) if isinstance(first, Known) else first


def _named(found: Read[Any], functions: Iterable[str]) -> Read[Any]:
    """What goes by the names of deployed functions, by those of infra/functions.yaml."""
    names = {checks.deployed_name(name): name for name in functions}
    return _mapped(found, lambda all: {names[name]: one for name, one in all.items() if name in names})


def _apart(before: datetime, after: datetime, google: datetime, ticks: Mapping[str, Tick]) -> tuple[Offset, ...]:
    """How far this machine's clock and the functions' are from Google's, as far as the times between allow."""
    nearest = min(max(google, before), after)
    here = Offset(checks.THIS_MACHINE, "Google's", nearest - google)
    return (
        here,
        *(
            Offset(f"the clock of function {name}", "Firestore's", tick.at - tick.written_at)
            for name, tick in sorted(ticks.items())
            if tick.written_at is not None
        ),
    )


def _quotas(plane: Plane, database: str, tenants: Sequence[TenantDocument]) -> Read[Any]:
    """Of every project of tenants, in the regions of their instances. The first that cannot be told is told."""
    from snapkeep.gcp.platform import read

    regions: dict[str, set[str]] = {}
    for one in tenants:
        found = read(partial(plane.regions, database, one.id))
        if not isinstance(found, Known):
            return found
        for project in (one.project, one.vault_project):
            regions.setdefault(project, set()).update(found.value)
    return read(lambda: tuple(quota for project, of in regions.items() for quota in plane.quotas(project, of)))


def _projects(plane: Plane, wanted: Wanted, tenants: Sequence[TenantDocument]) -> tuple[TenantProject, ...]:
    """Every project of these tenants, with the keys and networks that they name."""
    from snapkeep.gcp.platform import read

    places: dict[str, set[str]] = {}
    of: dict[str, list[str]] = {}
    resources: dict[str, dict[str, Resource]] = {}
    for one in tenants:
        for project, place in ((one.project, "instances"), (one.vault_project, "vault")):
            places.setdefault(project, set()).add(place)
            if one.id not in of.setdefault(project, []):
                of[project].append(one.id)
        named = resources.setdefault(one.project, {})
        for key in one.kms_keys.values():
            named[key] = Resource("KMS key", key, read(partial(plane.key, key)))
        if one.restore_test:
            network = partial_link(one.restore_test.network)
            named[network] = Resource("network of restore tests", network, read(partial(plane.network, network)))
    found = []
    for project, its in places.items():
        roles = [role.id for role in wanted.roles if role.place in its]
        found.append(
            TenantProject(
                id=project,
                tenants=tuple(of[project]),
                places=frozenset(its),
                compute=_mapped(read(partial(plane.apis, project)), lambda on: "compute.googleapis.com" in on),
                roles=read(partial(plane.roles, project, roles)),
                policy=read(partial(plane.policy, project)),
                resources=tuple(resources.get(project, {}).values()),
            )
        )
    return tuple(found)


# --- what is printed ----------------------------------------------------------------------------------------------


def _print(output: Output, verdicts: tuple[Verdict, ...]) -> None:
    output.table(
        ("CHECK", "VERDICT", "LOOKED AT"),
        [(one.check, one.stand, one.said or _untold(one)) for one in verdicts],
        text=("LOOKED AT",),
    )
    told = [
        (f"{finding.severity}: {finding.where}: {finding.what}", finding.mend)
        for one in verdicts
        for finding in one.findings
    ]
    told += [(f"cannot be told: {one.why}", one.mend) for verdict in verdicts for one in verdict.untold]
    for number, (what, mend) in enumerate(told, 1):
        output.line("")
        lead = f"{number}. "
        width = min(output.console.width, TEXT_WIDTH_MAX) if output.bounded else TEXT_WIDTH_MAX
        hang = " " * len(lead)
        output.line(
            textwrap.fill(
                what,
                width,
                initial_indent=lead,
                subsequent_indent=hang,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
        output.line(f"{hang}mend: {mend}")  # in one line, however long: it is there to be copied


def _untold(verdict: Verdict) -> str:
    return f"{count(len(verdict.untold), 'thing')} could not be read: see below" if verdict.untold else ""


def _summary(verdicts: tuple[Verdict, ...]) -> str:
    findings = sum(len(one.findings) for one in verdicts)
    untold = sum(len(one.untold) for one in verdicts)
    parts = [count(findings, "finding")] if findings else []
    parts += [f"{untold} could not be told"] if untold else []
    return f"{' and '.join(parts)}: see above"
