"""What is stored in Firestore, field for field (docs/contract.md says it to others; a test holds the two together).

Instants and facts are stored; ages, reasons and states of health are computed when read. Times are aware UTC.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import msgspec

SCHEMA: Final = 1

TENANT_ID_WORD: Final = r"[a-z][a-z0-9-]{1,29}"
"""What the whole of a tenant's id matches. Nothing of it could leave its place in a document's path."""

T = TypeVar("T", bound="Stored")
Raw = bytes  # inside a class, the field name `bytes` would hide the type


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A map inside a document."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A whole document. `updated_at` is the instant (our clock) of the decision that it was last written by."""

    schema: int = SCHEMA
    updated_at: datetime


def to_data(document: Stored) -> dict[str, Any]:
    """The document as plain maps, lists, strings, numbers, times and bytes, as Firestore has them."""
    data = msgspec.to_builtins(document, builtin_types=(datetime, bytes))
    assert isinstance(data, dict)
    return data


def from_data(kind: type[T], data: dict[str, Any]) -> T:
    """A stored map as its type. Raises msgspec.ValidationError where it is not one."""
    return msgspec.convert(data, kind, builtin_types=(datetime, bytes))


def learn(*kinds: Any) -> None:
    """Have msgspec look at these types, and at all that they hold, while their module is imported.

    It does so when it first reads one, and two threads that are there at once end the process (msgspec 0.22.0): the
    second reads by what the first has not finished.
    """
    for kind in kinds:
        msgspec.json.Decoder(kind)


# --- tenants -----------------------------------------------------------------------------------------------------


class ByName(Part, frozen=True, kw_only=True):
    """Selects the one instance of this name in this zone."""

    name: str
    zone: str


class ByLabel(Part, frozen=True, kw_only=True):
    """Selects every instance of the project that carries the label, written `key=value`."""

    label: str


class Schedule(Part, frozen=True, kw_only=True):
    daily_at: str = "02:30"  # local time of day, HH:MM
    spread_minutes: int = 30
    catch_up_hours: int = 20


class Retention(Part, frozen=True, kw_only=True):
    keep_last: int = 3
    keep_daily: int = 14
    keep_weekly: int = 8
    keep_monthly: int = 12
    keep_yearly: int = 0
    keep_within_days: int = 0
    lock_days: int = 7
    keep_after_gone_days: int = 90


class CopyRetention(Part, frozen=True, kw_only=True):
    """A copy's own policy; it takes nothing over from the tenant's."""

    keep_last: int = 0
    keep_daily: int = 7
    keep_weekly: int = 4
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within_days: int = 0
    lock_days: int = 7


class InterRegionBackup(Part, frozen=True, kw_only=True):
    region: str
    valid_until: str  # last day of the entitlement, YYYY-MM-DD, in the tenant's time zone
    retention: CopyRetention = CopyRetention()


class MultiRegionDr(Part, frozen=True, kw_only=True):
    region: str
    valid_until: str


class Entitlements(Part, frozen=True, kw_only=True):
    inter_region_backup: InterRegionBackup | None = None
    multi_region_dr: MultiRegionDr | None = None


class Recovery(Part, frozen=True, kw_only=True):
    """What a restore elsewhere needs: links of the network, of a subnetwork by region, and a service account."""

    network: str
    subnetworks: dict[str, str] = {}
    service_account: str | None = None


class ClientBackup(Part, frozen=True, kw_only=True):
    kind: Literal["credentials", "videos"]
    every_hours: int


class RestoreTest(Part, frozen=True, kw_only=True):
    """Points are restored into an isolated network from time to time, to prove that they can be."""

    every_days: int = 30
    network: str  # link; nothing may get in or out
    subnetworks: dict[str, str] = {}  # by region, links: of a network that has none of its own in each


class Probe(Part, frozen=True, kw_only=True):
    """What tells that the application of an instance answers."""

    kind: Literal["tcp", "http"]
    port: int
    path: str = "/"  # of http: answered with a status from 200 to 399


