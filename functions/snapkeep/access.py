"""Who may do what: one table of action by deployment by role, and one of who is responsible for what.

Pure. The door (`web/door.py`) asks `decide` before anything happens, `snapkeep access show` prints both tables, and
docs/access.md is written from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from snapkeep.documents import Role

Deployment = Literal["saas", "private_saas"]
Scope = Literal["fleet", "tenant"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
DEPLOYMENTS: Final[tuple[Deployment, ...]] = get_args(Deployment)

ROLE_WORDS: Final[Mapping[Role, str]] = {
    "viewer": "of the vendor: sees every tenant and changes nothing",
    "operator": "of the vendor: keeps things running; takes points, sets holds, stops what goes wrong",
    "admin": "of the vendor: also what lets points go, and what the fleet is",
    "auditor": "of the vendor or from outside: reads everything, the audit chains too, and changes nothing",
    "client_admin": "of one tenant: sees that tenant alone, and acts for it where the deployment is private_saas",
}

Action = Literal[
    "me.read",
    "access.read",
    "fleet.read",
    "tenant.read",
    "point.read",
    "retention.read",
    "restore.read",
    "hold.read",
    "orphan.read",
    "controls.read",
    "audit.read",
    "point.request",
    "copy.request",
    "restore.request",
    "restore.approve",
    "restore.cancel",
    "hold.add",
    "hold.release",
    "retention.override",
    "tenant.pause",
    "tenant.resume",
    "schedule.switch",
    "tenant.apply",
    "tenant.offboard",
    "fleet.pause",
    "fleet.resume",
    "tick",
]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known: his email address as it was verified, and what `principals` says of it."""

    email: str
    role: Role
    tenant: str | None = None  # of a client_admin: the one tenant that he sees

    def sees(self, tenant: str) -> bool:
        return self.role != "client_admin" or self.tenant == tenant


@dataclass(frozen=True, slots=True)
class Right:
    """A row of the table: an action, of what it is, and the roles that may do it in each deployment."""

    action: Action
    scope: Scope  # fleet: of the fleet as a whole; a client_admin is shown what of it is his tenant's
    words: str
    saas: tuple[Role, ...]
    private_saas: tuple[Role, ...]

    def roles(self, deployment: Deployment) -> tuple[Role, ...]:
        return self.saas if deployment == "saas" else self.private_saas


def _alike(action: Action, scope: Scope, words: str, *roles: Role) -> Right:
    return Right(action, scope, words, roles, roles)


def _with_client(action: Action, words: str, *roles: Role) -> Right:
    """An act on a tenant: of the vendor's roles alone for saas, of that tenant's client_admin too for private_saas."""
    return Right(action, "tenant", words, roles, (*roles, "client_admin"))


ACCESS: Final[tuple[Right, ...]] = (
    _alike("me.read", "fleet", "see who one is here", *ROLES),
    _alike("access.read", "fleet", "see these tables", *ROLES),
    _alike("fleet.read", "fleet", "see the fleet and how it stands", *ROLES),
    _alike("tenant.read", "tenant", "see a tenant, its instances and how it stands", *ROLES),
    _alike("point.read", "fleet", "see points", *ROLES),
    _alike("retention.read", "tenant", "see what is kept and why, now, later, or under another policy", *ROLES),
    _alike("restore.read", "tenant", "see restores", *ROLES),
    _alike("hold.read", "fleet", "see holds", *ROLES),
    _alike("orphan.read", "fleet", "see orphans of the vault projects", "viewer", "operator", "admin", "auditor"),
    _alike("controls.read", "fleet", "see what is paused", *ROLES),
    _alike("audit.read", "fleet", "read audit chains", "operator", "admin", "auditor", "client_admin"),
    _with_client("point.request", "ask for a point now", "operator", "admin"),
    _with_client("copy.request", "ask for a copy of a point in the region that is bought", "operator", "admin"),
    _with_client("restore.request", "plan a restore, ask for one, or for one to be undone", "operator", "admin"),
    _with_client("restore.approve", "approve a restore that another person asked for", "operator", "admin"),
    _with_client("restore.cancel", "cancel a restore", "operator", "admin"),
    _with_client("hold.add", "hold a point, a copy, an instance or a tenant, so that nothing of it is deleted",
                 "operator", "admin"),
    _with_client("hold.release", "end a hold", "admin"),
    _with_client("retention.override", "let retention work once on an instance in breach of its RPO", "admin"),
    _with_client("tenant.pause", "stop creation, deletion or restores of a tenant", "operator", "admin"),
    _with_client("tenant.resume", "let what was paused of a tenant go on", "admin"),
    Right("schedule.switch", "tenant", "switch the schedule of system backups on or off", (), ("client_admin",)),
    _alike("tenant.apply", "tenant", "store a tenant as the fleet file has it, its policy too", "admin"),
    _alike("tenant.offboard", "tenant", "say when a tenant leaves, or that it stays", "admin"),
    _alike("fleet.pause", "fleet", "stop creation, deletion or restores of the fleet or of a project",
           "operator", "admin"),
    _alike("fleet.resume", "fleet", "let what was paused of the fleet or of a project go on", "admin"),
    _alike("tick", "fleet", "wake a function before its time", "operator", "admin"),
)  # fmt: skip
"""The one table. What it does not allow is denied."""

