"""Google Cloud's regions and their zones, as `zones.list` names them (cloud.google.com/compute/docs/regions-zones)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

REGIONS: Final = (
    "africa-south1",
    "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3", "asia-south1", "asia-south2",
    "asia-southeast1", "asia-southeast2",
    "australia-southeast1", "australia-southeast2",
    "europe-central2", "europe-north1", "europe-southwest1", "europe-west1", "europe-west2", "europe-west3",
    "europe-west4", "europe-west6", "europe-west8", "europe-west9", "europe-west10", "europe-west12",
    "me-central1", "me-central2", "me-west1",
    "northamerica-northeast1", "northamerica-northeast2", "northamerica-south1",
    "southamerica-east1", "southamerica-west1",
    "us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4",
)  # fmt: skip

_LETTERS: Final[Mapping[str, str]] = {"europe-west1": "bcd", "us-central1": "abcf", "us-east1": "bcd"}
_LETTERS_OTHERWISE: Final = "abc"


def zones(beside: Iterable[str] = ()) -> Iterator[str]:
    """Every zone by its name, in order: of the known regions and of those `beside` them, which are invented."""
    for region in sorted({*REGIONS, *beside}):
        for letter in _LETTERS.get(region, _LETTERS_OTHERWISE):
            yield f"{region}-{letter}"
