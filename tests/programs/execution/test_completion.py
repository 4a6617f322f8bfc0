"""How a run ends: what its error or result means, and the write that only a lost token stops."""

import json
import threading
from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from jobsite.programs import workers
from jobsite.programs.context import PermanentError, TransientError, UnknownAction
from jobsite.programs.execution import completion
from jobsite.programs.execution.completion import finish_for_sure, raised, succeeded
from jobsite.programs.execution.group import Ended, Group, boot_time
from jobsite.programs.execution.program_cache import RunnableProgram
from jobsite.programs.models import JobAttempt, JobLogEntry
from jobsite.programs.rules.lifecycle import FailureKind, Outcome, Status
from jobsite.programs.rules.retries import RetryPolicy
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost, Snooze
from jobsite.programs.transitions.finish import Ending
from jobsite.programs.transitions.reap import reap_expired
from jobsite.tenants.principals import PermissionRefused
from tests.programs.conftest import FAILURE, SUCCESS, a_claimed, a_context, claim_all, held


def a_program(**fields):
    known = {
        "code": "scores",
        "timeout": 300.0,
        "retry": RetryPolicy(),
        "retry_on_timeout": False,
        "transient": (),
        "permanent": (),
        "cancel_grace": 10.0,
        "steps": (),
    }
    return RunnableProgram(**known | fields)


def after(error, *, program=None, context=None, **claimed):
    """The ending of a run whose action raised this."""
    try:
        raise error
    except BaseException as caught:
        return raised(caught, a_claimed(**claimed), program or a_program(), context or a_context(a_claimed(**claimed)))


# ---- results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, 3, "x", {"scored": 3}, [1, None], (1, 2)])
def test_an_action_that_returns_completes_with_its_result(result):
    ending = succeeded(a_context(), result)

    assert (ending.status, ending.attempt_result, ending.outcome) == ("COMPLETED", "SUCCESS", "NORMAL")
    assert ending.result == json.loads(json.dumps(result))


def test_an_action_that_warned_completes_with_a_warning():
    context = a_context()
    context.warn("3 students without marks")

    assert succeeded(context, None).outcome is Outcome.WARNING


def test_an_action_that_saw_the_request_to_stop_and_returned_is_canceled():
    context = a_context()
    context.request_cancel()
    assert context.is_canceled

    ending = succeeded(context, {"half": True})

    assert (ending.status, ending.attempt_result, ending.result) == ("CANCELED", "CANCELED", None)


def test_an_action_that_never_looked_and_returned_completes():
    context = a_context()
    context.request_cancel()

    assert succeeded(context, None).status is Status.COMPLETED


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (float("nan"), "it is nan; JSON has finite numbers only"),
        ({"when": timedelta(1)}, "/when is a timedelta"),
        ("x" * 70_000, "more than 65,536 bytes"),
    ],
    ids=["nan", "type", "long"],
)
def test_a_result_that_cannot_be_stored_fails_the_job_with_a_message(result, words):
    ending = succeeded(a_context(), result)

    assert (ending.status, ending.outcome, ending.failure_kind) == ("FAILED", "ERROR", "PERMANENT")
    assert ending.error["message"].startswith("result could not be stored: ")
    assert words in ending.error["message"]


def test_the_last_progress_ends_with_the_job():
    context = a_context()
    context.progress(9, 10)

    for ending in (
        succeeded(context, None),
        succeeded(context, float("nan")),
        after(ValueError(), context=context),
        after(TransientError(), context=context),
        after(JobCanceled(), context=context),
    ):
        assert ending.progress == {"processed": 9, "total": 10, "message": ""}


