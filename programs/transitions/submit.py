"""Insert jobs: PENDING, or QUEUED at once where the queue has room for one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.utils import OperationalError

from jobsite.database import Cursor, execute, pipelined
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import Overlap, Trigger
from jobsite.programs.sql import deliveries, lanes
from jobsite.programs.sql.blocked import PROGRAM_IS_PAUSED, blocked, takes_turns
from jobsite.programs.sql.failures import may_run_though_terminated
from jobsite.programs.sql.window import IS_AWAKE, LOOK, look_values
from jobsite.tenants.principals import Captured


@dataclass(frozen=True)
class NewJob:
    """A job to insert. Every value is validated already, against `program_version` where that is given."""

    tenant_id: int
    program_id: int
    parameters: str
    context: Captured
    trigger: Trigger = Trigger.MANUAL
    priority: int | None = None
    scheduled_at: datetime | None = None
    hold_by: str | None = None
    hold_reason: str = ""
    overlap_policy: Overlap = Overlap.ALLOW
    overlap_key: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    retry_of: int | None = None
    engine: str = "redis"
    program_version: int | None = None
    has_secrets: bool = False
    notify: bool = False
    notifies: bool = False
    """Whether its program has rules, which may notify somebody of its submission."""


@dataclass(frozen=True)
class Inserted:
    """A new job as the database stored it; `position` is its place in the input."""

    position: int
    number: int
    queue_id: int
    priority: int
    blocked: str | None
    scheduled_at: datetime
    due_at: datetime
    created_at: datetime


# One statement for one job or a thousand. ON CONFLICT without a target covers every unique key at once
# (idempotency, overlap, retry) and does not abort the caller's transaction; the caller finds out which.
# due_at starts at now for a past scheduled_at, so that an old date does not jump the queue.
# Rows are numbered and returned in the order of the input, so that they need not be joined with it again, which cost
# twice as much as the insert itself. A context is looked up and not written: nearly always it exists.
# The values that both statements take for a job: one row of them, or an array of each for several jobs.
_TYPES = {
    "tenant_id": "bigint", "program_id": "bigint", "program_version": "integer", "trigger": "text",
    "parameters": "text", "context": "uuid", "given_priority": "smallint", "given_at": "timestamptz",
    "hold_by": "text", "hold_reason": "text", "overlap_policy": "text", "overlap_key": "text",
    "idempotency_key": "text", "fingerprint": "text", "retry_of": "bigint", "engine": "text",
    "has_secrets": "boolean", "notify": "boolean",
}  # fmt: skip
_COLUMNS = """tenant_id, program_id, queue_id, trigger, priority, parameters, context_id,
    scheduled_at, due_at, rank, blocked, hold_at, hold_by, hold_reason,
    overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of_id, engine, has_secrets, notify, created_at"""
_PRIORITY = "coalesce(g.given_priority, p.priority)"
_SCHEDULED = "coalesce(g.given_at, statement_timestamp())"
_DUE = "greatest(g.given_at, statement_timestamp())"
_BLOCKED = blocked(
    held="g.hold_by IS NOT NULL",
    early="g.given_at > statement_timestamp()",
    paused=PROGRAM_IS_PAUSED,
    turn=takes_turns("g.overlap_policy"),
)
_JOINED = f"""JOIN jobsite_program p ON p.id = g.program_id AND p.version = coalesce(g.program_version, p.version)
     AND p.deleted_at IS NULL AND {may_run_though_terminated("g.trigger")}
JOIN jobsite_capturedcontext c ON c.key = g.context"""
INSERT = f"""
INSERT INTO jobsite_job (
    {_COLUMNS})
SELECT g.tenant_id, p.id, p.queue_id, g.trigger, {_PRIORITY}, g.parameters::jsonb, c.key,
       {_SCHEDULED}, {_DUE},
       {lanes.rank(_DUE, _PRIORITY)},
       {_BLOCKED},
       CASE WHEN g.hold_by IS NOT NULL THEN clock_timestamp() END, coalesce(g.hold_by, ''), g.hold_reason,
       g.overlap_policy, g.overlap_key, g.idempotency_key, g.fingerprint, g.retry_of, g.engine, g.has_secrets,
       g.notify, clock_timestamp()
FROM unnest({", ".join(f"%({name})s::{type_}[]" for name, type_ in _TYPES.items())})
     WITH ORDINALITY AS g ({", ".join(_TYPES)}, position)
{_JOINED}
ORDER BY g.position
ON CONFLICT DO NOTHING
RETURNING number, queue_id, priority, blocked, scheduled_at, due_at, created_at,
          program_id, overlap_key, idempotency_key, retry_of_id
