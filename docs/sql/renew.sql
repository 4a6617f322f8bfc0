-- Prolong the locks of a worker's jobs whose message it still holds.
-- RENEW of programs/transitions/renew.py

WITH held AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE lock_owner = %(owner)s AND status = 'RUNNING' AND external_id = ANY(%(messages)s::uuid[])
    ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET lock_expires_at = clock_timestamp() + %(lock)s * interval '1 second'
FROM held WHERE j.number = held.number AND j.status = 'RUNNING' AND j.lock_owner = %(owner)s
RETURNING j.number
