"""infra/permissions.yaml and what is made of it: each function has what it declares, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest

from snapkeep import cloud, permissions
from snapkeep.deployment import Access, Deployed, Deployment, deployment
from snapkeep.permissions import Grant, Place, grants, roles
from snapkeep.permissions import permissions as needs

ROOT: Final = Path(__file__).parents[2]
UNPROVEN: Final = (ROOT / "docs" / "unproven.md").read_text(encoding="utf-8")
OF_COMPUTE: Final[tuple[Place, ...]] = ("instances", "vault", "network", "subnetwork", "service_account")


def entries() -> list[permissions.Entry]:
    known = needs()
    named = [*known.changes.values(), *known.reads.values(), *known.documents.values()]
    return [entry for group in (*named, known.queries, known.publishes) for entry in group]


def of(function: str, *places: Place) -> set[str]:
    """The permissions of a function in these places, or anywhere."""
    return {g.permission for g in grants() if g.function == function and (not places or g.place in places)}


def declaring(name: str, **changed: Any) -> Deployment:
    """The list of functions, one of them declaring something else."""
    declared = deployment()
    functions = {**declared.functions, name: msgspec.structs.replace(declared.functions[name], **changed)}
    return msgspec.structs.replace(declared, functions=functions)


# --- the list -----------------------------------------------------------------------------------------------------


def test_it_knows_every_change_and_kind_and_access_and_no_other() -> None:
    known = needs()
    assert set(known.changes) == {change.__name__ for change in get_args(cloud.Change)}
    assert set(known.reads) == {kind.__name__ for kind in get_args(cloud.Resource)}
    assert set(known.documents) == set(get_args(Access))


def test_every_function_source_and_condition_that_it_names_is_there() -> None:
    known = needs()
    for entry in entries():
        assert set(entry.at) - {permissions.ANY} <= set(deployment().functions), entry
        assert entry.source in known.sources, entry
        assert entry.condition is None or entry.condition in known.conditions, entry
    assert {agent.source for agent in known.agents} <= set(known.sources)
    used = {entry.source for entry in entries()} | {agent.source for agent in known.agents} | {"conditions"}
    assert used == set(known.sources)


def test_what_no_page_of_googles_says_stands_among_what_is_not_proven() -> None:
    doubtful = sorted({entry.permission for entry in entries() if not entry.proven})
    assert doubtful
    assert [permission for permission in doubtful if f"`{permission}`" not in UNPROVEN] == []


# --- who is granted what ------------------------------------------------------------------------------------------


def test_every_grant_is_declared_by_its_function() -> None:
    for grant in grants():
        function = deployment().functions[grant.function]
        assert grant.reasons
        for reason in grant.reasons:
            assert reason.declared in declared_by(function), (grant.function, reason)


def declared_by(function: Deployed) -> set[str]:
    what = {*function.compute.changes, *(f"reads {kind}" for kind in function.compute.reads)}
    what |= {f"documents {access}" for access in function.documents}
    what |= {"queries"} if function.queries else set()
    return what | ({"publishes"} if function.publishes else set())


def test_what_is_declared_is_granted_and_what_is_not_is_gone() -> None:
    more = grants(
        declaring(
            "expire",
            compute=msgspec.structs.replace(
                deployment().functions["expire"].compute, changes=("DeleteSnapshot", "StopInstance")
            ),
        )
    )
    assert {g.permission for g in more if g.function == "expire"} - of("expire") == {"compute.instances.stop"}
    less = grants(declaring("expire", publishes=(), queries=()))
    assert of("expire") - {g.permission for g in less if g.function == "expire"} == {
        "pubsub.topics.publish", "datastore.entities.list",
    }  # fmt: skip


def test_a_declaration_that_the_list_has_no_place_for_is_refused_with_what_to_do() -> None:
    plan = deployment().functions["plan"].compute
    unplaced = declaring("plan", compute=msgspec.structs.replace(plan, changes=("InsertDisk",)))
    with pytest.raises(ValueError, match=r"changes\.InsertDisk: nothing says where plan needs compute\.disks\.create"):
        grants(unplaced)
    unread = declaring("plan", compute=msgspec.structs.replace(plan, reads=("Disk",)))
    with pytest.raises(ValueError, match=r"permissions\.yaml: reads\.Disk: nothing says where plan needs anything"):
        grants(unread)
    unknown = declaring("plan", compute=msgspec.structs.replace(plan, changes=("InsertImage",)))
    with pytest.raises(ValueError, match=r"permissions\.yaml: changes\.InsertImage: missing"):
        grants(unknown)


def test_a_role_holds_what_a_function_has_in_one_place_under_one_condition() -> None:
    held = {(role.function, role.place, role.condition, one) for role in roles() for one in role.permissions}
    assert held == {(g.function, g.place, g.condition, g.permission) for g in grants()}
    # A role's id is its own within any project: those of a vault may be in the project of the instances.
    ids = [role.id for role in roles() if role.place not in ("snapkeep", "topic")]
    assert len(ids) == len(set(ids))
    assert all(3 <= len(role.id) <= 64 for role in roles())


# --- what is separated --------------------------------------------------------------------------------------------


def test_what_takes_points_cannot_delete() -> None:
    assert [one for one in of("create") if "delete" in one.lower()] == []
    assert [f for f in deployment().functions if "compute.snapshots.delete" in of(f)] == ["expire"]


def test_expiry_touches_no_disk_and_deletes_only_names_of_ours() -> None:
    assert of("expire", *OF_COMPUTE) == {"compute.snapshots.delete", "compute.snapshots.get", "compute.snapshots.list"}
    (deletes,) = [g for g in grants() if g.permission == "compute.snapshots.delete"]
    assert (deletes.place, deletes.condition) == ("vault", "ours")


def test_only_restore_changes_instances_and_runs_them_as_somebody() -> None:
    reads = {"compute.instances.get", "compute.instances.list"}
    for function in deployment().functions:
        touched = {one for one in of(function) if one.startswith(("compute.instances.", "iam."))} - reads
        assert bool(touched) == (function == "restore"), function


def test_functions_without_compute_engine_have_nothing_of_it() -> None:
    without = {f for f, one in deployment().functions.items() if not one.compute.changes and not one.compute.reads}
    assert {"web", "audit", "plan", "dead_letters"} <= without
    assert {f for f in deployment().functions if not of(f, *OF_COMPUTE)} == without


def test_nobody_has_a_key_or_changes_who_may_do_what() -> None:
    everything = {grant.permission for grant in grants()}
    for word in ("IamPolicy", "cloudkms", "serviceAccountKeys", "getAccessToken", "signBlob", "export", "SerialPort"):
        assert [one for one in everything if word in one] == []
    assert [one for one in everything if one.endswith("entities.delete") or "*" in one] == []


def test_temporary_disks_of_copies_are_deleted_by_name_of_ours_alone() -> None:
    found: list[Grant] = [g for g in grants() if g.permission == "compute.disks.delete"]
    assert {(g.function, g.place, g.condition) for g in found} == {
        ("reconcile", "vault", "ours"),
        ("copy", "vault", "ours"),
        ("restore", "instances", None),  # what it has replaced keeps its customer's names
    }
