-- Write the deliveries about jobs that were submitted.
-- SUBMITTED of programs/sql/deliveries.py

WITH moved AS (
    SELECT number, tenant_id, program_id, context_id, notify, fence, 'SUBMITTED' AS target FROM jobsite_job WHERE number = ANY(%(numbers)s)
), happened AS (
    SELECT m.tenant_id, p.notification_group_id AS group_id,
           CASE m.target WHEN 'PENDING' THEN 'RETRYING' ELSE m.target END AS event,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['COMPLETED', 'COMPLETED+' || 'NORMAL']
                         WHEN 'FAILED' THEN ARRAY['FAILED', 'COMPLETED+ERROR'] WHEN 'PENDING' THEN ARRAY['RETRYING']
                         ELSE ARRAY[m.target] END AS names,
           CASE m.target WHEN 'COMPLETED' THEN 'RECOVERED' END AS recovery,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['FAILED', 'COMPLETED+ERROR'] END AS recovered,
           concat('job ', m.number, ' ', m.target, CASE m.target WHEN 'PENDING' THEN ' ' || m.fence END) AS key,
           'program ' || p.id AS source, m.number AS job_number, p.id AS program_id, NULL::bigint AS schedule_id,
           m.context_id AS context, NULL::bigint AS user_id,
           m.notify AND m.target IN ('COMPLETED', 'FAILED', 'CANCELED') AS notify,
           p.scope = 'SYSTEM' AND m.target IN ('COMPLETED', 'FAILED') AS alerts,
           CASE m.target WHEN 'COMPLETED' THEN 1
                         ELSE 1 END AS in_a_row,
           '{}'::jsonb AS details, NULL::bigint AS only_rule, False AS hinted
    FROM moved m
    JOIN jobsite_program p ON p.id = m.program_id
         AND (p.notification_group_id IS NOT NULL OR m.notify OR p.scope = 'SYSTEM')
    
    WHERE m.target <> 'WAITING' AND (m.target <> 'PENDING' OR false)
    
), deliveries AS (
    SELECT one.id FROM happened h
    CROSS JOIN LATERAL jobsite_write_deliveries(
        tenant => h.tenant_id, to_group => h.group_id,
        event => h.event, names => h.names, recovery => h.recovery, recovered => h.recovered,
        key => h.key, source => h.source,
        job => h.job_number, program => h.program_id, schedule => h.schedule_id,
        context => h.context, submitter => h.user_id, notify => h.notify, alerts => h.alerts,
        in_a_row => h.in_a_row, details => h.details, only_rule => h.only_rule, hinted => h.hinted
    ) AS one (id)
    WHERE h.notify OR h.alerts OR EXISTS (SELECT FROM jobsite_rule r WHERE r.group_id = h.group_id AND r.deleted_at IS NULL AND r.is_active AND r.event = ANY(h.names))
          OR (h.recovered IS NOT NULL AND EXISTS (SELECT FROM jobsite_rule r WHERE r.group_id = h.group_id AND r.deleted_at IS NULL AND r.is_active AND r.on_recovery AND r.event = ANY(h.recovered)))
)
SELECT id FROM deliveries
