"""Which jobs share a message: those of a group, spread over the children, at most fifty."""

import pytest

from jobsite.programs.dispatch import grouped
from jobsite.programs.transitions.dispatch import Dispatched


def moved(groups, children):
    return [
        Dispatched(number, "default", 60.0, group, len(groups), children)
        for number, group in enumerate(groups, start=1)
    ]


@pytest.mark.parametrize(
    ("groups", "children", "expected"),
    [
        ([], 4, []),
        ([None, None], 4, [[1], [2]]),
        ([7], 4, [[1]]),
        ([7] * 4, 4, [[1], [2], [3], [4]]),
        ([7] * 5, 4, [[1, 2], [3, 4], [5]]),
        ([7] * 8, 4, [[1, 2], [3, 4], [5, 6], [7, 8]]),
        ([7] * 3, 1, [[1, 2, 3]]),
        ([7] * 3, 0, [[1, 2, 3]]),
        ([7, 8] * 3, 1, [[1, 3, 5], [2, 4, 6]]),
        ([7, None, 7, None], 1, [[1, 3], [2], [4]]),
        ([7, 7, 8, 7, 7], 2, [[1, 2], [3], [4, 5]]),
    ],
    ids=str,
)
def test_jobs_of_a_group_are_spread_over_the_children_in_order(groups, children, expected):
    messages = grouped(moved(groups, children))

    assert [[job.number for job in message] for message in messages] == expected


@pytest.mark.parametrize(("count", "children", "sizes"), [(120, 1, [50, 50, 20]), (1_000, 2, [50] * 20)])
def test_no_message_carries_more_than_fifty(count, children, sizes):
    assert [len(message) for message in grouped(moved([7] * count, children))] == sizes


@pytest.mark.parametrize("count", [1, 2, 7, 16, 49, 50, 51, 333])
@pytest.mark.parametrize("children", [1, 2, 3, 16])
def test_every_job_is_in_one_message_and_messages_are_spread_evenly_over_the_children(count, children):
    messages = grouped(moved([7] * count, children))

    assert [job.number for message in messages for job in message] == list(range(1, count + 1))
    assert all(1 <= len(message) <= 50 for message in messages)
    largest = max(len(message) for message in messages)
    assert largest <= -(-count // children)


@pytest.mark.parametrize(
    ("count", "seconds", "sizes"),
    [(3, 0.0003, [3]), (20, 0.0003, [13, 7]), (40, 0.0003, [20, 20]), (3, 0.002, [2, 1]), (4, 0.0042, [2, 2])],
)
def test_no_message_carries_less_work_than_it_costs_while_there_is_more(count, seconds, sizes):
    jobs = [Dispatched(number, "default", 60.0, 7, count, 2, seconds) for number in range(count)]

    assert [len(message) for message in grouped(jobs)] == sizes
