-- A running job makes a child.
-- SPAWN of programs/transitions/spawn.py

INSERT INTO jobsite_job (
    tenant_id, program_id, queue_id, trigger, priority, parameters, context_id, scheduled_at, due_at, rank, blocked,
    overlap_policy, overlap_key, engine, has_secrets, created_at, parent_id, child_key, parent_fence)
SELECT m.tenant_id, p.id, p.queue_id, 'CHILD', g.priority, %(parameters)s::jsonb, m.context_id,
       coalesce(g.at, statement_timestamp()), g.due_at, g.due_at - g.priority * interval '60 seconds',
       CASE WHEN g.at > statement_timestamp() THEN 'SCHEDULED' WHEN p.status = 'PAUSED' THEN 'PAUSED' WHEN %(overlap_policy)s = 'QUEUE' THEN 'OVERLAP' END,
       %(overlap_policy)s, %(overlap_key)s, %(engine)s, %(has_secrets)s, clock_timestamp(),
       m.number, %(child_key)s, m.fence
FROM jobsite_job m
JOIN jobsite_program p ON p.id = %(program)s AND p.tenant_id = m.tenant_id AND p.version = %(version)s
     AND p.deleted_at IS NULL
CROSS JOIN LATERAL (SELECT %(scheduled_at)s::timestamptz AS at,
                           greatest(%(scheduled_at)s::timestamptz, statement_timestamp()) AS due_at,
                           coalesce(%(priority)s::smallint, p.priority) AS priority) g
WHERE m.number = %(parent)s AND m.lock_token = %(token)s AND m.status = 'RUNNING' AND set_config('lock_timeout', '10s', true) = '10s'
ON CONFLICT DO NOTHING
RETURNING number, queue_id, blocked
