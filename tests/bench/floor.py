"""The least that any program could do for a night's points on the same servers, as fast as a plain client can.

For each disk one insert, for each page of a project's snapshots one list, for each point three commits (asked for,
begun, verified), each of the point's document and of one record: no planning, no reading, no messages, no auditing.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from google.cloud import firestore
from tests.bench.fleets import Size
from tests.bench.up import Up

THREADS: Final = 4
"""As many as a function's process has."""

COMMITS: Final = 3
PAGE: Final = 500
ANSWER_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Floor:
    inserts_s: float
    lists_s: float
    commits_s: float

    @property
    def seconds(self) -> float:
        return self.inserts_s + self.lists_s + self.commits_s


def measure(cloud: Up, database: firestore.Client, size: Size) -> Floor:
    """Do it, in projects and collections of its own. Raises RuntimeError for an answer that is none."""
    compute = Plain(cloud.addresses["compute"])
    disks = [disk for disk in _disks(cloud) if "/disks/" in disk]
    if len(disks) != size.disks:
        raise RuntimeError(f"the cloud holds {len(disks)} disks, expected {size.disks}")
    inserts = [
        lambda disk=disk, n=n: compute.insert(f"floor-{disk.split('/')[1]}", n, disk) for n, disk in enumerate(disks)
    ]
    lists = [
        lambda project=project: compute.list(project)
        for project in sorted({f"floor-{disk.split('/')[1]}" for disk in disks})
        for _ in range(-(-size.sharing * 3 // PAGE))
    ]
    sample = next(iter(database.collection_group("points").limit(1).stream())).to_dict() or {}
    commits = [lambda n=n: _commit_thrice(database, n, sample) for n in range(size.instances)]
    return Floor(_timed(inserts), _timed(lists), _timed(commits))


def _timed(work: Sequence[Callable[[], None]]) -> float:
    """Seconds that THREADS threads take for it."""
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()
    return time.monotonic() - began


def _disks(cloud: Up) -> Iterable[str]:
    for disk in cloud.ask("/_sim/state")["disks"]:
        link: str = disk["selfLink"]
        yield link[link.index("projects/") :]


class Plain:
    """HTTP without a client library, over one connection for each thread."""

    def __init__(self, address: str) -> None:
        self._host = urlsplit(address).netloc
        self._own = threading.local()

    def insert(self, project: str, number: int, disk: str) -> None:
        body = {"name": f"floor-{number}", "sourceDisk": disk, "storageLocations": ["southamerica-east1"]}
        self._ask("POST", f"/compute/v1/projects/{project}/global/snapshots", json.dumps(body).encode())

    def list(self, project: str) -> None:
        self._ask("GET", f"/compute/v1/projects/{project}/global/snapshots?maxResults={PAGE}", None)

    def _ask(self, method: str, path: str, body: bytes | None) -> None:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(self._host, timeout=ANSWER_TIMEOUT_S)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{method} {path}: {answer.status} {said[:300]!r}")


def _commit_thrice(database: firestore.Client, number: int, sample: dict[str, Any]) -> None:
    point = database.document(f"floor/{number}")
    for step in range(COMMITS):
        batch = database.batch()
        if step:
            batch.update(point, sample)
        else:
            batch.create(point, sample)
        batch.create(database.document(f"floor/{number}/records/{step}"), {"bytes": b"x" * 1000})
        batch.commit()
