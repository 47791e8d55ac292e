"""A point's manifest: written into the descriptions of its snapshots, and read back from a listing of them."""

import base64
import json
import random
import re
import string
import subprocess
import sys
import zlib
from dataclasses import replace as changed
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.makers import PROJECT, REGION, THEN, copy_of, point, point_disk, snapshot, tenant

from snapkeep import documents as d
from snapkeep.cloud import Snapshot
from snapkeep.copies import tries
from snapkeep.creation import rules
from snapkeep.restore import catalogue, manifest

SECOND = "us-east1"

DEFINITION: dict[str, Any] = {
    "machineType": f"projects/{PROJECT}/zones/southamerica-east1-a/machineTypes/e2-standard-4",
    "networkInterfaces": [{"network": f"projects/{PROJECT}/global/networks/main", "networkIP": "10.1.0.5"}],
    "tags": {"items": ["pam", "web"]},
    "metadata": {"enable-oslogin": "TRUE"},
    "left_out": ["metadata startup-script"],
}  # fmt: skip


def disks(count: int, **changes: Any) -> list[d.PointDisk]:
    return [
        point_disk(
            id=str(5_000_000_000_000_000_000 + n),
            name=f"acme-pam-1-disk-{n}",
            device_name=f"disk-{n}",
            boot=n == 0,
            snapshot=d.SnapshotRef(project=PROJECT, name=f"sk-{n}", location=REGION),
            **changes,
        )
        for n in range(count)
    ]


def a_point(count: int = 2, definition: dict[str, Any] = DEFINITION, **changes: Any) -> d.Point:
    of_disks = changes.pop("of_disks", {})
    return point(state="creating", disks=disks(count, **of_disks), definition=definition, **changes)


def snapshots(one: d.Point, region: str | None = None, **changes: Any) -> list[Snapshot]:
    """The snapshots of a set, READY, as a listing shows them."""
    role = "copy" if region else "home"
    return [
        snapshot(
            **{
                "id": str(9000 + n),
                "name": f"sk-{region or 'home'}-{n}",
                "source_disk_id": f"77{n}" if region else disk.id,
                "size_gb": disk.size_gb,
                "locations": (region or REGION,),
                "labels": tries.labels("acme", one, role),
                "description": manifest.described(one, "acme", region, disk),
            }
            | changes
        )
        for n, disk in enumerate(one.disks)
    ]


def noise(characters: int, seed: int = 1) -> str:
    """Text that hardly compresses."""
    chance = random.Random(seed)  # noqa: S311 - a seed, so that every run has the same text
    return "".join(chance.choice(string.ascii_letters + string.digits) for _ in range(characters))


def only(listing: catalogue.Listing) -> catalogue.Found:
    (found,) = listing.sets
    return found


# --- writing -------------------------------------------------------------------------------------------------------


def test_every_snapshot_of_a_usual_point_carries_the_whole_manifest_after_words_for_people() -> None:
    one = a_point()
    for disk in one.disks:
        said = manifest.described(one, "acme", None, disk)
        assert said.startswith(f"Snapkeep recovery point {one.id} of acme-pam-1, disk {disk.device_name} snapkeep-")
        tag = manifest.carried(said)
        assert tag is not None
        assert (tag.disk, tag.attempt, tag.part, tag.parts) == (disk.id, 1, 1, 1)
        whole = manifest.opened({1: tag.data}, 1, tag.crc32)
        assert whole == manifest.manifest_of(one, "acme", None)
        assert whole.definition == DEFINITION


def test_the_snapshots_of_a_point_and_of_its_copy_are_asked_for_with_it() -> None:
    one, owner = a_point(), tenant()
    copied = replace(
        one,
        copies={
            SECOND: copy_of(
                "copying", disks=[d.CopyDisk(id=disk.id, name=disk.name, snapshot=disk.snapshot) for disk in one.disks]
            )
        },
    )
    asked = rules.change_for(one, one.disks[0], owner)
    of_copy = tries.snapshot_change(copied, SECOND, copied.copies[SECOND].disks[1], owner)
    at_home, away = manifest.carried(asked.description), manifest.carried(of_copy.description)
    assert at_home is not None
    assert away is not None
    assert manifest.opened({1: at_home.data}, 1, at_home.crc32).role == "home"
    copy = manifest.opened({1: away.data}, 1, away.crc32)
    assert (copy.role, copy.region, copy.instance.region, away.disk) == ("copy", SECOND, REGION, one.disks[1].id)
    assert of_copy.description.startswith(f"Snapkeep copy of recovery point {one.id} of acme-pam-1, disk disk-1 ")


