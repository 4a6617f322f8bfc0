"""Run the jobs of a message: claim them, run their actions, end them, and top the queue's window up."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerShutdown, WorkerTerminate
from django.conf import settings
from django.db import close_old_connections

from jobsite.database import Cursor
from jobsite.logs import get_logger
from jobsite.notifications import hints
from jobsite.programs import dispatch, families, workers
from jobsite.programs.actions import RUNNERS
from jobsite.programs.context import Context, Step, UnknownAction, job_log
from jobsite.programs.execution import completion, measures, program_cache
from jobsite.programs.execution.group import Ended, Group, boot_time
from jobsite.programs.execution.program_cache import RunnableProgram
from jobsite.programs.execution.watcher import watcher
from jobsite.programs.rules.lifecycle import Status
from jobsite.programs.sql import deliveries
from jobsite.programs.sql.budget import earlier_runs
from jobsite.programs.transitions.claim import Claimed, claim, lock_limits, read_back
from jobsite.programs.transitions.finish import Ending, Held
from jobsite.tenants import principals

log = get_logger(__name__)
Value = TypeVar("Value")


def run(numbers: Sequence[int], *, message: UUID) -> int:
    """Claim and run these jobs, in order of number; returns how many were claimed.

    To claim none is normal: the message was a duplicate, came late, or its jobs wait again.
    """
    job_log.capture_logging()
    began = boot_time()
    claimed = _claim(numbers, message)
    if claimed:
        name = workers.current().name
        group = Group(claimed, worker=name, claimed_at=began, travels_alone=len(numbers) == 1)
        with watcher().watching(group):
            relatives = _run_all(group)
        _follow(relatives)
    refused = set(numbers) - {job.number for job in claimed}
    for queue_id in {job.queue_id for job in claimed}:
        _top_up(queue_id, refused, [job.number for job in claimed if job.holds_key])
    measures.store_if_due()
    return len(claimed)


def _run_all(group: Group) -> list[int]:
    """Run the jobs. Returns those whose end may concern a parent or children."""
    relatives: list[int] = []
    try:
        while (taken := group.take()) is not None:
            if (ended := _run_one(group, *taken)) is not None:
                group.end(ended)
                if ended.has_family and ended.ending.status is not Status.PENDING:
                    relatives.append(ended.held.number)
            if group.is_to_flush:
                completion.settle(group)
    except BaseException:
        # The process is asked to end. What has run is written now, so that it is not run again.
        _settle_before_exit(group)
        raise
    completion.settle(group)
    return relatives


def _follow(relatives: Sequence[int]) -> None:
    if not relatives:
        return
    try:
        with workers.connection().cursor() as cursor:
            families.follow(cursor, relatives)
    except psycopg.OperationalError as error:
        # The sweep does it within seconds.
        log.warning("family_not_followed", jobs=len(relatives), error=str(error))
        workers.drop_connection()


def _settle_before_exit(group: Group) -> None:
    workers.drop_connection()  # perhaps in the middle of a statement
    try:
        with workers.connection().cursor() as cursor:
            completion.settle_once(cursor, group)
    except Exception as error:  # the caller raises what ends the process; the jobs come back as lost ones do
        log.warning("endings_lost", error=str(error))


def _claim(numbers: Sequence[int], message: UUID) -> list[Claimed]:
    tokens = [(number, uuid4()) for number in sorted(numbers)]
    try:
        return _claim_once(tokens, message)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        # Most often a connection that outlived its server; but the claim may be committed, and only its answer lost.
        log.warning("claim_retried", jobs=len(numbers), error=str(error))
        workers.drop_connection()
    try:
        with workers.connection().cursor() as cursor:
            held = read_back(cursor, tokens)
        return held or _claim_once(tokens, message)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        workers.drop_connection()
        raise


def _claim_once(tokens: Sequence[tuple[int, UUID]], message: UUID) -> list[Claimed]:
    worker = workers.current()
    connection = workers.connection()

    def take(cursor: Cursor, wanted: Sequence[tuple[int, UUID]], *, exact: bool) -> list[Claimed]:
        return claim(
            cursor,
            wanted,
            owner=worker.incarnation,
            manager_id=worker.manager_id,
            queues=worker.queues,
            message=message,
            lock_seconds=settings.JOBSITE_LOCK_SECONDS,
            exact=exact,
            alone=len(tokens) == 1,
        )

    with connection.cursor() as cursor:
        claimed = take(cursor, tokens, exact=False)
    taken = {job.number for job in claimed}
    left = [one for one in tokens if one[0] not in taken]
    if not left:
        return claimed
    # Perhaps because our manager has a limit or their tenant a quota: to count exactly, its row is locked.
    with connection.transaction(), connection.cursor() as cursor:
        if lock_limits(cursor, manager_id=worker.manager_id, numbers=[number for number, _ in left]):
            claimed += take(cursor, left, exact=True)
    return claimed


def _run_one(group: Group, job: Claimed, held: Held) -> Ended | None:
    began = time.monotonic()
    program = _program_of(job)
    context: Context | None = None
    earlier = 0 if job.parked_fence is None else _read(partial(earlier_runs, number=job.number))
    try:
        captured = _captured(job)
        context = Context(
            job,
            principals.running_as(captured, tenant_id=job.tenant_id),
            deadline=began + program.timeout,
            cancel_grace=program.cancel_grace,
            program=program.code,
            captured=captured,
            earlier_runs=earlier,
        )
        if job.notifies_start:
            _notify_of_start(job)
        group.run(held, context)
        result = _act(context, program)
        ending: Ending | None = completion.succeeded(context, result, has_callback=program.callback is not None)
    except BaseException as error:  # an action may raise anything; what ends the process is raised again below
        if terminate_handler_fired() or isinstance(error, (WorkerShutdown, WorkerTerminate, KeyboardInterrupt)):
            # The process is asked to end, by a cold stop or the hard limit: the main process knows which, and
            # gives the job back or times it out. An action's own sys.exit() is a failure like any other.
            raise
        ending = completion.raised(error, job, program, context, earlier_runs=earlier)
    finally:
        group.running = None
    # A transaction that the action left open, or a connection that broke, is not handed to the next job.
    close_old_connections()
    measures.add(job.program_id, time.monotonic() - began)
    # Without an ending the lock is lost: the worker that has the job now says how it ends.
    if ending is None:
        return None
    if context is None:
        return Ended(held, ending, None, has_family=job.parent_id is not None)
    has_family = job.parent_id is not None or context.family.may_have_children or ending.status is Status.WAITING
    return Ended(held, ending, context.log, has_family)


def _notify_of_start(job: Claimed) -> None:
    """Write the deliveries for the job's start; only its first run makes any. An error does not fail the job."""
    try:
        with workers.connection().cursor() as cursor:
            hints.give(deliveries.started(cursor, job.number))
    except psycopg.Error as error:
        log.warning("start_not_notified", job=job.number, error=str(error))
        workers.drop_connection()


