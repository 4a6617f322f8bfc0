"""Why a job is not running, or where it is: a sentence for each reason, by the rules of dispatch and claim."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace

from django.conf import settings
from django.db import connection

from jobsite.errors import NotFound
from jobsite.programs.rules.lifecycle import IS_OPEN, Status
from jobsite.programs.sql.window import WORKERS
from jobsite.tenants.principals import Principal
from jobsite.values import times

AHEAD_LIMIT = 1_000
"""Jobs ahead in the lane are counted up to this number."""


@dataclass(frozen=True)
class Reason:
    """One reason, for scripts (`code`) and for people."""

    code: str
    message: str


def _pause(alias: str, level: str) -> str:
    return ", ".join(f"{alias}.paused_{part} AS {level}_{part}" for part in ("at", "by", "reason", "until"))


# One snapshot of everything that the rules need. It reads by keys and partial indexes only.
FACTS = f"""
SELECT j.status, j.due_at, j.due_at > clock_timestamp() AS is_future, j.blocked, j.fence,
       j.error->>'type' AS error, j.error->>'message' AS error_message,
       j.attempts - j.losses AS runs, p.max_attempts,
       j.hold_at, j.hold_by, j.hold_reason, j.hold_until,
       j.cancel_requested_at AS cancel_at, j.cancel_requested_by AS cancel_by, j.cancel_reason,
       j.queued_at, coalesce(j.started_at, j.claimed_at) AS began_at, j.finished_at,
       coalesce(w.name, 'a worker') AS worker, j.current_step,
       j.progress->>'processed' AS processed, j.progress->>'total' AS total, j.progress->>'message' AS said,
       p.code AS program, p.status AS program_status, {_pause("p", "program")},
       gate.name AS queue, {_pause("gate", "queue")}, {_pause("l", "lane")},
       t.code AS tenant, t.status AS tenant_status, {_pause("t", "tenant")}, t.running_quota,
       CASE WHEN t.running_quota IS NOT NULL
            THEN (SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = j.tenant_id AND r.status = 'RUNNING')
            END AS running,
       workers.count AS workers, workers.children, workers.idle,
       (SELECT string_agg(format('manager %%s runs %%s of %%s jobs', m.name, m.running, m.max_running), ', ')
        FROM (SELECT DISTINCT m.name, m.max_running,
                     (SELECT count(*) FROM jobsite_job r JOIN jobsite_worker o ON o.incarnation = r.lock_owner
                      WHERE r.status = 'RUNNING' AND o.manager_id = m.id) AS running
              FROM jobsite_worker a JOIN jobsite_workermanager m ON m.id = a.manager_id
              WHERE a.status = 'ACTIVE' AND gate.name = ANY(a.queues)
                    AND a.last_seen_at > clock_timestamp() - %(lock)s * interval '1 second') m
        WHERE m.running >= m.max_running) AS full_managers,
       CASE WHEN j.status = 'PENDING'
            THEN (SELECT count(*) FROM (SELECT 1 FROM jobsite_job b
                                        WHERE b.queue_id = j.queue_id AND b.tenant_id = j.tenant_id
                                              AND b.status = 'PENDING' AND b.blocked IS NULL
                                              AND (b.rank, b.number) < (j.rank, j.number)
                                        LIMIT {AHEAD_LIMIT}) before) END AS ahead,
       children.count AS children_count, children.open AS children_open,
       CASE WHEN j.blocked = 'OVERLAP'
            THEN (SELECT format('#%%s, which is %%s', o.number, o.status) FROM jobsite_job o
                  WHERE o.program_id = j.program_id AND o.overlap_key = j.overlap_key AND o.number <> j.number
                        AND o.overlap_policy = 'QUEUE' AND o.{IS_OPEN}
                  ORDER BY o.status = 'PENDING', o.scheduled_at, o.number LIMIT 1) END AS overlaps
FROM jobsite_job j
JOIN jobsite_program p ON p.id = j.program_id
JOIN jobsite_queue gate ON gate.id = j.queue_id
JOIN jobsite_tenant t ON t.id = j.tenant_id
LEFT JOIN jobsite_lane l ON l.queue_id = j.queue_id AND l.tenant_id = j.tenant_id
LEFT JOIN jobsite_worker w ON w.incarnation = j.lock_owner
CROSS JOIN LATERAL ({WORKERS}) workers
LEFT JOIN LATERAL (SELECT count(*) AS count, count(*) FILTER (WHERE c.{IS_OPEN}) AS open
                   FROM jobsite_job c WHERE c.parent_id = j.number) children ON j.status = 'WAITING'
