-- Read what a claim took, where its answer was lost.
-- READ_BACK of programs/transitions/claim.py

SELECT j.number, j.lock_token, j.fence, j.attempts, j.losses, j.returns, j.tenant_id, t.code, j.program_id, p.version, (p.max_consecutive_failures IS NOT NULL OR p.notification_group_id IS NOT NULL), (p.notification_group_id IS NOT NULL OR j.notify), (p.notification_group_id IS NOT NULL AND EXISTS (
    SELECT FROM jobsite_rule r WHERE r.group_id = p.notification_group_id AND r.event = 'STARTED'
                                     AND r.deleted_at IS NULL AND r.is_active)), j.overlap_policy = 'QUEUE', j.queue_id, j.parameters, j.context_id, j.claimed_at, j.has_secrets, j.parent_id, j.parked_fence
FROM unnest(%s::bigint[], %s::uuid[]) AS c (number, token)
JOIN jobsite_job j ON j.number = c.number AND j.lock_token = c.token
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
ORDER BY j.number
