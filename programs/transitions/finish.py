"""RUNNING -> an end, WAITING or PENDING: written by the holder of the token, together with the attempt's row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Literal
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules import lifecycle
from jobsite.programs.rules.lifecycle import AttemptResult, FailureKind, Outcome, Status
from jobsite.programs.sql import lanes, locks
from jobsite.programs.sql.attempts import with_attempts
from jobsite.programs.sql.blocked import blocked
from jobsite.programs.sql.deliveries import MOVED_J, with_deliveries
from jobsite.programs.sql.failures import counted


class StaleJob(Exception):
    """The token no longer holds the job: another worker has it, or it has ended. Nothing was written."""


Error = dict[str, object]
Progress = dict[str, object] | None
TemporaryFailure = Literal[FailureKind.TRANSIENT, FailureKind.TIMEOUT]
RunFailure = TemporaryFailure | Literal[FailureKind.PERMANENT, FailureKind.REFUSED]
_OUTCOMES = {False: Outcome.NORMAL, True: Outcome.WARNING}
_RESULTS: Mapping[RunFailure, AttemptResult] = {
    FailureKind.TRANSIENT: AttemptResult.TRANSIENT,
    FailureKind.TIMEOUT: AttemptResult.TIMEOUT,
    FailureKind.PERMANENT: AttemptResult.PERMANENT,
    FailureKind.REFUSED: AttemptResult.PERMANENT,
}


@dataclass(frozen=True)
class Ending:
    """How a run ended and what follows. The constructors below make the valid combinations, and no others.

    `delay`, for PENDING, is the seconds until the next run is due. Without it the job keeps its place in its lane.
    """

    status: Status
    attempt_result: AttemptResult
    outcome: Outcome = Outcome.NORMAL
    failure_kind: FailureKind | None = None
    result: object = None
    error: Error | None = None
    traceback: str = ""
    delay: float | None = None
    counts: bool = True
    is_return: bool = False
    progress: Progress = None

    @classmethod
    def completed(cls, result: object = None, *, has_warned: bool = False, progress: Progress = None) -> "Ending":
        """The job has done its work."""
        return cls(Status.COMPLETED, AttemptResult.SUCCESS, _OUTCOMES[has_warned], result=result, progress=progress)

    @classmethod
    def waiting(cls, result: object = None, *, has_warned: bool = False, progress: Progress = None) -> "Ending":
        """The job has done its work, and completes when its children have ended."""
        return cls(Status.WAITING, AttemptResult.SUCCESS, _OUTCOMES[has_warned], result=result, progress=progress)

    @classmethod
    def parked(cls, *, has_warned: bool = False, progress: Progress = None) -> "Ending":
        """The job waits for its children, if any, and then for the run of its callback, whose result is the job's."""
        return cls(Status.WAITING, AttemptResult.PARKED, _OUTCOMES[has_warned], progress=progress)

    @classmethod
    def failed(cls, kind: RunFailure, error: Error, *, traceback: str = "", progress: Progress = None) -> "Ending":
        """The job has failed for good."""
        return cls(
            Status.FAILED,
            _RESULTS[kind],
            Outcome.ERROR,
            kind,
            error=error,
            traceback=traceback,
            progress=progress,
        )

    @classmethod
    def retry(
        cls,
        kind: TemporaryFailure,
        error: Error | None = None,
        *,
        delay: float | None = None,
        traceback: str = "",
        progress: Progress = None,
    ) -> "Ending":
        """The run has failed, and the job is tried again."""
        return cls(Status.PENDING, _RESULTS[kind], error=error, traceback=traceback, delay=delay, progress=progress)

    @classmethod
    def canceled(cls, error: Error | None = None, *, progress: Progress = None) -> "Ending":
        """The job was asked to stop and has stopped, or was stopped by force, as the error then says."""
        return cls(Status.CANCELED, AttemptResult.CANCELED, error=error, progress=progress)

    @classmethod
    def returned(cls, error: Error | None = None, *, delay: float | None = None, is_return: bool = False) -> "Ending":
        """The job goes back as if it had not run; `is_return` counts how often nobody could run it."""
        return cls(Status.PENDING, AttemptResult.RETURNED, error=error, delay=delay, counts=False, is_return=is_return)


