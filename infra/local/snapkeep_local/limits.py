"""How often Compute Engine lets itself be asked: quotas by project and minute, and the pace of a disk's snapshots."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from snapkeep_local.errors import ApiError

Group = Literal["reads", "lists", "mutations"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Google's documented defaults (cloud.google.com/compute/api-quota and .../disks/snapshot-best-practices; instant
    snapshots: .../troubleshooting/troubleshooting-instant-snapshots).

    `snapshot_rate_answer` is where the pace of one disk's snapshots is enforced. Compute Engine accepts the call and
    ends its operation in RESOURCE_OPERATION_RATE_EXCEEDED (as seen in kubernetes-sigs/
    gcp-compute-persistent-disk-csi-driver#1847); "call" answers the call itself with 429 instead, which clients
    provide for too.
    """

    reads_per_minute: int = 1500
    lists_per_minute: int = 1500
    mutations_per_minute: int = 375
    snapshots_per_disk: int = 6
    snapshots_per_disk_window: timedelta = timedelta(minutes=60)
    snapshot_rate_answer: Literal["operation", "call"] = "operation"
    instant_snapshots_per_disk: int = 32
    instant_snapshot_pause: timedelta = timedelta(seconds=30)


DEFAULT: Final = Limits()
_METRIC: Final[dict[Group, str]] = {
    "reads": "Read requests",
    "lists": "List requests",
    "mutations": "Global resource write requests",
}


class Quota:
    """Calls per project, group and minute. Windows are whole minutes of the clock, as documented."""

    def __init__(self, limits: Limits) -> None:
        self._per_minute: dict[Group, int] = {
            "reads": limits.reads_per_minute,
            "lists": limits.lists_per_minute,
            "mutations": limits.mutations_per_minute,
        }
        self.spent: dict[tuple[str, Group], tuple[int, int]] = {}
        """The minute (since 1970) of the last call, and how many calls were in it."""

    def spend(self, project: str, group: Group, now: datetime) -> None:
        """Count one call. Raises ApiError 403 `rateLimitExceeded` when the minute's calls are used up."""
        minute = int(now.timestamp()) // 60
        window, spent = self.spent.get((project, group), (minute, 0))
        if window != minute:
            spent = 0
        if spent >= self._per_minute[group]:
            raise ApiError(
                403,
                "rateLimitExceeded",
                f"Quota exceeded for quota metric '{_METRIC[group]}' and limit '{_METRIC[group]} per minute' of "
                f"service 'compute.googleapis.com' for consumer '{project}'.",
            )
        self.spent[project, group] = (minute, spent + 1)


class Pace:
    """Snapshots of one disk: once every 10 minutes, in bursts of at most 6 in any 60 minutes."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.snapshots_per_disk
        self._window = limits.snapshots_per_disk_window
        self.taken: defaultdict[str, deque[datetime]] = defaultdict(deque)
        """By the disk's id, when its last snapshots were taken."""

    def take(self, disk_id: str, now: datetime) -> bool:
        """Count one snapshot of the disk; False, uncounted, when it comes too soon."""
        taken = self.taken[disk_id]
        while taken and taken[0] <= now - self._window:
            taken.popleft()
        if len(taken) >= self._most:
            return False
        taken.append(now)
        return True
