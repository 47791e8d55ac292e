"""Fleets to measure with: a fleet file, whose implied cloud gives every instance exactly DISKS disks.

The local cloud invents an instance's disks from its names alone (`snapkeep_local.example`); here the names are chosen
so that it invents three. So the fleet file, its reader and the local cloud are the real ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from snapkeep_local import example

DISKS: Final = 3
ZONE: Final = "southamerica-east1-a"
SHARING: Final = 100
"""Instances of a project where they share one."""

Layout = Literal["shared", "apart"]
"""`shared`: SHARING instances in a project, all of one tenant; `apart`: a project and a tenant for each instance."""


@dataclass(frozen=True, slots=True)
class Size:
    """A fleet to be measured."""

    layout: Layout
    instances: int

    @property
    def projects(self) -> int:
        return -(-self.instances // self.sharing)

    @property
    def sharing(self) -> int:
        """Instances of a project."""
        return SHARING if self.layout == "shared" else 1

    @property
    def disks(self) -> int:
        return self.instances * DISKS


def fleet_file(
    size: Size, *, spread_minutes: int = 30, retention: str = "{}", entitlements: str = "{}"
) -> str:  # fmt: skip
    """The YAML of a fleet: `size.projects` tenants, each with a project of its own.

    All slots are at 02:30 in Sao Paulo (05:30 UTC), spread over so many minutes. `retention` and `entitlements` are
    YAML too.
    """
    schedule = f'{{daily_at: "02:30", spread_minutes: {spread_minutes}}}'
    lines = ["tenants:"]
    left = size.instances
    for number in range(size.projects):
        tenant = f"bench-{number:05d}"
        names = itertools.islice(_names(f"{tenant}-prod"), min(left, size.sharing))
        instances = ", ".join(f"{{name: {name}, zone: {ZONE}}}" for name in names)
        whose = f"id: {tenant}, name: Bench {number}, project: {tenant}-prod, timezone: America/Sao_Paulo"
        terms = f"schedule: {schedule}, retention: {retention}, entitlements: {entitlements}"
        lines.append(f"  - {{{whose}, {terms}, instances: [{instances}]}}")
        left -= size.sharing
    return "\n".join(lines) + "\n"


def _names(project: str) -> Iterator[str]:
    """Names of instances that the local cloud gives DISKS persistent disks."""
    for number in itertools.count(1):
        identity = (project, ZONE, f"server-{number}")
        disks = example.disks(identity, identity, None)
        if sum(disk.persistent for disk in disks) == DISKS:
            yield identity[2]
