-- Lock tenants' rows, before a claim under their quotas.
-- LOCK_TENANTS of programs/transitions/claim.py

SELECT 1 FROM jobsite_tenant
WHERE running_quota IS NOT NULL AND id IN (SELECT tenant_id FROM jobsite_job WHERE number = ANY(%s))
ORDER BY id FOR NO KEY UPDATE