class Selected(Part, frozen=True, kw_only=True):
    by_name: list[ByName] = []
    by_label: ByLabel | None = None


class Tenant(Stored, frozen=True, kw_only=True):
    """`tenants/{id}`: the fleet file's entry with every default written out, and what discovery keeps about it.

    The defaults are those of the fleet file, which `fleet` takes from here.
    """

    id: str
    name: str
    deployment: Literal["saas", "private_saas"] = "saas"
    project: str
    vault_project: str  # normalised: the instances' project unless the fleet file names another
    instances: Selected
    timezone: str = "America/Sao_Paulo"
    schedule: Schedule = Schedule()
    consistency: Literal["crash", "guest_flush", "group"] = "crash"
    retention: Retention = Retention()
    rpo_hours: int = 26
    kms_keys: dict[str, str] = {}
    entitlements: Entitlements = Entitlements()
    recovery: Recovery | None = None
    client_backups: list[ClientBackup] = []
    access_networks: list[str] = []
    restore_test: RestoreTest | None = None
    probe: Probe | None = None

    applied_at: datetime
    applied_by: str
    discover_at: datetime | None = None  # when its projects are to be read next
    unmatched: list[str] = []  # instances selected by name that its project does not hold
    discovery_failure: Failure | None = None
    entitlements_at: datetime | None = None  # when its copies are weighed against what it bought next
    copies_ended: dict[str, datetime] = {}  # by region: since when copies stored there are no longer bought

    restore_test_at: datetime | None = None  # when a point of it is restored as a test next; null: none is wanted
    restore_tested: RestoreTested | None = None  # the last test that came to a result
    restore_testing: str | None = None  # the test that is under way: there is one at a time

    # What people have decided about it, which no fleet file says and applying one leaves as it is.
    holds: list[Hold] = []
    held: bool = False  # whether any holds are listed: no index finds a list that is not empty
    offboarding: Offboarding | None = None
    schedule_switch: ScheduleSwitch | None = None  # of a private_saas tenant; null: never switched, so off

    @property
    def vendor_managed(self) -> bool:
        """True where the schedule takes points: system backups are the vendor's, or the client has switched it on."""
        return self.deployment == "saas" or (self.schedule_switch is not None and self.schedule_switch.on)

    def has_left(self, now: datetime) -> bool:
        """True from the date on for which it was offboarded."""
        return self.offboarding is not None and self.offboarding.at <= now


class Failure(Part, frozen=True, kw_only=True):
    code: str
    message: str


class Hold(Part, frozen=True, kw_only=True):
    """A named reason not to delete: one point, what is stored of an instance, or of a tenant."""

    id: str
    reason: str
    by: str
    at: datetime
    until: datetime | None = None  # null: until it is released

    def stands(self, now: datetime) -> bool:
        return self.until is None or now < self.until


class Offboarding(Part, frozen=True, kw_only=True):
    """The tenant leaves: from `at` on nothing of it is taken, and its points go as those of lost instances do."""

    at: datetime
    by: str
    reason: str


class RestoreTested(Part, frozen=True, kw_only=True):
    """How a tenant's last restore test ended."""

    restore: str  # its id
    point: str
    region: str  # in which the snapshots lay
    at: datetime
    passed: bool
    took_s: int  # from its start until everything was checked
    failure: Failure | None = None


class ScheduleSwitch(Part, frozen=True, kw_only=True):
    """The schedule of a private_saas tenant, as its own client_admin has switched it."""

    on: bool
    by: str
    at: datetime


# --- instances ---------------------------------------------------------------------------------------------------


class DiskRef(Part, frozen=True, kw_only=True):
    name: str
    id: str


class Newest(Part, frozen=True, kw_only=True):
    point: str
    at: datetime  # the moment that the point can bring back (its earliest snapshot), not when it was verified
    took_s: int  # seconds after its start at which the next point is worth its first look


