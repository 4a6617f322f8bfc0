"""Which runs count for a job's callback: it has a budget of its own (docs/protocol.md, "Moves").

The expressions count, for the row `j` of jobsite_job, the losses and runs before its callback; 0 where it has none.
"""

from jobsite.database import Cursor

_EARLIER = """(SELECT count(*) FROM jobsite_jobattempt e
                WHERE e.job_id = j.number AND e.fence <= j.parked_fence AND e.result {which})"""
EARLIER_LOSSES = _EARLIER.format(which="IN ('LOST', 'CLEARED')")
EARLIER_RUNS = _EARLIER.format(which="NOT IN ('RETURNED', 'LOST', 'CLEARED')")


def earlier_runs(cursor: Cursor, *, number: int) -> int:
    """How many runs of a job came before its callback and do not count for it; lost runs are left out."""
    cursor.execute(f"SELECT {EARLIER_RUNS} FROM jobsite_job j WHERE j.number = %s", [number])
    return int(cursor.fetchone()[0])
