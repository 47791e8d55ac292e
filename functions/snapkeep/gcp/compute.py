"""`Compute` on Compute Engine's v1 REST API (and on the local cloud's, where an endpoint names one).

Reads are tried again on faults that may pass, within CALLS_TIMEOUT_S. A change is asked for once: whether to ask again
is decided where its outcome is recorded, and its request id makes that safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Final, Literal, TypeVar, assert_never, cast
from urllib.parse import urlsplit

import requests
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError  # type: ignore[import-untyped]  # no py.typed
from requests.exceptions import ChunkedEncodingError

from snapkeep import cloud
from snapkeep.cloud import AttachedDisk, Change, key_without_version, partial_link, region_of
from snapkeep.faults import translate
from snapkeep.ports import R, Refused, Transient

T = TypeVar("T")

_OfInstance = cloud.DeleteInstance | cloud.StopInstance | cloud.StartInstance | cloud.AttachDisk | cloud.DetachDisk
"""Changes of an instance that there is."""

CALL_TIMEOUT_S: Final = 15.0
"""One attempt of one call, to connect and again between two pieces of its answer. A full page takes about 2 s."""

CALLS_TIMEOUT_S: Final = 25.0
"""All attempts of one read together: within the least timeout of a function (60 s), the last attempt included."""

UNREACHABLE: Final = "UNREACHABLE"
"""What a list says of a zone or region that did not answer; also the reason of the Transient that it becomes."""

RETRY_PAUSE_MIN_S: Final = 0.25
RETRY_PAUSE_MAX_S: Final = 4.0

PAGE_MAX: Final = 500
"""Resources in one page: the most that Compute Engine gives."""

_ONE_CALL: Final[dict[str, Any]] = {"retry": None, "timeout": CALL_TIMEOUT_S}
"""How a client is to call: once. Its own retries know 503 only, and would go on for minutes."""

_NOT_DEFINITION: Final = frozenset({"id", "name", "zone", "status", "disks", "kind", "selfLink"})
"""Fields of an instance that have a place of their own in `cloud.Instance`."""


class GoogleCompute:
    """Compute Engine, or what answers for it at `endpoint` (`http://127.0.0.1:8080`; None: Google's own).

    Over plain http the credentials are anonymous, so that no token is ever sent in the clear. Clients are made at
    their first call. A mistake in the set-up (no credentials to be found) rises as google.auth's exception.
    """

    def __init__(self, endpoint: str | None, *, calls_timeout_s: float = CALLS_TIMEOUT_S) -> None:
        self._endpoint = endpoint
        self._read_retry = Retry(
            predicate=_worth_another_try,
            initial=RETRY_PAUSE_MIN_S,
            maximum=RETRY_PAUSE_MAX_S,
            timeout=calls_timeout_s,
        )

    # --- the port ---------------------------------------------------------------------------------------------

    def get(self, kind: type[R], link: str) -> R | None:
        """Raises ValueError for a link that is not of this kind."""
        read = self._reader(kind, link)
        try:
            return cast(R, self._read(read))
        except Refused as refusal:
            # Only Google's own word counts: a proxy's 404 must not make a living instance look lost.
            if refusal.code == 404 and refusal.reason == "notFound":
                return None
            raise

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        """Raises TypeError for operations and groups of instant snapshots, which are read by their link."""
        asked: dict[str, Any] = {"project": project, "max_results": PAGE_MAX}
        if where:
            asked["filter"] = where
        while True:
            found, token = self._read(partial(self._listed, kind, asked))
            yield from cast(list[R], found)
            if not token:
                return
            asked["page_token"] = token

    def start(self, change: Change, request_id: str) -> str:
        operation = _called(lambda: self._ask(change, request_id))
        return partial_link(operation.self_link)

    def _ask(self, change: Change, request_id: str) -> compute_v1.Operation:
        asked: dict[str, Any] = {"project": change.project, "request_id": request_id}
        match change:
            case cloud.InsertSnapshot():
                asked["snapshot_resource"] = _snapshot_resource(change)
                return self._snapshots.insert_unary(asked, **_ONE_CALL)
            case cloud.DeleteSnapshot():
                asked["snapshot"] = change.name
                return self._snapshots.delete_unary(asked, **_ONE_CALL)
            case cloud.InsertInstantSnapshot():
                asked |= {**_place(change.scope), "instant_snapshot_resource": _instant_resource(change)}
                return self._instants_in(change.scope).insert_unary(asked, **_ONE_CALL)
            case cloud.DeleteInstantSnapshot():
                asked |= {**_place(change.scope), "instant_snapshot": change.name}
                return self._instants_in(change.scope).delete_unary(asked, **_ONE_CALL)
            case cloud.InsertInstantSnapshotGroup():
                asked |= {**_place(change.scope), "instant_snapshot_group_resource": _group_resource(change)}
                return self._groups_in(change.scope).insert_unary(asked, **_ONE_CALL)
            case cloud.DeleteInstantSnapshotGroup():
                asked |= {**_place(change.scope), "instant_snapshot_group": change.name}
                return self._groups_in(change.scope).delete_unary(asked, **_ONE_CALL)
            case cloud.InsertDisk():
                asked |= {**_place(change.scope), "disk_resource": _disk_resource(change)}
                return self._disks_in(change.scope).insert_unary(asked, **_ONE_CALL)
            case cloud.DeleteDisk():
                asked |= {**_place(change.scope), "disk": change.name}
                return self._disks_in(change.scope).delete_unary(asked, **_ONE_CALL)
            case cloud.SetDiskLabels(scope=scope):
                asked |= {**_place(scope), "resource": change.name}
                labels = {"labels": dict(change.labels), "label_fingerprint": change.fingerprint}
                if _is_zone(scope):
                    asked["zone_set_labels_request_resource"] = labels
                    return self._disks.set_labels_unary(asked, **_ONE_CALL)
                asked["region_set_labels_request_resource"] = labels
                return self._region_disks.set_labels_unary(asked, **_ONE_CALL)
            case cloud.InsertInstance():
                asked |= {"zone": change.zone, "instance_resource": _instance_resource(change)}
                return self._instances.insert_unary(asked, **_ONE_CALL)
            case _:
                return self._ask_instance(change, asked | {"zone": change.zone, "instance": change.name})

    def _ask_instance(self, change: _OfInstance, asked: dict[str, Any]) -> compute_v1.Operation:
        match change:
            case cloud.DeleteInstance():
                return self._instances.delete_unary(asked, **_ONE_CALL)
            case cloud.StopInstance():
                # Without a word on it an instance with local SSDs is not stopped.
                asked["discard_local_ssd"] = True
                return self._instances.stop_unary(asked, **_ONE_CALL)
            case cloud.StartInstance():
                return self._instances.start_unary(asked, **_ONE_CALL)
            case cloud.AttachDisk():
                asked["attached_disk_resource"] = _attached_resource(change.disk, change.zone)
                return self._instances.attach_disk_unary(asked, **_ONE_CALL)
            case cloud.DetachDisk():
                asked["device_name"] = change.device_name
                return self._instances.detach_disk_unary(asked, **_ONE_CALL)
            case _:
                assert_never(change)

    # --- calls ------------------------------------------------------------------------------------------------

    def _read(self, call: Callable[[], T]) -> T:
        """What the call answers, in the end. Raises Transient, Refused."""
        try:
            return self._read_retry(lambda: _called(call))()
        except RetryError as error:
            # Only a Transient is tried again, so that is what lasted.
            raise cast(Transient, error.cause) from error

    def _reader(self, kind: type[R], link: str) -> Callable[[], cloud.Resource]:
        """The call that reads one resource. Raises ValueError for a link that is not of this kind."""
        match kind, link.split("/"):
            case cloud.Instance, ["projects", project, "zones", zone, "instances", name]:
                return lambda: _instance(
                    _plain(self._instances.get(project=project, zone=zone, instance=name, **_ONE_CALL))
                )
            case cloud.Disk, ["projects", project, "zones", zone, "disks", name]:
                return lambda: _disk(_plain(self._disks.get(project=project, zone=zone, disk=name, **_ONE_CALL)))
            case cloud.Disk, ["projects", project, "regions", region, "disks", name]:
                return lambda: _disk(
                    _plain(self._region_disks.get(project=project, region=region, disk=name, **_ONE_CALL))
                )
            case cloud.Snapshot, ["projects", project, "global", "snapshots", name]:
                return lambda: _snapshot(_plain(self._snapshots.get(project=project, snapshot=name, **_ONE_CALL)))
            case cloud.InstantSnapshot, ["projects", project, "zones" | "regions", _, "instantSnapshots", name]:
                scope = _scope(link)
                instant = {"project": project, **_place(scope), "instant_snapshot": name}
                return lambda: _instant(_plain(self._instants_in(scope).get(instant, **_ONE_CALL)))
            case cloud.InstantSnapshotGroup, [
                "projects",
                project,
                "zones" | "regions",
                _,
                "instantSnapshotGroups",
                name,
            ]:
                scope = _scope(link)
                group = {"project": project, **_place(scope), "instant_snapshot_group": name}
                return lambda: _instant_group(_plain(self._groups_in(scope).get(group, **_ONE_CALL)))
            case cloud.ResourcePolicy, ["projects", project, "regions", region, "resourcePolicies", name]:
                return lambda: _policy(
                    _plain(
                        self._resource_policies.get(project=project, region=region, resource_policy=name, **_ONE_CALL)
                    )
                )
            case cloud.Zone, ["projects", project, "zones", zone]:
                return lambda: _zone(_plain(self._zones.get(project=project, zone=zone, **_ONE_CALL)))
            case cloud.Firewall, ["projects", project, "global", "firewalls", name]:
                return lambda: _firewall(_plain(self._firewalls.get(project=project, firewall=name, **_ONE_CALL)))
            case cloud.Operation, ["projects", project, "global", "operations", name]:
                return lambda: _operation(self._global_operations.get(project=project, operation=name, **_ONE_CALL))
            case cloud.Operation, ["projects", project, "zones", zone, "operations", name]:
                return lambda: _operation(
                    self._zone_operations.get(project=project, zone=zone, operation=name, **_ONE_CALL)
                )
            case cloud.Operation, ["projects", project, "regions", region, "operations", name]:
                return lambda: _operation(
                    self._region_operations.get(project=project, region=region, operation=name, **_ONE_CALL)
                )
        raise ValueError(f"'{link}' is not the link of a {kind.__name__}")

    def _listed(self, kind: type[R], asked: dict[str, Any]) -> tuple[list[Any], str]:
        """One page: its resources in the order of their links, and the next page's token."""
        match kind:
            case cloud.Instance:
                request = compute_v1.AggregatedListInstancesRequest(asked)
                return _aggregated(self._instances, request, "instances", _instance)
            case cloud.Disk:
                request = compute_v1.AggregatedListDisksRequest(asked)
                return _aggregated(self._disks, request, "disks", _disk)
            case cloud.Snapshot:
                page = _page(self._snapshots.list(compute_v1.ListSnapshotsRequest(asked), **_ONE_CALL))
                return _in_order(map(_snapshot, page.items)), page.next_page_token
            case cloud.InstantSnapshot:
                request = compute_v1.AggregatedListInstantSnapshotsRequest(asked)
                return _aggregated(self._instant_snapshots, request, "instant_snapshots", _instant)
            case cloud.ResourcePolicy:
                request = compute_v1.AggregatedListResourcePoliciesRequest(asked)
                return _aggregated(self._resource_policies, request, "resource_policies", _policy)
            case cloud.Zone:
                page = _page(self._zones.list(compute_v1.ListZonesRequest(asked), **_ONE_CALL))
                return _in_order(map(_zone, page.items)), page.next_page_token
            case cloud.Firewall:
                page = _page(self._firewalls.list(compute_v1.ListFirewallsRequest(asked), **_ONE_CALL))
                return _in_order(map(_firewall, page.items)), page.next_page_token
        raise TypeError(f"{kind.__name__}: read by its link, not searched for")

    # --- clients ----------------------------------------------------------------------------------------------

    @cached_property
    def _options(self) -> dict[str, Any]:
        if self._endpoint is None:
            return {}
        options: dict[str, Any] = {"client_options": ClientOptions(api_endpoint=self._endpoint)}
        if urlsplit(self._endpoint).scheme == "http":
            options["credentials"] = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth types none
        return options

    @cached_property
    def _instances(self) -> compute_v1.InstancesClient:
        return compute_v1.InstancesClient(**self._options)

    @cached_property
    def _disks(self) -> compute_v1.DisksClient:
        return compute_v1.DisksClient(**self._options)

    @cached_property
    def _region_disks(self) -> compute_v1.RegionDisksClient:
        return compute_v1.RegionDisksClient(**self._options)

    @cached_property
    def _snapshots(self) -> compute_v1.SnapshotsClient:
        return compute_v1.SnapshotsClient(**self._options)

    @cached_property
    def _instant_snapshots(self) -> compute_v1.InstantSnapshotsClient:
        return compute_v1.InstantSnapshotsClient(**self._options)

    @cached_property
    def _region_instant_snapshots(self) -> compute_v1.RegionInstantSnapshotsClient:
        return compute_v1.RegionInstantSnapshotsClient(**self._options)

    @cached_property
    def _instant_snapshot_groups(self) -> compute_v1.InstantSnapshotGroupsClient:
        return compute_v1.InstantSnapshotGroupsClient(**self._options)

    @cached_property
    def _region_instant_snapshot_groups(self) -> compute_v1.RegionInstantSnapshotGroupsClient:
        return compute_v1.RegionInstantSnapshotGroupsClient(**self._options)

    @cached_property
    def _resource_policies(self) -> compute_v1.ResourcePoliciesClient:
        return compute_v1.ResourcePoliciesClient(**self._options)

    @cached_property
    def _zones(self) -> compute_v1.ZonesClient:
        return compute_v1.ZonesClient(**self._options)

    @cached_property
    def _firewalls(self) -> compute_v1.FirewallsClient:
        return compute_v1.FirewallsClient(**self._options)

    @cached_property
    def _global_operations(self) -> compute_v1.GlobalOperationsClient:
        return compute_v1.GlobalOperationsClient(**self._options)

    @cached_property
    def _zone_operations(self) -> compute_v1.ZoneOperationsClient:
        return compute_v1.ZoneOperationsClient(**self._options)

    @cached_property
    def _region_operations(self) -> compute_v1.RegionOperationsClient:
        return compute_v1.RegionOperationsClient(**self._options)

    def _disks_in(self, scope: str) -> compute_v1.DisksClient | compute_v1.RegionDisksClient:
        return self._disks if _is_zone(scope) else self._region_disks

    def _instants_in(self, scope: str) -> compute_v1.InstantSnapshotsClient | compute_v1.RegionInstantSnapshotsClient:
        return self._instant_snapshots if _is_zone(scope) else self._region_instant_snapshots

    def _groups_in(
        self, scope: str
    ) -> compute_v1.InstantSnapshotGroupsClient | compute_v1.RegionInstantSnapshotGroupsClient:
        return self._instant_snapshot_groups if _is_zone(scope) else self._region_instant_snapshot_groups


# --- what is asked for --------------------------------------------------------------------------------------------


def _snapshot_resource(change: cloud.InsertSnapshot) -> compute_v1.Snapshot:
    resource = compute_v1.Snapshot(
        name=change.name,
        storage_locations=[change.location],
        labels=dict(change.labels),
        description=change.description,
    )
    if change.source_instant:
        # It knows its disk; who names both could name another.
        resource.source_instant_snapshot = change.source_instant
    else:
        resource.source_disk = change.source_disk
    if change.guest_flush:
        resource.guest_flush = True
    if change.kms_key:
        resource.snapshot_encryption_key = compute_v1.CustomerEncryptionKey(kms_key_name=change.kms_key)
    return resource


def _instant_resource(change: cloud.InsertInstantSnapshot) -> compute_v1.InstantSnapshot:
    return compute_v1.InstantSnapshot(
        name=change.name,
        source_disk=change.source_disk,
        labels=dict(change.labels),
        description=change.description,
    )


def _group_resource(change: cloud.InsertInstantSnapshotGroup) -> compute_v1.InstantSnapshotGroup:
    return compute_v1.InstantSnapshotGroup(
        name=change.name, source_consistency_group=change.consistency_group, description=change.description
    )


def _disk_resource(change: cloud.InsertDisk) -> compute_v1.Disk:
    resource = compute_v1.Disk(
        name=change.name,
        source_snapshot=change.source_snapshot,
        type_=f"projects/{change.project}/{change.scope}/diskTypes/{change.type}",
        size_gb=change.size_gb,
        labels=dict(change.labels),
        description=change.description,
    )
    if change.kms_key:
        resource.disk_encryption_key = compute_v1.CustomerEncryptionKey(kms_key_name=change.kms_key)
    if change.replica_zones:
        resource.replica_zones = [f"projects/{change.project}/zones/{zone}" for zone in change.replica_zones]
    if change.provisioned_iops is not None:
        resource.provisioned_iops = change.provisioned_iops
    if change.provisioned_throughput is not None:
        resource.provisioned_throughput = change.provisioned_throughput
    if change.resource_policies:
        resource.resource_policies = list(change.resource_policies)
    return resource


def _instance_resource(change: cloud.InsertInstance) -> compute_v1.Instance:
    """Raises Refused for a definition that is none: the fields are those of a resource that was read."""
    resource = compute_v1.Instance()
    try:
        ParseDict(dict(change.definition), _plain(resource))
    except ParseError as error:
        raise Refused(f"no definition of an instance: {error}", code=400, reason="invalid") from error
    items = sorted({**change.metadata, **change.secrets}.items())
    resource.name = change.name
    resource.description = change.description
    resource.labels = dict(change.labels)
    resource.metadata = compute_v1.Metadata(items=[compute_v1.Items(key=key, value=value) for key, value in items])
    resource.disks = [_attached_resource(disk, change.zone) for disk in change.disks]
    return resource


def _attached_resource(disk: cloud.Attachment, zone: str) -> compute_v1.AttachedDisk:
    resource = compute_v1.AttachedDisk(
        type_="PERSISTENT" if disk.source else "SCRATCH",
        device_name=disk.device_name,
        boot=disk.boot,
        mode=disk.mode,
        interface=disk.interface,
        auto_delete=disk.auto_delete,
    )
    if disk.source:
        resource.source = disk.source
    else:
        resource.initialize_params = compute_v1.AttachedDiskInitializeParams(
            disk_type=f"zones/{zone}/diskTypes/local-ssd"
        )
    return resource


def _is_zone(scope: str) -> bool:
    return scope.startswith("zones/")


def _place(scope: str) -> dict[str, str]:
    """`zones/Z` or `regions/R` as requests have it."""
    kind, _, name = scope.partition("/")
    return {kind.removesuffix("s"): name}


# --- faults -------------------------------------------------------------------------------------------------------


def _called(call: Callable[[], T]) -> T:
    """The call's answer. Raises Transient, Refused."""
    try:
        return call()
    except GoogleAPICallError as error:
        status, reason, message = _said(error)
        raise translate(status, reason, message) from error
    except (requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
        raise Transient(str(error)) from error
    except GoogleAuthError as error:
        # The metadata server, or who else gives out tokens, may be out of reach for a moment.
        if error.retryable:
            raise Transient(str(error)) from error
        raise


def _said(error: GoogleAPICallError) -> tuple[int, str, str]:
    """HTTP status, reason and message of an error.

    The REST transport keeps the body's `error.errors` and `error.details`; `error.reason` is that of an ErrorInfo in
    the details. What did not come from Compute Engine itself (a proxy's page) has neither.
    """
    first = error.errors[0] if error.errors else {}
    reason = first.get("reason") or error.reason or ""
    return int(error.code or 503), str(reason), str(first.get("message") or error.message)


def _worth_another_try(error: BaseException) -> bool:
    # The quota of a minute is not back within seconds, and asking for it spends more of it; neither is a zone, and the
    # tick after this one asks again.
    return isinstance(error, Transient) and not error.of_project and error.reason != UNREACHABLE


# --- pages --------------------------------------------------------------------------------------------------------


def _plain(message: Any) -> Any:
    """The protobuf message in proto-plus's wrapper: its fields read several times faster than the wrapper's."""
    return type(message).pb(message)


def _page(pager: Any) -> Any:
    """The page that a pager was made with; it would read the next ones by itself, and without our bounds."""
    return _plain(next(iter(pager.pages)))


def _aggregated(client: Any, request: Any, field: str, resource: Callable[[Any], R]) -> tuple[list[R], str]:
    """A page of an aggregated list and the next one's token. `field`: where each zone and region has its resources."""
    page = _page(client.aggregated_list(request, **_ONE_CALL))
    return _in_order(resource(one) for scope in _reached(page) for one in getattr(scope, field)), page.next_page_token


def _reached(page: Any) -> list[Any]:
    """What a page of an aggregated list holds of each zone and region.

    Raises Transient when one of them did not answer: what is in it would look as if it were gone.
    """
    away = [*page.unreachables, *(name for name, scope in page.items.items() if scope.warning.code == UNREACHABLE)]
    if away:
        raise Transient(f"no answer from {', '.join(sorted(away))}", reason=UNREACHABLE)
    return list(page.items.values())


def _in_order(resources: Iterable[R]) -> list[R]:
    """By link, as the list calls have them; the scopes of an aggregated page arrive in no order."""
    return sorted(resources, key=lambda resource: resource.link)


# --- resources ----------------------------------------------------------------------------------------------------


def _instance(found: Any) -> cloud.Instance:
    fields: dict[str, Any] = MessageToDict(found)
    return cloud.Instance(
        id=str(found.id),
        name=found.name,
        project=_project(found.self_link),
        zone=_last(found.zone),
        status=found.status,
        labels=dict(found.labels),
        disks=tuple(
            AttachedDisk(
                device_name=disk.device_name,
                source=partial_link(disk.source),
                persistent=disk.type_ == "PERSISTENT",
                boot=disk.boot,
                mode=disk.mode,
                interface=disk.interface,
                auto_delete=disk.auto_delete,
            )
            for disk in found.disks
        ),
        definition={name: value for name, value in fields.items() if name not in _NOT_DEFINITION},
    )


def _disk(found: Any) -> cloud.Disk:
    zone = _last(found.zone) or None
    key = found.disk_encryption_key
    return cloud.Disk(
        id=str(found.id),
        name=found.name,
        project=_project(found.self_link),
        zone=zone,
        region=region_of(zone) if zone else _last(found.region),
        replica_zones=tuple(map(_last, found.replica_zones)),
        type=_last(found.type_),
        size_gb=found.size_gb,
        status=found.status,
        labels=dict(found.labels),
        provisioned_iops=found.provisioned_iops if found.HasField("provisioned_iops") else None,
        provisioned_throughput=found.provisioned_throughput if found.HasField("provisioned_throughput") else None,
        architecture=found.architecture or None,
        guest_os_features=tuple(feature.type_ for feature in found.guest_os_features),
        kms_key=key_without_version(key.kms_key_name) or None,
        # The key is never told; its hash is, of a key that the customer supplied.
        customer_supplied_key=bool(key.sha256),
        resource_policies=tuple(map(partial_link, found.resource_policies)),
        source_snapshot_id=found.source_snapshot_id or None,
        users=tuple(map(partial_link, found.users)),
        label_fingerprint=found.label_fingerprint,
    )


def _snapshot(found: Any) -> cloud.Snapshot:
    return cloud.Snapshot(
        id=str(found.id),
        name=found.name,
        project=_project(found.self_link),
        status=found.status,
        source_disk=partial_link(found.source_disk),
        source_disk_id=found.source_disk_id,
        locations=tuple(found.storage_locations),
        labels=dict(found.labels),
        created_at=_time(found.creation_timestamp),
        bytes=found.storage_bytes,
        kms_key=key_without_version(found.snapshot_encryption_key.kms_key_name) or None,
        source_instant_id=found.source_instant_snapshot_id or None,
        size_gb=found.disk_size_gb,
        description=found.description,
    )


def _instant(found: Any) -> cloud.InstantSnapshot:
    return cloud.InstantSnapshot(
        id=str(found.id),
        name=found.name,
        project=_project(found.self_link),
        scope=_scope(found.self_link),
        status=found.status,
        source_disk=partial_link(found.source_disk),
        source_disk_id=found.source_disk_id,
        group=partial_link(found.source_instant_snapshot_group),
        labels=dict(found.labels),
        created_at=_time(found.creation_timestamp),
    )


def _instant_group(found: Any) -> cloud.InstantSnapshotGroup:
    return cloud.InstantSnapshotGroup(
        id=str(found.id),
        name=found.name,
        project=_project(found.self_link),
        scope=_scope(found.self_link),
        status=found.status,
        # Output has it within the status; that the other field is told too is not documented.
        consistency_group=partial_link(
            found.resource_status.source_info.consistency_group or found.source_consistency_group
        ),
        created_at=_time(found.creation_timestamp),
    )


def _policy(found: Any) -> cloud.ResourcePolicy:
    return cloud.ResourcePolicy(
        name=found.name,
        project=_project(found.self_link),
        region=_last(found.region),
        # An empty message, of which only its being there says anything.
        consistency_group=found.HasField("disk_consistency_group_policy"),
    )


def _zone(found: Any) -> cloud.Zone:
    return cloud.Zone(
        name=found.name, project=_project(found.self_link), region=_last(found.region), up=found.status == "UP"
    )


def _firewall(found: Any) -> cloud.Firewall:
    inwards = found.direction == "INGRESS"
    return cloud.Firewall(
        name=found.name,
        project=_project(found.self_link),
        network=partial_link(found.network),
        direction=found.direction,
        priority=found.priority,
        # A rule has one of the two.
        allows=bool(found.allowed),
        everything=any(rule.I_p_protocol == "all" for rule in (*found.allowed, *found.denied)),
        ranges=tuple(found.source_ranges if inwards else found.destination_ranges),
        targeted=bool(found.target_tags or found.target_service_accounts),
        disabled=found.disabled,
    )


def _operation(found: compute_v1.Operation) -> cloud.Operation:
    # `result()` of the client's own operation would pass over errors that come without an HTTP status.
    first = found.error.errors[0] if found.error.errors else None
    return cloud.Operation(
        id=str(found.id),
        name=found.name,
        link=partial_link(found.self_link),
        status=_STATUSES.get(found.status.name, "RUNNING"),
        target=partial_link(found.target_link),
        error_code=first.code if first else None,
        error_message=first.message if first else None,
        http_status=found.http_error_status_code or None,
    )


_STATUSES: Final[Mapping[str, Literal["PENDING", "DONE"]]] = {"PENDING": "PENDING", "DONE": "DONE"}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _scope(self_link: str) -> str:
    return "/".join(partial_link(self_link).split("/")[2:4])


def _project(self_link: str) -> str:
    return partial_link(self_link).split("/")[1]


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
