"""How Firestore and Pub/Sub are called: how long a call may take, which faults may pass, and when to try again."""

from __future__ import annotations

from typing import Final

from google.api_core import exceptions as errors
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import TransportError

from snapkeep.ports import Transient

CALL_TIMEOUT_S: Final = 10.0
"""One attempt of one call. Both answer in tens of milliseconds; a page of large documents in under a second."""

CALLS_TIMEOUT_S: Final = 25.0
"""All attempts of one call together: within the least timeout of a function (60 s), with room for its answer."""

RETRY_PAUSE_MIN_S: Final = 0.1
RETRY_PAUSE_MAX_S: Final = 2.0

PASSING: Final = (
    errors.Aborted,
    errors.BadGateway,
    errors.Cancelled,
    errors.DeadlineExceeded,
    errors.GatewayTimeout,
    errors.InternalServerError,
    errors.ServiceUnavailable,
    errors.TooManyRequests,
    errors.Unknown,
    TransportError,
)
"""What a call may meet that may be gone at the next one."""


def again_on(*passing: type[Exception]) -> Retry:
    """Tries a call again on these, for CALLS_TIMEOUT_S; then google.api_core's RetryError with the last of them."""
    return Retry(
        predicate=if_exception_type(*passing),
        initial=RETRY_PAUSE_MIN_S,
        maximum=RETRY_PAUSE_MAX_S,
        timeout=CALLS_TIMEOUT_S,
    )


def transient(fault: BaseException, what: str = "") -> Transient:
    """A fault that lasted, in the port's words; `what` says what was being done."""
    lasting = fault.cause if isinstance(fault, errors.RetryError) else fault
    # Those without a code: nobody who could give one answered.
    code = int(getattr(lasting, "code", None) or 503)
    return Transient(f"{what}: {fault}" if what else str(fault), code=code)
