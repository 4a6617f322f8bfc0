"""Fire the schedules whose time has come: each nominal time once, in bounded batches.

Any number of processes may fire. The first one locks a schedule's row. The row of a nominal time is unique, and is
inserted in one transaction with its job and with the schedule's next time.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

import psycopg
from django.db import InterfaceError, OperationalError, connection, transaction

from jobsite.database import Cursor, prepared_cursor
from jobsite.logs import get_logger
from jobsite.programs.rules.recurrence import GRACE, Missed, decide, jitter_of, pause_of, recurrence_of
from jobsite.programs.schedules import occurrences
from jobsite.programs.schedules.eligibility import Due, Eligibility
from jobsite.programs.schedules.occurrences import Occurrence, Recorded
from jobsite.programs.sql.deliveries import as_text, with_deliveries_of_schedules
from jobsite.tenants import audit
from jobsite.tenants.models import Tenant
from jobsite.values import times

log = get_logger(__name__)

BATCH = 500
TURN_SECONDS = 5.0
RETRY_SECONDS = 60.0
LOCK_TIMEOUT = "5s"
"""How long a batch waits for another transaction that holds a REJECT key."""

IS_DUE = "s.due_at <= statement_timestamp() AND (s.retry_at IS NULL OR s.retry_at <= statement_timestamp())"
# By the index schedule_due. The process that fires keeps the row until its transaction ends; the next one skips it.
DUE = f"""
SELECT s.id, s.tenant_id, s.code, p.code, p.version, s.minute, s.hour, s.day_of_month, s.month, s.day_of_week,
       s.interval_minutes, s.anchor_at, s.time_zone, s.starts_at, s.ends_at, s.jitter_minutes, s.parameters::text,
       s.priority, s.overlap, s.missed, s.missed_cap, s.kind, s.user_id, s.owner, s.next_at,
       s.paused_at, s.paused_by, s.paused_reason, s.paused_until, s.late_at, s.problem,
       (SELECT j.status FROM jobsite_job j WHERE j.number = s.last_job), s.last_job,
       CASE WHEN p.deleted_at IS NOT NULL THEN format('program %%s is deleted', p.code)
            WHEN p.status = 'TERMINATED' THEN format('program %%s is terminated', p.code)
            WHEN t.status = 'SUSPENDED' THEN format('tenant %%s is suspended', t.code) END,
       statement_timestamp()
FROM jobsite_schedule s
JOIN jobsite_program p ON p.id = s.program_id
JOIN jobsite_tenant t ON t.id = s.tenant_id
WHERE {IS_DUE}
      AND (%(only)s::bigint IS NULL OR s.id = %(only)s)
ORDER BY s.due_at, s.id LIMIT %(batch)s FOR NO KEY UPDATE OF s SKIP LOCKED
"""


# ---- The sweep ------------------------------------------------------------------------------------------------


def sweep(cursor: Cursor) -> int:
    """Fire what is due, for at most about five seconds, and close Django's connection. Returns how many times fired."""
    cursor.execute(f"SELECT EXISTS (SELECT FROM jobsite_schedule s WHERE {IS_DUE})")
    if not cursor.fetchone()[0]:
        return 0
    end, done, taken = time.monotonic() + TURN_SECONDS, 0, BATCH
    try:
        while taken == BATCH and time.monotonic() < end:
            taken, fired = fire_due()
            done += fired
    finally:
        # Otherwise the thread that sweeps would keep it for days, and not notice that it broke.
        connection.close()
        decide.cache_clear()  # its decisions are for this moment, and are not asked again
    return done


