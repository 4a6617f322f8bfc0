"""Taking a run from its worker: a lost, stuck or cleared one, and never a healthy one."""

from datetime import timedelta
from uuid import uuid4

import pytest

from jobsite.programs.models import JobAttempt, Program, Worker
from jobsite.programs.transitions import reap
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.finish import finish
from jobsite.programs.transitions.renew import renew
from jobsite.programs.transitions.start import start
from tests.programs.conftest import LOCK_SECONDS, SUCCESS, claim_all, held, new_worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def lost(jobs):
    """A running job whose lock ran out; the arguments are the program's fields."""

    def make(**program):
        claimed = jobs.running(jobs.define(**program))
        jobs.expire_lock(claimed.number)
        return claimed

    return make


@pytest.fixture
def stuck(jobs):
    """A running job far past its time limit, though its lock is fine."""

    def make(**program):
        claimed = jobs.running(jobs.define(**program))
        jobs.set(claimed.number, "stuck_at = clock_timestamp() - interval '1 second'")
        return claimed

    return make


# ---- lost ------------------------------------------------------------------------------------------------


def test_a_lost_run_is_put_back_alone_counted_as_a_loss(jobs, lost):
    claimed = lost()

    [reaped] = reap.reap_expired(jobs.cursor)

    job = jobs.row(claimed.number)
    assert (reaped.number, reaped.status, reaped.queue_id) == (claimed.number, "PENDING", job.queue_id)
    assert (job.status, job.attempts, job.losses, job.alone, job.fence) == ("PENDING", 1, 1, True, 1)
    assert (job.lock_token, job.lock_owner, job.lock_expires_at, job.stuck_at, job.queued_at) == (None,) * 5
    assert (job.blocked, job.error, job.finished_at) == (None, None, None)


def test_the_attempt_of_a_lost_run_says_what_is_known(jobs, lost, worker):
    claimed = jobs.running(worker=worker)
    jobs.expire_lock(claimed.number)

    reap.reap_expired(jobs.cursor)

    attempt = JobAttempt.objects.get(job_id=claimed.number)
    assert (attempt.result, attempt.fence, attempt.token, attempt.worker) == ("LOST", 1, claimed.token, worker.name)
    assert attempt.claimed_at <= attempt.started_at <= attempt.ended_at
    assert attempt.error == {
        "type": "WorkerLost",
        "message": "Worker lost during execution: its lock ran out",
        "step": None,
    }


@pytest.mark.parametrize(
    ("program", "earlier_losses", "status"),
    [
        ({}, 0, "PENDING"),
        ({}, 1, "PENDING"),
        ({}, 2, "FAILED"),
        ({"max_worker_losses": 1}, 0, "FAILED"),
        ({"max_worker_losses": 5}, 3, "PENDING"),
        ({"max_worker_losses": 5}, 4, "FAILED"),
        ({"on_worker_lost": "FAIL"}, 0, "FAILED"),
    ],
)
def test_a_job_is_tried_again_until_it_has_cost_too_many_workers(jobs, lost, program, earlier_losses, status):
    claimed = lost(**program)
    jobs.set(claimed.number, "fence = 9, attempts = %s, losses = %s", [earlier_losses] * 2)

    [reaped] = reap.reap_expired(jobs.cursor)

    assert (reaped.status, jobs.status(claimed.number)) == (status, status)


def test_losses_do_not_count_as_attempts_of_the_retry_policy(jobs, lost):
    claimed = lost(retry={"max_attempts": 1})

    reap.reap_expired(jobs.cursor)

    assert jobs.status(claimed.number) == "PENDING"


def test_a_job_that_cost_too_many_workers_fails_with_a_message(jobs, lost):
    claimed = lost(max_worker_losses=1)

    reap.reap_expired(jobs.cursor)

    job = jobs.row(claimed.number)
    assert (job.outcome, job.failure_kind, job.needs_review) == ("ERROR", "WORKER_LOST", True)
    assert job.error["message"] == "Worker lost during execution: its lock ran out"
    assert job.finished_at is not None


