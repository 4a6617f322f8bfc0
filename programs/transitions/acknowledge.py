"""Mark a FAILED job as reviewed by an operator. The job has ended and does not move."""

from collections.abc import Sequence

from jobsite.database import Cursor
from jobsite.failpoints import failpoint

ACKNOWLEDGE = """
WITH wanted AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE number = ANY(%(numbers)s) AND tenant_id = %(tenant)s AND needs_review
    ORDER BY number FOR NO KEY UPDATE
)
UPDATE jobsite_job j SET needs_review = false, reviewed_at = clock_timestamp(), reviewed_by = %(by)s
FROM wanted WHERE j.number = wanted.number
RETURNING j.number
"""


@failpoint("acknowledge")
def acknowledge(cursor: Cursor, *, numbers: Sequence[int], tenant_id: int, by: str) -> list[int]:
    """Mark these jobs of the tenant as reviewed. Returns the numbers, in order, of those that needed it."""
    cursor.execute(ACKNOWLEDGE, {"numbers": list(numbers), "tenant": tenant_id, "by": by})
    return sorted(row[0] for row in cursor.fetchall())
