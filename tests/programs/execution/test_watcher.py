"""The child's watcher: what it does with a group whose time is up, and when it kills the process."""

import os
import signal

import pytest

from jobsite.programs import dispatch, workers
from jobsite.programs.execution import completion
from jobsite.programs.execution.group import BUDGET_SECONDS, Ended, Group, boot_time
from jobsite.programs.execution.watcher import Watcher
from jobsite.programs.models import JobAttempt
from jobsite.programs.rules.lifecycle import FailureKind
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.dispatch import wake
from jobsite.programs.transitions.finish import Ending
from jobsite.programs.transitions.reap import reap_owners
from tests.programs.conftest import SUCCESS, a_context, claim_all, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def group(jobs):
    """A group of running jobs, of which `ran` have ended and one runs."""

    def make(count, *, ran=0, runs=True, travels_alone=False):
        claimed = claim_all(jobs.cursor, [jobs.queued() for _ in range(count)], jobs.worker)
        made = Group(claimed, worker="w@here", claimed_at=boot_time(), travels_alone=travels_alone)
        made.numbers = [job.number for job in claimed]
        for _ in range(ran):
            made.end(Ended(made.take()[1], SUCCESS, None))
        if runs:
            job, held = made.take()
            made.run(held, a_context(job))
        return made

    return make


@pytest.fixture
def watcher():
    """A watcher without a thread; the test calls its methods."""
    made = Watcher()
    yield made
    made._own_connection.drop()
    workers.drop_connection()


def history(jobs, group):
    return [(jobs.status(number), jobs.attempts(number)) for number in group.numbers]


def test_when_the_time_of_a_group_is_up_waiting_jobs_go_back_and_endings_are_written(jobs, group, watcher):
    five = group(5, ran=2)

    watcher._attend(five)

    assert history(jobs, five) == [("COMPLETED", ["SUCCESS"])] * 2 + [("RUNNING", [])] + [
        (jobs.status(number), ["RETURNED"]) for number in five.numbers[3:]
    ]
    assert {jobs.status(number) for number in five.numbers[3:]} <= {"PENDING", "QUEUED"}
    running = jobs.row(five.numbers[2])
    assert running.started_at == five.started.started_at
    assert five.is_disbanded
    assert five.take() is None


def test_jobs_that_were_given_back_are_dispatched_at_once(jobs, group, watcher, broker):
    five = group(5)

    watcher._attend(five)

    assert broker.numbers() == five.numbers[1:3]  # the window where no worker is known


def test_a_job_that_was_taken_but_does_not_run_yet_is_known_to_have_started(jobs, group, watcher):
    three = group(3, runs=False)
    _, held = three.take()

    watcher._attend(three)

    assert jobs.row(three.numbers[0]).started_at == held.started_at
    reap_owners(jobs.cursor, [jobs.worker.incarnation])
    assert jobs.attempts(three.numbers[0]) == ["LOST"]


def test_the_only_claimed_job_of_a_message_is_known_to_have_started(jobs, group, watcher):
    one = group(2)
    only = Group([one._waiting[0]], worker="w@here", claimed_at=boot_time(), travels_alone=False)
    job, held = only.take()
    only.run(held, a_context(job))

    watcher._attend(only)

    assert jobs.row(job.number).started_at == held.started_at


def test_an_ending_that_is_refused_does_not_stop_the_watcher(jobs, group, watcher):
    three = group(3, runs=False)
    bad = Ending.retry(FailureKind.TRANSIENT, traceback="\x00")
    three.end(Ended(three.take()[1], bad, None))
    job, held = three.take()
    three.run(held, a_context(job))

    watcher._attend(three)

    assert jobs.row(job.number).started_at == held.started_at
    assert jobs.attempts(three.numbers[2]) == ["RETURNED"]
    completion.settle(three)
    assert jobs.status(three.numbers[0]) == "FAILED"


