-- QUEUED to RUNNING: one job, where nothing is limited.
-- CLAIM_ONE of programs/transitions/claim.py

UPDATE jobsite_job j
SET status = 'RUNNING', lock_token = %(token)s::uuid, lock_owner = %(owner)s::uuid,
    lock_expires_at = clock_timestamp() + %(lock)s * interval '1 second', stuck_at = clock_timestamp() + (p.timeout_seconds + 10) * interval '1 second',
    fence = j.fence + 1, claimed_at = clock_timestamp(), started_at = clock_timestamp(),
    external_id = %(message)s::uuid, progress = NULL, current_step = ''
FROM jobsite_program p, jobsite_tenant t, jobsite_queue q, jobsite_workermanager m
WHERE j.number = %(number)s AND j.status = %(queued)s AND q.name = ANY(%(queues)s) AND p.id = j.program_id AND t.id = j.tenant_id AND q.id = j.queue_id
      AND m.id = %(manager)s AND m.max_running IS NULL AND t.running_quota IS NULL
      AND p.status <> 'PAUSED' AND t.status = 'ACTIVE' AND q.paused_at IS NULL AND NOT EXISTS (SELECT 1 FROM jobsite_lane l
                      WHERE l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id AND l.paused_at IS NOT NULL)
               AND (p.status <> 'TERMINATED' OR j.trigger <> 'AUTOMATIC')
               AND j.due_at <= clock_timestamp()
RETURNING j.number, j.lock_token, j.fence, j.attempts, j.losses, j.returns, j.tenant_id, t.code, j.program_id, p.version, (p.max_consecutive_failures IS NOT NULL OR p.notification_group_id IS NOT NULL), (p.notification_group_id IS NOT NULL OR j.notify), (p.notification_group_id IS NOT NULL AND EXISTS (
    SELECT FROM jobsite_rule r WHERE r.group_id = p.notification_group_id AND r.event = 'STARTED'
                                     AND r.deleted_at IS NULL AND r.is_active)), j.overlap_policy = 'QUEUE', j.queue_id, j.parameters, j.context_id, j.claimed_at, j.has_secrets, j.parent_id, j.parked_fence
