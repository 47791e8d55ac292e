"""`Compute` over the state machine in this process, without HTTP between."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from snapkeep import cloud
from snapkeep.cloud import (
    AttachedDisk,
    Change,
    DeleteSnapshot,
    Disk,
    InsertSnapshot,
    Instance,
    Operation,
    Resource,
    Snapshot,
    partial_link,
)
from snapkeep.faults import translate
from snapkeep.ports import R
from snapkeep_local.cloud import Cloud
from snapkeep_local.errors import ApiError, Json

_Found = Literal["instances", "disks", "snapshots"]
_KINDS: Final[Mapping[type, _Found]] = {Instance: "instances", Disk: "disks", Snapshot: "snapshots"}

_LINKS: Final[Mapping[type, re.Pattern[str]]] = {
    Instance: re.compile(r"projects/[^/]+/zones/[^/]+/instances/[^/]+"),
    Disk: re.compile(r"projects/[^/]+/(zones|regions)/[^/]+/disks/[^/]+"),
    Snapshot: re.compile(r"projects/[^/]+/global/snapshots/[^/]+"),
    Operation: re.compile(r"projects/[^/]+/(global|zones/[^/]+)/operations/[^/]+"),
}

KNOWN_MAX: Final = 20_000
"""Resources that are remembered in the shape that Snapkeep reads; at the bound all of them are made anew."""

_NOT_DEFINITION: Final = frozenset({"id", "name", "zone", "status", "disks", "kind", "selfLink"})
"""Fields of an instance that have a place of their own in `cloud.Instance`."""


class LocalCompute:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._known: dict[str, tuple[Json, Resource]] = {}
        """By link, each with the very answer that it was made of: the same one gives the same."""

    def get(self, kind: type[R], link: str) -> R | None:
        """Raises ValueError for a link that is not of this kind."""
        if not _LINKS[kind].fullmatch(link):
            raise ValueError(f"'{link}' is not the link of a {kind.__name__}")
        try:
            if kind is Operation:
                return _typed(kind, self._cloud.get_operation(link))
            return self._typed(kind, self._cloud.get(_KINDS[kind], link))
        except ApiError as error:
            if (error.status, error.reason) == (404, "notFound"):
                return None
            raise translate(error.status, error.reason, error.message) from error

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        """Raises TypeError for operations, which are read by their link."""
        if kind not in _KINDS:
            raise TypeError(f"{kind.__name__}: read by its link, not searched for")
        token = ""
        while True:
            try:
                page, token = self._cloud.page(_KINDS[kind], project, filter=where, page_token=token)
            except ApiError as error:
                raise translate(error.status, error.reason, error.message) from error
            for resource in page:
                yield self._typed(kind, resource)
            if not token:
                return

    def start(self, change: Change, request_id: str) -> str:
        try:
            match change:
                case InsertSnapshot():
                    operation = self._cloud.insert_snapshot(change.project, _body(change), request_id)
                case DeleteSnapshot():
                    operation = self._cloud.delete_snapshot(change.link, request_id)
                case _:
                    raise NotImplementedError(type(change).__name__)
        except ApiError as error:
            raise translate(error.status, error.reason, error.message) from error
        return partial_link(operation["selfLink"])

    def _typed(self, kind: type[R], found: Json) -> R:
        known = self._known.get(found["selfLink"])
        if known is None or known[0] is not found:
            if len(self._known) == KNOWN_MAX:
                self._known.clear()
            known = self._known[found["selfLink"]] = (found, _typed(kind, found))
        value = known[1]
        assert isinstance(value, kind)
        return value


def _body(change: InsertSnapshot) -> Json:
    body: Json = {
        "name": change.name,
        "sourceDisk": change.source_disk,
        "storageLocations": [change.location],
        "labels": dict(change.labels),
        "description": change.description,
    }
    if change.kms_key:
        body["snapshotEncryptionKey"] = {"kmsKeyName": change.kms_key}
    return body


def _typed(kind: type[R], found: Json) -> R:
    """A resource in its REST shape as `cloud` has it."""
    value: Any
    if kind is Instance:
        value = _instance(found)
    elif kind is Disk:
        value = _disk(found)
    elif kind is Snapshot:
        value = _snapshot(found)
    else:
        value = _operation(found)
    assert isinstance(value, kind)
    return value


def _instance(found: Json) -> Instance:
    return Instance(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        zone=_last(found["zone"]),
        status=found["status"],
        labels=found.get("labels", {}),
        disks=tuple(
            AttachedDisk(
                device_name=disk["deviceName"],
                source=partial_link(disk.get("source", "")),
                persistent=disk["type"] == "PERSISTENT",
                boot=disk["boot"],
                mode=disk["mode"],
                interface=disk["interface"],
                auto_delete=disk["autoDelete"],
            )
            for disk in found["disks"]
        ),
        definition={name: value for name, value in found.items() if name not in _NOT_DEFINITION},
    )


def _disk(found: Json) -> Disk:
    zone = _last(found["zone"]) if "zone" in found else None
    key = found.get("diskEncryptionKey", {})
    return Disk(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        zone=zone,
        region=cloud.region_of(zone) if zone else _last(found["region"]),
        replica_zones=tuple(_last(replica) for replica in found.get("replicaZones", ())),
        type=_last(found["type"]),
        size_gb=int(found["sizeGb"]),
        status=found["status"],
        labels=found.get("labels", {}),
        provisioned_iops=int(found["provisionedIops"]) if "provisionedIops" in found else None,
        provisioned_throughput=int(found["provisionedThroughput"]) if "provisionedThroughput" in found else None,
        architecture=found.get("architecture"),
        guest_os_features=tuple(feature["type"] for feature in found.get("guestOsFeatures", ())),
        kms_key=cloud.key_without_version(key.get("kmsKeyName", "")) or None,
        customer_supplied_key="sha256" in key,
    )


def _snapshot(found: Json) -> Snapshot:
    return Snapshot(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        status=found["status"],
        source_disk=partial_link(found["sourceDisk"]),
        source_disk_id=found["sourceDiskId"],
        locations=tuple(found["storageLocations"]),
        labels=found.get("labels", {}),
        created_at=datetime.fromisoformat(found["creationTimestamp"]),
        bytes=int(found["storageBytes"]),
        kms_key=cloud.key_without_version(found.get("snapshotEncryptionKey", {}).get("kmsKeyName", "")) or None,
    )


def _operation(found: Json) -> Operation:
    errors = found.get("error", {}).get("errors", [])
    return Operation(
        id=found["id"],
        name=found["name"],
        link=partial_link(found["selfLink"]),
        status=found["status"],
        target=partial_link(found["targetLink"]),
        error_code=errors[0]["code"] if errors else None,
        error_message=errors[0]["message"] if errors else None,
        http_status=found.get("httpErrorStatusCode"),
    )


def _project(found: Json) -> str:
    return str(partial_link(found["selfLink"]).split("/")[1])


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
