"""Generated files stand in the tree as they would be generated, and `make generate` writes those that do not."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra import generate


def test_every_generated_file_is_what_would_be_generated() -> None:
    assert [file.relative_to(generate.ROOT).as_posix() for file, _ in generate.stale()] == [], "make generate"


def test_a_file_that_was_edited_or_is_missing_is_stale(tmp_path: Path) -> None:
    for name in generate.GENERATED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(generate.ROOT / name, tmp_path / name)
    assert list(generate.stale(tmp_path)) == []
    for name, text in generate.GENERATED.items():
        file = tmp_path / name
        file.write_text(text() + "by hand\n", encoding="utf-8")
        assert list(generate.stale(tmp_path)) == [(file, text())]
        file.unlink()
        assert list(generate.stale(tmp_path)) == [(file, text())]
        file.write_text(text(), encoding="utf-8")
