-- RUNNING to its end, to WAITING, or to PENDING for a retry: the jobs of a group and their attempts.
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
)
SELECT token, NULL FROM moved
