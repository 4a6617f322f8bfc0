"""Insert jobs as PENDING."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.utils import OperationalError

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from programs.lifecycle import Overlap, Trigger
from programs.principals import Captured


@dataclass(frozen=True)
class NewJob:
    """A job to insert; every value is validated already, by the program in this version where one is given."""

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


@dataclass(frozen=True)
class Inserted:
    """What the database made of a new job: `position` is its place in the input."""

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
# Rows are numbered, and come back, in the order of the input: nothing is kept aside to join them again, which cost
# twice as much as the insert itself. A context is looked up, not written: nearly always it is there.
INSERT = """
INSERT INTO jobsite_job (
    tenant_id, program_id, queue_id, trigger, priority, parameters, context_id,
    scheduled_at, due_at, rank, blocked, hold_at, hold_by, hold_reason,
    overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of_id, engine, created_at)
SELECT g.tenant_id, p.id, p.queue_id, g.trigger, coalesce(g.priority, p.priority), g.parameters::jsonb, c.key,
       coalesce(g.scheduled_at, statement_timestamp()), greatest(g.scheduled_at, statement_timestamp()),
       greatest(g.scheduled_at, statement_timestamp()) - coalesce(g.priority, p.priority) * interval '60 seconds',
       CASE WHEN g.hold_by IS NOT NULL THEN 'HELD'
            WHEN g.scheduled_at > statement_timestamp() THEN 'SCHEDULED'
            WHEN p.status = 'PAUSED' THEN 'PAUSED' END,
       CASE WHEN g.hold_by IS NOT NULL THEN clock_timestamp() END, coalesce(g.hold_by, ''), g.hold_reason,
       g.overlap_policy, g.overlap_key, g.idempotency_key, g.fingerprint, g.retry_of, g.engine, clock_timestamp()
FROM unnest(
        %(tenant_id)s::bigint[], %(program_id)s::bigint[], %(program_version)s::integer[], %(trigger)s::text[],
        %(parameters)s::text[], %(context)s::uuid[], %(priority)s::smallint[], %(scheduled_at)s::timestamptz[],
        %(hold_by)s::text[], %(hold_reason)s::text[], %(overlap_policy)s::text[], %(overlap_key)s::text[],
        %(idempotency_key)s::text[], %(fingerprint)s::text[], %(retry_of)s::bigint[], %(engine)s::text[]
    ) WITH ORDINALITY AS g (
        tenant_id, program_id, program_version, trigger, parameters, context, priority, scheduled_at, hold_by,
        hold_reason, overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of, engine, position
    )
JOIN jobsite_program p ON p.id = g.program_id AND p.version = coalesce(g.program_version, p.version)
     AND p.deleted_at IS NULL AND (p.status <> 'TERMINATED' OR g.trigger <> 'AUTOMATIC')
JOIN jobsite_capturedcontext c ON c.key = g.context
ORDER BY g.position
ON CONFLICT DO NOTHING
RETURNING number, queue_id, priority, blocked, scheduled_at, due_at, created_at,
          program_id, overlap_key, idempotency_key, retry_of_id
"""
KEEP_CONTEXT = "INSERT INTO jobsite_capturedcontext (key, content) VALUES (%s, %s::jsonb) ON CONFLICT DO NOTHING"


@failpoint("submit", fails_with=OperationalError)
def insert(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Insert the jobs; those that a unique key refuses are missing from the answer, and nothing is raised.

    So are those whose program was changed or deleted since they were validated.
    """
    placed = _insert(cursor, jobs)
    if len(placed) == len(jobs):
        return placed
    # The first jobs of a principal: nothing else inserts nothing and has nothing in its way.
    there = {one.position for one in placed}
    missing = [position for position in range(len(jobs)) if position not in there]
    for context in {jobs[position].context for position in missing}:
        cursor.execute(KEEP_CONTEXT, [context.key, context.content])
    more = _insert(cursor, [jobs[position] for position in missing])
    return sorted([*placed, *(replace(one, position=missing[one.position]) for one in more)], key=_position)


def _position(one: Inserted) -> int:
    return one.position


def _insert(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    cursor.execute(
        INSERT,
        {
            "tenant_id": [job.tenant_id for job in jobs],
            "program_id": [job.program_id for job in jobs],
            "program_version": [job.program_version for job in jobs],
            "trigger": [str(job.trigger) for job in jobs],
            "parameters": [job.parameters for job in jobs],
            "context": [job.context.key for job in jobs],
            "priority": [job.priority for job in jobs],
            "scheduled_at": [job.scheduled_at for job in jobs],
            "hold_by": [job.hold_by for job in jobs],
            "hold_reason": [job.hold_reason for job in jobs],
            "overlap_policy": [str(job.overlap_policy) for job in jobs],
            "overlap_key": [job.overlap_key for job in jobs],
            "idempotency_key": [job.idempotency_key for job in jobs],
            "fingerprint": [job.fingerprint for job in jobs],
            "retry_of": [job.retry_of for job in jobs],
            "engine": [job.engine for job in jobs],
        },
    )
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
