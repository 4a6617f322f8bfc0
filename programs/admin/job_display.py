"""How the admin's pages write a job's status, outcome, progress and run time."""

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin.display import NOTHING, badge, bar
from jobsite.programs.models import Job


def run_seconds(job: Job, *, began: datetime | None = None) -> float | None:
    """How long the job's last run took, or has taken so far; `began` says where an earlier run counts too."""
    begun = began or job.started_at or job.claimed_at
    if begun is None or job.status in ("PENDING", "QUEUED"):
        return None
    return ((job.finished_at or timezone.now()) - begun).total_seconds()


def status(job: Job) -> SafeString:
    """The status, with why a job waits, or that a running one was asked to stop."""
    note = (job.blocked or "").lower()
    if job.cancel_requested_at is not None and not job.is_terminal:
        note = "stopping"
    if not note:
        return badge(job.status)
    return format_html('{} <span class="jobsite-quiet">{}</span>', badge(job.status), note)


def outcome(job: Job) -> str | SafeString:
    """The outcome of a job that has one."""
    if not job.is_terminal or job.status == "CANCELED":
        return NOTHING
    return "NORMAL" if job.outcome == "NORMAL" else badge(job.outcome)


def progress(job: Job) -> str | SafeString:
    """The progress as a bar with its numbers; without a total as a count."""
    shown = job.progress if isinstance(job.progress, dict) else None
    if not shown:
        return NOTHING
    processed, total = shown.get("processed") or 0, shown.get("total")
    message = shown.get("message") or ""
    if not total:
        return format_html('<span title="{}">{}</span>', message, processed)
    return bar(processed, total, message)
