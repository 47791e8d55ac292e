"""Unpacks from the wheel of the typed bindings what the schema is read from: `bindings.py WHEEL_OR_FOLDER TO`.

Source maps, nine tenths of a file, and what is for other languages stay behind.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def unpack(wheel: Path, to: Path) -> int:
    """How many files were written; their folders are those of the package's `lib`."""
    with zipfile.ZipFile(wheel) as file:
        [archive] = [name for name in file.namelist() if name.endswith(".jsii.tgz")]
        inner = io.BytesIO(file.read(archive))
    written = 0
    with tarfile.open(fileobj=inner, mode="r|gz") as files:
        for member in files:
            path = Path(member.name)
            if path.parts[:2] != ("package", "lib") or not path.name.endswith((".js", ".d.ts")):
                continue
            content = files.extractfile(member)
            if content is None:
                continue
            target = to.joinpath(*path.parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read().split(b"//# sourceMappingURL=", 1)[0])
            written += 1
    return written


def main() -> None:
    source, to = map(Path, sys.argv[1:])
    wheel = source if source.is_file() else max(source.glob("*.whl"))
    sys.stdout.write(f"{unpack(wheel, to)} files of {wheel.name}\n")


if __name__ == "__main__":
    main()
