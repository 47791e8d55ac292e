"""The pages: rendered on the server, kept current by a fragment that is asked for again, under a strict policy."""

from __future__ import annotations

from typing import Final

import flask

from snapkeep import views
from snapkeep.ports import Ports

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing from elsewhere, nothing inline."""


def blueprint(ports: Ports) -> flask.Blueprint:
    pages = flask.Blueprint("pages", __name__)

    @pages.get("/")
    def fleet() -> str:
        view = views.fleet(ports, flask.request.args.get("after") or None)
        return flask.render_template("fleet.html", view=view)

    return pages


def harden(response: flask.Response) -> flask.Response:
    """The headers of every answer."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-store")
    return response