@pytest.mark.parametrize(("maximum", "count"), [(5, 1), (None, 0)])
def test_a_job_that_failed_by_its_losses_counts_as_a_failure_of_its_program(jobs, lost, maximum, count):
    claimed = lost(max_worker_losses=1, max_consecutive_failures=maximum)

    reap.reap_expired(jobs.cursor)

    program = Program.objects.get(pk=claimed.program_id)
    assert program.consecutive_failures == count


def test_a_lost_job_that_was_asked_to_stop_is_canceled(jobs, lost):
    claimed = lost()
    cancel(jobs.cursor, number=claimed.number, tenant_id=claimed.tenant_id, by="alice", reason="")

    [reaped] = reap.reap_expired(jobs.cursor)

    job = jobs.row(claimed.number)
    assert (reaped.status, job.status, job.outcome, job.failure_kind) == ("CANCELED", "CANCELED", "NORMAL", None)
    assert jobs.attempts(claimed.number) == ["LOST"]


def test_a_healthy_job_is_left_alone(jobs):
    claimed = jobs.running()

    assert reap.reap_expired(jobs.cursor) == []
    assert reap.expire_stuck(jobs.cursor) == []

    assert jobs.row(claimed.number).lock_token == claimed.token


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "WAITING", "COMPLETED", "FAILED", "CANCELED"])
def test_only_running_jobs_can_be_lost(jobs, status):
    number = jobs.in_status(status)

    assert reap.reap_expired(jobs.cursor) == []
    assert reap.reap_owners(jobs.cursor, [jobs.worker.incarnation]) == []

    assert jobs.status(number) == status


def test_many_lost_runs_are_taken_in_batches(jobs):
    numbers = jobs.many(501)
    jobs.queue(*numbers)
    jobs.cursor.execute(
        "UPDATE jobsite_job SET status = 'RUNNING', lock_token = gen_random_uuid(), lock_owner = gen_random_uuid(),"
        " lock_expires_at = clock_timestamp() - interval '1 second', claimed_at = clock_timestamp(), fence = 1"
    )

    assert [len(reap.reap_expired(jobs.cursor)) for _ in range(3)] == [500, 1, 0]


# ---- whose runs ------------------------------------------------------------------------------------------


def test_a_dead_child_loses_the_jobs_of_its_message_and_no_others(jobs, worker, cursor):
    message = uuid4()
    first, second = (jobs.running(worker=worker, message=message) for _ in range(2))
    sibling = jobs.running(worker=worker)
    same_message_elsewhere = jobs.running(worker=new_worker(cursor, "w2@here"), message=message)

    reaped = reap.reap_child(cursor, owner=worker.incarnation, message=message)

    assert sorted(one.number for one in reaped) == [first.number, second.number]
    assert jobs.status(sibling.number) == jobs.status(same_message_elsewhere.number) == "RUNNING"
    assert jobs.attempts(first.number) == ["LOST"]


@pytest.mark.parametrize(
    ("program", "status", "kind"),
    [({}, "FAILED", "TIMEOUT"), ({"retry_on_timeout": True}, "PENDING", None)],
)
def test_a_child_that_was_ended_for_its_time_limit_timed_out(jobs, worker, define, program, status, kind):
    message = uuid4()
    claimed = jobs.running(define(**program), worker=worker, message=message)

    reap.reap_child(jobs.cursor, owner=worker.incarnation, message=message, timed_out=True)

    job = jobs.row(claimed.number)
    assert (job.status, job.failure_kind, job.losses) == (status, kind, 0)
    assert jobs.attempts(claimed.number) == ["TIMEOUT"]