# ---- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "program", "claimed", "expected"),
    [
        (ValueError("x"), {}, {}, ("FAILED", "PERMANENT", "PERMANENT")),
        (PermanentError("x"), {}, {}, ("FAILED", "PERMANENT", "PERMANENT")),
        (TransientError("x"), {}, {}, ("PENDING", "TRANSIENT", None)),
        (ConnectionError("x"), {}, {"attempts": 1}, ("PENDING", "TRANSIENT", None)),
        (TransientError("x"), {}, {"attempts": 2}, ("FAILED", "TRANSIENT", "TRANSIENT")),
        (TransientError("x"), {}, {"attempts": 4, "losses": 2}, ("FAILED", "TRANSIENT", "TRANSIENT")),
        (TransientError("x"), {}, {"attempts": 3, "losses": 2}, ("PENDING", "TRANSIENT", None)),
        (TransientError("x"), {"retry": RetryPolicy(max_attempts=1)}, {}, ("FAILED", "TRANSIENT", "TRANSIENT")),
        (ValueError("x"), {"transient": ("ValueError",)}, {}, ("PENDING", "TRANSIENT", None)),
        (TimeoutError("x"), {"permanent": ("TimeoutError",)}, {}, ("FAILED", "PERMANENT", "PERMANENT")),
        (PermissionRefused("x"), {}, {}, ("FAILED", "PERMANENT", "REFUSED")),
        (JobTimeout(), {}, {}, ("FAILED", "TIMEOUT", "TIMEOUT")),
        (JobTimeout(), {"retry_on_timeout": True}, {}, ("PENDING", "TIMEOUT", None)),
        (JobTimeout(), {"retry_on_timeout": True}, {"attempts": 2}, ("FAILED", "TIMEOUT", "TIMEOUT")),
        (JobCanceled(), {}, {}, ("CANCELED", "CANCELED", None)),
        (Snooze(5), {}, {"attempts": 9}, ("PENDING", "RETURNED", None)),
        (UnknownAction("a:b"), {}, {}, ("PENDING", "RETURNED", None)),
        (UnknownAction("a:b"), {}, {"returns": 50}, ("FAILED", "PERMANENT", "PERMANENT")),
        (SystemExit(3), {}, {}, ("FAILED", "PERMANENT", "PERMANENT")),
        (GeneratorExit(), {}, {}, ("FAILED", "PERMANENT", "PERMANENT")),
        (ExceptionGroup("x", [ValueError()]), {}, {}, ("FAILED", "PERMANENT", "PERMANENT")),
    ],
    ids=repr,
)
def test_what_an_action_raises_decides_how_its_run_ends(error, program, claimed, expected):
    ending = after(error, program=a_program(**program), **claimed)

    assert (ending.status, ending.attempt_result, ending.failure_kind) == expected
    assert ending.outcome == ("ERROR" if ending.status is Status.FAILED else "NORMAL")


def test_a_worker_does_not_end_a_job_whose_lock_it_has_lost():
    assert after(LockLost()) is None


@pytest.mark.parametrize(("retry_after", "least", "most"), [(None, 0.9, 1.1), (60.0, 60.0, 60.0), (0.1, 0.9, 1.1)])
def test_a_retry_waits_for_its_back_off_or_as_long_as_the_error_asks(retry_after, least, most):
    ending = after(TransientError("x", retry_after=retry_after))

    assert least <= ending.delay <= most


def test_a_snooze_counts_nothing():
    ending = after(Snooze(5))

    assert (ending.delay, ending.counts, ending.is_return) == (5, False, False)


def test_an_error_is_stored_with_its_kind_step_and_traceback():
    context = a_context()
    context.log.step = "load"

    ending = after(ValueError("no\x00 such row"), context=context)

    assert ending.error == {"type": "ValueError", "message": "no\ufffd such row", "step": "load"}
    assert ending.traceback.startswith("Traceback")
    assert "\x00" not in ending.traceback


def test_an_error_without_a_message_is_stored_by_its_name():
    assert after(ValueError()).error["message"] == "ValueError"


def test_a_time_out_names_its_limit():
    ending = after(JobTimeout(), program=a_program(timeout=2.5))

    assert ending.error == {"type": "Timeout", "message": "still running after 2.5 s", "step": None}


