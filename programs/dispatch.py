"""Move ready jobs from PENDING to QUEUED and publish their messages: after a submission, a finish, or in a sweep."""

from collections import Counter
from collections.abc import Mapping, Sequence

from django.conf import settings
from django.db import transaction

from jobsite import brokers
from jobsite.database import Cursor, prepared_cursor
from jobsite.logs import get_logger
from jobsite.programs.sql.window import GROUP_SIZE
from jobsite.programs.transitions import dispatch as transition
from jobsite.programs.transitions import overlap
from jobsite.programs.transitions.dispatch import Dispatched
from jobsite.programs.transitions.submit import Offered

log = get_logger(__name__)

TASK = "jobsite.run_jobs"
EARLIER_TASK = "programs.run_jobs"  # messages sent before the packages moved into `jobsite`
HARD_LIMIT_MARGIN = 5.0
MESSAGE_SECONDS = 0.004  # what a message costs on its way, until its jobs are written as ended

# How many QUEUED jobs are enough, by queue: half of what this process last filled its window with.
_enough: dict[int, int] = {}


def after_commit(number: int, queue_id: int, *, is_first_of_many: bool = False) -> None:
    """Dispatch a new job once the caller's transaction has committed, or the many that came with it.

    A single job takes the fast path, or else the ordinary dispatch. Where the window is full it waits in its lane for
    the next finish, which may take it along in a group. An error is logged: the job waits in the database.
    """

    def send() -> None:
        with prepared_cursor() as cursor:
            if is_first_of_many:
                wake_and_dispatch(cursor, [number], queue_id)
            else:
                _offer(cursor, number, queue_id)

    transaction.on_commit(send, robust=True)


def _offer(cursor: Cursor, number: int, queue_id: int) -> None:
    offered = transition.offer(cursor, number=number, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
    if isinstance(offered, Dispatched):
        _publish([offered])
    elif offered:
        dispatch(cursor, queue_id)


def follow_up(job: Offered) -> None:
    """Dispatch a new job that is committed already.

    Its insert looked at the queue before others could see the job, and a finish may have come in between. Where no
    other finish is sure to follow, this looks again.
    """
    if job.is_expected:
        return

    def send() -> None:
        if job.is_queued:
            _publish([Dispatched(job.number, job.queue, job.timeout_seconds)])
            return
        with prepared_cursor() as cursor:
            _offer(cursor, job.number, job.queue_id)

    # Without a transaction this calls it now, and logs an error.
    transaction.on_commit(send, robust=True)


def wake_and_dispatch(cursor: Cursor, numbers: Sequence[int], queue_id: int) -> None:
    """Let dispatch see these jobs' lanes, then dispatch their queue."""
    transition.wake(cursor, numbers)
    dispatch(cursor, queue_id)


def top_up(cursor: Cursor, queue_id: int) -> None:
    """Fill the window of a queue again, after jobs have ended, once it is half empty."""
    if transition.is_wanted(cursor, queue_id=queue_id, enough=_enough.get(queue_id, 0)):
        dispatch(cursor, queue_id)


def after_commit_many(ready: Mapping[int, Sequence[int]]) -> None:
    """Dispatch new jobs of any tenants, given by queue, once the caller's transaction has committed."""

    def send() -> None:
        with prepared_cursor() as cursor:
            for queue_id, numbers in sorted(ready.items()):
                wake_and_dispatch(cursor, numbers, queue_id)

    if ready:
        transaction.on_commit(send, robust=True)


def after_commit_let_in(numbers: Sequence[int]) -> None:
    """Give new jobs of QUEUE keys their turn, where the key is free, once the caller's transaction has committed."""

    def send() -> None:
        with prepared_cursor() as cursor:
            let_in(cursor, numbers)

    transaction.on_commit(send, robust=True)


def let_in(cursor: Cursor, numbers: Sequence[int] | None = None) -> None:
    """Let in and dispatch the next job of each free key: of these jobs' keys, or of all."""
    by_queue: dict[int, list[int]] = {}
    for number, queue_id in overlap.let_in(cursor, numbers):
        by_queue.setdefault(queue_id, []).append(number)
    for queue_id, ready in sorted(by_queue.items()):
        wake_and_dispatch(cursor, ready, queue_id)


def dispatch(cursor: Cursor, queue_id: int) -> None:
    """Fill the window of a queue. The cursor must be in autocommit."""
    moved = transition.dispatch(cursor, queue_id=queue_id, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
    if moved:
        # Not fewer than the children, or one of them might find nothing.
        _enough[queue_id] = max(moved[0].queued // 2, moved[0].children)
        _publish(moved)


def _publish(moved: Sequence[Dispatched]) -> None:
    try:
        brokers.publish(_message(jobs) for jobs in grouped(moved))
    except brokers.BrokerUnavailable as error:
        log.warning("dispatched_without_message", jobs=len(moved), error=str(error))


def _message(jobs: Sequence[Dispatched]) -> brokers.Message:
    longest = max(job.timeout_seconds for job in jobs)
    return brokers.Message(TASK, jobs[0].queue, ([job.number for job in jobs],), longest + HARD_LIMIT_MARGIN)


def _worth_a_message(job: Dispatched) -> int:
    return max(1, int(MESSAGE_SECONDS / job.seconds))


def grouped(moved: Sequence[Dispatched]) -> list[list[Dispatched]]:
    """The jobs of each message, in order: a group's are spread over the children, at most 50 a message.

    While there are more jobs, no message carries less work than it costs to send.
    """
    sizes = {
        group: min(max(-(-count // max(moved[0].children, 1)), worth), GROUP_SIZE)
        for (group, worth), count in Counter((job.group, _worth_a_message(job)) for job in moved).items()
    }
    messages: list[list[Dispatched]] = []
    filling: dict[int, list[Dispatched]] = {}
    for job in moved:
        if job.group is None or len(filling.get(job.group, ())) % sizes[job.group] == 0:
            messages.append([])
            if job.group is not None:
                filling[job.group] = messages[-1]
        (messages[-1] if job.group is None else filling[job.group]).append(job)
    return messages
