-- WAITING to its end or to PENDING: parents without an open child.
-- RESOLVE of programs/transitions/resolve.py

WITH looked AS MATERIALIZED (
    SELECT j.number, children.count, children.failed, children.named, p.on_child_failure,
           CASE WHEN children.failed > 0 AND p.on_child_failure = 'FAIL' THEN 'FAILED'
                WHEN j.parked_fence = j.fence THEN 'PENDING' ELSE 'COMPLETED' END AS target
    FROM jobsite_job j
    JOIN jobsite_program p ON p.id = j.program_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, count(*) FILTER (WHERE c.status <> 'COMPLETED') AS failed,
               (array_agg(format('job %%s %%s', c.number, c.status) ORDER BY c.number)
                    FILTER (WHERE c.status <> 'COMPLETED'))[1:3] AS named
        FROM jobsite_job c WHERE c.parent_id = j.number AND c.parent_id IS NOT NULL) children
    WHERE j.number = ANY(%(numbers)s) AND j.status = %(waiting)s AND NOT EXISTS (SELECT FROM jobsite_job c
                             WHERE c.parent_id = j.number AND c.parent_id IS NOT NULL AND c.status IN ('PENDING', 'QUEUED', 'RUNNING', 'WAITING'))
    ORDER BY j.number
), moved AS (
    UPDATE jobsite_job j SET
        status = l.target,
        outcome = CASE WHEN l.target = 'FAILED' THEN 'ERROR' WHEN l.target = 'PENDING' THEN 'NORMAL'
                       WHEN l.failed > 0 AND l.on_child_failure = 'WARN' THEN 'WARNING' ELSE j.outcome END,
        failure_kind = CASE WHEN l.target = 'FAILED' THEN 'PERMANENT' END,
        error = CASE WHEN l.target = 'FAILED' THEN jsonb_build_object(
            'type', 'ChildrenFailed', 'step', NULL, 'message',
            format('%%s of %%s children did not complete: %%s', l.failed, l.count, array_to_string(l.named, ', '))
            || CASE WHEN l.failed > 3 THEN format(' and %%s more', l.failed - 3) ELSE '' END) END,
        needs_review = l.target = 'FAILED',
        finished_at = CASE WHEN l.target <> 'PENDING' THEN clock_timestamp() END,
        queued_at = CASE WHEN l.target <> 'PENDING' THEN j.queued_at END,
        alone = true
    FROM looked l WHERE j.number = l.number AND j.status = %(waiting)s
    RETURNING j.number, j.tenant_id, j.program_id, j.context_id, j.notify, j.fence, j.status AS target, j.queue_id, j.parent_id,
              j.overlap_policy = 'QUEUE' AS holds_key, j.outcome
), runs AS (
    SELECT number, program_id, target, stretch,
           count(*) FILTER (WHERE target = 'FAILED') OVER (PARTITION BY program_id, stretch ORDER BY number) AS streak
    FROM (SELECT number, program_id, target,
                 count(*) FILTER (WHERE target = 'COMPLETED') OVER (PARTITION BY program_id ORDER BY number) AS stretch
          FROM moved) e
), counted AS (
    UPDATE jobsite_program p
    SET consecutive_failures = CASE WHEN c.has_success THEN c.after ELSE p.consecutive_failures + c.before END,
        status = CASE WHEN (c.peak >= p.max_consecutive_failures
             OR (c.before > 0 AND p.consecutive_failures + c.before >= p.max_consecutive_failures)) THEN 'TERMINATED' ELSE p.status END,
        updated_at = CASE WHEN (c.peak >= p.max_consecutive_failures
             OR (c.before > 0 AND p.consecutive_failures + c.before >= p.max_consecutive_failures)) THEN clock_timestamp() ELSE p.updated_at END
    FROM (SELECT s.program_id, max(s.stretch) > 0 AS has_success, q.status AS status_before,
                 coalesce(max(s.failures) FILTER (WHERE s.stretch = 0), 0) AS before,
                 coalesce(max(s.failures) FILTER (WHERE s.stretch > 0), 0) AS peak,
                 (array_agg(s.failures ORDER BY s.stretch DESC))[1] AS after
          FROM (SELECT program_id, stretch, count(*) FILTER (WHERE target = 'FAILED') AS failures
                FROM runs
                GROUP BY program_id, stretch) s
          JOIN jobsite_program q ON q.id = s.program_id
          GROUP BY s.program_id, q.status ORDER BY s.program_id) c
    WHERE p.id = c.program_id AND (p.max_consecutive_failures IS NOT NULL OR p.notification_group_id IS NOT NULL)
          AND (c.before > 0 OR c.peak > 0 OR (c.has_success AND p.consecutive_failures > 0))
    RETURNING p.id, p.tenant_id, p.code, p.max_consecutive_failures, p.consecutive_failures, p.status,
              c.status_before, c.before, c.has_success
), terminated AS (
    INSERT INTO jobsite_auditentry (tenant_id, actor, door, action, target_type, target, reason, before, after) SELECT tenant_id, 'system', 'worker', 'terminate program', 'program', code, max_consecutive_failures || ' failures in a row', jsonb_build_object('status', status_before), jsonb_build_object('status', status) FROM counted WHERE status = 'TERMINATED' AND status_before <> 'TERMINATED'
), happened AS (
    SELECT m.tenant_id, p.notification_group_id AS group_id,
           CASE m.target WHEN 'PENDING' THEN 'RETRYING' ELSE m.target END AS event,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['COMPLETED', 'COMPLETED+' || m.outcome]
                         WHEN 'FAILED' THEN ARRAY['FAILED', 'COMPLETED+ERROR'] WHEN 'PENDING' THEN ARRAY['RETRYING']
                         ELSE ARRAY[m.target] END AS names,
           CASE m.target WHEN 'COMPLETED' THEN 'RECOVERED' END AS recovery,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['FAILED', 'COMPLETED+ERROR'] END AS recovered,
           concat('job ', m.number, ' ', m.target, CASE m.target WHEN 'PENDING' THEN ' ' || m.fence END) AS key,
           'program ' || p.id AS source, m.number AS job_number, p.id AS program_id, NULL::bigint AS schedule_id,
           m.context_id AS context, NULL::bigint AS user_id,
           m.notify AND m.target IN ('COMPLETED', 'FAILED', 'CANCELED') AS notify,
           p.scope = 'SYSTEM' AND m.target IN ('COMPLETED', 'FAILED') AS alerts,
           CASE m.target WHEN 'COMPLETED' THEN greatest(1, CASE WHEN runs.stretch = 1 THEN p.consecutive_failures + coalesce(counted.before, 0)
                              ELSE 1 END)::integer
                         ELSE CASE WHEN m.target = 'FAILED' THEN (runs.streak + CASE WHEN runs.stretch > 0 OR counted.id IS NULL THEN 0
                                    WHEN counted.has_success THEN p.consecutive_failures
                                    ELSE counted.consecutive_failures - counted.before END)::integer ELSE 1 END END AS in_a_row,
           '{}'::jsonb AS details, NULL::bigint AS only_rule, False AS hinted
    FROM moved m
    JOIN jobsite_program p ON p.id = m.program_id
         AND (p.notification_group_id IS NOT NULL OR m.notify OR p.scope = 'SYSTEM')
    JOIN runs ON runs.number = m.number LEFT JOIN counted ON counted.id = p.id
    WHERE m.target <> 'WAITING' AND (m.target <> 'PENDING' OR false)
    UNION ALL
    SELECT counted.tenant_id, p.notification_group_id, 'PROGRAM_TERMINATED', ARRAY['PROGRAM_TERMINATED'], NULL, NULL,
           concat('program ', p.id, ' PROGRAM_TERMINATED ', clock_timestamp()), 'program ' || p.id, NULL, p.id, NULL,
           NULL, NULL, false, false, counted.consecutive_failures, '{}'::jsonb, NULL, False
    FROM counted JOIN jobsite_program p ON p.id = counted.id
    WHERE counted.status = 'TERMINATED' AND counted.status_before <> 'TERMINATED'
          AND p.notification_group_id IS NOT NULL
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
SELECT number, target, queue_id, parent_id, holds_key, (SELECT count(*) FROM deliveries) FROM moved ORDER BY number
