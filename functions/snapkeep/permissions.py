"""Which function is granted what, and why: infra/permissions.yaml upon infra/functions.yaml. Pure, but for the reading.

`infra/gcp/catalogue` computes the same in Terraform, and that is granted; docs/permissions.md is written from here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from snapkeep.deployment import FUNCTIONS_YAML, Deployed, Deployment, deployment

PERMISSIONS_YAML: Final[Path] = FUNCTIONS_YAML.with_name("permissions.yaml")

Place = Literal["snapkeep", "topic", "instances", "vault", "network", "subnetwork", "service_account"]
"""Where a permission is checked; see infra/permissions.yaml."""

PLACES: Final[tuple[Place, ...]] = get_args(Place)

ANY: Final = "any"
"""Of an entry's places: those of every function that it does not name."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of Google's."""

    page: str
    url: str
    read: date


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An IAM condition."""

    title: str
    words: str  # what it lets through, for docs/permissions.md
    expression: str  # CEL


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A permission that something needs."""

    permission: str
    at: dict[str, tuple[Place, ...]]  # by function, or ANY
    why: str
    source: str  # of `Permissions.sources`
    condition: str | None = None  # of `Permissions.conditions`
    proven: bool = True  # Google's page says it


class Agent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What Google's own service needs to be granted."""

    role: str
    who: str
    resource: str
    why: str
    source: str


class Permissions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of infra/permissions.yaml."""

    sources: dict[str, Source]
    conditions: dict[str, Condition]
    changes: dict[str, tuple[Entry, ...]]  # by the name of a `cloud.Change`
    reads: dict[str, tuple[Entry, ...]]  # by the name of a `cloud.Resource`
    documents: dict[str, tuple[Entry, ...]]  # by `deployment.Access`
    queries: tuple[Entry, ...]
    publishes: tuple[Entry, ...]
    agents: tuple[Agent, ...]


@lru_cache(maxsize=1)
def permissions() -> Permissions:
    """infra/permissions.yaml. Raises msgspec.ValidationError where it is not as it should be, OSError without it."""
    import yaml

    return msgspec.convert(yaml.safe_load(PERMISSIONS_YAML.read_text(encoding="utf-8")), Permissions)


# --- who is granted what ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a function declares, and what it needs a permission for."""

    declared: str  # as infra/functions.yaml has it: InsertDisk, reads Disk, documents get, queries, publishes
    why: str
    source: str
    proven: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission that a function has in a kind of project, and all that it has it for."""

    function: str
    place: Place
    permission: str
    condition: str | None  # of `Permissions.conditions`
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A custom role: what a function is granted in one place under one condition."""

    function: str
    place: Place
    condition: str | None
    permissions: tuple[str, ...]  # sorted

    @property
    def id(self) -> str:
        """The custom role's id within its project."""
        if self.place == "topic":
            return PUBLISHER
        parts = ["snapkeep", self.function]
        if self.place not in ("snapkeep", "instances"):
            parts.append(self.place)
        if self.condition is not None:
            parts.append(self.condition)
        return ".".join(parts)


PUBLISHER: Final = "snapkeep.publisher"
"""The role of who publishes: the same for every function, bound to the topics that it publishes to."""


def grants(declared: Deployment | None = None, needs: Permissions | None = None) -> tuple[Grant, ...]:
    """Every grant there is, by function in the order of infra/functions.yaml, then by place, permission and condition.

    Raises ValueError where a function declares what the list does not know, or not in which project.
    """
    declared, needs = declared or deployment(), needs or permissions()
    return tuple(
        grant for name, function in declared.functions.items() for grant in _of_function(name, function, needs)
    )


def roles(granted: Iterable[Grant] | None = None) -> tuple[Role, ...]:
    """The custom roles that hold these grants (all of them), in the order of the grants."""
    held: dict[tuple[str, Place, str | None], set[str]] = defaultdict(set)
    for grant in grants() if granted is None else granted:
        held[grant.function, grant.place, grant.condition].add(grant.permission)
    return tuple(Role(*key, tuple(sorted(found))) for key, found in held.items())


