-- PENDING to QUEUED: the best jobs of a queue.
-- DISPATCH of programs/transitions/dispatch.py

WITH gate AS MATERIALIZED (
    SELECT id, name, virtual_time, set_config('synchronous_commit', 'off', true) FROM jobsite_queue
    WHERE id = %(queue)s AND paused_at IS NULL AND pg_try_advisory_xact_lock(6975330, id::integer)
), room AS MATERIALIZED (
    
    SELECT workers.children, CASE WHEN workers.count = 0 THEN %(unattended)s ELSE workers.idle + 1 END AS slots, waiting.jobs, waiting.messages, waiting.seconds
    FROM gate
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, ceil(coalesce(sum(CASE WHEN ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN 0.02 ELSE 1.0 END), 0)) AS messages,
               coalesce(sum(CASE WHEN p.measured_runs >= 20
                    THEN coalesce(p.mean_seconds, 'infinity')
                         + CASE WHEN ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN 0.0002 ELSE 0.002 END
                    ELSE 'infinity'::float END), 0) AS seconds
        FROM jobsite_job j CROSS JOIN LATERAL (SELECT id, travels_in_groups, measured_runs, mean_seconds, timeout_seconds FROM jobsite_program
             WHERE id = j.program_id OFFSET 0) p
        WHERE j.queue_id = gate.id AND j.status = 'QUEUED'
    ) waiting
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

), bound AS MATERIALIZED (
    SELECT slots - messages AS certain, children * 20 - messages AS messages,
           children * %(horizon)s - seconds AS seconds,
           -- At most so many rows are read: no more can run in that time, and what is QUEUED grows at most fivefold. To
           -- read as many as a window full of groups may hold, for a few jobs that go alone, cost more than all else.
           greatest(slots - messages,
                    least((children * %(horizon)s - seconds) / 0.0002,
                          children * 20 + 4 * jobs), 0)::bigint AS most
    FROM room
), lanes AS MATERIALIZED (
    SELECT l.id, l.queue_id, l.tenant_id, l.wakes, greatest(l.served, gate.virtual_time) AS start_tag,
           t.weight, least(bound.most, 10 + 2 * bound.most / count(*) OVER (), tenant.room) AS most
    FROM gate CROSS JOIN bound
    JOIN jobsite_lane l ON l.queue_id = gate.id AND l.is_waiting AND l.paused_at IS NULL
    CROSS JOIN LATERAL (SELECT id, weight, running_quota FROM jobsite_tenant
                        WHERE id = l.tenant_id AND status = 'ACTIVE' OFFSET 0) t
    CROSS JOIN LATERAL (SELECT CASE WHEN t.running_quota IS NOT NULL
            THEN t.running_quota - (SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING')
                 - (SELECT count(*) FROM jobsite_job q
                    WHERE q.queue_id = gate.id AND q.status = 'QUEUED' AND q.tenant_id = t.id) END AS room) tenant
    WHERE coalesce(tenant.room, 1) > 0
          AND bound.most > 0 AND (bound.certain > 0 OR bound.seconds > 0 AND bound.messages > 0)
    -- A few more than there is room for: some lanes may prove empty.
    ORDER BY greatest(l.served, gate.virtual_time), l.id LIMIT (SELECT greatest(most, 0) + 10 FROM bound)
), candidates AS MATERIALIZED (
    SELECT c.number, c.group_id, c.timeout_seconds, c.seconds, c.messages, lanes.id AS lane_id,
           lanes.start_tag + (c.place - 1)::float / lanes.weight AS tag, lanes.weight, c.rank
    FROM lanes CROSS JOIN LATERAL (
        SELECT j.number, j.rank, CASE WHEN ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN p.id END AS group_id, p.timeout_seconds,
               CASE WHEN p.measured_runs >= 20
                    THEN coalesce(p.mean_seconds, 'infinity')
                         + CASE WHEN ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN 0.0002 ELSE 0.002 END
                    ELSE 'infinity'::float END AS seconds, CASE WHEN ((p.travels_in_groups AND p.measured_runs >= 20 AND p.mean_seconds <= 0.004) AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL) THEN 0.02 ELSE 1.0 END AS messages,
               row_number() OVER (ORDER BY j.rank, j.number) AS place
        FROM (SELECT number, rank, program_id, alone, losses, parent_id FROM jobsite_job
              WHERE queue_id = lanes.queue_id AND tenant_id = lanes.tenant_id
                    AND status = 'PENDING' AND blocked IS NULL
              ORDER BY rank, number LIMIT lanes.most) j
        CROSS JOIN LATERAL (SELECT id, travels_in_groups, measured_runs, mean_seconds, timeout_seconds FROM jobsite_program
             WHERE id = j.program_id OFFSET 0) p
    ) c
), ordered AS MATERIALIZED (
    SELECT *, row_number() OVER served_order AS place, sum(seconds) OVER served_order AS total_seconds,
           sum(messages) OVER served_order AS total_messages
    FROM candidates WINDOW served_order AS (ORDER BY tag, rank, number)
), locked AS MATERIALIZED (
    SELECT j.number, o.group_id, o.timeout_seconds, o.seconds, o.lane_id, o.tag, o.weight
    FROM ordered o CROSS JOIN bound JOIN jobsite_job j ON j.number = o.number
    WHERE o.place <= bound.most
          AND (o.place <= bound.certain OR (o.total_seconds <= bound.seconds AND o.total_messages <= bound.messages))
          AND j.status = %(pending)s AND j.blocked IS NULL AND (j.overlap_policy <> 'QUEUE' OR (
    NOT EXISTS (SELECT FROM jobsite_job a
                WHERE a.program_id = j.program_id AND a.overlap_key = j.overlap_key AND a.overlap_policy = 'QUEUE'
                      AND (a.status IN ('QUEUED', 'RUNNING', 'WAITING') OR (a.status = 'PENDING' AND a.attempts > 0))
                      AND a.number <> j.number)
    AND NOT EXISTS (SELECT FROM jobsite_job a
                    WHERE a.program_id = j.program_id AND a.overlap_key = j.overlap_key AND a.overlap_policy = 'QUEUE' AND a.status = 'PENDING' AND a.blocked IS NULL
                          AND a.number < j.number)
))
    ORDER BY j.number FOR NO KEY UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE jobsite_job j SET status = 'QUEUED', queued_at = clock_timestamp()
    FROM locked WHERE j.number = locked.number
    RETURNING j.number, locked.group_id, locked.timeout_seconds, locked.seconds, locked.tag
), emptied AS (
    -- Not where the lane was woken since this statement's snapshot, which does not show the row that woke it. Nor where
    -- a submission that saw the lane awake has not committed yet.
    UPDATE jobsite_lane l SET is_waiting = false
    FROM (SELECT id, wakes, queue_id, tenant_id FROM lanes
          WHERE NOT EXISTS (SELECT FROM candidates c WHERE c.lane_id = lanes.id)
          LIMIT 100) empty  -- each takes a lock of the server's
    WHERE l.id = empty.id
          AND CASE WHEN l.wakes = empty.wakes THEN jobsite_lane_is_empty(empty.queue_id, empty.tenant_id) END
), served AS (
    UPDATE jobsite_lane l SET served = s.tag + 1.0 / s.weight
    FROM (SELECT lane_id, max(tag) AS tag, max(weight) AS weight FROM locked GROUP BY lane_id) s
    WHERE l.id = s.lane_id AND (SELECT count(*) FROM lanes) > 1
), clock AS (
    UPDATE jobsite_queue q SET virtual_time = s.tag
    FROM (SELECT max(tag) AS tag FROM locked) s
    WHERE q.id = %(queue)s AND s.tag > q.virtual_time AND (SELECT count(*) FROM lanes) > 1
)
SELECT moved.number, gate.name, timeout_seconds, group_id, (room.jobs + count(*) OVER ())::integer, room.children,
       moved.seconds
FROM moved CROSS JOIN gate CROSS JOIN room
ORDER BY tag, moved.number
