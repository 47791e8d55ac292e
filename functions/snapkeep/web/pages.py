"""The pages: rendered on the server, kept current by a fragment that is asked for again, under a strict policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import flask
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, RequestEntityTooLarge, Unauthorized

from snapkeep import views
from snapkeep.access import Action
from snapkeep.ports import Ports, Transient
from snapkeep.restore.progress import duration, last_test
from snapkeep.store import QUERIES, REJECTED_KEPT
from snapkeep.views import BadCursor
from snapkeep.web import fleet_page
from snapkeep.web.door import Door, present
from snapkeep.web.passing import passing
from snapkeep.web.people import Looking, add_sign_in, form_fields, sign_in_page
from snapkeep.web.points import add_points
from snapkeep.web.restores import add_restores
from snapkeep.web.tenants import add_tenants
from snapkeep.wording import age, copies, count, moment, size

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing from elsewhere, nothing inline."""

ASSETS: Final = Path(__file__).parent / "assets"

POLL_S: Final = 5
"""Between two questions of an open page whether anything has changed: three reads each."""

STALE_S: Final = 20
"""After so long without an answer the page says that it is not current: four questions."""

FOREVER: Final = "public, max-age=31536000, immutable"
"""Cache-Control of a file that is asked for by the hash of what it holds."""


ACTIONS: Final[Mapping[str, Action]] = {
    "pages.fleet": "fleet.read",
    "pages.fleet_now": "fleet.read",
    "pages.tenant": "tenant.read",
    "pages.add_hold": "hold.add",
    "pages.release_hold": "hold.release",
    "pages.request_copy": "copy.request",
    "pages.pause": "tenant.pause",
    "pages.resume": "tenant.resume",
    "pages.override": "retention.override",
    "pages.schedule": "schedule.switch",
    "pages.point": "point.read",
    "pages.request_restore": "restore.request",
    "pages.restore": "restore.read",
    "pages.restore_now": "restore.read",
    "pages.approve_restore": "restore.approve",
    "pages.cancel_restore": "restore.cancel",
    "pages.undo_restore": "restore.request",
    "pages.orphans": "orphan.read",
}
"""What each page is, in the words of `access`."""


def action_of(endpoint: str | None) -> Action | None:
    """The action of one of Flask's endpoints, if it is a page."""
    return ACTIONS.get(endpoint or "")


def blueprint(ports: Ports, door: Door) -> flask.Blueprint:
    pages = flask.Blueprint("pages", __name__)
    looking = Looking(door.verified)
    add_sign_in(pages, ports, door)
    add_tenants(pages, ports, door, looking)
    add_points(pages, ports, door, looking)
    add_restores(pages, ports, door, looking)

    @pages.app_context_processor
    def who_looks() -> dict[str, object]:
        return {"looking": looking, "form_fields": partial(form_fields, ports, door)}

    def seen() -> str | None:
        """The one tenant that the caller sees; None for all of them."""
        door.enter("fleet.read")
        caller = present()
        return caller.tenant if caller.role == "client_admin" else None

    @pages.get("/")
    def fleet() -> str:
        after = flask.request.args.get("after") or None
        return flask.render_template("fleet.html", **_fleet(ports, seen(), after))

    @pages.get("/fleet")
    def fleet_now() -> flask.typing.ResponseReturnValue:
        """What of the page changes, or 204 where nothing has since version `seen`."""
        asked, only = flask.request.args, seen()
        if asked.get("seen") == views.fleet_version(ports, only=only):
            return "", 204
        after = asked.get("after") or None
        return flask.render_template("fleet_now.html", **_fleet(ports, only, after))

    pages.register_error_handler(BadCursor, lambda error: (_failure("No such page", str(error)), 400))
    pages.register_error_handler(BadRequest, lambda error: (_failure("No such page", error.description or ""), 400))

    @pages.errorhandler(Unauthorized)
    def nobody(error: Unauthorized) -> tuple[str, int]:
        """A local cloud asks who it is; elsewhere IAP has, and what it says is not to be believed."""
        if door.verified:
            return _failure("Nobody is signed in", error.description), 401
        return sign_in_page(ports), 401

    pages.register_error_handler(Forbidden, lambda error: (_failure("Not for you", error.description), 403))
    pages.register_error_handler(NotFound, lambda error: (_failure("There is nothing here", None), 404))
    pages.register_error_handler(
        RequestEntityTooLarge, lambda error: (_failure("Too much for one form", error.description), 413)
    )
    pages.register_error_handler(Transient, _passing)
    pages.add_app_template_filter(_instant, "instant")
    pages.add_app_template_filter(age, "age")
    pages.add_app_template_filter(moment, "moment")
    pages.add_app_template_filter(size, "size")
    pages.add_app_template_filter(count, "count_of")
    pages.add_app_template_filter(copies, "copies")
    pages.add_app_template_filter(last_test, "last_test")
    pages.add_app_template_filter(lambda seconds: duration(timedelta(seconds=seconds)), "duration")
    pages.add_app_template_filter(fleet_page.cut, "cut")
    pages.add_app_template_global(asset)
    return pages


def _fleet(ports: Ports, only: str | None, after: str | None) -> dict[str, object]:
    """What the template shows."""
    view = views.fleet(ports, after, only=only)
    last = fleet_page.last_day(view.at, [line.days for line in view.tenants])
    strips = {line.id: fleet_page.strip(line.days, last) for line in view.tenants}
    said = fleet_page.own_verdict(view) if only else fleet_page.verdict(view, first=after is None)
    return {
        "view": view,
        "paused": fleet_page.paused(views.controls(ports, only=only).paused),
        "after": after,
        "verdict": said,
        "title": f"{said.text} · Snapkeep",
        "concerns": fleet_page.concerns(view),
        "tiles": fleet_page.tiles(view),
        "strips": strips,
        "window": next((strip.days for strip in strips.values()), ()),
        "state_words": fleet_page.STATE_WORDS,
        "names_shown": fleet_page.NAMES_SHOWN,
        "periods": views.PERIODS,
        "bad_of_a_kind": QUERIES["rejected_newest"].limit,
        "bad_days": REJECTED_KEPT.days,
        "poll_s": POLL_S,
        "stale_s": STALE_S,
    }


def _instant(at: datetime) -> str:
    """As the attribute `datetime` has it: RFC 3339 in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _failure(what: str, why: str | None) -> str:
    return flask.render_template("failure.html", what=what, why=why)


def _passing(error: Transient) -> flask.Response:
    said = _failure("The database did not answer", "This passes as a rule; load the page again.")
    return passing(error, flask.Response(said, mimetype="text/html"))


# --- assets -------------------------------------------------------------------------------------------------------


def asset(name: str) -> str:
    """The address of a file in assets/, with the hash of what it holds: another content has another address."""
    return flask.url_for("static", filename=name, v=_hash(name))


@lru_cache(maxsize=32)
def _hash(name: str) -> str:
    return hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:16]


def harden(response: flask.Response) -> flask.Response:
    """The headers of every answer."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Referrer-Policy"] = "same-origin"  # with less, a form does not say where it comes from
    served = flask.request.method in ("GET", "HEAD")  # OPTIONS reads no file: its path was not looked at by anybody
    if flask.request.endpoint == "static" and served and response.status_code in (200, 304):
        name = (flask.request.view_args or {}).get("filename", "")
        asked_by_hash = flask.request.args.get("v") == _hash(name)
        response.headers["Cache-Control"] = FOREVER if asked_by_hash else "no-cache"
    else:
        response.headers.setdefault("Cache-Control", "no-store")
    return response
