"""The Pub/Sub envelope <-> a typed message, or BadMessage with the reason.

Whatever arrives here is a hint from someone whose word counts for little: everything is bounded, typed and checked
before any other code sees it. Unknown fields are ignored, so that publishers may add some.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import reprlib
from typing import Annotated, Any, Final, Literal

import msgspec

from snapkeep.documents import TENANT_ID_WORD

MESSAGE_BYTES_MAX: Final = 64 * 1024
"""Bytes of a message's body. Ours stay below 16 KiB; Pub/Sub itself would take 10 MiB."""

EXCERPT_CHARS_MAX: Final = 500
TENANTS_PER_MESSAGE_MAX: Final = 100
POINTS_PER_MESSAGE_MAX: Final = 50
INSTANCES_PER_MESSAGE_MAX: Final = 50
RESTORES_PER_MESSAGE_MAX: Final = 20

_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")

# Shows the beginning of anything, however deep or long it is.
_SHOW: Final = reprlib.Repr()
_SHOW.maxdict = _SHOW.maxlist = 20
_SHOW.maxstring = _SHOW.maxother = 400

# Control characters, line and paragraph separators, and the marks that turn the reading direction around.
_PLAIN: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*\Z"

_SAID: Final = f"matching regex {_PLAIN!r}"
_MEANT: Final = "of printable characters on one line"

TenantId = Annotated[str, msgspec.Meta(pattern=rf"^{TENANT_ID_WORD}\Z")]
Chain = Annotated[str, msgspec.Meta(pattern=rf"^(_system|{TENANT_ID_WORD})\Z")]  # a tenant, or acts of none
PointId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{8}-[smor]-[a-z0-9-]{1,24}-[0-9a-f]{8}\Z")]
InstanceId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=_PLAIN)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=_PLAIN.replace("^", r"^(?=.*\S)", 1))]
"""A Text that says something: not only spaces."""

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PLAIN)]


class BadMessage(Exception):
    """A message that no retry will mend. `reason` is for the publisher: what, where, and what is expected."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    schema: Literal[1] = 1


class Tick(_Message, frozen=True, kw_only=True, tag="tick"):
    """Cloud Scheduler's message: look for due work."""


class Nudge(_Message, frozen=True, kw_only=True, tag="nudge"):
    """Something of these tenants has changed: look now rather than at the next tick."""

    tenants: Annotated[list[Chain], msgspec.Meta(max_length=TENANTS_PER_MESSAGE_MAX)]


class DiscoverBatch(_Message, frozen=True, kw_only=True, tag="discover.batch"):
    """Read the projects of these tenants."""

    tenants: Annotated[list[TenantId], msgspec.Meta(min_length=1, max_length=TENANTS_PER_MESSAGE_MAX)]


class PointRef(msgspec.Struct, frozen=True):
    tenant: TenantId
    point: PointId


class CreateBatch(_Message, frozen=True, kw_only=True, tag="create.batch"):
    """Start these requested points; those of a project should be together."""

    points: Annotated[list[PointRef], msgspec.Meta(min_length=1, max_length=POINTS_PER_MESSAGE_MAX)]


class ExpireBatch(_Message, frozen=True, kw_only=True, tag="expire.batch"):
    """Weigh the points of these instances of one tenant, and carry on with the deletions that have begun."""

    tenant: TenantId
    instances: Annotated[list[InstanceId], msgspec.Meta(min_length=1, max_length=INSTANCES_PER_MESSAGE_MAX)]


class CopyBatch(_Message, frozen=True, kw_only=True, tag="copy.batch"):
    """Start the requested copies of these points."""

    points: Annotated[list[PointRef], msgspec.Meta(min_length=1, max_length=POINTS_PER_MESSAGE_MAX)]


RestoreId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{8}-[dnpt]-[a-z0-9-]{1,24}-[0-9a-f]{8}\Z")]


class RestoreRef(msgspec.Struct, frozen=True):
    tenant: TenantId
    restore: RestoreId


class RestoreBatch(_Message, frozen=True, kw_only=True, tag="restore.batch"):
    """Bring these restores one step nearer their end."""

    restores: Annotated[list[RestoreRef], msgspec.Meta(min_length=1, max_length=RESTORES_PER_MESSAGE_MAX)]


class CreateRequestedData(msgspec.Struct, frozen=True):
    instance: Name  # its name, or its numeric id
    zone: Name | None = None  # needed where the tenant has two instances of that name