def fire_due(*, batch: int = BATCH) -> tuple[int, int]:
    """Fire a batch of what is due. Returns how many schedules that were, and how many of their nominal times.

    Where a batch fails, each of its schedules is fired by itself. A schedule that fails alone is tried again in a
    minute, and its row says why.
    """
    try:
        return _fire(batch=batch)
    except Exception as error:
        if _is_of_the_database(error):
            raise
        log.exception("firing_failed")
    with prepared_cursor() as cursor:
        cursor.execute(f"SELECT s.id FROM jobsite_schedule s WHERE {IS_DUE} ORDER BY s.due_at, s.id LIMIT %s", [batch])
        keys = [row[0] for row in cursor.fetchall()]
    fired = 0
    for key in keys:
        try:
            fired += _fire(batch=1, only=key)[1]
        except Exception as error:
            if _is_of_the_database(error):
                raise
            log.exception("schedule_failed", schedule=key)
            _put_off(key, f"{type(error).__name__}: {error}")
    return len(keys), fired


def _entries(rows: str, *, action: str, reason: str, target: str = "code") -> str:
    return audit.by_the_system(
        rows, door="'sweep'", action=action, target_type="'schedule'", target=target, reason=reason
    )


PUT_OFF = f"""
WITH before AS (
    SELECT id, tenant_id, code, problem FROM jobsite_schedule WHERE id = %(id)s FOR NO KEY UPDATE
), moved AS (
    UPDATE jobsite_schedule s
    SET retry_at = clock_timestamp() + %(seconds)s * interval '1 second', problem = %(problem)s
    FROM before WHERE s.id = before.id
)
{_entries("before WHERE problem = ''", action="'schedule skipped'", reason="%(problem)s")}
"""


def _is_of_the_database(error: Exception) -> bool:
    """Whether the database itself fails, and not one schedule, whose REJECT key another transaction holds for long."""
    if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
        return False
    return isinstance(error, (OperationalError, InterfaceError))


def _put_off(key: int, problem: str) -> None:
    with prepared_cursor() as cursor:
        cursor.execute(PUT_OFF, {"seconds": RETRY_SECONDS, "problem": problem, "id": key})


def _fire(*, batch: int, only: int | None = None) -> tuple[int, int]:
    def fire() -> tuple[int, int]:
        with transaction.atomic(), prepared_cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            cursor.execute(DUE, {"batch": batch, "only": only})
            due = [Due(*row) for row in cursor.fetchall()]
            return len(due), _fire_all(cursor, due)

    return occurrences.with_current_programs(fire)


def _fire_all(cursor: Cursor, due: Sequence[Due]) -> int:
    tenants = Tenant.objects.in_bulk({one.tenant_id for one in due})
    eligibility = Eligibility(tenants)
    wanted: list[Occurrence] = []
    results: dict[int, _Result] = {}
    for one in due:
        decisions, next_at = decide(
            recurrence_of(one),
            first=one.next_at,
            now=one.now,
            jitter=jitter_of(one),
            missed=Missed(one.missed),
            cap=one.missed_cap,
            pause=pause_of(one),
        )
        results[one.id] = _Result(one, next_at)
        wanted += eligibility.occurrences(one, decisions)
    recorded = occurrences.record(cursor, wanted)
    for outcome in recorded:
        results[outcome.occurrence.schedule_id].note(outcome)
    _advance(cursor, results.values())
    _report(cursor, results.values())
    return len(recorded)


class _Result:
    """What a batch has done with one schedule."""

    def __init__(self, due: Due, next_at: datetime | None) -> None:
        self.due = due
        self.next_at = next_at
        self.due_at = None if next_at is None else next_at + jitter_of(due)
        self.last_job: int | None = None
        self.problem = due.problem

    def note(self, outcome: Recorded) -> None:
        """Note what became of one of its times: those that fired come first, in order."""
        if outcome.number is not None:
            self.last_job, self.problem = outcome.number, ""
        elif outcome.occurrence.is_problem:
            self.problem = outcome.reason

    def events(self) -> Iterator[tuple[str, str]]:
        """The audit entries, as (action, reason): the schedule has a new problem, or has recovered."""
        if self.problem and not self.due.problem:
            yield "schedule skipped", self.problem
        elif self.due.problem and not self.problem:
            yield "schedule recovered", f"it fires again; before: {self.due.problem}"
        if self.due.late_at is not None:
            yield "schedule recovered", f"its late time of {times.format_time(self.due.next_at)} has been processed"


