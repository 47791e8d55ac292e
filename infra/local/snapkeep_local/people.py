"""The people of a local cloud, all invented: one of each of the vendor's roles, and a client of each deployment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from snapkeep.documents import Principal, Role, Tenant
from snapkeep.ports import Documents
from snapkeep.store import put

VENDOR: Final[tuple[Role, ...]] = ("viewer", "operator", "admin", "auditor")


def principals(tenants: Iterable[Tenant], now: datetime) -> Iterator[tuple[str, Principal]]:
    """Address and role: `admin@vendor.example`, and `client@TENANT.example` of the first tenant of each deployment."""
    for role in VENDOR:
        yield f"{role}@vendor.example", Principal(updated_at=now, role=role)
    known = set()
    for tenant in tenants:
        if tenant.deployment not in known:
            known.add(tenant.deployment)
            yield f"client@{tenant.id}.example", Principal(updated_at=now, role="client_admin", tenant=tenant.id)


def invite(documents: Documents, tenants: Iterable[Tenant], now: datetime) -> None:
    """Let them in."""
    for email, principal in principals(tenants, now):
        path = f"principals/{email}"
        (seen,) = documents.get(path)
        put(documents, path, seen, principal)
