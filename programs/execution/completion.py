"""How a run ends: what its error or result means, and the guarded write, which only a lost token stops."""

import random
import time
import traceback
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

import psycopg

from jobsite.database import Cursor
from jobsite.errors import TooMany
from jobsite.logs import get_logger
from jobsite.notifications import hints
from jobsite.programs import workers
from jobsite.programs.context import Context, UnknownAction, job_log
from jobsite.programs.execution.group import Ended, Group
from jobsite.programs.execution.program_cache import RunnableProgram
from jobsite.programs.parameters.secrets import SecretLost
from jobsite.programs.rules import retries
from jobsite.programs.rules.lifecycle import FailureKind
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost, Snooze
from jobsite.programs.transitions import finish, give_back
from jobsite.programs.transitions.claim import Claimed
from jobsite.programs.transitions.finish import Ending, Error, Held
from jobsite.tenants.principals import PermissionRefused
from jobsite.values import storable

log = get_logger(__name__)

PATIENCE_SECONDS = 60.0
MAX_TRACEBACK = 32 * 1024
MAX_RETRY_AFTER = 365 * 86_400.0
QUOTA_SECONDS = 10.0


def succeeded(context: Context, result: object, *, has_callback: bool = False) -> Ending:
    """The ending where the actions returned, or the callback did. CANCELED where they had seen a request to stop.

    A job that has children waits for them, even where all have ended: to resolve it then says how it ends. So does a
    job whose callback is to be called: after the actions, and again after a callback that has spawned more children.
    """
    progress = context.progress_now[1]
    if context.has_seen_cancel:
        return Ending.canceled(progress=progress)
    try:
        stored = storable.result(result, mask=context.mask)
    except storable.NotStorable as error:
        described = storable.error(error, step=context.log.step, mask=context.mask)
        return Ending.failed(FailureKind.PERMANENT, described, progress=progress)
    has_children, has_new_ones = context.family.has_children()
    if has_callback and (has_new_ones or context.claimed.parked_fence is None):
        # What the actions gave is in their steps; the job's result is the callback's.
        return Ending.parked(has_warned=context.has_warned, progress=progress)
    end = Ending.waiting if has_children else Ending.completed
    return end(stored, has_warned=context.has_warned, progress=progress)


def raised(
    error: BaseException, job: Claimed, program: RunnableProgram, context: Context | None, *, earlier_runs: int = 0
) -> Ending | None:
    """What an action's exception means for the job; None when this worker may no longer end the job.

    A callback has attempts of its own: `earlier_runs` do not count for it.
    """
    progress = context.progress_now[1] if context else None
    match error:
        case LockLost():
            return None
        case Snooze():
            return give_back.snoozed(error.seconds)
        case TooMany():
            return give_back.over_quota(
                _described(error, context), seconds=_seconds(error.retry_after) or QUOTA_SECONDS
            )
        case UnknownAction():
            return give_back.action_unknown(str(_described(error, context)["message"]), returns=job.returns)
        case JobCanceled():
            return Ending.canceled(progress=progress)
        case PermissionRefused():
            return Ending.failed(FailureKind.REFUSED, _described(error, context), progress=progress)
        case SecretLost():
            return Ending.failed(FailureKind.PERMANENT, _described(error, context), progress=progress)
    kind = _kind_of(error, program)
    decision = retries.decide(
        program.retry,
        runs=job.attempts - job.losses + 1 - earlier_runs,
        transient=kind is FailureKind.TRANSIENT or (kind is FailureKind.TIMEOUT and program.retry_on_timeout),
        spread=random.uniform(-1, 1),
        retry_after=_seconds(getattr(error, "retry_after", None)),
    )
    described, trace = _described(error, context, program), _traceback(error, context)
    if kind is not FailureKind.PERMANENT and isinstance(decision, retries.RetryAfter):
        return Ending.retry(kind, described, delay=decision.seconds, traceback=trace, progress=progress)
    return Ending.failed(kind, described, traceback=trace, progress=progress)


def _kind_of(
    error: BaseException, program: RunnableProgram
) -> Literal[FailureKind.TIMEOUT, FailureKind.TRANSIENT, FailureKind.PERMANENT]:
    if isinstance(error, JobTimeout):
        return FailureKind.TIMEOUT
    is_transient = retries.is_transient(error, transient=program.transient, permanent=program.permanent)
    return FailureKind.TRANSIENT if is_transient else FailureKind.PERMANENT


def _described(error: BaseException, context: Context | None, program: RunnableProgram | None = None) -> Error:
    """An error as it is stored; that of a time-out names the limit."""
    step = context.step_of(error) if context else ""
    if isinstance(error, JobTimeout) and program is not None:
        return {
            "type": "Timeout",
            "message": f"still running after {_limit(program, context):g} s",
            "step": step or None,
        }
    return storable.error(error, step=step, mask=context.mask if context else None)


def _traceback(error: BaseException, context: Context | None) -> str:
    # Where no user's code has failed, the message says everything, and our own frames would hide it.
    if getattr(error, "says_all", False):
        return ""
    lines = "".join(traceback.format_exception(error))
    return storable.text(lines, limit=MAX_TRACEBACK, mask=context.mask if context else None)


