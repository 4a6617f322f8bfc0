"""What notifications say about a job, a program or a schedule, as plain data with secrets masked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.urls import reverse

from jobsite.notifications.subjects import Subject
from jobsite.programs.models import Job, Program, Schedule
from jobsite.tenants.models import Tenant
from jobsite.values import masking, times


def facts(
    *,
    tenant: Tenant,
    job_number: int | None,
    program_id: int | None,
    schedule_id: int | None,
    language: str,
    details: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The variables of a template (notifications/README.md), except those of the event and of the recipient.

    None if the job, program or schedule no longer exists. `details` were stored with the event.
    """
    schedule, job = None, None
    if schedule_id is not None:
        schedule = Schedule.objects.filter(tenant=tenant, pk=schedule_id).first()
    if job_number is not None:
        job = Job.objects.select_related("context", "queue").filter(tenant=tenant, number=job_number).first()
    key = schedule.program_id if schedule else job.program_id if job else program_id
    if key is None or (schedule_id is not None and schedule is None):
        return None
    program = Program.objects.select_related("tenant").filter(tenant=tenant, pk=key).first()
    if program is None or (job_number is not None and job is None):
        return None
    return {
        "job": _job(job) if job else None,
        "program": {"code": program.code, "name": program.name_in(language)},
        "schedule": _schedule(schedule, details) if schedule else None,
        "parameters": masking.masked(job.parameters) if job else {},
        "result": job.result if job else None,
        "error": _error(job) if job else None,
    }


def subject(
    *, tenant_id: int, job_number: int | None, program_id: int | None, schedule_id: int | None
) -> Subject | None:
    """The name of what a delivery is about, with the path of its page; None if it no longer exists."""
    if job_number is not None:
        is_there = Job.objects.filter(tenant=tenant_id, number=job_number).exists()
        return Subject(f"job #{job_number}", _page("job", job_number) if is_there else "")
    for kind, model, key in (("schedule", Schedule, schedule_id), ("program", Program, program_id)):
        found = None if key is None else model.objects.filter(tenant=tenant_id, pk=key).first()
        if found is not None:
            return Subject(f"{kind} {found.code}", _page(kind, found.pk) if found.deleted_at is None else "")
    return None


def _page(kind: str, key: int) -> str:
    return reverse(f"admin:jobsite_programs_{kind}_change", args=[key])


def _job(job: Job) -> dict[str, Any]:
    finished, started = job.finished_at, job.started_at
    return {
        "number": job.number,
        "status": job.status,
        "outcome": job.outcome,
        "url": _url("job", job.number),
        "submitted_by": job.context.content["submitted_by"],
        "trigger": job.trigger,
        "queue": job.queue.name,
        "scheduled_at": _time(job.scheduled_at),
        "due_at": _time(job.due_at),
        "started_at": _time(started),
        "finished_at": _time(finished),
        "duration_seconds": round((finished - started).total_seconds(), 3) if finished and started else None,
        "attempts": job.attempts,
        "losses": job.losses,
        "failure_kind": job.failure_kind,
        "cancel_reason": job.cancel_reason,
        "canceled_by": job.cancel_requested_by,
    }


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    return {name: job.error.get(name) for name in ("type", "message", "step")}


def _schedule(schedule: Schedule, details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code": schedule.code,
        "at": details.get("at"),
        "url": _url("schedule", schedule.pk),
    }


def _url(kind: str, key: int) -> str:
    """The address of its page; empty where the installation does not set its public address."""
    if not settings.CSRF_TRUSTED_ORIGINS:
        return ""
    return settings.CSRF_TRUSTED_ORIGINS[0].rstrip("/") + _page(kind, key)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else times.format_time(moment)
