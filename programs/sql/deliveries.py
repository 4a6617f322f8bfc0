"""Who is to be told of what a statement has done: the deliveries are written with it (SPEC 7)."""

from collections.abc import Sequence

from jobsite.database import Cursor
from jobsite.notifications import outbox

# Of a program without rules, of a job whose submitter did not ask to be told, nobody is; nor does it cost more than a
# look at the program. That is asked before the statement where it runs often: TELLS.
TELLS = "(p.notification_group_id IS NOT NULL OR j.notify)"
TELLS_START = """(p.notification_group_id IS NOT NULL AND EXISTS (
    SELECT FROM jobsite_rule r WHERE r.group_id = p.notification_group_id AND r.event = 'STARTED'
                                     AND r.deleted_at IS NULL AND r.is_active))"""
MOVED = "number, tenant_id, program_id, context_id, notify, fence"
"""What must be known of a row to tell of it, and `target`: where it went, or what has happened to it."""

_RECOVERED = "ARRAY['FAILED', 'COMPLETED+ERROR']"


# Of the failures before the first success in the statement those that the program had before count too: as they were
# under the lock of its row, or, where a success follows them, as the statement saw them. Nobody counts where nobody
# waits for several in a row.
_IN_A_ROW = """(runs.streak + CASE WHEN runs.stretch > 0 OR counted.id IS NULL THEN 0
                                    WHEN counted.has_success THEN p.consecutive_failures
                                    ELSE counted.consecutive_failures - counted.before END)::integer"""
_ENDED_ROW = """greatest(1, CASE WHEN runs.stretch = 1 THEN p.consecutive_failures + coalesce(counted.before, 0)
                              ELSE 1 END)::integer"""


def told(
    moved: str,
    *,
    again: str = "false",
    outcome: str = "'NORMAL'",
    is_stuck: bool = False,
    is_counted: bool = False,
    hinted: bool = False,
) -> str:
    """The part of a statement that tells of the rows that `moved` there: MOVED.

    `outcome` and `again` are expressions of its row `m`: the outcome of what has COMPLETED, and whether what is PENDING
    is tried again after a failure, a time-out or a loss. Of what `is_stuck` that is told as well. Where the failures in
    a row are counted in the statement (`is_counted`), it is told which program they have ended. The ids are in the
    part `told`, which must be read, or nothing is told.
    """
    runs = "JOIN runs ON runs.number = m.number LEFT JOIN counted ON counted.id = p.id" if is_counted else ""
    in_a_row = f"CASE WHEN m.target = 'FAILED' THEN {_IN_A_ROW} ELSE 1 END" if is_counted else "1"
    ended_row = _ENDED_ROW if is_counted else "1"
    more = (_STUCK.format(moved=moved, hinted=hinted) if is_stuck else "") + (
        _TERMINATED.format(hinted=hinted) if is_counted else ""
    )
    return f""", happened AS (
    SELECT m.tenant_id, p.notification_group_id AS group_id,
           CASE m.target WHEN 'PENDING' THEN 'RETRYING' ELSE m.target END AS event,
           CASE m.target WHEN 'COMPLETED' THEN ARRAY['COMPLETED', 'COMPLETED+' || {outcome}]
                         WHEN 'FAILED' THEN {_RECOVERED} WHEN 'PENDING' THEN ARRAY['RETRYING']
                         ELSE ARRAY[m.target] END AS names,
           CASE m.target WHEN 'COMPLETED' THEN 'RECOVERED' END AS recovery,
           CASE m.target WHEN 'COMPLETED' THEN {_RECOVERED} END AS recovered,
           concat('job ', m.number, ' ', m.target, CASE m.target WHEN 'PENDING' THEN ' ' || m.fence END) AS key,
           'program ' || p.id AS source, m.number AS job_number, p.id AS program_id, NULL::bigint AS schedule_id,
           m.context_id AS context, NULL::bigint AS user_id,
           m.notify AND m.target IN ('COMPLETED', 'FAILED', 'CANCELED') AS notify,
           p.scope = 'SYSTEM' AND m.target IN ('COMPLETED', 'FAILED') AS alerts,
           CASE m.target WHEN 'COMPLETED' THEN {ended_row}
                         ELSE {in_a_row} END AS in_a_row,
           '{{}}'::jsonb AS details, NULL::bigint AS only_rule, {hinted} AS hinted
    FROM {moved} m
    JOIN jobsite_program p ON p.id = m.program_id
         AND (p.notification_group_id IS NOT NULL OR m.notify OR p.scope = 'SYSTEM')
    {runs}
    WHERE m.target <> 'WAITING' AND (m.target <> 'PENDING' OR {again})
    {more}
){outbox.recorded("happened")}"""


