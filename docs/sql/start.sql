-- A job of a group goes on alone: from now on its loss counts.
-- START of programs/transitions/start.py

UPDATE jobsite_job SET started_at = %s WHERE number = %s AND lock_token = %s AND started_at IS NULL
