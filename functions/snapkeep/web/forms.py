"""What a page's form asks for, carried out as the API would: the same command, door, key and audit of refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import flask
import msgspec
from werkzeug.exceptions import BadRequest, Forbidden, NotFound

from snapkeep import commands
from snapkeep.access import Action
from snapkeep.commands import Asked
from snapkeep.ports import Ports
from snapkeep.retention.rules import UnsafePlan
from snapkeep.web import door
from snapkeep.web.mistakes import mistake

K = TypeVar("K", bound=commands.Ask)
A = TypeVar("A")

NOT_ASKED: Final = frozenset({door.FORM_FIELD, door.KEY_FIELD})
"""Fields of a form that are not part of what is asked for."""


class WrongForm(Exception):
    """What is wrong with a form, in the words of its fields."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an act was not carried out, in words for people, and the status that says so."""

    said: str
    status: int


def act(
    ports: Ports,
    way_in: door.Door,
    action: Action,
    tenant: str,
    path: Mapping[str, str],
    read: Callable[[], K],
    carry_out: Callable[[Asked, K], A],
    requested_by: Callable[[], str | None] = lambda: None,
) -> A | Refused:
    """Do to a tenant what the present form asks for, or say what stands against it.

    `path`: what stands in the path of the same act at the API. `read`: the body of it, of the form. `requested_by`: of
    an approval, whose request it is of. Raises NotFound, Transient, and Forbidden for a form that is not ours.
    """
    way_in.form_is_ours(action)
    ask = None
    try:
        deployment = way_in.enter(action, tenant, requested_by())
        ask = read()
        return carry_out(door.asked(door.present(), _key(), action, ask, {"tenant": tenant, **path}, deployment), ask)
    except Forbidden as error:
        return Refused(error.description or "this is not yours to do", 403)
    except (WrongForm, commands.Wrong) as error:
        return Refused(str(error), 422)
    except (commands.Clash, UnsafePlan) as error:
        if isinstance(error, commands.Clash):
            way_in.clashed(action, tenant, ask, error)
        return Refused(str(error), 409)
    except commands.NoTenant:
        raise NotFound from None


def asked_for(kind: type[K], *elsewhere: str) -> K:
    """What the form asks for, without the fields `elsewhere`; an empty one was not given. Raises WrongForm."""
    form = flask.request.form
    left_out = NOT_ASKED | {*elsewhere}
    given: dict[str, Any] = {name: form[name].strip() for name in form if name not in left_out and form[name].strip()}
    if "until" in given:
        given["until"] += ":00Z"  # as a browser gives it: to the minute, and the page says that it is UTC
    if "on" in given:
        given["on"] = given["on"] == "true"
    return typed(kind, given)


def typed(kind: type[K], given: Mapping[str, Any]) -> K:
    """These fields as the body of an act. Raises WrongForm."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise WrongForm(mistake(error, given, kind)) from None


def _key() -> str:
    key = flask.request.form.get(door.KEY_FIELD, "")
    if not commands.KEY.fullmatch(key):
        raise BadRequest("this form has no key: load the page again")
    return key
