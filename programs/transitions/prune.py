"""Delete jobs that ended long ago, with all that belongs to them. The database refuses to delete an open one."""

from dataclasses import dataclass

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import TERMINAL, listed

BATCH = 500

# One batch after the other in order of number, which is nearly the order of creation. What was created within the term
# cannot have ended before it, so that the search ends there and needs no index of the ends. A job goes when it has no
# children left and its parent is past the term too: a family goes one generation a time, the youngest first. Its
# retries lose the link to it.
PRUNE = f"""
WITH candidate AS MATERIALIZED (
    SELECT number, status, finished_at, created_at, parent_id FROM jobsite_job
    WHERE tenant_id = %(tenant)s AND number > %(after)s ORDER BY number LIMIT %(batch)s
), old AS MATERIALIZED (
    SELECT c.number FROM candidate c
    WHERE c.status IN {listed(TERMINAL)} AND c.finished_at < statement_timestamp() - %(days)s * interval '1 day'
          AND NOT EXISTS (SELECT FROM jobsite_job k WHERE k.parent_id = c.number)
          AND NOT EXISTS (SELECT FROM jobsite_job p WHERE p.number = c.parent_id
                          AND (p.finished_at IS NULL
                               OR p.finished_at >= statement_timestamp() - %(days)s * interval '1 day'))
), unlinked AS (
    UPDATE jobsite_job r SET retry_of_id = NULL FROM old
    WHERE r.retry_of_id = old.number AND NOT EXISTS (SELECT FROM old o WHERE o.number = r.number)
), lines AS (
    DELETE FROM jobsite_joblogentry l USING old WHERE l.job_number = old.number
), deliveries AS (
    DELETE FROM jobsite_delivery d USING old WHERE d.job_number = old.number
), gone AS (
    DELETE FROM jobsite_job j USING old WHERE j.number = old.number RETURNING j.number
)
SELECT (SELECT count(*) FROM gone), max(number), count(*),
       coalesce(max(created_at) >= statement_timestamp() - %(days)s * interval '1 day', true)
FROM candidate
"""


@dataclass(frozen=True)
class Pruned:
    """How many jobs of a batch were deleted, and after which number to go on; None where the search ends."""

    jobs: int
    go_on_after: int | None


@failpoint("prune")
def prune(cursor: Cursor, *, tenant_id: int, days: int, after: int = 0, batch: int = BATCH) -> Pruned:
    """Delete the jobs among a tenant's next ones that ended more than `days` ago."""
    cursor.execute(PRUNE, {"tenant": tenant_id, "days": days, "after": after, "batch": batch})
    gone, last, looked, is_past = cursor.fetchone()
    return Pruned(gone, None if is_past or looked < batch else last)
