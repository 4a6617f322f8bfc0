"""Jobs, attempts, logs, queues and workers as the plain values that the REST API, the CLI and the admin show."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Min

from jobsite import brokers
from jobsite.programs.models import Firing, Job, JobAttempt, JobLogEntry, JobStep, Schedule, Worker
from jobsite.programs.rules import recurrence
from jobsite.programs.rules.lifecycle import AttemptResult, Status, StepStatus
from jobsite.programs.transitions.spawn import OWN_KEY
from jobsite.tenants.principals import Principal
from jobsite.values import masking, times

COUNT_LIMIT = 100_000
"""Counts of waiting jobs stop here: no page counts a large table exactly."""


def moment(value: datetime | None) -> str | None:
    """A moment as the API writes it, or None."""
    return None if value is None else times.format_time(value)


def job(row: Job, *, worker: str | None = None, started_at: datetime | None = None) -> dict[str, Any]:
    """A job as REST shows it; `row` has program, queue and context loaded. `started_at` replaces that of the row."""
    return {
        "number": row.number,
        "program": row.program.code,
        "status": row.status,
        "phase": str(row.phase),
        "outcome": row.outcome,
        "trigger": row.trigger,
        "priority": row.priority,
        "queue": row.queue.name,
        "parameters": masking.masked(row.parameters),
        "scheduled_at": moment(row.scheduled_at),
        "due_at": moment(row.due_at),
        "created_at": moment(row.created_at),
        "queued_at": moment(row.queued_at),
        "started_at": moment(started_at or row.started_at),
        "finished_at": moment(row.finished_at),
        "attempts": row.attempts,
        "losses": row.losses,
        "hold": _act(row.hold_at, row.hold_by, row.hold_reason, until=row.hold_until),
        "cancel": _act(row.cancel_requested_at, row.cancel_requested_by, row.cancel_reason),
        "progress": row.progress,
        "current_step": row.current_step or None,
        "worker": worker,
        "result": row.result,
        "error": row.error,
        "failure_kind": row.failure_kind,
        "parent": row.parent_id,
        "retry_of": row.retry_of_id,
        "submitted_by": row.context.content["submitted_by"],
        "needs_review": row.needs_review,
        "engine": row.engine,
        "external_id": str(row.external_id) if row.external_id else None,
    }


def _act(at: datetime | None, by: str, reason: str, **more: datetime | None) -> dict[str, Any] | None:
    """Since when, by whom and why; None where nobody did it."""
    if at is None:
        return None
    return {"at": moment(at), "by": by, "reason": reason, **{name: moment(value) for name, value in more.items()}}


def jobs(rows: Iterable[Job]) -> list[dict[str, Any]]:
    """Several jobs, their workers found by one query."""
    rows = list(rows)
    owners = {row.lock_owner for row in rows if row.lock_owner}
    names = dict(Worker.objects.filter(incarnation__in=owners).values_list("incarnation", "name")) if owners else {}
    began = first_starts(rows)
    return [
        job(row, worker=names.get(row.lock_owner) if row.lock_owner else None, started_at=began.get(row.number))
        for row in rows
    ]


def first_starts(rows: Iterable[Job]) -> dict[int, datetime]:
    """The first start of each job that has parked for its callback: when its actions began, not the callback's run."""
    parked = [row.number for row in rows if row.parked_fence is not None]
    if not parked:
        return {}
    settled = JobAttempt.objects.filter(job__in=parked, result=AttemptResult.PARKED).values_list("job")
    return {number: at for number, at in settled.annotate(at=Min("started_at")) if at is not None}


def attempt(row: JobAttempt) -> dict[str, Any]:
    """One attempt."""
    return {
        "fence": row.fence,
        "worker": row.worker,
        "claimed_at": moment(row.claimed_at),
        "started_at": moment(row.started_at),
        "ended_at": moment(row.ended_at),
        "result": row.result,
        "error": row.error,
        "traceback": row.traceback or None,
    }


def step(row: JobStep, job: Job) -> dict[str, Any]:
    """One step. It is INTERRUPTED if it began and has not ended, but does not run now."""
    is_running = job.status == Status.RUNNING and row.fence == job.fence
    return {
        "action": row.action,
        "name": row.name or None,
        "status": "INTERRUPTED" if row.status == StepStatus.RUNNING and not is_running else row.status,
        "tries": row.tries,
        "started_at": moment(row.started_at),
        "ended_at": moment(row.ended_at),
        "result": row.result,
        "error": row.error,
    }


def children(number: int, families: Mapping[int, Sequence[Job]]) -> list[dict[str, Any]]:
    """The children of a job, each with its own children."""
    return [
        {
            "number": row.number,
            "program": row.program.code,
            "key": child_key(row),
            "status": row.status,
            "outcome": row.outcome,
            "started_at": moment(row.started_at),
            "finished_at": moment(row.finished_at),
            "error": row.error,
            "children": children(row.number, families),
        }
        for row in families.get(number, ())
    ]


def child_key(row: Job) -> str | None:
    """The key that a child was spawned with; None if it was given none."""
    return None if row.child_key is None or row.child_key.startswith(OWN_KEY) else row.child_key


def log_entry(row: JobLogEntry) -> dict[str, Any]:
    """One line of a job's log."""
    return {
        "sequence": row.sequence,
        "at": moment(row.at),
        "severity": row.severity,
        "message": row.message,
        "attempt": row.attempt,
        "step": row.step or None,
        "stream": row.stream,
    }


