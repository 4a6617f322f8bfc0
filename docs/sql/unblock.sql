-- Put the jobs that became due into their lanes.
-- UNBLOCK of programs/transitions/hold.py

WITH due AS MATERIALIZED (
    SELECT j.number, p.status AS program_status FROM jobsite_job j JOIN jobsite_program p ON p.id = j.program_id
    WHERE j.status = 'PENDING' AND j.blocked = 'SCHEDULED' AND j.due_at <= statement_timestamp()
    ORDER BY j.due_at LIMIT 1000 FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE jobsite_job j SET blocked = CASE WHEN due.program_status = 'PAUSED' THEN 'PAUSED' WHEN j.overlap_policy = 'QUEUE' AND j.attempts = 0 THEN 'OVERLAP' END
FROM due WHERE j.number = due.number
RETURNING j.number, j.queue_id, j.blocked IS NULL
