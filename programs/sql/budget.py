"""What a job's runs count against: its callback's runs have a budget of their own (PROTOCOL "Moves").

Of row `j` of jobsite_job: the runs and losses up to the one that its callback follows, none where none does.
"""

from jobsite.database import Cursor

_EARLIER = """(SELECT count(*) FROM jobsite_jobattempt e
                WHERE e.job_id = j.number AND e.fence <= j.parked_fence AND e.result {which})"""
EARLIER_LOSSES = _EARLIER.format(which="IN ('LOST', 'CLEARED')")
EARLIER_RUNS = _EARLIER.format(which="NOT IN ('RETURNED', 'LOST', 'CLEARED')")


def earlier_runs(cursor: Cursor, *, number: int) -> int:
    """How many runs of a job, but for lost ones, do not count for its callback."""
    cursor.execute(f"SELECT {EARLIER_RUNS} FROM jobsite_job j WHERE j.number = %s", [number])
    return int(cursor.fetchone()[0])