def test_long_errors_are_cut():
    def deep(depth):
        if depth:
            deep(depth - 1)
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError) as error:
        deep(200)
    ending = raised(error.value, a_claimed(), a_program(), a_context())

    assert len(ending.error["message"].encode()) <= 4 * 1024
    assert len(ending.traceback.encode()) <= 32 * 1024


def test_an_error_before_there_was_a_context_is_an_end_too():
    ending = raised(PermissionRefused("user bob is deactivated"), a_claimed(), a_program(), None)

    assert (ending.status, ending.failure_kind) == ("FAILED", "REFUSED")
    assert ending.error["message"] == "user bob is deactivated"


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Limited(ConnectionError):
    """An error of a library whose `retry_after` has a type of its own."""

    def __init__(self, retry_after):
        super().__init__("too many requests")
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Speechless(), "FAILED"),
        (Limited("120"), "PENDING"),
        (Limited(timedelta(seconds=5)), "PENDING"),
        (Limited(float("nan")), "PENDING"),
        (Limited(True), "PENDING"),
    ],
    ids=["speechless", "text", "timedelta", "nan", "bool"],
)
def test_no_error_leaves_the_job_without_an_ending_whatever_it_holds(error, status):
    assert after(error).status == status


# ---- the write -------------------------------------------------------------------------------------------

in_the_database = pytest.mark.django_db(transaction=True)


@in_the_database
def test_an_ending_is_written_on_the_workers_own_connection(jobs):
    claimed = jobs.running()

    assert finish_for_sure([(held(claimed), SUCCESS)])

    assert (jobs.status(claimed.number), jobs.attempts(claimed.number)) == ("COMPLETED", ["SUCCESS"])


@in_the_database
@pytest.mark.parametrize("ending", [SUCCESS, FAILURE], ids=["success", "failure"])
def test_a_job_that_another_worker_has_is_not_written(jobs, ending):
    claimed = jobs.running()
    jobs.expire_lock(claimed.number)
    reap_expired(jobs.cursor)

    assert not finish_for_sure([(held(claimed), ending)])

    assert (jobs.status(claimed.number), jobs.attempts(claimed.number)) == ("PENDING", ["LOST"])


@in_the_database
def test_a_connection_that_died_meanwhile_is_replaced(jobs):
    claimed = jobs.running()
    pid = workers.connection().info.backend_pid
    jobs.cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    assert finish_for_sure([(held(claimed), SUCCESS)])

    assert jobs.attempts(claimed.number) == ["SUCCESS"]


class LosesTheAnswer(psycopg.Cursor):
    """The statement is executed and committed; its answer never arrives."""

    def fetchall(self):
        self.connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


@in_the_database
@pytest.mark.parametrize("ending", [SUCCESS, FAILURE], ids=["success", "failure"])
def test_a_commit_whose_answer_was_lost_is_recognized(jobs, ending):
    claimed = jobs.running()
    workers.connection().cursor_factory = LosesTheAnswer

    assert finish_for_sure([(held(claimed), ending)])

    assert jobs.status(claimed.number) == ending.status
    assert jobs.attempts(claimed.number) == [ending.attempt_result]


@in_the_database
def test_an_attempt_that_the_reaper_stored_is_not_taken_for_ours(jobs):
    claimed = jobs.running()
    jobs.expire_lock(claimed.number)

    class TooLate(psycopg.Cursor):
        """The connection breaks before the statement arrives, and the reaper comes before the next try."""

        def execute(self, *args, **kwargs):
            reap_expired(jobs.cursor)
            self.connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    workers.connection().cursor_factory = TooLate

    assert not finish_for_sure([(held(claimed), SUCCESS)])

    assert (jobs.status(claimed.number), jobs.attempts(claimed.number)) == ("PENDING", ["LOST"])


