"""RUNNING -> PENDING without counting the run: a worker gives back jobs that it cannot run."""

from collections.abc import Sequence
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import GIVE_BACK, AttemptResult, FailureKind
from jobsite.programs.sql.attempts import with_attempts
from jobsite.programs.sql.deliveries import MOVED_J, with_deliveries
from jobsite.programs.sql.locks import UNLOCK
from jobsite.programs.transitions.finish import Ending, Held, finish_all

MAX_RETURNS = 10
UNKNOWN_ACTION_DELAY = 30.0
# The job goes back to its old place in its lane.
UNSTARTED = Ending.returned()


def snoozed(seconds: float) -> Ending:
    """The action asked to be run again later; nothing is counted."""
    return Ending.returned(delay=seconds)


def over_quota(error: dict[str, object], *, seconds: float) -> Ending:
    """The tenant's quota has no room for what the action submits or spawns: run it again later, uncounted."""
    return Ending.returned(error, delay=seconds)


def action_unknown(target: str, *, returns: int) -> Ending:
    """This worker cannot import the action, but another may. After ten returns the job fails."""
    if returns < MAX_RETURNS:
        return Ending.returned(delay=UNKNOWN_ACTION_DELAY, is_return=True)
    message = f"no action {target} on any worker"
    return Ending.failed(FailureKind.PERMANENT, {"type": "UnknownAction", "message": message, "step": None})


@failpoint("give_back")
def give_back(cursor: Cursor, unstarted: Sequence[Held]) -> set[UUID]:
    """Give back jobs of a group that have not started, uncounted. Returns the tokens that still held their job."""
    return finish_all(cursor, [(held, UNSTARTED) for held in unstarted]).tokens


# For a graceful stop: all jobs that this incarnation still holds, whether their child is alive or not. A child that
# goes on finds its token gone.
GIVE_BACK_ALL = f"""
WITH held AS MATERIALIZED (
    SELECT number, lock_token FROM jobsite_job
    WHERE lock_owner = %(owner)s AND status = '{GIVE_BACK.source}'
    ORDER BY number FOR NO KEY UPDATE
), moved AS (
    UPDATE jobsite_job j SET
        status = CASE WHEN j.cancel_requested_at IS NULL THEN 'PENDING' ELSE 'CANCELED' END,
        finished_at = CASE WHEN j.cancel_requested_at IS NOT NULL THEN clock_timestamp() END,
        queued_at = NULL, {UNLOCK}
    FROM held WHERE j.number = held.number AND j.status = '{GIVE_BACK.source}' AND j.lock_token = held.lock_token
    RETURNING {MOVED_J}, j.status AS target, held.lock_token AS token, j.external_id, j.claimed_at, j.started_at
){with_attempts("moved", result=f"'{AttemptResult.RETURNED}'")}{with_deliveries("moved")}
SELECT number, (SELECT count(*) FROM deliveries) FROM moved
"""


@failpoint("give_back_all")
def give_back_all(cursor: Cursor, *, owner: UUID, worker: str) -> list[int]:
    """Give back every job of this worker incarnation, uncounted. Returns their numbers."""
    cursor.execute(GIVE_BACK_ALL, {"owner": owner, "worker": worker})
    return [row[0] for row in cursor.fetchall()]
