"""The simulated cloud in a file, so that it outlives `snapkeep up` where the emulators do.

The documents of a kept Firestore speak of instances and snapshots by their numeric ids, so they are of use with the
cloud that they came about in and with no other. An id, in the file and in a document of that Firestore, says which
cloud belongs to which documents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from snapkeep.ports import Create, Documents, Replace
from snapkeep_local.cloud import Saved
from snapkeep_local.timekeeper import Mode

MARKER: Final = "_local/cloud"
"""The document that holds the id of the cloud that the others belong to; a collection of the local cloud's own."""

FILE: Final = "cloud.json"


class Unreadable(Exception):
    """The file is no saved cloud; the message says where and why, and what to do, in one line."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `up` needs to go on with a cloud."""

    id: str
    clock: Mode
    seed: int
    invented: list[str]  # what was made for a fleet file (links); it is not made again
    cloud: Saved


def belonging(documents: Documents, folder: Path) -> Kept | None:
    """The cloud in the folder, if it is the one that the documents belong to. Raises Unreadable, Transient."""
    (marker,) = documents.get(MARKER)
    path = folder / FILE
    if marker is None or not path.exists():
        return None
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: not a saved cloud ({error}); remove it to begin a new one") from None
    return kept if kept.id == marker.data.get("cloud") else None


def claim(documents: Documents, id: str) -> None:
    """Say that the documents belong to the cloud of this id from now on. Raises Transient."""
    (marker,) = documents.get(MARKER)
    data = {"cloud": id}
    documents.commit(Replace(MARKER, data, marker.version) if marker else Create(MARKER, data))


def keep(folder: Path, kept: Kept) -> None:
    """Write it down whole, in the place of what was there, or not at all."""
    whole = folder / FILE
    part = whole.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(kept))
    part.replace(whole)
