"""A job is canceled at once, or its worker is asked to stop where it is RUNNING."""

import pytest

from jobsite.programs.transitions.cancel import cancel, cancel_children, ended_with_open_children
from jobsite.programs.transitions.finish import StaleJob, finish
from tests.programs.conftest import SUCCESS, claim_all, held

pytestmark = pytest.mark.django_db


def stop(jobs, number, *, by="alice", reason="no longer needed", tenant_id=None):
    return cancel(jobs.cursor, number=number, tenant_id=tenant_id or jobs.program.tenant_id, by=by, reason=reason)


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "WAITING"])
def test_a_job_that_does_not_run_is_canceled_at_once(jobs, status):
    number = jobs.in_status(status)

    done = stop(jobs, number)

    job = jobs.row(number)
    assert (done.status, job.status, job.outcome) == ("CANCELED", "CANCELED", "NORMAL")
    assert (job.cancel_requested_by, job.cancel_reason) == ("alice", "no longer needed")
    assert job.finished_at >= job.cancel_requested_at
    assert jobs.row(number).needs_review is False


def test_a_running_job_is_asked_to_stop(jobs):
    claimed = jobs.running()

    done = stop(jobs, claimed.number)

    job = jobs.row(claimed.number)
    assert (done.status, job.status, job.finished_at) == ("RUNNING", "RUNNING", None)
    assert (job.lock_token, job.cancel_requested_by) == (claimed.token, "alice")
    assert job.cancel_requested_at is not None


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELED"])
def test_an_ended_job_is_not_canceled(jobs, status):
    number = jobs.in_status(status)
    before = jobs.row(number).__dict__

    assert stop(jobs, number, by="bob") is None

    after = jobs.row(number).__dict__
    assert {name for name in before if before[name] != after[name]} <= {"_state"}


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_job_of_another_tenant_is_not_found(jobs, other_tenant, status):
    number = jobs.in_status(status)

    assert stop(jobs, number, tenant_id=other_tenant.pk) is None

    assert (jobs.status(number), jobs.row(number).cancel_requested_at) == (status, None)


def test_the_first_request_is_the_one_that_is_kept(jobs):
    number = jobs.running().number
    stop(jobs, number, by="alice", reason="first")
    asked_at = jobs.row(number).cancel_requested_at

    assert stop(jobs, number, by="bob", reason="second").status == "RUNNING"

    job = jobs.row(number)
    assert (job.cancel_requested_by, job.cancel_reason, job.cancel_requested_at) == ("alice", "first", asked_at)


def test_a_held_job_can_be_canceled(jobs):
    number = jobs.pending(hold_by="bob", hold_reason="wait")

    stop(jobs, number)

    job = jobs.row(number)
    assert (job.status, job.blocked, job.hold_at, job.hold_by) == ("CANCELED", None, None, "")


def test_a_scheduled_job_can_be_canceled_and_an_automatic_one_too(jobs):
    for number in (jobs.pending(trigger="AUTOMATIC"), jobs.pending()):
        jobs.make_due(number, 3_600)
        assert stop(jobs, number).status == "CANCELED"


def test_an_action_that_never_looked_and_succeeded_completes(jobs):
    claimed = jobs.running()
    stop(jobs, claimed.number)

    finish(jobs.cursor, held(claimed), SUCCESS)

    assert jobs.status(claimed.number) == "COMPLETED"


def test_a_cancel_and_a_claim_at_once_agree(jobs, worker, race):
    for _ in range(15):
        number = jobs.queued()

        canceled, claimed = race(
            lambda cursor, number=number: cancel(
                cursor, number=number, tenant_id=jobs.program.tenant_id, by="alice", reason=""
            ),
            lambda cursor, number=number: claim_all(cursor, [number], worker),
        )

        assert (canceled.status, jobs.status(number)) == (("RUNNING",) * 2 if claimed else ("CANCELED",) * 2)
        assert jobs.row(number).cancel_requested_at is not None


def test_a_cancel_and_a_finish_at_once_agree(jobs, race):
    for _ in range(15):
        claimed = jobs.running()

        canceled, finished = race(
            lambda cursor, it=claimed: cancel(cursor, number=it.number, tenant_id=it.tenant_id, by="alice", reason=""),
            lambda cursor, it=claimed: finish(cursor, held(it), SUCCESS),
        )

        assert not isinstance(finished, StaleJob)
        assert canceled is None or canceled.status == "RUNNING"
        assert jobs.status(claimed.number) == "COMPLETED"


def test_open_children_are_canceled_with_their_parent_and_a_running_one_is_asked_once(jobs):
    parent = jobs.in_status("CANCELED")
    waiting, running, ended = jobs.pending(), jobs.running().number, jobs.in_status("COMPLETED")
    for number in (waiting, running, ended):
        jobs.set(number, "parent_id = %s, child_key = number, parent_fence = 1, trigger = 'CHILD'", [parent])

    assert ended_with_open_children(jobs.cursor) == [parent]
    assert cancel_children(jobs.cursor, [parent]) == {waiting: "CANCELED", running: "RUNNING"}
    assert cancel_children(jobs.cursor, [parent]) == {}

    assert jobs.row(running).cancel_reason == f"its parent, job {parent}, is CANCELED"
    assert jobs.status(ended) == "COMPLETED"


@pytest.mark.parametrize("status", ["PENDING", "WAITING", "COMPLETED", "FAILED"])
def test_children_of_a_parent_that_was_not_canceled_go_on(jobs, status):
    parent, child = jobs.in_status(status), jobs.pending()
    jobs.set(child, "parent_id = %s, child_key = 'a', parent_fence = 1, trigger = 'CHILD'", [parent])

    assert (ended_with_open_children(jobs.cursor), cancel_children(jobs.cursor, [parent])) == ([], {})
