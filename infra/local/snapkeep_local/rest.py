"""Compute Engine's v1 REST API over the state machine, as far as google-cloud-compute uses it here, and its controls.

google-cloud-compute talks to it unchanged: give its clients the server's address as `api_endpoint` and anonymous
credentials. Nothing is decided here; paths and parameters become calls of `Cloud`, and its refusals error bodies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import flask
import msgspec
from werkzeug.exceptions import HTTPException

from snapkeep.documents import learn
from snapkeep_local.cloud import PAGE_MAX, Cloud, Kind
from snapkeep_local.errors import ApiError, Json, invalid
from snapkeep_local.faults import Fault
from snapkeep_local.resources import API

T = TypeVar("T")

BODY_BYTES_MAX: Final = 1 << 20
"""Of one request. A longer one is answered with 413, as Google's front ends do (theirs take 10 MiB)."""

_LIST_KINDS: Final[dict[Kind, str]] = {
    "instances": "compute#instanceAggregatedList",
    "disks": "compute#diskAggregatedList",
    "snapshots": "compute#snapshotList",
    "operations": "compute#operationList",
    "instantSnapshots": "compute#instantSnapshotAggregatedList",
    "resourcePolicies": "compute#resourcePolicyAggregatedList",
    "instantSnapshotGroups": "compute#listInstantSnapshotGroups",
    "zones": "compute#zoneList",
    "firewalls": "compute#firewallList",
}


# --- bodies -------------------------------------------------------------------------------------------------------


class _Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is read of a resource that was sent; Compute Engine's resources have more fields, which are passed over."""


class _EncryptionKey(_Body, frozen=True, kw_only=True):
    kms_key_name: str = ""


class _Snapshot(_Body, frozen=True, kw_only=True):
    name: str = ""
    source_disk: str = ""
    source_instant_snapshot: str = ""
    guest_flush: bool = False
    storage_locations: list[str] = []
    labels: dict[str, str] = {}
    description: str = ""
    snapshot_encryption_key: _EncryptionKey = _EncryptionKey()


class _InstantSnapshot(_Body, frozen=True, kw_only=True):
    name: str = ""
    source_disk: str = ""
    labels: dict[str, str] = {}
    description: str = ""


class _InstantSnapshotGroup(_Body, frozen=True, kw_only=True):
    name: str = ""
    source_consistency_group: str = ""
    description: str = ""


class _Disk(_Body, frozen=True, kw_only=True):
    name: str = ""
    source_snapshot: str = ""
    type: str = ""
    size_gb: int | Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}$")] = 0
    labels: dict[str, str] = {}
    description: str = ""
    disk_encryption_key: _EncryptionKey = _EncryptionKey()
    replica_zones: list[str] = []
    provisioned_iops: int | Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}$")] | None = None
    provisioned_throughput: int | Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}$")] | None = None
    resource_policies: list[str] = []


class _InitializeParams(_Body, frozen=True, kw_only=True):
    disk_type: str = ""


class _AttachedDisk(_Body, frozen=True, kw_only=True):
    type: str = "PERSISTENT"
    source: str = ""
    device_name: str = ""
    boot: bool = False
    mode: str = "READ_WRITE"
    interface: str = "SCSI"
    auto_delete: bool = False
    initialize_params: _InitializeParams = _InitializeParams()


class _Item(_Body, frozen=True, kw_only=True):
    key: str
    value: str = ""


class _Metadata(_Body, frozen=True, kw_only=True):
    items: list[_Item] = []


class _Tags(_Body, frozen=True, kw_only=True):
    items: list[str] = []


class _AccessConfig(_Body, frozen=True, kw_only=True):
    nat_ip: str = msgspec.field(default="", name="natIP")


class _Interface(_Body, frozen=True, kw_only=True):
    network: str = ""
    subnetwork: str = ""
    network_ip: str = msgspec.field(default="", name="networkIP")
    access_configs: list[_AccessConfig] = []


