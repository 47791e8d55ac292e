"""Who looks at a page: what its header says of him, and the local cloud's sign-in, which believes anybody."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import flask
from markupsafe import Markup
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from snapkeep import access
from snapkeep.access import Action, Allowed, Caller, Deployment
from snapkeep.local_sign_in import COOKIE, EMAIL
from snapkeep.ports import Ports
from snapkeep.store import Fleet
from snapkeep.web import door

ROLES_FIRST: Final = ("admin", "operator", "auditor", "viewer", "client_admin")
"""In which order the sign-in page names people."""


class Looking:
    """What a template asks about whoever looks at it."""

    def __init__(self, verified: bool) -> None:
        self.verified = verified

    @property
    def caller(self) -> Caller | None:
        found = flask.g.get("caller")
        return found if isinstance(found, Caller) else None

    def may(self, action: Action, tenant: str | None = None, deployment: Deployment | None = None) -> bool:
        """Whether the table lets him. Nothing is shown that would be refused; what is asked for is decided again."""
        caller = self.caller
        return caller is not None and isinstance(access.decide(action, caller, tenant, deployment), Allowed)


def form_fields(ports: Ports, way_in: door.Door) -> Markup:
    """The hidden fields of every form: that it is ours, and a key under which it acts once."""
    fields = ((door.FORM_FIELD, way_in.form_token()), (door.KEY_FIELD, ports.clock.token()))
    return Markup("").join(
        Markup('<input type="hidden" name="{}" value="{}">').format(name, value) for name, value in fields
    )


def add_sign_in(pages: flask.Blueprint, ports: Ports, way_in: door.Door) -> None:
    """`/sign-in` and `/sign-out` of a local cloud; elsewhere there is nothing of the kind."""

    def local_only() -> None:
        if way_in.verified:
            raise NotFound

    @pages.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> flask.typing.ResponseReturnValue:
        local_only()
        if flask.request.method != "POST":
            return sign_in_page(ports)
        way_in.form_is_ours(None)
        email = flask.request.form.get("email", "").strip().lower()
        known = Fleet(ports.documents).principal(email) if EMAIL.fullmatch(email) else None
        if known is None:
            return sign_in_page(ports, f"{email or 'Nobody'} is not known here"), 403
        answer = flask.redirect(_own_path(flask.request.form.get("next", "")), 303)
        answer.set_cookie(COOKIE, email, httponly=True, samesite="Strict", path="/")
        return answer

    @pages.post("/sign-out")
    def sign_out() -> Response:
        local_only()
        way_in.form_is_ours(None)
        answer = flask.redirect(flask.url_for("pages.sign_in"), 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="Strict", path="/")
        return answer


def sign_in_page(ports: Ports, refused: str | None = None) -> str:
    """Everybody whom this local cloud knows, as buttons; then where he was going."""
    people = [
        {
            "email": email,
            "role": one.role,
            "tenant": one.tenant,
            "words": access.ROLE_WORDS[one.role],
        }
        for email, one in Fleet(ports.documents).principals()
    ]
    people.sort(key=lambda one: (ROLES_FIRST.index(str(one["role"])), str(one["email"])))
    asked = flask.request.form.get("next") or flask.request.args.get("next") or _here()
    return flask.render_template("sign_in.html", people=people, refused=refused, next=_own_path(asked))


def _here() -> str:
    """The page that was asked for, if it is one."""
    asked = flask.request
    return asked.full_path.rstrip("?") if asked.method == "GET" and asked.endpoint != "pages.sign_in" else "/"


def _own_path(path: str) -> str:
    """A path of this site, as it may follow a sign-in; the first page for anything else."""
    ours = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return quote(path, safe="/?&=%.~|:-_") if ours else "/"
