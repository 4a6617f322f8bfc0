"""RUNNING -> an end, WAITING or PENDING: by the holder of the token, once, with all that belongs to it."""

from datetime import timedelta
from uuid import uuid4

import pytest

from jobsite.programs.models import Job, JobAttempt, Program
from jobsite.programs.rules.lifecycle import FailureKind
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.dispatch import dispatch, wake
from jobsite.programs.transitions.finish import Ending, Held, StaleJob, finish, finish_all, stored_attempts
from jobsite.programs.transitions.reap import reap_expired
from jobsite.programs.transitions.renew import renew
from jobsite.tenants.models import AuditEntry
from tests.programs.conftest import FAILURE, LOCK_SECONDS, SUCCESS, WAITING, claim_all, held

pytestmark = pytest.mark.django_db

RETRY = Ending.retry(
    FailureKind.TRANSIENT,
    {"type": "TransientError", "message": "busy", "step": None},
    traceback="Traceback …",
    delay=30.0,
)
CANCELED = Ending.canceled()
SNOOZE = Ending.returned(delay=0)


@pytest.mark.parametrize(
    ("ending", "status", "outcome", "failure_kind", "attempts", "attempt", "needs_review"),
    [
        (SUCCESS, "COMPLETED", "NORMAL", None, 1, "SUCCESS", False),
        (
            Ending.completed(has_warned=True),
            "COMPLETED",
            "WARNING",
            None,
            1,
            "SUCCESS",
            False,
        ),
        (FAILURE, "FAILED", "ERROR", "PERMANENT", 1, "PERMANENT", True),
        (
            Ending.failed(FailureKind.TIMEOUT, {"type": "Timeout", "message": "still running after 3 s", "step": None}),
            "FAILED",
            "ERROR",
            "TIMEOUT",
            1,
            "TIMEOUT",
            True,
        ),
        (CANCELED, "CANCELED", "NORMAL", None, 1, "CANCELED", False),
        (WAITING, "WAITING", "NORMAL", None, 1, "PARKED", False),
        (RETRY, "PENDING", "NORMAL", None, 1, "TRANSIENT", False),
        (SNOOZE, "PENDING", "NORMAL", None, 0, "RETURNED", False),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Ending) else None,
)
def test_a_run_ends_as_its_ending_says(jobs, ending, status, outcome, failure_kind, attempts, attempt, needs_review):
    claimed = jobs.running()

    finish(jobs.cursor, held(claimed), ending)

    job = jobs.row(claimed.number)
    assert (job.status, job.outcome, job.failure_kind) == (status, outcome, failure_kind)
    assert (job.attempts, job.losses, job.needs_review) == (attempts, 0, needs_review)
    assert (job.finished_at is not None) == job.is_terminal
    assert (job.lock_token, job.lock_owner, job.lock_expires_at, job.stuck_at) == (None, None, None, None)
    assert jobs.attempts(claimed.number) == [attempt]


def test_the_attempt_describes_the_whole_run(jobs):
    message = uuid4()
    claimed = jobs.running(message=message)

    finish(jobs.cursor, held(claimed), RETRY)

    attempt = JobAttempt.objects.get(job_id=claimed.number)
    assert (attempt.fence, attempt.token, attempt.worker, attempt.external_id) == (
        1,
        claimed.token,
        "w@here",
        message,
    )
    assert attempt.claimed_at <= attempt.started_at <= attempt.ended_at
    assert (attempt.error, attempt.traceback) == (RETRY.error, "Traceback …")
    assert attempt.tenant_id == claimed.tenant_id


def test_the_result_and_the_last_progress_are_kept(jobs):
    claimed = jobs.running()
    ending = Ending.completed([1, "Zoë", None], progress={"processed": 3})

    finish(jobs.cursor, held(claimed), ending)

    job = jobs.row(claimed.number)
    assert (job.result, job.progress, job.error) == ([1, "Zoë", None], {"processed": 3}, None)


def test_an_ending_without_progress_keeps_the_stored_progress(jobs):
    claimed = jobs.running()
    jobs.set(claimed.number, "progress = '{\"processed\": 2}'")

    finish(jobs.cursor, held(claimed), SUCCESS)

    assert jobs.row(claimed.number).progress == {"processed": 2}


