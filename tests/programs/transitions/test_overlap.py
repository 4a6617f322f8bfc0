"""One job of a key at a time, in order of scheduled_at; held and future jobs do not block the others."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsite.programs.rules.lifecycle import FailureKind, Overlap
from jobsite.programs.transitions import hold
from jobsite.programs.transitions.dispatch import dispatch, wake
from jobsite.programs.transitions.finish import Ending, finish
from jobsite.programs.transitions.overlap import let_in
from tests.programs.conftest import LOCK_SECONDS, SUCCESS, held, new_worker

pytestmark = pytest.mark.django_db
RETRY = Ending.retry(FailureKind.TRANSIENT, delay=60.0)
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def waiting(jobs):
    """Jobs of a key that wait for their turn."""

    def make(count=1, key="k", program=None, **fields):
        return jobs.many(count, program, overlap_policy=Overlap.QUEUE, overlap_key=key, **fields)

    return make


def blocked(jobs, *numbers):
    return [jobs.row(number).blocked for number in numbers]


def let(cursor, numbers=None):
    return [number for number, _ in let_in(cursor, numbers)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "OVERLAP"), ({"hold_by": "alice"}, "HELD"), ({"scheduled_at": IN_AN_HOUR}, "SCHEDULED")],
    ids=["now", "held", "later"],
)
def test_a_job_of_a_key_waits_for_its_turn_when_nothing_else_blocks_it(jobs, waiting, fields, reason):
    assert blocked(jobs, *waiting(**fields)) == [reason]


def test_one_is_let_in_then_the_next_when_it_has_ended(jobs, waiting, cursor):
    first, second, third = waiting(3)

    assert let(cursor) == [first]
    assert let(cursor) == [], "it waits in its lane"
    jobs.queue(first)
    assert let(cursor) == [], "it is QUEUED"
    claimed = jobs.claim(first)
    assert let(cursor, [first]) == [], "it runs"
    finish(cursor, held(claimed), SUCCESS)
    assert let(cursor, [first]) == [second]

    assert blocked(jobs, second, third) == [None, "OVERLAP"]


def test_a_job_between_two_of_its_runs_keeps_its_key(jobs, waiting, cursor):
    first, second = waiting(2)
    let(cursor)
    jobs.queue(first)
    claimed = jobs.claim(first)

    finish(cursor, held(claimed), RETRY)

    assert let(cursor) == []
    jobs.make_due(first, -1)
    hold.unblock(cursor)
    assert blocked(jobs, first, second) == [None, "OVERLAP"], "its turn has come already"


def test_they_go_in_order_of_scheduled_at(jobs, waiting, cursor):
    late, soon, past = (
        waiting(scheduled_at=datetime.now(UTC) - timedelta(minutes=minutes))[0] for minutes in (1, 5, 9)
    )

    order = []
    while turn := let(cursor):
        order += turn
        jobs.queue(*turn)
        finish(cursor, held(jobs.claim(*turn)), SUCCESS)

    assert order == [past, soon, late]


def test_held_and_future_jobs_do_not_block_the_others(waiting, cursor):
    waiting(hold_by="alice")
    waiting(scheduled_at=IN_AN_HOUR)
    [last] = waiting()

    assert let(cursor) == [last]


def test_a_job_that_comes_back_waits_for_its_turn(jobs, waiting, cursor):
    [first] = waiting(hold_by="alice")
    [second] = waiting()
    let(cursor)

    hold.release(cursor, number=first, tenant_id=jobs.program.tenant_id)

    assert blocked(jobs, first, second) == ["OVERLAP", None]
    assert let(cursor) == []


def test_keys_and_programs_do_not_block_each_other(waiting, define, cursor):
    numbers = [
        waiting(2, key)[0] if program is None else waiting(2, key, define(program))[0]
        for key, program in [("a", None), ("b", None), ("a", "other"), ("b", "another")]
    ]

    assert sorted(let(cursor)) == sorted(numbers)


def test_only_the_keys_of_the_given_jobs_are_looked_at(jobs, waiting, cursor):
    mine, _ = waiting(1, "a")[0], waiting(1, "b")
    plain = jobs.pending()

    assert let(cursor, [mine, plain]) == [mine]


def test_many_processes_that_let_in_at_once_let_in_one_job(transactional_db, jobs, waiting, race):
    first, *_ = waiting(3)

    answers = race(*[lambda cursor: let(cursor)] * 6)

    assert sorted(map(len, answers)) == [0, 0, 0, 0, 0, 1]
    assert blocked(jobs, first) == [None]


@pytest.mark.parametrize("other", ["QUEUED", "RUNNING", "in its lane"])
def test_dispatch_sends_no_job_whose_key_another_holds(jobs, waiting, cursor, other):
    new_worker(cursor, children=10)
    first, second = waiting(2)
    # As if two processes had let in a job each at the same moment.
    jobs.set(first, "blocked = NULL")
    jobs.set(second, "blocked = NULL")
    if other != "in its lane":
        jobs.queue(first)
    if other == "RUNNING":
        jobs.claim(first)
    wake(cursor, [first, second])

    moved = dispatch(cursor, queue_id=jobs.queue_id, lock_seconds=LOCK_SECONDS)

    assert [one.number for one in moved] == ([first] if other == "in its lane" else [])
    assert jobs.status(second) == "PENDING"
