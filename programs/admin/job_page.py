"""What the page of a job shows: its facts, what must be known first, its attempts, its log."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import access_of, principals_of
from jobsite.admin.keyset import MAX_KEY
from jobsite.notifications import operations
from jobsite.notifications.models import Delivery
from jobsite.programs.admin import job_display
from jobsite.programs.admin.acts import ACTS
from jobsite.programs.admin.locks import locks_of
from jobsite.programs.inspection import explain, presentation, queries
from jobsite.programs.inspection.explain import Reason
from jobsite.programs.models import Job, JobAttempt, JobLogEntry, JobStep, Schedule
from jobsite.programs.operations.jobs import Lock
from jobsite.programs.rules.lifecycle import Outcome, Status, step_name
from jobsite.tenants.models import AuditEntry
from jobsite.tenants.principals import Principal

LOG_LINES = 200
STEPS = 200
CHILDREN = 20
DELIVERIES = 50
RESULT_LENGTH = 500
AUDIT_ENTRIES = 50


def shown(request: HttpRequest, job: Job) -> dict[str, Any]:
    """All that the page of a job shows to the user of this request."""
    principal = principals_of(request)
    lock = locks_of([job], principal).get(job.number)
    is_waiting = job.status in (Status.PENDING, Status.QUEUED, Status.WAITING)
    reasons = explain.why(principal(job.tenant), job.number) if is_waiting else []
    first_steps, has_more_steps = steps(job)
    lines, earlier = log(job, request.GET.get("log_before", ""))
    entries = AuditEntry.objects.filter(tenant=job.tenant_id, target_type="job", target=str(job.number))
    return {
        "job": job,
        "badge": job_display.status(job),
        "outcome": job_display.outcome(job),
        "progress": job_display.progress(job),
        "message": (job.progress or {}).get("message", ""),
        "facts": facts(job, shows_tenant=access_of(request).sees_several),
        "notes": notes(job, reasons),
        "lock": lock,
        "lock_since": display.moment(lock.acquired_at) if lock else "",
        "lock_until": display.moment(lock.expires_at) if lock else "",
        **_offered(request, job, lock),
        "parameters": display.pretty(job.parameters),
        "result": None if job.result is None else display.pretty(job.result),
        "error": job.error,
        "steps": first_steps,
        "has_more_steps": has_more_steps,
        "attempts": [attempt(one) for one in queries.attempts(job)],
        "lines": lines,
        "earlier": earlier,
        "is_latest_log": "log_before" not in request.GET,
        "entries": entries[:AUDIT_ENTRIES],
        "children": children(job),
        "deliveries": deliveries(principal(job.tenant), job),
    }


def _offered(request: HttpRequest, job: Job, lock: Lock | None) -> dict[str, Any]:
    """The acts that fit the job and that the user may do, with their addresses and what is sent to these."""
    may = partial(access_of(request).may, tenant_id=job.tenant_id)
    is_stale = lock is not None and lock.is_stale
    fitting = [act for act in ACTS.values() if act.applies(job) and (act.name != "clear" or is_stale)]
    return {
        "acts": [
            (one, reverse("admin:jobsite_programs_job_act", args=[one.name])) for one in fitting if may(one.scope)
        ],
        "hidden": [
            ("number", job.number),
            ("back", "job"),
            *([("lock", f"{job.number}:{lock.token}")] if lock else []),
        ],
    }


def facts(job: Job, *, shows_tenant: bool) -> list[tuple[str, Any]]:
    """The content of the grid under the heading; facts without a value are left out."""
    program: Any = job.program.code
    if job.program.deleted_at is None:
        url = reverse("admin:jobsite_programs_program_change", args=[job.program_id])
        program = format_html('<a href="{}">{}</a>', url, job.program.code)
    began = presentation.first_starts([job]).get(job.number)
    counted = f"{job.attempts}"
    if job.losses:
        counted += f" ({job.losses} lost)"
    known: list[tuple[str, Any]] = [
        ("Program", program),
        ("Tenant", job.tenant.code if shows_tenant else None),
        ("Queue", job.queue.name),
        ("Submitted by", job.context.content.get("submitted_by")),
        ("Trigger", job.trigger),
        ("Priority", job.priority),
        ("Attempts", counted),
        ("Duration", display.duration(job_display.run_seconds(job, began=began))),
        ("Created", display.moment(job.created_at)),
        ("Scheduled for", display.moment(job.scheduled_at) if job.scheduled_at > job.created_at else None),
        ("Due", display.moment(job.due_at) if job.due_at != job.scheduled_at and not job.is_terminal else None),
        ("Queued", display.moment(job.queued_at) if job.queued_at else None),
        ("Started", display.moment(began or job.started_at or job.claimed_at) if job.claimed_at else None),
        ("Finished", display.moment(job.finished_at) if job.finished_at else None),
        ("Step", job.current_step or None),
        ("Failure", job.failure_kind),
        ("Schedule", _schedule(job)),
        ("Parent", _job_link(job.parent_id)),
        ("Retry of", _job_link(job.retry_of_id)),
        ("Retried by", _job_links(queries.retries(job))),
        ("Idempotency key", job.idempotency_key),
        ("Engine", job.engine),
        ("Celery task", job.external_id),
    ]
    return [(name, value) for name, value in known if value is not None]


def _schedule(job: Job) -> SafeString | None:
    row = Schedule.objects.filter(firings__job_number=job.number).first()
    if row is None:
        return None
    if row.deleted_at is not None:
        return format_html("{} (deleted)", row.code)
    url = reverse("admin:jobsite_programs_schedule_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', url, row.code)


def _job_link(number: int | None) -> SafeString | None:
    if number is None:
        return None
    return format_html('<a href="{}">#{}</a>', reverse("admin:jobsite_programs_job_change", args=[number]), number)


def _job_links(numbers: Sequence[int]) -> SafeString | None:
    return format_html_join(", ", "{}", ((_job_link(number),) for number in numbers)) if numbers else None


def notes(job: Job, reasons: Sequence[Reason]) -> list[SafeString]:
    """What an operator must know first: why it waits, that it was asked to stop, that its failure needs review."""
    found = [format_html("{}", display.sentence(reason.message)) for reason in reasons]
    if job.cancel_requested_at is not None:
        words = "Canceled by" if job.is_terminal else "Asked to stop by"
        found.append(
            format_html(
                "{} {} at {}{}",
                words,
                job.cancel_requested_by,
                display.moment(job.cancel_requested_at),
                f": {job.cancel_reason}" if job.cancel_reason else ".",
            )
        )
    if job.needs_review:
        found.append(format_html("{}", "Failed, and nobody has acknowledged it yet."))
    return found


def attempt(row: JobAttempt) -> dict[str, Any]:
    """One attempt, ready to be shown."""
    begun = row.started_at or row.claimed_at
    return {
        "row": row,
        "badge": display.badge(row.result),
        "claimed": display.moment(row.claimed_at),
        "duration": display.duration((row.ended_at - begun).total_seconds()),
        "error": row.error if isinstance(row.error, dict) else None,
        "traceback": row.traceback,
    }


def steps(job: Job) -> tuple[list[dict[str, Any]], bool]:
    """The first steps, ready to be shown, and whether there are more."""
    rows = queries.steps(job, limit=STEPS + 1)
    return [_step(row, presentation.step(row, job)) for row in rows[:STEPS]], len(rows) > STEPS


def _step(row: JobStep, presented: dict[str, Any]) -> dict[str, Any]:
    took = (row.ended_at - row.started_at).total_seconds() if row.ended_at else None
    result = "" if row.result is None else json.dumps(row.result, ensure_ascii=False)
    return {
        "shown": step_name(row.action, row.name),
        "badge": display.badge(presented["status"]),
        "tries": row.tries,
        "began": display.moment(row.started_at),
        "duration": display.duration(took),
        "error": row.error if isinstance(row.error, dict) else None,
        "result": result if len(result) <= RESULT_LENGTH else f"{result[:RESULT_LENGTH]} …",
    }


def children(job: Job) -> dict[str, Any] | None:
    """The children of a job: how many by status, and the first of those that have not completed, then the others."""
    counts, rows = queries.children(job, limit=CHILDREN)
    if not rows:
        return None
    return {
        "counts": [(display.badge(status), f"{count:,}") for status, count in counts.items()],
        "rows": [_child(row) for row in rows],
        "more": max(0, sum(counts.values()) - CHILDREN),
    }


def _child(row: Job) -> dict[str, Any]:
    return {
        "link": _job_link(row.number),
        "program": row.program.code,
        "key": presentation.child_key(row) or "–",
        "badge": display.badge(row.status),
        "warning": display.badge(row.outcome) if row.outcome == Outcome.WARNING else "",
        "duration": display.duration(job_display.run_seconds(row)),
    }


def deliveries(principal: Principal, job: Job) -> dict[str, Any] | None:
    """The deliveries about a job, the newest first, and whether there are more; None where there are none."""
    rows = operations.deliveries_of(principal, job=job.number).select_related(None).select_related("user")
    found = list(rows.defer("text", "details")[: DELIVERIES + 1])
    if not found:
        return None
    return {"rows": [_delivery(row) for row in found[:DELIVERIES]], "has_more": len(found) > DELIVERIES}


def _delivery(row: Delivery) -> dict[str, Any]:
    return {
        "row": row,
        "page": reverse("admin:jobsite_notifications_delivery_change", args=[row.pk]),
        "badge": display.badge(row.status),
        "recipient": row.recipient,
    }


def log(job: Job, before: str) -> tuple[list[JobLogEntry], int | None]:
    """The last lines, or those before a sequence number, oldest first; and where the earlier ones end."""
    rows = JobLogEntry.objects.filter(job_number=job.number, tenant_id=job.tenant_id)
    if before:
        if not (before.isascii() and before.isdigit() and int(before) <= MAX_KEY):
            raise Http404("No such line.")
        rows = rows.filter(sequence__lt=int(before))
    found = list(rows.order_by("-sequence", "-id")[: LOG_LINES + 1])
    lines = list(reversed(found[:LOG_LINES]))
    return lines, lines[0].sequence if len(found) > LOG_LINES else None