def test_what_becomes_of_a_point_later_changes_no_description() -> None:
    one = a_point()
    later = replace(
        one, state="verified", updated_at=THEN + timedelta(days=1), verified_at=THEN, holds=[], usable=False
    )
    assert manifest.described(one, "acme", None, one.disks[0]) == manifest.described(
        later, "acme", None, later.disks[0]
    )


def test_what_does_not_fit_into_one_description_is_spread_over_the_disks() -> None:
    definition = {**DEFINITION, "hostname": noise(3000)}
    one = a_point(5, definition)
    tags = [manifest.carried(s.description) for s in snapshots(one)]
    assert [(tag.part, tag.parts) for tag in tags if tag] == [(1, 3), (2, 3), (3, 3), (1, 3), (2, 3)]
    found = only(catalogue.read(snapshots(one)))
    assert found.manifest is not None
    assert found.manifest.definition == definition
    assert found.complete
    # The first two parts are on two disks each.
    assert only(catalogue.read(snapshots(one)[2:])).manifest == found.manifest
    broken = only(catalogue.read(snapshots(one)[:2]))
    assert "part 3 of 3 is on no snapshot" in broken.fault
    assert not broken.complete


def test_what_does_not_fit_at_all_is_left_out_the_largest_first_and_named() -> None:
    definition = {**DEFINITION, "hostname": noise(700), "description": noise(4000), "scheduling": {"x": noise(300)}}
    found = only(catalogue.read(snapshots(a_point(1, definition))))
    assert found.manifest is not None
    assert found.manifest.definition == {
        **{name: value for name, value in definition.items() if name != "description"},
        "left_out": ["description", "metadata startup-script"],
    }


def test_labels_and_policies_of_disks_give_way_too() -> None:
    labels = {noise(60, n).lower(): noise(60, 100 + n).lower() for n in range(64)}
    found = only(catalogue.read(snapshots(a_point(1, of_disks={"labels": labels}))))
    assert found.manifest is not None
    assert found.manifest.disks[0].labels == {}
    assert found.manifest.definition["left_out"] == ["labels of disks", "metadata startup-script"]


def test_of_too_many_names_that_are_left_out_some_are_told_and_how_many_more() -> None:
    lacking = [f"metadata {noise(120, n)}" for n in range(256)]
    found = only(catalogue.read(snapshots(a_point(1, {"left_out": lacking}))))
    assert found.manifest is not None
    assert found.manifest.definition["left_out"] == [*sorted(lacking)[:8], "and 248 more"]


def test_the_longest_names_that_compute_engine_knows_fit() -> None:
    key = f"projects/{'p' * 30}/locations/{'l' * 23}/keyRings/{noise(63)}/cryptoKeys/{noise(63, 2)}"
    name = "a" + noise(62, 3).lower()
    one = replace(
        a_point(1, {"left_out": []}, of_disks={"kms_key": key, "guest_os_features": ["X" * 30] * 20}),
        id="2" * 44,
        instance=d.InstanceRef(id="9" * 20, name=name, project="p" * 30, zone="z" * 25 + "-a", region="z" * 25),
    )
    one = replace(one, disks=[replace(one.disks[0], name="b" + name[1:], device_name=noise(63, 4), id="9" * 20)])
    (only_one,) = snapshots(one, locations=(one.instance.region,))
    assert len(only_one.description) <= manifest.DESCRIPTION_CHARS_MAX
    found = only(catalogue.read([only_one]))
    assert found.manifest is not None
    assert found.manifest.definition == {"left_out": []}


CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"


