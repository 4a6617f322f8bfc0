"""QUEUED -> RUNNING: one worker takes jobs under new tokens; what may not run now goes back to PENDING."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.sql.deliveries import MOVED, TELLS, TELLS_START, told
from jobsite.programs.sql.failures import COUNTS


@dataclass(frozen=True)
class Claimed:
    """A job that this worker holds, with all that running it takes but the program's definition.

    `tells` says that somebody may be told of its end, `tells_start` of its start, `holds_key` that others may wait for
    its end (overlap QUEUE); `parked_fence` that its actions have run, and their children ended, so that this run is the
    callback's.
    """

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
    counts_failures: bool
    tells: bool
    tells_start: bool
    holds_key: bool
    queue_id: int
    parameters: dict[str, Any] = field(repr=False)
    context_key: UUID
    claimed_at: datetime
    has_secrets: bool = False
    parent_id: int | None = None
    parked_fence: int | None = None


# The token is made by the caller before the statement, so that a commit whose answer was lost can be told
# from one that never happened. Guards are primary-key joins. Where the claimer's manager has a limit, or the tenant a
# quota, it must have locked their rows in a statement before (exact), so that the count of RUNNING rows is exact;
# without that it gets nothing and changes nothing.
# A job that came alone starts now. One of a group starts in the worker's memory: started_at stays empty, and
# a group that is lost is known by it.
# The status is compared with a parameter, so that the planner goes by the key and never by a partial index, in
# which it would read every QUEUED row for each job.
# What a schedule made of a program that was terminated since is canceled here, where it comes to light.
# Of those is told (`told` is read first, whatever runs); a row without a number stands for none that runs.
# To claim none is normal: the message was doubled, late or about a job that waits again.
CLAIM = f"""
WITH wanted AS MATERIALIZED (
    SELECT j.number, c.token, p.status AS program_status, p.version AS program_version, p.timeout_seconds,
           {COUNTS} AS counts_failures, {TELLS} AS tells, {TELLS_START} AS tells_start, t.code AS tenant,
           p.status <> 'PAUSED' AND t.status = 'ACTIVE' AND q.paused_at IS NULL AND l.paused_at IS NULL
               AND (p.status <> 'TERMINATED' OR j.trigger <> 'AUTOMATIC')
               AND j.due_at <= clock_timestamp() AS may_run,
           p.status = 'TERMINATED' AND j.trigger = 'AUTOMATIC' AS is_over, j.tenant_id,
           CASE WHEN t.running_quota IS NOT NULL
                THEN t.running_quota - (SELECT count(*) FROM jobsite_job r
                                        WHERE r.tenant_id = t.id AND r.status = 'RUNNING') END AS tenant_slots
    FROM unnest(%(numbers)s::bigint[], %(tokens)s::uuid[]) AS c (number, token)
    JOIN jobsite_job j ON j.number = c.number
    JOIN jobsite_program p ON p.id = j.program_id
    JOIN jobsite_tenant t ON t.id = j.tenant_id
    JOIN jobsite_queue q ON q.id = j.queue_id
    LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
    WHERE j.status = %(queued)s AND q.name = ANY(%(queues)s)
          AND (%(exact)s OR (t.running_quota IS NULL
                             AND (SELECT max_running IS NULL FROM jobsite_workermanager WHERE id = %(manager)s)))
    ORDER BY j.number
    FOR NO KEY UPDATE OF j
), room AS MATERIALIZED (
    SELECT CASE WHEN m.max_running IS NULL THEN NULL
                ELSE greatest(0, m.max_running - (SELECT count(*) FROM jobsite_job r
                                      JOIN jobsite_worker w ON w.incarnation = r.lock_owner
                                      WHERE r.status = 'RUNNING' AND w.manager_id = m.id)) END AS slots
    FROM jobsite_workermanager m WHERE m.id = %(manager)s
), allowed AS MATERIALIZED (
    SELECT number FROM (SELECT number, tenant_slots, row_number() OVER (PARTITION BY tenant_id ORDER BY number) AS place
                        FROM wanted WHERE may_run) w, room
    WHERE tenant_slots IS NULL OR place <= tenant_slots
    ORDER BY number LIMIT (SELECT slots FROM room)
), decided AS MATERIALIZED (
    SELECT wanted.*, allowed.number IS NOT NULL AS runs FROM wanted LEFT JOIN allowed USING (number)
), moved AS (
    UPDATE jobsite_job j
    SET status = CASE WHEN runs THEN 'RUNNING' WHEN is_over THEN 'CANCELED' ELSE 'PENDING' END,
        finished_at = CASE WHEN is_over THEN clock_timestamp() END,
        cancel_requested_at = CASE WHEN is_over THEN clock_timestamp() ELSE j.cancel_requested_at END,
        cancel_requested_by = CASE WHEN is_over THEN 'system' ELSE j.cancel_requested_by END,
        cancel_reason = CASE WHEN is_over THEN 'its program is terminated' ELSE j.cancel_reason END,
        lock_token = CASE WHEN runs THEN decided.token END,
        lock_owner = CASE WHEN runs THEN %(owner)s::uuid END,
        lock_expires_at = CASE WHEN runs THEN clock_timestamp() + %(lock)s * interval '1 second' END,
        stuck_at = CASE WHEN runs THEN clock_timestamp() + (decided.timeout_seconds + 10) * interval '1 second' END,
        fence = j.fence + runs::integer,
        claimed_at = CASE WHEN runs THEN clock_timestamp() ELSE j.claimed_at END,
        started_at = CASE WHEN NOT runs THEN j.started_at WHEN %(alone)s THEN clock_timestamp() END,
        external_id = CASE WHEN runs THEN %(message)s::uuid ELSE j.external_id END,
        progress = CASE WHEN runs THEN NULL ELSE j.progress END,
        current_step = CASE WHEN runs THEN '' ELSE j.current_step END,
        queued_at = CASE WHEN runs THEN j.queued_at END,
        blocked = CASE WHEN runs OR is_over THEN NULL WHEN j.due_at > clock_timestamp() THEN 'SCHEDULED'
                       WHEN decided.program_status = 'PAUSED' THEN 'PAUSED' END
    FROM decided
    WHERE j.number = decided.number AND j.status = %(queued)s
    RETURNING decided.runs, j.number, decided.token, j.fence, j.attempts, j.losses, j.returns, j.tenant_id,
              decided.tenant, j.program_id, decided.program_version, decided.counts_failures, decided.tells,
              decided.tells_start,
              j.overlap_policy = 'QUEUE' AS holds_key, j.queue_id, j.parameters, j.context_id, j.claimed_at,
              j.has_secrets, j.parent_id, j.parked_fence, decided.is_over,
              j.notify
), over AS (
    SELECT {MOVED}, 'CANCELED' AS target FROM moved WHERE is_over
){told("over")}
SELECT number, token, fence, attempts, losses, returns, tenant_id, tenant, program_id, program_version,
       counts_failures, tells, tells_start, holds_key, queue_id, parameters, context_id, claimed_at, has_secrets,
       parent_id, parked_fence
