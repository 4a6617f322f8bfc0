-- Open the lanes of these jobs, so that dispatch looks there.
-- WAKE of programs/transitions/dispatch.py

INSERT INTO jobsite_lane (queue_id, tenant_id, is_waiting)
SELECT DISTINCT queue_id, tenant_id, true FROM jobsite_job
WHERE number = ANY(%s) AND status = 'PENDING' AND blocked IS NULL
ORDER BY 1, 2
ON CONFLICT (queue_id, tenant_id) DO UPDATE SET is_waiting = true, wakes = jobsite_lane.wakes + 1
