-- RUNNING to its end, to WAITING, or to PENDING for a retry: one job and its attempt, the program's failures in a row, and the deliveries.
-- FINISH of programs/transitions/finish.py

WITH moved AS (
    UPDATE jobsite_job j SET
        status = CASE WHEN g.status IN ('PENDING', 'WAITING') AND j.cancel_requested_at IS NOT NULL
                  THEN 'CANCELED' ELSE g.status END, failure_kind = g.failure_kind,
        outcome = CASE WHEN CASE WHEN g.status IN ('PENDING', 'WAITING') AND j.cancel_requested_at IS NOT NULL
                  THEN 'CANCELED' ELSE g.status END = 'CANCELED' THEN 'NORMAL' ELSE g.outcome END,
        result = g.result::jsonb, error = g.error::jsonb, needs_review = g.status = 'FAILED',
        finished_at = CASE WHEN CASE WHEN g.status IN ('PENDING', 'WAITING') AND j.cancel_requested_at IS NOT NULL
                  THEN 'CANCELED' ELSE g.status END IN ('PENDING', 'WAITING') THEN NULL ELSE clock_timestamp() END,
        started_at = coalesce(j.started_at, g.started_at),
        queued_at = CASE WHEN g.status = 'PENDING' AND j.cancel_requested_at IS NULL THEN NULL ELSE j.queued_at END,
        due_at = CASE WHEN g.status = 'PENDING' AND j.cancel_requested_at IS NULL AND g.delay IS NOT NULL
                THEN statement_timestamp() + g.delay * interval '1 second' ELSE j.due_at END, rank = CASE WHEN g.status = 'PENDING' AND j.cancel_requested_at IS NULL AND g.delay IS NOT NULL
                THEN statement_timestamp() + g.delay * interval '1 second' ELSE j.due_at END - j.priority * interval '60 seconds',
        blocked = CASE WHEN g.status = 'PENDING' AND j.cancel_requested_at IS NULL AND g.delay > 0 THEN 'SCHEDULED' END,
        attempts = j.attempts + g.counted, returns = j.returns + g.returned,
        progress = coalesce(g.progress::jsonb, j.progress),
        parked_fence = CASE WHEN g.attempt_result = 'PARKED' THEN j.fence ELSE j.parked_fence END,
        lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL, stuck_at = NULL
    FROM (SELECT %(number)s::bigint AS number, %(token)s::uuid AS token, %(status)s::text AS status, %(outcome)s::text AS outcome, %(failure_kind)s::text AS failure_kind, %(result)s::text AS result, %(error)s::text AS error, %(traceback)s::text AS traceback, %(delay)s::float AS delay, %(counted)s::smallint AS counted, %(returned)s::smallint AS returned, %(progress)s::text AS progress, %(attempt_result)s::text AS attempt_result, %(started_at)s::timestamptz AS started_at) AS g
    WHERE j.number = g.number AND j.lock_token = g.token AND j.status = %(running)s
    RETURNING j.number, j.tenant_id, j.program_id, j.context_id, j.notify, j.fence, j.status AS target, j.external_id, j.claimed_at, j.started_at,
              g.token, g.attempt_result, j.outcome, j.error, g.traceback
), attempt AS (
    INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, external_id, claimed_at, started_at,
                                    ended_at, result, error, traceback)
    SELECT m.tenant_id, m.number, m.fence, m.token, %(worker)s::text, m.external_id, m.claimed_at, m.started_at,
           clock_timestamp(), m.attempt_result, m.error, m.traceback
    FROM moved m
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
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['COMPLETED', 'COMPLETED+' || m.outcome]
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
           '{}'::jsonb AS details, NULL::bigint AS only_rule, True AS hinted
    FROM moved m
    JOIN jobsite_program p ON p.id = m.program_id
         AND (p.notification_group_id IS NOT NULL OR m.notify OR p.scope = 'SYSTEM')
    JOIN runs ON runs.number = m.number LEFT JOIN counted ON counted.id = p.id
    WHERE m.target <> 'WAITING' AND (m.target <> 'PENDING' OR m.attempt_result IN ('TRANSIENT', 'TIMEOUT'))
    UNION ALL
    SELECT counted.tenant_id, p.notification_group_id, 'PROGRAM_TERMINATED', ARRAY['PROGRAM_TERMINATED'], NULL, NULL,
           concat('program ', p.id, ' PROGRAM_TERMINATED ', clock_timestamp()), 'program ' || p.id, NULL, p.id, NULL,
           NULL, NULL, false, false, counted.consecutive_failures, '{}'::jsonb, NULL, True
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
SELECT token, NULL FROM moved UNION ALL SELECT NULL, id FROM deliveries
