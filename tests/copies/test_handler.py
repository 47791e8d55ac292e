"""Copies from their request to their end, on the local cloud, whatever happens in between."""

from __future__ import annotations

from tests.copies.scene import AWAY, HOUR, MINUTE, Copying
from tests.retention.scene import REGION


def test_a_copy_of_the_moment_holds_what_home_holds_though_the_disks_were_written_to() -> None:
    one = Copying()
    id = one.take_whole(moment=True)
    one.run_until(lambda: one.settled(id))
    copy = one.copy_of(id)
    assert copy.state == "verified"
    assert one.contents(id, AWAY) == one.contents(id)
    assert [disk.snapshot.created_at for disk in copy.disks] == [d.snapshot.created_at for d in one.point(id).disks]
    assert one.regions() == {REGION, AWAY}
    assert one.asked("temporary") == []


def test_a_copy_that_was_bought_later_is_made_through_temporary_disks_of_which_none_is_left() -> None:
    one = Copying()
    id = one.take_whole()
    one.run_until(lambda: one.settled(id))
    copy = one.copy_of(id)
    assert (copy.state, copy.way) == ("verified", "temporary_disk")
    assert one.contents(id, AWAY) == one.contents(id)
    assert len(one.asked("temporary")) == len(one.asked("DeleteDisk")) == 2
    assert one.temporaries() == []
    assert one.regions() == {REGION, AWAY}
    assert one.cloud.now - copy.requested_at < 2 * HOUR
    one.run(5 * MINUTE)
    assert one.point(id).next_at is None
