"""The protocol's statements do what the reference says, whatever comes in whatever order."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.driver import World
from tests.model.machine import Protocol


def run(world: World, **options: object) -> None:
    """So many examples on this world; raises what broke, with the moves that lead there."""
    machine = type("ProtocolOnThisWorld", (Protocol,), {"world": world})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    known = settings(deadline=None, database=None, suppress_health_check=checks, print_blob=True)
    run_state_machine_as_test(machine, settings=settings(known, **options))


def test_whatever_comes_in_whatever_order_the_statements_do_what_the_reference_says(world):
    run(world, max_examples=150, stateful_step_count=40, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_same_for_many_more_orders(world):
    run(world, max_examples=2_000, stateful_step_count=60)
