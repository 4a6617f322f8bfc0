"""RUNNING stays RUNNING: record that a job of a group has started, once the group's 200 ms are over."""

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.transitions.finish import Held

# From now on a loss of this run counts. Reap takes a RUNNING row without started_at for a job of a group that has not
# started.
START = "UPDATE jobsite_job SET started_at = %s WHERE number = %s AND lock_token = %s AND started_at IS NULL"


@failpoint("start")
def start(cursor: Cursor, held: Held) -> None:
    """Record that this run has started and goes on alone."""
    cursor.execute(START, [held.started_at, held.number, held.token])
