"""The one table of who may do what, and docs/access.md, which is written from it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

import pytest

from snapkeep import access
from snapkeep.access import ACCESS, DEPLOYMENTS, RIGHTS, ROLES, Allowed, Caller, Denied, Deployment, Right, decide
from snapkeep.documents import Role

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "access.md"

VENDOR: Final = tuple(role for role in ROLES if role != "client_admin")
HIS: Final = "acme"
ADMIN_ACTIONS: Final = [right for right in ACCESS if right.scope == "tenant" and not right.action.endswith(".read")]


def caller(role: Role, tenant: str = HIS) -> Caller:
    return Caller(f"{role}@example.test", role, tenant if role == "client_admin" else None)


def may(right: Right, role: Role, deployment: Deployment) -> bool:
    return decide(right.action, caller(role), HIS if right.scope == "tenant" else None, deployment) == Allowed()


def test_the_document_is_what_the_table_says() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == access.page(), "write it anew: make generate"


def test_every_action_stands_in_the_table_once() -> None:
    assert [right.action for right in ACCESS] == list(get_args(access.Action))
    assert len(RIGHTS) == len(ACCESS)


@pytest.mark.parametrize("right", ACCESS, ids=lambda right: right.action)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_role_may_what_the_table_gives_it_and_nothing_else(right: Right, deployment: Deployment) -> None:
    assert [role for role in ROLES if may(right, role, deployment)] == [
        r for r in ROLES if r in right.roles(deployment)
    ]


@pytest.mark.parametrize("right", ADMIN_ACTIONS, ids=lambda right: right.action)
def test_of_a_saas_tenant_the_admin_actions_are_the_vendors_alone(right: Right) -> None:
    assert not may(right, "client_admin", "saas")


def test_of_a_private_saas_tenant_they_are_its_client_admins_too_but_for_what_the_fleet_is() -> None:
    denied = [right.action for right in ADMIN_ACTIONS if not may(right, "client_admin", "private_saas")]
    assert denied == ["tenant.apply", "tenant.offboard"]


def test_an_auditor_reads_everything_and_changes_nothing() -> None:
    for deployment in DEPLOYMENTS:
        allowed = {right.action for right in ACCESS if may(right, "auditor", deployment)}
        assert allowed == {right.action for right in ACCESS if right.action.endswith(".read")}


def test_the_schedule_is_switched_by_a_client_admin_of_a_private_saas_tenant_alone() -> None:
    right = RIGHTS["schedule.switch"]
    who = [(role, deployment) for role in ROLES for deployment in DEPLOYMENTS if may(right, role, deployment)]
    assert who == [("client_admin", "private_saas")]


@pytest.mark.parametrize("right", ACCESS, ids=lambda right: right.action)
def test_another_tenant_is_hidden_from_a_client_admin_whatever_he_asks_for(right: Right) -> None:
    for deployment in (*DEPLOYMENTS, None):
        match decide(right.action, caller("client_admin"), "beta", deployment):
            case Denied(hidden=hidden):
                assert hidden
            case Allowed():
                pytest.fail(f"{right.action} of another tenant")


def test_a_client_admin_of_no_tenant_may_nothing() -> None:
    nobody = Caller("lost@example.test", "client_admin", None)
    for right in ACCESS:
        for tenant in (None, HIS):
            assert isinstance(decide(right.action, nobody, tenant, "private_saas"), Denied)


@pytest.mark.parametrize("right", ACCESS, ids=lambda right: right.action)
def test_nobody_approves_his_own_request(right: Right) -> None:
    for deployment in DEPLOYMENTS:
        for role in right.roles(deployment):
            him = caller(role)
            tenant = HIS if right.scope == "tenant" else None
            denied = decide(right.action, him, tenant, deployment, requested_by=him.email)
            assert denied == Denied("nobody approves his own request")
            assert decide(right.action, him, tenant, deployment, requested_by="other@example.test") == Allowed()


def test_without_the_deployment_only_what_both_allow_is_allowed() -> None:
    assert decide("hold.add", caller("operator"), HIS) == Allowed()
    denied = decide("hold.add", caller("client_admin"), HIS)
    assert isinstance(denied, Denied)
    assert "of a private_saas tenant it needs operator or admin or client_admin" in denied.reason


def test_a_denial_says_which_role_it_needs() -> None:
    assert decide("tick", caller("viewer")) == Denied("tick is not for viewer: it needs operator or admin")
    assert decide("schedule.switch", caller("admin"), HIS, "saas") == Denied(
        "schedule.switch is not for admin: it is for nobody"
    )


@pytest.mark.parametrize("right", [one for one in ACCESS if one.action.endswith(".read")], ids=lambda one: one.action)
def test_what_may_be_read_does_not_depend_on_the_deployment(right: Right) -> None:
    # So that nobody's deployment is read before a reading.
    assert right.saas == right.private_saas


def test_whose_work_what_is_stands_as_the_contract_has_it() -> None:
    told = {duty.what: (duty.saas, duty.private_saas) for duty in access.RESPONSIBILITY}
    assert told["system backups (recovery points)"] == ("vendor", "client")
    assert told["password backups"] == told["video backups"] == ("client", "client")
    assert told["updates"] == ("vendor", "coordinated: the client approves")
    assert told["admin menu"] == ("vendor", "vendor and client")
