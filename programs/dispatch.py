"""Move ready jobs from PENDING to QUEUED and tell their broker: after a submission, a finish, or in a sweep."""

from collections.abc import Sequence

from django.conf import settings
from django.db import connection, transaction

from jobsite import brokers
from jobsite.database import Cursor
from jobsite.logs import get_logger
from programs.transitions import dispatch as transition
from programs.transitions.dispatch import Dispatched

log = get_logger(__name__)

TASK = "programs.run_jobs"
HARD_LIMIT_MARGIN = 5.0


def after_commit(number: int, queue_id: int) -> None:
    """Call after_submission once the caller's transaction has committed; what goes wrong there is logged."""

    def send() -> None:
        after_submission(number, queue_id)

    transaction.on_commit(send, robust=True)


def after_submission(number: int, queue_id: int) -> None:
    """Send a new job on its way, once its transaction has committed: the fast path, else the ordinary dispatch.

    A broker that is down is not an error: the job waits in the database.
    """
    with connection.cursor() as cursor:
        moved = transition.dispatch_one(cursor, number=number, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
        if moved is not None:
            _publish([moved])
            return
        wake_and_dispatch(cursor, [number], queue_id)


def wake_and_dispatch(cursor: Cursor, numbers: Sequence[int], queue_id: int) -> None:
    """Let dispatch see these jobs' lanes, then dispatch their queue."""
    transition.wake(cursor, numbers)
    dispatch(cursor, queue_id)


def dispatch(cursor: Cursor, queue_id: int) -> int:
    """Fill the window of a queue. The cursor must be in autocommit.

    Returns how many jobs each child may finish before the window is half empty and wants to be filled again:
    0 where it is short, as it is for long jobs.
    """
    moved = transition.dispatch(cursor, queue_id=queue_id, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
    _publish(moved)
    return moved[0].queued // (2 * moved[0].children) if moved and moved[0].children else 0


def _publish(moved: Sequence[Dispatched]) -> None:
    if not moved:
        return
    try:
        brokers.publish(
            brokers.Message(TASK, job.queue, ([job.number],), job.timeout_seconds + HARD_LIMIT_MARGIN) for job in moved
        )
    except brokers.BrokerUnavailable as error:
        log.warning("dispatched_without_message", jobs=len(moved), error=str(error))
