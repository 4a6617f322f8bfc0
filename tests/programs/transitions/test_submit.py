"""Inserting jobs: one statement for one or ten thousand, and what a unique key refuses."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from jobsite.programs.models import CapturedContext, Job, Program
from jobsite.programs.rules.lifecycle import Overlap
from jobsite.programs.transitions.dispatch import wake
from jobsite.programs.transitions.submit import insert, insert_and_offer
from jobsite.tenants import principals
from tests.programs.conftest import LOCK_SECONDS, claim_all, new_worker

pytestmark = pytest.mark.django_db

FUTURE = datetime.now(UTC) + timedelta(days=1)
PAST = datetime.now(UTC) - timedelta(days=1)


def test_a_new_job_is_pending_and_ready(jobs):
    [row] = insert(jobs.cursor, [jobs.new(parameters='{"student": 7}')])

    job = jobs.row(row.number)
    assert (job.status, job.outcome, job.trigger, job.blocked) == ("PENDING", "NORMAL", "MANUAL", None)
    assert (job.parameters, job.attempts, job.losses, job.fence) == ({"student": 7}, 0, 0, 0)
    assert (job.program_id, job.tenant_id, job.queue_id) == (
        jobs.program.pk,
        jobs.program.tenant_id,
        jobs.program.queue_id,
    )


def test_what_was_inserted_is_returned(jobs):
    [row] = insert(jobs.cursor, [jobs.new(priority=3)])

    job = jobs.row(row.number)
    assert (row.position, row.priority, row.blocked, row.queue_id) == (0, 3, None, job.queue_id)
    assert (row.scheduled_at, row.due_at, row.created_at) == (job.scheduled_at, job.due_at, job.created_at)


def test_numbers_follow_the_order_of_the_input(jobs):
    rows = insert(jobs.cursor, [jobs.new(parameters=f'{{"place": {place}}}') for place in range(1_000)])

    assert [row.position for row in rows] == list(range(1_000))
    places = Job.objects.order_by("number").values_list("parameters__place", flat=True)
    assert list(places) == list(range(1_000))


def test_jobs_of_one_principal_share_one_context(jobs, tenant, alice):
    captured = [principals.system(tenant).captured, principals.of_user(alice, tenant).captured]

    insert(jobs.cursor, [jobs.new(context=captured[place % 2]) for place in range(6)])
    insert(jobs.cursor, [jobs.new(context=captured[0])])

    assert sorted(str(context) for context in CapturedContext.objects.all()) == ["alice", "system"]
    assert Job.objects.filter(context=captured[0].key).count() == 4


@pytest.mark.parametrize("plan", ["nestloop", "hashjoin", "mergejoin"])
def test_jobs_of_one_call_are_due_in_the_order_of_their_numbers_whatever_the_plan(jobs, plan):
    for other in {"nestloop", "hashjoin", "mergejoin"} - {plan}:
        jobs.cursor.execute(f"SET LOCAL enable_{other} = off")

    jobs.many(10)

    assert list(Job.objects.order_by("rank", "number")) == list(Job.objects.order_by("number"))


@pytest.mark.parametrize(("given", "priority"), [(None, 7), (0, 0), (-100, -100), (100, 100)])
def test_the_priority_is_the_given_one_else_the_programs(jobs, define, given, priority):
    number = jobs.pending(define("urgent", priority=7), priority=given)

    assert jobs.row(number).priority == priority


def test_one_step_of_priority_is_worth_one_minute(jobs):
    job = jobs.row(jobs.pending(priority=5, scheduled_at=FUTURE))

    assert job.due_at - job.rank == timedelta(minutes=5)


def test_a_past_moment_is_kept_but_does_not_jump_the_queue(jobs):
    job = jobs.row(jobs.pending(scheduled_at=PAST))

    assert job.scheduled_at == PAST
    assert (job.blocked, job.due_at > PAST + timedelta(hours=23)) == (None, True)


def test_without_a_moment_a_job_is_due_at_once(jobs):
    job = jobs.row(jobs.pending())

    assert job.scheduled_at <= job.due_at <= job.created_at


@pytest.mark.parametrize(
    ("fields", "program_status", "blocked"),
    [
        ({}, "ACTIVE", None),
        ({}, "TERMINATED", None),
        ({}, "PAUSED", "PAUSED"),
        ({"scheduled_at": PAST}, "ACTIVE", None),
        ({"scheduled_at": FUTURE}, "ACTIVE", "SCHEDULED"),
        ({"scheduled_at": FUTURE}, "PAUSED", "SCHEDULED"),
        ({"hold_by": "alice"}, "ACTIVE", "HELD"),
        ({"hold_by": "alice", "scheduled_at": FUTURE}, "PAUSED", "HELD"),
    ],
)
def test_a_job_that_cannot_run_yet_says_why(jobs, fields, program_status, blocked):
    Program.objects.filter(pk=jobs.program.pk).update(status=program_status)

    job = jobs.row(jobs.pending(**fields))

    assert job.blocked == blocked


def test_a_job_submitted_on_hold_says_who_holds_it_and_why(jobs):
    job = jobs.row(jobs.pending(hold_by="alice", hold_reason="wait for Bob"))

    assert (job.hold_by, job.hold_reason, job.hold_at >= job.created_at - timedelta(seconds=1)) == (
        "alice",
        "wait for Bob",
        True,
    )


@pytest.mark.parametrize(
    "key",
    [
        {"idempotency_key": "k", "fingerprint": "f"},
        {"overlap_policy": Overlap.REJECT, "overlap_key": "k"},
    ],
)
def test_what_a_unique_key_refuses_is_left_out_and_the_transaction_goes_on(jobs, key):
    with transaction.atomic():
        first = jobs.pending(**key)
        rows = insert(jobs.cursor, [jobs.new(), jobs.new(**key), jobs.new()])
        jobs.pending()

    assert [row.position for row in rows] == [0, 2]
    assert first in jobs.statuses()
    assert len(jobs.statuses()) == 4


def test_a_second_open_retry_is_left_out(jobs):
    first = jobs.ended()
    jobs.pending(retry_of=first)

    assert insert(jobs.cursor, [jobs.new(retry_of=first)]) == []


def test_a_key_that_is_given_twice_in_one_call_is_used_once(jobs):
    rows = insert(jobs.cursor, [jobs.new(idempotency_key="k"), jobs.new(idempotency_key="k")])

    assert len(rows) == 1


def test_open_jobs_may_share_a_queue_key(jobs):
    rows = insert(jobs.cursor, [jobs.new(overlap_policy=Overlap.QUEUE, overlap_key="k")] * 3)

    assert len(rows) == 3


@pytest.mark.django_db(transaction=True)
def test_one_of_many_equal_submissions_at_once_gets_the_key(jobs, race):
    new = jobs.new(overlap_policy=Overlap.REJECT, overlap_key="k")

    answers = race(*[lambda cursor: insert(cursor, [new])] * 8)

    assert sorted(len(rows) for rows in answers) == [0] * 7 + [1]


# ---- one job, on its way at once -------------------------------------------------------------------------


@pytest.fixture
def kept_context(jobs):
    """Store the context of a job; without it the job is left to `insert`."""
    assert insert_and_offer(jobs.cursor, jobs.new(), lock_seconds=LOCK_SECONDS) is None
    jobs.in_status("CANCELED")


@pytest.fixture
def put(jobs, kept_context):
    return lambda **fields: insert_and_offer(jobs.cursor, jobs.new(**fields), lock_seconds=LOCK_SECONDS)


def test_a_job_is_inserted_as_queued_where_its_queue_has_room(jobs, put):
    row = put(priority=3, parameters='{"student": 7}')

    job = jobs.row(row.number)
    assert (job.status, job.priority, job.parameters) == ("QUEUED", 3, {"student": 7})
    assert job.queued_at >= job.created_at
    assert (row.is_queued, row.queue, row.timeout_seconds) == (True, "default", jobs.program.timeout_seconds)
    assert (row.queue_id, row.priority, row.blocked) == (job.queue_id, 3, None)
    assert (row.scheduled_at, row.due_at, row.created_at) == (job.scheduled_at, job.due_at, job.created_at)


def test_a_job_beyond_the_window_is_expected_once_its_lane_is_awake(jobs, put):
    assert [put().is_queued for _ in range(2)] == [True, True]

    asleep = put()
    assert (asleep.is_queued, asleep.is_expected) == (False, False)

    wake(jobs.cursor, [asleep.number])
    assert put().is_expected
    assert jobs.row(asleep.number).status == "PENDING"


def test_a_job_is_not_expected_where_no_job_is_queued(jobs, put, cursor):
    Program.objects.update(measured_runs=20, mean_seconds=0.001)
    running = jobs.pending()
    wake(jobs.cursor, [running])
    jobs.queue(running)
    # It has just started, and may end before the next one can be seen.
    claim_all(jobs.cursor, [running], new_worker(cursor, children=2))

    row = put()

    assert (row.is_queued, row.is_expected) == (False, False)


def test_a_short_job_is_not_inserted_as_queued_while_another_waits_for_a_child(jobs, put, cursor):
    Program.objects.update(measured_runs=20, mean_seconds=0.001)
    new_worker(cursor, children=4)

    assert [put().is_queued for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("priority", "is_queued"), [(0, False), (1, True)])
def test_no_job_is_inserted_as_queued_before_a_better_one(jobs, put, priority, is_queued):
    jobs.pending()

    row = put(priority=priority)

    assert (row.is_queued, row.is_expected) == (is_queued, False)


@pytest.mark.parametrize(
    ("fields", "blocked"),
    [({"hold_by": "alice"}, "HELD"), ({"scheduled_at": FUTURE}, "SCHEDULED")],
    ids=["held", "later"],
)
def test_a_job_that_is_held_or_in_the_future_is_inserted_as_pending(jobs, put, fields, blocked):
    row = put(**fields)

    assert (row.is_queued, row.blocked, row.is_expected) == (False, blocked, False)


@pytest.mark.parametrize(
    ("pauses", "is_queued"),
    [
        ("UPDATE jobsite_queue SET paused_at = now() WHERE name = 'default'", False),
        ("UPDATE jobsite_queue SET paused_at = now() WHERE name = 'content'", True),
        ("UPDATE jobsite_tenant SET status = 'SUSPENDED' WHERE code = 'acme'", False),
        ("UPDATE jobsite_tenant SET running_quota = 0", False),
        ("UPDATE jobsite_tenant SET running_quota = 1", True),
    ],
)
def test_a_paused_job_is_inserted_as_pending(jobs, put, pauses, is_queued):
    assert jobs.program
    jobs.cursor.execute(pauses)

    row = put()

    assert (row.is_queued, row.is_expected) == (is_queued, False)


def test_a_job_with_a_queue_key_is_left_to_dispatch(jobs, put):
    row = put(overlap_policy=Overlap.QUEUE, overlap_key="k")

    assert not row.is_queued


def test_a_past_moment_does_not_jump_the_queue(jobs, put):
    row = put(scheduled_at=PAST)

    assert row.is_queued
    assert (row.scheduled_at, row.due_at > PAST) == (PAST, True)


def test_nothing_is_inserted_twice_under_one_key(jobs, put):
    assert put(idempotency_key="k")
    assert put(idempotency_key="k") is None


def test_nothing_is_inserted_for_a_program_that_was_edited(jobs, put):
    assert put(program_version=jobs.program.version)
    assert put(program_version=jobs.program.version + 1) is None
