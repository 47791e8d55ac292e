"""A restore as a shell script of `gcloud compute` commands, for the day on which Snapkeep cannot run it. Pure.

For a person to read, change and run. It may be run again after a failure: what is there already stays, once it is seen
to be made of the right snapshot. Every word of it that comes from elsewhere is quoted, and a comment is one line.
What gcloud has no option for is named in a comment: nothing is left out in silence.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec

from snapkeep.cloud import Attachment, InsertDisk, InsertInstance

COMMENT_CHARS_MAX: Final = 300
DELIMITERS: Final = "|~#%!:;"
"""What lists of options may be divided by (`gcloud topic escaping`) where one of their values has a comma."""

T = TypeVar("T")

_HEAD: Final = """\
set -euo pipefail

there() { # whether a resource is there: disks|instances NAME and where
  local kind=$1; shift
  gcloud compute "$kind" describe "$@" --format='value(name)' >/dev/null 2>&1
}
snapshot() { # NAME PROJECT ID: stop unless it is that snapshot, and READY
  local found
  found=$(gcloud compute snapshots describe "$1" --project="$2" --format='value[separator=" "](id,status)')
  [ "$found" = "$3 READY" ] || { echo "snapshot $1 is '$found', not '$3 READY'" >&2; exit 1; }
}
made_of() { # ID NAME and where: stop unless the disk is made of that snapshot
  local id=$1 found; shift
  found=$(gcloud compute disks describe "$@" --format='value(sourceSnapshotId)')
  [ "$found" = "$id" ] || { echo "disk $1 is made of snapshot '$found', not of $id" >&2; exit 1; }
}
"""


def shell(
    about: Iterable[str],
    disks: Sequence[InsertDisk],
    snapshot_ids: Mapping[str, str],
    instance: InsertInstance | None,
) -> str:
    """The script that makes these disks, and of them the instance. `about`: comments at its head.

    `snapshot_ids`: the numeric id of each disk's snapshot, by its link.
    """
    lines = ["#!/usr/bin/env bash", *map(comment, about), _HEAD]
    for disk in disks:
        lines += [*_disk(disk, snapshot_ids[disk.source_snapshot]), ""]
    if instance is not None:
        lines += _instance(instance)
    return "\n".join(lines).rstrip() + "\n"


def comment(text: str) -> str:
    """A comment of one line, whatever the text has in it."""
    one_line = re.sub(r"[^ -~\u00a1-\u1fff]+", " ", text)
    cut = one_line if len(one_line) <= COMMENT_CHARS_MAX else f"{one_line[:COMMENT_CHARS_MAX]}..."
    return f"# {cut}".rstrip()


# --- disks --------------------------------------------------------------------------------------------------------


def _disk(disk: InsertDisk, snapshot_id: str) -> Iterator[str]:
    _, project, _, _, name = disk.source_snapshot.split("/")
    where = [disk.name, f"--project={disk.project}", _place(disk.scope)]
    yield _line(["snapshot", name, project, snapshot_id])
    yield f"{_line(['there', 'disks', *where])} ||"
    options = [f"--source-snapshot={disk.source_snapshot}", f"--type={disk.type}", f"--size={disk.size_gb}GB"]
    if disk.replica_zones:
        options.append(f"--replica-zones={','.join(disk.replica_zones)}")
    if disk.labels:
        options.append(f"--labels={_joined(f'{key}={value}' for key, value in sorted(disk.labels.items()))}")
    if disk.kms_key:
        options.append(f"--kms-key={disk.kms_key}")
    if disk.provisioned_iops is not None:
        options.append(f"--provisioned-iops={disk.provisioned_iops}")
    if disk.provisioned_throughput is not None:
        options.append(f"--provisioned-throughput={disk.provisioned_throughput}")
    if disk.resource_policies:
        options.append(f"--resource-policies={','.join(disk.resource_policies)}")
    if disk.description:
        options.append(f"--description={disk.description}")
    yield _command(["gcloud", "compute", "disks", "create", *where], options)
    yield _line(["made_of", snapshot_id, *where])


def _place(scope: str) -> str:
    kind, _, name = scope.partition("/")
    return f"--{kind.removesuffix('s')}={name}"


# --- the instance -------------------------------------------------------------------------------------------------


class _Fields:
    """A map of the definition, of which each field is taken once; what is left is told."""

    def __init__(self, value: Mapping[str, Any], path: str = "") -> None:
        self._left = dict(value)
        self._path = path

    def take(self, name: str, kind: type[T]) -> T | None:
        """The field's value if it is there and of this kind; left to be told if it is of another."""
        if not isinstance(self._left.get(name), kind):
            return None
        return cast(T, self._left.pop(name))

    def into(self, name: str) -> _Fields:
        return _Fields(self.take(name, dict) or {}, f"{self._path}{name}.")

    def rows(self, name: str) -> list[_Fields]:
        found: list[Any] = self.take(name, list) or []
        rows = (one if isinstance(one, dict) else {"": one} for one in found)
        return [_Fields(row, f"{self._path}{name}[{n}].") for n, row in enumerate(rows)]

    def words(self, name: str) -> list[str]:
        """A list of texts; left to be told if it holds anything else."""
        found = self._left.get(name)
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            del self._left[name]
            return found
        return []

    def left(self) -> Iterator[str]:
        for name, value in sorted(self._left.items()):
            if value not in (None, "", [], {}):
                yield f"{self._path}{name} = {msgspec.json.encode(value).decode()}"


