"""RUNNING stays RUNNING: that the action of a group's job has begun, once the group's time is up."""

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.transitions.finish import Held

# From now on a loss of this run counts: reap takes a RUNNING row without started_at for one of a group.
START = "UPDATE jobsite_job SET started_at = %s WHERE number = %s AND lock_token = %s AND started_at IS NULL"


@failpoint("start")
def start(cursor: Cursor, held: Held) -> None:
    """Say that this run has begun and goes on alone."""
    cursor.execute(START, [held.started_at, held.number, held.token])
