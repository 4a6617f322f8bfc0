"""The window of a queue: how many more jobs it may send to its workers, and whether it has room for one job."""

from jobsite.programs.rules import lifecycle
from jobsite.programs.sql.limits import RUNNING_OF_MANAGER, RUNNING_OF_TENANT

BRISK_SECONDS = 0.02
MESSAGES_PER_CHILD = 20
GROUP_SIZE = 50
HORIZON_SECONDS = 0.1
SHORT_SECONDS = 0.004
LEAST_SECONDS = 0.0002  # of a child, for a job of a group that does nothing
WINDOW_WITHOUT_WORKERS = 2

# Whether a program's jobs may share messages: it allows it, and they are short by its last twenty runs.
SHORT = f"({{p}}.travels_in_groups AND {{p}}.measured_runs >= 20 AND {{p}}.mean_seconds <= {SHORT_SECONDS})"
# Whether job j of program p may share one: it has no loss, no parent, and is not marked as `alone`.
GROUPABLE = f"({SHORT.format(p='p')} AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL)"
# How long one run is expected to keep a child busy: the program's mean, and the claim and finish around it. A mean of
# fewer than twenty runs is not used; such a program is expected to take for ever.
EXPECTED = f"""CASE WHEN p.measured_runs >= 20
                    THEN coalesce(p.mean_seconds, 'infinity')
                         + CASE WHEN {GROUPABLE} THEN {LEAST_SECONDS} ELSE 0.002 END
                    ELSE 'infinity'::float END"""
# A job's program, and a lane's tenant, are looked up by their keys (OFFSET 0). Otherwise a connection whose planner may
# join as it likes reads all tenants and programs for a few jobs.
PROGRAM = """SELECT id, travels_in_groups, measured_runs, mean_seconds, timeout_seconds FROM jobsite_program
             WHERE id = j.program_id OFFSET 0"""
# A full group is one message.
MESSAGES = f"CASE WHEN {GROUPABLE} THEN {1 / GROUP_SIZE} ELSE 1.0 END"

_SERVES = "w.status = 'ACTIVE' AND gate.name = ANY(w.queues)"
# The living workers of a queue, their children, and those that are idle, of managers that have room.
WORKERS = f"""
    SELECT count(*) AS count, coalesce(sum(w.children), 0)::integer AS children,
           coalesce(sum(CASE WHEN m.max_running IS NULL THEN greatest(w.children - own.running, 0)
                ELSE least(greatest(w.children - own.running, 0),
                           greatest(m.max_running - {RUNNING_OF_MANAGER}, 0)) END), 0) AS idle
    FROM jobsite_worker w
    JOIN jobsite_workermanager m ON m.id = w.manager_id
    CROSS JOIN LATERAL (SELECT count(DISTINCT external_id) AS running FROM jobsite_job
                        WHERE lock_owner = w.incarnation AND status = 'RUNNING') own
    WHERE {_SERVES}
          AND w.last_seen_at > clock_timestamp() - %(lock)s * interval '1 second'
"""
# How many more messages a queue may hold (docs/protocol.md, "Order, fairness, window"): one for each idle child of its
# living workers whose manager has room, plus one. More only if the children are expected to finish it within the
# horizon, by the programs' known means, which the caller adds up row by row. Where no worker is known: two.
SLOTS = "CASE WHEN workers.count = 0 THEN %(unattended)s ELSE workers.idle + 1 END"
ROOM = f"""
    SELECT workers.children, {SLOTS} AS slots, waiting.jobs, waiting.messages, waiting.seconds
    FROM gate
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, ceil(coalesce(sum({MESSAGES}), 0)) AS messages,
               coalesce(sum({EXPECTED}), 0) AS seconds
        FROM jobsite_job j CROSS JOIN LATERAL ({PROGRAM}) p
        WHERE j.queue_id = gate.id AND j.status = 'QUEUED'
    ) waiting
    CROSS JOIN LATERAL ({WORKERS}) workers
"""

# How many more jobs of a tenant with a quota may be dispatched. RUNNING jobs count in every queue, QUEUED ones in this.
TENANT_ROOM = f"""CASE WHEN t.running_quota IS NOT NULL
            THEN t.running_quota - {RUNNING_OF_TENANT}
                 - (SELECT count(*) FROM jobsite_job q
                    WHERE q.queue_id = gate.id AND q.status = 'QUEUED' AND q.tenant_id = t.id) END"""

# The fast path of a submission looks first, since in a flood of submissions it finds the window full and need not
# write. It asks whether there is room for a message, and nothing better in the lane. Each QUEUED row counts as a
# message here. A job that may travel in a group goes alone only while no other waits for a child and no short job has
# just started: that one's finish is a few milliseconds off, and takes along all that has come by then.
_BRISK = f"""
    EXISTS (SELECT FROM jobsite_worker w
            JOIN jobsite_job r ON r.lock_owner = w.incarnation AND r.status = 'RUNNING' AND r.queue_id = gate.id
            JOIN jobsite_program s ON s.id = r.program_id
            WHERE {_SERVES}
                  AND r.claimed_at > clock_timestamp() - %(brisk)s * interval '1 second'
                  AND {SHORT.format(p="s")})"""
LOOK = f"""
SELECT gate.name AS queue, p.timeout_seconds,
       -- Asked of the first one, since EXISTS might read the whole table where most jobs are PENDING.
       coalesce((SELECT (b.rank, b.number) < (j.rank, j.number) FROM jobsite_job b
                 WHERE b.queue_id = j.queue_id AND b.tenant_id = j.tenant_id
                       AND b.status = 'PENDING' AND b.blocked IS NULL
                 ORDER BY b.rank, b.number LIMIT 1), false) AS is_behind,
       CASE WHEN {TENANT_ROOM} <= 0 THEN 0 WHEN NOT {GROUPABLE} THEN {SLOTS}
            WHEN {_BRISK} THEN 0 ELSE least({SLOTS}, 1) END AS slots,
       (SELECT count(*) FROM jobsite_job o WHERE o.queue_id = gate.id AND o.status = 'QUEUED') AS queued
FROM {{job}} j
JOIN jobsite_queue gate ON gate.id = j.queue_id
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
CROSS JOIN LATERAL ({WORKERS}) workers
WHERE j.status = %(pending)s AND j.blocked IS NULL
      AND gate.paused_at IS NULL AND t.status = 'ACTIVE' AND l.paused_at IS NULL
"""
# Whether the lane of a job is awake, and stays so until this transaction has ended.
IS_AWAKE = "jobsite_lane_stays_awake(j.queue_id, j.tenant_id)"


def look_values(lock_seconds: float) -> dict[str, object]:
    """The parameters of LOOK and DISPATCH, without the queue or the job."""
    return {
        "lock": lock_seconds,
        "horizon": HORIZON_SECONDS,
        "brisk": BRISK_SECONDS,
        "unattended": WINDOW_WITHOUT_WORKERS,
        "pending": lifecycle.DISPATCH.source.value,  # a parameter where rows are looked up by their key: see CLAIM
    }