def _instance(instance: InsertInstance) -> Iterator[str]:
    where = [instance.name, f"--project={instance.project}", f"--zone={instance.zone}"]
    told: list[str] = []
    options = [*_options(_Fields(instance.definition), told)]
    if instance.labels:
        options.append(f"--labels={_joined(f'{key}={value}' for key, value in sorted(instance.labels.items()))}")
    if instance.metadata:
        options.append(f"--metadata={_joined(f'{key}={value}' for key, value in sorted(instance.metadata.items()))}")
    if instance.description:
        options.append(f"--description={instance.description}")
    options += [_attachment(disk) for disk in instance.disks]
    yield from (comment(f"no option of gcloud for: {one}") for one in told)
    yield f"{_line(['there', 'instances', *where])} ||"
    yield _command(["gcloud", "compute", "instances", "create", *where], options)


def _attachment(disk: Attachment) -> str:
    if not disk.source:
        named = disk.interface == "SCSI"  # gcloud names no other
        return f"--local-ssd=interface={disk.interface}{f',device-name={disk.device_name}' if named else ''}"
    parts = [f"name={disk.source if '/regions/' in disk.source else _last(disk.source)}"]
    parts += ["scope=regional"] if "/regions/" in disk.source else []
    parts += [f"device-name={disk.device_name}", f"boot={_yes(disk.boot)}", f"auto-delete={_yes(disk.auto_delete)}"]
    parts += ["mode=ro" if disk.mode == "READ_ONLY" else "mode=rw"]
    parts += [f"interface={disk.interface}"] if disk.interface in ("SCSI", "NVME") else []
    return f"--disk={_joined(parts)}"


def _last(link: str) -> str:
    return link.rsplit("/", 1)[-1]


def _yes(what: bool) -> str:
    return "yes" if what else "no"


def _options(whole: _Fields, told: list[str]) -> Iterator[str]:
    """The options that say what a definition says; `told` is added what none says."""
    for name, option in (
        ("machineType", "machine-type"), ("minCpuPlatform", "min-cpu-platform"), ("hostname", "hostname"),
    ):  # fmt: skip
        if value := whole.take(name, str):
            yield f"--{option}={_last(value)}"
    for name in ("canIpForward", "deletionProtection"):
        if whole.take(name, bool):
            yield f"--{'can-ip-forward' if name == 'canIpForward' else 'deletion-protection'}"
    for nic in whole.rows("networkInterfaces"):
        yield f"--network-interface={_joined(_nic(nic, told))}"
        told += nic.left()
    tags = whole.into("tags")
    if names := tags.words("items"):
        yield f"--tags={_joined(names)}"
    tags.take("fingerprint", str)
    yield from _accounts(whole.rows("serviceAccounts"), told)
    yield from _scheduling(scheduling := whole.into("scheduling"))
    for fields, options in (
        (
            shielded := whole.into("shieldedInstanceConfig"),
            {"enableSecureBoot": "shielded-secure-boot", "enableVtpm": "shielded-vtpm",
             "enableIntegrityMonitoring": "shielded-integrity-monitoring"},
        ),
        (
            advanced := whole.into("advancedMachineFeatures"),
            {"enableNestedVirtualization": "enable-nested-virtualization",
             "enableUefiNetworking": "enable-uefi-networking"},
        ),
    ):  # fmt: skip
        for name, option in options.items():
            on = fields.take(name, bool)
            if on is not None:
                yield f"--{option}" if on else f"--no-{option}"
    for name, option in (("threadsPerCore", "threads-per-core"), ("visibleCoreCount", "visible-core-count")):
        if (number := advanced.take(name, int)) is not None:
            yield f"--{option}={number}"
    for name, option in (("performanceMonitoringUnit", "performance-monitoring-unit"), ("turboMode", "turbo-mode")):
        if value := advanced.take(name, str):
            yield f"--{option}={value.lower() if name == 'performanceMonitoringUnit' else value}"
    confidential = whole.into("confidentialInstanceConfig")
    of_type, on = (
        confidential.take("confidentialInstanceType", str),
        confidential.take("enableConfidentialCompute", bool),
    )
    if of_type or on:
        yield f"--confidential-compute-type={of_type or 'SEV'}"
    for one in whole.rows("guestAccelerators"):
        kind, number = one.take("acceleratorType", str) or "", one.take("acceleratorCount", int)
        yield f"--accelerator={_joined([f'type={_last(kind)}', f'count={number or 1}'])}"
        told += one.left()
    if policies := whole.words("resourcePolicies"):
        yield f"--resource-policies={_joined(policies)}"
    display = whole.into("displayDevice")
    if display.take("enableDisplay", bool):
        yield "--enable-display-device"
    yield from _reservation(reservation := whole.into("reservationAffinity"))
    for part in (tags, scheduling, shielded, advanced, confidential, display, reservation, whole):
        told += part.left()