@pytest.mark.parametrize("definition", [DEFINITION, {**DEFINITION, "hostname": noise(3000)}], ids=["1 part", "3 parts"])
def test_the_recipe_of_the_contract_reads_a_manifest_without_snapkeep(
    tmp_path: Path, definition: dict[str, Any]
) -> None:
    (recipe,) = re.findall(r"python3 - <<'END'\n(.*?)\nEND\n", CONTRACT.read_text(encoding="utf-8"), re.S)
    one = a_point(4, definition)
    listed = [{"name": s.name, "status": s.status, "id": s.id, "description": s.description} for s in snapshots(one)]
    (tmp_path / "snapshots.json").write_text(json.dumps(listed), encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-"], input=recipe, capture_output=True, text=True, cwd=tmp_path, check=True
    ).stdout
    lines, _, text = said.partition("{")
    assert msgspec.json.decode("{" + text, type=manifest.Manifest) == manifest.manifest_of(one, "acme", None)
    assert lines.splitlines() == [
        f"sk-home-{n} READY {9000 + n} disk={disk.id} attempt=1" for n, disk in enumerate(one.disks)
    ]


def test_the_contract_names_every_field_of_a_manifest_and_its_bounds() -> None:
    section = (
        CONTRACT.read_text(encoding="utf-8").split("### The manifest in a snapshot's description")[1].split("## 6")[0]
    )
    fields = [
        name
        for kind in (manifest.Manifest, manifest.ManifestInstance, manifest.ManifestDisk)
        for name in kind.__struct_fields__
    ]
    assert [name for name in fields if f"`{name}`" not in section] == []
    assert f"at most {manifest.DESCRIPTION_CHARS_MAX} printable" in section
    assert f"up to {manifest.WORDS_CHARS_MAX} for people" in section


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
DEFINITIONS = st.fixed_dictionaries(
    {"left_out": st.lists(st.from_regex(r"^metadata [a-z-]{1,60}\Z"), max_size=30)},
    optional=dict.fromkeys(rules.DEFINITION_FIELDS, VALUES),
)
BULKY = st.dictionaries(
    st.sampled_from(rules.DEFINITION_FIELDS),
    st.builds(noise, st.integers(0, rules.DEFINITION_BYTES_MAX // len(rules.DEFINITION_FIELDS)), st.integers(0, 99)),
    max_size=len(rules.DEFINITION_FIELDS) - 1,
)


@given(DEFINITIONS, BULKY, st.integers(1, 12))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example({"left_out": []}, {name: noise(11_000, n) for n, name in enumerate(rules.DEFINITION_FIELDS[:-1])}, 128)
def test_every_definition_comes_back_whole_or_with_the_names_of_what_it_lost(
    small: dict[str, Any], bulky: dict[str, str], count: int
) -> None:
    definition = {**small, **bulky}
    one = a_point(count, definition)
    listed = snapshots(one)
    assert all(len(s.description) <= manifest.DESCRIPTION_CHARS_MAX for s in listed)
    assert all(s.description.isascii() and s.description.isprintable() for s in listed)
    found = only(catalogue.read(listed))
    assert found.manifest is not None, found.fault
    assert found.complete
    back = found.manifest.definition
    lost = definition.keys() - back.keys()
    assert all(back[name] == definition[name] for name in back.keys() - {"left_out"})
    assert sorted(back["left_out"]) == sorted([*definition["left_out"], *lost])


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_listing_is_sorted_into_sets_the_newest_first() -> None:
    old, new = a_point(), a_point(id="20261103-s-acme-pam-1-0badcafe", requested_at=THEN + timedelta(days=2))
    listed = [*snapshots(old), *snapshots(old, SECOND), *snapshots(new)]
    found = catalogue.read(listed).sets
    assert [(one.point, one.region, one.role, one.complete) for one in found] == [
        (new.id, REGION, "home", True),
        (old.id, REGION, "home", True),
        (old.id, SECOND, "copy", True),
    ]
    assert found[0].taken_at == new.requested_at
    assert found[0].bytes == 2_000


def test_of_several_attempts_of_a_disk_the_last_one_that_is_right_is_taken() -> None:
    one = a_point(1)
    again = replace(one, disks=[replace(one.disks[0], attempts=2)])
    third = replace(one, disks=[replace(one.disks[0], attempts=3)])
    listed = [
        *snapshots(one, name="sk-first", created_at=THEN + timedelta(hours=1)),
        *snapshots(again, name="sk-second"),
        *snapshots(third, name="sk-third", status="FAILED"),
    ]
    (disk,) = only(catalogue.read(listed)).disks
    assert disk.snapshot is not None
    assert disk.snapshot.name == "sk-second"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "UPLOADING"}, "disk-0: sk-0 is UPLOADING"),
        ({"size_gb": 99}, "disk-0: sk-0 holds 99 GB of 100"),
        ({"source_disk_id": "5"}, "disk-0: sk-0 was made of disk 5, not of 5000000000000000000"),
    ],
)
def test_a_set_is_not_complete_without_a_right_snapshot_of_every_disk(changes: dict[str, Any], why: str) -> None:
    first, second = snapshots(a_point())
    found = only(catalogue.read([changed(first, **{"name": "sk-0", **changes}), second]))
    assert found.lacking == (why,)


