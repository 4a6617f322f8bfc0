"""RUNNING -> PENDING, FAILED or CANCELED by somebody other than the holder: lost, stuck and cleared runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import REAP, Status
from jobsite.programs.sql import locks
from jobsite.programs.sql.attempts import with_attempts
from jobsite.programs.sql.budget import EARLIER_LOSSES, EARLIER_RUNS
from jobsite.programs.sql.deliveries import MOVED_J, with_deliveries
from jobsite.programs.sql.failures import counted


@dataclass(frozen=True)
class Reaped:
    """A run that was taken from its worker, and where its job went."""

    number: int
    status: Status
    queue_id: int
    tenant_id: int


# The whole condition stands twice, in the choice and in the UPDATE together with the token seen, so that a
# job that was finished or renewed in between is left alone (river#1302 shows what happens otherwise).
# A run that was lost is tried again, alone, until the program's max_worker_losses. One of a group that had not
# been seen to start (started_at IS NULL) may be innocent: it comes back uncounted, and travels alone from now on.
_REAP = """
WITH seen AS MATERIALIZED (
    SELECT j.number, j.lock_token, j.lock_owner,
           {decision} AS target
    FROM jobsite_job j JOIN jobsite_program p ON p.id = j.program_id
    WHERE j.status = '{running}' AND {condition}
    ORDER BY j.number LIMIT 500 FOR NO KEY UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE jobsite_job j SET
        status = seen.target,
        outcome = CASE WHEN seen.target = 'FAILED' THEN 'ERROR' ELSE 'NORMAL' END,
        failure_kind = CASE WHEN seen.target = 'FAILED' THEN '{failure_kind}' END,
        error = CASE WHEN seen.target = 'FAILED' THEN {error} END,
        needs_review = seen.target = 'FAILED',
        finished_at = CASE WHEN seen.target <> 'PENDING' THEN clock_timestamp() END,
        queued_at = CASE WHEN seen.target = 'PENDING' THEN NULL ELSE j.queued_at END,
        attempts = j.attempts + (j.started_at IS NOT NULL)::integer,
        losses = j.losses + CASE WHEN j.started_at IS NULL THEN 0 ELSE {losses} END, alone = true,
        {UNLOCK}
    FROM seen
    WHERE j.number = seen.number AND j.status = '{running}' AND j.lock_token = seen.lock_token AND {condition}
    RETURNING {MOVED_J}, seen.target, j.queue_id, seen.lock_token AS token, seen.lock_owner,
              j.external_id, j.claimed_at, j.started_at
){attempts}{counted}{deliveries}
SELECT number, target, queue_id, tenant_id, (SELECT count(*) FROM deliveries) FROM moved
"""

_LOST_DECISION = f"""
CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELED'
     WHEN j.started_at IS NULL THEN 'PENDING'
     WHEN p.on_worker_lost = 'FAIL' OR j.losses - {EARLIER_LOSSES} + 1 >= p.max_worker_losses THEN 'FAILED'
     ELSE 'PENDING' END"""
_STUCK_DECISION = f"""
CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELED'
     WHEN j.started_at IS NULL THEN 'PENDING'
     WHEN %(policy)s = 'FAIL' THEN 'FAILED'
     WHEN %(policy)s = 'RETRY' THEN 'PENDING'
     WHEN p.retry_on_timeout AND j.attempts + 1 - j.losses - {EARLIER_RUNS} < p.max_attempts THEN 'PENDING'
     ELSE 'FAILED' END"""


_LOST = {
    "decision": _LOST_DECISION,
    "failure_kind": "WORKER_LOST",
    "error_type": "WorkerLost",
    "losses": 1,
}
_TIMED_OUT = {
    "decision": _STUCK_DECISION,
    "failure_kind": "TIMEOUT",
    "error_type": "Timeout",
    "losses": 0,
}


def _taken(kind: Mapping[str, object], condition: str) -> str:
    error = f"jsonb_build_object('type', '{kind['error_type']}', 'message', %(message)s::text, 'step', NULL)"
    return _REAP.format(
        condition=condition,
        running=REAP.source,
        error=error,
        attempts=with_attempts(
            "moved",
            worker="coalesce(w.name, '')",
            result="CASE WHEN m.started_at IS NULL THEN 'RETURNED' ELSE %(result)s END",
            error=error,
            join="LEFT JOIN jobsite_worker w ON w.incarnation = m.lock_owner",
        ),
        counted=counted("moved"),
        deliveries=with_deliveries(
            "moved", again="m.started_at IS NOT NULL", is_stuck=kind is _TIMED_OUT, is_counted=True
        ),
        MOVED_J=MOVED_J,
        UNLOCK=locks.UNLOCK,
        **kind,
    )


_OF_MESSAGE = "j.lock_owner = %(owner)s AND j.external_id = %(external_id)s"
EXPIRED = _taken(_LOST, locks.IS_EXPIRED)
CHILD = _taken(_LOST, _OF_MESSAGE)
CHILD_TIMED_OUT = _taken(_TIMED_OUT, _OF_MESSAGE)
TOKENS = _taken(_LOST, "(j.number, j.lock_token) IN (SELECT * FROM unnest(%(numbers)s::bigint[], %(tokens)s::uuid[]))")
OWNERS = _taken(_LOST, "j.lock_owner = ANY(%(owners)s::uuid[])")
CLEARED = _taken(
    _LOST,
    f"j.number = %(number)s AND j.lock_token = %(token)s AND (%(force)s OR {locks.IS_STALE})",
)
STUCK = _taken(
    _TIMED_OUT,
    "j.stuck_at < clock_timestamp() AND (%(numbers)s::bigint[] IS NULL OR j.number = ANY(%(numbers)s))"
    " AND (%(tenant)s::bigint IS NULL OR j.tenant_id = %(tenant)s)",
)
LOST_MESSAGE = "Worker lost during execution"


@failpoint("reap_expired")
def reap_expired(cursor: Cursor) -> list[Reaped]:
    """Take the runs whose lock ran out, at most 500."""
    return _run(cursor, EXPIRED, {"message": f"{LOST_MESSAGE}: its lock ran out"})


@failpoint("reap_child")
def reap_child(cursor: Cursor, *, owner: UUID, message: UUID, timed_out: bool = False) -> list[Reaped]:
    """Take all jobs of the message that a lost child process of this worker held.

    `timed_out` says that the worker itself ended the child because an action overstayed its limit.
    """
    held = {"owner": owner, "external_id": message}
    if timed_out:
        words = "Stopped by force after its time limit"
        return _run(cursor, CHILD_TIMED_OUT, held | {"policy": "", "message": words}, result="TIMEOUT")
    return _run(cursor, CHILD, held | {"message": f"{LOST_MESSAGE}: the child process died"})


@failpoint("reap_tokens")
def reap_tokens(cursor: Cursor, held: Sequence[tuple[int, UUID]], *, message: str) -> list[Reaped]:
    """Take these runs, each only while its token still holds the job."""
    numbers, tokens = [number for number, _ in held], [token for _, token in held]
    return _run(cursor, TOKENS, {"numbers": numbers, "tokens": tokens, "message": f"{LOST_MESSAGE}: {message}"})


@failpoint("reap_owners")
def reap_owners(cursor: Cursor, owners: Sequence[UUID]) -> list[Reaped]:
    """Take the jobs of worker incarnations whose process is known to be gone."""
    return _run(cursor, OWNERS, {"owners": list(owners), "message": f"{LOST_MESSAGE}: the worker process is gone"})


@failpoint("clear")
def clear(cursor: Cursor, *, number: int, token: UUID, force: bool, by: str) -> list[Reaped]:
    """Take one run from a holder that is gone; with `force` from a live one, but only under the token shown."""
    return _run(
        cursor,
        CLEARED,
        {"number": number, "token": token, "force": force, "message": f"Lock cleared by {by}"},
        result="CLEARED",
    )


@failpoint("expire_stuck")
def expire_stuck(
    cursor: Cursor, *, numbers: Sequence[int] | None = None, tenant_id: int | None = None, policy: str = ""
) -> list[Reaped]:
    """End runs ten seconds past their program's timeout, even if renewed, as `policy` (RETRY, FAIL) says.

    Without a policy the program decides: a job is tried again only where the program retries time-outs.
    """
    return _run(
        cursor,
        STUCK,
        {
            "numbers": None if numbers is None else list(numbers),
            "tenant": tenant_id,
            "policy": policy,
            "message": "Still running ten seconds after its time limit",
        },
        result="TIMEOUT",
    )


def _run(cursor: Cursor, statement: str, values: dict[str, object], *, result: str = "LOST") -> list[Reaped]:
    cursor.execute(statement, values | {"result": result})
    return [Reaped(row[0], Status(row[1]), row[2], row[3]) for row in cursor.fetchall()]