def _nic(nic: _Fields, told: list[str]) -> Iterator[str]:
    for name, option in (
        ("network", "network"), ("subnetwork", "subnet"), ("networkIP", "private-network-ip"), ("nicType", "nic-type"),
        ("stackType", "stack-type"), ("ipv6Address", "internal-ipv6-address"),
    ):  # fmt: skip
        if value := nic.take(name, str):
            yield f"{option}={value}"
    for name, option in (("queueCount", "queue-count"), ("internalIpv6PrefixLength", "internal-ipv6-prefix-length")):
        if number := nic.take(name, int):
            yield f"{option}={number}"
    outside = nic.rows("accessConfigs")
    if not outside:
        yield "no-address"
    for n, config in enumerate(outside):
        if n == 0:
            if tier := config.take("networkTier", str):
                yield f"network-tier={tier}"
            yield f"address={config.take('natIP', str) or ''}"
            # What gcloud gives without being asked.
            config.take("type", str)
            config.take("name", str)
        told += config.left()
    for config in nic.rows("ipv6AccessConfigs"):
        if tier := config.take("networkTier", str):
            yield f"ipv6-network-tier={tier}"
        if address := config.take("externalIpv6", str):
            yield f"external-ipv6-address={address}"
        if number := config.take("externalIpv6PrefixLength", int):
            yield f"external-ipv6-prefix-length={number}"
        config.take("type", str)
        config.take("name", str)
        told += config.left()
    aliases = []
    for alias in nic.rows("aliasIpRanges"):
        within, cidr = alias.take("subnetworkRangeName", str), alias.take("ipCidrRange", str) or ""
        aliases.append(f"{within}:{cidr}" if within else cidr)
        told += alias.left()
    if aliases:
        yield f"aliases={';'.join(aliases)}"


def _accounts(accounts: Sequence[_Fields], told: list[str]) -> Iterator[str]:
    if not accounts:
        yield "--no-service-account"
        yield "--no-scopes"
    for account in accounts[:1]:  # an instance has one
        if email := account.take("email", str):
            yield f"--service-account={email}"
        scopes = account.words("scopes")
        yield f"--scopes={_joined(scopes)}" if scopes else "--no-scopes"
    for account in accounts:
        told += account.left()


def _scheduling(scheduling: _Fields) -> Iterator[str]:
    model = scheduling.take("provisioningModel", str)
    if model:
        yield f"--provisioning-model={model}"
    if scheduling.take("preemptible", bool) and model != "SPOT":  # of which it says the same
        yield "--preemptible"
    for name, option in (
        ("onHostMaintenance", "maintenance-policy"), ("instanceTerminationAction", "instance-termination-action"),
    ):  # fmt: skip
        if value := scheduling.take(name, str):
            yield f"--{option}={value}"
    for name, option in (
        ("minNodeCpus", "min-node-cpu"), ("availabilityDomain", "availability-domain"),
        ("hostErrorTimeoutSeconds", "host-error-timeout-seconds"),
    ):  # fmt: skip
        if number := scheduling.take(name, int):
            yield f"--{option}={number}"
    restart = scheduling.take("automaticRestart", bool)
    if restart is not None:
        yield "--restart-on-failure" if restart else "--no-restart-on-failure"


def _reservation(reservation: _Fields) -> Iterator[str]:
    match reservation.take("consumeReservationType", str):
        case "ANY_RESERVATION":
            yield "--reservation-affinity=any"
        case "NO_RESERVATION":
            yield "--reservation-affinity=none"
        case "SPECIFIC_RESERVATION":
            reservation.take("key", str)
            yield "--reservation-affinity=specific"
            yield f"--reservation={','.join(reservation.words('values'))}"
        case str(other):
            yield f"--reservation-affinity={other}"
        case None:
            pass


# --- words of a shell ---------------------------------------------------------------------------------------------


def _joined(values: Iterable[str]) -> str:
    """A list as one option has it: divided by commas, or by what none of the values has."""
    listed = list(values)
    if not any("," in value for value in listed):
        return ",".join(listed)
    free = next((mark for mark in DELIMITERS if not any(mark in value for value in listed)), None)
    mark = free or next(f"{n}_" for n in range(1_000_000) if not any(f"{n}_" in value for value in listed))
    return f"^{mark}^{mark.join(listed)}"


def _line(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _command(words: Iterable[str], options: Iterable[str]) -> str:
    """One option a line, so that a person can read and change them."""
    return " \\\n    ".join([f"  {_line(words)}", *map(shlex.quote, options)])
