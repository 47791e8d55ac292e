"""What applying a fleet file changes, as it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import yaml

from snapkeep import fleet
from snapkeep.documents import Failure, Tenant

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACME: Mapping[str, Any] = {
    "id": "acme",
    "name": "Acme Bank",
    "project": "acme-prod",
    "instances": [
        {"name": "pam-1", "zone": "southamerica-east1-a"},
        {"name": "pam-2", "zone": "southamerica-east1-b"},
    ],
    "client_backups": [{"kind": "credentials", "every_hours": 24}],
    "access_networks": ["203.0.113.0/24", "198.51.100.0/24"],
}


def tenant(**fields: Any) -> Tenant:
    reading = fleet.parse({"fleet.yaml": yaml.safe_dump({"tenants": [{**ACME, **fields}]}).encode()})
    [entry] = reading.valid
    return entry.tenant(applied_at=NOW, applied_by="ana@vendor.example")


@pytest.mark.parametrize(
    ("fields", "printed"),
    [
        ({}, []),
        ({"retention": {"keep_daily": 7}}, ["acme: retention.keep_daily: 14 -> 7"]),
        (
            {"retention": {"keep_daily": 7}, "name": "Acme"},
            ["acme: name: Acme Bank -> Acme", "acme: retention.keep_daily: 14 -> 7"],
        ),
        ({"schedule": {"daily_at": "02:30"}}, []),
        ({"vault_project": "acme-prod"}, []),
        ({"vault_project": "acme-vault"}, ["acme: vault_project: acme-prod -> acme-vault"]),
        ({"instances": [*reversed(ACME["instances"])]}, []),
        (
            {"instances": ACME["instances"][:1]},
            ["acme: instances.pam-2 in southamerica-east1-b: selected -> none"],
        ),
        (
            {"instances": {"label": "a=b"}},
            [
                "acme: instances.a=b: none -> selected",
                "acme: instances.pam-1 in southamerica-east1-a: selected -> none",
                "acme: instances.pam-2 in southamerica-east1-b: selected -> none",
            ],
        ),
        (
            {"access_networks": ["198.51.100.0/24", "10.0.0.0/8"]},
            [
                "acme: access_networks.10.0.0.0/8: none -> listed",
                "acme: access_networks.203.0.113.0/24: listed -> none",
            ],
        ),
        (
            {"client_backups": [{"kind": "videos", "every_hours": 168}, {"kind": "credentials", "every_hours": 12}]},
            [
                "acme: client_backups.credentials.every_hours: 24 -> 12",
                "acme: client_backups.videos.every_hours: none -> 168",
            ],
        ),
        (
            {"restore_test": {"network": "projects/acme-prod/global/networks/n"}},
            [
                "acme: restore_test.every_days: none -> 30",
                "acme: restore_test.network: none -> projects/acme-prod/global/networks/n",
            ],
        ),
        ({"entitlements": {}, "kms_keys": {}}, []),
    ],
)
def test_a_change_is_printed_with_its_path_and_both_values(fields: dict[str, Any], printed: list[str]) -> None:
    assert [str(one) for one in fleet.diff(tenant(), tenant(**fields))] == printed


def test_a_tenant_that_was_not_there_is_new() -> None:
    assert [str(one) for one in fleet.diff(None, tenant())] == ["acme: new"]


def test_an_entitlement_that_ends_shows_each_of_its_fields_going() -> None:
    copies = {"inter_region_backup": {"region": "us-east1", "valid_until": "2027-12-31"}}
    found = fleet.diff(tenant(entitlements=copies), tenant())
    assert {one.field.rpartition(".")[0] for one in found} == {
        "entitlements.inter_region_backup",
        "entitlements.inter_region_backup.retention",
    }
    assert all(one.new is None for one in found)


def test_when_and_by_whom_it_was_applied_and_what_discovery_keeps_is_no_difference() -> None:
    other = msgspec.structs.replace(
        tenant(),
        updated_at=datetime(2026, 4, 1, tzinfo=UTC),
        applied_at=datetime(2026, 4, 1, tzinfo=UTC),
        applied_by="rui@vendor.example",
        discover_at=NOW,
        unmatched=["pam-1 in southamerica-east1-a"],
        discovery_failure=Failure(code="403", message="no access"),
    )
    assert fleet.diff(tenant(), other) == []


def test_applying_what_was_applied_changes_nothing() -> None:
    before = tenant(rpo_hours=30)
    assert fleet.diff(before, tenant(rpo_hours=30)) == []
