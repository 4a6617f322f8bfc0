"""RUNNING -> PENDING uncounted: a worker that stops, a snooze, an action that is not known here."""

import pytest

from jobsite.programs.models import JobAttempt
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.dispatch import dispatch, wake
from jobsite.programs.transitions.finish import StaleJob, finish
from jobsite.programs.transitions.give_back import action_unknown, give_back_all, snoozed
from tests.programs.conftest import LOCK_SECONDS, SUCCESS, claim_all, held, new_worker

pytestmark = pytest.mark.django_db


def test_a_worker_that_stops_gives_back_all_its_jobs_uncounted(jobs, worker):
    numbers = [jobs.running(worker=worker).number for _ in range(2)]

    returned = give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name)

    assert sorted(returned) == numbers
    for number in numbers:
        job = jobs.row(number)
        assert (job.status, job.blocked, job.queued_at) == ("PENDING", None, None)
        assert (job.attempts, job.losses, job.returns, job.alone, job.fence) == (0, 0, 0, False, 1)
        assert (job.lock_token, job.lock_owner, job.lock_expires_at, job.stuck_at) == (None,) * 4


def test_a_job_that_was_given_back_has_an_attempt_that_says_so(jobs, worker):
    claimed = jobs.running(worker=worker)

    give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name)

    attempt = JobAttempt.objects.get(job_id=claimed.number)
    assert (attempt.result, attempt.fence, attempt.token, attempt.worker) == (
        "RETURNED",
        1,
        claimed.token,
        worker.name,
    )
    assert attempt.claimed_at <= attempt.ended_at


def test_the_jobs_of_other_workers_stay_where_they_are(jobs, worker, cursor):
    theirs = jobs.running(worker=new_worker(cursor, "w2@here"))

    assert give_back_all(cursor, owner=worker.incarnation, worker=worker.name) == []

    assert jobs.row(theirs.number).lock_token == theirs.token


def test_a_child_that_goes_on_finds_its_token_gone(jobs, worker):
    claimed = jobs.running(worker=worker)
    give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name)

    with pytest.raises(StaleJob):
        finish(jobs.cursor, held(claimed), SUCCESS)

    assert jobs.status(claimed.number) == "PENDING"


def test_giving_back_twice_returns_nothing_the_second_time(jobs, worker):
    jobs.running(worker=worker)
    give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name)

    assert give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name) == []


def test_a_job_that_was_given_back_is_in_its_lane_again(jobs, worker):
    claimed = jobs.running(worker=worker)
    give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name)

    wake(jobs.cursor, [claimed.number])
    moved = dispatch(jobs.cursor, queue_id=jobs.queue_id, lock_seconds=LOCK_SECONDS)

    assert [one.number for one in moved] == [claimed.number]


def test_a_job_that_was_asked_to_stop_is_canceled_instead_of_given_back(jobs, worker):
    claimed = jobs.running(worker=worker)
    cancel(jobs.cursor, number=claimed.number, tenant_id=claimed.tenant_id, by="alice", reason="")
    give_back_all(jobs.cursor, owner=worker.incarnation, worker=worker.name)

    wake(jobs.cursor, [claimed.number])
    dispatch(jobs.cursor, queue_id=jobs.queue_id, lock_seconds=LOCK_SECONDS)

    assert claim_all(jobs.cursor, [claimed.number], worker) == []


def test_a_finish_and_a_stop_at_once_agree_on_one_end(jobs, worker, race):
    for _ in range(10):
        claimed = jobs.running(worker=worker)

        finished, returned = race(
            lambda cursor, it=claimed: finish(cursor, held(it), SUCCESS),
            lambda cursor: give_back_all(cursor, owner=worker.incarnation, worker=worker.name),
        )

        won = finished is None
        assert won or isinstance(finished, StaleJob)
        assert returned == ([] if won else [claimed.number])
        assert jobs.attempts(claimed.number) == (["SUCCESS"] if won else ["RETURNED"])


# ---- endings ---------------------------------------------------------------------------------------------


def test_a_snoozed_run_counts_nowhere(jobs):
    claimed = jobs.running()

    finish(jobs.cursor, held(claimed), snoozed(60))

    job = jobs.row(claimed.number)
    assert (job.status, job.blocked, job.attempts, job.returns) == ("PENDING", "SCHEDULED", 0, 0)
    assert jobs.attempts(claimed.number) == ["RETURNED"]


def test_a_job_may_be_snoozed_without_end(jobs):
    number = jobs.queued()
    for _ in range(20):
        finish(jobs.cursor, held(jobs.claim(number)), snoozed(0))
        jobs.queue(number)

    assert (jobs.row(number).attempts, jobs.row(number).fence) == (0, 20)


@pytest.mark.parametrize(
    ("returns", "status"),
    [(0, "PENDING"), (1, "PENDING"), (8, "PENDING"), (9, "PENDING"), (10, "FAILED"), (11, "FAILED")],
)
def test_an_unknown_action_is_given_back_ten_times_and_then_fails(returns, status):
    ending = action_unknown("billing.tasks:charge", returns=returns)

    assert ending.status == status


def test_an_unknown_action_waits_half_a_minute_for_another_worker(jobs):
    claimed = jobs.running()

    finish(jobs.cursor, held(claimed), action_unknown("billing.tasks:charge", returns=0))

    job = jobs.row(claimed.number)
    assert (job.status, job.blocked, job.attempts, job.returns) == ("PENDING", "SCHEDULED", 0, 1)
    assert 28 < (job.due_at - claimed.claimed_at).total_seconds() < 32


def test_an_action_that_no_worker_knows_fails_with_a_message(jobs):
    claimed = jobs.running()

    finish(jobs.cursor, held(claimed), action_unknown("billing.tasks:charge", returns=99))

    job = jobs.row(claimed.number)
    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")
    assert job.error["message"] == "no action billing.tasks:charge on any worker"