class _Instance(_Body, frozen=True, kw_only=True):
    """What of an instance is looked at; the rest is kept as it was sent."""

    name: str = ""
    description: str = ""
    machine_type: str = ""
    disks: list[_AttachedDisk] = []
    labels: dict[str, str] = {}
    metadata: _Metadata = _Metadata()
    tags: _Tags = _Tags()
    network_interfaces: list[_Interface] = []
    deletion_protection: bool = False
    resource_policies: list[str] = []


class _Labels(_Body, frozen=True, kw_only=True):
    labels: dict[str, str] = {}
    label_fingerprint: str = ""


# --- changes of the fleet (`POST /_sim/fleet`) --------------------------------------------------------------------

SizeGb = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class _FleetChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class AddDisk(_FleetChange, frozen=True, kw_only=True, tag="add_disk"):
    """A new disk, zonal in `zone`, or regional over `replica_zones`, of which `zone` is one."""

    project: str
    zone: str
    name: str
    type: str = "pd-balanced"
    size_gb: SizeGb = 20
    content: str | None = None
    replica_zones: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    kms_key: str | None = None
    customer_supplied_key: bool = False
    boot: bool = False
    architecture: str = "X86_64"
    provisioned_iops: int | None = None
    provisioned_throughput: int | None = None


class AddInstance(_FleetChange, frozen=True, kw_only=True, tag="add_instance"):
    """A running instance with disks (links) that exist, the first as its boot disk."""

    project: str
    zone: str
    name: str
    disks: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    metadata: dict[str, str] = {}
    machine_type: str = "e2-standard-2"
    local_ssds: Annotated[int, msgspec.Meta(ge=0, le=32)] = 0
    tags: tuple[str, ...] = ()
    service_account: str | None = None
    guest_agent: bool = True


class RemoveDisk(_FleetChange, frozen=True, kw_only=True, tag="remove_disk"):
    disk: str


class ReplaceDisk(_FleetChange, frozen=True, kw_only=True, tag="replace_disk"):
    """Another disk under the same name: another numeric id, other contents."""

    disk: str


class ResizeDisk(_FleetChange, frozen=True, kw_only=True, tag="resize_disk"):
    disk: str
    size_gb: SizeGb


class WriteDisk(_FleetChange, frozen=True, kw_only=True, tag="write_disk"):
    disk: str
    content: str


class AttachDisk(_FleetChange, frozen=True, kw_only=True, tag="attach_disk"):
    instance: str
    disk: str


class DetachDisk(_FleetChange, frozen=True, kw_only=True, tag="detach_disk"):
    instance: str
    disk: str


class RemoveInstance(_FleetChange, frozen=True, kw_only=True, tag="remove_instance"):
    """The instance goes, its disks stay."""

    instance: str


class ReplaceInstance(_FleetChange, frozen=True, kw_only=True, tag="replace_instance"):
    """Another instance under the same name and with the same disks: another numeric id."""

    instance: str


class StopInstance(_FleetChange, frozen=True, kw_only=True, tag="stop_instance"):
    """Switched off: its status is TERMINATED."""

    instance: str


class StartInstance(_FleetChange, frozen=True, kw_only=True, tag="start_instance"):
    instance: str


class SetGuestAgent(_FleetChange, frozen=True, kw_only=True, tag="set_guest_agent"):
    """Whether anything in the guest hears that it is to flush."""

    instance: str
    guest_agent: bool


class SetGuestAnswers(_FleetChange, frozen=True, kw_only=True, tag="set_guest_answers"):
    """Whether the application in the guest answers while it runs."""

    instance: str
    answers: bool


class WriteLocalSsd(_FleetChange, frozen=True, kw_only=True, tag="write_local_ssd"):
    instance: str
    device_name: str
    content: str


class SetZone(_FleetChange, frozen=True, kw_only=True, tag="set_zone"):
    """What a zone says of itself: UP, or DOWN. What lies in it answers all the same: a fault sees to that."""

    zone: str
    up: bool


