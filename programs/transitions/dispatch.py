"""PENDING -> QUEUED: choose which jobs get a message now, and put back those whose message was lost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobsite.database import Cursor, execute
from jobsite.failpoints import failpoint
from jobsite.programs.transitions.overlap import HAS_ITS_TURN

ADVISORY_CLASS = 0x6A6F62  # "job": our advisory locks' first key
BRISK_SECONDS = 0.02
MESSAGES_PER_CHILD = 20
GROUP_SIZE = 50
HORIZON_SECONDS = 0.1
SHORT_SECONDS = 0.004
LEAST_SECONDS = 0.0002  # of a child, for a job of a group that does nothing
WINDOW_WITHOUT_WORKERS = 2


@dataclass(frozen=True)
class Dispatched:
    """A job that became QUEUED and wants a message; its queue now has `queued` jobs waiting for `children`.

    Jobs of one `group` (their program) may share a message; None travels alone. It is expected to keep a child busy
    for so many `seconds`.
    """

    number: int
    queue: str
    timeout_seconds: float
    group: int | None = None
    queued: int = 1
    children: int = 0
    seconds: float = math.inf


# Whether a program's jobs may share messages: it allows it, and they are short by its last twenty runs.
SHORT = f"({{p}}.travels_in_groups AND {{p}}.measured_runs >= 20 AND {{p}}.mean_seconds <= {SHORT_SECONDS})"
# Whether job j of program p may: nothing about it (a loss, a parent, children) asks for care.
GROUPABLE = f"({SHORT.format(p='p')} AND NOT j.alone AND j.losses = 0 AND j.parent_id IS NULL)"
# What one run is expected to keep a child busy: the program's mean, and the claim and finish around it. A mean
# of fewer than twenty runs is not believed; such a program is expected to take for ever.
EXPECTED = f"""CASE WHEN p.measured_runs >= 20
                    THEN coalesce(p.mean_seconds, 'infinity')
                         + CASE WHEN {GROUPABLE} THEN {LEAST_SECONDS} ELSE 0.002 END
                    ELSE 'infinity'::float END"""
# Its program, and a lane's tenant, are looked up by their keys (OFFSET 0): else a connection that is free to join as it
# likes reads all tenants and programs for a few jobs.
PROGRAM = """SELECT id, travels_in_groups, measured_runs, mean_seconds, timeout_seconds FROM jobsite_program
             WHERE id = j.program_id OFFSET 0"""
# A full group is one message.
MESSAGES = f"CASE WHEN {GROUPABLE} THEN {1 / GROUP_SIZE} ELSE 1.0 END"

# The commit need not wait for the disk: a crash of the database that forgets it makes the job PENDING again, and its
# message finds nothing to claim.
UNHURRIED = "set_config('synchronous_commit', 'off', true)"

# The living workers of a queue, their children, and those that are idle, of managers that have room.
WORKERS = """
    SELECT count(*) AS count, coalesce(sum(w.children), 0)::integer AS children,
           coalesce(sum(CASE WHEN m.max_running IS NULL THEN greatest(w.children - own.running, 0)
                ELSE least(greatest(w.children - own.running, 0),
                           greatest(m.max_running - (
                               SELECT count(*) FROM jobsite_job j
                               JOIN jobsite_worker o ON o.incarnation = j.lock_owner
                               WHERE j.status = 'RUNNING' AND o.manager_id = m.id), 0)) END), 0) AS idle
    FROM jobsite_worker w
    JOIN jobsite_workermanager m ON m.id = w.manager_id
    CROSS JOIN LATERAL (SELECT count(DISTINCT external_id) AS running FROM jobsite_job
                        WHERE lock_owner = w.incarnation AND status = 'RUNNING') own
    WHERE w.status = 'ACTIVE' AND gate.name = ANY(w.queues)
          AND w.last_seen_at > clock_timestamp() - %(lock)s * interval '1 second'