# ---- What is written ------------------------------------------------------------------------------------------

ADVANCE = """
UPDATE jobsite_schedule s
SET next_at = g.next_at, due_at = g.due_at, retry_at = NULL, late_at = NULL, problem = g.problem,
    last_job = coalesce(g.job, s.last_job),
    fired_at = CASE WHEN g.job IS NULL THEN s.fired_at ELSE clock_timestamp() END
FROM unnest(%(schedule)s::bigint[], %(next_at)s::timestamptz[], %(due_at)s::timestamptz[], %(job)s::bigint[],
            %(problem)s::text[]) AS g (id, next_at, due_at, job, problem)
WHERE s.id = g.id
"""
RECORD_EVENTS = _entries(
    """unnest(%(tenant)s::bigint[], %(action)s::text[], %(target)s::text[], %(reason)s::text[])
       AS g (tenant_id, action, target, reason)""",
    action="action",
    target="target",
    reason="reason",
)
NOTIFY_RECOVERED = f"""
WITH happened AS (
    SELECT g.id AS schedule_id, g.at, 'SCHEDULE_RECOVERED' AS event
    FROM unnest(%(schedule)s::bigint[], %(at)s::timestamptz[]) AS g (id, at)
){with_deliveries_of_schedules("happened")}
SELECT count(*) FROM deliveries
"""


def _advance(cursor: Cursor, results: Iterable[_Result]) -> None:
    moved = list(results)
    cursor.execute(
        ADVANCE,
        {
            "schedule": [one.due.id for one in moved],
            "next_at": [one.next_at for one in moved],
            "due_at": [one.due_at for one in moved],
            "job": [one.last_job for one in moved],
            "problem": [one.problem for one in moved],
        },
    )


def _report(cursor: Cursor, results: Collection[_Result]) -> None:
    events = [(one.due, *event) for one in results for event in one.events()]
    if events:
        cursor.execute(
            RECORD_EVENTS,
            {
                "tenant": [due.tenant_id for due, _, _ in events],
                "action": [action for _, action, _ in events],
                "target": [due.code for due, _, _ in events],
                "reason": [reason for _, _, reason in events],
            },
        )
        late = [one for one in results if one.due.late_at is not None]
        cursor.execute(
            NOTIFY_RECOVERED,
            {"schedule": [one.due.id for one in late], "at": [one.due.next_at for one in late]},
        )


# ---- Late -----------------------------------------------------------------------------------------------------

# A paused schedule is never late.
LATE = f"""
WITH late AS MATERIALIZED (
    SELECT id FROM jobsite_schedule
    WHERE due_at < statement_timestamp() - %(seconds)s * interval '1 second' AND late_at IS NULL AND paused_at IS NULL
    ORDER BY due_at LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE jobsite_schedule s SET late_at = clock_timestamp() FROM late WHERE s.id = late.id
    RETURNING s.id, s.program_id, s.tenant_id, s.code, s.due_at
), happened AS (
    SELECT m.id AS schedule_id, m.due_at AS at, 'SCHEDULE_MISSED' AS event FROM marked m
){with_deliveries_of_schedules("happened")}
{
    _entries(
        "marked, (SELECT count(*) FROM deliveries) read",
        action="'schedule missed'",
        reason=f"'it should have fired at ' || {as_text('due_at')} || ' and did not'",
    )
}
"""


def notice_late(cursor: Cursor) -> int:
    """Report schedules as late whose time has passed and which no process has fired. Returns how many there are."""
    cursor.execute(LATE, {"seconds": GRACE.total_seconds(), "batch": BATCH})
    return cursor.rowcount