def test_runs_are_taken_by_their_tokens(jobs):
    claimed, other = jobs.running(), jobs.running()

    reaped = reap.reap_tokens(
        jobs.cursor,
        [(claimed.number, claimed.token), (other.number, uuid4()), (claimed.number, other.token)],
        message="abandoned",
    )

    assert [one.number for one in reaped] == [claimed.number]
    assert jobs.row(other.number).lock_token == other.token
    [attempt] = JobAttempt.objects.all()
    assert attempt.error["message"] == "Worker lost during execution: abandoned"


def test_all_jobs_of_a_worker_that_is_known_to_be_gone_are_reaped(jobs, worker, cursor):
    mine = [jobs.running(worker=worker).number for _ in range(2)]
    theirs = jobs.running(worker=new_worker(cursor, "w2@here"))

    reaped = reap.reap_owners(cursor, [worker.incarnation, uuid4()])

    assert sorted(one.number for one in reaped) == mine
    assert jobs.status(theirs.number) == "RUNNING"


# ---- stuck -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "attempts", "policy", "status"),
    [
        ({}, 0, "", "FAILED"),
        ({"retry_on_timeout": True}, 0, "", "PENDING"),
        ({"retry_on_timeout": True}, 1, "", "PENDING"),
        ({"retry_on_timeout": True}, 2, "", "FAILED"),
        ({}, 0, "RETRY", "PENDING"),
        ({"retry_on_timeout": True}, 0, "FAIL", "FAILED"),
        ({}, 7, "RETRY", "PENDING"),
    ],
)
def test_a_stuck_run_ends_as_the_program_or_the_operator_says(jobs, stuck, program, attempts, policy, status):
    claimed = stuck(**program)
    jobs.set(claimed.number, "fence = 9, attempts = %s", [attempts])

    [reaped] = reap.expire_stuck(jobs.cursor, policy=policy)

    job = jobs.row(claimed.number)
    assert (reaped.status, job.status, job.attempts, job.losses) == (status, status, attempts + 1, 0)
    assert jobs.attempts(claimed.number) == ["TIMEOUT"]
    assert job.failure_kind == ("TIMEOUT" if status == "FAILED" else None)


def test_losses_do_not_use_up_the_attempts_of_a_program_that_retries_time_outs(jobs, stuck):
    claimed = stuck(retry_on_timeout=True, retry={"max_attempts": 2})
    jobs.set(claimed.number, "fence = 9, attempts = 2, losses = 2")

    reap.expire_stuck(jobs.cursor)

    assert jobs.status(claimed.number) == "PENDING"


def test_a_stuck_run_is_ended_even_if_its_lock_is_renewed(jobs, worker):
    message = uuid4()
    claimed = jobs.running(worker=worker, message=message)
    jobs.set(claimed.number, "stuck_at = clock_timestamp() - interval '1 second'")
    renew(jobs.cursor, owner=worker.incarnation, messages=[message], lock_seconds=LOCK_SECONDS)

    assert len(reap.expire_stuck(jobs.cursor)) == 1


def test_a_stuck_job_that_was_asked_to_stop_is_canceled_whatever_the_policy(jobs, stuck):
    claimed = stuck()
    cancel(jobs.cursor, number=claimed.number, tenant_id=claimed.tenant_id, by="alice", reason="")

    reap.expire_stuck(jobs.cursor, policy="RETRY")

    assert jobs.status(claimed.number) == "CANCELED"


@pytest.mark.parametrize("chosen", [[0], [1], [0, 1], [], None])
def test_only_the_chosen_stuck_runs_are_ended(jobs, stuck, chosen):
    numbers = [stuck().number, stuck().number]
    wanted = None if chosen is None else [numbers[place] for place in chosen]

    reaped = reap.expire_stuck(jobs.cursor, numbers=wanted)

    assert sorted(one.number for one in reaped) == (numbers if wanted is None else wanted)


def test_a_tenant_ends_its_own_stuck_runs_only(jobs, stuck, other_tenant):
    claimed = stuck()

    assert reap.expire_stuck(jobs.cursor, tenant_id=other_tenant.pk) == []
    assert len(reap.expire_stuck(jobs.cursor, tenant_id=claimed.tenant_id)) == 1