def test_while_the_database_is_away_the_group_is_kept_together_and_given_back_afterwards(jobs, group, watcher):
    three = group(3)
    jobs.cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [watcher._own_connection.get().info.backend_pid])

    watcher._attend(three)
    assert not three.is_disbanded
    watcher._attend(three)

    assert three.is_disbanded
    assert [jobs.attempts(number) for number in three.numbers] == [[], ["RETURNED"], ["RETURNED"]]
    assert JobAttempt.objects.count() == 2


# ---- time ------------------------------------------------------------------------------------------------


def test_the_watcher_sleeps_until_the_time_of_a_group_is_up(jobs, group, watcher):
    assert watcher._pause() == BUDGET_SECONDS
    two = group(2)

    with watcher.watching(two):
        two.claimed_at = boot_time() - BUDGET_SECONDS + 0.05
        assert 0 < watcher._pause() <= 0.05
        two.claimed_at = boot_time() - BUDGET_SECONDS  # the watcher has tried by now, without success
        assert watcher._pause() == BUDGET_SECONDS
        two.claimed_at, two.is_disbanded = boot_time() - 0.1, True
        assert watcher._pause() == BUDGET_SECONDS


def test_the_watcher_disbands_a_group_in_its_own_thread(jobs, group, watcher):
    two = group(2)
    watcher.start()

    with watcher.watching(two):
        until(lambda: two.is_disbanded)

    returned = JobAttempt.objects.get(job_id=two.numbers[1])
    assert (returned.ended_at - returned.claimed_at).total_seconds() >= BUDGET_SECONDS - 0.02


# ---- by force --------------------------------------------------------------------------------------------


def test_jobs_that_waited_for_a_short_job_are_dispatched_when_it_goes_on(jobs, group, watcher, broker):
    one = group(1, travels_alone=True)
    waiting = jobs.pending()
    wake(jobs.cursor, [waiting])
    one.claimed_at = boot_time() - BUDGET_SECONDS

    watcher._attend(one)

    assert broker.numbers() == [waiting]
    assert history(jobs, one) == [("RUNNING", [])]


def test_a_job_that_is_being_written_does_not_delay_the_look_at_others(jobs, group, watcher, broker):
    one = group(1, travels_alone=True)
    one.claimed_at = boot_time() - BUDGET_SECONDS

    with one.flushing:  # its thread writes its ending, perhaps for long
        watcher._attend(one)

    assert one.is_disbanded


def test_a_dispatch_that_fails_is_not_repeated(jobs, group, watcher, monkeypatch):
    one = group(1, travels_alone=True)
    one.claimed_at = boot_time() - BUDGET_SECONDS
    asked = []

    def fail(cursor, queue_id):
        asked.append(queue_id)
        raise ValueError("for good")

    monkeypatch.setattr(dispatch, "top_up", fail)
    watcher._attend(one)
    watcher._attend(one)

    assert asked == [jobs.queue_id]


@pytest.fixture
def kills(monkeypatch):
    """The signals that this process would have sent itself as a pool child."""
    sent = []
    monkeypatch.setattr(workers, "_is_expendable", True)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def asked_long_ago(jobs, group):
    """The running job was asked to stop, and its grace is over."""
    row = jobs.row(group.running.held.number)
    cancel(jobs.cursor, number=row.number, tenant_id=row.tenant_id, by="alice", reason="")
    group.running.asked_at = boot_time() - 100


def test_a_job_that_does_not_stop_is_canceled_and_its_process_killed(jobs, group, watcher, kills):
    one = group(1, travels_alone=True)
    asked_long_ago(jobs, one)

    watcher._attend(one)

    assert history(jobs, one) == [("CANCELED", ["CANCELED"])]
    assert kills == [(os.getpid(), signal.SIGKILL)]


def test_the_process_is_not_killed_for_a_job_that_stopped_at_the_last_moment(jobs, group, watcher, kills):
    one = group(1, travels_alone=True)
    asked_long_ago(jobs, one)
    running, held = one.running, one.running.held
    # It ends after the watcher's look and before the kill: the child may have the next message by then.
    one.running = None
    one.end(Ended(held, SUCCESS, None))
    completion.settle(one)

    watcher._cancel_by_force(one, running)

    assert history(jobs, one) == [("COMPLETED", ["SUCCESS"])]
    assert kills == []