def _of_function(name: str, function: Deployed, needs: Permissions) -> Iterator[Grant]:
    reasons: dict[tuple[int, str, str], list[Reason]] = defaultdict(list)
    for what, declared, entries in _needs_of(function, needs):
        placed, said = False, set()
        for entry in entries:
            for place in entry.at.get(name, entry.at.get(ANY, ())):
                placed = True
                key = (PLACES.index(place), entry.permission, entry.condition or "")
                reasons[key].append(Reason(declared, entry.why, entry.source, entry.proven))
            if {name, ANY} & entry.at.keys():
                said.add(entry.permission)
        unsaid = sorted({entry.permission for entry in entries} - said)
        if unsaid or not placed:
            raise ValueError(
                f"{PERMISSIONS_YAML.name}: {what}: nothing says where {name} needs {', '.join(unsaid) or 'anything'}; "
                f"name {name} under `at` of its entries, or take it from {name} in {FUNCTIONS_YAML.name}"
            )
    for (at, permission, condition), found in sorted(reasons.items()):
        yield Grant(name, PLACES[at], permission, condition or None, tuple(found))


def _needs_of(function: Deployed, needs: Permissions) -> Iterator[tuple[str, str, Sequence[Entry]]]:
    """Where the list has it, how it is called, and what it takes, of each thing that a function declares."""

    def known(section: str, among: Mapping[str, Sequence[Entry]], name: str) -> Sequence[Entry]:
        if name not in among:
            raise ValueError(f"{PERMISSIONS_YAML.name}: {section}.{name}: missing, and {FUNCTIONS_YAML.name} uses it")
        return among[name]

    for change in function.compute.changes:
        yield f"changes.{change}", change, known("changes", needs.changes, change)
    for kind in function.compute.reads:
        yield f"reads.{kind}", f"reads {kind}", known("reads", needs.reads, kind)
    for access in function.documents:
        yield f"documents.{access}", f"documents {access}", known("documents", needs.documents, access)
    if function.queries:
        yield "queries", "queries", needs.queries
    if function.publishes:
        yield "publishes", "publishes", needs.publishes


# --- as a page ----------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/permissions.md, whole."""
    needs, granted = permissions(), grants()
    lines = [HEAD, *_at_a_glance(granted), REASONS_HEAD]
    for function in deployment().functions:
        mine = [grant for grant in granted if grant.function == function]
        lines += [f"\n### {function}\n", f"`sk-{function.replace('_', '-')}`{_nothing(mine)}\n"]
        lines += _table(("where", "permission", "only for", "what for"), (_row(grant, needs) for grant in mine))
    lines.append(AGENTS_HEAD)
    lines += _table(
        ("role", "who", "on", "why"), ((f"`{one.role}`", one.who, one.resource, one.why) for one in needs.agents)
    )
    lines.append(SOURCES_HEAD)
    lines += _table(
        ("", "page", "read"), ((key, f"[{one.page}]({one.url})", str(one.read)) for key, one in needs.sources.items())
    )
    return "\n".join((*lines, ""))


def _at_a_glance(granted: Sequence[Grant]) -> list[str]:
    """Who has what of Compute Engine where, without a reason: a row for each permission."""
    outside = [grant for grant in granted if grant.place not in ("snapkeep", "topic")]
    functions = [name for name in deployment().functions if any(grant.function == name for grant in outside)]
    rows: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for grant in outside:
        only = permissions().conditions[grant.condition].words if grant.condition else ""
        mark = f"{grant.place}, {only}" if only else grant.place
        rows[grant.permission][grant.function].append(mark)
    cells = ((f"`{name}`", *("; ".join(row[function]) for function in functions)) for name, row in sorted(rows.items()))
    return _table(("permission", *functions), cells)