def test_a_disk_without_any_snapshot_is_named() -> None:
    assert only(catalogue.read(snapshots(a_point())[1:])).lacking == ("disk-0: no snapshot of it is there",)


def test_snapshots_of_living_disks_far_apart_are_no_one_moment() -> None:
    first, second = snapshots(a_point())
    late = changed(second, created_at=first.created_at + timedelta(minutes=61))
    assert only(catalogue.read([first, late])).lacking == ("its snapshots were made 61 minutes apart",)
    held = [changed(one, source_instant_id="7") for one in (first, late)]
    assert only(catalogue.read(held)).complete


def test_a_point_of_before_there_were_manifests_is_shown_by_what_its_snapshots_show() -> None:
    listed = [changed(one, description="Snapkeep recovery point P of I, disk D") for one in snapshots(a_point())]
    found = only(catalogue.read(listed))
    assert found.manifest is None
    assert found.fault == "none of its snapshots carries a manifest"
    assert [disk.snapshot for disk in found.disks] == [changed(one, description="") for one in listed]
    assert found.lacking == ("no manifest: which disks it had is not known",)


def test_what_is_in_no_set_is_named_and_counted() -> None:
    labelled = snapshot(labels={"snapkeep-tenant": "acme"})
    spread = changed(snapshots(a_point(1))[0], locations=("us", "eu"))
    stripped = changed(snapshots(a_point(1))[0], labels={})
    listing = catalogue.read([snapshot(), stripped, labelled, spread])
    assert listing.sets == ()
    assert listing.strangers == (
        "sk-home-0: without label snapkeep-tenant",
        "sk-boot-1: without label snapkeep-point",
        "sk-home-0: stored in us, eu, which no set of a point is",
    )
    many = catalogue.read([labelled] * (catalogue.STRANGERS_MAX + 5))
    assert (len(many.strangers), many.strangers_total) == (catalogue.STRANGERS_MAX, catalogue.STRANGERS_MAX + 5)


def test_a_listing_ends_at_its_bound_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SNAPSHOTS_MAX", 3)  # instead of making 50,000
    listing = catalogue.read(snapshots(a_point(5)))
    assert listing.cut_off
    assert len(only(listing).snapshots) == 3


def test_a_manifest_of_another_point_is_not_believed() -> None:
    other = snapshots(replace(a_point(), id="20261102-s-acme-pam-1-0badcafe"))
    listed = [changed(one, description=two.description) for one, two in zip(snapshots(a_point()), other, strict=True)]
    found = only(catalogue.read(listed))
    assert found.manifest is None
    assert "not of what its snapshots' labels and location say" in found.fault


def test_of_two_manifests_that_on_most_snapshots_is_taken_and_the_other_told() -> None:
    forged = snapshots(a_point(3, {"machineType": "forged", "left_out": []}))
    listed = [*snapshots(a_point(3)), changed(forged[0], name="sk-forged")]
    found = only(catalogue.read(listed))
    assert found.manifest is not None
    assert found.manifest.definition == DEFINITION
    assert "2 different manifests" in found.fault


def test_no_more_manifests_of_a_set_are_looked_at_than_the_bound() -> None:
    forged = [
        changed(snapshots(a_point(1, {"hostname": str(n), "left_out": []}))[0], name=f"sk-{n}") for n in range(20)
    ]
    found = only(catalogue.read(forged))
    assert "carry 20 manifests: the 4 on most of them are read" in found.fault


def signed(text: bytes, parts: str = "1/1") -> str:
    """A description with a manifest that somebody else has written."""
    packed = zlib.compress(text)
    data = base64.b64encode(packed).decode()
    return f"x snapkeep-manifest/1 {parts} disk=1 attempt=1 crc32={zlib.crc32(packed):08x} {data}"