class Tally(Part, frozen=True, kw_only=True):
    """What `health` shows of one instance, kept in the commit of each change of a point's state (see `store`)."""

    running: int = 0
    verified: int = 0
    failed: int = 0
    missed: int = 0
    stored: int = 0  # of the verified points those that are not deleted
    bytes: int = 0  # storage bytes of these, each as read when it was verified
    days: dict[str, str] = {}  # local day -> verified | failed | missed: of scheduled points, the last DAYS_SHOWN days


class Override(Part, frozen=True, kw_only=True):
    """An admin's word that an instance's points may go although it is in breach of its RPO, for one evaluation."""

    id: str
    reason: str
    by: str
    at: datetime


class CopyWork(Part, frozen=True, kw_only=True):
    """How an instance's copies stand: counted anew by `entitlements`, and kept in the commit of each change between."""

    verified: int = 0  # stored, complete and bought
    waiting: int = 0  # requested or copying
    lagging: int = 0  # of those, or failed: not verified a day after their point was taken
    missing: int = 0  # bought, wanted, and neither verified nor waiting
    unentitled: int = 0  # stored, and no longer bought
    bytes: int = 0  # storage bytes of the stored copies
    catch_up_disks: int = 0  # copied in full through temporary disks, ever
    catch_up_bytes: int = 0  # the size of those disks
    newest: dict[str, Newest] = {}  # by region: the newest verified copy


class RetentionWork(Part, frozen=True, kw_only=True):
    """Where the retention of one instance stands; kept in the commit of what it tells of."""

    plan_at: datetime | None = None  # when all of its points are weighed next
    deleting: list[str] = []  # sets whose deletion has begun and is not read back yet: `POINT`, or `POINT@REGION`
    going: int = 0  # sets that will go within 7 days of the last evaluation, those in their grace included
    going_bytes: int = 0
    incomplete: int = 0  # sets of which a snapshot is gone, though nobody here deleted it


