"""The people of the tests, and a client that one of them sits at."""

from __future__ import annotations

from typing import Final

from flask.testing import FlaskClient
from tests.makers import THEN, World

from snapkeep import documents as d
from snapkeep.local_sign_in import HEADER, LocalSignIn
from snapkeep.ports import Lookup, Ports
from snapkeep.web import create_app

ADMIN: Final = "admin@vendor.example"

VENDOR: Final[tuple[d.Role, ...]] = ("viewer", "operator", "admin", "auditor")


def put_people(world: World, **clients: str) -> None:
    """One principal of each of the vendor's roles (`viewer@vendor.example`), and a client_admin of each tenant given
    (`anna="acme"`: anna@acme.example)."""
    for role in VENDOR:
        world.put((f"principals/{role}@vendor.example", d.Principal(updated_at=THEN, role=role)))
    for name, tenant in clients.items():
        principal = d.Principal(updated_at=THEN, role="client_admin", tenant=tenant)
        world.put((f"principals/{name}@{tenant}.example", principal))


def client_of(ports: Ports, email: str = ADMIN) -> FlaskClient:
    """A client of the real application that is signed in as somebody."""
    client = create_app(ports, LocalSignIn()).test_client()
    client.environ_base[f"HTTP_{HEADER.upper().replace('-', '_')}"] = email
    return client


class Somebody:
    """`Identities` for which whoever does not say otherwise is the admin: a browser that need not sign in."""

    verified = True

    def who(self, header: Lookup, cookie: Lookup) -> str:
        return header(HEADER) or ADMIN
