"""`Compute` for one run of a function, which leaves alone whatever has just shown that it cannot answer now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapkeep.cloud import Change
from snapkeep.ports import Compute, R, Refused, Transient

FAULTS_IN_A_ROW_MAX: Final = 5
"""Passing faults in a row after which a run asks nothing more of a project."""

PROJECTS_IN_A_ROW_MAX: Final = 5
"""Projects that failed, one after the other and without an answer between them, after which a run asks nobody. A read
goes on for half a minute before it gives up: met at each of its projects, an outage would outlast the run's timeout.
Several are needed, so that a project which is ill for days takes no other with it."""

OF_ONE_RESOURCE: Final = frozenset({"RESOURCE_OPERATION_RATE_EXCEEDED", "resourceNotReady", "RESOURCE_NOT_READY"})
"""Reasons that say nothing about the next call."""

OF_ONE_ZONE: Final = "UNREACHABLE"
"""The reason where Compute Engine answered, but for one of the project's zones or regions."""


class Breaker:
    """A Compute that raises the fault it met again, without asking, where asking has no use in this run.

    A project whose quota per minute is used up is not asked again: each try would spend more of it. What was left
    undone is due again later.
    """

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._left_alone: dict[str, Transient] = {}
        self._in_a_row: defaultdict[str, int] = defaultdict(int)
        self._failing: dict[str, Transient] = {}  # projects since the last answer of any

    @classmethod
    def of(cls, compute: Compute) -> Breaker:
        """The one that is in use already, where slices share a run; else a new one."""
        return compute if isinstance(compute, cls) else cls(compute)

    @property
    def nobody_answers(self) -> bool:
        """Whether the rest of the run's work is better left as it is: due, and so the first of the next run."""
        return len(self._failing) >= PROJECTS_IN_A_ROW_MAX

    def get(self, kind: type[R], link: str) -> R | None:
        with self._asking(link.split("/")[1]):
            return self._compute.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        with self._asking(project):
            yield from self._compute.find(kind, project, where)

    def start(self, change: Change, request_id: str) -> str:
        with self._asking(change.project):
            return self._compute.start(change, request_id)

    @contextmanager
    def _asking(self, project: str) -> Iterator[None]:
        """Learn from how a call ends. Raises Transient instead of making one that has no use."""
        if project in self._left_alone:
            raise _again(self._left_alone[project])
        if self.nobody_answers:
            raise _again(next(reversed(self._failing.values())))
        try:
            yield
        except Transient as fault:
            self._failed(project, fault)
            raise
        except Refused:
            self._answered(project)
            raise
        self._answered(project)

    def _answered(self, project: str) -> None:
        self._in_a_row[project] = 0
        self._failing.clear()

    def _failed(self, project: str, fault: Transient) -> None:
        if fault.reason in OF_ONE_RESOURCE:
            return
        self._in_a_row[project] += 1
        if fault.of_project or self._in_a_row[project] >= FAULTS_IN_A_ROW_MAX:
            self._left_alone[project] = fault
        # A quota that is used up is an answer as far as others are concerned, and so is a zone that is away.
        if not fault.of_project and fault.reason != OF_ONE_ZONE:
            self._failing[project] = fault


def _again(fault: Transient) -> Transient:
    """The same fault anew: an exception that is raised many times gathers a traceback of all of them."""
    return Transient(str(fault), code=fault.code, reason=fault.reason)
