"""An exported chain: no byte of it can be changed without being found."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.makers import THEN

from snapkeep.audit import chain, export
from snapkeep.documents import AuditRecord
from snapkeep.store import canonical, timestamp


def links(tenant: str, count: int) -> list[AuditRecord]:
    bodies = [
        canonical(
            {
                "at": timestamp(THEN + timedelta(minutes=number)),
                "actor": "snapkeep",
                "action": "point.verified",
                "subject": f"points/{number}",
                "outcome": "succeeded",
                "tenant": tenant,
                "detail": {"name": "São Paulo" if number else ""},
            }
        )
        for number in range(count)
    ]
    return chain.append(chain.EMPTY, bodies)


def exported(folder: Path) -> Path:
    export.write(folder, {"acme": links("acme", 3), "beta": links("beta", 2), "_system": []})
    return folder


def small(folder: Path) -> Path:
    """The file of a chain of two records, alone in its export."""
    export.write(folder, {"acme": links("acme", 2)})
    return folder / "acme.jsonl"


def broken(folder: Path, noted: dict[str, chain.Head] | None = None) -> dict[str, list[int]]:
    """The numbers of the records that something is found about, by tenant."""
    verdicts = export.verify(folder, noted)
    return {v.tenant: sorted({f.seq for f in v.findings}) for v in verdicts if not v.intact}


def test_an_export_is_intact_and_says_where_each_chain_ends(tmp_path: Path) -> None:
    verdicts = export.verify(exported(tmp_path))
    assert [(v.tenant, v.records, v.intact) for v in verdicts] == [
        ("_system", 0, True),
        ("acme", 3, True),
        ("beta", 2, True),
    ]
    heads = export.read_heads(tmp_path / export.HEADS)
    assert heads == {v.tenant: v.head for v in verdicts}


def test_every_changed_byte_of_a_chain_is_found_in_its_line(tmp_path: Path) -> None:
    path = small(tmp_path)
    whole = path.read_bytes()
    line = 1
    for at, byte in enumerate(whole):
        for other in {byte ^ 1 << at % 8, 0x0A, 0x20} - {byte}:
            path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
            found = broken(tmp_path)
            assert set(found) == {"acme"}, f"byte {at} of {whole[max(at - 20, 0) : at + 20]!r}"
            assert set(found["acme"]) & {line, line + 1}, f"byte {at} is in record {line}: {found}"
        line += byte == 0x0A


def test_every_removed_and_every_added_byte_is_found(tmp_path: Path) -> None:
    path = small(tmp_path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + whole[at + 1 :])
        assert set(broken(tmp_path)) == {"acme"}
        path.write_bytes(whole[:at] + b" " + whole[at:])
        assert set(broken(tmp_path)) == {"acme"}
        path.write_bytes(whole[:at])
        assert set(broken(tmp_path)) == {"acme"}


def test_every_changed_byte_of_the_heads_is_found(tmp_path: Path) -> None:
    path = exported(tmp_path) / export.HEADS
    whole = path.read_bytes()
    for at, byte in enumerate(whole):
        for other in {byte ^ 1, byte ^ 0x20, byte ^ 0x80, 0x31} - {byte}:
            path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
            try:
                told = bool(broken(tmp_path))
            except export.Unreadable as error:
                told = export.HEADS in str(error)
            assert told, f"byte {at} of {whole!r} became {other:#x}"


Lines = list[bytes]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: lines[:2], [3]),
        (lambda lines: lines[1:], [1]),
        (lambda lines: [lines[0], lines[2]], [2]),
        (lambda lines: [lines[0], lines[2], lines[1]], [2, 3]),
        (lambda lines: [lines[0], lines[0], lines[1], lines[2]], [1]),
        (lambda lines: [*lines, lines[2]], [3]),
        (lambda lines: [], [1]),
        (lambda lines: [b"", *lines], [1]),
    ],
)
def test_lines_that_are_gone_repeated_or_in_another_order_are_found(
    tmp_path: Path, change: Callable[[Lines], Lines], expected: list[int]
) -> None:
    path = exported(tmp_path) / "acme.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line.removesuffix(b"\n") + b"\n" for line in change(lines)))
    found = broken(tmp_path)
    assert set(found) == {"acme"}
    assert set(expected) & set(found["acme"])


def test_a_chain_whose_file_is_gone_is_found(tmp_path: Path) -> None:
    (exported(tmp_path) / "acme.jsonl").unlink()
    assert broken(tmp_path) == {"acme": [1]}


def test_a_chain_that_was_put_in_is_found(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    (folder / "gamma.jsonl").write_bytes((folder / "beta.jsonl").read_bytes())
    assert set(broken(folder)) == {"gamma"}


def test_a_chain_under_another_tenants_name_is_found(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    (folder / "beta.jsonl").write_bytes((folder / "acme.jsonl").read_bytes())
    assert "beta" in broken(folder)


def test_a_chain_that_is_gone_from_files_and_heads_is_found_against_heads_noted_earlier(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    noted = export.read_heads(folder / export.HEADS)
    (folder / "acme.jsonl").unlink()
    heads = json.loads((folder / export.HEADS).read_bytes())
    del heads["acme"]
    (folder / export.HEADS).write_bytes(canonical(heads) + b"\n")
    assert broken(folder) == {}  # nothing in the export itself can tell
    assert broken(folder, noted) == {"acme": [1]}


def test_a_chain_that_was_forged_whole_is_found_against_heads_noted_earlier(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    noted = export.read_heads(folder / export.HEADS)
    export.write(folder, {"acme": links("acme", 2), "beta": links("beta", 2), "_system": []})
    assert broken(folder) == {}
    assert broken(folder, noted) == {"acme": [3]}
    export.write(folder, {"acme": links("acme", 5), "beta": links("beta", 2), "_system": []})
    assert broken(folder, noted) == {}  # a chain may grow


@pytest.mark.parametrize("id", ["chains", "heads", "tenant", "seq"])
def test_a_tenant_may_be_called_as_the_words_of_the_file_are(tmp_path: Path, id: str) -> None:
    export.write(tmp_path, {id: links(id, 2)})
    (verdict,) = export.verify(tmp_path)
    assert (verdict.tenant, verdict.records, verdict.intact) == (id, 2, True)


def test_exporting_again_replaces_the_export_before(tmp_path: Path) -> None:
    exported(tmp_path)
    export.write(tmp_path, {"beta": links("beta", 1)})
    assert [v.tenant for v in export.verify(tmp_path)] == ["beta"]
    assert not (tmp_path / "acme.jsonl").exists()


def test_exporting_into_a_folder_that_holds_other_files_removes_none_of_them(tmp_path: Path) -> None:
    other = tmp_path / "measurements.jsonl"
    other.write_text("{}\n")
    exported(tmp_path)
    assert other.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"[]", b"7", b"null", b'{"acme":7}', b'{"acme":{"seq":1}}', b'{"acme":{"seq":"x","hash":""}}', b"\xff"],
)
def test_heads_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = exported(tmp_path) / export.HEADS
    path.write_bytes(content)
    with pytest.raises(export.Unreadable, match=r"heads\.json"):
        export.verify(tmp_path)


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(export.Unreadable, match=r"heads\.json"):
        export.verify(tmp_path)


def test_a_record_whose_bytes_were_damaged_is_exported_as_damaged(tmp_path: Path) -> None:
    from msgspec.structs import replace

    records = links("acme", 2)
    records[1] = replace(records[1], bytes=b"\xff" + records[1].bytes)
    export.write(tmp_path, {"acme": records})
    assert broken(tmp_path) == {"acme": [2]}