@in_the_database
def test_while_the_database_is_away_a_finish_is_retried_and_then_given_up(jobs, monkeypatch):
    claimed = jobs.running()
    workers.drop_connection()
    monkeypatch.setattr(completion, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")

    with pytest.raises(psycopg.OperationalError):
        finish_for_sure([(held(claimed), SUCCESS)])

    monkeypatch.undo()
    assert jobs.status(claimed.number) == "RUNNING"


@in_the_database
@pytest.mark.parametrize(
    "ending",
    [
        Ending.completed({"text": "\x00"}),
        Ending.completed("\ud800"),
        Ending.completed(progress={"message": "\x00"}),
        Ending.retry(FailureKind.TRANSIENT, traceback="\x00"),
        Ending.retry(FailureKind.TRANSIENT, delay=1e300),
        Ending.failed(
            FailureKind.PERMANENT,
            {"message": "\x00"},
        ),
    ],
    ids=["nul", "surrogate", "progress", "traceback", "delay", "error"],
)
def test_a_finish_that_is_refused_for_its_data_is_written_without_them(jobs, ending):
    claimed = jobs.running()

    assert finish_for_sure([(held(claimed), ending)])

    job = jobs.row(claimed.number)
    assert (job.status, job.outcome, job.failure_kind) == ("FAILED", "ERROR", "PERMANENT")
    assert job.error["message"].startswith("result could not be stored: ")
    assert job.result is None
    assert JobAttempt.objects.get(job_id=claimed.number).result == "PERMANENT"


@in_the_database
def test_progress_that_cannot_be_stored_does_not_leave_the_job_without_an_ending(jobs):
    claimed = jobs.running()
    context = a_context(claimed)
    try:
        context.progress(10**5_000)
        ending = succeeded(context, None)
    except ValueError as error:  # refusing it at once is right as well
        ending = raised(error, claimed, a_program(), context)

    assert finish_for_sure([(held(claimed), ending)])

    assert jobs.row(claimed.number).is_terminal


# ---- a group ---------------------------------------------------------------------------------------------


@pytest.fixture
def group(jobs):
    """A group of running jobs; each of them logs the lines of `logs`."""

    def make(count, *, line=None):
        numbers = [jobs.queued() for _ in range(count)]
        claimed = claim_all(jobs.cursor, numbers, jobs.worker)
        made = Group(claimed, worker="w@here", claimed_at=boot_time(), travels_alone=False)
        made.numbers, made.line = numbers, line
        return made

    return make


def run_all(group, endings):
    """Do as if the actions had run, with these endings."""
    for ending in endings:
        job, held = group.take()
        context = a_context(job)
        if group.line:
            context.log.info(group.line)
        group.end(Ended(held, ending, context.log))


def lines(number):
    return list(JobLogEntry.objects.filter(job_number=number).values_list("message", flat=True))


@in_the_database
def test_only_the_ending_that_the_database_refuses_is_replaced_in_a_group(jobs, group):
    three = group(3, line="hello")
    run_all(three, [SUCCESS, Ending.retry(FailureKind.TRANSIENT, traceback="\x00"), SUCCESS])

    completion.settle(three)

    first, refused, last = three.numbers
    assert [jobs.attempts(number) for number in (first, last)] == [["SUCCESS"]] * 2
    assert (jobs.status(refused), jobs.attempts(refused)) == ("FAILED", ["PERMANENT"])
    assert jobs.row(refused).error["message"].startswith("result could not be stored: ")
    assert [lines(number) for number in three.numbers] == [["hello"]] * 3
    assert three.take_ended() == ([], False)


@in_the_database
def test_each_ending_is_recognized_in_a_group_whose_commit_lost_its_answer(jobs, group):
    three = group(3)
    run_all(three, [SUCCESS, FAILURE, SUCCESS])
    workers.connection().cursor_factory = LosesTheAnswer

    completion.settle(three)

    assert [jobs.attempts(number) for number in three.numbers] == [["SUCCESS"], ["PERMANENT"], ["SUCCESS"]]
    assert [jobs.row(number).attempts for number in three.numbers] == [1, 1, 1]


@in_the_database
def test_the_rest_of_a_group_is_written_when_a_part_was_reaped(jobs, group):
    three = group(3)
    run_all(three, [SUCCESS] * 3)
    jobs.expire_lock(three.numbers[1])
    reap_expired(jobs.cursor)

    completion.settle(three)

    assert [jobs.attempts(number) for number in three.numbers] == [["SUCCESS"], ["RETURNED"], ["SUCCESS"]]


@in_the_database
@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "not sent"])
def test_endings_that_the_watcher_could_not_write_are_kept_and_written_once(jobs, group, other, is_committed):
    three = group(3, line="hello")
    run_all(three, [SUCCESS, FAILURE])
    other.cursor_factory = LosesTheAnswer
    cursor = other.cursor()
    if not is_committed:
        other.close()

    with pytest.raises(psycopg.OperationalError):
        completion.settle_once(cursor, three)

    assert jobs.attempts(three.numbers[0]) == (["SUCCESS"] if is_committed else [])
    run_all(three, [SUCCESS])
    completion.settle(three)
    assert [jobs.attempts(number) for number in three.numbers] == [["SUCCESS"], ["PERMANENT"], ["SUCCESS"]]
    assert [jobs.row(number).attempts for number in three.numbers] == [1, 1, 1]
    assert [lines(number) for number in three.numbers] == [["hello"]] * 3


