"""Messages from one function to another."""

from datetime import UTC, datetime

import msgspec

from snapkeep import hints
from snapkeep.messages import POINTS_PER_MESSAGE_MAX, CreateBatch, PointRef
from snapkeep_local.memory import MemoryBus


def asked(*projects: int) -> list[list[str]]:
    """The tenants of each message to `create`, where projects have so many points, each project of a tenant."""
    bus = MemoryBus(lambda: datetime(2026, 11, 1, tzinfo=UTC))
    refs = [
        [PointRef(f"tenant-{project}", f"20261101-s-server-{number:08x}") for number in range(points)]
        for project, points in enumerate(projects)
    ]
    hints.start_points(bus, refs)
    batches = [msgspec.json.decode(body, type=CreateBatch) for body in bus.outbox("snapkeep-create")]
    assert sorted(str(ref) for batch in batches for ref in batch.points) == sorted(str(r) for rs in refs for r in rs)
    assert all(len(batch.points) <= POINTS_PER_MESSAGE_MAX for batch in batches)
    return [sorted({ref.tenant for ref in batch.points}) for batch in batches]


def test_points_of_small_projects_share_a_message() -> None:
    assert len(asked(*[1] * POINTS_PER_MESSAGE_MAX)) == 1
    assert len(asked(*[1] * (POINTS_PER_MESSAGE_MAX + 1))) == 2


def test_a_project_that_fits_a_message_is_in_one_message() -> None:
    assert asked(30, 30, 20) == [["tenant-0"], ["tenant-1", "tenant-2"]]


def test_a_project_of_more_points_than_a_message_takes_is_in_several() -> None:
    assert asked(2 * POINTS_PER_MESSAGE_MAX + 1) == [["tenant-0"]] * 3


def test_no_points_are_no_message() -> None:
    assert asked() == []