"""
# How many more messages a queue may hold (PROTOCOL "window"): one for each idle child of its living workers
# whose manager has room, plus one; beyond that only what the children are expected to finish within the
# horizon, by the programs' known means, which the caller adds up row by row. No worker known: two.
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

# How many more jobs of a tenant with a quota may be sent: what runs counts anywhere, what is QUEUED in this queue.
TENANT_ROOM = """CASE WHEN t.running_quota IS NOT NULL
            THEN t.running_quota
                 - (SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING')
                 - (SELECT count(*) FROM jobsite_job q
                    WHERE q.queue_id = gate.id AND q.status = 'QUEUED' AND q.tenant_id = t.id) END"""

# One statement, one dispatcher a queue at a time: who misses the advisory lock goes home, since every finish
# and the sweep dispatch again. Only waiting lanes are read, the least served first, and of each only its top
# rows through the index job_ready_in_lane: the cost does not grow with what is finished, future, held or
# paused, nor with tenants that have nothing waiting. Of many lanes each is read no further than twice its even
# share; what more it deserves it gets the next time. MATERIALIZED fences keep the planner from evaluating a
# limit twice. Lanes and the queue's virtual time are written only when lanes compete.
DISPATCH = f"""
WITH gate AS MATERIALIZED (
    SELECT id, name, virtual_time, {UNHURRIED} FROM jobsite_queue
    WHERE id = %(queue)s AND paused_at IS NULL AND pg_try_advisory_xact_lock({ADVISORY_CLASS}, id::integer)
), room AS MATERIALIZED (
    {ROOM}
), bound AS MATERIALIZED (
    SELECT slots - messages AS certain, children * {MESSAGES_PER_CHILD} - messages AS messages,
           children * %(horizon)s - seconds AS seconds,
           -- So many rows are read: no more can go in that time, and what is out grows no more than fivefold. To read
           -- what a window full of groups may hold, for a few jobs that go alone, cost more than all the rest.
           greatest(slots - messages,
                    least((children * %(horizon)s - seconds) / {LEAST_SECONDS},
                          children * {MESSAGES_PER_CHILD} + 4 * jobs), 0)::bigint AS most
    FROM room
), lanes AS MATERIALIZED (
    SELECT l.id, l.queue_id, l.tenant_id, l.wakes, greatest(l.served, gate.virtual_time) AS start_tag,
           t.weight, least(bound.most, 10 + 2 * bound.most / count(*) OVER (), tenant.room) AS most
    FROM gate CROSS JOIN bound
    JOIN jobsite_lane l ON l.queue_id = gate.id AND l.is_waiting AND l.paused_at IS NULL
    CROSS JOIN LATERAL (SELECT id, weight, running_quota FROM jobsite_tenant
                        WHERE id = l.tenant_id AND status = 'ACTIVE' OFFSET 0) t
    CROSS JOIN LATERAL (SELECT {TENANT_ROOM} AS room) tenant
    WHERE coalesce(tenant.room, 1) > 0
          AND bound.most > 0 AND (bound.certain > 0 OR bound.seconds > 0 AND bound.messages > 0)
    -- A few more than there is room for: some lanes may prove empty.
    ORDER BY greatest(l.served, gate.virtual_time), l.id LIMIT (SELECT greatest(most, 0) + 10 FROM bound)
), candidates AS MATERIALIZED (
    SELECT c.number, c.group_id, c.timeout_seconds, c.seconds, c.messages, lanes.id AS lane_id,
           lanes.start_tag + (c.place - 1)::float / lanes.weight AS tag, lanes.weight, c.rank
    FROM lanes CROSS JOIN LATERAL (
        SELECT j.number, j.rank, CASE WHEN {GROUPABLE} THEN p.id END AS group_id, p.timeout_seconds,
               {EXPECTED} AS seconds, {MESSAGES} AS messages,
               row_number() OVER (ORDER BY j.rank, j.number) AS place
        FROM (SELECT number, rank, program_id, alone, losses, parent_id FROM jobsite_job
              WHERE queue_id = lanes.queue_id AND tenant_id = lanes.tenant_id
                    AND status = 'PENDING' AND blocked IS NULL
              ORDER BY rank, number LIMIT lanes.most) j
        CROSS JOIN LATERAL ({PROGRAM}) p
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
          AND j.status = %(pending)s AND j.blocked IS NULL AND {HAS_ITS_TURN.format(j="j")}
    ORDER BY j.number FOR NO KEY UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE jobsite_job j SET status = 'QUEUED', queued_at = clock_timestamp()
    FROM locked WHERE j.number = locked.number
    RETURNING j.number, locked.group_id, locked.timeout_seconds, locked.seconds, locked.tag
), emptied AS (
    -- Not where the lane was waked since this statement's snapshot: the row that waked it is not in sight. Nor where
    -- a submission is on its way, which has seen that the lane is awake.
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
"""

# The fast path of a submission looks first, since a flood of submissions finds the window full and need not write: is
# there room for a message, and nothing better in the lane? Each QUEUED row counts as a message here. A job that may
# travel in a group goes alone only while no other waits for a child and no short one has just begun: its finish is
# a few milliseconds off, and takes along all that has come by then.
_BRISK = f"""
    EXISTS (SELECT FROM jobsite_worker w
            JOIN jobsite_job r ON r.lock_owner = w.incarnation AND r.status = 'RUNNING' AND r.queue_id = gate.id
            JOIN jobsite_program s ON s.id = r.program_id
            WHERE w.status = 'ACTIVE' AND gate.name = ANY(w.queues)
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
LOOK_AT_ONE = f"""
SELECT look.*, (SELECT {IS_AWAKE} FROM jobsite_job j WHERE j.number = %(number)s)
FROM ({LOOK.format(job="jobsite_job")} AND j.number = %(number)s) look
"""
DISPATCH_ONE = f"""
UPDATE jobsite_job SET status = 'QUEUED', queued_at = clock_timestamp()
WHERE number = %(number)s AND status = %(pending)s AND blocked IS NULL AND {UNHURRIED} = 'off'
RETURNING number
"""

# What a finish asks first, at a tenth of the cost of a dispatch. Each job that is QUEUED will ask again when it ends.
IS_WANTED = """
SELECT EXISTS (SELECT 1 FROM jobsite_lane WHERE queue_id = %(queue)s AND is_waiting)
       AND (%(enough)s = 0
            OR (SELECT count(*) FROM (SELECT 1 FROM jobsite_job WHERE queue_id = %(queue)s AND status = 'QUEUED'
                                      LIMIT %(enough)s) queued) < %(enough)s)
"""

# A lane is waked after a commit, never inside a caller's transaction, which might hold its row for long.
WAKE = """
INSERT INTO jobsite_lane (queue_id, tenant_id, is_waiting)
SELECT DISTINCT queue_id, tenant_id, true FROM jobsite_job
WHERE number = ANY(%s) AND status = 'PENDING' AND blocked IS NULL
ORDER BY 1, 2
ON CONFLICT (queue_id, tenant_id) DO UPDATE SET is_waiting = true, wakes = jobsite_lane.wakes + 1
"""

# QUEUED -> PENDING, for rows whose message is known or feared to be lost.
REQUEUE = """
WITH lost AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE queue_id = %(queue)s AND status = 'QUEUED'
          AND queued_at <= clock_timestamp() - %(older_than)s * interval '1 second'
    ORDER BY number LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET status = 'PENDING', queued_at = NULL FROM lost WHERE j.number = lost.number
RETURNING j.number
"""


@failpoint("dispatch")
def dispatch(cursor: Cursor, *, queue_id: int, lock_seconds: float) -> list[Dispatched]:
    """Move the best ready jobs of a queue to QUEUED, as many as its window has room for."""
    moved = execute(cursor, DISPATCH, look_values(lock_seconds) | {"queue": queue_id})
    return [Dispatched(*row) for row in moved.fetchall()]


@failpoint("offer")
def offer(cursor: Cursor, *, number: int, lock_seconds: float) -> Dispatched | bool:
    """Move one ready job to QUEUED if nothing better waits in its lane and the window has room.

    Otherwise its lane is awake from now on, so that the next finish finds the job, and the answer is whether the
    window has room for a dispatch.
    """
    values = look_values(lock_seconds) | {"number": number}
    has_room = False
    for _ in range(2):
        cursor.execute(LOOK_AT_ONE, values)
        seen = cursor.fetchone()
        if seen is None:
            return False
        queue, timeout_seconds, is_behind, slots, queued, is_awake = seen
        has_room = slots > queued
        if has_room and not is_behind:
            cursor.execute(DISPATCH_ONE, values)
            return Dispatched(number, queue, timeout_seconds) if cursor.fetchone() else False
        if is_awake:
            break
        # A finish that has come before this found the lane asleep: a look counts only while it is awake.
        wake(cursor, [number])
    return has_room


def look_values(lock_seconds: float) -> dict[str, object]:
    """What LOOK and DISPATCH take, beside the queue or the job."""
    return {
        "lock": lock_seconds,
        "horizon": HORIZON_SECONDS,
        "brisk": BRISK_SECONDS,
        "unattended": WINDOW_WITHOUT_WORKERS,
        "pending": "PENDING",  # a parameter where rows are looked up by their key: see CLAIM
    }


@failpoint("is_wanted")
def is_wanted(cursor: Cursor, *, queue_id: int, enough: int) -> bool:
    """Whether a dispatch of this queue may find something, and fewer than `enough` (0: never) are QUEUED."""
    cursor.execute(IS_WANTED, {"queue": queue_id, "enough": enough})
    return bool(cursor.fetchone()[0])


@failpoint("wake")
def wake(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Let dispatch look at the lanes of these jobs."""
    cursor.execute(WAKE, [list(numbers)])


@failpoint("requeue")
def requeue(cursor: Cursor, *, queue_id: int, older_than: float) -> list[int]:
    """Put QUEUED jobs of a queue whose message is lost back to PENDING, and wake their lanes.

    `older_than` in seconds spares the messages that were published a moment ago.
    """
    cursor.execute(REQUEUE, {"queue": queue_id, "older_than": older_than})
    numbers = [row[0] for row in cursor.fetchall()]
    if numbers:
        wake(cursor, numbers)
    return numbers
