"""QUEUED -> RUNNING: which worker gets a job, and what happens to jobs that may not run now."""

from datetime import timedelta
from uuid import uuid4

import pytest

from jobsite.programs.models import Lane, Program, Queue, WorkerManager
from jobsite.programs.transitions import hold
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.claim import claim, lock_limits
from jobsite.programs.transitions.finish import finish
from jobsite.programs.transitions.reap import reap_expired
from jobsite.tenants.models import Tenant
from tests.programs.conftest import LOCK_SECONDS, SUCCESS, claim_all, held, new_worker

pytestmark = pytest.mark.django_db


def test_a_claim_writes_the_lock_and_returns_all_that_a_run_needs(jobs, worker):
    number, token, message = jobs.queued(parameters='{"student": 7}'), uuid4(), uuid4()

    [claimed] = claim(
        jobs.cursor,
        [(number, token)],
        owner=worker.incarnation,
        manager_id=worker.manager_id,
        queues=worker.queues,
        message=message,
        lock_seconds=LOCK_SECONDS,
    )

    job = jobs.row(number)
    assert (job.status, job.lock_token, job.lock_owner) == ("RUNNING", token, worker.incarnation)
    assert (job.external_id, job.fence) == (message, 1)
    assert job.lock_expires_at - job.claimed_at == pytest.approx(
        timedelta(seconds=LOCK_SECONDS), abs=timedelta(seconds=1)
    )
    assert (claimed.number, claimed.token, claimed.fence) == (number, token, 1)
    assert (claimed.tenant, claimed.queue_id, claimed.program_id) == ("acme", jobs.queue_id, jobs.program.pk)
    assert (claimed.attempts, claimed.losses, claimed.returns, claimed.program_version) == (0, 0, 0, 1)
    assert claimed.claimed_at == job.claimed_at


def test_a_job_is_stuck_ten_seconds_after_its_time_limit(jobs, define):
    job = jobs.row(jobs.running(define(timeout="5s")).number)

    assert job.stuck_at - job.started_at == pytest.approx(timedelta(seconds=15), abs=timedelta(milliseconds=100))


def test_every_claim_raises_the_fence_and_forgets_the_last_runs_progress(jobs):
    first = jobs.running()
    jobs.set(first.number, "progress = '{\"processed\": 1}', current_step = 'load'")
    jobs.expire_lock(first.number)
    reap_expired(jobs.cursor)
    jobs.queue(first.number)

    second = jobs.claim(first.number)

    assert (first.fence, second.fence) == (1, 2)
    assert (second.attempts, second.losses) == (1, 1)
    assert (jobs.row(first.number).progress, jobs.row(first.number).current_step) == (None, "")


def test_jobs_of_one_message_are_claimed_in_order_each_under_its_own_token(jobs, worker):
    numbers = [jobs.queued() for _ in range(3)]

    claimed = claim_all(jobs.cursor, [numbers[2], numbers[0], numbers[1]], worker)

    assert [one.number for one in claimed] == numbers
    assert len({one.token for one in claimed}) == 3


def test_a_duplicate_message_claims_once(jobs, worker):
    number, message = jobs.queued(), uuid4()

    first = claim_all(jobs.cursor, [number], worker, message=message)
    second = claim_all(jobs.cursor, [number], worker, message=message)

    assert (len(first), second) == (1, [])
    assert jobs.row(number).lock_token == first[0].token


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELED"])
def test_a_late_message_claims_nothing_and_changes_nothing(jobs, worker, status):
    number = jobs.in_status(status)
    before = jobs.row(number).__dict__

    assert claim_all(jobs.cursor, [number], worker) == []

    assert changed(before, jobs.row(number).__dict__) == []


def changed(before, after):
    return [name for name in before if name != "_state" and before[name] != after[name]]


def test_a_number_that_is_no_job_claims_nothing(jobs, worker):
    assert claim_all(jobs.cursor, [10**12], worker) == []


def test_a_job_of_another_queue_is_left_to_the_workers_of_that_queue(jobs, worker):
    number = jobs.queued()

    assert claim_all(jobs.cursor, [number], worker, queues=("content", "analytics")) == []

    assert jobs.status(number) == "QUEUED"


def pause_program(job):
    Program.objects.filter(pk=job.program_id).update(status="PAUSED")


def pause_queue(job):
    Queue.objects.filter(pk=job.queue_id).update(paused_at=job.created_at)


def pause_lane(job):
    Lane.objects.update_or_create(
        queue_id=job.queue_id, tenant_id=job.tenant_id, defaults={"paused_at": job.created_at}
    )


