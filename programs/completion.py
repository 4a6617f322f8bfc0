"""How a run ends: what its error or result means, and the guarded write that nothing but a lost token stops."""

import random
import time
import traceback
from datetime import timedelta

import psycopg

from jobsite.logs import get_logger
from programs import retries, storable, workers
from programs.actions.base import UnknownAction
from programs.context import Context, JobCanceled, JobTimeout, LockLost, Snooze
from programs.lifecycle import AttemptResult, FailureKind, Outcome, Status
from programs.principals import PermissionRefused
from programs.program_cache import RunnableProgram
from programs.transitions import finish, give_back
from programs.transitions.claim import Claimed
from programs.transitions.finish import Ending, Held, StaleJob

log = get_logger(__name__)

PATIENCE_SECONDS = 60.0
MAX_MESSAGE = 4 * 1024
MAX_TRACEBACK = 32 * 1024
MAX_RETRY_AFTER = 365 * 86_400.0


def succeeded(context: Context, result: object) -> Ending:
    """The actions returned. One that was told to stop and returned ends CANCELED."""
    progress = context.progress_now[1]
    if context.was_told:
        return Ending(Status.CANCELED, AttemptResult.CANCELED, progress=progress)
    try:
        stored = storable.result(result)
    except storable.NotStorable as error:
        return Ending(
            Status.FAILED,
            AttemptResult.PERMANENT,
            outcome=Outcome.ERROR,
            failure_kind=FailureKind.PERMANENT,
            error=_described(error, context.log.step),
            progress=progress,
        )
    return Ending(
        Status.COMPLETED,
        AttemptResult.SUCCESS,
        outcome=Outcome.WARNING if context.has_warned else Outcome.NORMAL,
        result=stored,
        progress=progress,
    )


def raised(error: BaseException, job: Claimed, program: RunnableProgram, context: Context | None) -> Ending | None:
    """What an action's exception means for the job; None when the job is not ours to end any more."""
    step = context.log.step if context else ""
    progress = context.progress_now[1] if context else None
    match error:
        case LockLost():
            return None
        case Snooze():
            return give_back.snoozed(error.seconds)
        case UnknownAction():
            return give_back.action_unknown(str(error), returns=job.returns)
        case JobCanceled():
            return Ending(Status.CANCELED, AttemptResult.CANCELED, progress=progress)
        case PermissionRefused():
            described = _described(error, step)
            return Ending(
                Status.FAILED,
                AttemptResult.PERMANENT,
                outcome=Outcome.ERROR,
                failure_kind=FailureKind.REFUSED,
                error=described,
                progress=progress,
            )
    if isinstance(error, JobTimeout):
        described = {
            "type": "Timeout",
            "message": f"still running after {program.timeout:g} s",
            "step": step or None,
        }
        result, kind, transient = AttemptResult.TIMEOUT, FailureKind.TIMEOUT, program.retry_on_timeout
    else:
        described = _described(error, step)
        transient = retries.is_transient(error, transient=program.transient, permanent=program.permanent)
        result = AttemptResult.TRANSIENT if transient else AttemptResult.PERMANENT
        kind = FailureKind.TRANSIENT if transient else FailureKind.PERMANENT
    decision = retries.decide(
        program.retry,
        runs=job.attempts - job.losses + 1,
        transient=transient,
        spread=random.uniform(-1, 1),
        retry_after=_seconds(getattr(error, "retry_after", None)),
    )
    trace = storable.text("".join(traceback.format_exception(error)), limit=MAX_TRACEBACK)
    if isinstance(decision, retries.RetryAfter):
        return Ending(
            Status.PENDING,
            result,
            error=described,
            traceback=trace,
            delay=decision.seconds,
            progress=progress,
        )
    return Ending(
        Status.FAILED,
        result,
        outcome=Outcome.ERROR,
        failure_kind=kind,
        error=described,
        traceback=trace,
        progress=progress,
    )


def _seconds(wanted: object) -> float | None:
    """What an exception of somebody's calls `retry_after`, if it is a length of time."""
    if isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or not 0 <= wanted <= MAX_RETRY_AFTER:
        return None
    return float(wanted)


def _described(error: BaseException, step: str) -> dict[str, object]:
    try:
        text = str(error) or type(error).__name__
    except Exception:  # its own __str__ may raise anything
        text = f"{type(error).__name__} that cannot be shown"
    message = storable.text(text, limit=MAX_MESSAGE)
    return {"type": type(error).__name__, "message": message, "step": step or None}


def finish_for_sure(held: Held, ending: Ending) -> bool:
    """Write the ending, over and over with new connections for a minute while the database is away.

    A commit whose answer was lost is recognized by the attempt that it stored. Returns False when the job is
    no longer ours: another has it, and nothing was written.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    pause = 0.05
    was_unsure = is_bare = False
    while True:
        try:
            with workers.connection().cursor() as cursor:
                if was_unsure:
                    stored = finish.stored_attempts(cursor, [held]).get(held.token)
                    if stored is not None:
                        return stored is ending.attempt_result
                finish.finish(cursor, held, ending)
                return True
        except StaleJob:
            log.warning("finished_too_late", job=held.number, token=str(held.token))
            return False
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            was_unsure = True
            workers.drop_connection()
            if time.monotonic() > give_up_at:
                log.error("finish_given_up", job=held.number, error=str(error))
                raise
            log.warning("finish_retried", job=held.number, error=str(error))
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
        except (psycopg.DataError, ValueError) as error:
            # ValueError: what psycopg or json cannot even send, such as lone surrogates or huge integers.
            if is_bare:
                raise
            ending, is_bare = _without_data(error), True


def _without_data(error: Exception) -> Ending:
    """The database refused the data itself: the job fails for good, without them."""
    message = f"result could not be stored: {str(error).splitlines()[0]}"
    return Ending(
        Status.FAILED,
        AttemptResult.PERMANENT,
        outcome=Outcome.ERROR,
        failure_kind=FailureKind.PERMANENT,
        error={
            "type": type(error).__name__,
            "message": storable.text(message, limit=MAX_MESSAGE),
            "step": None,
        },
    )
