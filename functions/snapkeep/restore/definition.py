"""The instance that a restore makes: what of the stored definition it is asked for with, and what that lacks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from snapkeep.documents import Restore, RestoreMode, RestoreTarget
from snapkeep.restore import rules

LOCAL_SSD: Final = " (local SSD)"

EMPTY: Final = "empty"
"""What is supplied for a local SSD: it is made, with nothing on it."""

# --- what is lacking ----------------------------------------------------------------------------------------------

_OUTPUT_ONLY: Final = frozenset(
    {"resourceStatus", "satisfiesPzi", "satisfiesPzs", "lastSuspendedTimestamp", "selfLinkWithId"}
)
"""Fields that Compute Engine fills itself: nobody misses them."""


def lacking(mode: RestoreMode, definition: Mapping[str, Any], *, first_nic_alone: bool = False) -> list[str]:
    """What a restore of this mode goes without, unless a person supplies it: items as `Lacking` names them.

    `first_nic_alone`: it is connected to one other network, so that no other interface has an address.
    """
    left_out: list[str] = [one for one in definition.get("left_out", []) if one not in _OUTPUT_ONLY]
    match mode:
        case "disks":
            return []
        case "in_place":  # the instance stays as it is; only what lies on a local SSD ends with its stop
            return [item for item in left_out if item.endswith(LOCAL_SSD)]
        case "new_instance":
            wanted = "address nic0 " if first_nic_alone else "address "
            return [*left_out, *(item for item, _ in addresses(definition) if item.startswith(wanted))]


def addresses(definition: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The addresses of an instance by the item that names each, with where it stands in its interface.

    Where: `networkIP`, `ipv6Address`, `accessConfigs/N/natIP`, `ipv6AccessConfigs/N/externalIpv6`,
    `aliasIpRanges/N/ipCidrRange`.
    """
    found = []
    for nic, one in enumerate(definition.get("networkInterfaces", [])):
        places = [("networkIP", one.get("networkIP")), ("ipv6Address", one.get("ipv6Address"))]
        for listed, key in (
            ("accessConfigs", "natIP"), ("ipv6AccessConfigs", "externalIpv6"), ("aliasIpRanges", "ipCidrRange"),
        ):  # fmt: skip
            places += [(f"{listed}/{n}/{key}", config.get(key)) for n, config in enumerate(one.get(listed, []))]
        found += [(f"address nic{nic} {address}", where) for where, address in places if address]
    return found


# --- the new instance ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What a new instance is asked for with, but for its disks from snapshots."""

    definition: dict[str, Any]  # fields of the v1 resource, in REST spelling
    labels: dict[str, str]
    metadata: dict[str, str]
    secrets: dict[str, str]  # metadata that a person supplied
    description: str
    empty_disks: tuple[str, ...]  # device names of local SSDs to make, with nothing on them
    dropped: tuple[str, ...]  # fields of the stored definition that do not go with it to where it is made
    protected: bool = False  # it was protected from deletion; the new one is not, or it could not be taken back


TEST_METADATA: Final = frozenset(
    {"enable-oslogin", "enable-oslogin-2fa", "block-project-ssh-keys", "disable-legacy-endpoints"}
)
"""Metadata that a restore test keeps: none that starts anything, or names a place to fetch it from."""

NOTHING_TO_START: Final[Mapping[str, str]] = {
    "block-project-ssh-keys": "TRUE",
    "startup-script": "#! /bin/sh\n",
    "shutdown-script": "#! /bin/sh\n",
    "windows-startup-script-cmd": "rem\n",
    "windows-shutdown-script-cmd": "rem\n",
    "sysprep-specialize-script-cmd": "rem\n",
}
"""What the instance of a restore test has for itself, so that it takes none of this from its project: Google's guest
agent looks for a script of one kind in the project's metadata only where the instance names none of that kind."""

_OF_THE_PLACE: Final = ("description", "labels", "metadata", "left_out", "resourcePolicies", "reservationAffinity")
_NOT_IN_A_TEST: Final = (
    "tags", "serviceAccounts", "canIpForward", "deletionProtection", "hostname", "resourcePolicies",
    "reservationAffinity",
)  # fmt: skip


