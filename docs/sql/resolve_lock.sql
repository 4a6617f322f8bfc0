-- Lock parents that wait for their children.
-- LOCK of programs/transitions/resolve.py

SELECT j.number FROM jobsite_job j
WHERE j.number = ANY(%(numbers)s) AND j.status = %(waiting)s AND NOT EXISTS (SELECT FROM jobsite_job c
                             WHERE c.parent_id = j.number AND c.parent_id IS NOT NULL AND c.status IN ('PENDING', 'QUEUED', 'RUNNING', 'WAITING'))
ORDER BY j.number FOR NO KEY UPDATE SKIP LOCKED
