"""`snapkeep restore plan --from-cloud`: points and plans from what Compute Engine alone holds.

The one command that goes past the API: for the day on which there is none. It asks Compute Engine with the operator's
own Application Default Credentials (compute.snapshots.list in the project that holds the snapshots), and only reads.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from snapkeep import cloud, config, wiring
from snapkeep.cli.output import Output, fail
from snapkeep.cloud import InsertDisk, InsertInstance
from snapkeep.ports import Refused, Transient
from snapkeep.restore import bare, catalogue, script
from snapkeep.restore.catalogue import Found, Listing
from snapkeep.restore.definition import LOCAL_SSD
from snapkeep.wording import count, moment, size


def plan(
    output: Output,
    *,
    project: str,
    tenant: str | None,
    point: str | None,
    region: str | None,
    mode: bare.Mode,
    zone: str | None,
    name: str | None,
    as_script: bool,
) -> None:
    """Without a `point` the points of the project, newest first; with one the plan of its restore, as text, data or
    a shell script. `project`: the one that holds the snapshots. Ends with status 1 where there is none.
    """
    listing = _listed(project, tenant, point)
    if point is None:
        _print_listing(output, project, listing)
        return
    found = _one(listing, project, point, region)
    try:
        planned = bare.plan(found, _project_of(found, project), mode, zone, name)
    except bare.CannotPlan as why:
        fail(str(why))
    if as_script:
        output.line(_script(planned).rstrip("\n"))
    elif output.as_json:
        output.json(_as_data(planned))
    else:
        _print_plan(output, planned)


def _listed(project: str, tenant: str | None, point: str | None) -> Listing:
    from snapkeep.gcp.signin import CannotSignIn, signed_in

    labels = {catalogue.TENANT_LABEL: tenant, catalogue.POINT_LABEL: point}
    where = " AND ".join(f'(labels.{name} = "{value}")' for name, value in labels.items() if value)
    try:
        with signed_in():
            listing = catalogue.read(wiring.compute_alone().find(cloud.Snapshot, project, where))
    except config.ConfigError as mistake:
        fail(str(mistake))
    except CannotSignIn as reason:
        fail(str(reason))
    except Refused as refusal:
        fail(f"Compute Engine does not list the snapshots of {project} to you: {_line(str(refusal))}")
    except Transient as fault:
        fail(f"Compute Engine does not answer: {_line(str(fault))}; try again")
    if listing.cut_off:
        fail(f"{project} has more than {catalogue.SNAPSHOTS_MAX:,} snapshots: name a --tenant or a --point")
    return listing


def _line(text: str) -> str:
    return " ".join(text.split())[:500]


def _one(listing: Listing, project: str, point: str, region: str | None) -> Found:
    """The set that is asked for: that in the region; without one that at home, or the only one."""
    found = [one for one in listing.sets if one.point == point and region in (None, one.region)]
    if not found:
        where = f" in {region}" if region else ""
        fail(f"{project} has no snapshot of a point {point!r}{where}; without --point all are listed")
    tenants = sorted({one.tenant for one in found})
    if len(tenants) > 1:
        fail(f"--tenant: missing; {point} is of each of {', '.join(tenants)}")
    at_home = [one for one in found if one.role == "home"]
    if len(found) > 1 and len(at_home) != 1:
        fail(f"--region: missing; {point} is stored in each of {', '.join(sorted(one.region for one in found))}")
    return found[0] if len(found) == 1 else at_home[0]


def _project_of(found: Found, project: str) -> str:
    """Where it is restored: where the instance was, which need not be where its snapshots are."""
    return found.manifest.instance.project if found.manifest else project


# --- the points ---------------------------------------------------------------------------------------------------


def _print_listing(output: Output, project: str, listing: Listing) -> None:
    if output.as_json:
        output.json(
            {
                "project": project,
                "sets": [_set_as_data(one) for one in listing.sets],
                "strangers": listing.strangers,
                "strangers_total": listing.strangers_total,
            }
        )
        return
    if listing.sets:
        output.table(
            ("TAKEN", "TENANT", "INSTANCE", "POINT", "REGION", "ROLE", "DISKS", "COMPLETE", "BYTES"),
            [
                (
                    moment(one.taken_at),
                    one.tenant,
                    one.manifest.instance.name if one.manifest else "?",
                    one.point,
                    one.region,
                    one.role,
                    len(one.disks),
                    "yes" if one.complete else "no",
                    size(one.bytes),
                )
                for one in listing.sets
            ],
            right=("DISKS", "BYTES"),
            spare=("BYTES", "ROLE", "DISKS", "INSTANCE"),
        )
        output.line("")
    for one in listing.sets:
        said = "; ".join([*one.lacking, *([one.fault] if one.fault and one.manifest else [])])
        if said:
            output.line(f"{one.point} in {one.region}: {said}")
    for stranger in listing.strangers:
        output.line(f"in no set: {stranger}")
    if listing.strangers_total > len(listing.strangers):
        output.line(f"in no set: {listing.strangers_total - len(listing.strangers):,} more")
    points = {(one.tenant, one.point) for one in listing.sets}
    output.line(
        f"{count(len(points), 'point')} in {count(len(listing.sets), 'set')}, as the snapshots of {project} say"
    )


def _set_as_data(one: Found) -> dict[str, Any]:
    return {
        "tenant": one.tenant,
        "point": one.point,
        "region": one.region,
        "role": one.role,
        "taken_at": one.taken_at,
        "complete": one.complete,
        "lacking": one.lacking,
        "fault": one.fault,
        "bytes": one.bytes,
        "manifest": one.manifest,
        "disks": [
            {
                "device_name": disk.disk.device_name,
                "id": disk.disk.id,
                "snapshot": disk.snapshot.link if disk.snapshot else None,
                "snapshot_id": disk.snapshot.id if disk.snapshot else None,
                "why": disk.why,
            }
            for disk in one.disks
        ],
    }


# --- one plan -----------------------------------------------------------------------------------------------------


def _as_data(planned: bare.BarePlan) -> dict[str, Any]:
    changes: list[InsertDisk | InsertInstance] = list(planned.disks)
    if planned.instance is not None:
        changes.append(planned.instance)
    return {
        "set": _set_as_data(planned.found),
        "mode": planned.mode,
        "restore": planned.restore,
        "lines": planned.lines,
        "lacking": planned.lacking,
        "changes": [{"change": type(change).__name__, **asdict(change)} for change in changes],
    }


def _script(planned: bare.BarePlan) -> str:
    found = planned.found
    about = [
        f"Snapkeep: recovery point {found.point} of {found.tenant}, taken {moment(found.taken_at)},",
        f"restored from its snapshots in {found.region} as {planned.mode}.",
        "Made of what Compute Engine alone holds. Read it, change what should be otherwise, then run it with bash.",
        *planned.lines,
        *(f"lacking: {item}{_how(item)}" for item in planned.lacking),
    ]
    return script.shell(about, planned.disks, planned.snapshot_ids, planned.instance)


def _how(item: str) -> str:
    """How a person gives what is lacking to the script."""
    if item.startswith("metadata "):
        return f"; to give it: --metadata-from-file={item.removeprefix('metadata ')}=FILE"
    if item.endswith(LOCAL_SSD):
        return "; to have an empty one: --local-ssd=interface=NVME"
    if item.startswith("address "):
        return "; to keep it, once it is free: address= or private-network-ip= of that --network-interface"
    return ""


def _print_plan(output: Output, planned: bare.BarePlan) -> None:
    found = planned.found
    output.line(f"{found.point} · {found.tenant} · taken {moment(found.taken_at)} · {found.role} in {found.region}")
    for line in planned.lines:
        output.line(line)
    for item in planned.lacking:
        output.line(f"lacking: {item}")
    output.line("")
    output.table(
        ("DISK", "WHERE", "TYPE", "GB", "OF SNAPSHOT", "ID"),
        [
            (
                disk.name,
                f"{disk.project}, {disk.scope}",
                disk.type,
                disk.size_gb,
                disk.source_snapshot.rsplit("/", 1)[-1],
                planned.snapshot_ids[disk.source_snapshot],
            )
            for disk in planned.disks
        ],
        right=("GB",),
        spare=("TYPE", "GB", "ID", "WHERE", "DISK"),
    )
    if planned.instance is not None:
        made = planned.instance
        output.line("")
        output.line(f"instance {made.name} in {made.project}, {made.zone}, of these disks; it starts at once")
    output.line("")
    output.line("--script writes the commands of gcloud that make them; nothing is changed by this one")