def test_a_retry_is_due_after_its_pause_and_out_of_the_lane_until_then(jobs):
    claimed = jobs.running(priority=2)
    before = jobs.row(claimed.number)

    finish(jobs.cursor, held(claimed), RETRY)

    job = jobs.row(claimed.number)
    assert (job.blocked, job.queued_at) == ("SCHEDULED", None)
    assert job.due_at - before.claimed_at == pytest.approx(timedelta(seconds=30), abs=timedelta(seconds=2))
    assert job.due_at - job.rank == timedelta(minutes=2)
    assert job.scheduled_at == before.scheduled_at


def test_a_retry_without_a_pause_is_ready_at_once(jobs):
    claimed = jobs.running()

    finish(jobs.cursor, held(claimed), SNOOZE)

    assert jobs.row(claimed.number).blocked is None


# ---- the token -------------------------------------------------------------------------------------------


def everything(jobs, number):
    row = {name: value for name, value in jobs.row(number).__dict__.items() if name != "_state"}
    program = Program.objects.get(pk=row["program_id"])
    return row, jobs.attempts(number), program.consecutive_failures


def test_a_finish_after_the_reaper_is_stale_and_writes_nothing(jobs, define):
    claimed = jobs.running(define(max_consecutive_failures=5))
    jobs.expire_lock(claimed.number)
    reap_expired(jobs.cursor)
    before = everything(jobs, claimed.number)

    for ending in (SUCCESS, FAILURE, RETRY, CANCELED):
        with pytest.raises(StaleJob, match=f"job {claimed.number} is no longer held"):
            finish(jobs.cursor, held(claimed), ending)

    assert everything(jobs, claimed.number) == before


def test_a_worker_that_lost_its_lock_cannot_finish_the_run_of_the_next(jobs):
    first = jobs.running()
    jobs.expire_lock(first.number)
    reap_expired(jobs.cursor)
    jobs.queue(first.number)
    second = jobs.claim(first.number)

    with pytest.raises(StaleJob):
        finish(jobs.cursor, held(first), SUCCESS)
    assert jobs.row(first.number).lock_token == second.token

    finish(jobs.cursor, held(second), SUCCESS)
    assert jobs.attempts(first.number) == ["LOST", "SUCCESS"]


def test_a_job_is_finished_once(jobs):
    claimed = jobs.running()
    finish(jobs.cursor, held(claimed), SUCCESS)

    with pytest.raises(StaleJob):
        finish(jobs.cursor, held(claimed), FAILURE)

    assert (jobs.status(claimed.number), jobs.attempts(claimed.number)) == ("COMPLETED", ["SUCCESS"])


def test_a_token_is_good_for_its_own_job_only(jobs):
    mine, other = jobs.running(), jobs.running()

    with pytest.raises(StaleJob):
        finish(jobs.cursor, Held(other.number, mine.token, "w@here", None), SUCCESS)

    assert jobs.status(other.number) == "RUNNING"


def test_stored_attempts_of_many_runs_are_found_by_their_tokens(jobs):
    done, running = jobs.running(), jobs.running()
    finish(jobs.cursor, held(done), SUCCESS)

    assert stored_attempts(jobs.cursor, [held(done), held(running)]) == {done.token: "SUCCESS"}
    assert stored_attempts(jobs.cursor, []) == {}


@pytest.mark.django_db(transaction=True)
def test_a_finish_and_the_reaper_at_once_agree_on_one_end(jobs, race):
    seen = set()
    for _ in range(25):
        claimed = jobs.running()
        jobs.expire_lock(claimed.number)

        finished, reaped = race(lambda cursor, it=claimed: finish(cursor, held(it), SUCCESS), reap_expired)

        won = finished is None
        assert won or isinstance(finished, StaleJob)
        assert [one.number for one in reaped] == ([] if won else [claimed.number])
        assert jobs.status(claimed.number) == ("COMPLETED" if won else "PENDING")
        assert jobs.attempts(claimed.number) == (["SUCCESS"] if won else ["LOST"])
        seen.add(won)
    assert seen  # either of the two may win


@pytest.mark.django_db(transaction=True)
def test_a_write_to_a_running_row_at_the_same_moment_does_not_stop_its_finish(jobs, worker, race):
    report = "UPDATE jobsite_job SET progress = '{}' WHERE number = %s AND lock_token = %s"
    for _ in range(15):
        message = uuid4()
        claimed = jobs.running(worker=worker, message=message)

        finished, _, _ = race(
            lambda cursor, it=claimed: finish(cursor, held(it), SUCCESS),
            lambda cursor, message=message: renew(
                cursor, owner=worker.incarnation, messages=[message], lock_seconds=LOCK_SECONDS
            ),
            lambda cursor, it=claimed: cursor.execute(report, [it.number, it.token]) and None,
        )

        assert finished is None
        assert (jobs.status(claimed.number), jobs.attempts(claimed.number)) == ("COMPLETED", ["SUCCESS"])


