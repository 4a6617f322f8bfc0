"""Look for what was lost and put it right: bounded, idempotent batches that are safe in any number of processes.

Beat's tick, every worker's main process and `jobsite sweep` call `run_due`. Each sweep has a row, and only the process
that takes it by compare-and-set runs the sweep.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import psycopg
from django.conf import settings

from jobsite import brokers
from jobsite.database import ConnectionOfEachThread, Cursor
from jobsite.logs import get_logger
from jobsite.notifications import hints
from jobsite.programs import dispatch, families, workers
from jobsite.programs.operations import bulk, pausing
from jobsite.programs.rules.lifecycle import IS_READY
from jobsite.programs.schedules import firing
from jobsite.programs.sql import deliveries, lanes
from jobsite.programs.submission import quotas
from jobsite.programs.transitions import dispatch as dispatch_transition
from jobsite.programs.transitions import hold, overlap, pause, reap
from jobsite.programs.transitions.reap import Reaped

log = get_logger(__name__)

EMPTY_LIST_SECONDS = 5.0
MESSAGE_AGE_SECONDS = 60.0
AFTER_START_SECONDS = 5.0
_own_connection = ConnectionOfEachThread(workers.open_connection)


@dataclass(frozen=True)
class Sweep:
    """One sweep: `seconds` between two runs anywhere in the installation."""

    name: str
    seconds: float
    run: Callable[[Cursor], int]


def run_due(names: Collection[str] | None = None) -> dict[str, int]:
    """Run the sweeps that are due, all or of these names. Returns how much each mended.

    Where the database is away, that is logged.
    """
    try:
        return _run(only_due=True, names=names)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        log.warning("sweeps_failed", error=str(error))
        _own_connection.drop()
        return {}


def run_all() -> dict[str, int]:
    """Run every sweep now, due or not. Returns how much each mended."""
    return _run(only_due=False)


# Takes all due sweeps by one statement; a sweep that began and never ended is due again like any other.
TAKE = """
UPDATE jobsite_sweep s SET started_at = clock_timestamp()
FROM (SELECT w.name FROM unnest(%(names)s::text[], %(seconds)s::float[]) AS w (name, seconds)
      JOIN jobsite_sweep s USING (name)
      WHERE s.started_at IS NULL OR s.started_at <= clock_timestamp() - w.seconds * interval '1 second'
      ORDER BY s.id FOR UPDATE OF s SKIP LOCKED) due
