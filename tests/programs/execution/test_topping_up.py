"""When a finish fills the window of its queue again."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from jobsite.programs import dispatch, execution, workers
from jobsite.programs.models import Job, Program
from jobsite.programs.transitions.dispatch import wake
from tests.programs.conftest import new_worker

MESSAGE = UUID(int=7)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fill(jobs, cursor, define, monkeypatch):
    """Fill the window from many jobs, in a process of a worker with two children."""
    monkeypatch.setattr(dispatch, "_enough", {})
    monkeypatch.setattr(workers, "_registered", new_worker(cursor, children=2))
    program = define(target="tests.sample_actions:perform", group=False)

    def make(mean_seconds):
        Program.objects.filter(pk=program.pk).update(measured_runs=20, mean_seconds=mean_seconds)
        wake(cursor, jobs.many(60, program, parameters='{"act": "succeed"}'))
        dispatch.dispatch(cursor, program.queue_id)
        return len(queued())

    return make


def queued():
    return list(Job.objects.filter(status="QUEUED").order_by("number").values_list("number", flat=True))


def left_after_each(finishes):
    left = []
    for _ in range(finishes):
        execution.run(queued()[:1], message=MESSAGE)
        left.append(len(queued()))
    return left


def test_the_window_is_filled_once_it_is_half_empty(fill):
    assert fill(0.018) == 10

    assert left_after_each(8) == [9, 8, 7, 6, 5, 10, 9, 8]


def test_the_window_never_holds_less_than_the_children_may_take_next(fill):
    assert fill(60.0) == 3

    assert left_after_each(3) == [2, 3, 2]


def test_jobs_that_the_claim_refused_are_dispatched_again_at_once(fill, jobs):
    fill(0.018)
    first, second = queued()[:2]
    Job.objects.filter(number=second).update(due_at=LATER, rank=LATER)

    execution.run([first, second], message=MESSAGE)

    assert Job.objects.get(number=second).blocked == "SCHEDULED"
    assert len(queued()) == 10