class AddFirewall(_FleetChange, frozen=True, kw_only=True, tag="add_firewall"):
    """A rule of a network (its link): a denial of everything inwards, unless it says otherwise."""

    project: str
    name: str
    network: str
    direction: Literal["INGRESS", "EGRESS"] = "INGRESS"
    priority: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 1000
    allows: bool = False
    protocol: str = "all"
    ports: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ("0.0.0.0/0",)
    target_tags: tuple[str, ...] = ()
    disabled: bool = False


class RemoveFirewall(_FleetChange, frozen=True, kw_only=True, tag="remove_firewall"):
    firewall: str


class AddPolicy(_FleetChange, frozen=True, kw_only=True, tag="add_policy"):
    """A consistency group; or else a schedule of snapshots, which runs nowhere here."""

    project: str
    region: str
    name: str
    consistency_group: bool = True


class AttachPolicy(_FleetChange, frozen=True, kw_only=True, tag="attach_policy"):
    """The disk comes under the policy (both by their links), which is of its project and region."""

    disk: str
    policy: str


class DetachPolicy(_FleetChange, frozen=True, kw_only=True, tag="detach_policy"):
    disk: str
    policy: str


FleetChange = (
    AddDisk
    | AddInstance
    | AddPolicy
    | AttachPolicy
    | DetachPolicy
    | StopInstance
    | StartInstance
    | SetGuestAgent
    | SetGuestAnswers
    | WriteLocalSsd
    | SetZone
    | AddFirewall
    | RemoveFirewall
    | RemoveDisk
    | ReplaceDisk
    | ResizeDisk
    | WriteDisk
    | AttachDisk
    | DetachDisk
    | RemoveInstance
    | ReplaceInstance
)


def change_fleet(cloud: Cloud, change: FleetChange) -> str:
    """Do it, and return the link of what was changed. Raises ApiError."""
    match change:
        case AddDisk():
            return cloud.add_disk(**msgspec.structs.asdict(change))
        case AddInstance():
            return cloud.add_instance(**msgspec.structs.asdict(change))
        case AddPolicy():
            return cloud.add_policy(**msgspec.structs.asdict(change))
        case AttachPolicy(disk=link, policy=policy):
            cloud.attach_policy(link, policy)
        case DetachPolicy(disk=link, policy=policy):
            cloud.detach_policy(link, policy)
        case StopInstance(instance=link):
            cloud.stop_instance(link)
        case StartInstance(instance=link):
            cloud.start_instance(link)
        case SetGuestAgent(instance=link, guest_agent=guest_agent):
            cloud.set_guest_agent(link, guest_agent)
        case SetGuestAnswers(instance=link, answers=answers):
            cloud.set_guest_answers(link, answers)
        case WriteLocalSsd(instance=link, device_name=device_name, content=content):
            cloud.write_local_ssd(link, device_name, content)
        case SetZone(zone=zone, up=up):
            cloud.set_zone(zone, up)
            link = f"zones/{zone}"
        case AddFirewall():
            return cloud.add_firewall(**msgspec.structs.asdict(change))
        case RemoveFirewall(firewall=link):
            cloud.remove_firewall(link)
        case RemoveDisk(disk=link):
            cloud.remove_disk(link)
        case ReplaceDisk(disk=link):
            cloud.replace_disk(link)
        case ResizeDisk(disk=link, size_gb=size_gb):
            cloud.resize_disk(link, size_gb=size_gb)
        case WriteDisk(disk=link, content=content):
            cloud.write(link, content)
        case AttachDisk(instance=link, disk=disk):
            cloud.attach_disk(link, disk)
        case DetachDisk(instance=link, disk=disk):
            cloud.detach_disk(link, disk)
        case RemoveInstance(instance=link):
            cloud.remove_instance(link)
        case ReplaceInstance(instance=link):
            cloud.replace_instance(link)
    return link


# --- the server ---------------------------------------------------------------------------------------------------


