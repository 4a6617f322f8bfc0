"""QUEUED -> RUNNING: one worker takes jobs under new tokens; what may not run now goes back to PENDING."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobsite.database import Cursor


@dataclass(frozen=True)
class Claimed:
    """A job that this worker holds, with all that running it takes but the program's definition."""

    number: int
    token: UUID
    fence: int
    attempts: int
    losses: int
    returns: int
    tenant_id: int
    tenant: str
    program_id: int
    program_version: int
    queue_id: int
    queue: str
    parameters: dict[str, Any]
    context: dict[str, Any]
    claimed_at: datetime


# The token is made by the caller before the statement, so that a commit whose answer was lost can be told
# from one that never happened. Guards are primary-key joins. A claimer whose manager has a limit must have
# locked the manager's row in a statement before (exact), so that the count of RUNNING rows is exact; without
# that it gets nothing and changes nothing.
# 0 rows is normal: the message was doubled, late or about a job that waits again.
CLAIM = """
WITH wanted AS MATERIALIZED (
    SELECT j.number, c.token, p.status AS program_status, p.version AS program_version, t.code AS tenant,
           q.name AS queue,
           p.status <> 'PAUSED' AND t.status = 'ACTIVE' AND q.paused_at IS NULL AND l.paused_at IS NULL
               AND (p.status <> 'TERMINATED' OR j.trigger <> 'AUTOMATIC')
               AND j.due_at <= clock_timestamp() AS may_run
    FROM unnest(%(numbers)s::bigint[], %(tokens)s::uuid[]) AS c (number, token)
    JOIN jobsite_job j ON j.number = c.number
    JOIN jobsite_program p ON p.id = j.program_id
    JOIN jobsite_tenant t ON t.id = j.tenant_id
    JOIN jobsite_queue q ON q.id = j.queue_id
    LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
    WHERE j.status = 'QUEUED' AND q.name = ANY(%(queues)s)
          AND (%(exact)s OR (SELECT max_running IS NULL FROM jobsite_workermanager WHERE id = %(manager)s))
    ORDER BY j.number
    FOR NO KEY UPDATE OF j
), room AS MATERIALIZED (
    SELECT CASE WHEN m.max_running IS NULL THEN NULL
                ELSE greatest(0, m.max_running - (SELECT count(*) FROM jobsite_job r
                                      JOIN jobsite_worker w ON w.incarnation = r.lock_owner
                                      WHERE r.status = 'RUNNING' AND w.manager_id = m.id)) END AS slots
    FROM jobsite_workermanager m WHERE m.id = %(manager)s
), allowed AS MATERIALIZED (
    SELECT number FROM wanted, room WHERE may_run ORDER BY number LIMIT (SELECT slots FROM room)
), claimed AS (
    UPDATE jobsite_job j
    SET status = 'RUNNING', lock_token = wanted.token, lock_owner = %(owner)s,
        lock_expires_at = clock_timestamp() + %(lock)s * interval '1 second',
        fence = j.fence + 1, claimed_at = clock_timestamp(), started_at = clock_timestamp(),
        stuck_at = clock_timestamp() + (p.timeout_seconds + 10) * interval '1 second',
        external_id = %(message)s, progress = NULL, current_step = ''
    FROM wanted JOIN allowed USING (number), jobsite_program p
    WHERE j.number = wanted.number AND p.id = j.program_id AND j.status = 'QUEUED'
    RETURNING j.number, wanted.token, j.fence, j.attempts, j.losses, j.returns, j.tenant_id, wanted.tenant,
              j.program_id, wanted.program_version, j.queue_id, wanted.queue, j.parameters, j.context_id,
              j.claimed_at
), refused AS (
    UPDATE jobsite_job j
    SET status = 'PENDING', queued_at = NULL,
        blocked = CASE WHEN j.due_at > clock_timestamp() THEN 'SCHEDULED'
                       WHEN wanted.program_status = 'PAUSED' THEN 'PAUSED' END
    FROM wanted LEFT JOIN allowed USING (number)
    WHERE j.number = wanted.number AND allowed.number IS NULL
    RETURNING j.number
)
SELECT claimed.number, token, fence, attempts, losses, returns, tenant_id, tenant, program_id, program_version,
       queue_id, queue, parameters, context.content, claimed_at
FROM claimed JOIN jobsite_capturedcontext context ON context.key = claimed.context_id
ORDER BY claimed.number
"""

LOCK_MANAGER = """
SELECT max_running IS NOT NULL FROM jobsite_workermanager WHERE id = %s AND max_running IS NOT NULL FOR UPDATE
"""


def claim(
    cursor: Cursor,
    tokens: Sequence[tuple[int, UUID]],
    *,
    owner: UUID,
    manager_id: int,
    queues: Sequence[str],
    message: UUID,
    lock_seconds: float,
    exact: bool = False,
) -> list[Claimed]:
    """Take the jobs of (number, token) pairs that are QUEUED in these queues and may run now.

    `owner` is the worker's incarnation, `message` the Celery task id. The list may be empty, and is where the
    manager has a limit but the caller does not hold its row (`exact`, lock_manager).
    """
    cursor.execute(
        CLAIM,
        {
            "numbers": [number for number, _ in tokens],
            "tokens": [token for _, token in tokens],
            "owner": owner,
            "manager": manager_id,
            "queues": list(queues),
            "message": message,
            "lock": lock_seconds,
            "exact": exact,
        },
    )
    return [Claimed(*row) for row in cursor.fetchall()]


def lock_manager(cursor: Cursor, manager_id: int) -> bool:
    """Lock the manager's row if it has a limit, and say whether it has; the caller's transaction holds it."""
    cursor.execute(LOCK_MANAGER, [manager_id])
    return cursor.fetchone() is not None