# ---- what ends with a job --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "ending", "after"),
    [
        (0, FAILURE, 1),
        (2, FAILURE, 3),
        (2, SUCCESS, 0),
        (2, CANCELED, 2),
        (2, RETRY, 2),
        (2, SNOOZE, 2),
        (2, WAITING, 2),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Ending) else None,
)
def test_failures_in_a_row_are_counted_on_the_program(jobs, define, before, ending, after):
    program = define(max_consecutive_failures=5)
    Program.objects.filter(pk=program.pk).update(consecutive_failures=before)

    finish(jobs.cursor, held(jobs.running(program)), ending)

    program.refresh_from_db()
    assert program.consecutive_failures == after


@pytest.mark.parametrize(
    ("before", "endings", "after", "status"),
    [
        (0, "FF", 2, "ACTIVE"),
        (0, "FFF", 3, "TERMINATED"),
        (2, "F", 3, "TERMINATED"),
        (2, "SFF", 2, "ACTIVE"),
        (2, "FS", 0, "TERMINATED"),
        (0, "SFFFS", 0, "TERMINATED"),
        (2, "CRC", 2, "ACTIVE"),
        (2, "S", 0, "ACTIVE"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in a group", "alone"])
def test_a_program_is_terminated_at_its_maximum_of_failures_in_a_row(
    jobs, define, group, before, endings, after, status, together
):
    program = define(max_consecutive_failures=3)
    Program.objects.filter(pk=program.pk).update(consecutive_failures=before)
    kinds = {"F": FAILURE, "S": SUCCESS, "C": CANCELED, "R": RETRY}
    written = [(held(one), kinds[kind]) for one, kind in zip(group(len(endings), program), endings, strict=True)]

    for part in [written] if together else [[one] for one in written]:
        finish_all(jobs.cursor, part)

    program.refresh_from_db()
    assert (program.consecutive_failures, program.status) == (after, status)
    audited = AuditEntry.objects.filter(action="terminate program").values_list("actor", "target", "reason")
    assert list(audited) == [("system", program.code, "3 failures in a row")] * (status == "TERMINATED")


def test_a_terminated_program_is_not_terminated_again_by_further_failures(jobs, define):
    program = define(max_consecutive_failures=3)
    Program.objects.update(status="TERMINATED", consecutive_failures=3)

    finish(jobs.cursor, held(jobs.running(program)), FAILURE)

    program.refresh_from_db()
    assert (program.consecutive_failures, program.status) == (4, "TERMINATED")
    assert not AuditEntry.objects.filter(action="terminate program").exists()


def test_a_program_without_a_maximum_is_not_written_by_its_jobs(jobs):
    jobs.ended(FAILURE)

    jobs.program.refresh_from_db()
    assert jobs.program.consecutive_failures == 0


@pytest.mark.parametrize("ending", [RETRY, SNOOZE], ids=["retry", "snooze"])
def test_a_job_that_was_asked_to_stop_does_not_run_again(jobs, worker, ending):
    claimed = jobs.running(worker=worker)
    cancel(jobs.cursor, number=claimed.number, tenant_id=claimed.tenant_id, by="alice", reason="")

    finish(jobs.cursor, held(claimed), ending)

    assert not runs_again(jobs, claimed.number, worker)


def runs_again(jobs, number, worker):
    if jobs.status(number) == "PENDING":
        jobs.set(number, "blocked = NULL")
        jobs.make_due(number, -1)
    wake(jobs.cursor, [number])
    dispatch(jobs.cursor, queue_id=jobs.queue_id, lock_seconds=LOCK_SECONDS)
    return bool(claim_all(jobs.cursor, [number], worker))


# ---- many at once ----------------------------------------------------------------------------------------


@pytest.fixture
def group(jobs):
    """Running jobs of one claim."""

    def make(count, program=None, **fields):
        numbers = [jobs.queued(program, **fields) for _ in range(count)]
        return claim_all(jobs.cursor, numbers, jobs.worker)

    return make


def test_the_runs_of_a_group_end_each_in_its_own_way_in_one_statement(jobs, group):
    done, stale, retried, failed, asked, snoozed, stopped = claimed = group(7)
    jobs.expire_lock(stale.number)
    reap_expired(jobs.cursor)
    cancel(jobs.cursor, number=asked.number, tenant_id=asked.tenant_id, by="alice", reason="")
    endings = [SUCCESS, SUCCESS, RETRY, FAILURE, RETRY, SNOOZE, CANCELED]

    good = finish_all(jobs.cursor, [(held(one), ending) for one, ending in zip(claimed, endings, strict=True)]).tokens

    assert good == {one.token for one in claimed} - {stale.token}
    assert {one.number: (jobs.status(one.number), *jobs.attempts(one.number)) for one in claimed} == {
        done.number: ("COMPLETED", "SUCCESS"),
        stale.number: ("PENDING", "RETURNED"),
        retried.number: ("PENDING", "TRANSIENT"),
        failed.number: ("FAILED", "PERMANENT"),
        asked.number: ("CANCELED", "TRANSIENT"),
        snoozed.number: ("PENDING", "RETURNED"),
        stopped.number: ("CANCELED", "CANCELED"),
    }
    assert [jobs.row(one.number).attempts for one in claimed] == [1, 0, 1, 1, 1, 0, 1]
    assert [jobs.row(one.number).blocked for one in claimed] == [None, None, "SCHEDULED", None, None, None, None]
    assert [jobs.row(one.number).result for one in claimed] == [SUCCESS.result, None, None, None, None, None, None]
    assert not Job.objects.exclude(lock_token=None).exists()


def test_each_run_of_a_group_is_written_under_its_own_token_and_start(jobs, group):
    claimed = group(3)
    starts = [one.claimed_at + timedelta(milliseconds=place) for place, one in enumerate(claimed, start=1)]
    endings = [
        (Held(one.number, one.token, "w@here", start), SUCCESS) for one, start in zip(claimed, starts, strict=True)
    ]

    finish_all(jobs.cursor, endings[::-1])

    written = list(JobAttempt.objects.order_by("job_id").values_list("token", "started_at", "fence"))
    assert written == [(one.token, start, 1) for one, start in zip(claimed, starts, strict=True)]
    assert [jobs.row(one.number).started_at for one in claimed] == starts


@pytest.mark.parametrize(
    ("before", "endings", "after"),
    [
        (1, "FF", 3),
        (1, "FFSF", 1),
        (1, "SFF", 2),
        (1, "FFS", 0),
        (1, "FCRF", 3),
        (1, "CR", 1),
        (0, "SSS", 0),
        (0, "FSFSF", 1),
    ],
)
@pytest.mark.parametrize("turn", [1, -1], ids=["in order", "backwards"])
def test_failures_in_a_row_are_counted_in_order_of_number_within_a_group(
    jobs, define, group, before, endings, after, turn
):
    program = define(max_consecutive_failures=50)
    Program.objects.filter(pk=program.pk).update(consecutive_failures=before)
    kinds = {"F": FAILURE, "S": SUCCESS, "C": CANCELED, "R": RETRY}
    claimed = group(len(endings), program)

    finish_all(jobs.cursor, [(held(one), kinds[kind]) for one, kind in zip(claimed, endings, strict=True)][::turn])

    program.refresh_from_db()
    assert program.consecutive_failures == after


def test_a_stale_failure_in_a_group_is_not_counted(jobs, define, group):
    program = define(max_consecutive_failures=50)
    claimed = group(3, program)
    jobs.expire_lock(claimed[1].number)
    reap_expired(jobs.cursor)

    finish_all(jobs.cursor, [(held(one), FAILURE) for one in claimed])

    program.refresh_from_db()
    assert program.consecutive_failures == 2


def test_the_programs_of_a_mixed_group_are_counted_each_by_itself(jobs, define):
    programs = [define(code, max_consecutive_failures=50) for code in ("one", "two")]
    numbers = [jobs.queued(programs[place % 2]) for place in range(6)]
    claimed = claim_all(jobs.cursor, numbers, jobs.worker)

    finish_all(jobs.cursor, [(held(one), SUCCESS if place == 3 else FAILURE) for place, one in enumerate(claimed)])

    assert [Program.objects.get(pk=program.pk).consecutive_failures for program in programs] == [3, 1]