FROM (SELECT count(*) FROM told) AS read LEFT JOIN moved ON runs ORDER BY number
"""

# The usual case, one job that may run where nothing is limited, at two thirds of the cost. What it does not take,
# CLAIM looks at, which says the same guards.
CLAIM_ONE = f"""
UPDATE jobsite_job j
SET status = 'RUNNING', lock_token = %(token)s::uuid, lock_owner = %(owner)s::uuid,
    lock_expires_at = clock_timestamp() + %(lock)s * interval '1 second',
    stuck_at = clock_timestamp() + (p.timeout_seconds + 10) * interval '1 second',
    fence = j.fence + 1, claimed_at = clock_timestamp(), started_at = clock_timestamp(),
    external_id = %(message)s::uuid, progress = NULL, current_step = ''
FROM jobsite_program p, jobsite_tenant t, jobsite_queue q, jobsite_workermanager m
WHERE j.number = %(number)s AND j.status = %(queued)s AND p.id = j.program_id AND t.id = j.tenant_id
      AND q.id = j.queue_id AND q.name = ANY(%(queues)s) AND q.paused_at IS NULL
      AND m.id = %(manager)s AND m.max_running IS NULL
      AND p.status <> 'PAUSED' AND (p.status <> 'TERMINATED' OR j.trigger <> 'AUTOMATIC') AND t.status = 'ACTIVE'
      AND t.running_quota IS NULL
      AND NOT EXISTS (SELECT 1 FROM jobsite_lane l
                      WHERE l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id AND l.paused_at IS NOT NULL)
      AND j.due_at <= clock_timestamp()
