"""Where the command line finds Snapkeep's API, and as whom it asks there (docs/adr/0006).

All that it shows and all that it does goes through the API. Over http that is a local cloud on this machine, with its
sign-in that verifies nobody; over https a deployment behind IAP, which takes an ID token of the operator's.
"""

from __future__ import annotations

import os
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final, Protocol, TypeVar

import msgspec

from snapkeep import commands, wiring
from snapkeep.cli.output import fail

LOCAL: Final = "http://127.0.0.1:8080"
USER: Final = "admin@vendor.example"
"""As whom a local cloud is asked: one of the people that `snapkeep up` invents."""

TIMEOUT_S: Final = 60
"""For one answer: what function `web` may take."""

ANSWER_BYTES_MAX: Final = 64 << 20
"""Of one answer. The plan of a tenant with 10,000 points is a tenth of it."""

SAID_CHARS_MAX: Final = 200
"""Of what something that is not Snapkeep says of itself."""

API_PATH: Final = "/api/v1"
THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")

OK: Final = (200, 201, 202)
NOT_FOUND: Final = 404

V = TypeVar("V")


class Page(Protocol):
    @property
    def next(self) -> str | None:
        """What the page after this one is asked for by; None for the last."""


P = TypeVar("P", bound=Page)


def api() -> str:
    """The root URL of the API, without the path that `snapkeep up` prints it with. Ends with status 1 if it is none."""
    url = (os.environ.get("SNAPKEEP_API") or LOCAL).rstrip("/").removesuffix(API_PATH)
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if host is None:
        fail(f"SNAPKEEP_API: {url!r} is not an http(s) URL")
    if parts.scheme == "http" and host not in THIS_MACHINE:
        fail(f"SNAPKEEP_API: {host} is not this machine: expected https://{host}, or a local cloud on this machine")
    return url


def over_https() -> bool:
    """Whether the API is a deployment's, and no local cloud's."""
    return api().startswith("https:")


def project() -> str | None:
    """The project of a deployment, as the environment names it."""
    return os.environ.get("SNAPKEEP_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT")


def database() -> str:
    """The Firestore database of a deployment."""
    return os.environ.get("SNAPKEEP_DATABASE") or "(default)"


def token() -> str:
    """A random word: a key for one act that is asked for once."""
    return wiring.SystemClock().token()


class Unheard(Exception):
    """Why there is no answer, in one line."""

    def __init__(self, why: str, *, never_sent: bool = False) -> None:
        super().__init__(why)
        self.never_sent = never_sent  # so that nothing can have come of it


def hear(kind: type[V], path: str) -> V:
    """What is answered to a GET of a path below `api()`, for whoever goes on without it. Raises Unheard."""
    answer = _exchanged("GET", f"{api()}{path}")
    if answer.status not in OK:
        raise Unheard(_problem(answer) or _stranger(answer))
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unheard(f"{api()}{path} is not what this version of the command line expects: {error}") from None


def ask(kind: type[V], path: str, parameters: Mapping[str, str | None] | None = None) -> V:
    """What the API answers to a GET of `/api/v1` + path. Ends with status 1 where it refuses or is not Snapkeep's."""
    return _decoded(kind, path, _answer("GET", _with(path, parameters)))


def pages(kind: type[P], path: str, parameters: Mapping[str, str | None] | None = None) -> Iterator[P]:
    """The same for what is answered page by page: one page after the other, each asked for when it is wanted."""
    after: str | None = None
    while True:
        page = ask(kind, path, {**(parameters or {}), "after": after})
        yield page
        after = page.next
        if after is None:
            return


def look_for(
    kind: type[V], path: str, parameters: Mapping[str, str | None] | None = None, *, body: object = None
) -> V | None:
    """The same for what may not be there: None then. A question that needs a `body` is a POST that changes nothing."""
    whole = _with(path, parameters)
    answer = _answer("GET", whole) if body is None else _posted(whole, body)
    return None if answer.status == NOT_FOUND and _problem(answer) else _decoded(kind, path, answer)


def send(kind: type[V], path: str, body: object, *, key: str | None = None) -> V:
    """What the API answers to a POST of `body`; the same `key` twice has the effect of once. Ends as `ask` does."""
    key = _key(key)
    return _decoded(kind, path, _posted(path, body, key), key)


def act(
    kind: type[V],
    tenant: str,
    path: str,
    body: object,
    *,
    key: str | None = None,
    what: str = "",
    listed: str = "hold list",
) -> V:
    """The same for an act on a tenant, by the path below it.

    `what`: of it, if that may be what is not there; `listed`: the command that names what is.
    """
    whole = f"/tenants/{urllib.parse.quote(tenant, safe='')}/{path}"
    key = _key(key)
    answer = _posted(whole, body, key)
    if answer.status == NOT_FOUND and _problem(answer):
        fail(f"{what or repr(tenant)} is not there; `snapkeep {listed if what else 'fleet list'}` names what is")
    return _decoded(kind, whole, answer, key)


def _key(given: str | None) -> str:
    """The key of one act. Ends with status 1 for one that no header takes."""
    if given is not None and not commands.KEY.fullmatch(given):
        fail(f"--id: {given!r} is not 1 to 200 printable ASCII characters without spaces")
    return given or token()


