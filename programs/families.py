"""When a job has ended or waits: its parent goes on, and the children of a canceled job are canceled.

This comes after the commit of the end itself, so that of two last children the later one finds no child open. Where a
process was lost in between, the sweeps do it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from django.db import transaction

from jobsite.database import Connection, Cursor, prepared_cursor
from jobsite.programs import dispatch
from jobsite.programs.rules.lifecycle import TERMINAL, Status
from jobsite.programs.transitions import cancel, resolve

FAMILY = "SELECT number, status, parent_id FROM jobsite_job WHERE number = ANY(%s)"
MAY_CANCEL_CHILDREN = (Status.CANCELED, Status.FAILED)
MOST = 5_000
"""At most this many children are canceled, or parents resolved, by one call; the sweep does the rest."""


def follow(cursor: Cursor, numbers: Iterable[int]) -> None:
    """Resolve the parents and cancel the children of jobs that have just ended, or that WAIT. In autocommit."""
    cursor.execute(FAMILY, [list(numbers)])
    found = [(number, Status(status), parent) for number, status, parent in cursor.fetchall()]
    cancel_children(cursor, [number for number, status, _ in found if status in MAY_CANCEL_CHILDREN])
    waiting = {number for number, status, _ in found if status is Status.WAITING}
    resolve_all(cursor, waiting | {parent for _, status, parent in found if parent and status in TERMINAL})


def after_commit(number: int) -> None:
    """`follow` this job once the caller's transaction has committed. Where that fails, the sweeps do it."""

    def act() -> None:
        with prepared_cursor() as cursor:
            follow(cursor, [number])

    transaction.on_commit(act, robust=True)


def resolve_all(cursor: Cursor, numbers: Iterable[int]) -> int:
    """Resolve those of these jobs that wait without an open child, then their parents. Returns how many, about MOST."""
    count = 0
    wanted = sorted(numbers)
    while wanted and count < MOST:
        now, later = wanted[: resolve.MOST], wanted[resolve.MOST :]
        # Two statements, since the second must see all that was committed before the lock; the connection may be
        # Django's or psycopg's.
        with cast(Connection, cast(Any, cursor).connection).transaction():
            locked = resolve.lock(cursor, now)
            resolved = resolve.resolve(cursor, locked) if locked else []
        count += len(resolved)
        _send_on(cursor, {one.number: one.queue_id for one in resolved if one.status is Status.PENDING})
        if keys := [one.number for one in resolved if one.holds_key and one.status in TERMINAL]:
            dispatch.let_in(cursor, keys)
        parents = {one.parent_id for one in resolved if one.parent_id and one.status in TERMINAL}
        wanted = sorted(parents | set(later))
    return count


def _send_on(cursor: Cursor, queue_of: Mapping[int, int]) -> None:
    for queue_id in sorted(set(queue_of.values())):
        dispatch.wake_and_dispatch(cursor, [number for number in queue_of if queue_of[number] == queue_id], queue_id)


def cancel_children(cursor: Cursor, parents: Iterable[int]) -> int:
    """Cancel the open children of these jobs, where their end does so, then those children's. Returns how many."""
    count = 0
    level = sorted(parents)
    while level:
        below: list[int] = []
        while count < MOST and (canceled := cancel.cancel_children(cursor, level)):
            count += len(canceled)
            below += [number for number, status in canceled.items() if status is Status.CANCELED]
        level = below
    return count


def sweep(cursor: Cursor) -> int:
    """Resolve parents and cancel children that a lost process has left behind. Returns how many."""
    return cancel_children(cursor, cancel.ended_with_open_children(cursor)) + resolve_all(
        cursor, resolve.waiting_without_open_child(cursor)
    )
