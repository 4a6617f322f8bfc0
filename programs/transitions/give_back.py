"""RUNNING -> PENDING without counting the run: what a worker holds and cannot go on with."""

from collections.abc import Sequence
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import AttemptResult, FailureKind, Outcome, Status
from jobsite.programs.sql.deliveries import told
from jobsite.programs.transitions.finish import Ending, Held, finish_all

MAX_RETURNS = 10
UNKNOWN_ACTION_DELAY = 30.0
# Back into its lane, where it was.
UNSTARTED = Ending(Status.PENDING, AttemptResult.RETURNED, counts=False)


def snoozed(seconds: float) -> Ending:
    """The action asked to be run again later; nothing is counted."""
    return Ending(Status.PENDING, AttemptResult.RETURNED, delay=seconds, counts=False)


def over_quota(error: dict[str, object], *, seconds: float) -> Ending:
    """The tenant's quota has no room for what the action submits or spawns: again later, and nothing is counted."""
    return Ending(Status.PENDING, AttemptResult.RETURNED, error=error, delay=seconds, counts=False)


def action_unknown(target: str, *, returns: int) -> Ending:
    """This worker cannot import the action: another may; after ten returns nobody can."""
    error: dict[str, object] = {
        "type": "UnknownAction",
        "message": f"no action {target} on any worker",
        "step": None,
    }
    if returns < MAX_RETURNS:
        return Ending(
            Status.PENDING,
            AttemptResult.RETURNED,
            error=None,
            delay=UNKNOWN_ACTION_DELAY,
            counts=False,
            is_return=True,
        )
    return Ending(
        Status.FAILED,
        AttemptResult.PERMANENT,
        outcome=Outcome.ERROR,
        failure_kind=FailureKind.PERMANENT,
        error=error,
    )


@failpoint("give_back")
def give_back(cursor: Cursor, unstarted: Sequence[Held]) -> set[UUID]:
    """Return jobs of a group that have not had their turn, uncounted; the tokens that still held theirs."""
    return finish_all(cursor, [(held, UNSTARTED) for held in unstarted]).tokens


# A graceful stop: all that this incarnation still holds, whether its child is alive or not; a child that goes
# on finds its token gone.
GIVE_BACK_ALL = f"""
WITH held AS MATERIALIZED (
    SELECT number, lock_token FROM jobsite_job
    WHERE lock_owner = %(owner)s AND status = 'RUNNING'
    ORDER BY number FOR NO KEY UPDATE
), moved AS (
    UPDATE jobsite_job j SET
        status = CASE WHEN j.cancel_requested_at IS NULL THEN 'PENDING' ELSE 'CANCELED' END,
        finished_at = CASE WHEN j.cancel_requested_at IS NOT NULL THEN clock_timestamp() END,
        queued_at = NULL, lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL, stuck_at = NULL
    FROM held WHERE j.number = held.number AND j.status = 'RUNNING' AND j.lock_token = held.lock_token
    RETURNING j.number, j.tenant_id, j.fence, held.lock_token, j.external_id, j.claimed_at, j.started_at,
              j.program_id, j.context_id, j.notify, j.status AS target
), attempt AS (
    INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, external_id, claimed_at, started_at,
                                    ended_at, result)
    SELECT tenant_id, number, fence, lock_token, %(worker)s, external_id, claimed_at, started_at,
           clock_timestamp(), 'RETURNED'
    FROM moved
){told("moved")}
SELECT number, (SELECT count(*) FROM told) FROM moved
"""


@failpoint("give_back_all")
def give_back_all(cursor: Cursor, *, owner: UUID, worker: str) -> list[int]:
    """Return every job of this worker incarnation, uncounted; the numbers of the jobs returned."""
    cursor.execute(GIVE_BACK_ALL, {"owner": owner, "worker": worker})
    return [row[0] for row in cursor.fetchall()]
