"""Reading the fleet file: what is taken, what is refused, and in which words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from snapkeep import fleet
from snapkeep.documents import (
    ByLabel,
    ByName,
    CopyRetention,
    Failure,
    Hold,
    Offboarding,
    Retention,
    Schedule,
    ScheduleSwitch,
    Selected,
    Tenant,
    from_data,
    to_data,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet.yaml"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEAST: Mapping[str, Any] = {
    "id": "acme",
    "name": "Acme Bank",
    "project": "acme-prod",
    "instances": [{"name": "acme-pam-1", "zone": "southamerica-east1-a"}],
}
COPIES = {"inter_region_backup": {"region": "us-east1", "valid_until": "2027-12-31"}}
KEY = "projects/acme-keys/locations/{}/keyRings/snapkeep/cryptoKeys/points"
NETWORK = "projects/acme-prod/global/networks/isolated"
RAW_KEY = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI="
OUT = object()  # a field to leave out


def file(*tenants: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump({"tenants": [dict(tenant) for tenant in tenants]}).encode()


def with_(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**LEAST, **fields}.items() if value is not OUT}


def lines(content: bytes | str) -> list[str]:
    encoded = content if isinstance(content, bytes) else content.encode()
    return [str(mistake) for mistake in fleet.parse({"fleet.yaml": encoded}).mistakes]


def normal(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    reading = fleet.parse({"fleet.yaml": file(with_(fields))})
    assert [str(mistake) for mistake in reading.mistakes] == []
    return reading.valid[0].normal


def document(fields: Mapping[str, Any]) -> Tenant:
    reading = fleet.parse({"fleet.yaml": file(with_(fields))})
    return reading.valid[0].tenant(applied_at=NOW, applied_by="ana@vendor.example")


# --- what is taken -----------------------------------------------------------------------------------------------


def test_an_omitted_part_takes_its_default() -> None:
    tenant = document({})
    assert tenant == Tenant(
        updated_at=NOW,
        applied_at=NOW,
        applied_by="ana@vendor.example",
        id="acme",
        name="Acme Bank",
        deployment="saas",
        project="acme-prod",
        vault_project="acme-prod",
        instances=Selected(by_name=[ByName(name="acme-pam-1", zone="southamerica-east1-a")]),
        timezone="America/Sao_Paulo",
        schedule=Schedule(daily_at="02:30", spread_minutes=30, catch_up_hours=20),
        consistency="crash",
        retention=Retention(
            keep_last=3,
            keep_daily=14,
            keep_weekly=8,
            keep_monthly=12,
            keep_yearly=0,
            keep_within_days=0,
            lock_days=7,
            keep_after_gone_days=90,
        ),
        rpo_hours=26,
    )


def test_an_omitted_part_of_a_part_takes_its_default_too() -> None:
    tenant = document({"schedule": {"daily_at": "23:00"}, "entitlements": COPIES})
    assert tenant.schedule == Schedule(daily_at="23:00", spread_minutes=30, catch_up_hours=20)
    assert tenant.entitlements.inter_region_backup is not None
    assert tenant.entitlements.inter_region_backup.retention == CopyRetention(keep_daily=7, keep_weekly=4, lock_days=7)


def test_what_is_read_can_be_stored_and_read_back() -> None:
    for entry in fleet.read(EXAMPLE).valid:
        tenant = entry.tenant(applied_at=NOW, applied_by="ana@vendor.example")
        assert from_data(Tenant, to_data(tenant)) == tenant


def test_what_people_have_decided_outlives_the_next_apply() -> None:
    [entry] = fleet.parse({"fleet.yaml": file(LEAST)}).valid
    hold = Hold(id="h1", reason="case 4711", by="ana@vendor.example", at=NOW)
    leaving = Offboarding(at=NOW, by="ana@vendor.example", reason="contract ended")
    switch = ScheduleSwitch(on=True, by="ana@client.example", at=NOW)
    stored = entry.tenant(applied_at=NOW, applied_by="ana@vendor.example")
    before = msgspec.structs.replace(stored, holds=[hold], offboarding=leaving, schedule_switch=switch)
    after = entry.tenant(applied_at=NOW, applied_by="rui@vendor.example", before=before)
    assert (after.holds, after.offboarding, after.schedule_switch) == ([hold], leaving, switch)
    assert fleet.diff(before, after) == []


def test_what_discovery_keeps_is_taken_over_from_the_stored_tenant() -> None:
    [entry] = fleet.parse({"fleet.yaml": file(LEAST)}).valid
    failure = Failure(code="403", message="no access")
    before = msgspec.structs.replace(
        entry.tenant(applied_at=NOW, applied_by="ana@vendor.example"),
        discover_at=NOW,
        unmatched=["acme-pam-1 in southamerica-east1-a"],
        discovery_failure=failure,
    )
    after = entry.tenant(applied_at=datetime(2026, 4, 1, tzinfo=UTC), applied_by="rui@vendor.example", before=before)
    assert (after.discover_at, after.unmatched, after.discovery_failure) == (NOW, before.unmatched, failure)
    assert after.applied_by == "rui@vendor.example"
    assert after.updated_at == after.applied_at == datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [{"label": "tenant=acme"}, [{"label": "tenant=acme"}]],
    ids=["as a mapping", "as the only item of a list"],
)
def test_instances_are_selected_by_one_label(written: object) -> None:
    assert document({"instances": written}).instances == Selected(by_label=ByLabel(label="tenant=acme"))


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("schedule: {daily_at: 02:30}", "schedule.daily_at", "02:30"),
        ("schedule: {daily_at: 23:59}", "schedule.daily_at", "23:59"),
        (f"restore_test: {{every_days: 7, network: {NETWORK}}}", "restore_test.every_days", 7),
        (
            "entitlements: {inter_region_backup: {region: us-east1, valid_until: 2027-12-31}}",
            "entitlements.inter_region_backup.valid_until",
            "2027-12-31",
        ),
    ],
)
def test_times_and_days_may_stand_without_quotes(line: str, field: str, value: object) -> None:
    head = file(LEAST).decode()
    [entry] = fleet.parse({"fleet.yaml": f"{head}  {line}\n".encode()}).valid
    found: Any = entry.normal
    for part in field.split("."):
        found = found[part]
    assert found == value


def test_a_name_of_no_or_on_is_text() -> None:
    content = file(LEAST).decode().replace("name: Acme Bank", "name: on")
    assert fleet.parse({"fleet.yaml": content.encode()}).valid[0].normal["name"] == "on"


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"access_networks": ["203.0.113.7", "10.0.0.0/8"]}, "access_networks", ["10.0.0.0/8", "203.0.113.7/32"]),
        ({"access_networks": ["2001:0DB8::/32"]}, "access_networks", ["2001:db8::/32"]),
        (
            {"restore_test": {"network": f"https://www.googleapis.com/compute/v1/{NETWORK}"}},
            "restore_test",
            {"every_days": 30, "network": NETWORK, "subnetworks": {}},
        ),
        (
            {"client_backups": [{"kind": "videos", "every_hours": 2}, {"kind": "credentials", "every_hours": 1}]},
            "client_backups",
            [{"kind": "credentials", "every_hours": 1}, {"kind": "videos", "every_hours": 2}],
        ),
    ],
    ids=["a bare address", "capitals", "a full URL", "order"],
)
def test_one_thing_has_one_normal_form(fields: Mapping[str, Any], name: str, value: object) -> None:
    assert normal(fields)[name] == value


def test_an_alias_repeats_a_value_and_a_merge_takes_over_what_is_not_written() -> None:
    content = """
