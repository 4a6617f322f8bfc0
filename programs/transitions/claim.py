"""QUEUED -> RUNNING: one worker takes jobs under new tokens; what may not run now goes back to PENDING."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules import lifecycle
from jobsite.programs.sql import locks
from jobsite.programs.sql.blocked import blocked, takes_turns
from jobsite.programs.sql.deliveries import MOVED, NOTIFIES, NOTIFIES_START, with_deliveries
from jobsite.programs.sql.failures import COUNTS, IS_TERMINATED, ends_with_its_program, may_run_though_terminated
from jobsite.programs.sql.limits import RUNNING_OF_MANAGER, RUNNING_OF_TENANT


@dataclass(frozen=True)
class Claimed:
    """A job that this worker holds, with all that is needed to run it except the program's definition.

    `notifies` says that somebody may be notified of its end, `notifies_start` of its start. `holds_key` says that
    others may wait for its end (overlap QUEUE). `parked_fence` is set once its actions have run and their children have
    ended: then this run is the callback's.
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
    notifies: bool
    notifies_start: bool
    holds_key: bool
    queue_id: int
    parameters: dict[str, Any] = field(repr=False)
    context_key: UUID
    claimed_at: datetime
    has_secrets: bool = False
    parent_id: int | None = None
    parked_fence: int | None = None


COLUMNS = tuple(column.name for column in fields(Claimed))
"""The columns that each statement here returns for a claimed job, in this order."""
# Where the columns come from. These are not columns of the job `j`.
_LOOKED_UP = {
    "tenant": "t.code",
    "program_version": "p.version",
    "counts_failures": COUNTS,
    "notifies": NOTIFIES,
    "notifies_start": NOTIFIES_START,
}
_SOURCES = (
    {name: f"j.{name}" for name in COLUMNS}
    | {"token": "j.lock_token", "context_key": "j.context_id", "holds_key": takes_turns("j.overlap_policy")}
    | _LOOKED_UP
)
_CLAIMED = ", ".join(_SOURCES[name] for name in COLUMNS)
_NAMED = ", ".join(f"{source} AS {name}" for name, source in _LOOKED_UP.items())
_RETURNED = ", ".join(
    f"decided.{name}" if name in ("token", *_LOOKED_UP) else f"{_SOURCES[name]} AS {name}" for name in COLUMNS
)

# The guards, by primary-key joins: which jobs the worker may take, and whether they may run now.
_MINE = "j.status = %(queued)s AND q.name = ANY(%(queues)s)"
_MAY_RUN = f"""p.status <> 'PAUSED' AND t.status = 'ACTIVE' AND q.paused_at IS NULL AND {{lane_is_open}}
               AND {may_run_though_terminated("j.trigger")}
               AND j.due_at <= clock_timestamp()"""

