"""The door: who comes in, what he may do, and that he meant it. Whatever is asked for, by page or API, passes here.

Before anything else a request needs an identity (401) that `principals` knows (403). Each route says which action it
is; `access.decide` answers for the caller's role (403), and for a tenant that is not his (404, as if there were none).
A request that changes something carries a key, and comes from no other site. Refusals are audited.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, OrderedDict
from typing import Final, NoReturn

import flask
import msgspec
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, Unauthorized, UnsupportedMediaType

from snapkeep import access
from snapkeep.access import Action, Allowed, Caller, Denied
from snapkeep.commands import KEY, Asked, Clash
from snapkeep.documents import TENANT_ID_WORD, Principal
from snapkeep.messages import plain
from snapkeep.ports import Conflict, Identities, Ports, Transient, Unidentified
from snapkeep.store import SYSTEM, Fleet, Record, canonical

log: Final = logging.getLogger(__name__)

OPEN: Final = frozenset({"static", "pages.sign_in", "pages.sign_out"})
"""Endpoints that need no identity."""

BODY_BYTES_MAX: Final = 256 * 1024
"""Bytes of a request's body. A tenant of the fleet file with 200 instances is 20 KB."""

REFUSALS_REMEMBERED: Final = 1_000
"""Refusals that this process remembers to have audited, so that a flood of one kind is one write a minute."""

UNVERIFIED: Final = "unverified"

REFUSALS_A_MINUTE: Final = 20
"""Of one person that are told apart by what he chooses (a tenant's id, what clashes), by each process; then one says
that there were more."""

FORM_COOKIE: Final = "snapkeep-form"
HOST_FORM_COOKIE: Final = f"__Host-{FORM_COOKIE}"
"""The same over https: a name that browsers take from this very host alone."""

FORM_FIELD: Final = "form_token"
KEY_FIELD: Final = "idempotency_key"

