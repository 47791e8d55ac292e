"""A point's page, and what is asked for on it: a restore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

import flask
from werkzeug.exceptions import NotFound

from snapkeep import views
from snapkeep.commands import Asked
from snapkeep.documents import TENANT_ID_WORD
from snapkeep.ports import Ports
from snapkeep.restore import commands
from snapkeep.restore.planning import RestoreAsk
from snapkeep.store import Fleet
from snapkeep.web import door, forms, point_page, restore_form, restore_page
from snapkeep.web.people import Looking
from snapkeep.web.routes import PATH

TENANT: Final = re.compile(TENANT_ID_WORD)
"""A tenant's id, before it becomes a part of a document's path."""

CHANGED: Final = "What is asked for was changed after it was planned: this is the plan of it now."


def add_points(pages: flask.Blueprint, ports: Ports, way_in: door.Door, looking: Looking) -> None:
    """`/tenants/{id}/points/{point}` and the form on it."""

    def show(
        id: str,
        point: str,
        given: Mapping[str, str] | None = None,
        plan: commands.RestoreAnswer | None = None,
        refused: str | None = None,
    ) -> str:
        way_in.enter("point.read", id)
        known = TENANT.fullmatch(id) and PATH["point"].accept(point)
        owner = Fleet(ports.documents).tenants_by_id([id]).get(id) if known else None
        found = views.point_of(ports, id, point) if owner else None
        if owner is None or found is None:
            raise NotFound
        may = partial(looking.may, tenant=id, deployment=owner.value.deployment)
        offered = restore_form.form(found, given or {}, plan.plan.lacking if plan else None)
        return flask.render_template(
            "point.html",
            tenant=owner.value,
            point=found,
            page=point_page.page(found),
            now=ports.clock.now(),
            form=offered if may("restore.request") and point_page.may_be_restored(found) else None,
            plan=restore_page.plan(plan.plan) if plan else None,
            refused=refused,
        )

    def ask(id: str, point: str, given: Mapping[str, str], *, dry_run: bool) -> commands.RestoreAnswer | forms.Refused:
        def request(asked: Asked, ask: RestoreAsk) -> commands.RestoreAnswer:
            return commands.request(ports, asked, id, ask)

        def read() -> RestoreAsk:
            return forms.typed(RestoreAsk, restore_form.asked(given, point, dry_run=dry_run))

        return forms.act(ports, way_in, "restore.request", id, {}, read, request)

    @pages.get("/tenants/<id>/points/<point>")
    def point(id: str, point: str) -> str:
        return show(id, point)

    @pages.post("/tenants/<id>/points/<point>/restores")
    def request_restore(id: str, point: str) -> flask.typing.ResponseReturnValue:
        """Plan what the form says, or ask for it, if that is what was planned."""
        given = flask.request.form
        wanted, refused = given.get("act") == "request", None
        if wanted and restore_form.is_planned(given):
            answer = ask(id, point, given, dry_run=False)
            if not isinstance(answer, forms.Refused):
                path = flask.url_for("pages.restore", id=id, restore=answer.restore, did="requested")
                return flask.redirect(path, 303)
            refused = answer
        plan = ask(id, point, given, dry_run=True)
        if isinstance(plan, forms.Refused):
            refused = refused or plan
            return show(id, point, given, None, refused.said), refused.status
        if refused is not None:
            return show(id, point, given, plan, refused.said), refused.status
        return show(id, point, given, plan, CHANGED if wanted else None)
