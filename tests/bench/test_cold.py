"""The deliveries that functions get when their start is measured."""

import json

import pytest
from tests.bench import cold
from tests.makers import World, tenant

from snapkeep_local import schedule


@pytest.mark.parametrize("function", schedule.functions(), ids=lambda function: function.name)
def test_the_first_delivery_of_a_function_is_one_that_it_settles_without_effect(function: schedule.Function) -> None:
    one = World()
    one.put((f"tenants/{cold.TENANT}", tenant(id=cold.TENANT)))
    one.receive(function.name, json.loads(cold.envelope(function.name, function.topic)))
    assert one.compute.calls == []
    if function.name != "dead_letters":  # which keeps whatever reaches it
        assert [path for path in one.memory.dump() if path.startswith("rejected/")] == []