SAME_SITE: Final = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of a request that one of our pages or the person himself has made. Programs send none."""


class Door:
    """The way in to one application."""

    def __init__(self, ports: Ports, identities: Identities) -> None:
        self._ports = ports
        self._identities = identities
        self._audited: OrderedDict[str, None] = OrderedDict()
        self._counted: tuple[str, Counter[str]] = ("", Counter())  # a minute, and the refusals of each in it

    @property
    def verified(self) -> bool:
        """False where anybody may say to be anybody (a local cloud)."""
        return self._identities.verified

    # --- who ------------------------------------------------------------------------------------------------------

    def identify(self, action: Action | None) -> Caller:
        """Who sends the present request. Raises Unauthorized, Forbidden, Transient.

        `action`: what he asks for, where it is known, for the record of a refusal.
        """
        try:
            email = self._identities.who(flask.request.headers.get, flask.request.cookies.get)
        except Unidentified as nobody:
            self._refused(UNVERIFIED, action, nobody.reason)
            raise Unauthorized(f"{nobody.reason}: sign in") from None
        principal = Fleet(self._ports.documents).principal(email)
        if principal is None or not _is_whole(principal):
            self._refused(email, action, "no principal")
            raise Forbidden(f"{email} is not known here: principals/{email} does not say what he may do")
        return Caller(email, principal.role, principal.tenant)

    # --- what -----------------------------------------------------------------------------------------------------

    def enter(
        self, action: Action, tenant: str | None = None, requested_by: str | None = None
    ) -> access.Deployment | None:
        """Let the present caller do this to a tenant, or to what is the fleet's; or raise Forbidden, NotFound.

        Reads the tenant where the answer depends on its deployment, and says then which it is. Raises Transient.
        """
        caller = present()
        right = access.RIGHTS[action]
        deployment: access.Deployment | None = None
        if tenant is not None and caller.sees(tenant) and right.saas != right.private_saas:
            # No path of a document is made of what could not be a tenant's id.
            known = [tenant] if re.fullmatch(TENANT_ID_WORD, tenant) else []
            owner = Fleet(self._ports.documents).tenants_by_id(known).get(tenant)
            if owner is None:
                raise NotFound
            deployment = owner.value.deployment
        match access.decide(action, caller, tenant, deployment, requested_by):
            case Allowed():
                return deployment
            case Denied(reason=reason, hidden=hidden):
                self._refused(caller.email, action, "another's tenant" if hidden else "not his to do", tenant)
                raise NotFound if hidden else Forbidden(reason)

    def asked(
        self, action: Action, body: msgspec.Struct, path: dict[str, str], deployment: access.Deployment | None
    ) -> Asked:
        """What the present caller asks for, under the key that he gave. Raises BadRequest without one."""
        key = flask.request.headers.get("Idempotency-Key", "")
        if not KEY.fullmatch(key):
            said = "missing" if not key else "not 1 to 200 printable characters without spaces"
            raise BadRequest(f"Idempotency-Key: {said}; expected a new one for each new request, the same to ask again")
        return asked(present(), key, action, body, path, deployment)

    # --- that he meant it -----------------------------------------------------------------------------------------

    def from_here(self, action: Action | None) -> None:
        """Refuse a request that another site made a browser send. Raises Forbidden."""
        site = flask.request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in SAME_SITE:
            self._forged(action, "sent by another site")

    def form_is_ours(self, action: Action | None) -> None:
        """Refuse a form that was not made by one of our pages for this browser. Raises Forbidden.

        Another site can make the browser send a form, but neither read nor set our cookie (SameSite=Strict), and it
        cannot hide where the form comes from.
        """
        self.from_here(action)
        origin = flask.request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != flask.request.host:
            self._forged(action, "sent by another site")
        token = flask.request.cookies.get(self.form_cookie)
        if not token or flask.request.form.get(FORM_FIELD) != token:
            self._forged(action, "this form is not one that this browser was given: load the page again")

    def _forged(self, action: Action | None, why: str) -> NoReturn:
        caller = flask.g.get("caller")
        who = caller.email if isinstance(caller, Caller) else UNVERIFIED
        self._refused(who, action, why.partition(":")[0])
        raise Forbidden(why)

    @property
    def form_cookie(self) -> str:
        """The cookie with what a form has to carry. Behind the load balancer the request itself is plain http."""
        return HOST_FORM_COOKIE if self.verified else FORM_COOKIE

    def form_token(self) -> str:
        """What a page puts into each of its forms as FORM_FIELD: what the browser has, or is given, as a cookie."""
        had = flask.request.cookies.get(self.form_cookie)
        token = had or flask.g.get("form_token") or self._ports.clock.token()
        flask.g.form_token = token
        return str(token)

    def leave_form_token(self, response: flask.Response) -> flask.Response:
        """Give the browser the token that a page's forms carry, if it has none."""
        token = flask.g.get("form_token")
        if token and flask.request.cookies.get(self.form_cookie) != token:
            response.set_cookie(
                self.form_cookie, token, httponly=True, samesite="Strict", secure=self.verified, path="/"
            )
        return response

    # --- refusals -------------------------------------------------------------------------------------------------

    def clashed(self, action: Action, tenant: str | None, body: object, clash: Clash) -> None:
        """Audit in the tenant's chain, else that of `_system`, that what is stored stood against an act."""
        if not getattr(body, "dry_run", False):  # then nothing was to be done
            self._refused(present().email, action, plain(str(clash)), of=tenant or SYSTEM, said="act.refused")

    def _refused(
        self,
        who: str,
        action: Action | None,
        why: str,
        tenant: str | None = None,
        *,
        of: str = SYSTEM,
        said: str = "access.refused",
    ) -> None:
        """Audit it: once a minute for each who, what, tenant and why, so that a flood is bounded. Never raises.

        `tenant`: whose it would have been. REFUSALS_A_MINUTE of one person's are told apart by it, or by what clashed.
        """
        now = self._ports.clock.now()
        what = action or "nothing that is here"
        minute = f"{now:%Y-%m-%dT%H:%M}"
        key = f"refused|{who}|{what}|{why}|{tenant or ''}|{of}|{minute}"
        if key in self._audited:
            return
        # A caller chooses tenants and what clashes; of actions and other reasons there are only so many.
        chosen = tenant is not None or said != "access.refused"
        if self._counted[0] != minute:
            self._counted = (minute, Counter())
        if chosen and self._counted[1][who] >= REFUSALS_A_MINUTE:
            why, tenant, of, said, key = "and more", None, SYSTEM, "access.refused", f"refused|{who}|and more|{minute}"
            if key in self._audited:
                return
        self._counted[1][who] += chosen
        self._audited[key] = None
        while len(self._audited) > REFUSALS_REMEMBERED:
            self._audited.popitem(last=False)
        detail = {"why": why, "method": flask.request.method, "path": plain(flask.request.path)}
        detail |= {"tenant": plain(tenant)} if tenant is not None else {}
        record = Record(
            at=now,
            actor=who,
            action=said,
            subject=f"access/{what}",
            outcome="refused",
            detail=detail,
            key=key,
        )
        try:
            Fleet(self._ports.documents).commit(record, of=of)
        except Conflict:
            return  # another process has said so
        except Transient as fault:
            self._audited.pop(key, None)
            self._counted[1][who] -= chosen
            log.warning("a refusal was not audited: %s %s: %s: %s", who, what, why, fault)


def _is_whole(principal: Principal) -> bool:
    """A client_admin has a tenant: without one he would be the client of nobody, or of everybody."""
    return principal.role != "client_admin" or re.fullmatch(TENANT_ID_WORD, principal.tenant or "") is not None


def present() -> Caller:
    """Who sends the present request; known from `Door.identify` on."""
    caller = flask.g.caller
    assert isinstance(caller, Caller)
    return caller


def asked(
    caller: Caller,
    key: str,
    action: Action,
    body: msgspec.Struct,
    path: dict[str, str],
    deployment: access.Deployment | None,
) -> Asked:
    """What a caller asks for: the same key for another act, path or body is another request."""
    said = canonical([caller.email, action, path, msgspec.to_builtins(body)])
    return Asked(by=caller.email, key=key, sha256=hashlib.sha256(said).hexdigest(), deployment=deployment)


def as_json() -> None:
    """Refuse a body that a form could send: no other site can send JSON unasked. Raises UnsupportedMediaType."""
    if flask.request.mimetype != "application/json":
        raise UnsupportedMediaType("expected Content-Type: application/json")
