"""The local cloud's sign-in: whoever says an address is believed. `config` refuses it beside any other Firestore."""

from __future__ import annotations

import re
from typing import Final

from snapkeep.ports import Lookup, Unidentified

HEADER: Final = "X-Snapkeep-Local-User"
"""What the command line says who it is with."""

COOKIE: Final = "snapkeep-local-user"
"""What the sign-in page leaves in the browser."""

THIS_MACHINE: Final = ("127.0.0.1", "localhost")
"""As whom a local cloud is asked: `Host`, less its port. It listens at no other address."""

EMAIL: Final = re.compile(r"[a-z0-9._+-]{1,64}@[a-z0-9.-]{1,190}")
"""An address as far as it may become a part of a document's path."""


class LocalSignIn:
    """`Identities` by their own word."""

    verified = False

    def who(self, header: Lookup, cookie: Lookup) -> str:
        said = (header(HEADER) or cookie(COOKIE) or "").strip().lower()
        if not said:
            raise Unidentified("no identity")
        if not EMAIL.fullmatch(said):
            raise Unidentified("no email address")
        return said
