"""`Bus` on Cloud Pub/Sub (and on its emulator, where PUBSUB_EMULATOR_HOST names one)."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotInTime
from functools import cached_property
from typing import Final

from google.api_core import exceptions as errors
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import TransportError
from google.cloud.pubsub_v1 import PublisherClient  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.types import BatchSettings  # type: ignore[import-untyped]

from snapkeep.ports import Transient

CALL_TIMEOUT_S: Final = 10.0
"""One attempt to publish."""

CALLS_TIMEOUT_S: Final = 25.0
"""All attempts together: within the least timeout of a function (60 s), with room for its answer."""

ANSWER_TIMEOUT_S: Final = CALLS_TIMEOUT_S + CALL_TIMEOUT_S
"""How long the broker's word is waited for: the client's own bounds and the last attempt that they let begin."""

RETRY_PAUSE_MIN_S: Final = 0.1
RETRY_PAUSE_MAX_S: Final = 2.0

_PASSING: Final = (
    errors.Aborted,
    errors.BadGateway,
    errors.Cancelled,
    errors.DeadlineExceeded,
    errors.GatewayTimeout,
    errors.InternalServerError,
    errors.ServiceUnavailable,
    errors.TooManyRequests,
    errors.Unknown,
)

# Publishing twice does no harm: every message may arrive twice anyhow.
_RETRY: Final = Retry(
    predicate=if_exception_type(*_PASSING),
    initial=RETRY_PAUSE_MIN_S,
    maximum=RETRY_PAUSE_MAX_S,
    timeout=CALLS_TIMEOUT_S,
)


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
        except (*_PASSING, errors.RetryError, TransportError, NotInTime) as fault:
            lasting = fault.cause if isinstance(fault, errors.RetryError) else fault
            # Those without a code: nobody who could give one answered.
            raise Transient(f"{name}: {fault}", code=int(getattr(lasting, "code", None) or 503)) from fault
