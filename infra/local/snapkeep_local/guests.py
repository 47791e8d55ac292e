"""`Guests` of the state machine in this process."""

from __future__ import annotations

from snapkeep.documents import Probe
from snapkeep_local.cloud import Cloud


class CloudGuests:
    """An application answers wherever its instance runs from its boot disk, at every port, unless told otherwise."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def reach(self, address: str, probe: Probe) -> str | None:
        return self._cloud.silence(address)

    def contents(self, link: str) -> str | None:
        return self._cloud.held(link)