# --- one request --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Message[str, str]
    body: bytes


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: what proves who asks is for nobody else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _with(path: str, parameters: Mapping[str, str | None] | None) -> str:
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    return path + (f"?{urllib.parse.urlencode(given)}" if given else "")


def _posted(path: str, body: object, key: str | None = None) -> _Answer:
    """`key`: of an act; a question needs none."""
    return _answer("POST", path, msgspec.json.encode(body), key)


def _answer(method: str, path: str, body: bytes | None = None, key: str | None = None) -> _Answer:
    try:
        return _exchanged(method, f"{api()}{API_PATH}{path}", body, key)
    except Unheard as reason:
        fail(str(reason) + ("" if reason.never_sent else _perhaps_done(key)))


def _exchanged(method: str, url: str, body: bytes | None = None, key: str | None = None) -> _Answer:
    """Raises Unheard where nobody answers."""
    sent = {"Accept": "application/json", **_identity(api())}
    sent |= {"Content-Type": "application/json"} if body is not None else {}
    sent |= {"Idempotency-Key": key} if key else {}
    request = urllib.request.Request(url, body, sent, method=method)  # noqa: S310 - `api` checks the scheme
    try:
        with _opener().open(request, timeout=TIMEOUT_S) as answer:
            return _Answer(answer.status, answer.headers, answer.read(ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as refusal:
        with refusal:
            return _Answer(refusal.code, refusal.headers, refusal.read(ANSWER_BYTES_MAX))
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        never_sent = isinstance(reason, ConnectionRefusedError | socket.gaierror | ssl.SSLError)
        raise Unheard(_nobody(reason), never_sent=never_sent) from None


@lru_cache(maxsize=1)
def _opener() -> urllib.request.OpenerDirector:
    """With the environment's proxy, but for this machine: to a proxy 127.0.0.1 is another one."""
    here = api().startswith("http:")
    return urllib.request.build_opener(_Stay(), *([urllib.request.ProxyHandler({})] if here else []))


def _identity(root: str) -> dict[str, str]:
    """The header that says who asks. Ends with status 1 where nobody can be named."""
    if root.startswith("http:"):
        user = os.environ.get("SNAPKEEP_USER") or USER
        if not user.isascii() or not user.isprintable():
            fail(f"SNAPKEEP_USER: {user!r} is not an email address such as {USER}")
        return {"X-Snapkeep-Local-User": user}
    audience = os.environ.get("SNAPKEEP_IAP_CLIENT")
    if not audience:
        fail(f"SNAPKEEP_IAP_CLIENT: not set; expected the OAuth client ID of the IAP in front of {root}")
    return {"Authorization": f"Bearer {_id_token(audience)}"}


@lru_cache(maxsize=1)
def _id_token(audience: str) -> str:
    """For as long as this command runs; a token lives for an hour."""
    from snapkeep.gcp.signin import CannotSignIn, id_token_for

    try:
        return id_token_for(audience)
    except CannotSignIn as reason:
        fail(str(reason))


# --- what is answered ---------------------------------------------------------------------------------------------


def _perhaps_done(key: str | None) -> str:
    """What is added where an act was sent and nobody said what became of it."""
    return f"; whether it was done is not known: its key is {key}" if key else ""


def _decoded(kind: type[V], path: str, answer: _Answer, key: str | None = None) -> V:
    if answer.status not in OK:
        unsure = _perhaps_done(key) if answer.status >= 500 else ""
        fail((_problem(answer) or _stranger(answer)) + unsure)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError as error:
        fail(f"{api()}{API_PATH}{path} is not what this version of the command line expects: {error}")


def _problem(answer: _Answer) -> str:
    """What one of Snapkeep's problems says, in one line; empty for anything else."""
    try:
        said: Any = msgspec.json.decode(answer.body)
        known = {"type", "title", "status", "detail"} <= said.keys()
        return " ".join(str(said["detail"]).split()) if known else ""
    except (msgspec.MsgspecError, AttributeError):
        return ""


def _stranger(answer: _Answer) -> str:
    """What answered in the place of Snapkeep: IAP, which let nobody in, or something else."""
    said = " ".join(answer.body.decode("utf-8", "replace").split())[:SAID_CHARS_MAX]
    if answer.headers.get("X-Goog-IAP-Generated-Response"):
        return (
            f"the IAP in front of {api()} refuses ({answer.status}: {said}): check SNAPKEEP_IAP_CLIENT, and that your "
            "account may pass it (roles/iap.httpsResourceAccessor)"
        )
    if 300 <= answer.status < 400:
        host = urllib.parse.urlsplit(answer.headers.get("Location", "")).hostname or "elsewhere"
        return f"{api()} leads to {host} ({answer.status}), where nobody's identity is taken: check SNAPKEEP_API"
    return f"{api()} answered {answer.status}, and not as Snapkeep does: something else listens there"


def _nobody(reason: object) -> str:
    if isinstance(reason, ssl.SSLError):
        return f"{api()} cannot prove who it is ({reason.reason or reason}): check SNAPKEEP_API"
    if api().startswith("https:"):
        return f"nobody answers at {api()} ({reason}): check SNAPKEEP_API, and your way there"
    return (
        f"nobody answers at {api()} ({reason}): start a local cloud with `snapkeep up`, or set SNAPKEEP_API to "
        "the https address of a deployment"
    )