RIGHTS: Final[Mapping[str, Right]] = {right.action: right for right in ACCESS}


# --- deciding -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allowed:
    """The table allows it."""


@dataclass(frozen=True, slots=True)
class Denied:
    """It does not. `hidden`: he must not learn that there is such a tenant, so it is answered as if there were none."""

    reason: str
    hidden: bool = False


def decide(
    action: Action,
    caller: Caller,
    tenant: str | None = None,
    deployment: Deployment | None = None,
    requested_by: str | None = None,
) -> Allowed | Denied:
    """Whether the caller may do this: to a tenant of this deployment, or to what is the fleet's where none is given.

    Without the tenant's deployment it is allowed only where both deployments allow it. `requested_by`: whose request
    the act would approve; nobody approves his own.
    """
    right = RIGHTS[action]
    if tenant is not None and not caller.sees(tenant):
        return Denied(f"{caller.email} sees tenant {caller.tenant} alone", hidden=True)
    if caller.role == "client_admin" and caller.tenant is None:
        return Denied(f"{caller.email} is a client_admin of no tenant")
    columns = DEPLOYMENTS if deployment is None else (deployment,)
    if not all(caller.role in right.roles(column) for column in columns):
        return Denied(f"{action} is not for {caller.role}: {_needed(right, deployment)}")
    if requested_by is not None and requested_by == caller.email:
        return Denied("nobody approves his own request")
    return Allowed()


def _needed(right: Right, deployment: Deployment | None) -> str:
    if deployment is None and right.saas != right.private_saas:
        return "; ".join(f"of a {column} tenant {_needed(right, column)}" for column in DEPLOYMENTS)
    roles = right.roles(deployment or "saas")
    return f"it needs {' or '.join(roles)}" if roles else "it is for nobody"


# --- responsibility -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Duty:
    """Whose work something is, in each deployment."""

    what: str
    saas: str
    private_saas: str


RESPONSIBILITY: Final[tuple[Duty, ...]] = (
    Duty("system backups (recovery points)", "vendor", "client"),
    Duty("password backups", "client", "client"),
    Duty("video backups", "client", "client"),
    Duty("updates", "vendor", "coordinated: the client approves"),
    Duty("admin menu", "vendor", "vendor and client"),
)
"""Where system backups are the client's, the schedule takes nothing, unless a client_admin has switched it on."""


# --- as a page ----------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/access.md, whole."""
    rights = [
        (f"`{right.action}`", right.words, right.scope, _roles(right.saas), _roles(right.private_saas))
        for right in ACCESS
    ]
    duties = [(duty.what, duty.saas, duty.private_saas) for duty in RESPONSIBILITY]
    return "\n".join(
        (
            HEAD,
            *_table(("role", "what it is"), [(f"`{role}`", words) for role, words in ROLE_WORDS.items()]),
            ACTIONS_HEAD,
            *_table(("action", "what it is", "of", "`saas`", "`private_saas`"), rights),
            DUTIES_HEAD,
            *_table(("what", "`saas`", "`private_saas`"), duties),
            "",
        )
    )


HEAD: Final = """\
# Who may do what

Written from `functions/snapkeep/access.py` by `make generate`, and held to it by a test: change the table there.
`snapkeep access show` prints the same.

A person is who Identity-Aware Proxy says he is; his role stands in `principals/{email}`. Of whom nothing stands there
is refused everything. A `client_admin` sees one tenant: another's is answered as if it were not there. Nobody approves
his own request. Refusals are audited: who, what, why.

## Roles
"""

ACTIONS_HEAD: Final = """
## Actions

Of `fleet`: a `client_admin` is shown the part that is his tenant's. What is not in the table is denied. `tenant.apply`
and `tenant.offboard` are the vendor's for `private_saas` too: what they say is which projects the vendor's identity
works in, and whom the vendor serves.
"""

DUTIES_HEAD: Final = """
## Responsibility

Where system backups are the client's, the schedule takes nothing and the tenant is `client_managed`, unless a
`client_admin` of it has switched the schedule on.
"""


def _roles(roles: Iterable[Role]) -> str:
    return ", ".join(roles) or "nobody"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
