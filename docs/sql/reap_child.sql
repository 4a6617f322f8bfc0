-- RUNNING to PENDING, FAILED or CANCELED: the jobs of a child that died.
-- CHILD of programs/transitions/reap.py

WITH seen AS MATERIALIZED (
    SELECT j.number, j.lock_token, j.lock_owner,
           
CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELED'
     WHEN j.started_at IS NULL THEN 'PENDING'
     WHEN p.on_worker_lost = 'FAIL' OR j.losses - (SELECT count(*) FROM jobsite_jobattempt e
                WHERE e.job_id = j.number AND e.fence <= j.parked_fence AND e.result IN ('LOST', 'CLEARED')) + 1 >= p.max_worker_losses THEN 'FAILED'
     ELSE 'PENDING' END AS target
    FROM jobsite_job j JOIN jobsite_program p ON p.id = j.program_id
    WHERE j.status = 'RUNNING' AND j.lock_owner = %(owner)s AND j.external_id = %(external_id)s
    ORDER BY j.number LIMIT 500 FOR NO KEY UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE jobsite_job j SET
        status = seen.target,
        outcome = CASE WHEN seen.target = 'FAILED' THEN 'ERROR' ELSE 'NORMAL' END,
        failure_kind = CASE WHEN seen.target = 'FAILED' THEN 'WORKER_LOST' END,
        error = CASE WHEN seen.target = 'FAILED' THEN jsonb_build_object('type', 'WorkerLost', 'message', %(message)s::text, 'step', NULL) END,
        needs_review = seen.target = 'FAILED',
        finished_at = CASE WHEN seen.target <> 'PENDING' THEN clock_timestamp() END,
        queued_at = CASE WHEN seen.target = 'PENDING' THEN NULL ELSE j.queued_at END,
        attempts = j.attempts + (j.started_at IS NOT NULL)::integer,
        losses = j.losses + CASE WHEN j.started_at IS NULL THEN 0 ELSE 1 END, alone = true,
        lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL, stuck_at = NULL
    FROM seen
    WHERE j.number = seen.number AND j.status = 'RUNNING' AND j.lock_token = seen.lock_token AND j.lock_owner = %(owner)s AND j.external_id = %(external_id)s
    RETURNING j.number, j.tenant_id, j.program_id, j.context_id, j.notify, j.fence, seen.target, j.queue_id, seen.lock_token AS token, seen.lock_owner,
              j.external_id, j.claimed_at, j.started_at
), attempt AS (
    INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, external_id, claimed_at, started_at,
                                    ended_at, result, error, traceback)
    SELECT m.tenant_id, m.number, m.fence, m.token, coalesce(w.name, ''), m.external_id, m.claimed_at, m.started_at,
           clock_timestamp(), CASE WHEN m.started_at IS NULL THEN 'RETURNED' ELSE %(result)s END, jsonb_build_object('type', 'WorkerLost', 'message', %(message)s::text, 'step', NULL), ''
    FROM moved m LEFT JOIN jobsite_worker w ON w.incarnation = m.lock_owner
), runs AS (
    SELECT number, program_id, target, stretch,
           count(*) FILTER (WHERE target = 'FAILED') OVER (PARTITION BY program_id, stretch ORDER BY number) AS streak
    FROM (SELECT number, program_id, target,
                 count(*) FILTER (WHERE target = 'COMPLETED') OVER (PARTITION BY program_id ORDER BY number) AS stretch
          FROM moved) e
), counted AS (
    UPDATE jobsite_program p
    SET consecutive_failures = CASE WHEN c.has_success THEN c.after ELSE p.consecutive_failures + c.before END,
        status = CASE WHEN (c.peak >= p.max_consecutive_failures
             OR (c.before > 0 AND p.consecutive_failures + c.before >= p.max_consecutive_failures)) THEN 'TERMINATED' ELSE p.status END,
        updated_at = CASE WHEN (c.peak >= p.max_consecutive_failures
             OR (c.before > 0 AND p.consecutive_failures + c.before >= p.max_consecutive_failures)) THEN clock_timestamp() ELSE p.updated_at END
    FROM (SELECT s.program_id, max(s.stretch) > 0 AS has_success, q.status AS status_before,
                 coalesce(max(s.failures) FILTER (WHERE s.stretch = 0), 0) AS before,
                 coalesce(max(s.failures) FILTER (WHERE s.stretch > 0), 0) AS peak,
                 (array_agg(s.failures ORDER BY s.stretch DESC))[1] AS after
          FROM (SELECT program_id, stretch, count(*) FILTER (WHERE target = 'FAILED') AS failures
                FROM runs
                GROUP BY program_id, stretch) s
          JOIN jobsite_program q ON q.id = s.program_id
          GROUP BY s.program_id, q.status ORDER BY s.program_id) c
    WHERE p.id = c.program_id AND (p.max_consecutive_failures IS NOT NULL OR p.notification_group_id IS NOT NULL)
          AND (c.before > 0 OR c.peak > 0 OR (c.has_success AND p.consecutive_failures > 0))
    RETURNING p.id, p.tenant_id, p.code, p.max_consecutive_failures, p.consecutive_failures, p.status,
              c.status_before, c.before, c.has_success
), terminated AS (
    INSERT INTO jobsite_auditentry (tenant_id, actor, door, action, target_type, target, reason, before, after) SELECT tenant_id, 'system', 'worker', 'terminate program', 'program', code, max_consecutive_failures || ' failures in a row', jsonb_build_object('status', status_before), jsonb_build_object('status', status) FROM counted WHERE status = 'TERMINATED' AND status_before <> 'TERMINATED'
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
           CASE m.target WHEN 'COMPLETED' THEN greatest(1, CASE WHEN runs.stretch = 1 THEN p.consecutive_failures + coalesce(counted.before, 0)
                              ELSE 1 END)::integer
                         ELSE CASE WHEN m.target = 'FAILED' THEN (runs.streak + CASE WHEN runs.stretch > 0 OR counted.id IS NULL THEN 0
                                    WHEN counted.has_success THEN p.consecutive_failures
                                    ELSE counted.consecutive_failures - counted.before END)::integer ELSE 1 END END AS in_a_row,
           '{}'::jsonb AS details, NULL::bigint AS only_rule, False AS hinted
    FROM moved m
    JOIN jobsite_program p ON p.id = m.program_id
         AND (p.notification_group_id IS NOT NULL OR m.notify OR p.scope = 'SYSTEM')
    JOIN runs ON runs.number = m.number LEFT JOIN counted ON counted.id = p.id
    WHERE m.target <> 'WAITING' AND (m.target <> 'PENDING' OR m.started_at IS NOT NULL)
    UNION ALL
    SELECT counted.tenant_id, p.notification_group_id, 'PROGRAM_TERMINATED', ARRAY['PROGRAM_TERMINATED'], NULL, NULL,
           concat('program ', p.id, ' PROGRAM_TERMINATED ', clock_timestamp()), 'program ' || p.id, NULL, p.id, NULL,
           NULL, NULL, false, false, counted.consecutive_failures, '{}'::jsonb, NULL, False
    FROM counted JOIN jobsite_program p ON p.id = counted.id
    WHERE counted.status = 'TERMINATED' AND counted.status_before <> 'TERMINATED'
          AND p.notification_group_id IS NOT NULL
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
SELECT number, target, queue_id, tenant_id, (SELECT count(*) FROM deliveries) FROM moved
