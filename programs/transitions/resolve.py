"""WAITING -> the callback or the end of a parent, once none of its children is open.

A child that has ended stays ended, and only a run of the parent spawns another (job_spawned_by_a_run). So a parent that
has no open child while its row is locked has none until it runs again, and the children need no lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules import lifecycle
from jobsite.programs.rules.lifecycle import IS_OPEN, Status
from jobsite.programs.sql.blocked import takes_turns
from jobsite.programs.sql.deliveries import MOVED_J, with_deliveries
from jobsite.programs.sql.failures import counted

MOST = 500
"""At most this many parents are resolved by one statement."""

# By the partial index job_open_child_of_parent.
HAS_OPEN_CHILD = f"""EXISTS (SELECT FROM jobsite_job c
                             WHERE c.parent_id = j.number AND c.parent_id IS NOT NULL AND c.{IS_OPEN})"""
# To look before locking spares the parent of a thousand children a thousand locks. Whoever has locked the row already
# mostly resolves or cancels it; if not, the sweep comes back.
LOCK = f"""
SELECT j.number FROM jobsite_job j
WHERE j.number = ANY(%(numbers)s) AND j.status = %(waiting)s AND NOT {HAS_OPEN_CHILD}
ORDER BY j.number FOR NO KEY UPDATE SKIP LOCKED
"""
# The children are looked at again, in a statement that begins when the row is locked: between the first look and the
# lock the callback may have run, spawned, and left its job waiting again.
RESOLVE = f"""
WITH looked AS MATERIALIZED (
    SELECT j.number, children.count, children.failed, children.named, p.on_child_failure,
           CASE WHEN children.failed > 0 AND p.on_child_failure = 'FAIL' THEN 'FAILED'
                WHEN j.parked_fence = j.fence THEN 'PENDING' ELSE 'COMPLETED' END AS target
    FROM jobsite_job j
    JOIN jobsite_program p ON p.id = j.program_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, count(*) FILTER (WHERE c.status <> 'COMPLETED') AS failed,
               (array_agg(format('job %%s %%s', c.number, c.status) ORDER BY c.number)
                    FILTER (WHERE c.status <> 'COMPLETED'))[1:3] AS named
        FROM jobsite_job c WHERE c.parent_id = j.number AND c.parent_id IS NOT NULL) children
    WHERE j.number = ANY(%(numbers)s) AND j.status = %(waiting)s AND NOT {HAS_OPEN_CHILD}
    ORDER BY j.number
), moved AS (
    UPDATE jobsite_job j SET
        status = l.target,
        outcome = CASE WHEN l.target = 'FAILED' THEN 'ERROR' WHEN l.target = 'PENDING' THEN 'NORMAL'
                       WHEN l.failed > 0 AND l.on_child_failure = 'WARN' THEN 'WARNING' ELSE j.outcome END,
        failure_kind = CASE WHEN l.target = 'FAILED' THEN 'PERMANENT' END,
        error = CASE WHEN l.target = 'FAILED' THEN jsonb_build_object(
            'type', 'ChildrenFailed', 'step', NULL, 'message',
            format('%%s of %%s children did not complete: %%s', l.failed, l.count, array_to_string(l.named, ', '))
            || CASE WHEN l.failed > 3 THEN format(' and %%s more', l.failed - 3) ELSE '' END) END,
        needs_review = l.target = 'FAILED',
        finished_at = CASE WHEN l.target <> 'PENDING' THEN clock_timestamp() END,
        queued_at = CASE WHEN l.target <> 'PENDING' THEN j.queued_at END,
        alone = true
    FROM looked l WHERE j.number = l.number AND j.status = %(waiting)s
    RETURNING {MOVED_J}, j.status AS target, j.queue_id, j.parent_id,
              {takes_turns("j.overlap_policy")} AS holds_key, j.outcome
){counted("moved")}{with_deliveries("moved", outcome="m.outcome", is_counted=True)}
SELECT number, target, queue_id, parent_id, holds_key, (SELECT count(*) FROM deliveries) FROM moved ORDER BY number
"""
# Parents that wait for nothing, since the process that should have resolved them was lost.
WAITING_WITHOUT_OPEN_CHILD = f"""
SELECT j.number FROM jobsite_job j
WHERE j.status = '{lifecycle.RESOLVE.source}' AND NOT {HAS_OPEN_CHILD} ORDER BY j.number LIMIT {MOST}
"""


@dataclass(frozen=True)
class Resolved:
    """A parent that was resolved, and its new status; `holds_key`: others may wait for its end (overlap QUEUE)."""

    number: int
    status: Status
    queue_id: int
    parent_id: int | None
    holds_key: bool


@failpoint("lock_parents")
def lock(cursor: Cursor, numbers: Sequence[int]) -> list[int]:
    """Lock those of these jobs that are WAITING without an open child. Returns their numbers."""
    cursor.execute(LOCK, {"numbers": list(numbers), "waiting": lifecycle.RESOLVE.source.value})
    return [row[0] for row in cursor.fetchall()]


@failpoint("resolve")
def resolve(cursor: Cursor, locked: Sequence[int]) -> list[Resolved]:
    """Move parents that `lock` has locked in this transaction: to PENDING for their callback, or to their end."""
    cursor.execute(RESOLVE, {"numbers": list(locked), "waiting": lifecycle.RESOLVE.source.value})
    return [Resolved(row[0], Status(row[1]), *row[2:5]) for row in cursor.fetchall()]


def waiting_without_open_child(cursor: Cursor) -> list[int]:
    """Parents that wait though none of their children is open, at most 500."""
    cursor.execute(WAITING_WITHOUT_OPEN_CHILD)
    return [row[0] for row in cursor.fetchall()]
