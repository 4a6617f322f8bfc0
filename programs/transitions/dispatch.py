"""PENDING -> QUEUED: choose which jobs get a message now, and put back those whose message was lost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobsite.database import Cursor, execute
from jobsite.failpoints import failpoint
from jobsite.programs.rules import lifecycle
from jobsite.programs.rules.lifecycle import IS_READY
from jobsite.programs.sql import lanes
from jobsite.programs.sql.window import (
    EXPECTED,
    GROUPABLE,
    IS_AWAKE,
    LEAST_SECONDS,
    LOOK,
    MESSAGES,
    MESSAGES_PER_CHILD,
    PROGRAM,
    ROOM,
    TENANT_ROOM,
    look_values,
)
from jobsite.programs.transitions.overlap import HAS_ITS_TURN

ADVISORY_CLASS = 0x6A6F62  # "job": our advisory locks' first key


@dataclass(frozen=True)
class Dispatched:
    """A job that became QUEUED and needs a message; its queue now has `queued` jobs waiting for `children`.

    Jobs of one `group` (their program) may share a message; a job without a group travels alone. It is expected to keep
    a child busy for `seconds`.
    """

    number: int
    queue: str
    timeout_seconds: float
    group: int | None = None
    queued: int = 1
    children: int = 0
    seconds: float = math.inf


# The commit need not wait for the disk. If a crash of the database loses it, the job is PENDING again, and its message
# finds nothing to claim.
UNHURRIED = "set_config('synchronous_commit', 'off', true)"
_IS_SENT = f"status = '{lifecycle.DISPATCH.target}', queued_at = clock_timestamp()"

# One statement, and one dispatcher a queue at a time: whoever misses the advisory lock does nothing, since every finish
# and the sweep dispatch again. Only waiting lanes are read, the least served first, and of each lane only its top rows,
# through the index job_ready_in_lane: the cost grows neither with jobs that are finished, future, held or paused, nor
# with tenants that have nothing waiting. Where there are many lanes, each is read no further than twice its even share,
# and gets the rest of what it deserves the next time. MATERIALIZED fences keep the planner from evaluating a
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
           -- At most so many rows are read: no more can run in that time, and what is QUEUED grows at most fivefold. To
           -- read as many as a window full of groups may hold, for a few jobs that go alone, cost more than all else.
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
                    AND {IS_READY}
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
    UPDATE jobsite_job j SET {_IS_SENT}
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
"""

LOOK_AT_ONE = f"""
SELECT look.*, (SELECT {IS_AWAKE} FROM jobsite_job j WHERE j.number = %(number)s)
FROM ({LOOK.format(job="jobsite_job")} AND j.number = %(number)s) look
"""
DISPATCH_ONE = f"""
UPDATE jobsite_job SET {_IS_SENT}
WHERE number = %(number)s AND status = %(pending)s AND blocked IS NULL AND {UNHURRIED} = 'off'
RETURNING number
"""

# A finish asks this first, at a tenth of the cost of a dispatch. Each QUEUED job will ask again when it ends.
IS_WANTED = """
SELECT EXISTS (SELECT 1 FROM jobsite_lane WHERE queue_id = %(queue)s AND is_waiting)
       AND (%(enough)s = 0
            OR (SELECT count(*) FROM (SELECT 1 FROM jobsite_job WHERE queue_id = %(queue)s AND status = 'QUEUED'
                                      LIMIT %(enough)s) queued) < %(enough)s)
"""

# A lane is woken after a commit, never inside a caller's transaction, which might lock the lane's row for long.
WAKE = lanes.woken(f"""
SELECT DISTINCT queue_id, tenant_id, true FROM jobsite_job
WHERE number = ANY(%s) AND {IS_READY}
ORDER BY 1, 2""")

# QUEUED -> PENDING, for rows whose message is known or feared to be lost.
REQUEUE = f"""
WITH lost AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE queue_id = %(queue)s AND status = '{lifecycle.REQUEUE.source}'
          AND queued_at <= clock_timestamp() - %(older_than)s * interval '1 second'
    ORDER BY number LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_job j SET status = '{lifecycle.REQUEUE.target}', queued_at = NULL FROM lost WHERE j.number = lost.number
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

    Otherwise wake its lane, so that the next finish finds the job, and return whether the window has room for a
    dispatch.
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
        # A finish that came just before found the lane asleep. So wake it, and only then trust the look.
        wake(cursor, [number])
    return has_room


@failpoint("is_wanted")
def is_wanted(cursor: Cursor, *, queue_id: int, enough: int) -> bool:
    """Whether a dispatch of this queue may find something, and fewer than `enough` are QUEUED (0: any number)."""
    cursor.execute(IS_WANTED, {"queue": queue_id, "enough": enough})
    return bool(cursor.fetchone()[0])


@failpoint("wake")
def wake(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Let dispatch look at the lanes of these jobs."""
    cursor.execute(WAKE, [list(numbers)])


@failpoint("requeue")
def requeue(cursor: Cursor, *, queue_id: int, older_than: float) -> list[int]:
    """Put QUEUED jobs of a queue whose message is lost back to PENDING, and wake their lanes.

    `older_than`, in seconds, spares messages that were published just now.
    """
    cursor.execute(REQUEUE, {"queue": queue_id, "older_than": older_than})
    numbers = [row[0] for row in cursor.fetchall()]
    if numbers:
        wake(cursor, numbers)
    return numbers