tenants:
  - &first
    id: one
    name: One
    project: one-prod
    instances: [{name: a, zone: us-east1-b}]
    retention: &short {keep_daily: 2, keep_weekly: 0}
  - <<: *first
    id: two
    project: two-prod
  - id: three
    name: Three
    project: three-prod
    instances: {label: a=b}
    retention: {<<: [{keep_daily: 4}, *short], lock_days: 1}
"""
    one, two, three = fleet.parse({"fleet.yaml": content.encode()}).valid
    assert (two.id, two.normal["retention"]) == ("two", one.normal["retention"])
    assert [three.normal["retention"][name] for name in ("keep_daily", "keep_weekly", "lock_days")] == [4, 0, 1]


def test_every_record_of_the_file_has_a_check_for_every_stored_field() -> None:
    entry = fleet.read(EXAMPLE).valid[0]
    assert entry.id == "acme"
    stored = {one.name for one in msgspec.structs.fields(Tenant)} - fleet.NOT_WRITTEN
    assert set(entry.normal) == stored
    for part, kind in (("schedule", Schedule), ("retention", Retention)):
        assert set(entry.normal[part]) == set(kind.__struct_fields__)
    copies = entry.normal["entitlements"]["inter_region_backup"]
    assert set(copies["retention"]) == set(CopyRetention.__struct_fields__)


# --- what is refused, and in which words -------------------------------------------------------------------------

REFUSED: list[tuple[str, Mapping[str, Any], str]] = [
    ("id pattern", {"id": "Acme"}, "id: 'Acme' is not a tenant id (2 to 30 of a-z, 0-9 and -, a letter first)"),
    ("id too short", {"id": "a"}, "id: 'a' is not a tenant id"),
    ("id too long", {"id": "a" * 31}, "is not a tenant id"),
    ("id reserved", {"id": "_system"}, "id: '_system' is reserved for the acts of no tenant"),
    ("id missing", {"id": OUT}, "id: is missing; expected a tenant id"),
    ("id a number", {"id": 7}, "id: 7 is not a tenant id"),
    ("name missing", {"name": OUT}, "name: is missing; expected a name (1 to 100 printable characters on one line)"),
    ("name empty", {"name": ""}, "name: '' is not a name"),
    ("name in two lines", {"name": "a\nb"}, r"name: 'a\nb' is not a name"),
    ("name a number", {"name": 12}, "name: 12 is not a name"),
    ("deployment", {"deployment": "cloud"}, "deployment: 'cloud' is not one of saas, private_saas"),
    ("project", {"project": "Acme_Prod"}, "project: 'Acme_Prod' is not a project id"),
    ("project null", {"project": None}, "project: null is not a project id"),
    ("vault", {"vault_project": "v"}, "vault_project: 'v' is not a project id"),
    ("no instances", {"instances": []}, "instances: selects nothing; expected a list of {name: …, zone: …}"),
    ("instances text", {"instances": "a"}, "instances: 'a' is not a list of"),
    ("instance name", {"instances": [{"name": "A_1", "zone": "us-east1-b"}]}, "instances[0].name: 'A_1' is not an in"),
    (
        "zone a region",
        {"instances": [{"name": "a", "zone": "us-east1"}]},
        "instances[0].zone: 'us-east1' is not a zone",
    ),
    (
        "zone missing",
        {"instances": [{"name": "a"}]},
        "instances[0].zone: is missing; expected a zone (such as us-east1",
    ),
    ("label", {"instances": {"label": "tenant"}}, "instances.label: 'tenant' is not a label (key=value"),
    ("label capitals", {"instances": {"label": "Tenant=a"}}, "instances.label: 'Tenant=a' is not a label"),
    ("label in a list", {"instances": [{"label": "="}]}, "instances[0].label: '=' is not a label"),
    (
        "label and names",
        {"instances": [{"label": "a=b"}, {"name": "a", "zone": "us-east1-b"}]},
        "instances: a label stands with other selectors; expected instances by name, or one label alone",
    ),
    ("two labels", {"instances": [{"label": "a=b"}, {"label": "c=d"}]}, "instances: a label stands with other"),
    (
        "instance twice",
        {"instances": [{"name": "a", "zone": "us-east1-b"}] * 2},
        "instances[1]: 'a in us-east1-b' is given twice; expected once",
    ),
    (
        "too many",
        {"instances": [{"name": f"a{n}", "zone": "us-east1-b"} for n in range(201)]},
        "201 items are more than",
    ),
    ("time zone", {"timezone": "Sao Paulo"}, "timezone: 'Sao Paulo' is not a time zone"),
    ("time zone near", {"timezone": "America/Sao_Paolo"}, "did you mean 'America/Sao_Paulo'?"),
    ("time zone of the machine", {"timezone": "localtime"}, "timezone: 'localtime' is not a time zone"),
    ("time zone path", {"timezone": "../etc/passwd"}, "timezone: '../etc/passwd' is not a time zone"),
    ("time", {"schedule": {"daily_at": "25:00"}}, "schedule.daily_at: '25:00' is not a time of day (HH:MM)"),
    ("time short", {"schedule": {"daily_at": "2:30"}}, "schedule.daily_at: '2:30' is not a time of day (HH:MM)"),
    ("time a number", {"schedule": {"daily_at": 150}}, "schedule.daily_at: 150 is not a time of day (HH:MM)"),
    ("spread", {"schedule": {"spread_minutes": 241}}, "241 is not a whole number of minutes from 0 to 240"),
    ("catch-up 0", {"schedule": {"catch_up_hours": 0}}, "0 is not a whole number of hours from 1 to 23"),
    ("catch-up 24", {"schedule": {"catch_up_hours": 24}}, "24 is not a whole number of hours from 1 to 23"),
    ("schedule null", {"schedule": None}, "schedule: null is not a mapping of daily_at, spread_minutes, catch_up"),
    ("consistency", {"consistency": "app"}, "consistency: 'app' is not one of crash, guest_flush, group"),
    ("keep negative", {"retention": {"keep_last": -1}}, "retention.keep_last: -1 is not a whole number from 0 to 1000"),
    ("keep a truth", {"retention": {"keep_last": True}}, "retention.keep_last: true is not a whole number"),
    ("keep a fraction", {"retention": {"keep_last": 1.5}}, "retention.keep_last: '1.5' is not a whole number"),
    ("lock", {"retention": {"lock_days": 3661}}, "3661 is not a whole number of days from 0 to 3660"),
    (
        "keeps nothing",
        {"retention": {"keep_last": 0, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}},
        "retention: keeps nothing; expected at least one of keep_last, keep_daily, keep_weekly, keep_monthly",
    ),
    ("rpo", {"rpo_hours": 0}, "rpo_hours: 0 is not a whole number of hours from 1 to 8784"),
    ("kms region", {"kms_keys": {"global": KEY.format("global")}}, "kms_keys.global: 'global' is not a region"),
    (
        "kms key",
        {"kms_keys": {"us-east1": "mykey"}},
        "kms_keys.us-east1: 'mykey' is not a Cloud KMS key without version",
    ),
    (
        "kms version",
        {"kms_keys": {"us-east1": "projects/acme-keys/locations/us-east1/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"}},
        "is not a Cloud KMS key without version",
    ),
    (
        "kms elsewhere",
        {"kms_keys": {"southamerica-east1": KEY.format("us-east1")}},
        "lies in us-east1; expected a key in southamerica-east1, where it is to be used",
    ),
    (
        "CSEK as a region",
        {"kms_keys": {"raw_key": RAW_KEY}},
        "kms_keys.raw_key: customer-supplied encryption keys (CSEK)",
    ),
    ("CSEK in a region", {"kms_keys": {"us-east1": {"rsaEncryptedKey": "x"}}}, "kms_keys.us-east1: customer-supplied"),
    ("CSEK as a key", {"kms_keys": {"us-east1": RAW_KEY}}, "kms_keys.us-east1: customer-supplied encryption keys"),
    ("CSEK in a tenant", {"csek": {"rawKey": RAW_KEY}}, "csek: customer-supplied encryption keys (CSEK) are refused"),
    (
        "copy at home",
        {"entitlements": {"inter_region_backup": {"region": "southamerica-east1", "valid_until": "2027-12-31"}}},
        "entitlements.inter_region_backup.region: 'southamerica-east1' is the home region of instances in",
    ),
    (
        "copy without a region",
        {"entitlements": {"inter_region_backup": {"valid_until": "2027-12-31"}}},
        "entitlements.inter_region_backup.region: is missing; expected a region (such as us-east1)",
    ),
    (
        "day that is none",
        {"entitlements": {"inter_region_backup": {"region": "us-east1", "valid_until": "2027-02-29"}}},
        "valid_until: '2027-02-29' is not a day of the calendar (YYYY-MM-DD)",
    ),
    (
        "copies that keep nothing",
        {
            "entitlements": {
                "inter_region_backup": {
                    **COPIES["inter_region_backup"],
                    "retention": {"keep_daily": 0, "keep_weekly": 0},
                }
            }
        },
        "entitlements.inter_region_backup.retention: keeps nothing",
    ),
    (
        "guest flush with copies",
        {"consistency": "guest_flush", "entitlements": COPIES},
        "consistency: 'guest_flush' does not go with entitlements.inter_region_backup: copies are made from an instant",
    ),
    (
        "DR without copies",
        {"entitlements": {"multi_region_dr": {"region": "us-east1", "valid_until": "2027-12-31"}}},
        "entitlements.multi_region_dr: needs inter_region_backup: without it there are no copies",
    ),
    (
        "DR elsewhere",
        {"entitlements": {**COPIES, "multi_region_dr": {"region": "us-west1", "valid_until": "2027-12-31"}}},
        "multi_region_dr.region: 'us-west1' is not the region of inter_region_backup; expected 'us-east1'",
    ),
    (
        "recovery",
        {"recovery": {}},
        "recovery.network: is missing; expected the link of a network (projects/PROJECT/glob",
    ),
    ("network", {"recovery": {"network": "default"}}, "recovery.network: 'default' is not the link of a network"),
    (
        "subnetwork elsewhere",
        {
            "recovery": {
                "network": NETWORK,
                "subnetworks": {"us-east1": "projects/acme-prod/regions/us-west1/subnetworks/main"},
            }
        },
        "recovery.subnetworks.us-east1: 'projects/acme-prod/regions/us-west1/subnetworks/main' lies elsewhere",
    ),
    (
        "service account",
        {"recovery": {"network": NETWORK, "service_account": "root"}},
        "recovery.service_account: 'root' is not a service account's address",
    ),
    (
        "backup kind",
        {"client_backups": [{"kind": "mail", "every_hours": 1}]},
        "'mail' is not one of credentials, videos",
    ),
    (
        "backup hours",
        {"client_backups": [{"kind": "videos"}]},
        "client_backups[0].every_hours: is missing; expected a who",
    ),
    (
        "backup twice",
        {"client_backups": [{"kind": "videos", "every_hours": 1}, {"kind": "videos", "every_hours": 2}]},
        "client_backups[1]: 'videos' is given twice; expected once",
    ),
    (
        "host bits",
        {"access_networks": ["203.0.113.7/24"]},
        "access_networks[0]: '203.0.113.7/24' is not a network (CIDR",
    ),
    ("network a number", {"access_networks": [203]}, "access_networks[0]: 203 is not a network"),
    ("network twice", {"access_networks": ["10.0.0.0/8"] * 2}, "access_networks[1]: '10.0.0.0/8' is given twice"),
    (
        "test without network",
        {"restore_test": {"every_days": 30}},
        "restore_test.network: is missing; expected the link",
    ),
    (
        "test days",
        {"restore_test": {"every_days": 0, "network": NETWORK}},
        "0 is not a whole number of days from 1 to 366",
    ),
    ("unknown key", {"retension": {}}, "retension: unknown key; did you mean 'retention'?"),
    ("unknown key far", {"zzz": 1}, "zzz: unknown key; expected one of id, name, deployment, project"),
    (
        "unknown key below",
        {"schedule": {"daily-at": "02:30"}},
        "schedule.daily-at: unknown key; did you mean 'daily_at'?",
    ),
    ("key with a line break", {"a\nb": 1}, r"tenants[0]['a\nb']: unknown key"),
]


@pytest.mark.parametrize(("fields", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_one_mistake_gives_one_line_with_file_path_and_what_is_expected(fields: Mapping[str, Any], says: str) -> None:
    [line] = lines(file(with_(fields)))
    assert line.startswith("fleet.yaml: tenants[0]")
    assert says in line
    assert "\n" not in line


def test_a_secret_key_is_never_repeated() -> None:
    for written in (RAW_KEY, {"us-east1": RAW_KEY}, {"rawKey": RAW_KEY}, {"us-east1": {"raw_key": RAW_KEY}}, [RAW_KEY]):
        assert RAW_KEY[:20] not in "".join(lines(file(with_({"kms_keys": written}))))


def test_ten_mistakes_give_ten_lines() -> None:
    tenants = [
        with_({"id": "ACME", "rpo_hours": "often"}),
        with_({"id": "two", "project": "two-prod", "timezone": "Mars/Olympus", "schedule": {"daily_at": "25:00"}}),
        with_({"id": "three", "project": "three-prod", "retension": {}, "access_networks": ["10.0.0.1/8", "x"]}),
        with_({"id": "four", "project": "four-prod", "deployment": "none", "consistency": "none", "name": OUT}),
        with_({"id": "fine", "project": "fine-prod"}),
    ]
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines(file(*tenants))] == [
        "tenants[0].id",
        "tenants[0].rpo_hours",
        "tenants[1].timezone",
        "tenants[1].schedule.daily_at",
        "tenants[2].retension",
        "tenants[2].access_networks[0]",
        "tenants[2].access_networks[1]",
        "tenants[3].name",
        "tenants[3].deployment",
        "tenants[3].consistency",
    ]


def test_a_line_reads_as_the_contract_shows_it() -> None:
    tenants = [with_({"id": f"t-{n}", "project": f"project-{n}"}) for n in range(3)]
    [line] = lines(file(*tenants, with_({"schedule": {"daily_at": "25:00"}})))
    assert line == "fleet.yaml: tenants[3].schedule.daily_at: '25:00' is not a time of day (HH:MM)"


# --- files that are no fleet files -------------------------------------------------------------------------------

BOMB = "tenants: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "fleet.yaml: is empty; expected a mapping with the key tenants"),
        (b"# only a comment\n", "fleet.yaml: is empty; expected a mapping with the key tenants"),
        (b"- id: acme\n", "fleet.yaml: a list is not a mapping with the key tenants"),
        (b"acme\n", "fleet.yaml: 'acme' is not a mapping with the key tenants"),
        (b"{}", "fleet.yaml: tenants: is missing; expected a list of tenants"),
        (b"tenants:\n", "fleet.yaml: tenants: null is not a list of one or more tenants"),
        (b"tenants: []\n", "fleet.yaml: tenants: an empty list is not a list of one or more tenants"),
        (b"tenants: {acme: {}}\n", "fleet.yaml: tenants: a mapping is not a list of one or more tenants"),
        (b"tenants: [acme]\n", "fleet.yaml: tenants[0]: 'acme' is not a tenant (a mapping)"),
        ("name: ção".encode("latin-1"), "fleet.yaml: byte 6 is not UTF-8; expected a text file in UTF-8"),
        ("tenants: []".encode("utf-16"), "fleet.yaml: byte 0 is not UTF-8; expected a text file in UTF-8"),
        (b"tenants: [\n", "fleet.yaml: line 2, column 1: not YAML: while parsing a flow node"),
        (b"tenants:\n\t- a\n", "fleet.yaml: line 2, column 1: not YAML: while scanning for the next token"),
        (b"tenants: \x00", "fleet.yaml: not YAML: unacceptable character #x0000"),
        (b"a: 1\n---\nb: 1\n", "fleet.yaml: line 2: a second document begins; a fleet file is one YAML document"),
        (b"tenants: !!python/name:os.system x\n", "fleet.yaml: tenants: the tag 'tag:yaml.org,2002:python/name:os.sys"),
        (
            b"tenants: !!timestamp 2027-12-31\n",
            "fleet.yaml: tenants: the tag 'tag:yaml.org,2002:timestamp' is not unde",
        ),
        (b"tenants: [&a {id: *a}]\n", "fleet.yaml: line 1: the alias *a names nothing before it"),
        (b"[" * 100_000, "fleet.yaml: line 1: nested deeper than 16 levels"),
        (BOMB.encode(), "fleet.yaml: line 6: more than 400000 values, aliases counted as what they repeat"),
    ],
)
def test_a_file_that_is_none_gives_one_line(content: bytes, line: str) -> None:
    [found] = lines(content)
    assert found.startswith(line)


def test_a_key_that_is_no_word_is_refused() -> None:
    assert lines("? [a, b]\n: 1\n")[0] == "fleet.yaml: a key must be a plain word (line 1)"


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    content = (
        file(LEAST).decode() + "  rpo_hours: 26\n  retention:\n    keep_last: 1\n    keep_last: 2\n  rpo_hours: 27\n"
    )
    first = content.splitlines().index("  rpo_hours: 26") + 1
    once = "expected once"
    assert lines(content) == [
        f"fleet.yaml: tenants[0].retention.keep_last: given twice, on line {first + 2} and on line {first + 3}; {once}",
        f"fleet.yaml: tenants[0].rpo_hours: given twice, on line {first} and on line {first + 4}; {once}",
    ]


@pytest.mark.parametrize("written", ["010", "1_000", "0x10", "1e3", "yes", "26h", "9" * 5_000])
def test_what_only_some_read_as_a_number_is_not_one(written: str) -> None:
    [line] = lines(file(LEAST).decode() + f"  rpo_hours: {written}\n")
    assert line.startswith(f"fleet.yaml: tenants[0].rpo_hours: '{written[:9]}")
    assert line.endswith("is not a whole number of hours from 1 to 8784")


def test_more_mistakes_than_anyone_reads_end_the_reading_of_that_file() -> None:
    junk = {f"x{n}": 1 for n in range(fleet.MISTAKES_MAX + 1)}
    reading = fleet.parse(
        {"a.yaml": file(LEAST, with_(junk)), "b.yaml": file(with_({"id": "bee", "project": "bee-prod"}))}
    )
    assert str(reading.mistakes[0]) == "a.yaml: more than 1000 mistakes; nothing of this file is used"
    assert len(reading.mistakes) == fleet.MISTAKES_MAX + 1
    assert [entry.id for entry in reading.valid] == ["bee"]


def test_more_tenants_than_a_fleet_may_have_are_refused() -> None:
    content = b"tenants:\n" + b"- {}\n" * (fleet.TENANTS_MAX + 1)
    assert lines(content) == ["fleet.yaml: tenants: with these 10001 the fleet has more than 10000 tenants"]


# --- between tenants ---------------------------------------------------------------------------------------------


def test_an_id_that_two_tenants_have_makes_both_unusable_and_names_both_places() -> None:
    reading = fleet.parse(
        {
            "a.yaml": file(with_({"id": "other", "project": "other-prod"}), LEAST),
            "b.yaml": file(LEAST, with_({"id": "third", "project": "third-prod"})),
        }
    )
    [mistake] = reading.mistakes
    assert (
        str(mistake) == "b.yaml: tenants[0].id: 'acme' is also the id of a.yaml: tenants[1]; expected one tenant only"
    )
    assert [entry.id for entry in reading.valid] == ["other", "third"]
    assert reading.clean == ()
    assert reading.by_tenant == {"acme": (mistake,)}


@pytest.mark.parametrize(
    ("instances", "named"),
    [
        (LEAST["instances"], "'acme-pam-1 in acme-prod, southamerica-east1-a'"),
        ({"label": "tenant=x"}, "'tenant=x in acme-prod'"),
    ],
)
def test_an_instance_that_two_tenants_select_makes_both_unusable(instances: object, named: str) -> None:
    one, two = with_({"instances": instances}), with_({"id": "bee", "instances": instances})
    reading = fleet.parse({"a.yaml": file(one), "b.yaml": file(two)})
    assert [str(mistake) for mistake in reading.mistakes] == [
        f"b.yaml: tenants[0].instances: {named} is also selected by acme (a.yaml: tenants[0]); expected one tenant only"
    ]
    assert reading.valid == ()
    assert sorted(reading.by_tenant) == ["acme", "bee"]


def test_one_name_in_two_zones_or_projects_is_two_instances() -> None:
    elsewhere = [{"name": "acme-pam-1", "zone": "southamerica-east1-b"}]
    tenants = [LEAST, with_({"id": "bee", "instances": elsewhere}), with_({"id": "sea", "project": "sea-prod"})]
    assert lines(file(*tenants)) == []


def test_a_file_with_a_mistake_is_not_clean_but_its_other_tenants_are_valid() -> None:
    bad = with_({"id": "bad", "project": "bad-prod", "rpo_hours": 0})
    reading = fleet.parse({"a.yaml": file(LEAST, bad), "b.yaml": file(with_({"id": "bee", "project": "bee-prod"}))})
    assert [entry.id for entry in reading.valid] == ["acme", "bee"]
    assert [entry.id for entry in reading.clean] == ["bee"]
    assert list(reading.by_tenant) == ["bad"]


def test_a_mistake_outside_the_tenants_leaves_them_valid_but_the_file_not_clean() -> None:
    reading = fleet.parse({"fleet.yaml": file(LEAST) + b"tenant: []\n"})
    assert [str(mistake) for mistake in reading.mistakes] == [
        "fleet.yaml: tenant: unknown key; did you mean 'tenants'?"
    ]
    assert (len(reading.valid), reading.clean, reading.by_tenant) == (1, (), {})


# --- warnings ----------------------------------------------------------------------------------------------------

DR = {**COPIES, "multi_region_dr": {"region": "us-east1", "valid_until": "2028-01-31"}}
WARNED: list[tuple[Mapping[str, Any], list[str]]] = [
    ({"consistency": "group"}, []),
    ({"consistency": "guest_flush"}, []),
    ({"rpo_hours": 24}, ["rpo_hours: 24 is less than a day and the spread of 30 minutes"]),
    ({"rpo_hours": 24, "schedule": {"spread_minutes": 0}}, []),
    ({"rpo_hours": 24, "deployment": "private_saas"}, []),
    (
        {"kms_keys": {"us-west1": KEY.format("us")}, "entitlements": COPIES},
        [
            "kms_keys: no key for southamerica-east1: what is stored there is encrypted with Google's own keys",
            "kms_keys: no key for us-east1: what is encrypted with a customer's key at home is not copied there",
        ],
    ),
    (
        {"entitlements": DR},
        [
            "entitlements.multi_region_dr: restores into us-east1 will need recovery.subnetworks.us-east1",
            "entitlements.multi_region_dr.valid_until: '2028-01-31' is after '2027-12-31'",
        ],
    ),
    (
        {"recovery": {"network": NETWORK}, "restore_test": {"network": NETWORK}},
        [f"restore_test.network: '{NETWORK}' is also recovery.network"],
    ),
    ({"access_networks": ["0.0.0.0/0"]}, ["access_networks[0]: '0.0.0.0/0' is every address"]),
]


@pytest.mark.parametrize(("fields", "says"), WARNED)
def test_what_is_likely_not_wanted_is_a_warning_and_no_mistake(fields: Mapping[str, Any], says: list[str]) -> None:
    reading = fleet.parse({"fleet.yaml": file(with_(fields))})
    assert reading.mistakes == ()
    assert len(reading.clean) == 1
    assert len(reading.warnings) == len(says)
    for warning, said in zip(reading.warnings, says, strict=True):
        assert str(warning).startswith(f"fleet.yaml: tenants[0].{said}")


# --- paths -------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_with_its_folders_in_the_order_of_paths_without_hidden_ones(tmp_path: Path) -> None:
    for index, name in enumerate(("b.yaml", "a/z.yml", ".git/x.yaml", ".hidden.yaml", "notes.txt", "a/readme.md")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file(with_({"id": f"tenant-{index}", "project": f"project-{index}"})))
    reading = fleet.read(tmp_path)
    assert reading.mistakes == ()
    assert reading.files == (str(tmp_path / "a" / "z.yml"), str(tmp_path / "b.yaml"))
    assert [entry.id for entry in reading.clean] == ["tenant-1", "tenant-0"]


def test_a_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "fleet"
    path.write_bytes(file(LEAST))
    assert [(entry.file, entry.id) for entry in fleet.read(path).valid] == [(str(path), "acme")]


def test_paths_that_cannot_be_read_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.yaml").write_bytes(b"#" * (fleet.FILE_BYTES_MAX + 1))
    for name, says in (
        ("none.yaml", "cannot be read: No such file or directory"),
        ("empty", "holds no fleet file; expected files named *.yaml or *.yml"),
        ("pipe", "is neither a file nor a folder"),
        ("large.yaml", "is larger than 4194304 bytes; expected the fleet in several files"),
    ):
        reading = fleet.read(tmp_path / name)
        assert [str(mistake) for mistake in reading.mistakes] == [f"{tmp_path / name}: {says}"]
        assert reading.valid == ()


def test_a_folder_with_a_file_that_cannot_be_read_still_gives_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone.yaml")
    (tmp_path / "b.yaml").write_bytes(file(LEAST))
    reading = fleet.read(tmp_path)
    assert [mistake.file for mistake in reading.mistakes] == [str(tmp_path / "a.yaml")]
    assert [entry.id for entry in reading.clean] == ["acme"]


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    for index in range(fleet.FILES_MAX + 1):
        (tmp_path / f"{index}.yaml").touch()
    assert [str(mistake) for mistake in fleet.read(tmp_path).mistakes] == [
        f"{tmp_path}: holds 1001 files, more than 1000"
    ]


def test_a_fleet_of_too_many_bytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    content = file(LEAST).ljust(fleet.FILE_BYTES_MAX, b"\n")
    for index in range(9):
        (tmp_path / f"{index}.yaml").write_bytes(content)
    reading = fleet.read(tmp_path)
    assert str(reading.mistakes[0]) == (
        f"{tmp_path / '8.yaml'}: not read, nor any file after it: the files together are larger than 33554432 bytes"
    )


# --- properties --------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("tenants", "id", "name", "project", "instances", "zone", "label", "schedule", "daily_at", "retention", "<<"),
        *("acme", "acme-prod", "us-east1-b", "a=b", "02:30", "2027-12-31", "10.0.0.0/8", "raw_key", "yes", "~", ""),
        *(
            "kms_keys",
            "entitlements",
            "inter_region_backup",
            "multi_region_dr",
            "recovery",
            "client_backups",
            "us-east1",
        ),
        *("access_networks", "restore_test", "every_days", "kind", "videos", "network", "subnetworks", "consistency"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS | st.dates()
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6), max_leaves=30
)
LINE = re.compile(r"fleet\.yaml: .+")


def told(content: bytes) -> None:
    reading = fleet.parse({"fleet.yaml": content})
    assert reading.valid or reading.mistakes
    for mistake in (*reading.mistakes, *reading.warnings):
        assert LINE.fullmatch(str(mistake))


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text(alphabet="tenas:-[]{}&*!|>?%<#'\"\\ \n\t,1", max_size=60).map(str.encode)
)
@example(b'tenants: [{name: "\\ud800"}]')
@example(b'"\\UFFFFFFFF": 1')
def test_junk_is_told_and_never_raises(content: bytes) -> None:
    told(content)


@given(st.dictionaries(WORDS, JUNK, max_size=4) | JUNK.map(lambda junk: {"tenants": [junk]}))
def test_junk_of_the_right_words_is_told_and_never_raises(junk: object) -> None:
    told(yaml.safe_dump(junk, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(st.sampled_from(sorted(fleet.read(EXAMPLE).valid, key=lambda entry: entry.id)), WORDS, JUNK)
def test_a_tenant_with_one_value_changed_is_valid_or_told_with_its_path(
    entry: fleet.Entry, key: str, junk: object
) -> None:
    content = yaml.safe_dump({"tenants": [{**entry.normal, key: junk}]}, allow_unicode=True)
    reading = fleet.parse({"fleet.yaml": content.encode("utf-8", "surrogatepass")})
    assert bool(reading.valid) != bool(reading.mistakes)
    for mistake in reading.mistakes:
        assert mistake.path[:2] == ("tenants", 0)


def options(fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict(fields))


TENANTS = st.builds(
    with_,
    options(
        {
            "deployment": st.sampled_from(["saas", "private_saas"]),
            "vault_project": st.just("acme-vault"),
            "instances": st.lists(
                st.builds(
                    lambda name, zone: {"name": name, "zone": f"europe-west1-{zone}"},
                    st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True),
                    st.sampled_from("abc"),
                ),
                min_size=1,
                max_size=5,
                unique_by=lambda one: (one["name"], one["zone"]),
            )
            | st.just({"label": "tenant=acme"}),
            "timezone": st.sampled_from(["UTC", "Europe/Madrid", "Asia/Tokyo"]),
            "schedule": options({"daily_at": st.just("00:00"), "spread_minutes": st.integers(0, 240)}),
            "consistency": st.sampled_from(["crash", "group"]),
            "retention": options({"keep_daily": st.integers(1, 3_660), "lock_days": st.integers(0, 3_660)}),
            "kms_keys": st.just({"us-east1": KEY.format("us-east1")}),
            "entitlements": st.just(COPIES) | st.just({}),
            "recovery": st.just({"network": NETWORK}),
            "access_networks": st.lists(st.ip_addresses().map(str), max_size=4, unique_by=lambda one: str(one).lower()),
            "restore_test": st.just({"network": NETWORK}),
        }
    ),
)


@given(TENANTS)
def test_normalising_the_normalised_changes_nothing(tenant: Mapping[str, Any]) -> None:
    [entry] = fleet.parse({"fleet.yaml": file(tenant)}).valid
    [again] = fleet.parse({"fleet.yaml": file(entry.normal)}).valid
    assert again == entry
    stored = entry.tenant(applied_at=NOW, applied_by="ana@vendor.example")
    assert fleet.written(stored) == entry.normal


def test_the_example_normalises_to_itself_too() -> None:
    for entry in fleet.read(EXAMPLE).valid:
        [again] = fleet.parse({"fleet.yaml": file(entry.normal)}).valid
        assert again.normal == entry.normal
