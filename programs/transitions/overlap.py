"""One job of a key at a time (overlap QUEUE): the others wait outside their lane, blocked OVERLAP, until it is free.

A key is taken by a job that is QUEUED, RUNNING or WAITING, that waits for another run, or that was let in and waits in
its lane. Jobs are let in one by one, in order of scheduled_at; held and future ones do not block the others.
"""

from collections.abc import Sequence

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import ACTIVE, listed

_SAME_KEY = "{j}.program_id = {k}.program_id AND {j}.overlap_key = {k}.overlap_key AND {j}.overlap_policy = 'QUEUE'"
# Two questions, so that each has its partial index: job_queue_key_once_among_active and job_waits_for_its_key.
_IS_FREE = f"""
    NOT EXISTS (SELECT FROM jobsite_job a
                WHERE {_SAME_KEY.format(j="a", k="{k}")}
                      AND (a.status IN {listed(ACTIVE)} OR (a.status = 'PENDING' AND a.attempts > 0))
                      {{but}})
    AND NOT EXISTS (SELECT FROM jobsite_job a
                    WHERE {_SAME_KEY.format(j="a", k="{k}")} AND a.status = 'PENDING' AND a.blocked IS NULL
                          {{and_first}})
"""
# Whether a job that was let in still has its turn: no other has its key, and none was let in before it. Another may
# have been, where two processes let jobs in at the same moment.
HAS_ITS_TURN = f"""({{j}}.overlap_policy <> 'QUEUE' OR ({
    _IS_FREE.format(k="{j}", but="AND a.number <> {j}.number", and_first="AND a.number < {j}.number")
}))"""

_LET_IN = f"""
, first AS MATERIALIZED (
    SELECT w.number FROM keys CROSS JOIN LATERAL (
        SELECT number FROM jobsite_job j
        WHERE {_SAME_KEY.format(j="j", k="keys")} AND j.status = 'PENDING' AND j.blocked = 'OVERLAP'
        ORDER BY j.scheduled_at, j.number LIMIT 1) w
    WHERE {_IS_FREE.format(k="keys", but="", and_first="")}
)
UPDATE jobsite_job j SET blocked = NULL FROM first
WHERE j.number = first.number AND j.status = 'PENDING' AND j.blocked = 'OVERLAP'
RETURNING j.number, j.queue_id
"""
OF_JOBS = f"""
WITH keys AS MATERIALIZED (
    SELECT DISTINCT program_id, overlap_key FROM jobsite_job
    WHERE number = ANY(%(numbers)s) AND overlap_policy = 'QUEUE'
)
{_LET_IN}
"""
# A skip scan: the cost grows with the keys for which jobs wait, not with the jobs.
OF_ALL = f"""
WITH RECURSIVE keys (program_id, overlap_key) AS (
    (SELECT program_id, overlap_key FROM jobsite_job WHERE status = 'PENDING' AND overlap_policy = 'QUEUE'
     ORDER BY program_id, overlap_key LIMIT 1)
    UNION ALL
    SELECT following.program_id, following.overlap_key FROM keys k CROSS JOIN LATERAL (
        SELECT program_id, overlap_key FROM jobsite_job
        WHERE status = 'PENDING' AND overlap_policy = 'QUEUE'
              AND (program_id, overlap_key) > (k.program_id, k.overlap_key)
        ORDER BY program_id, overlap_key LIMIT 1) following
)
{_LET_IN}
"""


@failpoint("let_in")
def let_in(cursor: Cursor, numbers: Sequence[int] | None = None) -> list[tuple[int, int]]:
    """Let the next job of each key into its lane, if the key is free: of these jobs' keys, or of all.

    Returns (number, queue id) of those let in.
    """
    if numbers is None:
        cursor.execute(OF_ALL)
    else:
        cursor.execute(OF_JOBS, {"numbers": list(numbers)})
    return [(number, queue_id) for number, queue_id in cursor.fetchall()]
