"""The deliveries that a statement writes itself, for what it has done."""

from collections.abc import Sequence

from jobsite.database import Cursor
from jobsite.notifications import outbox
from jobsite.programs.rules.lifecycle import IS_READY

# For a program without rules nobody is notified, unless the submitter of the job asked for it. Then all of this costs
# no more than a look at the program. Where a statement runs often, its caller asks NOTIFIES first.
NOTIFIES = "(p.notification_group_id IS NOT NULL OR j.notify)"
NOTIFIES_START = """(p.notification_group_id IS NOT NULL AND EXISTS (
    SELECT FROM jobsite_rule r WHERE r.group_id = p.notification_group_id AND r.event = 'STARTED'
                                     AND r.deleted_at IS NULL AND r.is_active))"""
_MOVED = ("number", "tenant_id", "program_id", "context_id", "notify", "fence")
MOVED = ", ".join(_MOVED)
"""The columns of a job that its deliveries take, beside `target`: where it went, or what has happened to it."""
MOVED_J = ", ".join(f"j.{name}" for name in _MOVED)
"""The same of the row `j`."""


def as_text(moment: str) -> str:
    """A moment in UTC, as RFC 3339 writes it, to the second."""
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""


_RECOVERED = "ARRAY['FAILED', 'COMPLETED+ERROR']"


# How many failures in a row an event reports. Failures before the first success of the statement follow those that the
# program had before: as they were under the lock of its row, or, where a success comes after them, as the statement saw
# them. A program whose failures are not counted has none from before.
_IN_A_ROW = """(runs.streak + CASE WHEN runs.stretch > 0 OR counted.id IS NULL THEN 0
                                    WHEN counted.has_success THEN p.consecutive_failures
                                    ELSE counted.consecutive_failures - counted.before END)::integer"""
_ENDED_ROW = """greatest(1, CASE WHEN runs.stretch = 1 THEN p.consecutive_failures + coalesce(counted.before, 0)
                              ELSE 1 END)::integer"""


def with_deliveries(
    moved: str,
    *,
    again: str = "false",
    outcome: str = "'NORMAL'",
    is_stuck: bool = False,
    is_counted: bool = False,
    hinted: bool = False,
) -> str:
    """The part of a statement that writes the deliveries for the rows of its part `moved`: MOVED and `target`.

    `outcome` and `again` are expressions of its row `m`: the outcome of what has COMPLETED, and whether what is PENDING
    is tried again after a failure, a time-out or a loss. `is_stuck` adds the event STUCK. Where the statement counts
    the failures in a row (`is_counted`), it adds the event of a program that they have terminated. The ids are in the
    part `deliveries`, which must be read, or nothing is written.
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


def with_deliveries_of_schedules(happened: str) -> str:
    """The part of a statement that writes the deliveries for what `happened` to schedules: (schedule_id, at, event)."""
    return f""", happened_to_schedules AS (
    SELECT s.tenant_id, p.notification_group_id AS group_id, h.event, ARRAY[h.event] AS names,
           CASE WHEN h.event = 'SCHEDULE_RECOVERED' THEN h.event END AS recovery,
           CASE WHEN h.event = 'SCHEDULE_RECOVERED' THEN ARRAY['SCHEDULE_MISSED'] END AS recovered,
           concat('schedule ', s.id, ' ', h.event, ' ', h.at) AS key, 'schedule ' || s.id AS source,
           NULL::bigint AS job_number, p.id AS program_id, s.id AS schedule_id, NULL::uuid AS context,
           s.user_id::bigint AS user_id, false AS notify,
           false AS alerts, 1 AS in_a_row,
           jsonb_build_object('at', {as_text("h.at")}) AS details,
           NULL::bigint AS only_rule, false AS hinted
    FROM {happened} h
    JOIN jobsite_schedule s ON s.id = h.schedule_id
    JOIN jobsite_program p ON p.id = s.program_id AND p.notification_group_id IS NOT NULL
){outbox.recorded("happened_to_schedules")}"""


SUBMITTED = f"""
WITH moved AS (
    SELECT {MOVED}, 'SUBMITTED' AS target FROM jobsite_job WHERE number = ANY(%(numbers)s)
){with_deliveries("moved")}
SELECT id FROM deliveries
"""
STARTED = f"""
WITH moved AS (
    SELECT {MOVED}, 'STARTED' AS target FROM jobsite_job WHERE number = %(number)s
){with_deliveries("moved", hinted=True)}
SELECT id FROM deliveries
"""


def submitted(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Write the deliveries for the submission of these jobs, in the transaction that has inserted them."""
    cursor.execute(SUBMITTED, {"numbers": list(numbers)})


def started(cursor: Cursor, number: int) -> list[int]:
    """Write the deliveries for a job's start, once however often it starts. Returns their ids."""
    cursor.execute(STARTED, {"number": number})
    return [row[0] for row in cursor.fetchall()]


LATE_SECONDS = 300.0
# Of each program with such a rule only its first job in the lane is looked at, and only if it is among the next 500 of
# the lane: a job far behind in a long queue is reported when its turn comes nearer. A job that waits for its turn is
# late; one that is held, paused or in the future is not.
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
            WHERE queue_id = p.queue_id AND tenant_id = p.tenant_id AND {IS_READY}
            ORDER BY rank, number LIMIT 500) near
        WHERE near.program_id = p.id AND near.due_at < statement_timestamp() - %(seconds)s * interval '1 second'
        LIMIT 1) first
    WHERE l.paused_at IS NULL
          AND NOT EXISTS (SELECT FROM jobsite_delivery d WHERE d.job_number = first.number AND d.event = 'LATE')
){with_deliveries("moved")}
SELECT id FROM deliveries
"""


def late(cursor: Cursor) -> int:
    """Write the deliveries for jobs that have waited five minutes for their turn. Returns how many there are."""
    cursor.execute(LATE, {"seconds": LATE_SECONDS})
    return len(cursor.fetchall())
