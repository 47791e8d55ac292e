"""Documents for tests, with everything filled in that a test does not care about."""

from datetime import UTC, datetime
from typing import Any

from snapkeep.documents import ByName, DiskRef, Instance, Selected, Tenant

THEN = datetime(2026, 11, 1, tzinfo=UTC)


def tenant(**changes: Any) -> Tenant:
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "acme",
        "name": "Acme Bank",
        "deployment": "saas",
        "project": "acme-prod",
        "vault_project": "acme-prod",
        "instances": Selected(by_name=[ByName(name="acme-pam-1", zone="southamerica-east1-a")]),
        "timezone": "America/Sao_Paulo",
        "applied_at": THEN,
        "applied_by": "operator:test",
    }
    return Tenant(**fields | changes)


def instance(**changes: Any) -> Instance:
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "17870283321406128359",
        "name": "acme-pam-1",
        "project": "acme-prod",
        "zone": "southamerica-east1-a",
        "region": "southamerica-east1",
        "disks": [DiskRef(name="acme-pam-1-boot", id="1")],
        "seen_at": THEN,
    }
    return Instance(**fields | changes)
