-- Lock a manager's row, before a claim under its limit.
-- LOCK_MANAGER of programs/transitions/claim.py

SELECT 1 FROM jobsite_workermanager WHERE id = %s AND max_running IS NOT NULL FOR UPDATE
