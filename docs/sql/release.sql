-- End the hold of a job.
-- RELEASE of programs/transitions/hold.py

UPDATE jobsite_job j SET 
    hold_at = NULL, hold_by = '', hold_reason = '', hold_until = NULL,
    blocked = CASE WHEN j.due_at > clock_timestamp() THEN 'SCHEDULED' WHEN p.status = 'PAUSED' THEN 'PAUSED' WHEN j.overlap_policy = 'QUEUE' AND j.attempts = 0 THEN 'OVERLAP' END

FROM jobsite_program p
WHERE j.number = %(number)s AND j.tenant_id = %(tenant)s AND j.blocked = 'HELD' AND p.id = j.program_id
RETURNING j.number