def definition_for(tenant: str, restore: Restore, zone: str, supplied: Mapping[str, str]) -> NewInstance:
    """The instance to ask for in this zone, from the point's definition and what a person supplied."""
    whole = restore.definition
    test = restore.purpose == "test"
    home = (restore.instance.project, restore.instance.zone, restore.instance.region)
    same_zone = home == (restore.target.project, zone, restore.target.region) and not test
    same_region = (home[0], home[2]) == (restore.target.project, restore.target.region) and not test
    dropped = []
    body = {name: value for name, value in whole.items() if name not in (*_OF_THE_PLACE, *(_NOT_IN_A_TEST * test))}
    for name, stays in (("resourcePolicies", same_region), ("reservationAffinity", same_zone)):
        if name in whole and stays:
            body[name] = whole[name]
        elif name in whole:
            dropped.append(name)
    if "machineType" in body:
        body["machineType"] = f"zones/{zone}/machineTypes/{_last(body['machineType'])}"
    if "guestAccelerators" in body:
        body["guestAccelerators"] = [
            one | {"acceleratorType": _accelerator(restore.target.project, zone, one.get("acceleratorType", ""))}
            for one in body["guestAccelerators"]
        ]
    if "scheduling" in body and not same_zone:
        body["scheduling"], left = _scheduling(body["scheduling"])
        dropped += left
    if "tags" in body:
        body["tags"] = {"items": list(body["tags"].get("items", []))}
    if test:
        body |= {"networkInterfaces": [_network(restore.target)], "deletionProtection": False}
    else:
        body["networkInterfaces"] = _interfaces(restore, supplied)
        if "deletionProtection" in body:
            body["deletionProtection"] = False
    if restore.target.service_account and body.get("serviceAccounts"):
        accounts = body["serviceAccounts"]
        body["serviceAccounts"] = [one | {"email": restore.target.service_account} for one in accounts[:1]]
    metadata = {key: str(value) for key, value in whole.get("metadata", {}).items()}
    ours = rules.labels(restore.id, tenant, rules.role(restore))
    return NewInstance(
        definition=body,
        labels=ours if test else {**whole.get("labels", {}), **ours},
        metadata=_of_a_test(metadata) if test else metadata,
        secrets={
            item.removeprefix("metadata "): value for item, value in supplied.items() if item.startswith("metadata ")
        },
        description=f"restore test {restore.id}" if test else str(whole.get("description", "")),
        empty_disks=tuple(device_of(item) for item in supplied if item.endswith(LOCAL_SSD)),
        dropped=tuple(dropped),
        protected=bool(whole.get("deletionProtection")) and not test,
    )


def _of_a_test(metadata: Mapping[str, str]) -> dict[str, str]:
    return {**{key: value for key, value in metadata.items() if key in TEST_METADATA}, **NOTHING_TO_START}


def _interfaces(restore: Restore, supplied: Mapping[str, str]) -> list[dict[str, Any]]:
    """The network interfaces of a restored instance: of addresses those that were supplied, of the rest any."""
    found = restore.definition.get("networkInterfaces", [])
    given = {item: where for item, where in addresses(restore.definition) if item in supplied}
    made = []
    for nic, one in enumerate(found):
        mine = {where: supplied[item] for item, where in given.items() if item.startswith(f"address nic{nic} ")}
        body = {name: one[name] for name in _NIC_ASKED if name in one}
        if restore.target.network and nic == 0:
            body.pop("subnetwork", None)  # of another network, or another region
            body |= _network(restore.target)
        elif restore.target.network:
            continue  # `recovery` names one network
        body |= {name: mine[name] for name in ("networkIP", "ipv6Address") if name in mine}
        for listed, key in (("accessConfigs", "natIP"), ("ipv6AccessConfigs", "externalIpv6")):
            if one.get(listed):
                body[listed] = [
                    _asked(config, key, mine.get(f"{listed}/{n}/{key}")) for n, config in enumerate(one[listed])
                ]
        ranges = [
            config | {"ipCidrRange": mine[where]}
            for n, config in enumerate(one.get("aliasIpRanges", []))
            if (where := f"aliasIpRanges/{n}/ipCidrRange") in mine
        ]
        made.append(body | ({"aliasIpRanges": ranges} if ranges else {}))
    return made


_NIC_ASKED: Final = ("network", "subnetwork", "nicType", "stackType", "queueCount", "internalIpv6PrefixLength")
_ACCESS_ASKED: Final = ("type", "name", "networkTier", "publicPtrDomainName", "setPublicPtr")


def _asked(config: Mapping[str, Any], key: str, address: str | None) -> dict[str, Any]:
    """A way out of an interface: with this address, or (None) with one that Compute Engine assigns."""
    body = {name: config[name] for name in _ACCESS_ASKED if name in config}
    if address is None:
        return body
    length = config.get("externalIpv6PrefixLength")
    return body | {key: address} | ({"externalIpv6PrefixLength": length} if key == "externalIpv6" and length else {})


def _network(target: RestoreTarget) -> dict[str, Any]:
    return {"network": target.network} | ({"subnetwork": target.subnetwork} if target.subnetwork else {})


def _scheduling(scheduling: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """How an instance is scheduled in another zone, and the fields that name what only its own has."""
    of_the_zone = ("nodeAffinities", "locationHint", "availabilityDomain")
    kept = {name: value for name, value in scheduling.items() if name not in of_the_zone}
    return kept, [f"scheduling.{name}" for name in of_the_zone if scheduling.get(name)]


def _accelerator(project: str, zone: str, link: str) -> str:
    return f"projects/{project}/zones/{zone}/acceleratorTypes/{_last(link)}"


def _last(link: str) -> str:
    return link.rsplit("/", 1)[-1]


def device_of(item: str) -> str:
    """The device's name of `disk NAME (local SSD)`."""
    return item.removeprefix("disk ").removesuffix(LOCAL_SSD)
