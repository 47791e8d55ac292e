"""Which indexes Firestore needs: made from the QUERIES of `store` and the fields of `documents` (pure).

What is indexed is what a query asks for, and nothing else: each collection is exempt as a whole (the field path `*`),
and only the fields that QUERIES compare or sort by alone are taken out of that. So no large map, bytes, free text or
value of `Supplied` is ever in an index, and a write costs what its documents cost.

Firestore's rules, as its documentation has them
(https://cloud.google.com/firestore/docs/concepts/index-overview):

- Every query needs an index of its own scope: of one collection, or of all collections of that name (a group).
- One field, compared or sorted by: a single-field index in the direction of the sort. A field's own configuration
  replaces what it inherits (from a map around it, from `*`, from the database), so it lists all that is needed.
- Equal in several fields and sorted by nothing but the name: their single-field indexes are merged.
- Equal in some and sorted or bounded by another: one composite index, the equal fields first, in any direction.
- Every index ends in `__name__`, in the direction of its last field; the adapter sorts ties that way.
- A field without an index of its own may stand in a composite one
  (https://firebase.google.com/docs/firestore/solutions/shard-timestamp is built on that).
- At the most 1,000 composite indexes and 1,000 configured fields in a database with billing, 200 of each without
  (https://cloud.google.com/firestore/quotas#indexes).
- A TTL policy is a field's too, and one field per collection (https://cloud.google.com/firestore/docs/ttl).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from snapkeep import documents as d
from snapkeep.store import QUERIES, Shape

Scope = Literal["COLLECTION", "COLLECTION_GROUP"]
Order = Literal["ASCENDING", "DESCENDING"]

EVERY_FIELD: Final = "*"
"""The field path that stands for all fields of a collection which have no configuration of their own."""

TTL_FIELD: Final = "expire_at"
"""A document that has it is deleted by Firestore some time after it (within a day, as a rule)."""

COLLECTIONS: Final[Mapping[str, tuple[type[d.Stored], ...]]] = {
    "tenants": (d.Tenant,),
    "instances": (d.Instance,),
    "points": (d.Point,),
    "restores": (d.Restore,),
    "supplied": (d.Supplied,),
    "restore_claims": (d.RestoreClaim,),
    "inbox": (d.InboxRecord,),
    "audit": (d.AuditRecord,),
    "requests": (d.Request,),
    "rejected": (d.Rejected,),
    "system": (d.Controls, d.Tick),
    "principals": (d.Principal,),
    "vaults": (d.Vault,),
    "health": (d.TenantHealth, d.FleetHealth),
}
"""What each collection holds, whichever document it stands below."""


@dataclass(frozen=True, slots=True, order=True)
class Composite:
    """An index over several fields; Firestore adds `__name__` in the direction of the last."""

    collection: str
    scope: Scope
    fields: tuple[tuple[str, Order], ...]


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """How one field is indexed by itself. Without indexes: not at all."""

    collection: str
    field: str
    indexes: tuple[tuple[Order, Scope], ...] = ()
    ttl: bool = False


def _scope(shape: Shape) -> Scope:
    return "COLLECTION_GROUP" if shape.group else "COLLECTION"


def _needed(shape: Shape) -> Composite | list[Field]:
    """The composite index that serves a query, or the single-field ones (none where it sorts by the name alone)."""
    equal = [name for name, operator in shape.where if operator == "=="]
    sort = dict(shape.order)
    last = shape.order[-1][1] if shape.order else "asc"
    for name in sorted({name for name, operator in shape.where if operator != "=="} - sort.keys()):
        sort[name] = last  # implied, as the adapter says it
    sorted_by: list[tuple[str, Order]] = [
        (name, "ASCENDING" if direction == "asc" else "DESCENDING") for name, direction in sort.items()
    ]
    fields: list[tuple[str, Order]] = [*((name, "ASCENDING") for name in equal), *sorted_by]
    if sorted_by and len(fields) > 1:
        return Composite(shape.collection, _scope(shape), tuple(fields))
    return [Field(shape.collection, name, ((order, _scope(shape)),)) for name, order in fields]


def composites(queries: Iterable[Shape] = tuple(QUERIES.values())) -> tuple[Composite, ...]:
    """The composite indexes that these queries need, in their order by name."""
    return tuple(sorted({one for one in map(_needed, queries) if isinstance(one, Composite)}))


def fields(queries: Iterable[Shape] = tuple(QUERIES.values())) -> tuple[Field, ...]:
    """Every field that is configured by itself: what these queries need, TTL, and each collection's exemption."""
    wanted: dict[tuple[str, str], set[tuple[Order, Scope]]] = {(name, EVERY_FIELD): set() for name in COLLECTIONS}
    expiring = {
        (name, TTL_FIELD)
        for name, kinds in COLLECTIONS.items()
        if any(TTL_FIELD in kind.__struct_fields__ for kind in kinds)
    }
    wanted |= {place: set() for place in expiring}
    for needed in map(_needed, queries):
        for one in needed if isinstance(needed, list) else ():
            wanted.setdefault((one.collection, one.field), set()).update(one.indexes)
    return tuple(
        Field(collection, name, tuple(sorted(indexes)), ttl=(collection, name) in expiring)
        for (collection, name), indexes in sorted(wanted.items())
    )


HEAD: Final = """\
# The indexes of Firestore. Written from functions/snapkeep/indexes.py by `make generate` and held to it by a test: what
# queries ask for is changed in QUERIES of functions/snapkeep/store.py. infra/gcp and `snapkeep doctor` go by it.
#
#   composites   over several fields (Firestore adds __name__, in the direction of the last)
#   fields       what a field has by itself instead of what it inherits; [] none; "*" all others of that collection
"""


def page() -> str:
    """infra/firestore.yaml."""
    lines = [HEAD.rstrip(), "composites:"]
    for index in composites():
        parts = ", ".join(f"{{name: {name}, order: {order}}}" for name, order in index.fields)
        lines += [f"  - collection: {index.collection}", f"    scope: {index.scope}", f"    fields: [{parts}]"]
    lines.append("fields:")
    for field in fields():
        parts = ", ".join(f"{{order: {order}, scope: {scope}}}" for order, scope in field.indexes)
        name = f'"{field.field}"' if field.field == EVERY_FIELD else field.field
        lines.append(
            f"  - {{collection: {field.collection}, field: {name}, indexes: [{parts}], ttl: {str(field.ttl).lower()}}}"
        )
    return "\n".join(lines) + "\n"