class IsAskedToEnd(psycopg.Cursor):
    """The process is asked to end while it waits for the database."""

    def execute(self, query, *args, **kwargs):
        if "jobsite_jobattempt" in query:
            raise SystemExit
        return super().execute(query, *args, **kwargs)


@in_the_database
def test_endings_whose_writing_is_interrupted_are_written_by_the_last_try(jobs, group, other):
    three = group(3, line="hello")
    run_all(three, [SUCCESS] * 3)
    workers.connection().cursor_factory = IsAskedToEnd

    with pytest.raises(SystemExit):
        completion.settle(three)
    assert [jobs.status(number) for number in three.numbers] == ["RUNNING"] * 3
    completion.settle_once(other.cursor(), three)

    assert [jobs.attempts(number) for number in three.numbers] == [["SUCCESS"]] * 3
    assert [lines(number) for number in three.numbers] == [["hello"]] * 3


@in_the_database
def test_the_watcher_and_the_jobs_thread_at_once_write_each_ending_once(jobs, group, other):
    for _ in range(4):
        fifty = group(50, line="hello")
        done = threading.Event()

        def watch(fifty=fifty, done=done):
            while not done.is_set():
                completion.settle_once(other.cursor(), fifty)

        watching = threading.Thread(target=watch)
        watching.start()
        for _ in range(50):
            run_all(fifty, [SUCCESS])
            if fifty.is_to_flush:
                completion.settle(fifty)
        completion.settle(fifty)
        done.set()
        watching.join()

        assert [jobs.attempts(number) for number in fifty.numbers] == [["SUCCESS"]] * 50
        assert JobLogEntry.objects.filter(job_number__in=fifty.numbers).count() == 50


@in_the_database
def test_no_ending_is_taken_for_stale_after_a_refusal_and_a_lost_answer(jobs, group, other):
    three = group(3)
    run_all(three, [SUCCESS] * 2)
    other.cursor_factory = LosesTheAnswer
    with pytest.raises(psycopg.OperationalError):
        completion.settle_once(other.cursor(), three)
    run_all(three, [Ending.retry(FailureKind.TRANSIENT, traceback="\x00")])

    ended, was_unsure = three.take_ended()
    written = finish_for_sure([(one.held, one.ending) for one in ended], was_unsure=was_unsure)

    assert written == {one.held.token for one in ended}
