"""Hold and release: PENDING or QUEUED jobs leave their lanes, and come back."""

from collections.abc import Sequence
from datetime import datetime

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules import lifecycle
from jobsite.programs.rules.lifecycle import NEVER_HELD, listed
from jobsite.programs.sql.blocked import PROGRAM_IS_PAUSED, WAITS_FOR_ITS_TURN, blocked

HOLD = f"""
UPDATE jobsite_job SET status = '{lifecycle.HOLD.target}', queued_at = NULL, blocked = 'HELD',
                       hold_at = clock_timestamp(), hold_by = %(by)s, hold_reason = %(reason)s, hold_until = %(until)s
WHERE number = %(number)s AND tenant_id = %(tenant)s AND status IN {listed(lifecycle.HOLD.sources)}
      AND trigger <> '{NEVER_HELD}' AND hold_at IS NULL
RETURNING number
"""

# Once a row is no longer held, what it waits for is decided as at submission.
_UNHOLD = f"""
    hold_at = NULL, hold_by = '', hold_reason = '', hold_until = NULL,
    blocked = {blocked(early="j.due_at > clock_timestamp()", paused=PROGRAM_IS_PAUSED, turn=WAITS_FOR_ITS_TURN)}
"""
RELEASE = f"""
UPDATE jobsite_job j SET {_UNHOLD}
FROM jobsite_program p
WHERE j.number = %(number)s AND j.tenant_id = %(tenant)s AND j.blocked = 'HELD' AND p.id = j.program_id
RETURNING j.number
"""
# Both sweeps compare with statement_timestamp(). clock_timestamp() may change from row to row, so that no index can be
# searched for it, and all held and future rows would be read each time.
END_HOLDS = f"""
WITH ended AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE status = 'PENDING' AND blocked = 'HELD' AND hold_until <= statement_timestamp()
    ORDER BY hold_until LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET {_UNHOLD}
FROM ended, jobsite_program p
WHERE j.number = ended.number AND p.id = j.program_id
RETURNING j.number
"""
# PENDING rows that became due, a batch at a time, by the partial index job_due_later.
UNBLOCK = f"""
WITH due AS MATERIALIZED (
    SELECT j.number, p.status AS program_status FROM jobsite_job j JOIN jobsite_program p ON p.id = j.program_id
    WHERE j.status = 'PENDING' AND j.blocked = 'SCHEDULED' AND j.due_at <= statement_timestamp()
    ORDER BY j.due_at LIMIT 1000 FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE jobsite_job j SET blocked = {blocked(paused="due.program_status = 'PAUSED'", turn=WAITS_FOR_ITS_TURN)}
FROM due WHERE j.number = due.number
RETURNING j.number, j.queue_id, j.blocked IS NULL
"""


@failpoint("hold")
def hold(cursor: Cursor, *, number: int, tenant_id: int, by: str, reason: str, until: datetime | None) -> bool:
    """Hold a PENDING or QUEUED job; False when it has another status, is held already, or a schedule made it."""
    cursor.execute(HOLD, {"number": number, "tenant": tenant_id, "by": by, "reason": reason, "until": until})
    return cursor.fetchone() is not None


@failpoint("release")
def release(cursor: Cursor, *, number: int, tenant_id: int) -> bool:
    """Let a held job go on; False when it is not held."""
    cursor.execute(RELEASE, {"number": number, "tenant": tenant_id})
    return cursor.fetchone() is not None


@failpoint("end_holds")
def end_holds(cursor: Cursor) -> list[int]:
    """Release the jobs whose hold has reached its end. Returns their numbers."""
    cursor.execute(END_HOLDS)
    return [row[0] for row in cursor.fetchall()]


@failpoint("unblock")
def unblock(cursor: Cursor) -> list[tuple[int, int]]:
    """Bring PENDING jobs that became due into their lanes: (number, queue id)."""
    cursor.execute(UNBLOCK)
    rows: Sequence[tuple[int, int, bool]] = cursor.fetchall()
    return [(number, queue_id) for number, queue_id, is_ready in rows if is_ready]
