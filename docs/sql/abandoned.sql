-- The jobs that a worker holds though their message is gone.
-- ABANDONED of programs/transitions/renew.py

SELECT number, lock_token FROM jobsite_job
WHERE lock_owner = %(owner)s AND status = 'RUNNING' AND NOT external_id = ANY(%(messages)s::uuid[])
