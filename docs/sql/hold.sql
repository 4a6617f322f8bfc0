-- Hold a job that is PENDING or QUEUED.
-- HOLD of programs/transitions/hold.py

UPDATE jobsite_job SET status = 'PENDING', queued_at = NULL, blocked = 'HELD',
                       hold_at = clock_timestamp(), hold_by = %(by)s, hold_reason = %(reason)s, hold_until = %(until)s
WHERE number = %(number)s AND tenant_id = %(tenant)s AND status IN ('PENDING', 'QUEUED')
      AND trigger <> 'AUTOMATIC' AND hold_at IS NULL
RETURNING number
