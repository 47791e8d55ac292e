"""`Bus` on Cloud Pub/Sub (and on its emulator, where PUBSUB_EMULATOR_HOST names one)."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotInTime
from functools import cached_property
from typing import Final

from google.api_core import exceptions as errors
from google.cloud.pubsub_v1 import PublisherClient  # type: ignore[import-untyped]  # no py.typed
from google.cloud.pubsub_v1.types import BatchSettings  # type: ignore[import-untyped]  # no py.typed

from snapkeep.gcp.calls import CALL_TIMEOUT_S, CALLS_TIMEOUT_S, PASSING, again_on, transient

ANSWER_TIMEOUT_S: Final = CALLS_TIMEOUT_S + CALL_TIMEOUT_S
"""How long the broker's word is waited for: the client's own bounds and the last attempt that they let begin."""

# Publishing twice does no harm: every message may arrive twice anyhow.
_RETRY: Final = again_on(*PASSING)


class GoogleBus:
    """Topics of one project. The client is made at the first call: its channel does not survive a fork.

    What no retry mends (permission, a topic that does not exist, an empty body) rises as google.api_core's exception.
    """

    def __init__(self, project: str, *, calls_timeout_s: float = CALLS_TIMEOUT_S) -> None:
        self._project = project
        self._retry = _RETRY.with_timeout(calls_timeout_s)

    @cached_property
    def _client(self) -> PublisherClient:
        # A batch of one leaves at once; a larger one would wait for company that never comes.
        return PublisherClient(batch_settings=BatchSettings(max_messages=1))

    def publish(self, topic: str, body: bytes) -> None:
        name = f"projects/{self._project}/topics/{topic}"
        try:
            self._client.publish(name, body, retry=self._retry, timeout=CALL_TIMEOUT_S).result(timeout=ANSWER_TIMEOUT_S)
        except (*PASSING, errors.RetryError, NotInTime) as fault:
            raise transient(fault, name) from fault