@dataclass(frozen=True)
class Held:
    """What the holder knows of its lock, for the attempt's row; `started_at` by the database's clock.

    `counts_failures` says that the program's failures in a row are counted, which a success ends; `notifies` that
    somebody may be notified of the end.
    """

    number: int
    token: UUID
    worker: str
    started_at: datetime | None
    counts_failures: bool = True
    notifies: bool = True


class More(IntEnum):
    """What is written with an ending; each includes the one before."""

    NOTHING = 0
    FAILURES = 1
    DELIVERIES = 2


@dataclass(frozen=True)
class Finished:
    """The tokens that still held their job, and the deliveries that were written with its end."""

    tokens: set[UUID]
    deliveries: list[int]


# A job that was asked to stop neither runs again nor waits for children: it becomes CANCELED instead.
_TARGET = """CASE WHEN g.status IN ('PENDING', 'WAITING') AND j.cancel_requested_at IS NOT NULL
                  THEN 'CANCELED' ELSE g.status END"""
_AGAIN = "g.status = 'PENDING' AND j.cancel_requested_at IS NULL"
_DUE = f"""CASE WHEN {_AGAIN} AND g.delay IS NOT NULL
                THEN statement_timestamp() + g.delay * interval '1 second' ELSE j.due_at END"""

# The values that the statements take for an ending: one row of them, or an array of each for several endings.
_TYPES = {
    "number": "bigint", "token": "uuid", "status": "text", "outcome": "text", "failure_kind": "text", "result": "text",
    "error": "text", "traceback": "text", "delay": "float", "counted": "smallint", "returned": "smallint",
    "progress": "text", "attempt_result": "text", "started_at": "timestamptz",
}  # fmt: skip
_GIVEN_ONE = f"(SELECT {', '.join(f'%({name})s::{type_} AS {name}' for name, type_ in _TYPES.items())}) AS g"
_GIVEN = f"""
    unnest({", ".join(f"%({name})s::{type_}[]" for name, type_ in _TYPES.items())}) AS g ({", ".join(_TYPES)})"""
# Several rows are locked in order of number first, so that two statements over the same rows never deadlock.
_LOCKED = f"""
    (SELECT g.* FROM {_GIVEN}
     JOIN jobsite_job j ON j.number = g.number AND j.lock_token = g.token AND j.status = %(running)s
     ORDER BY j.number FOR NO KEY UPDATE OF j) AS g"""

# One guarded statement writes one job or those of a group, in order of number, with their attempts. One statement for
# fifty jobs costs a third of fifty statements in a pipeline, and is as atomic. A retry that is due later leaves its
# lane (blocked = SCHEDULED); the sweep brings it back. Why the status is compared with a parameter: see CLAIM.
_MOVED = f"""
WITH moved AS (
    UPDATE jobsite_job j SET
        status = {_TARGET}, failure_kind = g.failure_kind,
        outcome = CASE WHEN {_TARGET} = 'CANCELED' THEN 'NORMAL' ELSE g.outcome END,
        result = g.result::jsonb, error = g.error::jsonb, needs_review = g.status = 'FAILED',
        finished_at = CASE WHEN {_TARGET} IN ('PENDING', 'WAITING') THEN NULL ELSE clock_timestamp() END,
        started_at = coalesce(j.started_at, g.started_at),
        queued_at = CASE WHEN {_AGAIN} THEN NULL ELSE j.queued_at END,
        due_at = {_DUE}, rank = {lanes.rank(_DUE, "j.priority")},
        blocked = {blocked(early=f"{_AGAIN} AND g.delay > 0")},
        attempts = j.attempts + g.counted, returns = j.returns + g.returned,
        progress = coalesce(g.progress::jsonb, j.progress),
        parked_fence = CASE WHEN g.attempt_result = 'PARKED' THEN j.fence ELSE j.parked_fence END,
        {locks.UNLOCK}
    FROM {{given}}
    WHERE j.number = g.number AND j.lock_token = g.token AND j.status = %(running)s
    RETURNING {MOVED_J}, j.status AS target, j.external_id, j.claimed_at, j.started_at,
              g.token, g.attempt_result, j.outcome, j.error, g.traceback
){with_attempts("moved", result="m.attempt_result", error="m.error", traceback="m.traceback")}"""
_COUNTED = counted("moved")
_TOKENS = "\nSELECT token, NULL FROM moved"
_ONE, _MANY = _MOVED.format(given=_GIVEN_ONE), _MOVED.format(given=_LOCKED)
# A run that was given back or snoozed is not tried again.
_DELIVERIES = with_deliveries(
    "moved", again="m.attempt_result IN ('TRANSIENT', 'TIMEOUT')", outcome="m.outcome", is_counted=True, hinted=True
)
_BOTH = "\nSELECT token, NULL FROM moved UNION ALL SELECT NULL, id FROM deliveries"
# By whether there are several jobs, and what else is written. Parts that a job does not need would cost a tenth more.
FINISH = {
    (is_many, more): moved + parts
    for is_many, moved in ((False, _ONE), (True, _MANY))
    for more, parts in (
        (More.NOTHING, _TOKENS),
        (More.FAILURES, _COUNTED + _TOKENS),
        (More.DELIVERIES, _COUNTED + _DELIVERIES + _BOTH),
    )
}


