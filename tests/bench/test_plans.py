"""The points that plans are measured with, and that both sides of the ratio are measured. Nothing is timed."""

from tests.bench import plans

from snapkeep.creation.rules import taken_at
from snapkeep.retention.rules import BUCKETS, Expire, Keep, plan


def test_the_points_are_of_one_instance_and_in_no_order() -> None:
    points = plans.verified(100)
    moments = [taken_at(one) for one in points]
    assert len({one.id for one in points}) == len(set(moments)) == 100
    assert moments not in (sorted(moments), sorted(moments, reverse=True))


def test_every_rule_of_the_policy_has_something_to_do() -> None:
    decided = plan(plans.verified(10_000), plans.SITUATION, plans.NOW)
    assert {*BUCKETS, "within", "newest verified", "locked"} <= decided.kept_by.keys()
    assert {type(one.decision) for one in decided.decisions} == {Keep, Expire}


def test_a_measurement_is_of_plans_and_of_sorts() -> None:
    measured = plans.measure(10, seconds=0)
    assert measured.points == 10
    assert measured.ratio == measured.plan_s / measured.sort_s > 0
