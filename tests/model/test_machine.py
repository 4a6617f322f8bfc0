"""The protocol's statements do what the reference says, whatever comes in whatever order."""

import secrets

import pytest
from hypothesis import seed

from tests.model.machine import Protocol, run


def test_whatever_comes_in_whatever_order_the_statements_do_what_the_reference_says(world):
    run(Protocol, world, max_examples=40, stateful_step_count=40, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_same_for_many_more_orders(world):
    number = secrets.randbits(32)
    print(f"seed {number}")  # noqa: T201 - whoever runs it again needs the seed

    run(seed(number)(Protocol), world, max_examples=2_000, stateful_step_count=60)