class Simulator:
    """A Cloud behind HTTP. One lock is around every use of it: whoever else uses the cloud does so through here."""

    def __init__(self, cloud: Cloud, tick: Callable[[], datetime] | None = None) -> None:
        """`tick` tells the time that the cloud is to have reached before each request; without it, only `advance`
        lets time pass."""
        self._cloud = cloud
        self._tick = tick
        self._lock = threading.Lock()
        self.app = flask.Flask("compute")
        self.app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
        self.app.register_error_handler(ApiError, _refused)
        self.app.register_error_handler(HTTPException, _not_understood)
        _add_api(self.app, self)
        _add_instant_snapshots(self.app, self)
        _add_instances(self.app, self)
        _add_controls(self.app, self)

    def now(self) -> datetime:
        return self.use(lambda cloud: cloud.now)

    def advance(self, to: datetime) -> None:
        """Let time pass until `to`; nothing if that has been, since several may drive one clock."""
        with self._lock:
            self._reach(to)

    def use(self, act: Callable[[Cloud], T]) -> T:
        """What `act` makes of the cloud, alone with it and at the present time. Raises what `act` raises."""
        with self._lock:
            if self._tick:
                self._reach(self._tick())
            return act(self._cloud)

    def _reach(self, to: datetime) -> None:
        if to > self._cloud.now:
            self._cloud.advance(to)


def _refused(error: ApiError) -> tuple[Json, int]:
    return error.body, error.status


def _not_understood(error: HTTPException) -> tuple[Json, int]:
    """What never reached the cloud (an unknown path or method, a body too long), in the shape of Google's errors."""
    status = error.code or 500
    reason = {404: "notFound", 405: "httpMethodNotAllowed", 413: "uploadTooLarge"}.get(status, "badRequest")
    return ApiError(status, reason, f"{flask.request.method} {flask.request.path}: {error.name}").body, status


