-- PENDING to QUEUED: one new job, on the fast path.
-- DISPATCH_ONE of programs/transitions/dispatch.py

UPDATE jobsite_job SET status = 'QUEUED', queued_at = clock_timestamp()
WHERE number = %(number)s AND status = %(pending)s AND blocked IS NULL AND set_config('synchronous_commit', 'off', true) = 'off'
RETURNING number