def forged(**changes: Any) -> bytes:
    whole = json.loads(msgspec.json.encode(manifest.manifest_of(a_point(1), "acme", None)))
    return json.dumps({**whole, **changes}).encode()


@pytest.mark.parametrize(
    "said",
    [
        "snapkeep-manifest/1",
        "snapkeep-manifest/2 1/1 disk=1 attempt=1 crc32=00000000 AAAA",
        "snapkeep-manifest/1 0/0 disk=1 attempt=1 crc32=00000000 AAAA",
        "snapkeep-manifest/1 2/1 disk=1 attempt=1 crc32=00000000 AAAA",
        "snapkeep-manifest/1 1/999 disk=1 attempt=1 crc32=00000000 AAAA",
        "snapkeep-manifest/1 1/1 disk=1 attempt=1 crc32=00000000 AAAA",
        "snapkeep-manifest/1 1/1 disk=1 attempt=1 crc32=00000000 A",
        signed(b"not JSON"),
        signed(b"[" * 100_000),
        signed(b" " * (manifest.JSON_BYTES_MAX + 1)),  # a kilobyte that unpacks to a megabyte
        signed(b"{}"),
        signed(forged(version=2)),
        signed(forged(disks=[])),
        signed(forged(tenant="../other")),
        signed(forged(point="20261101\n")),
        signed(forged(definition=[])),
        signed(forged(requested_at="2026-11-01T00:00:00")),
        signed(forged(instance={"project": "p;rm -rf", "zone": "z", "region": "r", "name": "n", "id": "1"})),
        signed(forged(), "1/2"),
    ],
)
def test_a_damaged_or_forged_manifest_is_named_and_fails_nothing(said: str) -> None:
    (one,) = snapshots(a_point(1), description=said)
    found = only(catalogue.read([one]))
    assert found.manifest is None
    assert found.fault
    assert not found.complete


def test_a_manifest_with_the_same_disk_twice_is_damaged() -> None:
    disk = json.loads(forged())["disks"][0]
    (one,) = snapshots(a_point(1), description=signed(forged(disks=[disk, disk])))
    assert "a disk twice" in only(catalogue.read([one])).fault


def test_what_a_forged_manifest_says_is_left_out_is_in_one_line() -> None:
    lines = forged(definition={"left_out": ["metadata a\nrm -rf /", {"b": 1}] + ["c"] * 2_000})
    (one,) = snapshots(a_point(1), description=signed(lines))
    found = only(catalogue.read([one]))
    assert found.manifest is not None
    lacking = found.manifest.definition["left_out"]
    assert lacking[0] == "metadata a?rm -rf /"
    assert len(lacking) == manifest.LEFT_OUT_MAX


CUT = st.builds(
    lambda text, at, to: text[:at] + text[to:],
    st.sampled_from([s.description for s in snapshots(a_point(3, {**DEFINITION, "hostname": noise(2500)}))]),
    st.integers(0, 2048),
    st.integers(0, 2048),
)
SAID = st.one_of(
    st.text(max_size=300), CUT, st.binary(max_size=200).map(signed), VALUES.map(msgspec.json.encode).map(signed)
)
LABELS = st.dictionaries(
    st.sampled_from(("snapkeep-tenant", "snapkeep-point", "snapkeep-role")), st.text(max_size=10) | st.just("acme")
)


@given(st.lists(st.builds(lambda said, labels: (said, labels), SAID, LABELS), max_size=8))
@settings(deadline=None, max_examples=150)
def test_nothing_that_descriptions_or_labels_say_makes_a_listing_fail(
    foreign: list[tuple[str, dict[str, str]]],
) -> None:
    whole = snapshots(a_point(3))
    strange = [
        changed(whole[n % 3], name=f"x-{n}", description=said, labels={**whole[0].labels, **labels})
        for n, (said, labels) in enumerate(foreign)
    ]
    listing = catalogue.read([*strange, *whole])
    true = next(one for one in listing.sets if (one.tenant, one.point) == ("acme", a_point().id))
    assert true.manifest is not None
    assert {s.name for s in whole} <= {s.name for s in true.snapshots}
    assert sum(len(one.snapshots) for one in listing.sets) + listing.strangers_total == len(strange) + 3