class CreateRequested(_Message, frozen=True, kw_only=True, tag="create.requested"):
    """Someone asks for a point on demand. `claimed_actor` is a claim: it is written down, not believed."""

    id: Key
    tenant: TenantId
    claimed_actor: Text
    reason: Text
    data: CreateRequestedData


class DeadLetter(_Message, frozen=True, kw_only=True, tag="dead_letter"):
    """Made by `decode_dead_letter` from whatever another function did not manage to handle."""

    source: str
    excerpt: str
    message_id: str


Message = (
    Tick | Nudge | DiscoverBatch | CreateBatch | CreateRequested | CopyBatch | ExpireBatch | RestoreBatch | DeadLetter
)

_DECODER: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(
    Tick | Nudge | DiscoverBatch | CreateBatch | CreateRequested | CopyBatch | ExpireBatch | RestoreBatch
)


def encode(message: Message) -> bytes:
    return msgspec.json.encode(message)


def not_for(function: str, message: Message) -> BadMessage:
    return BadMessage(f"type: {message.__struct_config__.tag!r} is not a message for {function}")


def body_of(envelope: Any) -> bytes:
    """The body of a push delivery (`{"message": {"data": base64, ...}, ...}`). Raises BadMessage."""
    message = envelope.get("message") if isinstance(envelope, dict) else None
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(data, str):
        raise BadMessage("message.data: missing; expected a JSON body in base64")
    if len(data) > MESSAGE_BYTES_MAX * 4 // 3 + 4:
        raise BadMessage(f"body: larger than {MESSAGE_BYTES_MAX} bytes")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"message.data: not base64 ({error})") from None


def decode(envelope: Any) -> Message:
    """The typed message in a push delivery. Raises BadMessage with what is wrong and where."""
    return parse(body_of(envelope))


def parse(body: bytes) -> Message:
    """The typed message of a body. Raises BadMessage with what is wrong and where."""
    if len(body) > MESSAGE_BYTES_MAX:
        raise BadMessage(f"body: {len(body)} bytes; at most {MESSAGE_BYTES_MAX} are read")
    try:
        return _DECODER.decode(body.decode())  # decoded first, as msgspec does not look into fields that it ignores
    except UnicodeDecodeError:
        raise BadMessage("body: not UTF-8") from None
    except msgspec.ValidationError as error:
        raise BadMessage(f"body: {plain(str(error).replace(_SAID, _MEANT))}") from None
    except msgspec.DecodeError as error:
        raise BadMessage(f"body: not JSON ({plain(str(error))})") from None
    except RecursionError:
        raise BadMessage("body: nested too deeply") from None


def decode_dead_letter(envelope: Any) -> DeadLetter:
    """What is known of a message that its function failed to handle; never raises: there is nowhere further to go."""
    message = envelope.get("message") if isinstance(envelope, dict) else None
    message = message if isinstance(message, dict) else {}
    attributes = message.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    source = attributes.get("CloudPubSubDeadLetterSourceSubscription")
    id = message.get("messageId")
    return DeadLetter(
        source=plain(source) if isinstance(source, str) else "unknown",
        excerpt=excerpt(envelope),
        message_id=id if isinstance(id, str) and _MESSAGE_ID.fullmatch(id) else "",
    )


def excerpt(envelope: Any) -> str:
    """The beginning of a body for a person to read, with nothing in it that a terminal or a page would act on."""
    try:
        body = body_of(envelope)
    except BadMessage:
        return plain(_SHOW.repr(envelope))
    return plain(body[: EXCERPT_CHARS_MAX * 2].decode("utf-8", "backslashreplace"))


def plain(text: str) -> str:
    """Text with everything unprintable escaped, cut to EXCERPT_CHARS_MAX characters."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:EXCERPT_CHARS_MAX])
    return escaped[:EXCERPT_CHARS_MAX]


def fingerprint(envelope: Any) -> str:
    """Names a bad message by its content, so that its redeliveries and copies are one record. Hex, 32 characters."""
    try:
        content = body_of(envelope)
    except BadMessage:
        # Not the whole envelope: the number of the delivery is in it.
        message = envelope.get("message") if isinstance(envelope, dict) else envelope
        content = _SHOW.repr(message).encode("utf-8", "backslashreplace")
    return hashlib.sha256(content).hexdigest()[:32]
