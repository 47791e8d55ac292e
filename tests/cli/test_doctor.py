"""`snapkeep doctor` as it is typed: where it looks, and how it ends."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli.typing_in import NOT_OURS, refused, run
from tests.doctor.google import REGION, Google, refusal, serving

from snapkeep import permissions
from snapkeep.cli import root
from snapkeep.cli.doctor import declared


def test_without_a_local_cloud_it_says_how_one_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "start a local cloud with `snapkeep up`" in refused(f"http://127.0.0.1:{port}", "doctor")


def test_a_deployment_needs_its_project() -> None:
    result = run("https://snapkeep.vendor.example", "doctor")
    assert result.exit_code == 2
    assert "--project" in result.stderr


def test_without_credentials_it_says_how_to_sign_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # No credentials of this machine's, and no metadata server: google-auth looks into the environment.
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    said = refused("https://snapkeep.vendor.example", "doctor", "--project", "snapkeep-prod")
    assert "gcloud auth application-default login" in said


@pytest.mark.parametrize("width", [80, 160])
def test_what_is_found_and_what_is_not_told_is_printed_with_its_mend(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    def found(google: Google, *arguments: str) -> tuple[int, str, str]:
        # The command makes its own way to Google; here that is a server of this machine.
        monkeypatch.setattr("snapkeep.gcp.platform.Plane", lambda project: google.plane())
        runner = CliRunner(env=dict.fromkeys(NOT_OURS) | {"COLUMNS": str(width)})
        result = runner.invoke(root, ["doctor", "--project", "snapkeep-prod", "--region", REGION, *arguments])
        return result.exit_code, result.stdout, result.stderr

    with serving() as google:
        assert found(google)[0] == 0
        del google.answers[f"/v1/projects/snapkeep-prod/roles/{permissions.PUBLISHER}"]
        google.answers["/v1/projects/snapkeep-prod/topics"] = refusal(403, "PERMISSION_DENIED", "denied")
        status, out, err = found(google)
    assert (status, err) == (1, "snapkeep: 1 finding and 1 could not be told: see above\n")
    lines = out.splitlines()
    assert [line[:3] for line in lines if line[:1].isdigit()] == ["1. ", "2. "]
    assert sum(line.startswith("   mend: ") for line in lines) == 2
    assert max(len(line) for line in lines if "mend: " not in line) <= width


def test_roles_of_another_prefix_are_looked_for_under_their_own_ids() -> None:
    usual, other = declared(), declared("snapkeep2")
    assert [role.id.replace("snapkeep2", "snapkeep", 1) for role in other.roles] == [role.id for role in usual.roles]
    assert all(role.id.startswith("snapkeep2.") for role in other.roles)
