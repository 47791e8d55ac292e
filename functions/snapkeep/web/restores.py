"""A restore's page: live while it runs; and what is done to it there: approved, cancelled, undone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import flask
import msgspec
from werkzeug.exceptions import NotFound

from snapkeep import documents as d
from snapkeep import views
from snapkeep.access import Action
from snapkeep.asking import Ask
from snapkeep.commands import Asked
from snapkeep.documents import TENANT_ID_WORD
from snapkeep.ports import Ports
from snapkeep.restore import commands
from snapkeep.store import Fleet, canonical, digest
from snapkeep.web import door, fleet_page, forms, restore_page
from snapkeep.web.people import Looking
from snapkeep.web.routes import PATH

K = TypeVar("K", bound=Ask)

TENANT: Final = re.compile(TENANT_ID_WORD)
"""A tenant's id, before it becomes a part of a document's path."""

POLL_S: Final = 3
"""Between two questions of an open page whether anything has changed: a few reads each."""

STALE_S: Final = 20
"""After so long without an answer the page says that it is not current."""

DONE: Final[Mapping[str, str]] = {
    "requested": "Asked for. This page stays current.",
    "approved": "Approved. It begins within a minute.",
    "cancelled": "Cancelled.",
}
"""What a page says after an act that led to it, by the word in its address."""


def add_restores(pages: flask.Blueprint, ports: Ports, way_in: door.Door, looking: Looking) -> None:
    """`/tenants/{id}/restores/{restore}` and the forms on it."""

    def found(id: str, restore: str) -> tuple[d.Tenant, views.RestoreView]:
        way_in.enter("restore.read", id)
        known = TENANT.fullmatch(id) and PATH["restore"].accept(restore)
        owner = Fleet(ports.documents).tenants_by_id([id]).get(id) if known else None
        one = views.restore_of(ports, id, restore) if owner else None
        if owner is None or one is None:
            raise NotFound
        return owner.value, one

    def shown(owner: d.Tenant, one: views.RestoreView) -> dict[str, object]:
        """What the template shows."""
        may = partial(looking.may, tenant=owner.id, deployment=owner.deployment)
        kinds = views.controls(ports, only=owner.id).paused
        stopped = bool(fleet_page.stopped(kinds.restore))
        caller = looking.caller
        return {
            "tenant": owner,
            "restore": one,
            "page": restore_page.page(one, paused=stopped),
            "version": _version(one, stopped),
            "notices": fleet_page.paused(d.PausedKinds(restore=kinds.restore)),
            "own": caller is not None and caller.email == one.requested_by,
            "may_approve": may("restore.approve"),
            "may_cancel": may("restore.cancel") and one.cancellable,
            "may_undo": may("restore.request") and one.undo_refused is None,
            "poll_s": POLL_S,
            "stale_s": STALE_S,
        }

    def show(id: str, restore: str, refused: str | None = None) -> str:
        did = DONE.get(flask.request.args.get("did", "")) if refused is None else None
        return flask.render_template("restore.html", refused=refused, did=did, **shown(*found(id, restore)))

    @pages.get("/tenants/<id>/restores/<restore>")
    def restore(id: str, restore: str) -> str:
        return show(id, restore)

    @pages.get("/tenants/<id>/restores/<restore>/now")
    def restore_now(id: str, restore: str) -> flask.typing.ResponseReturnValue:
        """What of the page changes, or 204 where nothing has since version `seen`."""
        now = shown(*found(id, restore))
        if flask.request.args.get("seen") == now["version"]:
            return "", 204
        return flask.render_template("restore_now.html", **now)

    def act(
        id: str,
        restore: str,
        action: Action,
        kind: type[K],
        command: Callable[[Ports, Asked, str, str, K], commands.RestoreAnswer | commands.RestoreState],
        did: str,
    ) -> flask.typing.ResponseReturnValue:
        """Do what a form asks for and lead to the restore that it is about, or show what stands against it."""
        if not (TENANT.fullmatch(id) and PATH["restore"].accept(restore)):
            raise NotFound
        answer = forms.act(
            ports,
            way_in,
            action,
            id,
            {"restore": restore},
            lambda: forms.asked_for(kind),
            lambda asked, ask: command(ports, asked, id, restore, ask),
            lambda: commands.requested_by(ports, id, restore) if action == "restore.approve" else None,
        )
        if isinstance(answer, forms.Refused):
            return show(id, restore, answer.said), answer.status
        return flask.redirect(flask.url_for("pages.restore", id=id, restore=answer.restore, did=did), 303)

    @pages.post("/tenants/<id>/restores/<restore>/approval")
    def approve_restore(id: str, restore: str) -> flask.typing.ResponseReturnValue:
        return act(id, restore, "restore.approve", commands.ApprovalAsk, commands.approve, "approved")

    @pages.post("/tenants/<id>/restores/<restore>/cancellation")
    def cancel_restore(id: str, restore: str) -> flask.typing.ResponseReturnValue:
        return act(id, restore, "restore.cancel", commands.CancelAsk, commands.cancel, "cancelled")

    @pages.post("/tenants/<id>/restores/<restore>/undo")
    def undo_restore(id: str, restore: str) -> flask.typing.ResponseReturnValue:
        return act(id, restore, "restore.request", commands.UndoAsk, commands.undo, "requested")


def _version(restore: d.Restore, stopped: bool) -> str:
    """A digest of what is stored of it, and of whether restores are paused: of all that changes on the page."""
    stored = [getattr(restore, name) for name in d.Restore.__struct_fields__]
    return digest(canonical([msgspec.to_builtins(stored), stopped]).decode())[:16]
