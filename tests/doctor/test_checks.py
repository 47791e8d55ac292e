"""What `snapkeep doctor` makes of facts: each check well, broken, and unread."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from tests.doctor.healthy import NOW, PROJECT, WANTED, found, job, local, subscription, verdicts

from snapkeep import views
from snapkeep.doctor.checks import CHECKS, LATE_SLACK, examined, green, period
from snapkeep.doctor.facts import DELETED_TOPIC, Facts, Function, Known, Letters, NotHere, Offset, Tick, Unread

UNREAD = Unread("v1/projects/p/topics: you may not read it", "gcloud projects add-iam-policy-binding p")
READ = tuple(field.name for field in fields(Facts) if field.name not in ("local", "project", "now"))


def without(mapping: Any, *names: str) -> Known[Any]:
    return Known({name: value for name, value in mapping.value.items() if name not in names})


def with_(mapping: Any, **changed: Any) -> Known[Any]:
    return Known(mapping.value | changed)


# --- all of them --------------------------------------------------------------------------------------------------


def test_a_deployment_as_it_should_be_is_green_in_every_check() -> None:
    seen = examined(local(), WANTED)
    googles = ("APIs", "Firestore", "indexes", "roles", "quotas", "tenants' projects")
    assert [(one.check, one.stand) for one in seen] == [
        (name, "not here" if name in googles else "ok") for name, _ in CHECKS
    ]
    assert all(one.said for one in seen)
    assert green(seen)


@pytest.mark.parametrize("fact", READ)
def test_what_could_not_be_read_is_never_green(fact: str) -> None:
    seen = examined(local(**{fact: UNREAD}), WANTED)
    assert UNREAD in [untold for one in seen for untold in one.untold]
    assert "cannot be told" in [one.stand for one in seen]
    assert not green(seen)


@pytest.mark.parametrize("fact", READ)
def test_what_there_is_none_of_is_said_and_is_no_fault(fact: str) -> None:
    seen = examined(local(**{fact: NotHere("there is none on emulators")}), WANTED)
    assert green(seen)


def test_a_check_of_nothing_that_is_here_says_why() -> None:
    verdict = verdicts(local(topics=NotHere("there is none on emulators")))["topics"]
    assert (verdict.stand, verdict.said) == ("not here", "there is none on emulators")


def test_what_is_found_is_told_beside_what_could_not_be_read() -> None:
    verdict = verdicts(local(waiting_letters=Known(2), settled_letters=UNREAD))["dead letters"]
    assert (verdict.stand, len(verdict.findings), verdict.untold) == ("finding", 1, (UNREAD,))


# --- functions ----------------------------------------------------------------------------------------------------


def test_a_function_that_is_missing_or_does_not_run_is_found() -> None:
    facts = local()
    assert found(local(functions=without(facts.functions, "expire"))) == [
        ("functions", "function expire", "it is not deployed: its work is left undone",
         "end `snapkeep up` with Ctrl-C, and start it again")
    ]  # fmt: skip
    broken = with_(facts.functions, plan=Function("without a process", None, None, None, None))
    ((_, where, what, _),) = found(local(functions=broken))
    assert (where, what) == ("function plan", "it is without a process, expected ACTIVE")
    said = verdicts(local(functions=broken))["functions"].said
    assert said == f"{len(WANTED.deployment.functions) - 1} of {len(WANTED.deployment.functions)} run"


# --- Pub/Sub ------------------------------------------------------------------------------------------------------


def test_a_missing_topic_is_one_finding_with_the_function_that_it_wakes() -> None:
    facts = local()
    gone = local(
        topics=Known(WANTED.topics - {"snapkeep-copy"}),
        subscriptions=with_(facts.subscriptions, **{"snapkeep-copy": subscription("x", topic=DELETED_TOPIC)}),
    )
    assert found(gone) == [
        ("topics", "topic snapkeep-copy",
         "it is not there: nothing wakes function copy, and its subscription hears nothing", "snapkeep sim mend")
    ]  # fmt: skip


def test_a_missing_topic_that_no_function_reads_is_found_too() -> None:
    ((_, where, what, _),) = found(local(topics=Known(WANTED.topics - {"snapkeep-events"})))
    assert (where, what) == ("topic snapkeep-events", "it is not there: what is published to it is lost")


def test_a_missing_subscription_is_found() -> None:
    ((check, where, what, _),) = found(local(subscriptions=without(local().subscriptions, "snapkeep-plan")))
    assert (check, where) == ("subscriptions", "subscription snapkeep-plan")
    assert what == "it is not there: no message reaches function plan"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"dead_letter_topic": None, "attempts_max": None}, "it has no dead letters"),
        ({"attempts_max": 5}, "after 5 attempts, expected snapkeep-dead-letters after 10"),
        ({"dead_letter_topic": "other"}, "its dead letters go to other"),
        ({"topic": DELETED_TOPIC}, "its topic was deleted and made anew"),
        ({"topic": "snapkeep-copy"}, "it is of topic snapkeep-copy"),
        ({"endpoint": None}, "it pushes to nobody"),
        ({"endpoint": "https://plan.run.app/"}, f"does not end in /projects/{PROJECT}/topics/snapkeep-plan"),
        ({"ack_deadline_s": 10}, "its ack deadline is 10 s, expected 600 s"),
        ({"retry_min_s": None, "retry_max_s": None}, "it has no retry policy, expected 10 to 600 s"),
        ({"retry_max_s": 60.0}, "it tries again after 10 to 60 s, expected 10 to 600 s"),
        ({"retention": timedelta(days=1)}, "it keeps messages for 1 day, 0:00:00, expected 7 days"),
        ({"expires": timedelta(days=31)}, "it is deleted when it was not used for 31 days"),
    ],
)
def test_a_subscription_that_is_not_as_it_should_be_is_found(other: dict[str, Any], said: str) -> None:
    broken = with_(local().subscriptions, **{"snapkeep-plan": subscription("snapkeep-plan", **other)})
    ((check, where, what, mend),) = found(local(subscriptions=broken))
    assert (check, where, mend) == ("subscriptions", "subscription snapkeep-plan", "snapkeep sim mend")
    assert said in what


def test_all_that_is_wrong_with_one_subscription_is_one_finding() -> None:
    bare = subscription(
        "snapkeep-plan", dead_letter_topic=None, attempts_max=None, ack_deadline_s=10, retry_min_s=None, endpoint=None
    )
    ((_, _, what, _),) = found(local(subscriptions=with_(local().subscriptions, **{"snapkeep-plan": bare})))
    assert what.count(";") == 3


def test_dead_letters_have_no_dead_letters_of_their_own() -> None:
    assert subscription("snapkeep-dead-letters").dead_letter_topic is None
    assert found(local()) == []


# --- dead letters -------------------------------------------------------------------------------------------------


def test_dead_letters_that_nobody_took_are_found_with_the_log_to_read() -> None:
    ((check, _, what, mend),) = found(local(waiting_letters=Known(1)))
    assert (check, what) == ("dead letters", "1 dead letter waits there, which function dead_letters did not take")
    assert mend == "less .snapkeep/up/dead_letters.log"


def test_dead_letters_of_the_last_days_are_a_warning() -> None:
    (finding,) = verdicts(local(settled_letters=Known(Letters(3, "create: HTTP 500"))))["dead letters"].findings
    assert finding.severity == "warning"
    assert finding.what == "3 messages ended there in 7 days; the newest: create: HTTP 500"


# --- Cloud Scheduler ----------------------------------------------------------------------------------------------


def test_a_stopped_stand_in_is_one_finding_and_explains_that_functions_are_silent() -> None:
    stopped = {name: job(name, state="PAUSED", changed_at=NOW - timedelta(hours=3)) for name in WANTED.ticking}
    old = {name: Tick(NOW - timedelta(hours=3), None) for name in WANTED.ticking}
    facts = local(jobs=Known(stopped), ticks=Known(old))
    assert found(facts) == [
        ("schedules", "Cloud Scheduler's stand-in",
         f"it is stopped: {len(WANTED.ticking)} functions get no ticks, so that nothing begins by itself",
         "snapkeep sim scheduler start")
    ]  # fmt: skip
    assert verdicts(facts)["ticks"].said.startswith("8 functions are silent, for what is found")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"state": "PAUSED"}, "it is PAUSED: function plan gets no ticks"),
        ({"cron": "0 * * * *"}, "it is '0 * * * *' (UTC) to snapkeep-plan, expected '*/5 * * * *' (UTC)"),
        ({"timezone": "America/Sao_Paulo"}, "it is '*/5 * * * *' (America/Sao_Paulo) to snapkeep-plan"),
        ({"topic": "snapkeep-create"}, "to snapkeep-create, expected '*/5 * * * *' (UTC) to snapkeep-plan"),
        ({"topic": None}, "to no topic"),
        ({"failure": "NOT_FOUND"}, "its last attempt failed: NOT_FOUND"),
    ],
)
def test_a_schedule_that_is_not_as_it_should_be_is_found(other: dict[str, Any], said: str) -> None:
    ((check, where, what, mend),) = found(local(jobs=with_(local().jobs, plan=job("plan", **other))))
    assert (check, where, mend) == ("schedules", "schedule plan", "make deploy")
    assert said in what


def test_a_missing_schedule_is_found() -> None:
    ((_, where, what, _),) = found(local(jobs=without(local().jobs, "audit")))
    assert (where, what) == ("schedule audit", "it is not there: function audit gets no ticks")


# --- ticks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "periods"), sorted(views.PERIODS.items()))
def test_a_function_is_silent_after_two_periods_and_the_longest_run(function: str, periods: timedelta) -> None:
    last = NOW - 2 * periods - LATE_SLACK
    assert found(local(ticks=with_(local().ticks, **{function: Tick(last, None)}))) == []
    late = Tick(last - timedelta(seconds=1), None)
    ((check, where, what, mend),) = found(local(ticks=with_(local().ticks, **{function: late})))
    assert (check, where) == ("ticks", f"function {function}")
    assert what.startswith("its ticks are published, and it last carried one out 2026-11-22 ")
    assert mend.startswith(f"snapkeep tick {function}; ")


def test_a_function_that_never_ticked_is_silent_once_it_should_have() -> None:
    never = without(local().ticks, "plan")
    assert found(local(ticks=never, jobs=with_(local().jobs, plan=job("plan", changed_at=NOW)))) == []
    ((_, where, what, _),) = found(local(ticks=never))
    assert (where, what) == ("function plan", "its ticks are published, and it never carried one out")


def test_silence_is_found_even_where_the_schedules_could_not_be_read() -> None:
    facts = local(jobs=UNREAD, ticks=without(local().ticks, "plan"))
    assert [where for _, where, _, _ in found(facts)] == ["function plan"]


@pytest.mark.parametrize("cron", ["5 2 * * *", "*/7,3 * * * *", "* * *", "x * * * *"])
def test_the_period_of_another_form_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        period(cron)


def test_the_periods_are_those_that_the_pages_go_by() -> None:
    assert {name: period(cron) for name, cron in WANTED.ticking.items()} == views.PERIODS


# --- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "said"), [(31, "31 s ahead of"), (-31, "31 s behind")])
def test_clocks_that_are_apart_are_found(seconds: int, said: str) -> None:
    apart = Offset("the clock of function web", "the local cloud's", timedelta(seconds=seconds))
    ((check, where, what, _),) = found(local(clocks=Known((apart,))))
    assert (check, where) == ("clocks", "the clock of function web")
    assert said in what
