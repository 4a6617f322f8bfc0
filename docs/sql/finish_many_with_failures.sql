-- RUNNING to its end, to WAITING, or to PENDING for a retry: the jobs of a group and their attempts, and the program's failures in a row.
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
    FROM 
    (SELECT g.* FROM 
    unnest(%(number)s::bigint[], %(token)s::uuid[], %(status)s::text[], %(outcome)s::text[], %(failure_kind)s::text[], %(result)s::text[], %(error)s::text[], %(traceback)s::text[], %(delay)s::float[], %(counted)s::smallint[], %(returned)s::smallint[], %(progress)s::text[], %(attempt_result)s::text[], %(started_at)s::timestamptz[]) AS g (number, token, status, outcome, failure_kind, result, error, traceback, delay, counted, returned, progress, attempt_result, started_at)
     JOIN jobsite_job j ON j.number = g.number AND j.lock_token = g.token AND j.status = %(running)s
     ORDER BY j.number FOR NO KEY UPDATE OF j) AS g
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
)
SELECT token, NULL FROM moved
