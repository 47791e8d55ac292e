"""Compute Engine's refusals, as its v1 REST API words them."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_OF_USAGE: Final = ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded")


class ApiError(Exception):
    """A call that Compute Engine answers with an error: HTTP status, reason (`errors[0].reason`) and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def body(self) -> Json:
        """The error body of Google's JSON APIs."""
        domain = "usageLimits" if self.reason in _OF_USAGE else "global"
        error = {"message": self.message, "domain": domain, "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [error]}}


def not_found(link: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{link}' was not found")


def not_ready(link: str) -> ApiError:
    return ApiError(400, "resourceNotReady", f"The resource '{link}' is not ready")


def already_exists(link: str) -> ApiError:
    return ApiError(409, "alreadyExists", f"The resource '{link}' already exists")


def invalid(field: str, value: object, why: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")