def _program_of(job: Claimed) -> RunnableProgram:
    known = program_cache.programs.get((job.program_id, job.program_version))
    return known or _read(partial(program_cache.read_program, program_id=job.program_id, version=job.program_version))


def _captured(job: Claimed) -> Mapping[str, Any]:
    known = program_cache.contexts.get(job.context_key)
    return known or _read(partial(program_cache.read_context, key=job.context_key))


def _read(read: Callable[[Cursor], Value]) -> Value:
    try:
        with workers.connection().cursor() as cursor:
            return read(cursor)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        log.warning("read_again", error=str(error))
        workers.drop_connection()
    with workers.connection().cursor() as cursor:
        return read(cursor)


def _act(context: Context, program: RunnableProgram) -> object:
    result: object = None
    token = job_log.current.set(context.log)
    try:
        if context.claimed.parked_fence is not None:
            return _call_back(context, program)
        for step in program.steps:
            result = context.act(step, _run_action, is_stored=program.keeps_steps)
    finally:
        job_log.current.reset(token)
    return result


def _call_back(context: Context, program: RunnableProgram) -> object:
    """Run the callback. Where the program has none any more, the result is that of its last action."""
    context.recall(program.steps)
    if program.callback is None:
        return next(reversed(context.steps.values()), None)
    # Where it is called again, after children of its own, its steps are new ones.
    turn = replace(program.callback, turn=context.claimed.parked_fence or 0)
    return context.act(turn, _run_action, is_stored=False)


def _run_action(context: Context, step: Step) -> object:
    runner = RUNNERS.get(step.kind)
    if runner is None:
        raise UnknownAction(f"of kind {step.kind}")
    return runner(context, step)


def _top_up(queue_id: int, refused: Collection[int], keys_of: Sequence[int]) -> None:
    """Fill the window after finished jobs, and let in jobs that waited for one of them.

    Jobs that the manager's limit refused may go now. Where no job was claimed nobody has made room: the sweep
    dispatches what was refused then.
    """
    try:
        with workers.connection().cursor() as cursor:
            if keys_of:
                dispatch.let_in(cursor, keys_of)
            if refused:
                dispatch.wake_and_dispatch(cursor, list(refused), queue_id)
            else:
                dispatch.top_up(cursor, queue_id)
    except psycopg.OperationalError as error:
        # The sweep dispatches within a second of the database's return.
        log.warning("dispatch_failed", queue=queue_id, error=str(error))
        workers.drop_connection()
