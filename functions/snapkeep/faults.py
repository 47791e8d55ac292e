"""What an error of Compute Engine means to Snapkeep: one table for the real adapter and for the local cloud."""

from __future__ import annotations

from typing import Final

from snapkeep.ports import Refused, Transient

PASSING_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})

PASSING_REASONS: Final = frozenset(
    {
        "rateLimitExceeded",
        "userRateLimitExceeded",
        "quotaExceeded",
        "RATE_LIMIT_EXCEEDED",
        "RESOURCE_OPERATION_RATE_EXCEEDED",
        "resourceNotReady",
        "RESOURCE_NOT_READY",
        "backendError",
    }
)
"""Reasons that pass whatever status they come with: Google answers an exhausted quota with 403."""


def translate(status: int, reason: str, message: str) -> Transient | Refused:
    """The exception for an HTTP error: Transient where asking again may help, Refused where it will not."""
    if status in PASSING_STATUS or reason in PASSING_REASONS:
        return Transient(message, code=status, reason=reason)
    return Refused(message, code=status, reason=reason)
