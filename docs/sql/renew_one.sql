-- Prolong one lock that renew passed over.
-- RENEW_ONE of programs/transitions/renew.py

UPDATE jobsite_job SET lock_expires_at = clock_timestamp() + %(lock)s * interval '1 second'
WHERE number = %(number)s AND lock_token = %(token)s AND status = 'RUNNING' AND set_config('lock_timeout', '300ms', true) = '300ms'
RETURNING number
