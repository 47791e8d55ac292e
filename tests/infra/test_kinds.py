"""What is said at the end of a run of the tests (tests/conftest.py)."""

from types import SimpleNamespace

from tests.conftest import count, kind_of, said


def report(nodeid: str, *marks: str, skipped: str = "") -> SimpleNamespace:
    return SimpleNamespace(nodeid=nodeid, keywords=dict.fromkeys(marks, 1), longrepr=("file", 1, skipped))


def test_a_kind_is_the_folder_under_tests() -> None:
    assert kind_of("tests/fleet/test_read.py::test_x") == "fleet"
    assert kind_of("tests/faults/deep/test_x.py::test_x") == "faults"
    assert kind_of("tests/test_x.py::test_x") == "tests"


def test_a_kinds_tests_on_emulators_are_counted_apart() -> None:
    assert kind_of("tests/contract/test_bus.py::test_x[emulator]@emulators", ["e2e"]) == "contract on emulators"
    assert kind_of("tests/e2e/test_up.py::test_x", ["e2e"]) == "e2e"


def test_a_test_that_passed_and_whose_tear_down_failed_is_one_failed_test() -> None:
    one = report("tests/fleet/test_read.py::test_x")
    counts, _ = count({"passed": [one], "error": [one]})
    assert counts == {"fleet": {"failed": 1}}


def test_what_did_not_run_is_counted_with_its_reason() -> None:
    stats = {
        "skipped": [
            report("tests/contract/test_bus.py::test_a", "e2e", skipped="Skipped: NOT RUN: install them"),
            report("tests/contract/test_bus.py::test_b", "e2e", skipped="Skipped: NOT RUN: install them"),
            report("tests/e2e/test_up.py::test_c", "e2e", skipped="Skipped: install them"),
        ]
    }
    counts, reasons = count(stats)
    assert counts == {"contract on emulators": {"not run": 2}, "e2e": {"not run": 1}}
    assert reasons == {"install them": {"contract on emulators": 2, "e2e": 1}}


def test_what_a_test_says_it_looked_at_is_told_once_and_only_if_it_passed() -> None:
    told = SimpleNamespace(user_properties=[("says", "31 resources"), ("other", "x")])
    assert said({"passed": [told, told], "failed": [SimpleNamespace(user_properties=[("says", "none")])]}) == [
        "31 resources"
    ]
