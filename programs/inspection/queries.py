"""Lists that people page through: jobs by filter, newest first, without counting anything."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Count, QuerySet, When

from jobsite.errors import Invalid
from jobsite.programs.context import MAX_STEPS
from jobsite.programs.models import Job, JobAttempt, JobLogEntry, JobStep
from jobsite.programs.rules.lifecycle import Status, Trigger
from jobsite.tenants.principals import Principal

MAX_LIMIT = 200
DEFAULT_LIMIT = 50
MAX_RETRIES = 100
MAX_DESCENDANTS = 10_000


@dataclass(frozen=True)
class JobFilter:
    """Which jobs to select; a job must meet every condition that is given."""

    status: str | None = None
    trigger: str | None = None
    program: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    parent: int | None = None


@dataclass(frozen=True)
class Page:
    """Some rows, and the cursor of the next page; None on the last page."""

    items: Sequence[Job]
    next_cursor: str | None


def jobs(principal: Principal, wanted: JobFilter, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page:
    """A page of the tenant's jobs, the newest first; stable while jobs are added.

    Raises Invalid for an unknown status or trigger (the allowed ones are named), limit or cursor.
    """
    principal.require("jobs:read")
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be from 1 to {MAX_LIMIT}, not {limit}", code="invalid_limit")
    rows = matching(principal, wanted).select_related("program", "queue", "context")
    if cursor is not None:
        rows = rows.filter(number__lt=_decoded(cursor))
    found = list(rows.order_by("-number")[: limit + 1])
    more = len(found) > limit
    return Page(found[:limit], _encoded(found[limit - 1].number) if more else None)


def matching(principal: Principal, wanted: JobFilter) -> QuerySet[Job]:
    """The tenant's jobs that match; raises Invalid for an unknown status or trigger, and names the allowed ones."""
    rows = Job.objects.filter(tenant=principal.tenant)
    if wanted.status is not None:
        rows = rows.filter(status=status_named(wanted.status))
    if wanted.trigger is not None:
        rows = rows.filter(trigger=_named(wanted.trigger.upper(), [str(one) for one in Trigger], "trigger"))
    if wanted.program is not None:
        rows = rows.filter(program__code=wanted.program)
    if wanted.parent is not None:
        rows = rows.filter(parent=wanted.parent)
    if wanted.since is not None:
        rows = rows.filter(created_at__gte=wanted.since)
    if wanted.until is not None:
        rows = rows.filter(created_at__lt=wanted.until)
    return rows


def status_named(text: str) -> str:
    """A status written in any case; CANCELLED is read as CANCELED. Raises Invalid, which names the allowed ones."""
    name = text.upper()
    return _named("CANCELED" if name == "CANCELLED" else name, [str(one) for one in Status], "status")


def _named(name: str, allowed: Sequence[str], what: str) -> str:
    if name not in allowed:
        raise Invalid(f"unknown {what} {name}; allowed are {', '.join(allowed)}", code=f"unknown_{what}")
    return name


def _encoded(number: int) -> str:
    return base64.urlsafe_b64encode(f"n{number}".encode()).decode().rstrip("=")


def _decoded(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if text.startswith("n") and text[1:].isascii() and text[1:].isdigit():
            return int(text[1:19])
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise Invalid("the cursor is malformed; take next_cursor of the previous page", code="malformed_cursor")


def attempts(job: Job) -> list[JobAttempt]:
    """The ended attempts of a job, in order."""
    return list(JobAttempt.objects.filter(job=job).order_by("fence"))


def steps(job: Job, *, limit: int = MAX_STEPS) -> list[JobStep]:
    """The steps of a job in the order in which they first began, at most `limit`."""
    return list(JobStep.objects.filter(job=job).order_by("id")[:limit])


def children(job: Job, *, limit: int) -> tuple[dict[str, int], list[Job]]:
    """How many children a job has in each status, and at most `limit` of them, first those that have not completed."""
    rows = _relatives(job).filter(parent=job.number)
    counts = Job.objects.filter(parent=job.number).values_list("status").annotate(count=Count("number"))
    first = rows.order_by(Case(When(status=Status.COMPLETED, then=1), default=0), "number")
    return dict(counts.order_by("-count")), list(first[:limit])


def descendants(job: Job) -> dict[int, list[Job]]:
    """All descendants of a job by the number of their parent, in order; the first 10,000, level by level."""
    found: dict[int, list[Job]] = {}
    level, left = [job.number], MAX_DESCENDANTS
    while level and left:
        rows = list(_relatives(job).filter(parent__in=level).order_by("number")[:left])
        for row in rows:
            found.setdefault(row.parent_id or 0, []).append(row)
        level, left = [row.number for row in rows], left - len(rows)
    return found


def _relatives(job: Job) -> QuerySet[Job]:
    rows = Job.objects.filter(tenant=job.tenant_id).select_related("program")
    return rows.only(
        *("number", "parent_id", "child_key", "status", "outcome", "claimed_at", "started_at", "finished_at", "error"),
        *("program__id", "program__code"),
    )


def retries(job: Job) -> list[int]:
    """The numbers of the jobs that are retries of this one, in order; the last hundred."""
    rows = Job.objects.filter(retry_of=job.number).order_by("-number")
    return sorted(rows.values_list("number", flat=True)[:MAX_RETRIES])


def log_entries(job: Job, *, after: int = 0, limit: int = 10_000) -> list[JobLogEntry]:
    """The log of a job after a sequence number, in order, at most `limit` lines."""
    rows = JobLogEntry.objects.filter(job_number=job.number, tenant_id=job.tenant_id, sequence__gt=after)
    return list(rows.order_by("sequence", "id")[:limit])