# ---- cleared ---------------------------------------------------------------------------------------------


def clear(jobs, claimed, *, token=None, force=False):
    return reap.clear(jobs.cursor, number=claimed.number, token=token or claimed.token, force=force, by="alice")


def test_a_stale_lock_is_cleared_as_a_loss(jobs, lost):
    claimed = lost()

    assert len(clear(jobs, claimed)) == 1

    job = jobs.row(claimed.number)
    assert (job.status, job.attempts, job.losses) == ("PENDING", 1, 1)
    attempt = JobAttempt.objects.get(job_id=claimed.number)
    assert (attempt.result, attempt.error["message"]) == ("CLEARED", "Lock cleared by alice")


@pytest.mark.parametrize(("status", "taken"), [("ACTIVE", 0), ("STOPPING", 0), ("STOPPED", 1), ("LOST", 1)])
def test_a_lock_is_stale_when_its_worker_is_known_to_be_gone(jobs, worker, status, taken):
    claimed = jobs.running(worker=worker)
    Worker.objects.update(status=status)

    assert len(clear(jobs, claimed)) == taken


def test_a_live_lock_is_cleared_by_force_only(jobs):
    claimed = jobs.running()

    assert clear(jobs, claimed) == []
    assert len(clear(jobs, claimed, force=True)) == 1


def test_a_lock_newer_than_the_one_shown_is_left_even_by_force(jobs, lost):
    claimed = lost()

    assert clear(jobs, claimed, token=uuid4(), force=True) == []

    assert jobs.row(claimed.number).lock_token == claimed.token


# ---- of a group ------------------------------------------------------------------------------------------

REAPERS = {
    "expired": lambda cursor, one, owner, message: reap.reap_expired(cursor),
    "child": lambda cursor, one, owner, message: reap.reap_child(cursor, owner=owner, message=message),
    "child timed out": lambda cursor, one, owner, message: reap.reap_child(
        cursor, owner=owner, message=message, timed_out=True
    ),
    "tokens": lambda cursor, one, owner, message: reap.reap_tokens(cursor, [(one.number, one.token)], message="gone"),
    "owners": lambda cursor, one, owner, message: reap.reap_owners(cursor, [owner]),
    "cleared": lambda cursor, one, owner, message: reap.clear(
        cursor, number=one.number, token=one.token, force=True, by="alice"
    ),
    "stuck": lambda cursor, one, owner, message: reap.expire_stuck(cursor),
    "stuck, to fail": lambda cursor, one, owner, message: reap.expire_stuck(cursor, policy="FAIL"),
}
# What each makes of a run that had started.
STARTED = {
    "expired": ("FAILED", "LOST"),
    "child": ("FAILED", "LOST"),
    "child timed out": ("FAILED", "TIMEOUT"),
    "tokens": ("FAILED", "LOST"),
    "owners": ("FAILED", "LOST"),
    "cleared": ("FAILED", "CLEARED"),
    "stuck": ("FAILED", "TIMEOUT"),
    "stuck, to fail": ("FAILED", "TIMEOUT"),
}


@pytest.fixture
def one_of_a_group(jobs, worker, define):
    """A run that is not known to have started, of a program that allows no loss."""

    def make():
        program, message = define(max_worker_losses=1, on_worker_lost="FAIL", max_consecutive_failures=9), uuid4()
        numbers = [jobs.queued(program) for _ in range(2)]
        claimed, other = claim_all(jobs.cursor, numbers, worker, message=message)
        finish(jobs.cursor, held(other), SUCCESS)
        past = "clock_timestamp() - interval '1 second'"
        jobs.set(claimed.number, f"lock_expires_at = {past}, stuck_at = {past}")
        return claimed, worker.incarnation, message

    return make


