"""RUNNING stays RUNNING: the worker's main process prolongs the locks of all its jobs in one statement."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from psycopg.errors import LockNotAvailable

from jobsite.database import Cursor, waits_at_most
from jobsite.failpoints import failpoint
from jobsite.programs.sql import locks

# Only rows whose message this worker still holds: a main process must not renew what nobody works on. Rows that are
# locked just now are left for the next round, so that this never waits for a finish, nor a finish for this (tried:
# without SKIP LOCKED it deadlocks with pipelined finishes within seconds).
RENEW = f"""
WITH held AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE lock_owner = %(owner)s AND status = 'RUNNING' AND external_id = ANY(%(messages)s::uuid[])
    ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET lock_expires_at = {locks.UNTIL}
FROM held WHERE j.number = held.number AND j.status = 'RUNNING' AND j.lock_owner = %(owner)s
RETURNING j.number
"""

# Each time that a run spawns, the commit of the child locks the run's row for a moment (job_spawned_by_a_run). A run
# that spawns in a loop would be passed over again and again. To wait for one row at a time does no harm.
PASSED_OVER = """
SELECT number, lock_token FROM jobsite_job
WHERE lock_owner = %(owner)s AND status = 'RUNNING' AND external_id = ANY(%(messages)s::uuid[])
      AND NOT number = ANY(%(renewed)s::bigint[])
ORDER BY lock_expires_at LIMIT 20
"""
RENEW_ONE = f"""
UPDATE jobsite_job SET lock_expires_at = {locks.UNTIL}
WHERE number = %(number)s AND lock_token = %(token)s AND status = 'RUNNING' AND {waits_at_most("300ms")}
RETURNING number
"""

ABANDONED = """
SELECT number, lock_token FROM jobsite_job
WHERE lock_owner = %(owner)s AND status = 'RUNNING' AND NOT external_id = ANY(%(messages)s::uuid[])
"""


@failpoint("renew")
def renew(cursor: Cursor, *, owner: UUID, messages: Sequence[UUID], lock_seconds: float) -> list[int]:
    """Prolong the locks of this incarnation's jobs whose message is still held; the numbers renewed."""
    cursor.execute(RENEW, {"owner": owner, "messages": list(messages), "lock": lock_seconds})
    return [row[0] for row in cursor.fetchall()]


@failpoint("renew_passed_over")
def renew_passed_over(
    cursor: Cursor, *, owner: UUID, messages: Sequence[UUID], lock_seconds: float, renewed: Sequence[int]
) -> list[int]:
    """Prolong, one by one, the locks that `renew` has just passed over; the numbers renewed. In autocommit.

    A row that is still locked after 300 ms is left for the next round, as are those beyond twenty.
    """
    cursor.execute(PASSED_OVER, {"owner": owner, "messages": list(messages), "renewed": list(renewed)})
    done: list[int] = []
    for number, token in cursor.fetchall():
        with suppress(LockNotAvailable):
            cursor.execute(RENEW_ONE, {"number": number, "token": token, "lock": lock_seconds})
            done += [row[0] for row in cursor.fetchall()]
    return done


@failpoint("abandoned")
def abandoned(cursor: Cursor, *, owner: UUID, messages: Sequence[UUID]) -> list[tuple[int, UUID]]:
    """(number, token) of jobs that this incarnation holds though their message is gone."""
    cursor.execute(ABANDONED, {"owner": owner, "messages": list(messages)})
    return [(row[0], row[1]) for row in cursor.fetchall()]
