"""What `instances.insert` and `instances.attachDisk` are sent, read as Compute Engine reads it.

Checked as far as it can be without looking at anything else, completed with what the service fills in, and with full
URLs where partial ones were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Final

from snapkeep.cloud import region_of, region_of_scope
from snapkeep_local.errors import ApiError, Json, invalid
from snapkeep_local.resources import API, Attached, unless_empty

_OWN: Final = frozenset(
    {
        "cpuPlatform", "creationTimestamp", "disks", "fingerprint", "id", "kind", "labelFingerprint", "labels",
        "lastStartTimestamp", "lastStopTimestamp", "name", "selfLink", "status", "statusMessage", "zone",
    }
)  # fmt: skip
"""Fields that are told from elsewhere, or that only the service writes: those that are sent are passed over."""

_NO_ADDRESS_LEFT: Final = 1000
"""Addresses that are drawn before a subnetwork counts as full."""


def in_use(link: str, user: str) -> ApiError:
    return ApiError(
        400, "resourceInUseByAnotherResource", f"The disk resource '{link}' is already being used by '{user}'"
    )


def misused(why: str) -> ApiError:
    return ApiError(400, "invalidResourceUsage", f"Invalid resource usage: '{why}'.")


def attached(sent: Mapping[str, Any], at: int) -> Attached:
    """A disk as an instance is to have it; `at` is its place among the disks. Raises ApiError."""
    scratch = sent.get("type") == "SCRATCH"
    source = str(sent.get("source") or "")
    if scratch:
        kind = str((sent.get("initializeParams") or {}).get("diskType") or "")
        if source or kind.rsplit("/", 1)[-1] != "local-ssd":
            field = f"resource.disks[{at}].initializeParams.diskType"
            raise invalid(field, kind, "A SCRATCH disk is a local SSD and has no source.")
    elif not source:
        raise invalid(f"resource.disks[{at}].source", source, "The disk must exist, and be named by its URL.")
    named = f"local-ssd-{at}" if scratch else f"persistent-disk-{at}"
    return Attached(
        device_name=str(sent.get("deviceName") or named),
        source=source[max(source.find("projects/"), 0) :],
        boot=bool(sent.get("boot")),
        mode=str(sent.get("mode") or "READ_WRITE"),
        interface=str(sent.get("interface") or "SCSI"),
        auto_delete=bool(sent.get("autoDelete")),
        persistent=not scratch,
    )


def all_attached(sent: Iterable[Mapping[str, Any]]) -> list[Attached]:
    """The disks of a new instance. Raises ApiError."""
    disks = [attached(one, at) for at, one in enumerate(sent)]
    if [one.boot for one in disks] != [at == 0 for at in range(len(disks))] or not disks:
        raise invalid("resource.disks", "", "The first disk must be the boot disk, and no other may be.")
    for at, one in enumerate(disks):
        if any(one.device_name == other.device_name for other in disks[:at]):
            raise name_taken(one.device_name, f"resource.disks[{at}].deviceName")
        if any(one.source and one.source == other.source for other in disks[:at]):
            raise invalid(f"resource.disks[{at}].source", one.source, "It is attached twice.")
    return disks


def name_taken(device_name: str, field: str = "deviceName") -> ApiError:
    return invalid(field, device_name, "Another disk of the instance has this device name.")


def definition(project: str, zone: str, sent: Mapping[str, Any], free: Callable[[str], str]) -> Json:
    """The rest of the resource as it is told from then on. `free` gives an address of "10.128" that nobody has.

    Raises ApiError.
    """
    told = {name: value for name, value in sent.items() if name not in _OWN}
    told["machineType"] = _machine_type(project, zone, str(sent.get("machineType") or ""))
    nics = sent.get("networkInterfaces") or []
    told["networkInterfaces"] = [_interface(project, zone, nic, at, free) for at, nic in enumerate(nics)]
    if not nics:
        raise invalid("resource.networkInterfaces", "", "At least one network interface is required.")
    items = (sent.get("metadata") or {}).get("items") or []
    told["metadata"] = {"fingerprint": "5Pw0wJB7bAY=", **unless_empty("items", items)}
    tags = (sent.get("tags") or {}).get("items") or []
    told["tags"] = {"fingerprint": "42WmSpB8rSM=", **unless_empty("items", tags)}
    if policies := sent.get("resourcePolicies"):
        told["resourcePolicies"] = [_full(project, policy) for policy in policies]
    told.setdefault("canIpForward", False)
    told.setdefault("deletionProtection", False)
    told.setdefault("scheduling", {"automaticRestart": True, "onHostMaintenance": "MIGRATE", "preemptible": False})
    return told if told.get("description") else {name: value for name, value in told.items() if name != "description"}


def addresses(told: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The networks (URLs) and internal addresses of an instance with this definition."""
    return {(nic["network"], nic["networkIP"]) for nic in told.get("networkInterfaces", ())}


def drawn(taken: Container[str], draw: Callable[[], int], net: str) -> str:
    """A free address of a network: `net` is its first two numbers. Raises ApiError where there is none."""
    for _ in range(_NO_ADDRESS_LEFT):
        address = f"{net}.{draw()}.{draw()}"
        if address not in taken:
            return address
    raise ApiError(400, "IP_SPACE_EXHAUSTED", f"IP space of '{net}.0.0/16' is exhausted.")


def _machine_type(project: str, zone: str, sent: str) -> str:
    at, _, kind = sent.rpartition("/machineTypes/")
    if not at or not kind:
        raise invalid("resource.machineType", sent, "The URL is malformed.")
    if at.rpartition("zones/")[2] != zone:
        raise invalid("resource.machineType", sent, f"It is not of the zone '{zone}'.")
    return f"{API}projects/{project}/zones/{zone}/machineTypes/{kind}"


def _interface(project: str, zone: str, sent: Mapping[str, Any], at: int, free: Callable[[str], str]) -> Json:
    network, subnetwork = str(sent.get("network") or ""), str(sent.get("subnetwork") or "")
    region = region_of(zone)
    if subnetwork and region_of_scope("/".join(subnetwork.split("/")[-4:-2])) != region:
        field = f"resource.networkInterfaces[{at}].subnetwork"
        raise invalid(field, subnetwork, f"The subnetwork must be in the instance's region '{region}'.")
    # A network that makes its subnetworks by itself gives them its own name. Which do is not known here.
    network = network or f"global/networks/{subnetwork.rsplit('/', 1)[-1] or 'default'}"
    subnetwork = subnetwork or f"regions/{region}/subnetworks/{network.rsplit('/', 1)[-1]}"
    told = {name: value for name, value in sent.items() if name not in ("kind", "fingerprint")}
    external = [
        {"type": "ONE_TO_ONE_NAT", "name": "External NAT", **one, "natIP": one.get("natIP") or free("34.95")}
        for one in sent.get("accessConfigs") or ()
    ]
    return {
        **told,
        "name": f"nic{at}",
        "network": _full(project, network),
        "subnetwork": _full(project, subnetwork),
        "networkIP": sent.get("networkIP") or free("10.128"),
        "stackType": sent.get("stackType") or "IPV4_ONLY",
        **unless_empty("accessConfigs", external),
    }


def _full(project: str, url: str) -> str:
    at = url.find("projects/")
    return API + (url[at:] if at >= 0 else f"projects/{project}/{url}")
