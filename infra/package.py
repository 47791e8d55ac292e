"""The release: one zip of what a deployed function needs, the same bytes from the same tree on any machine.

Its name carries the hash of its bytes, so that a name says what is deployed: two builds of a commit are one release,
and an object of a release is never written twice. `make package` writes it and prints its path. Standard library alone.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""When every file of a release was changed: the earliest instant that a zip can name."""

MODE: Final = 0o100644
"""Of every file: a regular one, readable by all. A checkout's own permissions depend on who made it."""

UNIX: Final = 3
"""The system that a zip's permissions are read for."""

HASH_DIGITS: Final = 12
"""Of the SHA-256 of the bytes, in a release's name."""

LEFT_OUT: Final = (
    "snapkeep/cli/",
    "snapkeep/deployment.py",
    "snapkeep/doctor/",
    "snapkeep/gcp/platform.py",
    "snapkeep/gcp/signin.py",
    "snapkeep/indexes.py",
    "snapkeep/permissions.py",
)
"""What is for people at the command line and for this tree's own files: no function imports it, so none carries it."""


def contents(root: Path = ROOT) -> Iterator[tuple[str, bytes]]:
    """What a release of this tree holds: (name in it, bytes), in the order of the names."""
    functions = root / "functions"
    files = {"main.py": functions / "main.py", "requirements.txt": root / "requirements.txt"}
    for file in (functions / "snapkeep").rglob("*"):
        name = file.relative_to(functions).as_posix()
        if file.is_file() and not name.startswith(LEFT_OUT) and not any(map(_is_litter, name.split("/"))):
            files[name] = file
    for name in sorted(files):
        yield name, files[name].read_bytes()


def _is_litter(part: str) -> bool:
    """Whether a part of a path is what an interpreter, an editor or a desktop leaves behind."""
    return part == "__pycache__" or part.startswith(".") or part.endswith("~")


def release(root: Path = ROOT) -> tuple[str, bytes]:
    """A release's file name, `functions-{12 hex}.zip`, and its bytes."""
    held = io.BytesIO()
    # Stored, not deflated: what a compressor makes of the same bytes differs between its versions.
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as packed:
        for name, data in contents(root):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = UNIX
            entry.external_attr = MODE << 16
            packed.writestr(entry, data)
    whole = held.getvalue()
    return f"functions-{hashlib.sha256(whole).hexdigest()[:HASH_DIGITS]}.zip", whole


def main() -> None:
    """Write the release into build/, and print its path."""
    name, whole = release()
    file = ROOT / "build" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(whole)
    sys.stdout.write(f"{file.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
