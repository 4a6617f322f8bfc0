-- QUEUED to PENDING: jobs whose message is lost.
-- REQUEUE of programs/transitions/dispatch.py

WITH lost AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE queue_id = %(queue)s AND status = 'QUEUED'
          AND queued_at <= clock_timestamp() - %(older_than)s * interval '1 second'
    ORDER BY number LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET status = 'PENDING', queued_at = NULL FROM lost WHERE j.number = lost.number
RETURNING j.number