class Instance(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/instances/{numeric id}`. A replaced instance has another id and so another document."""

    id: str
    name: str
    project: str
    zone: str
    region: str
    disks: list[DiskRef]
    seen_at: datetime  # when it was first seen, or seen again; its slots and its RPO begin then
    lost_at: datetime | None = None  # since when it is gone or no longer selected; null while it is protected
    lost_reason: Literal["gone", "deselected", "offboarded"] | None = None
    planned_day: str | None = None  # the last local day whose slot was decided
    next_slot_at: datetime | None = None  # null: the schedule takes nothing (lost, or client-managed)
    newest_verified: Newest | None = None
    breach_at: datetime | None = None  # since when it has been in breach of its RPO
    breach_due_at: datetime | None = None  # when it will be, if nothing is verified before; null when it already is
    tally: Tally = Tally()
    holds: list[Hold] = []
    held: bool = False  # whether any holds are listed: no index finds a list that is not empty
    override: Override | None = None  # not used yet
    retention_at: datetime | None = None  # when `expire` looks at it next
    retention: RetentionWork = RetentionWork()
    copies: CopyWork = CopyWork()
    restoring: str | None = None  # the restore that has its disks in hand: no point is begun meanwhile


# --- recovery points ---------------------------------------------------------------------------------------------


class Slot(Part, frozen=True, kw_only=True):
    day: str  # local calendar day, YYYY-MM-DD
    at: datetime  # the UTC instant it starts at


class InstanceRef(Part, frozen=True, kw_only=True):
    id: str
    name: str
    project: str
    zone: str
    region: str


GONE: Final = "GONE"
"""The `status` of what Snapkeep made and deleted, or found to be gone when it was to delete it, or that never came."""


class SnapshotRef(Part, frozen=True, kw_only=True):
    project: str
    name: str
    location: str
    id: str | None = None
    status: str | None = None  # as last read; null: asked for, not seen yet
    bytes: int = 0
    created_at: datetime | None = None  # the moment that it holds: its own creation, or that of what it was made from


class PointDisk(Part, frozen=True, kw_only=True):
    """One disk of a point, as it was when the point was taken, and the snapshot that holds it."""

    name: str
    id: str
    type: str
    size_gb: int
    device_name: str
    boot: bool
    mode: str
    interface: str
    auto_delete: bool
    zone: str | None
    replica_zones: list[str] = []
    provisioned_iops: int | None = None
    provisioned_throughput: int | None = None
    architecture: str | None = None
    guest_os_features: list[str] = []
    kms_key: str | None = None
    labels: dict[str, str] = {}
    resource_policies: list[str] = []  # links
    snapshot: SnapshotRef
    superseded: list[SnapshotRef] = []  # of former attempts: what of them exists goes with the point
    attempts: int = 1  # the number of the attempt that `snapshot` names
    operation: str | None = None  # link of that attempt's operation, once it was started
    failure: Failure | None = None  # why that attempt ended; null while it lives or when it succeeded
    retry_at: datetime | None = None  # when the next attempt is due; null: there will be none


class InstantRef(Part, frozen=True, kw_only=True):
    """The instant snapshot of one disk of a point."""

    disk: str  # numeric id of its disk
    scope: str  # zones/Z or regions/R
    name: str  # derived; of a group's member Compute Engine's, "" until it was read
    id: str | None = None
    status: str | None = None  # as last read; DELETING: asked to go; GONE: read to be gone
    created_at: datetime | None = None
    operation: str | None = None  # link, once it was asked for


class GroupRef(Part, frozen=True, kw_only=True):
    """The instant-snapshot group of a point."""

    scope: str
    name: str
    policy: str  # link of the consistency group
    id: str | None = None
    status: str | None = None
    operation: str | None = None


class Moment(Part, frozen=True, kw_only=True):
    """One moment of all disks of a point, held in instant snapshots until every region that is to have it has it."""

    state: Literal["taking", "taken", "releasing", "released"]
    group: GroupRef | None = None  # null: an instant snapshot of each disk by itself
    instants: list[InstantRef]  # one for each disk, in the order of the point's disks
    superseded: list[InstantRef] = []  # of former attempts: removed with the others
    superseded_groups: list[GroupRef] = []
    attempts: int = 1  # moments tried
    asked_at: datetime | None = None  # when they were last asked for, or asked to go
    removals: int = 0  # times that they were asked to go
    failure: Failure | None = None
    # When it is taken again, or its release is looked at next; null while others need it, and when it is over.
    next_at: datetime | None = None


class Expiry(Part, frozen=True, kw_only=True):
    """Why and when a point goes; null as long as something keeps it."""

    was: Literal["verified", "failed"]  # what it becomes again when something keeps it after all
    reason: str
    decided_at: datetime
    delete_after: datetime  # the end of its grace
    override: str | None = None  # the override that let it go in spite of a breach
    begun_at: datetime | None = None  # when its deletion was committed; nothing keeps it from then on
    attempts: int = 0  # times that its snapshots were asked to go
    asked_at: datetime | None = None  # when they were asked to go last
    failure: Failure | None = None  # what stood in the way of its deletion last


class TemporaryDisk(Part, frozen=True, kw_only=True):
    """A disk made from a snapshot of the home region, only to be copied from."""

    project: str
    zone: str
    name: str
    size_gb: int
    id: str | None = None
    status: str | None = None  # as last read; GONE: read to be gone
    operation: str | None = None
    asked_at: datetime | None = None  # when it was last asked for, or asked to go
    ready_at: datetime | None = None  # when it was read to be READY: from then on its snapshot is asked for
    removals: int = 0  # times that it was asked to go


class CopyDisk(Part, frozen=True, kw_only=True):
    """One disk of a copy, and the snapshot that holds it."""

    id: str  # the disk's, which names it among the point's disks
    name: str
    snapshot: SnapshotRef
    superseded: list[SnapshotRef] = []  # of former attempts: what of them exists goes with the copy
    attempts: int = 1  # over all tries of the copy, so that each has names of its own
    first_attempt: int = 1  # of the present try
    temporary: TemporaryDisk | None = None
    former_temporaries: list[str] = []  # numeric ids of those of former attempts: what was made of them is ours
    operation: str | None = None
    failure: Failure | None = None
    retry_at: datetime | None = None


CopyState = Literal["requested", "copying", "verified", "failed", "expiring", "deleted"]


class Copy(Part, frozen=True, kw_only=True):
    """The same point in a second region: a complete set with its own lock, holds and end."""

    state: CopyState
    way: Literal["moment", "temporary_disk"] = "moment"
    disks: list[CopyDisk] = []  # empty until it is copying
    requested_at: datetime  # this try
    wanted_since: datetime | None = None  # where tries before this one failed: when the first of them was requested
    requested_by: str
    reason: str
    started_at: datetime | None = None
    verified_at: datetime | None = None
    deadline: datetime | None = None  # a copy that is not verified by then has failed
    lock_until: datetime | None = None
    holds: list[Hold] = []
    usable: bool = True  # no after a failed restore test of it
    gone: list[str] = []  # snapshots of it that are not in the vault, though nobody here deleted them
    expiry: Expiry | None = None
    failure: Failure | None = None
    faults: int = 0
    late_told: bool = False  # people were told that it is not there in time
    next_at: datetime | None = None  # when it is looked at next; null: nothing of it is left to do

    @property
    def is_stored(self) -> bool:
        """Whether snapshots of it may exist."""
        refs = (ref for disk in self.disks for ref in (disk.snapshot, *disk.superseded))
        return self.state != "deleted" and any(ref.status != GONE for ref in refs)


Trigger = Literal["scheduled", "pre_maintenance", "on_demand", "pre_restore"]
PointState = Literal["requested", "creating", "verified", "failed", "missed", "expiring", "deleted"]


class Point(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/points/{id}`: one complete image of one instance at one moment. Usable only when `verified`."""

    id: str
    trigger: Trigger
    state: PointState
    slot: Slot | None = None
    instance: InstanceRef
    vault_project: str
    disks: list[PointDisk] = []
    definition: dict[str, Any] = {}
    consistency: Literal["crash", "guest_flush", "group", "at_rest"] = "crash"  # what its disks were taken with
    moment: Moment | None = None  # null: each snapshot was made from its disk
    requested_at: datetime
    start_after: datetime
    start_by: datetime  # a point that has not been started by then is missed
    started_at: datetime | None = None
    verified_at: datetime | None = None
    deadline: datetime  # a point that is not verified by then has failed
    lock_until: datetime | None = None
    holds: list[Hold] = []
    held: bool = False  # whether any holds are listed, a copy's included: no index finds a list that is not empty
    copies: dict[str, Copy] = {}  # by region
    usable: bool = True
    gone: list[str] = []  # snapshots of it that are not in the vault, though nobody here deleted them
    stored_for: str | None = None  # its instance's id while it may hold snapshots: what retention reads
    expiry: Expiry | None = None
    failure: Failure | None = None
    requested_by: str
    reason: str
    expected_s: int  # how long the instance's last point took; sets when it is worth looking
    faults: int = 0  # passing faults met since the last step forward; sets the pace of the next try
    next_at: datetime | None = None  # when reconcile looks at it next; null: ended


# --- restores ----------------------------------------------------------------------------------------------------


RestoreMode = Literal["disks", "new_instance", "in_place"]
RestoreState = Literal["requested", "approved", "running", "completed", "failed", "cancelled"]
StepName = Literal[
    "survey",  # read what is there, before anything is changed
    "pre_restore",  # ask for a point of the state before: never waited for
    "create_disks",
    "stop",
    "detach_disks",
    "label_disks",
    "attach_disks",
    "start",
    "create_instance",
    "check",
    "delete_instance",
    "delete_disks",
]


class RestoreSource(Part, frozen=True, kw_only=True):
    """The set of snapshots that a restore is made from."""

    project: str
    region: str
    copy: bool = False  # a copy's; else those of home
    undoes: str | None = None  # instead: the restore whose former disks are put back


class RestoreTarget(Part, frozen=True, kw_only=True):
    project: str
    region: str
    zone: str | None  # null: any zone of the region that is up, chosen when it is surveyed
    name: str  # the instance's; of mode `disks` the name that the disks' names begin with
    id: str | None = None  # the instance's, once it is known
    address: str | None = None  # of a new instance: the internal one of its first interface, as read back
    network: str | None = None  # links, where they are not the definition's
    subnetwork: str | None = None
    service_account: str | None = None


class RestoreDisk(Part, frozen=True, kw_only=True):
    """One disk that a restore makes, and where it goes."""

    device_name: str
    boot: bool
    mode: str
    interface: str
    auto_delete: bool
    of: str  # numeric id of the disk that the snapshot is of
    snapshot: str  # link
    snapshot_id: str | None
    project: str
    scope: str  # zones/Z or regions/R; "" until the zone is chosen
    replica_zones: list[str] = []
    name: str  # derived
    type: str
    size_gb: int
    provisioned_iops: int | None = None
    provisioned_throughput: int | None = None  # MB/s
    kms_key: str | None = None
    labels: dict[str, str] = {}  # the former disk's own
    resource_policies: list[str] = []  # links
    id: str | None = None  # as read back
    status: str | None = None  # as last read; GONE: read to be gone
    operation: str | None = None
    attempts: int = 1
    superseded: list[str] = []  # links of what former attempts may have made
    failure: Failure | None = None
    retry_at: datetime | None = None


class FormerDisk(Part, frozen=True, kw_only=True):
    """A disk that was attached before a restore in place. Snapkeep does not lose it."""

    project: str
    scope: str
    name: str
    id: str
    device_name: str
    boot: bool
    mode: str
    interface: str
    auto_delete: bool
    labels: dict[str, str] = {}  # ours, as they were; the others stay as they are
    status: Literal["attached", "kept", "returned", "gone"] = "attached"


class RestoreAsk(Part, frozen=True, kw_only=True):
    """One change that a step has asked for, until it is read back."""

    what: str  # `DetachDisk data`, `StartInstance app`, ...: one of each in a step
    attempt: int  # a new one only after the last was answered and is known not to have happened
    number: int  # among all that the step ever asked for: what was so and is not any more is another request
    request: str  # the id of the request, by which its outcome is told
    at: datetime  # when this attempt was committed
    operation: str | None = None  # link; null: asked for, and the answer is not known
    failure: Failure | None = None  # how this attempt ended; null while it may succeed
    retry_at: datetime | None = None  # when the next attempt is due


class RestoreStep(Part, frozen=True, kw_only=True):
    name: StepName
    undo: bool = False  # it takes back what an abandoned restore did
    state: Literal["pending", "running", "done", "failed", "skipped"] = "pending"
    at: datetime | None = None  # when it came to this state
    operation: str | None = None  # link of the last one that it asked for
    asked: int = 0  # times that its changes were asked for
    asked_at: datetime | None = None
    asks: list[RestoreAsk] = []  # changes of what is there, and the instance that is made; disks have their own
    failure: Failure | None = None  # what stood in its way last


class Lacking(Part, frozen=True, kw_only=True):
    """Something that the stored definition does not have, or that is lost by the restore."""

    item: str  # `metadata startup-script`, `disk scratch (local SSD)`, `address nic0 10.0.0.5`, ...
    handled: Literal["supplied", "waived"] | None = None


class RestoreCheck(Part, frozen=True, kw_only=True):
    name: str  # disks, instance, devices, definition, probe, contents
    state: Literal["passed", "failed", "none"]  # none: nothing to compare with was named
    detail: str = ""


class Abandoned(Part, frozen=True, kw_only=True):
    """A restore is not to be carried on: what it did is taken back, and it ends."""

    ends_as: Literal["failed", "cancelled"]
    by: str
    reason: str
    at: datetime
    deadline: datetime  # what is not taken back by then is left, and named


class Restore(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/restores/{id}`: one restore, from the request to its end."""

    id: str
    purpose: Literal["restore", "test"] = "restore"
    mode: RestoreMode
    state: RestoreState
    recovery_point: str
    instance: InstanceRef  # of the point
    source: RestoreSource
    target: RestoreTarget
    disks: list[RestoreDisk]
    definition: dict[str, Any] = {}  # of the point; empty for mode `disks`
    former: list[FormerDisk] = []  # what was attached before; of `in_place`, once it was surveyed
    was_running: bool = True  # of `in_place`: whether the instance ran before
    found: dict[str, Any] = {}  # of `in_place`: of the instance's definition before what the checks compare
    steps: list[RestoreStep]
    lacking: list[Lacking] = []
    probe: Probe | None = None
    requested_at: datetime
    requested_by: str
    reason: str
    request_sha256: str  # of all that is asked for: what an approval is bound to
    needs_approval: bool
    approve_by: datetime | None = None  # without an approval by then it is cancelled
    approved_by: str | None = None
    approved_at: datetime | None = None
    start_by: datetime  # not begun by then: cancelled
    started_at: datetime | None = None
    deadline: datetime | None = None  # not completed by then: abandoned
    finished_at: datetime | None = None
    checks: list[RestoreCheck] = []
    abandoned: Abandoned | None = None
    failure: Failure | None = None
    left: list[str] = []  # links of what could not be taken back
    keep_until: datetime | None = None  # former disks are kept until then
    estimate_s: int | None = None  # from past restores; null: there were none
    pre_restore: str | None = None  # the point that was asked for before it
    faults: int = 0
    next_at: datetime | None = None


class Supplied(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/supplied/{restore's id}`: values that a person supplied for a restore, emptied when it ends.

    They may be secrets: no view shows them and no record has them.
    """

    values: dict[str, str]  # item -> value
    expire_at: datetime  # TTL


class RestoreClaim(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/restore_claims/{sha256 of its link, 32 digits}`: one restore into an instance at a time."""

    instance: str  # link
    restore: str | None  # null: the last one has ended


# --- audit -------------------------------------------------------------------------------------------------------


class InboxRecord(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/inbox/{sha256 of its key}`: committed with the change that it tells of, numbered later."""

    bytes: Raw
    committed_at: datetime  # the database's time
    event: dict[str, Any] | None = None
    seq: int | None = None
    next_at: datetime | None = None
    expire_at: datetime | None = None  # TTL, set when it is numbered


class AuditRecord(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/audit/{seq:012d}`: one link of the tenant's chain. Created once, never changed."""

    seq: int
    bytes: Raw
    prev: str
    hash: str
    at: datetime
    actor: str
    action: str
    subject: str
    outcome: str


# --- the rest ----------------------------------------------------------------------------------------------------


class Request(Stored, frozen=True, kw_only=True):
    """`tenants/{t}/requests/{sha256(id)}`: a message or API call that has been acted on."""

    subject: str
    sha256: str = ""  # of who asked, and for what: the same key for something else is refused
    answer: str = ""  # what an API call was answered, as JSON
    expire_at: datetime


class Rejected(Stored, frozen=True, kw_only=True):
    """`rejected/{id}`: a message that was settled without effect, and why; or one that died undelivered."""

    kind: Literal["rejected", "dead_letter"]
    function: str
    reason: str
    excerpt: str
    at: datetime
    expire_at: datetime


class Paused(Part, frozen=True, kw_only=True):
    """Where one kind of change is stopped."""

    fleet: bool = False
    projects: list[str] = []
    tenants: list[str] = []

    def covers(self, *, project: str, tenant: str) -> bool:
        return self.fleet or project in self.projects or tenant in self.tenants

    def of(self, tenant: str, projects: Collection[str]) -> Paused:
        """The part that stops this tenant, whose projects these are: what its client may be told."""
        return Paused(
            fleet=self.fleet,
            projects=[one for one in self.projects if one in projects],
            tenants=[one for one in self.tenants if one == tenant],
        )


class PausedKinds(Part, frozen=True, kw_only=True):
    creation: Paused = Paused()
    deletion: Paused = Paused()
    restore: Paused = Paused()


class Controls(Stored, frozen=True, kw_only=True):
    """`system/controls`, read before every change of the cloud."""

    paused: PausedKinds = PausedKinds()


Role = Literal["viewer", "operator", "admin", "auditor", "client_admin"]


class Principal(Stored, frozen=True, kw_only=True):
    """`principals/{email}`: what somebody may do."""

    role: Role
    tenant: str | None = None  # of a client_admin: his own


class Orphan(Part, frozen=True, kw_only=True):
    """A snapshot that no document knows, or a document's snapshot that is not there. Reported, never deleted."""

    kind: Literal["unknown_snapshot", "snapshot_gone"]
    snapshot: str
    id: str | None  # as found, or as it was noted
    tenant: str | None  # of an unknown snapshot: what its label claims
    point: str | None
    copy: str | None = None  # the region of the copy that it is missing from
    bytes: int
    created_at: datetime | None
    found_at: datetime  # when it was first found


class Vault(Stored, frozen=True, kw_only=True):
    """`vaults/{project}`: a project that holds snapshots, and what its last listing found."""

    project: str
    tenants: list[str]  # every tenant that has ever had points there
    listed_at: datetime | None = None
    next_at: datetime
    orphans: list[Orphan] = []  # at most 500
    orphans_total: int = 0
    failure: Failure | None = None  # why it could not be listed last


class Tick(Stored, frozen=True, kw_only=True):
    """`system/tick-{function}`: when a function last carried out its tick to the end."""

    at: datetime


class TenantHealth(Stored, frozen=True, kw_only=True):
    """`health/{t}`: what a dashboard needs of one tenant in one read. State and ages are derived by the reader."""

    kind: Literal["tenant"] = "tenant"  # tells the tenants' documents from `health/_fleet` in a query
    worst_first: (
        str  # what lists are sorted by: the rank of its state, then its id; an index can sort by nothing derived
    )
    name: str
    deployment: str
    newest_verified_at: datetime | None  # of the worst protected instance; null: one of them has none
    breach_at: datetime | None  # the earliest of its instances
    unprotected: list[str]  # protected by nothing yet or not found, though it should be
    days: dict[str, str]
    counts: dict[str, int]
    bytes: int
    copies: dict[str, int]  # sums of its instances' CopyWork; empty where none are bought and none was ever made
    running: int
    schedule_on: bool = False  # of a private_saas tenant: its client has switched the schedule on
    left_at: datetime | None = None  # it has been offboarded
    going: int = 0  # points that will be deleted within 7 days, as far as can be told
    going_bytes: int = 0
    incomplete: int = 0  # points and copies of which a snapshot is gone, though nobody here deleted it
    restore_test_every_days: int | None = None  # null: no restore tests are wanted of it
    restore_tested: RestoreTested | None = None  # the last test that came to a result
    computed_at: datetime


class FleetHealth(Stored, frozen=True, kw_only=True):
    """`health/_fleet`: the fleet in one read."""

    tenants: int
    instances: int
    breached: int
    unprotected: int
    client_managed: int
    offboarded: int = 0
    running: int
    counts: dict[str, int]
    bytes: int
    copies: dict[str, int] = {}  # sums of its tenants'; empty where none has any
    going: int = 0
    going_bytes: int = 0
    incomplete: int = 0
    restore_tests: dict[str, int] = {}  # how tenants of which tests are wanted stand, to their number
    rejected: int  # kept records of bad messages, counted up to REJECTED_COUNTED_MAX
    dead_letters: int
    ticks: dict[str, datetime]
    oldest_verified_at: datetime | None = None  # of the tenants' newest verified points: the oldest
    computed_at: datetime


learn(*Stored.__subclasses__())
