"""Prolonging locks: all locks of one worker in a statement, and no others."""

import time
from datetime import timedelta
from uuid import uuid4

import pytest

from jobsite.programs.transitions.finish import finish
from jobsite.programs.transitions.reap import reap_expired
from jobsite.programs.transitions.renew import abandoned, renew, renew_passed_over
from tests.programs.conftest import LOCK_SECONDS, SUCCESS, held, new_worker

pytestmark = pytest.mark.django_db


def expiry(jobs, number):
    return jobs.row(number).lock_expires_at


def test_all_jobs_whose_message_is_still_held_are_renewed(jobs, worker):
    messages = [uuid4(), uuid4()]
    claimed = [jobs.running(worker=worker, message=message) for message in messages]
    for one in claimed:
        jobs.expire_lock(one.number)

    renewed = renew(jobs.cursor, owner=worker.incarnation, messages=[*messages, uuid4()], lock_seconds=LOCK_SECONDS)

    assert sorted(renewed) == [one.number for one in claimed]
    for one in claimed:
        ahead = expiry(jobs, one.number) - jobs.row(one.number).claimed_at
        assert ahead == pytest.approx(timedelta(seconds=LOCK_SECONDS), abs=timedelta(seconds=2))


def test_a_renewed_lock_is_not_reaped(jobs, worker):
    message = uuid4()
    claimed = jobs.running(worker=worker, message=message)
    jobs.expire_lock(claimed.number)

    renew(jobs.cursor, owner=worker.incarnation, messages=[message], lock_seconds=LOCK_SECONDS)

    assert reap_expired(jobs.cursor) == []
    assert jobs.status(claimed.number) == "RUNNING"


def test_the_locks_of_other_workers_do_not_change(jobs, worker, cursor):
    message = uuid4()
    claimed = jobs.running(worker=new_worker(cursor, "w2@here"), message=message)
    before = expiry(jobs, claimed.number)

    assert renew(cursor, owner=worker.incarnation, messages=[message], lock_seconds=LOCK_SECONDS) == []

    assert expiry(jobs, claimed.number) == before


def test_a_job_whose_message_is_gone_is_not_renewed_but_abandoned(jobs, worker):
    kept, gone = uuid4(), uuid4()
    jobs.running(worker=worker, message=kept)
    lost = jobs.running(worker=worker, message=gone)

    renewed = renew(jobs.cursor, owner=worker.incarnation, messages=[kept], lock_seconds=LOCK_SECONDS)

    assert lost.number not in renewed
    assert abandoned(jobs.cursor, owner=worker.incarnation, messages=[kept]) == [(lost.number, lost.token)]


def test_without_any_message_all_jobs_of_the_worker_are_abandoned(jobs, worker, cursor):
    mine = jobs.running(worker=worker)
    jobs.running(worker=new_worker(cursor, "w2@here"))

    assert abandoned(cursor, owner=worker.incarnation, messages=[]) == [(mine.number, mine.token)]
    assert renew(cursor, owner=worker.incarnation, messages=[], lock_seconds=LOCK_SECONDS) == []


@pytest.mark.parametrize("status", ["QUEUED", "WAITING", "COMPLETED"])
def test_only_running_jobs_have_a_lock_to_renew(jobs, worker, status):
    message = uuid4()
    number = jobs.in_status(status)
    jobs.set(number, "external_id = %s", [message])

    assert renew(jobs.cursor, owner=worker.incarnation, messages=[message], lock_seconds=LOCK_SECONDS) == []
    assert abandoned(jobs.cursor, owner=worker.incarnation, messages=[]) == []


@pytest.mark.django_db(transaction=True)
def test_a_renewal_does_not_wait_for_a_finish_and_leaves_its_row_for_the_next_round(jobs, worker, other):
    messages = [uuid4(), uuid4()]
    finishing, running = (jobs.running(worker=worker, message=message) for message in messages)

    with other.transaction(), other.cursor() as cursor:
        finish(cursor, held(finishing), SUCCESS)
        jobs.cursor.execute("SET lock_timeout = '2s'")
        renewed = renew(jobs.cursor, owner=worker.incarnation, messages=messages, lock_seconds=LOCK_SECONDS)
        jobs.cursor.execute("RESET lock_timeout")

    assert renewed == [running.number]
    assert jobs.status(finishing.number) == "COMPLETED"


def test_a_row_that_was_passed_over_is_waited_for_a_moment_by_itself(jobs, worker, connect_more):
    claimed, other = jobs.running(worker=worker), jobs.running(worker=worker)
    jobs.expire_lock(claimed.number)
    holder, renewer = connect_more(), connect_more()
    messages = [jobs.row(one.number).external_id for one in (claimed, other)]
    held_back = {"owner": worker.incarnation, "messages": messages, "lock_seconds": LOCK_SECONDS}

    with holder.transaction(), renewer.cursor() as cursor:
        holder.execute("SELECT FROM jobsite_job WHERE number = %s FOR SHARE", [claimed.number])
        renewed = renew(cursor, **held_back)
        assert renewed == [other.number]
        began = time.monotonic()
        assert renew_passed_over(cursor, **held_back, renewed=renewed) == []
        assert time.monotonic() - began < 2
    with renewer.cursor() as cursor:
        assert renew_passed_over(cursor, **held_back, renewed=renewed) == [claimed.number]

    assert jobs.row(claimed.number).lock_expires_at > jobs.row(claimed.number).claimed_at


def test_a_passed_over_job_that_another_worker_has_now_is_not_renewed(jobs, worker, cursor):
    claimed = jobs.running(worker=worker)
    message = jobs.row(claimed.number).external_id

    done = renew_passed_over(cursor, owner=uuid4(), messages=[message], lock_seconds=LOCK_SECONDS, renewed=[])

    assert done == []
