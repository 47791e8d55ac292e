"""The generated fleets, and what is counted on a small one."""

from pathlib import Path

import pytest
from tests.bench import copies, deletion, memory, report, restores
from tests.bench.fleets import DISKS, Layout, Size, fleet_file

from snapkeep import documents as d
from snapkeep import fleet
from snapkeep_local import example


@pytest.mark.parametrize(
    ("size", "projects"), [(Size("shared", 250), 3), (Size("apart", 7), 7), (Size("shared", 1), 1)]
)
def test_a_fleet_file_is_valid_and_its_cloud_has_three_disks_on_every_instance(
    size: Size, projects: int, tmp_path: Path
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet_file(size))
    reading = fleet.read(path)
    assert reading.mistakes == ()
    tenants = [entry.tenant(applied_at=memory.START, applied_by="bench") for entry in reading.valid]
    machines = example.inventory(tenants, seed=5)
    assert len({machine.project for machine in machines}) == projects == size.projects
    assert len(machines) == size.instances
    assert {sum(disk.persistent for disk in machine.disks) for machine in machines} == {DISKS}


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_a_small_fleets_nights_are_counted_point_by_point(layout: Layout) -> None:
    size = Size(layout, 5)
    measured = memory.measure(size, nights=2)
    for night in measured.nights:
        assert night.verified == size.instances
        assert night.used["create"].calls["snapshots.insert"] == size.disks
        assert night.used["reconcile"].calls["snapshots.list"] >= (1 if layout == "shared" else size.projects)
        # Each point is requested, begun, noted as started, and verified; requested and verified with its instance.
        assert report.total(night.used, lambda used: used.commits) >= 4 * size.instances
        assert night.used["reconcile"].messages["snapkeep-audit"] >= 1
        assert night.used["audit"].messages["snapkeep-events"] == size.instances
    assert "create" not in measured.quiet_hour
    assert measured.quiet_hour["discover"].calls["disks.aggregatedList"] == size.projects


def test_two_runs_count_the_same() -> None:
    def counts(measured: memory.Measured) -> list[tuple[str, int, int, int]]:
        used = measured.nights[0].used
        return sorted((name, of.reads, of.writes, of.calls.total()) for name, of in used.items())

    assert counts(memory.measure(Size("shared", 3), 1)) == counts(memory.measure(Size("shared", 3), 1))


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_the_end_of_a_small_fleets_points_is_counted_snapshot_by_snapshot(layout: Layout) -> None:
    size = Size(layout, 4)
    measured = deletion.measure(size)
    assert measured.snapshots == size.disks
    # Each is read, and compared, right before it is asked to go; and all are read back by lists, one for a project.
    assert measured.used.calls["snapshots.get"] >= size.disks
    assert measured.used.calls["snapshots.delete"] >= size.disks
    assert measured.used.calls["snapshots.list"] >= size.projects
    assert 0 < measured.minutes <= 60


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_a_small_fleets_copies_by_the_moment_are_counted_disk_by_disk(layout: Layout) -> None:
    size = Size(layout, 4)
    measured = copies.measure(size, "moment")
    assert measured.copies == size.instances
    assert measured.calls["snapshots.insert"] == 2 * size.disks
    for method in ("insert", "get", "delete"):
        assert measured.calls[f"instantSnapshots.{method}"] == size.disks
    assert measured.calls["disks.insert"] == 0
    assert set(measured.calls) <= set(report.COPIES_METHODS["moment"])


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_a_small_fleets_copies_through_temporary_disks_are_counted_disk_by_disk(layout: Layout) -> None:
    size = Size(layout, 4)
    measured = copies.measure(size, "temporary_disk")
    assert measured.copies == size.instances
    for method in ("disks.insert", "snapshots.insert", "disks.get", "disks.delete"):
        assert measured.calls[method] == size.disks
    assert set(measured.calls) <= set(report.COPIES_METHODS["temporary_disk"])


@pytest.mark.parametrize("mode", restores.MODES)
def test_a_restores_calls_are_counted_to_its_end(mode: d.RestoreMode) -> None:
    measured = restores.measure(mode, 2)
    assert measured.calls["disks.insert"] == measured.calls["snapshots.get"] == 2
    assert measured.calls["instances.insert"] == (mode == "new_instance")
    assert measured.calls["instances.attachDisk"] == (2 if mode == "in_place" else 0)
    assert measured.calls.total() > measured.least
    assert 0 < measured.operations_s < measured.seconds
    assert measured.looks > 1