WHERE s.name = due.name
RETURNING s.name
"""


def _run(*, only_due: bool, names: Collection[str] | None = None) -> dict[str, int]:
    sweeps = {sweep.name: sweep for sweep in all_sweeps() if names is None or sweep.name in names}
    mended: dict[str, int] = {}
    with _own_connection.get().cursor() as cursor:
        seconds = [sweep.seconds if only_due else 0.0 for sweep in sweeps.values()]
        cursor.execute(TAKE, {"names": list(sweeps), "seconds": seconds})
        due = {row[0] for row in cursor.fetchall()}
        for name, sweep in sweeps.items():
            if name not in due:
                continue
            error = ""
            try:
                mended[name] = sweep.run(cursor)
            except brokers.BrokerUnavailable as trouble:
                error = str(trouble)
                log.warning("sweep_failed", sweep=name, error=error)
            except Exception as trouble:
                # A sweep that fails must not stop the others, nor the thread or beat that drives them. If the
                # connection is broken, the next statement raises.
                error = f"{type(trouble).__name__}: {trouble}"
                log.exception("sweep_failed", sweep=name)
            cursor.execute(
                "UPDATE jobsite_sweep SET finished_at = clock_timestamp(), error = %s WHERE name = %s",
                [error, name],
            )
    if any(mended.values()):
        log.info("swept", **{name: count for name, count in mended.items() if count})
    return mended


def all_sweeps() -> tuple[Sweep, ...]:
    """Every sweep, in the order in which they run."""
    pace = settings.JOBSITE_SWEEP_SECONDS
    return (
        Sweep("due", min(1.0, pace), _due),
        Sweep("late_schedules", min(1.0, pace), firing.notice_late),
        Sweep("schedules", min(1.0, pace), firing.sweep),
        Sweep("lost_workers", 2 * pace, _lost_workers),
        Sweep("expired_locks", pace, _expired_locks),
        Sweep("stuck", pace, _stuck),
        Sweep("families", pace, families.sweep),
        Sweep("lost_messages", pace, _lost_messages),
        Sweep("ended_holds", 2 * pace, _ended_holds),
        Sweep("ended_pauses", 2 * pace, pausing.end_pauses),
        Sweep("quotas", 2 * pace, quotas.recount),
        Sweep("terminated", 2 * pace, pausing.cancel_of_terminated),
        Sweep("late_jobs", 2 * pace, deliveries.late),
        Sweep("deliveries", min(2.0, pace), hints.sweep),
        Sweep("bulk_acts", min(1.0, pace), _bulk_acts),
    )


def _due(cursor: Cursor) -> int:
    """Bring PENDING rows that became due into their lanes, and dispatch every queue that has something ready."""
    moved = hold.unblock(cursor) + pause.unblock(cursor)
    ready = moved + overlap.let_in(cursor)
    if ready:
        dispatch_transition.wake(cursor, [number for number, _ in ready])
    open_lanes(cursor)
    # A queue that is no longer configured keeps its jobs; they go on when it is configured again.
    cursor.execute(
        """
        SELECT DISTINCT l.queue_id FROM jobsite_lane l JOIN jobsite_queue q ON q.id = l.queue_id
        WHERE l.is_waiting AND q.name = ANY(%s) ORDER BY l.queue_id
        """,
        [list(settings.JOBSITE_BROKER_URLS)],
    )
    for (queue_id,) in cursor.fetchall():
        dispatch.dispatch(cursor, queue_id)
    return len(ready)


# A skip scan over the index of ready rows: its cost grows with the lanes that have something waiting, not
# with the rows that wait, nor with the tenants there are.
OPEN_LANES = f"""
WITH RECURSIVE lane (queue_id, tenant_id) AS (
    (SELECT queue_id, tenant_id FROM jobsite_job WHERE {IS_READY}
     ORDER BY queue_id, tenant_id LIMIT 1)
    UNION ALL
    SELECT following.queue_id, following.tenant_id FROM lane CROSS JOIN LATERAL (
        SELECT queue_id, tenant_id FROM jobsite_job
        WHERE {IS_READY}
              AND (queue_id, tenant_id) > (lane.queue_id, lane.tenant_id)
        ORDER BY queue_id, tenant_id LIMIT 1) following
)""" + lanes.woken("""
SELECT queue_id, tenant_id, true FROM lane
WHERE NOT EXISTS (SELECT 1 FROM jobsite_lane l
                  WHERE l.queue_id = lane.queue_id AND l.tenant_id = lane.tenant_id AND l.is_waiting)""")


def open_lanes(cursor: Cursor) -> None:
    """Wake every lane that has a ready job, so that dispatch looks at it."""
    cursor.execute(OPEN_LANES)


def send_on(cursor: Cursor, reaped: list[Reaped]) -> int:
    """Dispatch reaped jobs that are PENDING, follow the families of those that ended. Returns how many were reaped."""
    back: dict[int, list[int]] = {}
    for one in reaped:
        log.warning("run_taken", job=one.number, to=str(one.status))
        if one.status == "PENDING":
            back.setdefault(one.queue_id, []).append(one.number)
    for queue_id, numbers in sorted(back.items()):
        dispatch.wake_and_dispatch(cursor, numbers, queue_id)
    if ended := [one.number for one in reaped if one.status != "PENDING"]:
        families.follow(cursor, ended)
    return len(reaped)


def _expired_locks(cursor: Cursor) -> int:
    return send_on(cursor, reap.reap_expired(cursor)) if _has_been_up(cursor) else 0


def _stuck(cursor: Cursor) -> int:
    return send_on(cursor, reap.expire_stuck(cursor)) if _has_been_up(cursor) else 0


def _has_been_up(cursor: Cursor) -> bool:
    """Whether the database has been up for five seconds.

    A worker whose job ended while the database was away tries to write that every two seconds. A sweep that came first
    would take the run from it.
    """
    cursor.execute(
        "SELECT clock_timestamp() > pg_postmaster_start_time() + %s * interval '1 second'", [AFTER_START_SECONDS]
    )
    return bool(cursor.fetchone()[0])


def _lost_workers(cursor: Cursor) -> int:
    return send_on(cursor, workers.reap_gone(cursor, silent_seconds=settings.JOBSITE_LOCK_SECONDS))


def _ended_holds(cursor: Cursor) -> int:
    return len(hold.end_holds(cursor))


def _bulk_acts(cursor: Cursor) -> int:
    """Do a part of each running act on many jobs, so that one of ten thousand jobs does not keep the next waiting."""
    cursor.execute("SELECT id FROM jobsite_bulkact WHERE state = 'RUNNING' ORDER BY id LIMIT %s", [bulk.ACTS_AT_ONCE])
    keys = [row[0] for row in cursor.fetchall()]
    return bulk.sweep(keys) if keys else 0


QUEUED = """
SELECT q.id, q.name, q.broker_epoch,
       (SELECT count(*) FROM jobsite_job j WHERE j.queue_id = q.id AND j.status = 'QUEUED')
FROM jobsite_queue q ORDER BY q.id
"""


def _lost_messages(cursor: Cursor) -> int:
    """Requeue QUEUED rows whose message is lost, and dispatch them again.

    Messages are lost where the broker's epoch key has changed (it lost its memory). They are taken for lost where its
    list is empty though rows have been QUEUED for five seconds, and where rows have been QUEUED for a minute while the
    list is shorter than the rows. A broker that cannot be reached is left alone: its messages may still exist.
    """
    cursor.execute(QUEUED)
    by_name = {row[1]: row for row in cursor.fetchall()}
    mended = 0
    unavailable: list[str] = []
    for url, names in brokers.queues_by_url().items():
        known = [name for name in names if name in by_name]
        try:
            state = brokers.state(url, known)
        except brokers.BrokerUnavailable as error:
            unavailable.append(str(error))
            continue
        for name in known:
            mended += _requeue_lost(cursor, by_name[name], state, state.waiting[name])
    if unavailable:
        raise brokers.BrokerUnavailable("; ".join(unavailable))
    return mended


def _requeue_lost(cursor: Cursor, row: tuple[int, str, object, int], state: brokers.BrokerState, waiting: int) -> int:
    queue_id, name, known_epoch, queued = row
    older_than: float | None = None
    if known_epoch != state.epoch:
        cursor.execute(
            "UPDATE jobsite_queue SET broker_epoch = %s WHERE id = %s AND broker_epoch IS NOT DISTINCT FROM %s",
            [state.epoch, queue_id, known_epoch],
        )
        older_than = 0.0 if known_epoch is not None and cursor.rowcount else None
    if older_than is None and queued and waiting == 0:
        older_than = EMPTY_LIST_SECONDS
    elif older_than is None and queued > waiting:
        older_than = MESSAGE_AGE_SECONDS
    if older_than is None:
        return 0
    lost = dispatch_transition.requeue(cursor, queue_id=queue_id, older_than=older_than)
    if lost:
        log.warning("messages_lost", queue=name, jobs=len(lost))
        dispatch.dispatch(cursor, queue_id)
    return len(lost)
