"""A policy to try out: from a file of its own, or from a fleet file."""

from pathlib import Path

import pytest

from snapkeep import fleet
from snapkeep.documents import Retention

ACME = """\
tenants:
  - id: acme
    name: Acme Bank
    project: acme-prod
    instances: [{name: acme-pam-1, zone: southamerica-east1-a}]
    retention: {keep_daily: 3}
"""


def read(folder: Path, text: str, tenant: str = "acme") -> tuple[Retention | None, list[str]]:
    path = folder / "policy.yaml"
    path.write_text(text)
    policy, mistakes = fleet.read_policy(path, tenant)
    return policy, [str(mistake).removeprefix(f"{path}: ") for mistake in mistakes]


@pytest.mark.parametrize("text", ["keep_daily: 3", "retention: {keep_daily: 3}", ACME])
def test_what_is_left_out_takes_the_defaults_of_the_fleet_file(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == (Retention(keep_daily=3), [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keep_daily: many", "keep_daily: 'many' is not a whole number from 0 to 3660"),
        ("keep_dayly: 3", "keep_dayly: unknown key; did you mean 'keep_daily'?"),
        ("keep_last: 0\nkeep_daily: 0\nkeep_weekly: 0\nkeep_monthly: 0", "keeps nothing"),
        ("7", "7 is not"),
        ("", "null is not"),
        ("a: [", "not YAML"),
        ("retention: 7", "7 is not"),
        (ACME.replace("keep_daily: 3", "keep_daily: -1"), "tenants[0].retention.keep_daily: -1 is not"),
        (ACME.replace("id: acme", "id: beta"), "names no tenant acme"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_taken(tmp_path: Path, text: str, said: str) -> None:
    policy, (mistake,) = read(tmp_path, text)
    assert policy is None
    assert said in mistake


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    policy, (mistake,) = fleet.read_policy(tmp_path / "none.yaml", "acme")
    assert policy is None
    assert "cannot be read" in str(mistake)
