"""Cancel a job at once, or ask its worker to stop where it is RUNNING."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import IS_OPEN, Status
from jobsite.programs.sql.deliveries import MOVED, MOVED_J, with_deliveries

# One statement: the status at the moment of the UPDATE decides, also where a claim came just before it.
CANCELED = """
UPDATE jobsite_job j SET
    status = CASE WHEN status = 'RUNNING' THEN status ELSE 'CANCELED' END,
    outcome = 'NORMAL',
    finished_at = CASE WHEN status = 'RUNNING' THEN NULL ELSE clock_timestamp() END,
    blocked = NULL, hold_at = NULL, hold_by = '', hold_reason = '', hold_until = NULL,
    cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
    cancel_requested_by = CASE WHEN cancel_requested_at IS NULL THEN {by} ELSE cancel_requested_by END,
    cancel_reason = CASE WHEN cancel_requested_at IS NULL THEN {reason} ELSE cancel_reason END
"""
CANCEL = f"""
WITH moved AS (
    {CANCELED.format(by="%(by)s", reason="%(reason)s")}
    WHERE number = %(number)s AND tenant_id = %(tenant)s AND {IS_OPEN}
    RETURNING {MOVED}, status AS target
){with_deliveries("moved")}
SELECT target, (SELECT count(*) FROM deliveries) FROM moved
"""
MOST_CHILDREN = 500
"""At most this many children are canceled by one statement."""

# A child that was asked already is not asked again, so that repeating the statement comes to an end.
_NOT_ASKED = "({c}status <> 'RUNNING' OR {c}cancel_requested_at IS NULL)"
_CASCADES = "(p.status = 'CANCELED' OR (p.status = 'FAILED' AND g.cancel_children_on_failure))"
CANCEL_CHILDREN = f"""
WITH open AS MATERIALIZED (
    SELECT c.number, format('its parent, job %%s, is %%s', p.number, p.status) AS reason
    FROM jobsite_job p
    JOIN jobsite_program g ON g.id = p.program_id
    JOIN jobsite_job c ON c.parent_id = p.number AND c.parent_id IS NOT NULL AND c.{IS_OPEN}
    WHERE p.number = ANY(%(parents)s) AND {_CASCADES}
          AND {_NOT_ASKED.format(c="c.")}
    ORDER BY c.number LIMIT {MOST_CHILDREN} FOR NO KEY UPDATE OF c SKIP LOCKED
), moved AS (
    {CANCELED.format(by="'system'", reason="open.reason")}
    FROM open
    WHERE j.number = open.number AND {IS_OPEN}
    RETURNING {MOVED_J}, j.status AS target
){with_deliveries("moved")}
SELECT number, target, (SELECT count(*) FROM deliveries) FROM moved
"""
# A skip scan over the parents of open children: its cost grows with the parents, not with the children.
ENDED_WITH_OPEN_CHILDREN = f"""
WITH RECURSIVE parent (number) AS (
    (SELECT parent_id FROM jobsite_job
     WHERE parent_id IS NOT NULL AND {IS_OPEN} AND {_NOT_ASKED.format(c="")}
     ORDER BY parent_id LIMIT 1)
    UNION ALL
    SELECT following.parent_id FROM parent CROSS JOIN LATERAL (
        SELECT parent_id FROM jobsite_job
        WHERE parent_id IS NOT NULL AND {IS_OPEN} AND {_NOT_ASKED.format(c="")}
              AND parent_id > parent.number
        ORDER BY parent_id LIMIT 1) following
)
SELECT p.number FROM parent JOIN jobsite_job p ON p.number = parent.number
JOIN jobsite_program g ON g.id = p.program_id
WHERE {_CASCADES}
LIMIT 500
"""


@dataclass(frozen=True)
class Canceled:
    """The status after the request: CANCELED, or RUNNING until the action has stopped."""

    status: Status


@failpoint("cancel")
def cancel(cursor: Cursor, *, number: int, tenant_id: int, by: str, reason: str) -> Canceled | None:
    """Cancel a job, or ask its worker to stop; None when the job is terminal or not of this tenant."""
    cursor.execute(CANCEL, {"number": number, "tenant": tenant_id, "by": by, "reason": reason})
    row = cursor.fetchone()
    return Canceled(Status(row[0])) if row else None


@failpoint("cancel_children")
def cancel_children(cursor: Cursor, parents: Sequence[int]) -> dict[int, Status]:
    """Cancel at most 500 open children of these jobs, or ask them to stop. Returns the status of each afterwards.

    Only a parent that is CANCELED cancels its children, or one that FAILED where its program says so.
    """
    cursor.execute(CANCEL_CHILDREN, {"parents": list(parents)})
    return {number: Status(status) for number, status, _ in cursor.fetchall()}


def ended_with_open_children(cursor: Cursor) -> list[int]:
    """At most 500 ended jobs whose open children should have been canceled with them."""
    cursor.execute(ENDED_WITH_OPEN_CHILDREN)
    return [row[0] for row in cursor.fetchall()]
