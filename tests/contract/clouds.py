"""A cloud for the tests of Compute, and the ways to reach it: in memory, and over google-cloud-compute.

Both look at the same state machine, so that each value one of them gives is compared with the other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.servers import Quiet, running
from werkzeug.serving import make_server

from snapkeep.cloud import Change, request_id
from snapkeep.gcp.compute import GoogleCompute
from snapkeep.ports import Compute, R
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.limits import Limits
from snapkeep_local.rest import Simulator

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
PROJECT = "acme-prod"
VAULT = "acme-vault"
ZONE = "southamerica-east1-a"
REGION = "southamerica-east1"
KEY = "projects/keys/locations/southamerica-east1/keyRings/ring/cryptoKeys/key"
INSTANCE = f"projects/{PROJECT}/zones/{ZONE}/instances/pam-1"
BOOT = f"projects/{PROJECT}/zones/{ZONE}/disks/pam-1-boot"
DATA = f"projects/{PROJECT}/regions/{REGION}/disks/pam-1-data"
GENEROUS = Limits(lists_per_minute=10**6, reads_per_minute=10**6)

CALLS_TIMEOUT_S = 0.2
"""In place of half a minute: some of these tests wait for it to pass."""


# --- a cloud, and the ways to reach it -----------------------------------------------------------------------------


def fleet(limits: Limits = GENEROUS) -> Cloud:
    """One instance with a zonal and a regional disk and two local SSDs, and disks of every other kind."""
    one = Cloud(7, NOW, limits)
    one.add_disk(project=PROJECT, zone=ZONE, name="pam-1-boot", boot=True, labels={"role": "boot"}, kms_key=KEY)
    one.add_disk(project=PROJECT, zone=ZONE, name="pam-1-data", size_gb=500, replica_zones=(ZONE, f"{REGION}-b"))
    one.add_disk(project=PROJECT, zone=ZONE, name="csek", customer_supplied_key=True, architecture="ARM64")
    one.add_disk(
        project=PROJECT,
        zone=f"{REGION}-b",
        name="fast",
        type="hyperdisk-balanced",
        provisioned_iops=3600,
        provisioned_throughput=290,
    )
    one.add_instance(
        project=PROJECT,
        zone=ZONE,
        name="pam-1",
        disks=[BOOT, DATA],
        labels={"tenant": "acme", "tier": "gold"},
        metadata={"startup-script": "#!/bin/sh\necho up", "enable-oslogin": "TRUE"},
        local_ssds=2,
        tags=["https", "pam"],
        service_account="pam@acme-prod.iam.gserviceaccount.com",
    )
    # Nothing that can be left out: what is empty is told in no field at all.
    one.add_disk(project=PROJECT, zone="us-east1-b", name="bare")
    one.add_instance(
        project=PROJECT, zone="us-east1-b", name="bare", disks=[f"projects/{PROJECT}/zones/us-east1-b/disks/bare"]
    )
    return one


@contextmanager
def served(simulator: Simulator) -> Iterator[str]:
    """The simulator's REST skin on a port of this machine; its root URL."""
    with running(make_server("127.0.0.1", 0, simulator.app, threaded=True, request_handler=Quiet)) as url:
        yield url


@dataclass
class Side:
    """One way to a cloud."""

    compute: Compute
    cloud: Cloud
    local: LocalCompute

    def pass_time(self, **duration: float) -> None:
        self.cloud.advance(self.cloud.now + timedelta(**duration))

    def start(self, change: Change) -> str:
        """Ask for a change; the link of its operation."""
        return self.compute.start(change, request_id(change))

    def both(self, kind: type[R], link: str) -> R | None:
        """What this side reads, which is what there is in the other's eyes too."""
        found = self.compute.get(kind, link)
        assert found == self.local.get(kind, link)
        return found

    def one(self, kind: type[R], link: str) -> R:
        found = self.both(kind, link)
        assert found is not None
        return found


@contextmanager
def reached(way: str, one: Cloud) -> Iterator[Side]:
    local = LocalCompute(one)
    if way == "local":
        yield Side(local, one, local)
        return
    with served(Simulator(one)) as endpoint:
        yield Side(GoogleCompute(endpoint, calls_timeout_s=CALLS_TIMEOUT_S), one, local)
