"""The simulated cloud is found again by the documents that it belongs to, and by no others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from snapkeep import fleet
from snapkeep_local.cloud import Cloud
from snapkeep_local.keeping import FILE, MARKER, Kept, Unreadable, belonging, claim, keep
from snapkeep_local.memory import MemoryDocuments
from snapkeep_local.sim import populate

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
ONE = "tenants:\n  - {id: acme, project: acme-prod, name: Acme, instances: [{name: pam-1, zone: us-east1-b}]}\n"
TWO = ONE.replace("]}\n", ", {name: pam-2, zone: us-east1-b}]}\n")


def documents() -> MemoryDocuments:
    return MemoryDocuments(lambda: NOW)


def kept(id: str, cloud: Cloud | None = None) -> Kept:
    cloud = cloud or Cloud(7, NOW)
    return Kept(id=id, clock="simulated", seed=7, invented=["projects/p/zones/z/instances/i"], cloud=cloud.saved())


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    held = documents()
    keep(tmp_path, kept("a"))
    claim(held, "a")
    found = belonging(held, tmp_path)
    assert found == kept("a")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_documents_of_another_cloud_have_none_here(tmp_path: Path) -> None:
    held = documents()
    keep(tmp_path, kept("a"))
    assert belonging(held, tmp_path) is None
    claim(held, "b")
    assert belonging(held, tmp_path) is None
    claim(held, "a")
    assert belonging(held, tmp_path) is not None
    (tmp_path / FILE).unlink()
    assert belonging(held, tmp_path) is None


def test_a_collection_of_its_own_holds_the_marker() -> None:
    held = documents()
    claim(held, "a")
    assert set(held.dump()) == {MARKER}


@pytest.mark.parametrize("damage", [b"", b"{", b'{"id": "a"}', b"\xff"])
def test_a_damaged_file_is_said_in_one_line_and_what_to_do(tmp_path: Path, damage: bytes) -> None:
    held = documents()
    claim(held, "a")
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(Unreadable, match=r"not a saved cloud .* remove it to begin a new one") as raised:
        belonging(held, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_fleet_that_has_grown_gets_only_what_is_new(tmp_path: Path) -> None:
    """What its owner has removed meanwhile does not come back."""
    cloud = Cloud(7, NOW)

    def grown(text: str, made: list[str]) -> list[str]:
        (tmp_path / "fleet.yaml").write_text(text)
        entries = fleet.read(tmp_path / "fleet.yaml").clean
        return populate(cloud, [e.tenant(applied_at=NOW, applied_by="test") for e in entries], 7, made)

    first = grown(ONE, [])
    (one,) = (instance.link for instance in cloud.instances())
    assert first == [one]
    cloud.remove_instance(one)
    second = grown(TWO, first)
    assert [instance.name for instance in cloud.instances()] == ["pam-2"]
    assert (one in second, len(second)) == (True, 2)
    assert grown(TWO, second) == second