def suspend_tenant(job):
    Tenant.objects.filter(pk=job.tenant_id).update(status="SUSPENDED")


@pytest.mark.parametrize(
    ("stop", "blocked"),
    [(pause_program, "PAUSED"), (pause_queue, None), (pause_lane, None), (suspend_tenant, None)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_job_paused_while_its_number_was_in_a_message_waits_again(jobs, worker, stop, blocked):
    number = jobs.queued()
    stop(jobs.row(number))

    assert claim_all(jobs.cursor, [number], worker) == []

    job = jobs.row(number)
    assert (job.status, job.blocked, job.queued_at, job.fence) == ("PENDING", blocked, None, 0)


def test_a_job_that_is_not_due_yet_waits_again(jobs, worker):
    number = jobs.queued()
    jobs.make_due(number, 3_600)

    assert claim_all(jobs.cursor, [number], worker) == []

    assert (jobs.status(number), jobs.row(number).blocked) == ("PENDING", "SCHEDULED")


def test_a_job_that_was_held_while_its_number_was_in_a_message_is_not_claimed(jobs, worker):
    number = jobs.queued()
    hold.hold(jobs.cursor, number=number, tenant_id=jobs.program.tenant_id, by="alice", reason="", until=None)

    assert claim_all(jobs.cursor, [number], worker) == []

    assert (jobs.status(number), jobs.row(number).blocked) == ("PENDING", "HELD")


def test_a_job_that_was_canceled_while_its_number_was_in_a_message_is_not_claimed(jobs, worker):
    number = jobs.queued()
    cancel(jobs.cursor, number=number, tenant_id=jobs.program.tenant_id, by="alice", reason="")

    assert claim_all(jobs.cursor, [number], worker) == []

    assert jobs.status(number) == "CANCELED"


@pytest.mark.parametrize(
    ("trigger", "status"), [("MANUAL", "RUNNING"), ("CHILD", "RUNNING"), ("AUTOMATIC", "CANCELED")]
)
def test_a_terminated_program_runs_manual_jobs_only(jobs, worker, trigger, status):
    number = jobs.queued(trigger=trigger)
    Program.objects.filter(pk=jobs.program.pk).update(status="TERMINATED")

    claim_all(jobs.cursor, [number], worker)

    assert jobs.status(number) == status


def test_one_job_that_may_not_run_does_not_stop_the_others_of_its_message(jobs, worker, define):
    paused = jobs.queued(define("paused"))
    pause_program(jobs.row(paused))
    fine = jobs.queued()

    claimed = claim_all(jobs.cursor, [paused, fine], worker)

    assert [one.number for one in claimed] == [fine]
    assert jobs.statuses() == {paused: "PENDING", fine: "RUNNING"}


# ---- the limit of a manager ------------------------------------------------------------------------------


@pytest.fixture
def limited(cursor):
    """A worker whose manager allows two running jobs."""
    WorkerManager.objects.create(name="small", max_running=2)
    return new_worker(cursor, manager="small", children=8)


def test_a_manager_takes_no_more_than_its_limit_and_the_rest_waits_again(jobs, limited):
    numbers = [jobs.queued() for _ in range(3)]

    claimed = claim_exactly(jobs.cursor, numbers, limited)

    assert [one.number for one in claimed] == numbers[:2]
    assert list(jobs.statuses().values()) == ["RUNNING", "RUNNING", "PENDING"]


def test_a_job_that_is_not_queued_takes_no_place_of_the_limit(jobs, limited):
    numbers = [jobs.in_status("CANCELED"), jobs.in_status("PENDING"), jobs.queued(), jobs.queued()]

    claimed = claim_exactly(jobs.cursor, numbers, limited)

    assert [one.number for one in claimed] == numbers[2:]


def claim_exactly(cursor, numbers, worker):
    """Claim as execution does: lock the rows of the limits first, then claim."""
    if claimed := claim_all(cursor, numbers, worker):
        return claimed
    is_limited = lock_limits(cursor, manager_id=worker.manager_id, numbers=numbers)
    return claim_all(cursor, numbers, worker, exact=True) if is_limited else []


def test_all_workers_of_a_manager_share_its_limit(jobs, limited, cursor):
    second = new_worker(cursor, "w2@here", manager="small")
    for worker in (limited, second):
        claim_exactly(cursor, [jobs.queued()], worker)
    number = jobs.queued()

    assert claim_exactly(cursor, [number], second) == []

    assert jobs.status(number) == "PENDING"


def test_the_jobs_of_another_manager_do_not_count(jobs, limited, worker):
    for _ in range(3):
        jobs.running(worker=worker)

    assert len(claim_exactly(jobs.cursor, [jobs.queued()], limited)) == 1


def test_a_run_that_ended_makes_room(jobs, limited):
    first, _ = claim_exactly(jobs.cursor, [jobs.queued(), jobs.queued()], limited)
    finish(jobs.cursor, held(first), SUCCESS)

    assert len(claim_exactly(jobs.cursor, [jobs.queued()], limited)) == 1


def test_without_the_lock_on_the_managers_row_nothing_is_claimed_or_changed(jobs, limited):
    number = jobs.queued()

    assert claim_all(jobs.cursor, [number], limited) == []

    assert jobs.status(number) == "QUEUED"


def test_a_manager_without_a_limit_needs_no_lock(jobs, worker, limited):
    number = jobs.queued()

    assert lock_limits(jobs.cursor, manager_id=limited.manager_id, numbers=[number]) is True
    assert lock_limits(jobs.cursor, manager_id=worker.manager_id, numbers=[number]) is False


# ---- the quota of a tenant -------------------------------------------------------------------------------


def quota(jobs, number):
    Tenant.objects.filter(pk=jobs.program.tenant_id).update(running_quota=number)


@pytest.mark.parametrize(("running", "taken"), [(0, 3), (1, 2), (3, 0), (4, 0)])
def test_a_tenant_runs_no_more_than_its_quota_at_all_workers_together(jobs, cursor, worker, running, taken):
    other = new_worker(cursor, "w2@here")
    for _ in range(running):
        jobs.running(worker=other)
    quota(jobs, 3)
    numbers = [jobs.queued() for _ in range(5)]

    claimed = claim_exactly(cursor, numbers, worker)

    assert [one.number for one in claimed] == numbers[:taken]
    assert [jobs.status(number) for number in numbers] == ["RUNNING"] * taken + ["PENDING"] * (5 - taken)


def test_a_job_that_travels_alone_keeps_to_the_quota_too(jobs, cursor, worker):
    quota(jobs, 1)

    assert len(claim_exactly(cursor, [jobs.queued()], worker)) == 1
    assert claim_exactly(cursor, [jobs.queued()], worker) == []


def test_without_the_lock_on_the_row_of_a_tenant_with_a_quota_nothing_is_claimed_or_changed(jobs, worker):
    quota(jobs, 3)
    number = jobs.queued()

    assert claim_all(jobs.cursor, [number], worker) == []

    assert jobs.status(number) == "QUEUED"


def test_the_quota_of_one_tenant_does_not_limit_another(jobs, worker, other_tenant):
    Tenant.objects.filter(pk=other_tenant.pk).update(running_quota=0)

    assert len(claim_all(jobs.cursor, [jobs.queued()], worker)) == 1


def test_claims_at_once_keep_to_the_quota(jobs, worker, race):
    quota(jobs, 2)
    for _ in range(4):
        numbers = [jobs.queued() for _ in range(8)]

        answers = race(*[claimer(number, worker) for number in numbers])

        assert sorted(map(len, answers)) == [0, 0, 0, 0, 0, 0, 1, 1]
        for answer in answers:
            for claimed in answer:
                finish(jobs.cursor, held(claimed), SUCCESS)


# ---- races -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_one_of_eight_workers_with_the_same_message_runs_the_job(jobs, worker, race):
    for _ in range(5):
        number = jobs.queued()

        answers = race(*[lambda cursor, number=number: claim_all(cursor, [number], worker)] * 8)

        winners = [answer for answer in answers if answer]
        assert len(winners) == 1
        job = jobs.row(number)
        assert (job.lock_token, job.fence) == (winners[0][0].token, 1)


@pytest.mark.django_db(transaction=True)
def test_the_limit_of_a_manager_is_exact_over_eight_claimers_at_once(jobs, limited, race):
    WorkerManager.objects.filter(name="small").update(max_running=3)
    for _ in range(4):
        numbers = [jobs.queued() for _ in range(8)]

        answers = race(*[claimer(number, limited) for number in numbers])

        assert sum(len(answer) for answer in answers) == 3
        statuses = [jobs.status(number) for number in numbers]
        assert (statuses.count("RUNNING"), statuses.count("PENDING")) == (3, 5)
        for answer in answers:
            for claimed in answer:
                finish(jobs.cursor, held(claimed), SUCCESS)


def claimer(number, worker):
    def take(cursor):
        with cursor.connection.transaction():
            return claim_exactly(cursor, [number], worker)

    return take
