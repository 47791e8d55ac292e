"""A tenant's page and what may be done on it, and the page of orphans. Each form is an act of `commands`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import flask
from werkzeug.exceptions import NotFound

from snapkeep import commands, views
from snapkeep.access import Action
from snapkeep.commands import Asked
from snapkeep.documents import TENANT_ID_WORD
from snapkeep.ports import Ports
from snapkeep.web import door, forms, tenant_page
from snapkeep.web.fleet_page import STATE_WORDS
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
        paused = views.controls(ports, only=id).paused
        restored = views.restores(ports, id) if may("restore.read") else None
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
                paused,
                may,
                restored.restores if restored else None,
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
        path = {named: flask.request.form.get(named, "")}
        answer = forms.act(
            ports,
            way_in,
            action,
            id,
            path,
            lambda: forms.asked_for(kind, named),
            lambda asked, ask: carry_out(ports, asked, id, ask),
        )
        if isinstance(answer, forms.Refused):
            return show(id, answer.said), answer.status
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
