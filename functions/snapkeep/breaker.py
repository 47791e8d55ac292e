"""`Compute` for one run of a function, which leaves alone whatever has just shown that it cannot answer now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapkeep.cloud import Change
from snapkeep.ports import Compute, R, Refused, Transient

FAULTS_IN_A_ROW_MAX: Final = 5
"""Passing faults in a row after which a run asks nothing more. A read goes on for half a minute before it gives up,
so that a run which met an outage at every one of its projects would not end within its function's timeout."""

OF_ONE_RESOURCE: Final = frozenset({"RESOURCE_OPERATION_RATE_EXCEEDED", "resourceNotReady", "RESOURCE_NOT_READY"})
"""Reasons that say nothing about the next call."""


class Breaker:
    """A Compute that raises the fault it met again, without asking, where asking has no use in this run.

    A project whose quota per minute is used up is not asked again: each try would spend more of it. After
    FAULTS_IN_A_ROW_MAX faults without an answer between them, nobody is. What was left undone is due again later.
    """

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._exhausted: dict[str, Transient] = {}
        self._faults: list[Transient] = []

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
        if project in self._exhausted:
            raise self._exhausted[project]
        if len(self._faults) >= FAULTS_IN_A_ROW_MAX:
            raise self._faults[-1]
        try:
            yield
        except Transient as fault:
            if fault.of_project:
                self._exhausted[project] = fault
            elif fault.reason not in OF_ONE_RESOURCE:
                self._faults.append(fault)
            raise
        except Refused:
            self._faults.clear()
            raise
        self._faults.clear()
