"""Insert jobs as PENDING."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobsite.database import Cursor
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


# One statement for one job or ten thousand. ON CONFLICT without a target covers every unique key at once
# (idempotency, overlap, retry) and does not abort the caller's transaction; the caller finds out which.
# due_at starts at now for a past scheduled_at, so that an old date does not jump the queue.
INSERT = """
WITH kept AS (
    INSERT INTO jobsite_capturedcontext (key, content)
    SELECT * FROM unnest(%(context_keys)s::uuid[], %(context_contents)s::jsonb[])
    ON CONFLICT DO NOTHING
), given AS MATERIALIZED (
    SELECT g.position, p.queue_id, g.tenant_id, p.id AS program_id, g.trigger, g.parameters, g.context,
           coalesce(g.priority, p.priority) AS priority,
           coalesce(g.scheduled_at, statement_timestamp()) AS scheduled_at,
           greatest(g.scheduled_at, statement_timestamp()) AS due_at,
           CASE WHEN g.hold_by IS NOT NULL THEN 'HELD'
                WHEN g.scheduled_at > statement_timestamp() THEN 'SCHEDULED'
                WHEN p.status = 'PAUSED' THEN 'PAUSED' END AS blocked,
           g.hold_by, g.hold_reason, g.overlap_policy, g.overlap_key, g.idempotency_key, g.fingerprint,
           g.retry_of, g.engine
    FROM unnest(
            %(tenant_id)s::bigint[], %(program_id)s::bigint[], %(trigger)s::text[], %(parameters)s::text[],
            %(context)s::uuid[], %(priority)s::smallint[], %(scheduled_at)s::timestamptz[], %(hold_by)s::text[],
            %(hold_reason)s::text[], %(overlap_policy)s::text[], %(overlap_key)s::text[],
            %(idempotency_key)s::text[], %(fingerprint)s::text[], %(retry_of)s::bigint[],
            %(engine)s::text[], %(program_version)s::integer[]
        ) WITH ORDINALITY AS g (
            tenant_id, program_id, trigger, parameters, context, priority, scheduled_at, hold_by, hold_reason,
            overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of, engine, program_version, position
        )
    JOIN jobsite_program p ON p.id = g.program_id AND p.version = coalesce(g.program_version, p.version)
         AND p.deleted_at IS NULL AND (p.status <> 'TERMINATED' OR g.trigger <> 'AUTOMATIC')
), numbered AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('jobsite_job', 'number')) AS number, ordered.*
    FROM (SELECT * FROM given ORDER BY position) AS ordered
), inserted AS (
    INSERT INTO jobsite_job (
        number, tenant_id, program_id, queue_id, trigger, priority, parameters, context_id,
        scheduled_at, due_at, rank, blocked, hold_at, hold_by, hold_reason,
        overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of_id, engine, created_at)
    SELECT number, tenant_id, program_id, queue_id, trigger, priority, parameters::jsonb, context,
           scheduled_at, due_at, due_at - priority * interval '60 seconds', blocked,
           CASE WHEN hold_by IS NOT NULL THEN clock_timestamp() END, coalesce(hold_by, ''), hold_reason,
           overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of, engine,
           clock_timestamp()
    FROM numbered
    ON CONFLICT DO NOTHING
    RETURNING number, queue_id, priority, blocked, scheduled_at, due_at, created_at
)
SELECT numbered.position - 1, inserted.*
FROM inserted JOIN numbered USING (number)
ORDER BY 1
"""


def insert(cursor: Cursor, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Insert the jobs; those that a unique key refuses are missing from the answer, and nothing is raised.

    So are those whose program was changed or deleted since they were validated.
    """
    contexts = {job.context.key: job.context.content for job in jobs}
    cursor.execute(
        INSERT,
        {
            "tenant_id": [job.tenant_id for job in jobs],
            "program_id": [job.program_id for job in jobs],
            "trigger": [str(job.trigger) for job in jobs],
            "parameters": [job.parameters for job in jobs],
            "context": [job.context.key for job in jobs],
            "context_keys": list(contexts),
            "context_contents": list(contexts.values()),
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
            "program_version": [job.program_version for job in jobs],
        },
    )
    return [Inserted(*row) for row in cursor.fetchall()]
