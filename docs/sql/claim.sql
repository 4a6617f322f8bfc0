-- QUEUED to RUNNING: the jobs of a message; what may not run to PENDING.
-- CLAIM of programs/transitions/claim.py

WITH wanted AS MATERIALIZED (
    SELECT j.number, c.token, p.status AS program_status, p.timeout_seconds,
           t.code AS tenant, p.version AS program_version, (p.max_consecutive_failures IS NOT NULL OR p.notification_group_id IS NOT NULL) AS counts_failures, (p.notification_group_id IS NOT NULL OR j.notify) AS notifies, (p.notification_group_id IS NOT NULL AND EXISTS (
    SELECT FROM jobsite_rule r WHERE r.group_id = p.notification_group_id AND r.event = 'STARTED'
                                     AND r.deleted_at IS NULL AND r.is_active)) AS notifies_start, j.tenant_id,
           p.status <> 'PAUSED' AND t.status = 'ACTIVE' AND q.paused_at IS NULL AND l.paused_at IS NULL
               AND (p.status <> 'TERMINATED' OR j.trigger <> 'AUTOMATIC')
               AND j.due_at <= clock_timestamp() AS may_run,
           p.status = 'TERMINATED' AND j.trigger = 'AUTOMATIC' AS is_over,
           CASE WHEN t.running_quota IS NOT NULL THEN t.running_quota - (SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING') END AS tenant_slots
    FROM unnest(%(numbers)s::bigint[], %(tokens)s::uuid[]) AS c (number, token)
    JOIN jobsite_job j ON j.number = c.number
    JOIN jobsite_program p ON p.id = j.program_id
    JOIN jobsite_tenant t ON t.id = j.tenant_id
    JOIN jobsite_queue q ON q.id = j.queue_id
    LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
    WHERE j.status = %(queued)s AND q.name = ANY(%(queues)s)
          AND (%(exact)s OR (t.running_quota IS NULL
                             AND (SELECT max_running IS NULL FROM jobsite_workermanager WHERE id = %(manager)s)))
    ORDER BY j.number
    FOR NO KEY UPDATE OF j
), room AS MATERIALIZED (
    SELECT CASE WHEN m.max_running IS NULL THEN NULL
                ELSE greatest(0, m.max_running - (SELECT count(*) FROM jobsite_job r JOIN jobsite_worker o ON o.incarnation = r.lock_owner
                    WHERE r.status = 'RUNNING' AND o.manager_id = m.id)) END AS slots
    FROM jobsite_workermanager m WHERE m.id = %(manager)s
), allowed AS MATERIALIZED (
    SELECT number FROM (SELECT number, tenant_slots, row_number() OVER (PARTITION BY tenant_id ORDER BY number) AS place
                        FROM wanted WHERE may_run) w, room
    WHERE tenant_slots IS NULL OR place <= tenant_slots
    ORDER BY number LIMIT (SELECT slots FROM room)
), decided AS MATERIALIZED (
    SELECT wanted.*, allowed.number IS NOT NULL AS runs FROM wanted LEFT JOIN allowed USING (number)
), moved AS (
    UPDATE jobsite_job j
    SET status = CASE WHEN runs THEN 'RUNNING' WHEN is_over THEN 'CANCELED' ELSE 'PENDING' END,
        finished_at = CASE WHEN is_over THEN clock_timestamp() END,
        cancel_requested_at = CASE WHEN is_over THEN clock_timestamp() ELSE j.cancel_requested_at END,
        cancel_requested_by = CASE WHEN is_over THEN 'system' ELSE j.cancel_requested_by END,
        cancel_reason = CASE WHEN is_over THEN 'its program is terminated' ELSE j.cancel_reason END,
        lock_token = CASE WHEN runs THEN decided.token END,
        lock_owner = CASE WHEN runs THEN %(owner)s::uuid END,
        lock_expires_at = CASE WHEN runs THEN clock_timestamp() + %(lock)s * interval '1 second' END,
        stuck_at = CASE WHEN runs THEN clock_timestamp() + (decided.timeout_seconds + 10) * interval '1 second' END,
        fence = j.fence + runs::integer,
        claimed_at = CASE WHEN runs THEN clock_timestamp() ELSE j.claimed_at END,
        started_at = CASE WHEN NOT runs THEN j.started_at WHEN %(alone)s THEN clock_timestamp() END,
        external_id = CASE WHEN runs THEN %(message)s::uuid ELSE j.external_id END,
        progress = CASE WHEN runs THEN NULL ELSE j.progress END,
        current_step = CASE WHEN runs THEN '' ELSE j.current_step END,
        queued_at = CASE WHEN runs THEN j.queued_at END,
        blocked = CASE WHEN NOT runs AND NOT is_over THEN CASE WHEN j.due_at > clock_timestamp() THEN 'SCHEDULED' WHEN decided.program_status = 'PAUSED' THEN 'PAUSED' END END
    FROM decided
    WHERE j.number = decided.number AND j.status = %(queued)s
    RETURNING decided.runs, decided.is_over, j.number AS number, decided.token, j.fence AS fence, j.attempts AS attempts, j.losses AS losses, j.returns AS returns, j.tenant_id AS tenant_id, decided.tenant, j.program_id AS program_id, decided.program_version, decided.counts_failures, decided.notifies, decided.notifies_start, j.overlap_policy = 'QUEUE' AS holds_key, j.queue_id AS queue_id, j.parameters AS parameters, j.context_id AS context_key, j.claimed_at AS claimed_at, j.has_secrets AS has_secrets, j.parent_id AS parent_id, j.parked_fence AS parked_fence, j.context_id, j.notify
), over AS (
    SELECT number, tenant_id, program_id, context_id, notify, fence, 'CANCELED' AS target FROM moved WHERE is_over
), happened AS (
    SELECT m.tenant_id, p.notification_group_id AS group_id,
           CASE m.target WHEN 'PENDING' THEN 'RETRYING' ELSE m.target END AS event,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['COMPLETED', 'COMPLETED+' || 'NORMAL']
                         WHEN 'FAILED' THEN ARRAY['FAILED', 'COMPLETED+ERROR'] WHEN 'PENDING' THEN ARRAY['RETRYING']
                         ELSE ARRAY[m.target] END AS names,
           CASE m.target WHEN 'COMPLETED' THEN 'RECOVERED' END AS recovery,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['FAILED', 'COMPLETED+ERROR'] END AS recovered,
           concat('job ', m.number, ' ', m.target, CASE m.target WHEN 'PENDING' THEN ' ' || m.fence END) AS key,
           'program ' || p.id AS source, m.number AS job_number, p.id AS program_id, NULL::bigint AS schedule_id,
           m.context_id AS context, NULL::bigint AS user_id,
           m.notify AND m.target IN ('COMPLETED', 'FAILED', 'CANCELED') AS notify,
           p.scope = 'SYSTEM' AND m.target IN ('COMPLETED', 'FAILED') AS alerts,
           CASE m.target WHEN 'COMPLETED' THEN 1
                         ELSE 1 END AS in_a_row,
           '{}'::jsonb AS details, NULL::bigint AS only_rule, False AS hinted
    FROM over m
    JOIN jobsite_program p ON p.id = m.program_id
         AND (p.notification_group_id IS NOT NULL OR m.notify OR p.scope = 'SYSTEM')
    
    WHERE m.target <> 'WAITING' AND (m.target <> 'PENDING' OR false)
    
), deliveries AS (
    SELECT one.id FROM happened h
    CROSS JOIN LATERAL jobsite_write_deliveries(
        tenant => h.tenant_id, to_group => h.group_id,
        event => h.event, names => h.names, recovery => h.recovery, recovered => h.recovered,
        key => h.key, source => h.source,
        job => h.job_number, program => h.program_id, schedule => h.schedule_id,
        context => h.context, submitter => h.user_id, notify => h.notify, alerts => h.alerts,
        in_a_row => h.in_a_row, details => h.details, only_rule => h.only_rule, hinted => h.hinted
    ) AS one (id)
    WHERE h.notify OR h.alerts OR EXISTS (SELECT FROM jobsite_rule r WHERE r.group_id = h.group_id AND r.deleted_at IS NULL AND r.is_active AND r.event = ANY(h.names))
          OR (h.recovered IS NOT NULL AND EXISTS (SELECT FROM jobsite_rule r WHERE r.group_id = h.group_id AND r.deleted_at IS NULL AND r.is_active AND r.on_recovery AND r.event = ANY(h.recovered)))
)
SELECT number, token, fence, attempts, losses, returns, tenant_id, tenant, program_id, program_version, counts_failures, notifies, notifies_start, holds_key, queue_id, parameters, context_key, claimed_at, has_secrets, parent_id, parked_fence
FROM (SELECT count(*) FROM deliveries) AS read LEFT JOIN moved ON runs ORDER BY number