RETURNING j.number, j.lock_token, j.fence, j.attempts, j.losses, j.returns, j.tenant_id, t.code, j.program_id,
          p.version, {COUNTS}, {TELLS}, {TELLS_START}, j.overlap_policy = 'QUEUE', j.queue_id, j.parameters,
          j.context_id, j.claimed_at, j.has_secrets, j.parent_id, j.parked_fence
"""

READ_BACK = f"""
SELECT j.number, j.lock_token, j.fence, j.attempts, j.losses, j.returns, j.tenant_id, t.code, j.program_id,
       p.version, {COUNTS}, {TELLS}, {TELLS_START}, j.overlap_policy = 'QUEUE', j.queue_id, j.parameters,
       j.context_id, j.claimed_at, j.has_secrets, j.parent_id, j.parked_fence
FROM unnest(%s::bigint[], %s::uuid[]) AS c (number, token)
JOIN jobsite_job j ON j.number = c.number AND j.lock_token = c.token
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
ORDER BY j.number
"""

LOCK_MANAGER = """
SELECT 1 FROM jobsite_workermanager WHERE id = %s AND max_running IS NOT NULL FOR UPDATE
"""
# Not FOR UPDATE: whatever refers to a tenant would wait for it.
LOCK_TENANTS = """
SELECT 1 FROM jobsite_tenant
WHERE running_quota IS NOT NULL AND id IN (SELECT tenant_id FROM jobsite_job WHERE number = ANY(%s))
ORDER BY id FOR NO KEY UPDATE
"""


@failpoint("claim")
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
    alone: bool | None = None,
) -> list[Claimed]:
    """Take the jobs of (number, token) pairs that are QUEUED in these queues and may run now.

    `owner` is the worker's incarnation, `message` the Celery task id. The list may be empty, and is where the
    manager has a limit, or the tenant a quota, but the caller does not hold its row (`exact`, lock_limits).
    `alone` says whether the message carried one job; if not given, whether these are one.
    """
    values: dict[str, object] = {
        "owner": owner,
        "manager": manager_id,
        "queues": list(queues),
        "message": message,
        "lock": lock_seconds,
        "queued": "QUEUED",
    }
    if len(tokens) == 1 and not exact:
        cursor.execute(CLAIM_ONE, values | {"number": tokens[0][0], "token": tokens[0][1]})
        if rows := cursor.fetchall():
            return [Claimed(*rows[0])]
    cursor.execute(
        CLAIM,
        values
        | {
            "numbers": [number for number, _ in tokens],
            "tokens": [token for _, token in tokens],
            "exact": exact,
            "alone": len(tokens) == 1 if alone is None else alone,
        },
    )
    return [Claimed(*row) for row in cursor.fetchall() if row[0] is not None]


@failpoint("read_back")
def read_back(cursor: Cursor, tokens: Sequence[tuple[int, UUID]]) -> list[Claimed]:
    """The jobs that a claim under these tokens took whose answer was lost; all that it took, or none."""
    cursor.execute(READ_BACK, [[number for number, _ in tokens], [token for _, token in tokens]])
    return [Claimed(*row) for row in cursor.fetchall()]


@failpoint("lock_limits")
def lock_limits(cursor: Cursor, *, manager_id: int, numbers: Sequence[int]) -> bool:
    """Lock the rows of the limits under which these jobs would run, and say whether there are any.

    The caller's transaction holds them: the manager's row first, then the tenants' in order.
    """
    has_limit = False
    for statement, value in ((LOCK_MANAGER, manager_id), (LOCK_TENANTS, list(numbers))):
        cursor.execute(statement, [value])
        has_limit |= cursor.fetchone() is not None
    return has_limit
