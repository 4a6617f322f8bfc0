"""What people do with jobs, from hold to clear: permitted, audited, the same for every door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from jobsite.database import Cursor
from jobsite.errors import Conflict, Invalid, NotFound
from jobsite.programs import dispatch, families, submission
from jobsite.programs.models import Firing, Job
from jobsite.programs.rules.lifecycle import HOLD, NEVER_HELD, TERMINAL, Overlap, Status
from jobsite.programs.sql.locks import IS_STALE
from jobsite.programs.transitions import acknowledge as acknowledge_transition
from jobsite.programs.transitions import cancel as cancel_transition
from jobsite.programs.transitions import hold as hold_transition
from jobsite.programs.transitions import reap
from jobsite.programs.transitions.reap import Reaped
from jobsite.tenants import audit
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason, end_of
from jobsite.values import times

MAX_NUMBERS = 10_000
MAX_NUMBER = 2**63 - 1


def find_job(principal: Principal, number: int) -> Job:
    """A job of the principal's tenant; NotFound for any other, there or not."""
    principal.require("jobs:read")
    job = (
        Job.objects.select_related("program", "queue", "context").filter(tenant=principal.tenant, number=number).first()
    )
    if job is None:
        raise NotFound(f"no job {number}")
    return job


def cancel(principal: Principal, number: int, *, reason: str = "") -> Status:
    """Cancel a waiting job and its open children at once, ask a running one to stop. Returns the status afterwards.

    Raises Conflict (invalid_transition) when the job has ended.
    """
    principal.require("jobs:write")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        job = find_job(principal, number)
        done = cancel_transition.cancel(
            cursor, number=number, tenant_id=principal.tenant.pk, by=principal.name, reason=reason
        )
        if done is None:
            job.refresh_from_db(fields=["status"])
            raise Conflict(f'Cannot cancel a job with status "{job.status}"', code="invalid_transition")
        audit.record(
            cursor,
            principal,
            "cancel",
            "job",
            str(number),
            reason,
            {"status": job.status},
            {"status": done.status},
        )
        if done.status is Status.CANCELED:
            families.after_commit(number)
    return done.status


def hold(principal: Principal, number: int, *, reason: str = "", until: datetime | str | None = None) -> None:
    """Hold a waiting job: it is not dispatched until it is released, or until a moment.

    Raises Conflict (invalid_transition) for a job that runs, waits for children, has ended, is held already
    or belongs to a schedule.
    """
    principal.require("jobs:write")
    check_reason(reason)
    end = end_of(until)
    with transaction.atomic(), connection.cursor() as cursor:
        job = find_job(principal, number)
        held = hold_transition.hold(
            cursor, number=number, tenant_id=principal.tenant.pk, by=principal.name, reason=reason, until=end
        )
        if not held:
            job.refresh_from_db(fields=["status", "hold_at"])
            raise Conflict(_why_not_held(job), code="invalid_transition")
        after: dict[str, object] = {"status": HOLD.target, "until": times.format_time(end) if end else None}
        audit.record(cursor, principal, "hold", "job", str(number), reason, {"status": job.status}, after)


def _why_not_held(job: Job) -> str:
    if job.hold_at is not None:
        return f"job {job.number} is held already"
    if job.trigger == NEVER_HELD and job.status in HOLD.sources:
        code = Firing.objects.filter(job_number=job.number).values_list("schedule__code", flat=True).first()
        return f"job {job.number} belongs to {f'schedule {code}' if code else 'a schedule'}; pause the schedule instead"
    return f'Cannot hold a job with status "{job.status}"'


def release(principal: Principal, number: int, *, reason: str = "") -> None:
    """Let a held job go on; Conflict (invalid_transition) when it is not held."""
    principal.require("jobs:write")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        job = find_job(principal, number)
        if not hold_transition.release(cursor, number=number, tenant_id=principal.tenant.pk):
            raise Conflict(f"job {number} is not held", code="invalid_transition")
        audit.record(cursor, principal, "release", "job", str(number), reason, {"hold_reason": job.hold_reason}, None)
        dispatch.after_commit(number, job.queue_id)
        if job.overlap_policy == Overlap.QUEUE:
            dispatch.after_commit_let_in([number])


def retry(principal: Principal, number: int, *, parameters: Mapping[str, Any] | None = None, reason: str = "") -> Job:
    """Submit an ended job again, as the principal, with the same parameters or with these. Returns the new job.

    The ended job stays as it is. Priority is copied; idempotency key, hold and parent are not.

    Raises:
        Conflict: invalid_transition for a job that has not ended; retry_open or duplicate_job with the number of
            the open job that prevents it; program_deleted.
        Invalid: invalid_parameters, with pointers, by the program's current schema.
    """
    principal.require("jobs:write")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        retried = find_job(principal, number)
        if not retried.is_terminal:
            raise Conflict(f'Cannot retry a job with status "{retried.status}"', code="invalid_transition")
        if retried.program.deleted_at is not None:
            raise submission.program_deleted(retried)
        job = submission.retry_as(principal, retried, parameters)
        after: dict[str, object] = {"retry": job.number, "is_edited": parameters is not None}
        audit.record(cursor, principal, "retry", "job", str(number), reason, {"status": retried.status}, after)
    return job


