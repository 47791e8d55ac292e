"""A tenant's page and what may be done on it, and the page of orphans. Each form is an act of `commands`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import flask
import msgspec
from werkzeug.exceptions import BadRequest, Forbidden, NotFound

from snapkeep import commands, views
from snapkeep.access import Action
from snapkeep.commands import Asked
from snapkeep.documents import TENANT_ID_WORD
from snapkeep.ports import Ports
from snapkeep.retention.rules import UnsafePlan
from snapkeep.web import door, tenant_page
from snapkeep.web.fleet_page import STATE_WORDS
from snapkeep.web.mistakes import mistake
from snapkeep.web.people import Looking
from snapkeep.web.routes import PATH

K = TypeVar("K", bound=commands.Ask)

TENANT: Final = re.compile(TENANT_ID_WORD)
"""A tenant's id, before it becomes a part of a document's path."""

POINTS_MAX: Final = 2_000
"""Stored points that one page weighs; those of more instances the command line shows one by one."""

DONE: Final[Mapping[str, str]] = {
    "held": "Held. What was expiring of it has come back.",
    "held_late": "Held. The deletion of points had begun before: only what had not been asked for yet stays of them.",
    "released": "Released. What nothing else keeps goes after 24 hours of grace.",
    "paused": "Paused: nothing new of the kind begins.",
    "resumed": "Resumed.",
    "copying": "Asked for. Each disk is copied in full, through a temporary disk; the list below shows its way.",
    "overridden": "Overridden: the next evaluation weighs its points as if it were not in breach.",
    "switched": "Switched.",
}
"""What a page says after an act that led back to it, by the word in its address."""


def add_tenants(pages: flask.Blueprint, ports: Ports, way_in: door.Door, looking: Looking) -> None:
    """`/tenants/{id}`, the forms on it, and `/orphans`."""

    def show(id: str, refused: str | None = None) -> str:
        way_in.enter("tenant.read", id)
        view = views.tenant(ports, id) if TENANT.fullmatch(id) else None
        if view is None:
            raise NotFound
        deployment = view.tenant.deployment
        may = partial(looking.may, tenant=id, deployment=deployment)
        return flask.render_template(
            "tenant.html",
            view=view,
            tenant=view.tenant,
            may=may,
            state_words=STATE_WORDS,
            refused=refused,
            did=DONE.get(flask.request.args.get("did", "")) if refused is None else None,
            page=tenant_page.page(
                view,
                views.retention(ports, id, points_max=POINTS_MAX) if may("retention.read") else None,
                views.holds(ports, id),
                views.controls(ports, only=id).paused,
                may,
            ),
        )

    def act(
        id: str,
        action: Action,
        kind: type[K],
        carry_out: Callable[[Ports, Asked, str, K], object],
        did: str,
        named: str = "hold",
    ) -> flask.typing.ResponseReturnValue:
        """Do what a form asks for and lead back to the page, or show the page with what stands against it.

        `named`: the field that stands in the path of the same act at the API, and not in its body.
        """
        way_in.form_is_ours(action)
        ask = None
        try:
            deployment = way_in.enter(action, id)
            ask = _asked_for(kind, named)
            path = {"tenant": id, named: flask.request.form.get(named, "")}
            answer = carry_out(ports, door.asked(door.present(), _key(), action, ask, path, deployment), id, ask)
        except Forbidden as error:
            return show(id, error.description), 403
        except (WrongForm, commands.Wrong) as error:
            return show(id, str(error)), 422
        except (commands.Clash, UnsafePlan) as error:
            if isinstance(error, commands.Clash):
                way_in.clashed(action, id, ask, error)
            return show(id, str(error)), 409
        except commands.NoTenant:
            raise NotFound from None
        late = isinstance(answer, commands.HoldAnswer) and answer.going
        return flask.redirect(flask.url_for("pages.tenant", id=id, did="held_late" if late else did), 303)

    @pages.get("/tenants/<id>")
    def tenant(id: str) -> str:
        return show(id)

    @pages.post("/tenants/<id>/holds")
    def add_hold(id: str) -> flask.typing.ResponseReturnValue:
        return act(id, "hold.add", commands.HoldAsk, commands.add_hold, "held")

    @pages.post("/tenants/<id>/release")
    def release_hold(id: str) -> flask.typing.ResponseReturnValue:
        hold = flask.request.form.get("hold", "")

        def release(ports: Ports, asked: Asked, tenant: str, ask: commands.ReleaseAsk) -> object:
            return commands.release_hold(ports, asked, tenant, hold, ask)

        return act(id, "hold.release", commands.ReleaseAsk, release, "released")

    @pages.post("/tenants/<id>/copies")
    def request_copy(id: str) -> flask.typing.ResponseReturnValue:
        point = flask.request.form.get("point", "").strip()

        def copy(ports: Ports, asked: Asked, tenant: str, ask: commands.CopyAsk) -> object:
            if not PATH["point"].accept(point):
                raise commands.Wrong(f"point: {point!r} is no point's id")
            return commands.request_copy(ports, asked, tenant, point, ask)

        return act(id, "copy.request", commands.CopyAsk, copy, "copying", named="point")

    @pages.post("/tenants/<id>/pause")
    def pause(id: str) -> flask.typing.ResponseReturnValue:
        def stop(ports: Ports, asked: Asked, tenant: str, ask: commands.PauseAsk) -> object:
            return commands.pause(ports, asked, ask.what, ask.reason, tenant=tenant)

        return act(id, "tenant.pause", commands.PauseAsk, stop, "paused")

    @pages.post("/tenants/<id>/resume")
    def resume(id: str) -> flask.typing.ResponseReturnValue:
        def go_on(ports: Ports, asked: Asked, tenant: str, ask: commands.PauseAsk) -> object:
            return commands.resume(ports, asked, ask.what, ask.reason, tenant=tenant)

        return act(id, "tenant.resume", commands.PauseAsk, go_on, "resumed")

    @pages.post("/tenants/<id>/override")
    def override(id: str) -> flask.typing.ResponseReturnValue:
        return act(id, "retention.override", commands.OverrideAsk, commands.override, "overridden")

    @pages.post("/tenants/<id>/schedule")
    def schedule(id: str) -> flask.typing.ResponseReturnValue:
        return act(id, "schedule.switch", commands.SwitchAsk, commands.switch_schedule, "switched")

    @pages.get("/orphans")
    def orphans() -> str:
        way_in.enter("orphan.read")
        after = flask.request.args.get("after") or None
        return flask.render_template("orphans.html", view=views.orphans(ports, after), after=after)


class WrongForm(Exception):
    """What is wrong with a form, in the words of its fields."""


NOT_ASKED: Final = frozenset({door.FORM_FIELD, door.KEY_FIELD})
"""Fields of a form that are not part of what is asked for."""


def _asked_for(kind: type[K], named: str) -> K:
    """What the form asks for, without the field `named`; one that was left empty was not given. Raises WrongForm."""
    form = flask.request.form
    left_out = NOT_ASKED | {named}
    given: dict[str, Any] = {name: form[name].strip() for name in form if name not in left_out and form[name].strip()}
    if "until" in given:
        given["until"] += ":00Z"  # as a browser gives it: to the minute, and the page says that it is UTC
    if "on" in given:
        given["on"] = given["on"] == "true"
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise WrongForm(mistake(error, given, kind)) from None


def _key() -> str:
    key = flask.request.form.get(door.KEY_FIELD, "")
    if not commands.KEY.fullmatch(key):
        raise BadRequest("this form has no key: load the page again")
    return key