"""
KEEP_CONTEXT = "INSERT INTO jobsite_capturedcontext (key, content) VALUES (%s, %s::jsonb) ON CONFLICT DO NOTHING"


# One job that is dispatched at once: the insert, with the look at the queue of dispatch's fast path. Where the window
# has room and nothing better waits, the job is inserted as QUEUED: no second look, no update, and one commit, not two.
INSERT_ONE = f"""
WITH j AS MATERIALIZED (
    SELECT g.*, p.queue_id, {_PRIORITY} AS priority, c.key AS context_id,
           {_SCHEDULED} AS scheduled_at, {_DUE} AS due_at,
           {lanes.rank(_DUE, _PRIORITY)} AS rank,
           {_BLOCKED} AS blocked,
           -- It will have the greatest number.
           'PENDING' AS status, {2**63 - 1} AS number, false AS alone, 0 AS losses, NULL AS parent_id
    FROM (SELECT {", ".join(f"%({name})s::{type_} AS {name}" for name, type_ in _TYPES.items())}) AS g
    {_JOINED}
), look AS MATERIALIZED (
    {LOOK.format(job="j")}
), inserted AS (
    INSERT INTO jobsite_job (
        {_COLUMNS},
        status, queued_at)
    SELECT j.tenant_id, j.program_id, j.queue_id, j.trigger, j.priority, j.parameters::jsonb, j.context_id,
           j.scheduled_at, j.due_at, j.rank, j.blocked,
           CASE WHEN j.hold_by IS NOT NULL THEN clock_timestamp() END, coalesce(j.hold_by, ''), j.hold_reason,
           j.overlap_policy, j.overlap_key, j.idempotency_key, j.fingerprint, j.retry_of, j.engine, j.has_secrets,
           j.notify, clock_timestamp(),
           CASE WHEN goes THEN 'QUEUED' ELSE 'PENDING' END, CASE WHEN goes THEN clock_timestamp() END
    FROM j LEFT JOIN look ON true
    CROSS JOIN LATERAL (SELECT slots > queued AND NOT is_behind AS goes) decided
    ON CONFLICT DO NOTHING
    RETURNING number, queue_id, tenant_id, priority, blocked, scheduled_at, due_at, created_at, status
)
SELECT 0, j.number, j.queue_id, j.priority, j.blocked, j.scheduled_at, j.due_at, j.created_at,
       look.queue, look.timeout_seconds, j.status = 'QUEUED',
       -- Whether it waits for the finish of a job that is QUEUED, and that will see this one.
       CASE WHEN j.status = 'PENDING' AND queued >= greatest(slots, 1) THEN {IS_AWAKE} ELSE false END
FROM inserted j LEFT JOIN look ON true
"""


@dataclass(frozen=True)
class Offered(Inserted):
    """A new job, QUEUED, or PENDING: expected where a job that is QUEUED now will dispatch it with its finish.

    Of a job that does not wait for its turn (held, future, paused) the queue was not looked at.
    """

    queue: str
    timeout_seconds: float
    is_queued: bool
    is_expected: bool


@failpoint("submit", fails_with=OperationalError)
def insert_and_offer(cursor: Cursor, job: NewJob, *, lock_seconds: float) -> Offered | None:
    """Insert one job, outside any transaction, as QUEUED if its queue's window has room for it.

    Returns None where nothing was inserted: for the reasons of `insert`, or because its context was never used before.
    """
    values = dict(zip(_TYPES, _values(job), strict=True)) | look_values(lock_seconds)
    row = execute(cursor, INSERT_ONE, values).fetchone()
    return Offered(*row) if row is not None else None


def _values(job: NewJob) -> tuple[object, ...]:
    """In the order of _TYPES."""
    return (
        job.tenant_id, job.program_id, job.program_version, str(job.trigger), job.parameters, job.context.key,
        job.priority, job.scheduled_at, job.hold_by, job.hold_reason, str(job.overlap_policy), job.overlap_key,
        job.idempotency_key, job.fingerprint, job.retry_of, job.engine, job.has_secrets, job.notify,
    )  # fmt: skip


def insert(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Insert the jobs, and with them their deliveries, in the caller's transaction.

    Those that a unique key refuses are missing from the answer, and nothing is raised. So are those whose program was
    changed or deleted since they were validated.
    """
    [inserted] = insert_all(cursor, [jobs])
    return inserted


@failpoint("submit_all", fails_with=OperationalError)
def insert_all(cursor: Cursor, chunks: Iterable[Sequence[NewJob]]) -> list[list[Inserted]]:
    """`insert` for each chunk, while the next is made. The iterator of chunks must not use the connection."""
    begun: list[tuple[Cursor, Sequence[NewJob]]] = []
    with pipelined(cursor) as new_cursor:
        for jobs in chunks:
            begun.append((new_cursor(), jobs))
            _begin(*begun[-1])
    return [_complete(*one) for one in begun]


def _complete(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    placed = _placed_anyhow(cursor, jobs)
    if notifying := [one.number for one in placed if jobs[one.position].notifies]:
        deliveries.submitted(cursor, notifying)
    return placed


def _placed_anyhow(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    placed = _answer(cursor, jobs)
    if len(placed) == len(jobs):
        return placed
    # Mostly the first jobs of a principal, whose context is not stored yet. What a unique key refuses is refused again.
    there = {one.position for one in placed}
    missing = [position for position in range(len(jobs)) if position not in there]
    for context in {jobs[position].context for position in missing}:
        cursor.execute(KEEP_CONTEXT, [context.key, context.content])
    _begin(cursor, [jobs[position] for position in missing])
    more = _answer(cursor, [jobs[position] for position in missing])
    return sorted([*placed, *(replace(one, position=missing[one.position]) for one in more)], key=_position)


def _position(one: Inserted) -> int:
    return one.position


def _begin(cursor: Cursor, jobs: Sequence[NewJob]) -> None:
    columns = map(list, zip(*map(_values, jobs), strict=True))
    cursor.execute(INSERT, dict(zip(_TYPES, columns, strict=True)))


def _answer(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    rows = cursor.fetchall()
    if len(rows) == len(jobs):
        return [Inserted(position, *row[:7]) for position, row in enumerate(rows)]
    return _placed(jobs, rows)


def _placed(jobs: Sequence[NewJob], rows: Sequence[Sequence[Any]]) -> list[Inserted]:
    """The rows with their places in the input, where some jobs have none.

    Both are in the same order, and of two jobs with the same keys the first is the one that was taken.
    """
    placed: list[Inserted] = []
    left = iter(rows)
    row = next(left, None)
    for position, job in enumerate(jobs):
        if row is not None and (job.program_id, job.overlap_key, job.idempotency_key, job.retry_of) == tuple(row[7:]):
            placed.append(Inserted(position, *row[:7]))
            row = next(left, None)
    return placed