def _add_api(app: flask.Flask, simulator: Simulator) -> None:
    root = "/compute/v1/projects/<project>"
    snapshots = f"{root}/global/snapshots"

    @app.get(f"{root}/aggregated/<any(instances, disks, instantSnapshots, resourcePolicies):kind>")
    def aggregated(project: str, kind: Kind) -> Json:
        return simulator.use(lambda cloud: _aggregated(cloud, kind, project))

    @app.get(f"{root}/<any(zones, regions):scope>/<place>/disks/<name>")
    def disk(project: str, scope: str, place: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.get("disks", f"projects/{project}/{scope}/{place}/disks/{name}"))

    @app.post(f"{root}/<any(zones, regions):scope>/<place>/disks")
    def insert_disk(project: str, scope: str, place: str) -> Json:
        body = msgspec.to_builtins(_decoded(_Disk))
        return simulator.use(lambda cloud: cloud.insert_disk(project, f"{scope}/{place}", body, _request_id()))

    @app.delete(f"{root}/<any(zones, regions):scope>/<place>/disks/<name>")
    def delete_disk(project: str, scope: str, place: str, name: str) -> Json:
        link = f"projects/{project}/{scope}/{place}/disks/{name}"
        return simulator.use(lambda cloud: cloud.delete_disk(link, _request_id()))

    @app.post(f"{root}/<any(zones, regions):scope>/<place>/disks/<name>/setLabels")
    def set_disk_labels(project: str, scope: str, place: str, name: str) -> Json:
        link, sent = f"projects/{project}/{scope}/{place}/disks/{name}", _decoded(_Labels)
        return simulator.use(
            lambda cloud: cloud.set_disk_labels(link, sent.labels, sent.label_fingerprint, _request_id())
        )

    @app.get(f"{root}/zones")
    def list_zones(project: str) -> Json:
        return simulator.use(lambda cloud: _list(cloud, "zones", project))

    @app.get(f"{root}/zones/<zone>")
    def zone(project: str, zone: str) -> Json:
        return simulator.use(lambda cloud: cloud.get("zones", f"projects/{project}/zones/{zone}"))

    @app.get(f"{root}/global/firewalls")
    def list_firewalls(project: str) -> Json:
        return simulator.use(lambda cloud: _list(cloud, "firewalls", project))

    @app.get(f"{root}/global/firewalls/<name>")
    def firewall(project: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.get("firewalls", f"projects/{project}/global/firewalls/{name}"))

    @app.get(f"{root}/regions/<region>/resourcePolicies/<name>")
    def resource_policy(project: str, region: str, name: str) -> Json:
        link = f"projects/{project}/regions/{region}/resourcePolicies/{name}"
        return simulator.use(lambda cloud: cloud.get("resourcePolicies", link))

    @app.get(snapshots)
    def list_snapshots(project: str) -> Json:
        return simulator.use(lambda cloud: _list(cloud, "snapshots", project))

    @app.post(snapshots)
    def insert_snapshot(project: str) -> Json:
        body = msgspec.to_builtins(_decoded(_Snapshot))
        return simulator.use(lambda cloud: cloud.insert_snapshot(project, body, _request_id()))

    @app.get(f"{snapshots}/<name>")
    def snapshot(project: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.get("snapshots", _snapshot(project, name)))

    @app.delete(f"{snapshots}/<name>")
    def delete_snapshot(project: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.delete_snapshot(_snapshot(project, name), _request_id()))

    @app.post(f"{snapshots}/<name>/setLabels")
    def set_snapshot_labels(project: str, name: str) -> Json:
        link, sent = _snapshot(project, name), _decoded(_Labels)
        return simulator.use(
            lambda cloud: cloud.set_snapshot_labels(link, sent.labels, sent.label_fingerprint, _request_id())
        )

    @app.get(f"{root}/global/operations")
    def list_operations(project: str) -> Json:
        return simulator.use(lambda cloud: _list(cloud, "operations", project))

    # `wait`, which gcloud asks for, may answer before the operation is done: here always at once.
    @app.get(f"{root}/global/operations/<name>")
    @app.post(f"{root}/global/operations/<name>/wait")
    def global_operation(project: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.get_operation(f"projects/{project}/global/operations/{name}"))

    @app.get(f"{root}/<any(zones, regions):scope>/<place>/operations/<name>")
    @app.post(f"{root}/<any(zones, regions):scope>/<place>/operations/<name>/wait")
    def operation(project: str, scope: str, place: str, name: str) -> Json:
        link = f"projects/{project}/{scope}/{place}/operations/{name}"
        return simulator.use(lambda cloud: cloud.get_operation(link))


def _add_instances(app: flask.Flask, simulator: Simulator) -> None:
    instances = "/compute/v1/projects/<project>/zones/<zone>/instances"

    def link(project: str, zone: str, name: str) -> str:
        return f"projects/{project}/zones/{zone}/instances/{name}"

    @app.get(f"{instances}/<name>")
    def instance(project: str, zone: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.get("instances", link(project, zone, name)))

    @app.post(instances)
    def insert(project: str, zone: str) -> Json:
        looked_at = msgspec.to_builtins(_decoded(_Instance))
        body = msgspec.json.decode(flask.request.get_data()) | {"disks": looked_at.get("disks", [])}
        return simulator.use(lambda cloud: cloud.insert_instance(project, zone, body, _request_id()))

    @app.delete(f"{instances}/<name>")
    def delete(project: str, zone: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.delete_instance(link(project, zone, name), _request_id()))

    @app.post(f"{instances}/<name>/stop")
    def stop(project: str, zone: str, name: str) -> Json:
        discard = {"true": True, "false": False}.get(flask.request.args.get("discardLocalSsd", ""))
        return simulator.use(
            lambda cloud: cloud.stop(link(project, zone, name), _request_id(), discard_local_ssd=discard)
        )

    @app.post(f"{instances}/<name>/start")
    def start(project: str, zone: str, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.start(link(project, zone, name), _request_id()))

    @app.post(f"{instances}/<name>/attachDisk")
    def attach(project: str, zone: str, name: str) -> Json:
        body = msgspec.to_builtins(_decoded(_AttachedDisk))
        return simulator.use(lambda cloud: cloud.attach(link(project, zone, name), body, _request_id()))

    @app.post(f"{instances}/<name>/detachDisk")
    def detach(project: str, zone: str, name: str) -> Json:
        device = flask.request.args.get("deviceName", "")
        return simulator.use(lambda cloud: cloud.detach(link(project, zone, name), device, _request_id()))