def finish(cursor: Cursor, held: Held, ending: Ending) -> None:
    """Write the ending of one run; raises StaleJob when the token no longer holds the job."""
    if not finish_all(cursor, [(held, ending)]).tokens:
        raise StaleJob(f"job {held.number} is no longer held by token {held.token}")


@failpoint("finish")
def finish_all(cursor: Cursor, endings: Sequence[tuple[Held, Ending]]) -> Finished:
    """Write the endings of one worker's runs, of all whose token still holds the job."""
    cursor.execute(FINISH[len(endings) > 1, max(_more(*one) for one in endings)], _parameters(endings))
    rows = cursor.fetchall()
    return Finished({token for token, _ in rows if token}, [delivery for _, delivery in rows if delivery])


def _more(held: Held, ending: Ending) -> More:
    if held.notifies:
        return More.DELIVERIES
    return More.FAILURES if held.counts_failures or ending.status is Status.FAILED else More.NOTHING


def _parameters(endings: Sequence[tuple[Held, Ending]]) -> dict[str, object]:
    rows = [_values(*one) for one in endings]
    values = rows[0] if len(rows) == 1 else map(list, zip(*rows, strict=True))
    fixed: dict[str, object] = {"worker": endings[0][0].worker, "running": lifecycle.FINISH.source.value}
    return fixed | dict(zip(_TYPES, values, strict=True))


def _values(held: Held, end: Ending) -> tuple[object, ...]:
    """In the order of _TYPES."""
    return (
        held.number, held.token, end.status.value, end.outcome.value, end.failure_kind and end.failure_kind.value,
        _json(end.result), _json(end.error), end.traceback,
        # An action may snooze for an int; psycopg sends no list that mixes int and float.
        None if end.delay is None else float(end.delay),
        int(end.counts), int(end.is_return), _json(end.progress), end.attempt_result.value, held.started_at,
    )  # fmt: skip


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)


@failpoint("stored_attempts")
def stored_attempts(cursor: Cursor, held: Sequence[Held]) -> dict[UUID, AttemptResult]:
    """How the attempts of these tokens ended, as far as they are stored.

    This tells whether a finish whose answer was lost was written. Somebody else wrote a result that differs from its
    own.
    """
    cursor.execute(
        """
        SELECT a.token, a.result FROM unnest(%s::bigint[], %s::uuid[]) AS h (number, token)
        JOIN jobsite_jobattempt a ON a.job_id = h.number AND a.token = h.token
        """,
        [[one.number for one in held], [one.token for one in held]],
    )
    return {token: AttemptResult(result) for token, result in cursor.fetchall()}