_STUCK = """UNION ALL
    SELECT m.tenant_id, p.notification_group_id, 'STUCK', ARRAY['STUCK'], NULL, NULL,
           concat('job ', m.number, ' STUCK ', m.fence), 'program ' || p.id, m.number, p.id, NULL, m.context_id, NULL,
           false, false, 1, '{{}}'::jsonb, NULL, {hinted}
    FROM {moved} m JOIN jobsite_program p ON p.id = m.program_id AND p.notification_group_id IS NOT NULL
    """
_TERMINATED = """UNION ALL
    SELECT counted.tenant_id, p.notification_group_id, 'PROGRAM_TERMINATED', ARRAY['PROGRAM_TERMINATED'], NULL, NULL,
           concat('program ', p.id, ' PROGRAM_TERMINATED ', clock_timestamp()), 'program ' || p.id, NULL, p.id, NULL,
           NULL, NULL, false, false, counted.consecutive_failures, '{{}}'::jsonb, NULL, {hinted}
    FROM counted JOIN jobsite_program p ON p.id = counted.id
    WHERE counted.status = 'TERMINATED' AND counted.status_before <> 'TERMINATED'
          AND p.notification_group_id IS NOT NULL"""


def told_of_schedules(happened: str) -> str:
    """The part of a statement that tells what `happened` to schedules: (schedule_id, at, event)."""
    return f""", told_of AS (
    SELECT s.tenant_id, p.notification_group_id AS group_id, h.event, ARRAY[h.event] AS names,
           CASE WHEN h.event = 'SCHEDULE_RECOVERED' THEN h.event END AS recovery,
           CASE WHEN h.event = 'SCHEDULE_RECOVERED' THEN ARRAY['SCHEDULE_MISSED'] END AS recovered,
           concat('schedule ', s.id, ' ', h.event, ' ', h.at) AS key, 'schedule ' || s.id AS source,
           NULL::bigint AS job_number, p.id AS program_id, s.id AS schedule_id, NULL::uuid AS context,
           s.user_id::bigint AS user_id, false AS notify,
           false AS alerts, 1 AS in_a_row,
           jsonb_build_object('at', to_char(h.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS details,
           NULL::bigint AS only_rule, false AS hinted
    FROM {happened} h
    JOIN jobsite_schedule s ON s.id = h.schedule_id
    JOIN jobsite_program p ON p.id = s.program_id AND p.notification_group_id IS NOT NULL
){outbox.recorded("told_of")}"""


SUBMITTED = f"""
WITH moved AS (
    SELECT {MOVED}, 'SUBMITTED' AS target FROM jobsite_job WHERE number = ANY(%(numbers)s)
){told("moved")}
SELECT id FROM told
"""
STARTED = f"""
WITH moved AS (
    SELECT {MOVED}, 'STARTED' AS target FROM jobsite_job WHERE number = %(number)s
){told("moved", hinted=True)}
SELECT id FROM told
"""


def submitted(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Tell that these jobs were submitted, in the transaction that has inserted them."""
    cursor.execute(SUBMITTED, {"numbers": list(numbers)})


def started(cursor: Cursor, number: int) -> list[int]:
    """Tell that a job has started, once however often it does; the deliveries."""
    cursor.execute(STARTED, {"number": number})
    return [row[0] for row in cursor.fetchall()]


LATE_SECONDS = 300.0
# Of each program that has such a rule only the first in its lane, and where others are before it, only if it is near:
# what is behind in a long queue is told when its turn comes nearer. What waits for its turn is late, what is held,
# paused or in the future is not.
LATE = f"""
WITH moved AS (
    SELECT first.*, 'LATE' AS target
    FROM (SELECT DISTINCT group_id FROM jobsite_rule WHERE event = 'LATE' AND deleted_at IS NULL AND is_active) r
    JOIN jobsite_program p ON p.notification_group_id = r.group_id AND p.deleted_at IS NULL
    JOIN jobsite_tenant t ON t.id = p.tenant_id AND t.status = 'ACTIVE'
    JOIN jobsite_queue q ON q.id = p.queue_id AND q.paused_at IS NULL
    LEFT JOIN jobsite_lane l ON l.queue_id = p.queue_id AND l.tenant_id = p.tenant_id
    CROSS JOIN LATERAL (
        SELECT {MOVED} FROM (
            SELECT {MOVED}, due_at FROM jobsite_job
            WHERE queue_id = p.queue_id AND tenant_id = p.tenant_id AND status = 'PENDING' AND blocked IS NULL
            ORDER BY rank, number LIMIT 500) near
        WHERE near.program_id = p.id AND near.due_at < statement_timestamp() - %(seconds)s * interval '1 second'
        LIMIT 1) first
    WHERE l.paused_at IS NULL
          AND NOT EXISTS (SELECT FROM jobsite_delivery d WHERE d.job_number = first.number AND d.event = 'LATE')
){told("moved")}
SELECT id FROM told
"""


def late(cursor: Cursor) -> int:
    """Tell of jobs that have waited for their turn for five minutes, the first of each program; how many deliveries."""
    cursor.execute(LATE, {"seconds": LATE_SECONDS})
    return len(cursor.fetchall())