def _add_instant_snapshots(app: flask.Flask, simulator: Simulator) -> None:
    """Instant snapshots and their groups, each in a zone or, of regional disks, in a region."""
    placed = "/compute/v1/projects/<project>/<any(zones, regions):scope>/<place>"
    instants, groups = f"{placed}/instantSnapshots", f"{placed}/instantSnapshotGroups"

    def link(kind: Kind, project: str, scope: str, place: str, name: str) -> str:
        return f"projects/{project}/{scope}/{place}/{kind}/{name}"

    @app.get(groups)
    def list_groups(project: str, scope: str, place: str) -> Json:
        return simulator.use(lambda cloud: _list(cloud, "instantSnapshotGroups", project, f"{scope}/{place}"))

    @app.get(f"{placed}/<any(instantSnapshots, instantSnapshotGroups):kind>/<name>")
    def read(project: str, scope: str, place: str, kind: Kind, name: str) -> Json:
        return simulator.use(lambda cloud: cloud.get(kind, link(kind, project, scope, place, name)))

    @app.post(instants)
    def insert_instant(project: str, scope: str, place: str) -> Json:
        body = msgspec.to_builtins(_decoded(_InstantSnapshot))
        return simulator.use(
            lambda cloud: cloud.insert_instant_snapshot(project, f"{scope}/{place}", body, _request_id())
        )

    @app.delete(f"{instants}/<name>")
    def delete_instant(project: str, scope: str, place: str, name: str) -> Json:
        meant = link("instantSnapshots", project, scope, place, name)
        return simulator.use(lambda cloud: cloud.delete_instant_snapshot(meant, _request_id()))

    @app.post(groups)
    def insert_group(project: str, scope: str, place: str) -> Json:
        body = msgspec.to_builtins(_decoded(_InstantSnapshotGroup))
        return simulator.use(
            lambda cloud: cloud.insert_instant_snapshot_group(project, f"{scope}/{place}", body, _request_id())
        )

    @app.delete(f"{groups}/<name>")
    def delete_group(project: str, scope: str, place: str, name: str) -> Json:
        meant = link("instantSnapshotGroups", project, scope, place, name)
        return simulator.use(lambda cloud: cloud.delete_instant_snapshot_group(meant, _request_id()))


def _add_controls(app: flask.Flask, simulator: Simulator) -> None:
    """`/_sim/...` (CONTRACT 8), but for the clock, which belongs to whoever lets time pass."""

    @app.get("/_sim/faults")
    def faults() -> flask.Response:
        return flask.jsonify(simulator.use(lambda cloud: cloud.faults()))

    @app.post("/_sim/faults")
    def add_fault() -> tuple[Json, int]:
        fault = _decoded(Fault)
        return {"id": simulator.use(lambda cloud: cloud.add_fault(fault))}, 201

    @app.delete("/_sim/faults")
    def clear_faults() -> tuple[str, int]:
        simulator.use(lambda cloud: cloud.clear_faults())
        return "", 204

    @app.delete("/_sim/faults/<int:number>")
    def clear_fault(number: int) -> tuple[str, int]:
        try:
            simulator.use(lambda cloud: cloud.clear_faults(number))
        except KeyError:
            raise ApiError(404, "notFound", f"no fault {number} is in force; GET /_sim/faults lists them") from None
        return "", 204

    @app.post("/_sim/fleet")
    def change() -> Json:
        wanted: FleetChange = _decoded(FleetChange)
        return {"link": simulator.use(lambda cloud: change_fleet(cloud, wanted))}

    @app.get("/_sim/guests")
    def guests() -> Json:
        address = flask.request.args.get("address", "")
        return {"silence": simulator.use(lambda cloud: cloud.silence(address))}

    @app.get("/_sim/contents")
    def contents() -> Json:
        link = flask.request.args.get("link", "")
        return {"content": simulator.use(lambda cloud: cloud.held(link))}

    @app.get("/_sim/calls")
    def calls() -> Json:
        return simulator.use(lambda cloud: dict(sorted(cloud.calls.items())))

    @app.get("/_sim/state")
    def state() -> Json:
        return simulator.use(lambda cloud: cloud.state())


