-- Submit jobs, many or within a transaction.
-- INSERT of programs/transitions/submit.py

INSERT INTO jobsite_job (
    tenant_id, program_id, queue_id, trigger, priority, parameters, context_id,
    scheduled_at, due_at, rank, blocked, hold_at, hold_by, hold_reason,
    overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of_id, engine, has_secrets, notify, created_at)
SELECT g.tenant_id, p.id, p.queue_id, g.trigger, coalesce(g.given_priority, p.priority), g.parameters::jsonb, c.key,
       coalesce(g.given_at, statement_timestamp()), greatest(g.given_at, statement_timestamp()),
       greatest(g.given_at, statement_timestamp()) - coalesce(g.given_priority, p.priority) * interval '60 seconds',
       CASE WHEN g.hold_by IS NOT NULL THEN 'HELD' WHEN g.given_at > statement_timestamp() THEN 'SCHEDULED' WHEN p.status = 'PAUSED' THEN 'PAUSED' WHEN g.overlap_policy = 'QUEUE' THEN 'OVERLAP' END,
       CASE WHEN g.hold_by IS NOT NULL THEN clock_timestamp() END, coalesce(g.hold_by, ''), g.hold_reason,
       g.overlap_policy, g.overlap_key, g.idempotency_key, g.fingerprint, g.retry_of, g.engine, g.has_secrets,
       g.notify, clock_timestamp()
FROM unnest(%(tenant_id)s::bigint[], %(program_id)s::bigint[], %(program_version)s::integer[], %(trigger)s::text[], %(parameters)s::text[], %(context)s::uuid[], %(given_priority)s::smallint[], %(given_at)s::timestamptz[], %(hold_by)s::text[], %(hold_reason)s::text[], %(overlap_policy)s::text[], %(overlap_key)s::text[], %(idempotency_key)s::text[], %(fingerprint)s::text[], %(retry_of)s::bigint[], %(engine)s::text[], %(has_secrets)s::boolean[], %(notify)s::boolean[])
     WITH ORDINALITY AS g (tenant_id, program_id, program_version, trigger, parameters, context, given_priority, given_at, hold_by, hold_reason, overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of, engine, has_secrets, notify, position)
JOIN jobsite_program p ON p.id = g.program_id AND p.version = coalesce(g.program_version, p.version)
     AND p.deleted_at IS NULL AND (p.status <> 'TERMINATED' OR g.trigger <> 'AUTOMATIC')
JOIN jobsite_capturedcontext c ON c.key = g.context
ORDER BY g.position
ON CONFLICT DO NOTHING
RETURNING number, queue_id, priority, blocked, scheduled_at, due_at, created_at,
          program_id, overlap_key, idempotency_key, retry_of_id
