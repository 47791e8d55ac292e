"""A point's page, and what is asked for on it: a restore."""

from __future__ import annotations

import re
from typing import Final

import flask
from werkzeug.exceptions import NotFound

from snapkeep import views
from snapkeep.documents import TENANT_ID_WORD
from snapkeep.ports import Ports
from snapkeep.store import Fleet
from snapkeep.web import door, point_page
from snapkeep.web.people import Looking
from snapkeep.web.routes import PATH

TENANT: Final = re.compile(TENANT_ID_WORD)
"""A tenant's id, before it becomes a part of a document's path."""


def add_points(pages: flask.Blueprint, ports: Ports, way_in: door.Door, looking: Looking) -> None:
    """`/tenants/{id}/points/{point}`."""

    def show(id: str, point: str, refused: str | None = None) -> str:
        way_in.enter("point.read", id)
        known = TENANT.fullmatch(id) and PATH["point"].accept(point)
        owner = Fleet(ports.documents).tenants_by_id([id]).get(id) if known else None
        found = views.point_of(ports, id, point) if owner else None
        if owner is None or found is None:
            raise NotFound
        return flask.render_template(
            "point.html",
            tenant=owner.value,
            point=found,
            page=point_page.page(found),
            now=ports.clock.now(),
            refused=refused,
        )

    @pages.get("/tenants/<id>/points/<point>")
    def point(id: str, point: str) -> str:
        return show(id, point)
