"""Every file that is generated from something else of this tree: `make generate` writes what is stale.

A file comes here by its line in GENERATED. tests/infra/test_generate.py fails where one is not what it would be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from infra import scale
from snapkeep import access, indexes, permissions

ROOT: Final = Path(__file__).parents[1]

GENERATED: Final[dict[str, Callable[[], str]]] = {
    "docs/access.md": access.page,
    "docs/permissions.md": permissions.page,
    "docs/scale.md": scale.written,
    "infra/firestore.yaml": indexes.page,
}
"""By its path from the root of the tree, what makes its text. It reads no clock and no environment."""


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Each file under `root` that is missing or is not what would be generated, with what should stand there."""
    for name, text in GENERATED.items():
        file, wanted = root / name, text()
        if not file.exists() or file.read_text(encoding="utf-8") != wanted:
            yield file, wanted


def main() -> None:
    """Write what is stale, and name it."""
    for file, wanted in stale():
        file.write_text(wanted, encoding="utf-8")
        sys.stdout.write(f"{file.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