# --- lists --------------------------------------------------------------------------------------------------------


def _list(cloud: Cloud, kind: Kind, project: str, scope: str = "") -> Json:
    items, token = _page(cloud, kind, project, scope)
    path = f"projects/{project}/zones" if kind == "zones" else f"projects/{project}/{scope or 'global'}/{kind}"
    return _listed(kind, path, token) | ({"items": items} if items else {})


def _aggregated(cloud: Cloud, kind: Kind, project: str) -> Json:
    """A page by scope: each one that holds anything of it, and a warning for each that does not, or did not answer."""
    page, token = _page(cloud, kind, project)
    away = cloud.away(kind, project)
    scopes: dict[str, Json] = {scope: _no_results(scope) for scope in _scopes(cloud, kind)}
    for resource in page:
        scope = "/".join(resource["selfLink"].removeprefix(API).split("/")[2:4])
        scopes.setdefault(scope, {}).setdefault(kind, []).append(resource)
        scopes[scope].pop("warning", None)
    scopes |= {scope: _unreachable(scope) for scope in away}
    return _listed(kind, f"projects/{project}/aggregated/{kind}", token) | {"items": scopes}


def _scopes(cloud: Cloud, kind: Kind) -> Iterable[str]:
    holds = {"instances": "zones/", "resourcePolicies": "regions/"}.get(kind, "")
    return (scope for scope in cloud.scopes() if scope.startswith(holds))


def _no_results(scope: str) -> Json:
    message = f"There are no results for scope '{scope}' on this page."
    data = [{"key": "scope", "value": scope}]
    return {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": message, "data": data}}


def _unreachable(scope: str) -> Json:
    data = [{"key": "scope", "value": scope}]
    return {"warning": {"code": "UNREACHABLE", "message": f"'{scope}' is unreachable.", "data": data}}


def _listed(kind: Kind, path: str, token: str) -> Json:
    listed = {"kind": _LIST_KINDS[kind], "id": path, "selfLink": API + path}
    return listed | ({"nextPageToken": token} if token else {})


def _page(cloud: Cloud, kind: Kind, project: str, scope: str = "") -> tuple[list[Json], str]:
    asked = flask.request.args
    most = asked.get("maxResults", str(PAGE_MAX))
    if not most.isdecimal():
        raise invalid("maxResults", most, f"It must be between 1 and {PAGE_MAX}.")
    return cloud.page(
        kind,
        project,
        scope=scope,
        filter=asked.get("filter", ""),
        max_results=int(most),
        page_token=asked.get("pageToken", ""),
    )


learn(_Disk, _Instance, _AttachedDisk, _Snapshot, _Labels, _InstantSnapshot, _InstantSnapshotGroup, Fault, FleetChange)


# --- what was sent ------------------------------------------------------------------------------------------------


def _snapshot(project: str, name: str) -> str:
    return f"projects/{project}/global/snapshots/{name}"


def _request_id() -> str | None:
    return flask.request.args.get("requestId")


def _decoded(type: Any) -> Any:
    """What was sent, as this type. Raises ApiError 400 that says which field is wrong, and what is expected."""
    try:
        return msgspec.json.decode(flask.request.get_data(), type=type)
    except msgspec.ValidationError as error:
        raise ApiError(400, "invalid", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, "parseError", str(error)) from None
