-- Let in the next job of each QUEUE key that these jobs held.
-- OF_JOBS of programs/transitions/overlap.py

WITH keys AS MATERIALIZED (
    SELECT DISTINCT program_id, overlap_key FROM jobsite_job
    WHERE number = ANY(%(numbers)s) AND overlap_policy = 'QUEUE'
)

, first AS MATERIALIZED (
    SELECT w.number FROM keys CROSS JOIN LATERAL (
        SELECT number FROM jobsite_job j
        WHERE j.program_id = keys.program_id AND j.overlap_key = keys.overlap_key AND j.overlap_policy = 'QUEUE' AND j.status = 'PENDING' AND j.blocked = 'OVERLAP'
        ORDER BY j.scheduled_at, j.number LIMIT 1) w
    WHERE 
    NOT EXISTS (SELECT FROM jobsite_job a
                WHERE a.program_id = keys.program_id AND a.overlap_key = keys.overlap_key AND a.overlap_policy = 'QUEUE'
                      AND (a.status IN ('QUEUED', 'RUNNING', 'WAITING') OR (a.status = 'PENDING' AND a.attempts > 0))
                      )
    AND NOT EXISTS (SELECT FROM jobsite_job a
                    WHERE a.program_id = keys.program_id AND a.overlap_key = keys.overlap_key AND a.overlap_policy = 'QUEUE' AND a.status = 'PENDING' AND a.blocked IS NULL
                          )

)
UPDATE jobsite_job j SET blocked = NULL FROM first
WHERE j.number = first.number AND j.status = 'PENDING' AND j.blocked = 'OVERLAP'
RETURNING j.number, j.queue_id
