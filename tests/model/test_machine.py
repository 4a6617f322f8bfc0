"""The protocol's statements do what the reference says, in any order of moves."""

import secrets

import pytest
from hypothesis import seed

from tests.model.machine import Protocol, run


def test_the_statements_do_what_the_reference_says_in_any_order(world):
    run(Protocol, world, max_examples=40, stateful_step_count=40, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_same_for_many_more_orders(world):
    number = secrets.randbits(32)
    print(f"seed {number}")  # noqa: T201 - whoever runs it again needs the seed

    run(seed(number)(Protocol), world, max_examples=2_000, stateful_step_count=60)
