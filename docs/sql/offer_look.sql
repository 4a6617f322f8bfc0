-- The fast path asks: may this new job be QUEUED at once?
-- LOOK_AT_ONE of programs/transitions/dispatch.py

SELECT look.*, (SELECT jobsite_lane_stays_awake(j.queue_id, j.tenant_id) FROM jobsite_job j WHERE j.number = %(number)s)
FROM (
SELECT gate.name AS queue, p.timeout_seconds,
       -- Asked of the first one, since EXISTS might read the whole table where most jobs are PENDING.
       coalesce((SELECT (b.rank, b.number) < (j.rank, j.number) FROM jobsite_job b
                 WHERE b.queue_id = j.queue_id AND b.tenant_id = j.tenant_id
                       AND b.status = 'PENDING' AND b.blocked IS NULL
                 ORDER BY b.rank, b.number LIMIT 1), false) AS is_behind,
       CASE WHEN CASE WHEN t.running_quota IS NOT NULL
            THEN t.running_quota - (SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING')
                 - (SELECT count(*) FROM jobsite_job q
                    WHERE q.queue_id = gate.id AND q.status = 'QUEUED' AND q.tenant_id = t.id) END <= 0 THEN 0 WHEN NOT ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN CASE WHEN workers.count = 0 THEN %(unattended)s ELSE workers.idle + 1 END
            WHEN 
    EXISTS (SELECT FROM jobsite_worker w
            JOIN jobsite_job r ON r.lock_owner = w.incarnation AND r.status = 'RUNNING' AND r.queue_id = gate.id
            JOIN jobsite_program s ON s.id = r.program_id
            WHERE w.status = 'ACTIVE' AND gate.name = ANY(w.queues)
                  AND r.claimed_at > clock_timestamp() - %(brisk)s * interval '1 second'
                  AND (s.travels_in_groups AND s.measured_runs >= 20 AND s.mean_seconds <= 0.004)) THEN 0 ELSE least(CASE WHEN workers.count = 0 THEN %(unattended)s ELSE workers.idle + 1 END, 1) END AS slots,
       (SELECT count(*) FROM jobsite_job o WHERE o.queue_id = gate.id AND o.status = 'QUEUED') AS queued
FROM jobsite_job j
JOIN jobsite_queue gate ON gate.id = j.queue_id
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
CROSS JOIN LATERAL (
    SELECT count(*) AS count, coalesce(sum(w.children), 0)::integer AS children,
           coalesce(sum(CASE WHEN m.max_running IS NULL THEN greatest(w.children - own.running, 0)
                ELSE least(greatest(w.children - own.running, 0),
                           greatest(m.max_running - (SELECT count(*) FROM jobsite_job r JOIN jobsite_worker o ON o.incarnation = r.lock_owner
                    WHERE r.status = 'RUNNING' AND o.manager_id = m.id), 0)) END), 0) AS idle
    FROM jobsite_worker w
    JOIN jobsite_workermanager m ON m.id = w.manager_id
    CROSS JOIN LATERAL (SELECT count(DISTINCT external_id) AS running FROM jobsite_job
                        WHERE lock_owner = w.incarnation AND status = 'RUNNING') own
    WHERE w.status = 'ACTIVE' AND gate.name = ANY(w.queues)
          AND w.last_seen_at > clock_timestamp() - %(lock)s * interval '1 second'
) workers
WHERE j.status = %(pending)s AND j.blocked IS NULL
      AND gate.paused_at IS NULL AND t.status = 'ACTIVE' AND l.paused_at IS NULL
 AND j.number = %(number)s) look
