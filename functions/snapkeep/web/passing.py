"""What is said while the database does not answer, the same for pages and API: come back, and when."""

from __future__ import annotations

from typing import Final

import flask

from snapkeep.ports import Transient

RETRY_AFTER_S: Final = 5
"""What a client is told to wait when the database did not answer."""


def passing(error: Transient, said: flask.Response) -> flask.Response:
    """What is `said` of it, as a 503 with Retry-After. The fault itself is logged and told to nobody."""
    flask.current_app.logger.warning("the database did not answer: %s", error)
    said.status_code = 503
    said.headers["Retry-After"] = str(RETRY_AFTER_S)
    return said
