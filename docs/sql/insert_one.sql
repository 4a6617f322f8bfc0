-- Submit one job, QUEUED at once where that can be.
-- INSERT_ONE of programs/transitions/submit.py

WITH j AS MATERIALIZED (
    SELECT g.*, p.queue_id, coalesce(g.given_priority, p.priority) AS priority, c.key AS context_id,
           coalesce(g.given_at, statement_timestamp()) AS scheduled_at, greatest(g.given_at, statement_timestamp()) AS due_at,
           greatest(g.given_at, statement_timestamp()) - coalesce(g.given_priority, p.priority) * interval '60 seconds' AS rank,
           CASE WHEN g.hold_by IS NOT NULL THEN 'HELD' WHEN g.given_at > statement_timestamp() THEN 'SCHEDULED' WHEN p.status = 'PAUSED' THEN 'PAUSED' WHEN g.overlap_policy = 'QUEUE' THEN 'OVERLAP' END AS blocked,
           -- It will have the greatest number.
           'PENDING' AS status, 9223372036854775807 AS number, false AS alone, 0 AS losses, NULL AS parent_id
    FROM (SELECT %(tenant_id)s::bigint AS tenant_id, %(program_id)s::bigint AS program_id, %(program_version)s::integer AS program_version, %(trigger)s::text AS trigger, %(parameters)s::text AS parameters, %(context)s::uuid AS context, %(given_priority)s::smallint AS given_priority, %(given_at)s::timestamptz AS given_at, %(hold_by)s::text AS hold_by, %(hold_reason)s::text AS hold_reason, %(overlap_policy)s::text AS overlap_policy, %(overlap_key)s::text AS overlap_key, %(idempotency_key)s::text AS idempotency_key, %(fingerprint)s::text AS fingerprint, %(retry_of)s::bigint AS retry_of, %(engine)s::text AS engine, %(has_secrets)s::boolean AS has_secrets, %(notify)s::boolean AS notify) AS g
    JOIN jobsite_program p ON p.id = g.program_id AND p.version = coalesce(g.program_version, p.version)
     AND p.deleted_at IS NULL AND (p.status <> 'TERMINATED' OR g.trigger <> 'AUTOMATIC')
JOIN jobsite_capturedcontext c ON c.key = g.context
), look AS MATERIALIZED (
    
SELECT gate.name AS queue, p.timeout_seconds,
       -- Asked of the first one, since EXISTS might read the whole table where most jobs are PENDING.
       coalesce((SELECT (b.rank, b.number) < (j.rank, j.number) FROM jobsite_job b
                 WHERE b.queue_id = j.queue_id AND b.tenant_id = j.tenant_id
                       AND b.status = 'PENDING' AND b.blocked IS NULL
                 ORDER BY b.rank, b.number LIMIT 1), false) AS is_behind,
       CASE WHEN CASE WHEN t.running_quota IS NOT NULL
            THEN t.running_quota - (SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING')
                 - (SELECT count(*) FROM jobsite_job q
                    WHERE q.queue_id = gate.id AND q.status = 'QUEUED' AND q.tenant_id = t.id) END <= 0 THEN 0 WHEN NOT ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN CASE WHEN workers.count = 0 THEN %(unattended)s ELSE workers.idle + 1 END
            WHEN 
    EXISTS (SELECT FROM jobsite_worker w
            JOIN jobsite_job r ON r.lock_owner = w.incarnation AND r.status = 'RUNNING' AND r.queue_id = gate.id
            JOIN jobsite_program s ON s.id = r.program_id
            WHERE w.status = 'ACTIVE' AND gate.name = ANY(w.queues)
                  AND r.claimed_at > clock_timestamp() - %(brisk)s * interval '1 second'
                  AND (s.travels_in_groups AND s.measured_runs >= 20 AND s.mean_seconds <= 0.004)) THEN 0 ELSE least(CASE WHEN workers.count = 0 THEN %(unattended)s ELSE workers.idle + 1 END, 1) END AS slots,
       (SELECT count(*) FROM jobsite_job o WHERE o.queue_id = gate.id AND o.status = 'QUEUED') AS queued
FROM j j
JOIN jobsite_queue gate ON gate.id = j.queue_id
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
CROSS JOIN LATERAL (
    SELECT count(*) AS count, coalesce(sum(w.children), 0)::integer AS children,
           coalesce(sum(CASE WHEN m.max_running IS NULL THEN greatest(w.children - own.running, 0)
                ELSE least(greatest(w.children - own.running, 0),
                           greatest(m.max_running - (SELECT count(*) FROM jobsite_job r JOIN jobsite_worker o ON o.incarnation = r.lock_owner
                    WHERE r.status = 'RUNNING' AND o.manager_id = m.id), 0)) END), 0) AS idle
    FROM jobsite_worker w
    JOIN jobsite_workermanager m ON m.id = w.manager_id
    CROSS JOIN LATERAL (SELECT count(DISTINCT external_id) AS running FROM jobsite_job
                        WHERE lock_owner = w.incarnation AND status = 'RUNNING') own
    WHERE w.status = 'ACTIVE' AND gate.name = ANY(w.queues)
          AND w.last_seen_at > clock_timestamp() - %(lock)s * interval '1 second'
) workers
WHERE j.status = %(pending)s AND j.blocked IS NULL
      AND gate.paused_at IS NULL AND t.status = 'ACTIVE' AND l.paused_at IS NULL

), inserted AS (
    INSERT INTO jobsite_job (
        tenant_id, program_id, queue_id, trigger, priority, parameters, context_id,
    scheduled_at, due_at, rank, blocked, hold_at, hold_by, hold_reason,
    overlap_policy, overlap_key, idempotency_key, fingerprint, retry_of_id, engine, has_secrets, notify, created_at,
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
       CASE WHEN j.status = 'PENDING' AND queued >= greatest(slots, 1) THEN jobsite_lane_stays_awake(j.queue_id, j.tenant_id) ELSE false END
FROM inserted j LEFT JOIN look ON true