def _limit(program: RunnableProgram, context: Context | None) -> float:
    """The limit that was exceeded: the action's own, where that is shorter."""
    return min(program.timeout, context.limit) if context and context.limit else program.timeout


def _seconds(wanted: object) -> float | None:
    """The `retry_after` of an exception in seconds, if it is a length of time up to a year."""
    if isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or not 0 <= wanted <= MAX_RETRY_AFTER:
        return None
    return float(wanted)


def settle(group: Group) -> None:
    """Write the logs and endings that a group has gathered, on this thread's connection, with retries."""
    with group.flushing:
        ended, was_unsure = group.take_ended()
        if not ended:
            return
        try:
            _try_to_write_logs(ended)
            finish_for_sure([(one.held, one.ending) for one in ended], was_unsure=was_unsure)
        except BaseException:
            # Mostly the process was asked to end in the middle. The caller tries a last time.
            group.put_back(ended)
            raise


def settle_once(cursor: Cursor, group: Group) -> None:
    """Write the endings that a group has gathered, once. The watcher does it while an action keeps their thread busy.

    Where the database refuses them or is away, they are kept for the next time, and the error is raised.
    """
    with group.flushing:
        ended, was_unsure = group.take_ended()
        if not ended:
            return
        try:
            _write_logs(cursor, ended)
            endings = [(one.held, one.ending) for one in ended]
            _written(cursor, {held.token: (held, ending) for held, ending in endings}, was_unsure=was_unsure)
        except BaseException:
            group.put_back(ended)
            raise


def _try_to_write_logs(ended: Sequence[Ended]) -> None:
    try:
        with workers.connection().cursor() as cursor:
            _write_logs(cursor, ended)
    except psycopg.Error as error:
        # A log never fails its job.
        log.warning("log_lost", jobs=len(ended), error=str(error))
        workers.drop_connection()


def _write_logs(cursor: Cursor, ended: Sequence[Ended]) -> None:
    job_log.close_all(cursor, [one.log for one in ended if one.log is not None])


Open = dict[UUID, tuple[Held, Ending]]
"""Endings still to be written, by token."""


def finish_for_sure(endings: Sequence[tuple[Held, Ending]], *, was_unsure: bool = False) -> set[UUID]:
    """Write the endings; while the database is away, try again with new connections for a minute.

    A commit whose answer was lost is recognized by the attempt that it stored (`was_unsure`: this may have
    happened before). Returns the tokens that still held their job. For any other nothing was written, since
    another worker has the job. Where the database refuses several at once, each is written by itself, so that
    only the one that is refused alone fails.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    pause = 0.05
    is_bare = False
    still_open: Open = {held.token: (held, ending) for held, ending in endings}
    while True:
        try:
            with workers.connection().cursor() as cursor:
                return _written(cursor, still_open, was_unsure=was_unsure)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            was_unsure = True
            workers.drop_connection()
            if time.monotonic() > give_up_at:
                log.error("finish_given_up", jobs=_numbers(still_open), error=str(error))
                raise
            log.warning("finish_retried", jobs=len(still_open), error=str(error))
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
        except (psycopg.Error, ValueError) as error:
            if len(still_open) > 1:
                log.warning("group_finished_one_by_one", jobs=len(still_open), error=str(error))
                workers.drop_connection()
                return _one_by_one(still_open, was_unsure=was_unsure)
            if is_bare or not isinstance(error, (psycopg.DataError, ValueError)):
                raise
            # ValueError: what psycopg or json cannot even send, such as lone surrogates or huge integers.
            ((token, (held, _)),) = still_open.items()
            still_open, is_bare = {token: (held, _without_data(error))}, True


def _written(cursor: Cursor, still_open: Open, *, was_unsure: bool) -> set[UUID]:
    written: set[UUID] = set()
    if was_unsure:
        stored = finish.stored_attempts(cursor, [held for held, _ in still_open.values()])
        written = {token for token, result in stored.items() if result is still_open[token][1].attempt_result}
        still_open = {token: one for token, one in still_open.items() if token not in stored}
    if still_open:
        finished = finish.finish_all(cursor, list(still_open.values()))
        good = finished.tokens
        hints.give(finished.deliveries)
        late = {token: one for token, one in still_open.items() if token not in good}
        if late:
            log.warning("finished_too_late", jobs=_numbers(late), tokens=[str(token) for token in late])
        written |= good
    return written


def _one_by_one(still_open: Open, *, was_unsure: bool) -> set[UUID]:
    written: set[UUID] = set()
    failures: list[Exception] = []
    for held, ending in still_open.values():
        try:
            written |= finish_for_sure([(held, ending)], was_unsure=was_unsure)
        except Exception as error:  # the others must not suffer; the first is raised below
            log.exception("finish_failed", job=held.number)
            failures.append(error)
    if failures:
        raise failures[0]
    return written


def _numbers(still_open: Open) -> list[int]:
    return [held.number for held, _ in still_open.values()]


def _without_data(error: Exception) -> Ending:
    """The ending where the database refused the data itself: the job fails for good, and the data are left out."""
    message = storable.text(f"result could not be stored: {str(error).splitlines()[0]}", limit=storable.MAX_MESSAGE)
    return Ending.failed(FailureKind.PERMANENT, {"type": type(error).__name__, "message": message, "step": None})