def schedule(row: Schedule) -> dict[str, Any]:
    """A schedule; `next_at` is its next nominal time, `fires_at` adds the jitter. `row` has its program loaded."""
    return {
        "code": row.code,
        "program": row.program.code,
        "description": row.description,
        "cron": None if row.cron is None else str(row.cron),
        "interval_minutes": row.interval_minutes,
        "words": recurrence.words(row),
        "time_zone": row.time_zone,
        "jitter_minutes": row.jitter_minutes,
        "starts_at": moment(row.starts_at),
        "ends_at": moment(row.ends_at),
        "parameters": masking.masked(row.parameters),
        "priority": row.priority,
        "overlap": row.overlap,
        "missed": row.missed,
        "missed_cap": row.missed_cap,
        "owner": row.owner,
        "next_at": moment(row.next_at),
        "fires_at": moment(row.due_at),
        "fired_at": moment(row.fired_at),
        "last_job": row.last_job,
        "pause": _act(row.paused_at, row.paused_by, row.paused_reason, until=row.paused_until),
        "problem": row.problem or None,
        "late_since": moment(row.late_at),
    }


def firing(row: Firing, job: Job | None) -> dict[str, Any]:
    """One nominal time and its result, with the status of its job and how long that job ran."""
    ran = None
    if job is not None and job.started_at is not None and job.finished_at is not None:
        ran = (job.finished_at - job.started_at).total_seconds()
    return {
        "nominal_at": moment(row.nominal_at),
        "through": moment(row.through),
        "result": row.result,
        "reason": row.reason or None,
        "was_missed": row.was_missed,
        "is_backfill": row.is_backfill,
        "at": moment(row.at),
        "job": row.job_number,
        "status": None if job is None else job.status,
        "outcome": None if job is None else job.outcome,
        "seconds": ran,
    }


# Waiting jobs are counted through the partial indexes, and only up to the limit.
QUEUES = """
SELECT q.name,
       (SELECT count(*) FROM (SELECT 1 FROM jobsite_job j
                              WHERE j.queue_id = q.id AND j.tenant_id = %(tenant)s AND j.status = 'PENDING'
                                    AND j.blocked IS NULL LIMIT %(limit)s) ready)
     + (SELECT count(*) FROM jobsite_job j
        WHERE j.queue_id = q.id AND j.tenant_id = %(tenant)s AND j.status = 'QUEUED') AS depth,
       (SELECT extract(epoch FROM clock_timestamp() - min(due_at))::float FROM (
            (SELECT j.due_at FROM jobsite_job j
             WHERE j.queue_id = q.id AND j.tenant_id = %(tenant)s AND j.status = 'PENDING' AND j.blocked IS NULL
             ORDER BY j.rank, j.number LIMIT 1)
            UNION ALL
            (SELECT min(j.due_at) FROM jobsite_job j
             WHERE j.queue_id = q.id AND j.tenant_id = %(tenant)s AND j.status = 'QUEUED')) waiting) AS oldest,
       (SELECT count(*) FROM jobsite_job j
        WHERE j.queue_id = q.id AND j.tenant_id = %(tenant)s AND j.status = 'RUNNING') AS running,
       (SELECT count(*) FROM jobsite_worker w
        WHERE w.status = 'ACTIVE' AND q.name = ANY(w.queues)
              AND w.last_seen_at > clock_timestamp() - interval '60 seconds') AS workers,
       q.paused_at IS NOT NULL OR coalesce(l.paused_at IS NOT NULL, false) AS paused
FROM jobsite_queue q LEFT JOIN jobsite_lane l ON l.queue_id = q.id AND l.tenant_id = %(tenant)s
WHERE q.name = ANY(%(names)s)
ORDER BY q.id
"""


def queues(principal: Principal, names: Iterable[str]) -> list[dict[str, Any]]:
    """The queues as the principal's tenant sees them: its own depth, age and running."""
    principal.require("jobs:read")
    with connection.cursor() as cursor:
        cursor.execute(QUEUES, {"tenant": principal.tenant.pk, "names": list(names), "limit": COUNT_LIMIT})
        rows = cursor.fetchall()
    return [
        {
            "queue": name,
            "depth": depth,
            "oldest_seconds": None if oldest is None else max(0.0, round(oldest, 3)),
            "running": running,
            "workers": workers if principal.is_platform else min(workers, 1),
            "broker": brokers.masked_url_of(name) if principal.is_platform else None,
            "paused": paused,
        }
        for name, depth, oldest, running, workers, paused in rows
    ]


WORKERS = """
SELECT w.name, m.name, w.queues, w.status, w.last_seen_at,
       (SELECT count(*) FROM jobsite_job j WHERE j.lock_owner = w.incarnation AND j.status = 'RUNNING')
FROM jobsite_worker w JOIN jobsite_workermanager m ON m.id = w.manager_id
WHERE w.status IN ('ACTIVE', 'STOPPING') OR w.last_seen_at > clock_timestamp() - interval '1 day'
ORDER BY w.status IN ('STOPPED', 'LOST'), w.name, w.id DESC LIMIT 500
"""


def workers() -> list[dict[str, Any]]:
    """The registered workers, active ones first, then those that left within the last day."""
    with connection.cursor() as cursor:
        cursor.execute(WORKERS)
        rows = cursor.fetchall()
    return [
        {
            "worker": name,
            "manager": manager,
            "queues": queues,
            "status": status,
            "last_seen_at": moment(last_seen_at),
            "running": running,
        }
        for name, manager, queues, status, last_seen_at, running in rows
    ]
