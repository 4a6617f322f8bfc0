-- Delete a batch of a tenant's old jobs, with all that belongs to them.
-- PRUNE of programs/transitions/prune.py

WITH candidate AS MATERIALIZED (
    SELECT number, status, finished_at, created_at, parent_id FROM jobsite_job
    WHERE tenant_id = %(tenant)s AND number > %(after)s ORDER BY number LIMIT %(batch)s
), old AS MATERIALIZED (
    SELECT c.number FROM candidate c
    WHERE c.status IN ('CANCELED', 'COMPLETED', 'FAILED') AND c.finished_at < statement_timestamp() - %(days)s * interval '1 day'
          AND NOT EXISTS (SELECT FROM jobsite_job k WHERE k.parent_id = c.number)
          AND NOT EXISTS (SELECT FROM jobsite_job p WHERE p.number = c.parent_id
                          AND (p.finished_at IS NULL
                               OR p.finished_at >= statement_timestamp() - %(days)s * interval '1 day'))
), unlinked AS (
    UPDATE jobsite_job r SET retry_of_id = NULL FROM old
    WHERE r.retry_of_id = old.number AND NOT EXISTS (SELECT FROM old o WHERE o.number = r.number)
), lines AS (
    DELETE FROM jobsite_joblogentry l USING old WHERE l.job_number = old.number
), deliveries AS (
    DELETE FROM jobsite_delivery d USING old WHERE d.job_number = old.number
), gone AS (
    DELETE FROM jobsite_job j USING old WHERE j.number = old.number RETURNING j.number
)
SELECT (SELECT count(*) FROM gone), max(number), count(*),
       coalesce(max(created_at) >= statement_timestamp() - %(days)s * interval '1 day', true)
FROM candidate