@pytest.mark.parametrize("reaper", REAPERS)
def test_a_run_of_a_group_that_had_not_started_comes_back_uncounted_and_alone(jobs, one_of_a_group, reaper):
    claimed, owner, message = one_of_a_group()

    [reaped] = REAPERS[reaper](jobs.cursor, claimed, owner, message)

    job = jobs.row(claimed.number)
    assert (reaped.status, job.status, job.outcome, job.error) == ("PENDING", "PENDING", "NORMAL", None)
    assert (job.attempts, job.losses, job.alone, job.fence) == (0, 0, True, 1)
    assert (job.lock_token, job.queued_at, job.finished_at) == (None, None, None)
    attempt = JobAttempt.objects.get(job_id=claimed.number)
    assert (attempt.result, attempt.started_at, attempt.token) == ("RETURNED", None, claimed.token)
    assert Program.objects.get(pk=claimed.program_id).consecutive_failures == 0


@pytest.mark.parametrize("reaper", REAPERS)
def test_a_run_of_a_group_that_had_started_counts_like_any_other(jobs, one_of_a_group, reaper):
    claimed, owner, message = one_of_a_group()
    start(jobs.cursor, held(claimed))

    REAPERS[reaper](jobs.cursor, claimed, owner, message)

    job = jobs.row(claimed.number)
    assert (job.status, *jobs.attempts(claimed.number)) == STARTED[reaper]
    assert job.attempts == 1
    assert job.losses == (0 if STARTED[reaper][1] == "TIMEOUT" else 1)


@pytest.mark.parametrize("reaper", REAPERS)
def test_a_run_of_a_group_that_was_asked_to_stop_does_not_come_back(jobs, one_of_a_group, reaper):
    claimed, owner, message = one_of_a_group()
    cancel(jobs.cursor, number=claimed.number, tenant_id=claimed.tenant_id, by="alice", reason="")

    REAPERS[reaper](jobs.cursor, claimed, owner, message)

    assert (jobs.status(claimed.number), jobs.attempts(claimed.number)) == ("CANCELED", ["RETURNED"])
    assert jobs.row(claimed.number).attempts == 0


# ---- beside others ---------------------------------------------------------------------------------------


def test_reapers_at_once_take_each_run_once(jobs, race):
    claimed = [jobs.running() for _ in range(20)]
    for one in claimed:
        jobs.expire_lock(one.number)

    answers = race(*[reap.reap_expired] * 4)

    assert sorted(one.number for answer in answers for one in answer) == [one.number for one in claimed]
    assert all(jobs.attempts(one.number) == ["LOST"] for one in claimed)


def test_a_renewal_and_the_reaper_at_once_agree(jobs, worker, race):
    for _ in range(15):
        message = uuid4()
        claimed = jobs.running(worker=worker, message=message)
        jobs.expire_lock(claimed.number)

        renewed, reaped = race(
            lambda cursor, message=message: renew(
                cursor, owner=worker.incarnation, messages=[message], lock_seconds=LOCK_SECONDS
            ),
            reap.reap_expired,
        )

        assert len(renewed) + len(reaped) == 1
        assert jobs.status(claimed.number) == ("RUNNING" if renewed else "PENDING")


def test_the_reaper_does_not_wait_for_a_row_that_is_being_changed(jobs, lost, other):
    claimed = lost()

    with other.transaction(), other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM jobsite_job WHERE number = %s FOR NO KEY UPDATE", [claimed.number])
        assert reap.reap_expired(jobs.cursor) == []

    assert len(reap.reap_expired(jobs.cursor)) == 1


def test_a_reaped_job_keeps_its_place_in_the_lane(jobs, lost):
    claimed = lost()
    before = jobs.row(claimed.number)

    reap.reap_expired(jobs.cursor)

    after = jobs.row(claimed.number)
    assert (after.rank, after.due_at, after.scheduled_at) == (before.rank, before.due_at, before.scheduled_at)
    assert after.due_at - after.rank == timedelta(0)
