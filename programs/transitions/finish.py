"""RUNNING -> where the run leads, written by the holder of the token, together with the attempt's row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from jobsite.database import Cursor
from programs.lifecycle import AttemptResult, FailureKind, Outcome, Status


class StaleJob(Exception):
    """The token no longer holds the job: another has it, or it has ended. Nothing was written."""


@dataclass(frozen=True)
class Ending:
    """How a run ended and what follows. `delay` in seconds counts for PENDING: when the next run is due."""

    status: Status
    attempt_result: AttemptResult
    outcome: Outcome = Outcome.NORMAL
    failure_kind: FailureKind | None = None
    result: object = None
    error: dict[str, object] | None = None
    traceback: str = ""
    delay: float = 0.0
    counts: bool = True
    is_return: bool = False
    progress: dict[str, object] | None = None


@dataclass(frozen=True)
class Held:
    """What the holder knows of its lock, for the attempt's row."""

    number: int
    token: UUID
    worker: str
    started_at: datetime | None


# A job that was asked to stop does not run again: what would have been a retry ends it.
# One guarded statement: the job, its attempt, and the program's row of consecutive failures, which is touched
# only when it changes (a row written by every finish would be what all finishes wait for). A retry that is
# due later goes out of the lane (blocked = SCHEDULED); the sweep brings it back.
FINISH = """
WITH mine AS MATERIALIZED (
    SELECT number, CASE WHEN %(status)s::text = 'PENDING' AND cancel_requested_at IS NOT NULL THEN 'CANCELED'
                        ELSE %(status)s::text END AS target
    FROM jobsite_job
    WHERE number = %(number)s::bigint AND lock_token = %(token)s::uuid AND status = 'RUNNING'
    FOR NO KEY UPDATE
), moved AS (
    UPDATE jobsite_job j SET
        status = mine.target, outcome = %(outcome)s::text, failure_kind = %(failure_kind)s::text,
        result = %(result)s::jsonb, error = %(error)s::jsonb,
        needs_review = mine.target = 'FAILED',
        finished_at = CASE WHEN mine.target IN ('COMPLETED', 'FAILED', 'CANCELED') THEN clock_timestamp() END,
        queued_at = CASE WHEN mine.target = 'PENDING' THEN NULL ELSE j.queued_at END,
        due_at = CASE WHEN mine.target = 'PENDING'
                      THEN statement_timestamp() + %(delay)s::float * interval '1 second' ELSE j.due_at END,
        rank = CASE WHEN mine.target = 'PENDING'
                    THEN statement_timestamp() + %(delay)s::float * interval '1 second'
                         - j.priority * interval '60 seconds' ELSE j.rank END,
        blocked = CASE WHEN mine.target = 'PENDING' AND %(delay)s::float > 0 THEN 'SCHEDULED' END,
        attempts = j.attempts + %(counted)s::integer, returns = j.returns + %(returned)s::integer,
        progress = coalesce(%(progress)s::jsonb, j.progress),
        lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL, stuck_at = NULL
    FROM mine
    WHERE j.number = mine.number AND j.lock_token = %(token)s::uuid AND j.status = 'RUNNING'
    RETURNING j.number, j.tenant_id, j.program_id, j.fence, j.external_id, j.claimed_at, mine.target
), attempt AS (
    INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, external_id, claimed_at,
                                    started_at, ended_at, result, error, traceback)
    SELECT tenant_id, number, fence, %(token)s::uuid, %(worker)s::text, external_id, claimed_at,
           %(started_at)s::timestamptz, clock_timestamp(), %(attempt_result)s::text, %(error)s::jsonb,
           %(traceback)s::text
    FROM moved
), counted AS (
    UPDATE jobsite_program p
    SET consecutive_failures = CASE WHEN moved.target = 'FAILED' THEN p.consecutive_failures + 1 ELSE 0 END
    FROM moved
    WHERE p.id = moved.program_id AND p.max_consecutive_failures IS NOT NULL
          AND (moved.target = 'FAILED' OR (moved.target = 'COMPLETED' AND p.consecutive_failures > 0))
)
SELECT number FROM moved
"""


def finish(cursor: Cursor, held: Held, ending: Ending) -> None:
    """Write the ending under the token; raises StaleJob when the token holds nothing any more."""
    cursor.execute(FINISH, parameters(held, ending))
    if cursor.fetchone() is None:
        raise StaleJob(f"job {held.number} is no longer held by token {held.token}")


def parameters(held: Held, ending: Ending) -> dict[str, object]:
    """The values of FINISH."""
    return {
        "number": held.number,
        "token": held.token,
        "worker": held.worker,
        "started_at": held.started_at,
        "status": str(ending.status),
        "outcome": str(ending.outcome),
        "failure_kind": str(ending.failure_kind) if ending.failure_kind else None,
        "result": _json(ending.result),
        "error": _json(ending.error),
        "traceback": ending.traceback,
        "delay": ending.delay,
        "counted": int(ending.counts),
        "returned": int(ending.is_return),
        "progress": _json(ending.progress),
        "attempt_result": str(ending.attempt_result),
    }


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)


def stored_attempts(cursor: Cursor, held: Sequence[Held]) -> dict[UUID, AttemptResult]:
    """How the attempts of these tokens ended, as far as they are stored.

    So a finish whose answer was lost is told to have won; another result than its own is somebody else's.
    """
    cursor.execute(
        """
        SELECT a.token, a.result FROM unnest(%s::bigint[], %s::uuid[]) AS h (number, token)
        JOIN jobsite_jobattempt a ON a.job_id = h.number AND a.token = h.token
        """,
        [[one.number for one in held], [one.token for one in held]],
    )
    return {token: AttemptResult(result) for token, result in cursor.fetchall()}
