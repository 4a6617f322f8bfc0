"""Run the jobs of a message: claim them, run their actions, end them, and top the queue's window up."""

import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg
from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerShutdown, WorkerTerminate
from django.conf import settings

from jobsite.database import Cursor
from jobsite.logs import get_logger
from programs import completion, dispatch, job_log, measures, principals, program_cache, workers
from programs.actions import RUNNERS, Runner, Step, UnknownAction
from programs.context import Context
from programs.program_cache import RunnableProgram
from programs.transitions.claim import Claimed, claim, lock_manager
from programs.transitions.finish import Ending, Held
from programs.watcher import watcher

log = get_logger(__name__)


def run(numbers: Sequence[int], *, message: UUID) -> int:
    """Claim and run these jobs, in order of number; returns how many were claimed.

    To claim none is normal: the message was doubled, late, or about a job that waits again.
    """
    job_log.capture_logging()
    claimed = _claim(numbers, message)
    for job in claimed:
        _run_one(job)
    for queue_id in {job.queue_id for job in claimed}:
        _top_up(queue_id)
    measures.store_if_due()
    return len(claimed)


def _claim(numbers: Sequence[int], message: UUID) -> list[Claimed]:
    try:
        return _claim_once(numbers, message)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        # Most often a connection that outlived its server. Had the claim been committed and only its answer
        # lost, then this second one finds nothing, and the renewer finds the rows abandoned.
        log.warning("claim_retried", jobs=len(numbers), error=str(error))
        workers.drop_connection()
    try:
        return _claim_once(numbers, message)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        workers.drop_connection()
        raise


def _claim_once(numbers: Sequence[int], message: UUID) -> list[Claimed]:
    worker = workers.current()
    tokens = [(number, uuid4()) for number in sorted(numbers)]
    connection = workers.connection()

    def take(cursor: Cursor, *, exact: bool) -> list[Claimed]:
        return claim(
            cursor,
            tokens,
            owner=worker.incarnation,
            manager_id=worker.manager_id,
            queues=worker.queues,
            message=message,
            lock_seconds=settings.JOBSITE_LOCK_SECONDS,
            exact=exact,
        )

    with connection.cursor() as cursor:
        if claimed := take(cursor, exact=False):
            return claimed
    # Nothing: perhaps because our manager has a limit, which takes its row's lock to count exactly.
    with connection.transaction(), connection.cursor() as cursor:
        return take(cursor, exact=True) if lock_manager(cursor, worker.manager_id) else []


def _run_one(job: Claimed) -> None:
    began = time.monotonic()
    program = _program_of(job)
    held = Held(job.number, job.token, workers.current().name, job.claimed_at)
    context: Context | None = None
    try:
        principal = principals.running_as(job.context, tenant_id=job.tenant_id)
        context = Context(job, principal, deadline=began + program.timeout, cancel_grace=program.cancel_grace)
        with watcher().watching(context, held):
            ending: Ending | None = completion.succeeded(context, _act(context, program))
    except BaseException as error:  # an action may raise anything; what ends the process itself goes on below
        if terminate_handler_fired() or isinstance(error, (WorkerShutdown, WorkerTerminate, KeyboardInterrupt)):
            # The process is told to end, by a cold stop or the hard limit: the main process knows which, and
            # gives the job back or times it out. An action's own sys.exit() is a failure like any other.
            raise
        ending = completion.raised(error, job, program, context)
    if context is not None:
        _close_log(context)
    if ending is not None and completion.finish_for_sure(held, ending):
        measures.add(job.program_id, time.monotonic() - began)


def _program_of(job: Claimed) -> RunnableProgram:
    try:
        with workers.connection().cursor() as cursor:
            return program_cache.runnable(cursor, job.program_id, job.program_version)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        log.warning("program_read_again", job=job.number, error=str(error))
        workers.drop_connection()
    with workers.connection().cursor() as cursor:
        return program_cache.runnable(cursor, job.program_id, job.program_version)


def _act(context: Context, program: RunnableProgram) -> object:
    result: object = None
    token = job_log.current.set(context.log)
    try:
        for step in program.steps:
            context.log.step = step.name
            context.checkpoint()
            result = _runner(step)(context, step)
    finally:
        job_log.current.reset(token)
    return result


def _runner(step: Step) -> Runner:
    try:
        return RUNNERS[step.kind]
    except KeyError:
        raise UnknownAction(f"of kind {step.kind}") from None


def _close_log(context: Context) -> None:
    try:
        with workers.connection().cursor() as cursor:
            context.log.close(cursor)
    except psycopg.Error as error:
        # A log never fails its job.
        log.warning("log_lost", job=context.job_number, error=str(error))
        workers.drop_connection()


_spared: dict[int, int] = {}


def _top_up(queue_id: int) -> None:
    """Fill the window behind a finished job, unless the last time has filled it for some more."""
    if (spared := _spared.get(queue_id, 0)) > 0:
        _spared[queue_id] = spared - 1
        return
    try:
        with workers.connection().cursor() as cursor:
            _spared[queue_id] = dispatch.dispatch(cursor, queue_id)
    except psycopg.OperationalError as error:
        # The sweep dispatches within a second of the database's return.
        log.warning("dispatch_failed", queue=queue_id, error=str(error))
        workers.drop_connection()
