"""Hold and release, and how waiting jobs come back into their lanes."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsite.programs.models import Job, Program
from jobsite.programs.rules.lifecycle import Status, Trigger
from jobsite.programs.transitions import hold
from tests.programs.conftest import claim_all

pytestmark = pytest.mark.django_db


def keep(jobs, number, *, until=None, tenant_id=None):
    return hold.hold(
        jobs.cursor,
        number=number,
        tenant_id=tenant_id or jobs.program.tenant_id,
        by="alice",
        reason="wait for Bob",
        until=until,
    )


def let_go(jobs, number, *, tenant_id=None):
    return hold.release(jobs.cursor, number=number, tenant_id=tenant_id or jobs.program.tenant_id)


@pytest.mark.parametrize("status", ["PENDING", "QUEUED"])
def test_a_waiting_job_is_held_with_by_why_and_until(jobs, status):
    number, until = jobs.in_status(status), datetime.now(UTC) + timedelta(hours=1)

    assert keep(jobs, number, until=until)

    job = jobs.row(number)
    assert (job.status, job.blocked, job.queued_at) == ("PENDING", "HELD", None)
    assert (job.hold_by, job.hold_reason, job.hold_until) == ("alice", "wait for Bob", until)
    assert job.hold_at is not None


@pytest.mark.parametrize("status", ["RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELED"])
def test_a_job_that_runs_or_has_ended_is_not_held(jobs, status):
    number = jobs.in_status(status)

    assert not keep(jobs, number)

    assert (jobs.status(number), jobs.row(number).hold_at) == (status, None)


def test_a_job_of_a_schedule_is_not_held(jobs):
    number = jobs.pending(trigger="AUTOMATIC")

    assert not keep(jobs, number)


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("status", Status)
def test_the_filter_for_jobs_that_may_be_held_agrees_with_the_statement(jobs, status, trigger):
    number = jobs.in_status(status, trigger=trigger)
    beforehand = jobs.row(number).may_be_held, Job.objects.filter(Job.MAY_BE_HELD, number=number).exists()

    assert beforehand == (keep(jobs, number),) * 2


def test_the_filter_for_jobs_that_may_be_held_leaves_out_held_ones(jobs):
    number = jobs.pending(hold_by="bob")

    assert not jobs.row(number).may_be_held
    assert not Job.objects.filter(Job.MAY_BE_HELD).exists()


def test_a_held_job_is_not_held_again(jobs):
    number = jobs.pending(hold_by="bob", hold_reason="first")

    assert not keep(jobs, number)

    assert jobs.row(number).hold_by == "bob"


def test_a_job_of_another_tenant_is_neither_held_nor_released(jobs, other_tenant):
    free, held = jobs.pending(), jobs.pending(hold_by="bob")

    assert not keep(jobs, free, tenant_id=other_tenant.pk)
    assert not let_go(jobs, held, tenant_id=other_tenant.pk)

    assert (jobs.row(free).blocked, jobs.row(held).blocked) == (None, "HELD")


@pytest.mark.parametrize(
    ("seconds", "program_status", "blocked"),
    [(0, "ACTIVE", None), (3_600, "ACTIVE", "SCHEDULED"), (3_600, "PAUSED", "SCHEDULED"), (0, "PAUSED", "PAUSED")],
)
def test_a_released_job_waits_for_any_other_reason_to_wait(jobs, seconds, program_status, blocked):
    number = jobs.pending()
    keep(jobs, number)
    jobs.make_due(number, seconds)
    Program.objects.filter(pk=jobs.program.pk).update(status=program_status)

    assert let_go(jobs, number)

    job = jobs.row(number)
    assert (job.blocked, job.hold_at, job.hold_by, job.hold_reason, job.hold_until) == (blocked, None, "", "", None)


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "CANCELED"])
def test_a_job_that_is_not_held_is_not_released(jobs, status):
    assert not let_go(jobs, jobs.in_status(status))


def test_a_hold_ends_by_itself_at_its_moment(jobs):
    now = datetime.now(UTC)
    over, lasting, endless = (jobs.pending() for _ in range(3))
    keep(jobs, over, until=now - timedelta(seconds=1))
    keep(jobs, lasting, until=now + timedelta(hours=1))
    keep(jobs, endless)

    assert hold.end_holds(jobs.cursor) == [over]

    blocked = dict(Job.objects.values_list("number", "blocked"))
    assert blocked == {over: None, lasting: "HELD", endless: "HELD"}
    assert jobs.row(over).hold_by == ""


@pytest.mark.parametrize(
    ("seconds", "program_status", "blocked", "ready"),
    [(-1, "ACTIVE", None, True), (60, "ACTIVE", "SCHEDULED", False), (-1, "PAUSED", "PAUSED", False)],
)
def test_a_scheduled_job_comes_into_its_lane_when_it_is_due(jobs, seconds, program_status, blocked, ready):
    number = jobs.pending(scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    jobs.make_due(number, seconds)
    Program.objects.filter(pk=jobs.program.pk).update(status=program_status)

    moved = hold.unblock(jobs.cursor)

    assert moved == ([(number, jobs.queue_id)] if ready else [])
    assert jobs.row(number).blocked == blocked


def test_a_held_job_is_not_brought_back_because_it_is_due(jobs):
    number = jobs.pending(scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    keep(jobs, number)
    jobs.make_due(number, -1)

    assert hold.unblock(jobs.cursor) == []

    assert jobs.row(number).blocked == "HELD"


def test_a_thousand_rows_are_brought_back_at_a_time(jobs):
    jobs.many(1_005, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    jobs.cursor.execute("UPDATE jobsite_job SET due_at = now(), rank = now()")

    assert [len(hold.unblock(jobs.cursor)) for _ in range(3)] == [1_000, 5, 0]


def test_a_hold_and_a_claim_at_once_agree(jobs, worker, race):
    for _ in range(15):
        number = jobs.queued()

        held, claimed = race(
            lambda cursor, number=number: hold.hold(
                cursor, number=number, tenant_id=jobs.program.tenant_id, by="alice", reason="", until=None
            ),
            lambda cursor, number=number: claim_all(cursor, [number], worker),
        )

        assert held != bool(claimed)
        assert jobs.status(number) == ("PENDING" if held else "RUNNING")