WHERE j.number = %(number)s AND j.tenant_id = %(tenant)s
"""


def why(principal: Principal, number: int) -> list[Reason]:
    """Every reason why a job of the principal's tenant waits; where it is, if it runs or has ended.

    Never empty. Only the platform's operators see how many workers there are and how busy they are, because that shows
    what other tenants do. Raises NotFound for a job of another tenant, whether it exists or not.
    """
    principal.require("jobs:read")
    values = {"lock": settings.JOBSITE_LOCK_SECONDS, "number": number, "tenant": principal.tenant.pk}
    with connection.cursor() as cursor:
        cursor.execute(FACTS, values)
        row = cursor.fetchone()
        names = [column.name for column in cursor.description]
    if row is None:
        raise NotFound(f"no job {number}")
    facts = SimpleNamespace(**dict(zip(names, row, strict=True)), is_platform=principal.is_platform)
    match Status(facts.status):
        case Status.PENDING:
            return [*_own_reasons(facts), *_outside_reasons(facts)] or [_next(facts)]
        case Status.QUEUED:
            return [*_outside_reasons(facts), _queued(facts)]
        case Status.RUNNING:
            return list(_running(facts))
        case Status.WAITING:
            waits = f"it waits for {facts.children_open:,} of its {facts.children_count:,} children"
            return [Reason("waiting_for_children", waits)]
    return [Reason("ended", f"it ended as {facts.status} at {_moment(facts.finished_at)}")]


def _own_reasons(facts: SimpleNamespace) -> Iterator[Reason]:
    if facts.hold_at is not None:
        by_whom = _by_whom(facts.hold_at, facts.hold_by, facts.hold_reason, facts.hold_until)
        yield Reason("held", f"it is held{by_whom}")
    if facts.is_future:
        yield _later(facts)
    if facts.blocked == "OVERLAP":
        other = facts.overlaps or "another, which has just ended"
        yield Reason("overlap", f"program {facts.program} runs one job per key at a time; it waits for {other}")


def _later(facts: SimpleNamespace) -> Reason:
    due = _moment(facts.due_at)
    if facts.runs and facts.error:
        run = f"run {facts.runs + 1} of {facts.max_attempts} is due at {due}"
        return Reason("retrying", f"{run}; the last run ended with {facts.error}: {facts.error_message}")
    if facts.fence:
        error = f"; the last run ended with {facts.error}: {facts.error_message}" if facts.error else ""
        return Reason("snoozed", f"it will run again at {due}{error}")
    return Reason("scheduled", f"it is scheduled for {due}")


def _outside_reasons(facts: SimpleNamespace) -> Iterator[Reason]:
    if facts.program_status == "PAUSED":
        yield Reason("program_paused", f"program {facts.program} is paused{_pause_of(facts, 'program')}")
    if facts.queue_at is not None:
        yield Reason("queue_paused", f"queue {facts.queue} is paused{_pause_of(facts, 'queue')}")
    if facts.lane_at is not None:
        text = f"queue {facts.queue} is paused for tenant {facts.tenant}{_pause_of(facts, 'lane')}"
        yield Reason("queue_paused", text)
    if facts.tenant_status == "SUSPENDED":
        yield Reason("tenant_suspended", f"tenant {facts.tenant} is suspended{_pause_of(facts, 'tenant')}")
    if facts.running_quota is not None and facts.running >= facts.running_quota:
        yield Reason("over_quota", f"tenant {facts.tenant} runs {facts.running} of {facts.running_quota} jobs")
    if facts.queue not in settings.JOBSITE_QUEUES:
        yield Reason("no_queue", f"queue {facts.queue} is no longer in JOBSITE_QUEUES")
    elif not facts.workers:
        start = f"; start one with: jobsite worker {facts.queue}" if facts.is_platform else ""
        yield Reason("no_worker", f"no worker serves queue {facts.queue}{start}")
    elif facts.full_managers and not facts.idle:
        limits = f": {facts.full_managers}" if facts.is_platform else ""
        yield Reason("limit_reached", f"the workers of queue {facts.queue} run as many jobs as they may{limits}")


def _next(facts: SimpleNamespace) -> Reason:
    if facts.idle and not facts.ahead:
        return Reason("next", f"nothing is in its way: it goes to a worker of queue {facts.queue} within seconds")
    ahead = f"more than {AHEAD_LIMIT:,} jobs" if facts.ahead >= AHEAD_LIMIT else _jobs(facts.ahead)
    children = f", all {facts.children} children" if facts.is_platform else ""
    busy = "" if facts.idle else f"the workers of queue {facts.queue} are busy{children}; "
    return Reason("busy", f"{busy}{ahead} of tenant {facts.tenant} before it")


def _queued(facts: SimpleNamespace) -> Reason:
    idle = f", {facts.idle} of {facts.children} children are idle" if facts.workers and facts.is_platform else ""
    text = f"its message has waited for a worker of queue {facts.queue} since {_moment(facts.queued_at)}{idle}"
    return Reason("queued", text)


def _running(facts: SimpleNamespace) -> Iterator[Reason]:
    step = f", in step {facts.current_step}" if facts.current_step else ""
    progress = ""
    if facts.processed is not None:
        total = f" of {facts.total}" if facts.total is not None else ""
        progress = f", {facts.processed}{total} done" + (f" ({facts.said})" if facts.said else "")
    yield Reason("running", f"it has run on {facts.worker} since {_moment(facts.began_at)}{step}{progress}")
    if facts.cancel_at is not None:
        by = f" by {facts.cancel_by}" if facts.cancel_by else ""
        reason = f": {facts.cancel_reason}" if facts.cancel_reason else ""
        yield Reason("canceling", f"it was asked to stop{by} at {_moment(facts.cancel_at)}{reason}")


def _pause_of(facts: SimpleNamespace, level: str) -> str:
    return _by_whom(*(getattr(facts, f"{level}_{part}") for part in ("at", "by", "reason", "until")))


def _by_whom(at: datetime | None, by: str, reason: str, until: datetime | None) -> str:
    """Who did it, since and until when, and why."""
    words = (f" by {by}" if by else "") + (f" since {_moment(at)}" if at else "")
    words += f" until {_moment(until)}" if until else ""
    return words + (f": {reason}" if reason else "")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _moment(moment: datetime) -> str:
    return times.readable_time(moment, timespec="seconds")
