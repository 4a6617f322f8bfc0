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


# One guarded statement: the job, its attempt, and the program's row of consecutive failures, which is touched
# only when it changes (a row written by every finish would be what all finishes wait for). A retry that is
# due later goes out of the lane (blocked = SCHEDULED); the sweep brings it back.
FINISH = """
WITH moved AS (
    UPDATE jobsite_job SET
        status = %(status)s::text, outcome = %(outcome)s::text, failure_kind = %(failure_kind)s::text,
        result = %(result)s::jsonb, error = %(error)s::jsonb,
        needs_review = %(status)s::text = 'FAILED',
        finished_at = CASE WHEN %(terminal)s::boolean THEN clock_timestamp() END,
        queued_at = CASE WHEN %(status)s::text = 'PENDING' THEN NULL ELSE queued_at END,
        due_at = CASE WHEN %(status)s::text = 'PENDING'
                      THEN statement_timestamp() + %(delay)s::float * interval '1 second' ELSE due_at END,
        rank = CASE WHEN %(status)s::text = 'PENDING'
                    THEN statement_timestamp() + %(delay)s::float * interval '1 second'
                         - priority * interval '60 seconds' ELSE rank END,
        blocked = CASE WHEN %(status)s::text = 'PENDING' AND %(delay)s::float > 0 THEN 'SCHEDULED' END,
        attempts = attempts + %(counted)s::integer, returns = returns + %(returned)s::integer,
        progress = coalesce(%(progress)s::jsonb, progress),
        lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL, stuck_at = NULL
    WHERE number = %(number)s::bigint AND lock_token = %(token)s::uuid AND status = 'RUNNING'
    RETURNING number, tenant_id, program_id, fence, external_id, claimed_at
), attempt AS (
    INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, external_id, claimed_at,
                                    started_at, ended_at, result, error, traceback)
    SELECT tenant_id, number, fence, %(token)s::uuid, %(worker)s::text, external_id, claimed_at,
           %(started_at)s::timestamptz, clock_timestamp(), %(attempt_result)s::text, %(error)s::jsonb,
           %(traceback)s::text
    FROM moved
), counted AS (
    UPDATE jobsite_program p
    SET consecutive_failures = CASE WHEN %(status)s::text = 'FAILED' THEN p.consecutive_failures + 1 ELSE 0 END
    FROM moved
    WHERE p.id = moved.program_id AND p.max_consecutive_failures IS NOT NULL
          AND (%(status)s::text = 'FAILED' OR (%(status)s::text = 'COMPLETED' AND p.consecutive_failures > 0))
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
        "terminal": ending.status in (Status.COMPLETED, Status.FAILED, Status.CANCELED),
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


def stored_attempts(cursor: Cursor, held: Sequence[Held]) -> set[UUID]:
    """The tokens among these whose attempt is stored: how a finish whose answer was lost is told to have won."""
    cursor.execute(
        """
        SELECT a.token FROM unnest(%s::bigint[], %s::uuid[]) AS h (number, token)
        JOIN jobsite_jobattempt a ON a.job_id = h.number AND a.token = h.token
        """,
        [[one.number for one in held], [one.token for one in held]],
    )
    return {row[0] for row in cursor.fetchall()}