# The caller makes the token before the statement, so that it can find out whether a commit happened whose answer was
# lost. Where the claimer's manager has a limit, or the tenant a quota, the caller must have locked their rows in an
# earlier statement (exact), so that the count of RUNNING rows is exact. Without that the job is left as it is.
# A job that came alone starts now. One of a group starts later, in the worker's memory: its started_at stays empty, by
# which reap recognizes the jobs of a lost group.
# The status is compared with a parameter, so that the planner uses the primary key. By a partial index it would read
# every QUEUED row for each job.
# A job that a schedule made is canceled here if its program was terminated since. Its deliveries are written too: the
# last SELECT reads the part `deliveries` even where no job runs, and then returns one row without a number.
# To claim none is normal: the message was a duplicate, came late, or its job waits again.
CLAIM = f"""
WITH wanted AS MATERIALIZED (
    SELECT j.number, c.token, p.status AS program_status, p.timeout_seconds,
           {_NAMED}, j.tenant_id,
           {_MAY_RUN.format(lane_is_open="l.paused_at IS NULL")} AS may_run,
           {ends_with_its_program("j.trigger")} AS is_over,
           CASE WHEN t.running_quota IS NOT NULL THEN t.running_quota - {RUNNING_OF_TENANT} END AS tenant_slots
    FROM unnest(%(numbers)s::bigint[], %(tokens)s::uuid[]) AS c (number, token)
    JOIN jobsite_job j ON j.number = c.number
    JOIN jobsite_program p ON p.id = j.program_id
    JOIN jobsite_tenant t ON t.id = j.tenant_id
    JOIN jobsite_queue q ON q.id = j.queue_id
    LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
    WHERE {_MINE}
          AND (%(exact)s OR (t.running_quota IS NULL
                             AND (SELECT max_running IS NULL FROM jobsite_workermanager WHERE id = %(manager)s)))
    ORDER BY j.number
    FOR NO KEY UPDATE OF j
), room AS MATERIALIZED (
    SELECT CASE WHEN m.max_running IS NULL THEN NULL
                ELSE greatest(0, m.max_running - {RUNNING_OF_MANAGER}) END AS slots
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
        cancel_reason = CASE WHEN is_over THEN '{IS_TERMINATED}' ELSE j.cancel_reason END,
        lock_token = CASE WHEN runs THEN decided.token END,
        lock_owner = CASE WHEN runs THEN %(owner)s::uuid END,
        lock_expires_at = CASE WHEN runs THEN {locks.UNTIL} END,
        stuck_at = CASE WHEN runs THEN {locks.stuck_at("decided.timeout_seconds")} END,
        fence = j.fence + runs::integer,
        claimed_at = CASE WHEN runs THEN clock_timestamp() ELSE j.claimed_at END,
        started_at = CASE WHEN NOT runs THEN j.started_at WHEN %(alone)s THEN clock_timestamp() END,
        external_id = CASE WHEN runs THEN %(message)s::uuid ELSE j.external_id END,
        progress = CASE WHEN runs THEN NULL ELSE j.progress END,
        current_step = CASE WHEN runs THEN '' ELSE j.current_step END,
        queued_at = CASE WHEN runs THEN j.queued_at END,
        blocked = CASE WHEN NOT runs AND NOT is_over THEN {
    blocked(early="j.due_at > clock_timestamp()", paused="decided.program_status = 'PAUSED'")
} END
    FROM decided
    WHERE j.number = decided.number AND j.status = %(queued)s
    RETURNING decided.runs, decided.is_over, {_RETURNED}, j.context_id, j.notify
), over AS (
    SELECT {MOVED}, 'CANCELED' AS target FROM moved WHERE is_over
){with_deliveries("over")}
SELECT {", ".join(COLUMNS)}
FROM (SELECT count(*) FROM deliveries) AS read LEFT JOIN moved ON runs ORDER BY number
"""

# The usual case, one job that may run and no limit to count, at two thirds of the cost. What this does not take is left
# to CLAIM.
_LANE_IS_OPEN = """NOT EXISTS (SELECT 1 FROM jobsite_lane l
                      WHERE l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id AND l.paused_at IS NOT NULL)"""
CLAIM_ONE = f"""
UPDATE jobsite_job j
SET status = 'RUNNING', lock_token = %(token)s::uuid, lock_owner = %(owner)s::uuid,
    lock_expires_at = {locks.UNTIL}, stuck_at = {locks.stuck_at("p.timeout_seconds")},
    fence = j.fence + 1, claimed_at = clock_timestamp(), started_at = clock_timestamp(),
    external_id = %(message)s::uuid, progress = NULL, current_step = ''
FROM jobsite_program p, jobsite_tenant t, jobsite_queue q, jobsite_workermanager m
WHERE j.number = %(number)s AND {_MINE} AND p.id = j.program_id AND t.id = j.tenant_id AND q.id = j.queue_id
      AND m.id = %(manager)s AND m.max_running IS NULL AND t.running_quota IS NULL
      AND {_MAY_RUN.format(lane_is_open=_LANE_IS_OPEN)}
RETURNING {_CLAIMED}
"""

READ_BACK = f"""
SELECT {_CLAIMED}
FROM unnest(%s::bigint[], %s::uuid[]) AS c (number, token)
JOIN jobsite_job j ON j.number = c.number AND j.lock_token = c.token
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
ORDER BY j.number
"""

LOCK_MANAGER = """
SELECT 1 FROM jobsite_workermanager WHERE id = %s AND max_running IS NOT NULL FOR UPDATE
"""
# Not FOR UPDATE: every insert of a row that refers to the tenant would wait for it.
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

    `owner` is the worker's incarnation, `message` the Celery task id. The list may be empty. Where the manager has a
    limit, or a tenant a quota, nothing under it is claimed unless the caller holds its row (`exact`, lock_limits).
    `alone` says whether the message carried one job; by default, whether one is given here.
    """
    values: dict[str, object] = {
        "owner": owner,
        "manager": manager_id,
        "queues": list(queues),
        "message": message,
        "lock": lock_seconds,
        "queued": lifecycle.CLAIM.source.value,
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
    """The jobs that a claim whose answer was lost took under these tokens: all that it took, or none."""
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