def acknowledge(principal: Principal, numbers: Sequence[int], *, reason: str = "") -> list[int]:
    """Record that somebody has seen why these jobs failed. Returns the numbers of those that needed it, and no others.

    Raises NotFound, and changes nothing, where one of the jobs does not exist; Invalid for more than 10,000.
    """
    principal.require("jobs:write")
    check_reason(reason)
    wanted = sorted(set(numbers))
    if len(wanted) > MAX_NUMBERS:
        raise Invalid(f"more than {MAX_NUMBERS:,} jobs; acknowledge them in several calls", code="too_many_jobs")
    with transaction.atomic(), connection.cursor() as cursor:
        _check_there(principal, wanted)
        done = acknowledge_transition.acknowledge(
            cursor, numbers=wanted, tenant_id=principal.tenant.pk, by=principal.name
        )
        before, after = dict[str, object](needs_review=True), dict[str, object](needs_review=False)
        audit.record_all(cursor, principal, "acknowledge", "job", [str(one) for one in done], reason, before, after)
    return done


def _check_there(principal: Principal, numbers: Sequence[int]) -> None:
    possible = [number for number in numbers if 0 < number <= MAX_NUMBER]
    there = set(Job.objects.filter(tenant=principal.tenant, number__in=possible).values_list("number", flat=True))
    missing = next((number for number in numbers if number not in there), None)
    if missing is not None:
        raise NotFound(f"no job {missing}")


def expire_stuck(
    principal: Principal, numbers: Sequence[int] | None = None, *, policy: str = "", reason: str = ""
) -> list[Reaped]:
    """End stuck jobs of the tenant, all or these: those that run past their time limit. Other jobs do not change.

    `policy`, RETRY or FAIL, says what becomes of them; without it their program does.
    """
    principal.require("jobs:admin")
    check_reason(reason)
    if policy not in ("", "RETRY", "FAIL"):
        raise Invalid(f"policy must be RETRY or FAIL, not {policy!r}")
    with transaction.atomic(), connection.cursor() as cursor:
        reaped = reap.expire_stuck(cursor, numbers=numbers, tenant_id=principal.tenant.pk, policy=policy)
        _record_reaped(cursor, principal, "expire", reaped, reason)
    return reaped


@dataclass(frozen=True)
class Lock:
    """A worker's right to a job, as an operator sees it; `is_stale` when its holder is gone."""

    job: int
    worker: str
    token: UUID
    acquired_at: datetime
    expires_at: datetime
    age_seconds: float
    is_stale: bool


LOCKS = f"""
SELECT j.number, coalesce(w.name, ''), j.lock_token, j.claimed_at, j.lock_expires_at,
       extract(epoch FROM clock_timestamp() - j.claimed_at)::float,
       {IS_STALE}
FROM jobsite_job j LEFT JOIN jobsite_worker w ON w.incarnation = j.lock_owner
WHERE j.status = 'RUNNING' AND j.tenant_id = %s AND (%s::bigint[] IS NULL OR j.number = ANY(%s))
ORDER BY j.claimed_at LIMIT 1000
"""


def locks(principal: Principal, numbers: Sequence[int] | None = None) -> list[Lock]:
    """The locks on the tenant's running jobs, the oldest first, at most 1,000."""
    principal.require("jobs:read")
    wanted = None if numbers is None else list(numbers)
    with connection.cursor() as cursor:
        cursor.execute(LOCKS, [principal.tenant.pk, wanted, wanted])
        return [Lock(*row) for row in cursor.fetchall()]


def clear_locks(
    principal: Principal,
    shown: Sequence[Lock],
    *,
    force: bool = False,
    reason: str = "",
) -> list[Reaped]:
    """Clear these locks, as they were shown: the stale ones, or with `force` live ones too.

    A job that was claimed again since its lock was shown keeps its new lock.
    """
    principal.require("jobs:admin")
    check_reason(reason)
    if force and not reason:
        raise Invalid("clearing a live lock needs a reason", code="reason_required")
    cleared: list[Reaped] = []
    with transaction.atomic(), connection.cursor() as cursor:
        for lock in sorted(shown, key=lambda lock: lock.job):
            find_job(principal, lock.job)
            cleared += reap.clear(cursor, number=lock.job, token=lock.token, force=force, by=principal.name)
        _record_reaped(cursor, principal, "force clear lock" if force else "clear lock", cleared, reason)
    return cleared


def _record_reaped(cursor: Cursor, principal: Principal, action: str, reaped: Sequence[Reaped], reason: str) -> None:
    for one in reaped:
        audit.record(
            cursor,
            principal,
            action,
            "job",
            str(one.number),
            reason,
            {"status": "RUNNING"},
            {"status": one.status},
        )
        if one.status in TERMINAL:
            families.after_commit(one.number)
        else:
            dispatch.after_commit(one.number, one.queue_id)
