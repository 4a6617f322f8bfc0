"""RUNNING stays RUNNING: the worker's main process prolongs the locks of all its jobs in one statement."""

from collections.abc import Sequence
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint

# Only rows whose message this worker still holds: a main process must not renew what nobody works on. Rows
# that somebody changes just now are left for the next round, so that this never waits for a finish, nor a
# finish for this (tried: without SKIP LOCKED it deadlocks with pipelined finishes within seconds).
RENEW = """
WITH held AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE lock_owner = %(owner)s AND status = 'RUNNING' AND external_id = ANY(%(messages)s::uuid[])
    ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET lock_expires_at = clock_timestamp() + %(lock)s * interval '1 second'
FROM held WHERE j.number = held.number AND j.status = 'RUNNING' AND j.lock_owner = %(owner)s
RETURNING j.number
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


@failpoint("abandoned")
def abandoned(cursor: Cursor, *, owner: UUID, messages: Sequence[UUID]) -> list[tuple[int, UUID]]:
    """(number, token) of jobs that this incarnation holds though their message is gone."""
    cursor.execute(ABANDONED, {"owner": owner, "messages": list(messages)})
    return [(row[0], row[1]) for row in cursor.fetchall()]
