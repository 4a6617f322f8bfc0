"""WAITING -> the callback or the end: under the lock of the parent's row, after a look at its children."""

import pytest

from jobsite.programs.models import Job
from jobsite.programs.transitions import finish, resolve
from jobsite.programs.transitions.finish import Ending
from tests.programs.conftest import WAITING, held

SETTLED = Ending.waiting()


@pytest.fixture
def family(jobs):
    """A WAITING parent, and its open child."""

    def make(ending=WAITING):
        parent, child = jobs.ended(ending), jobs.pending()
        jobs.set(child, "parent_id = %s, child_key = 'a', parent_fence = 1, trigger = 'CHILD'", [parent])
        return parent, child

    return make


def cancel(jobs, number):
    jobs.set(number, "status = 'CANCELED', finished_at = clock_timestamp()")


@pytest.mark.django_db
@pytest.mark.parametrize(("ending", "status"), [(WAITING, "PENDING"), (SETTLED, "COMPLETED")])
def test_a_parent_goes_on_when_no_child_is_open(jobs, family, ending, status):
    parent, child = family(ending)
    assert resolve.lock(jobs.cursor, [parent]) == []
    cancel(jobs, child)

    assert resolve.lock(jobs.cursor, [parent]) == [parent]
    [resolved] = resolve.resolve(jobs.cursor, [parent])

    assert (resolved.number, resolved.status, resolved.parent_id) == (parent, status, None)
    assert jobs.status(parent) == status


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELED"])
def test_a_job_that_does_not_wait_is_left_alone(jobs, status):
    number = jobs.in_status(status)

    assert resolve.lock(jobs.cursor, [number]) == []
    assert resolve.resolve(jobs.cursor, [number]) == []


@pytest.mark.django_db(transaction=True)
def test_one_of_two_processes_that_resolve_at_once_finds_nothing(jobs, family, other):
    parent, child = family()
    cancel(jobs, child)

    with other.transaction(), other.cursor() as cursor:
        assert resolve.lock(cursor, [parent]) == [parent]
        assert resolve.lock(jobs.cursor, [parent]) == []
        resolve.resolve(cursor, [parent])

    assert resolve.lock(jobs.cursor, [parent]) == []
    assert jobs.status(parent) == "PENDING"


@pytest.mark.django_db(transaction=True)
def test_a_parent_that_waits_again_for_new_children_is_looked_at_again(jobs, family):
    """Between the first look and the lock its callback has run, spawned, and parked."""
    parent, child = family()
    cancel(jobs, child)
    [locked] = resolve.lock(jobs.cursor, [parent])
    resolve.resolve(jobs.cursor, [parent])
    jobs.queue(parent)
    finish.finish(jobs.cursor, held(jobs.claim(parent)), WAITING)
    again = jobs.pending()
    jobs.set(again, "parent_id = %s, child_key = 'b', parent_fence = 2, trigger = 'CHILD'", [parent])

    assert resolve.resolve(jobs.cursor, [locked]) == []
    assert jobs.status(parent) == "WAITING"


@pytest.mark.django_db
def test_the_sweep_finds_five_hundred_at_a_time(jobs, monkeypatch):
    numbers = [jobs.ended(WAITING) for _ in range(3)]

    assert resolve.waiting_without_open_child(jobs.cursor) == numbers
    assert [one.number for one in resolve.resolve(jobs.cursor, resolve.lock(jobs.cursor, numbers))] == numbers
    assert Job.objects.filter(status="WAITING").count() == 0