def _nothing(mine: Sequence[Grant]) -> str:
    outside = any(grant.place not in ("snapkeep", "topic") for grant in mine)
    return "" if outside else ": nothing of Compute Engine, in no project"


def _row(grant: Grant, needs: Permissions) -> tuple[str, ...]:
    only = needs.conditions[grant.condition].words if grant.condition else ""
    why = "; ".join(
        f"{reason.declared}: {reason.why} ({reason.source}{'' if reason.proven else ', unproven'})"
        for reason in grant.reasons
    )
    return grant.place, f"`{grant.permission}`", only, why


HEAD: Final = """\
# Which function may do what in Google Cloud

Written by `make generate` from `infra/permissions.yaml` (what Google asks for what) and `infra/functions.yaml` (who
does what): change them there. Terraform makes the roles of the same two files in `infra/gcp`; a test compares.

## What is separated

- Every function has a service account of its own, with custom roles of exactly the permissions below. None has a
  predefined role, a `*`, or anything on a folder or an organization.
- What takes points cannot delete one: `create` has nothing with `delete` in its name. `reconcile` deletes instant
  snapshots, it and `copy` their own temporary disks, and neither of them a snapshot.
- Only `expire` deletes snapshots: of names that begin with `sk-`, by numeric id, when no rule keeps them. It can
  neither read, make nor use a disk, so it cannot get at what a snapshot holds. With `deny_deletions` a deny
  policy keeps everybody else, owners included, from deleting any snapshot in the vault.
- Only `restore` makes, stops, changes or deletes instances. It deletes no snapshot, and runs what it restores only as
  the service accounts that the tenant has named.
- `web`, where people come in, has nothing of Compute Engine: it writes down what is wanted, and the functions do it.
- Nobody has a key: no service account key is made, and `iam.disableServiceAccountKeyCreation` may be enforced. Cloud
  KMS keys are used by Compute Engine's own service agent alone.
- Nobody reads what is on a disk: there is no permission to export, to make an image, to read a serial port, to log in.
  `restore` is the one to watch: below.
- Nobody changes IAM policies, networks, firewalls, the database's indexes or its backups; nobody deletes a document.

## What Google does not let us narrow

- Lists are checked on the project: who lists disks sees all disks of the project, also those of no tenant.
- A permission to make something is granted without a condition on its name, and Firestore's permissions know databases
  (the roles are bound to the one) but no collections: that a function stays within its queries is proven by the fault
  tests, which refuse what it has not declared.
- `restore` may delete any disk of an instance project: disks that it has replaced keep their customer's names. It asks
  only for a numeric id that carries the restore's own label and is attached to nothing.
- Whoever makes an instance decides what runs in it. `restore` may set the metadata of the instances of a tenant's
  project (a startup script, SSH keys), attach disks to them and start them, as a service account that the tenant has
  named: IAM would let it run a program of its own on a customer's disk. The code sets the metadata that the point's
  own definition or a person's request names, and each call stands in the audit logs of the tenant's project under
  `sk-restore`.
- Conditions do not know instant snapshots: `reconcile` may delete any in an instance project. They last minutes.

## Permission by function

Where: `instances` a tenant's project, `vault` the project that holds its snapshots, `network` the project of the
network that restored instances are connected to, `subnetwork` the subnetworks of it that the tenant has named,
`service_account` the service accounts that restored instances may run as. Functions that are not here have nothing of
Compute Engine.
"""

REASONS_HEAD: Final = """
## Function by permission, with the reason

Besides those places: `snapkeep` Snapkeep's own project, `topic` the topics that the function publishes to alone. In
brackets where Google says so; unproven: no page of Google's says it, and [unproven.md](unproven.md) has the command
that proves it.
"""

AGENTS_HEAD: Final = """
## What Google's own services are granted
"""

SOURCES_HEAD: Final = """
## Where it says so
"""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
