"""What the flows ask about jobs: their status, the history of their runs, and their effects."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import connection

from jobsite import brokers
from jobsite.programs.dispatch import TASK
from jobsite.programs.models import Job, JobAttempt, JobLogEntry, Program
from jobsite.programs.rules.lifecycle import TERMINAL
from jobsite.programs.transitions.submit import NewJob, insert
from jobsite.tenants.principals import Principal
from tests.flows.processes import until


def running(job: Job, *, seconds: float = 20.0) -> Job:
    """Wait until a worker has claimed the job. Returns the job."""
    return _seen(job, frozenset({"RUNNING"}), seconds)


def finished(job: Job, *, seconds: float = 20.0) -> Job:
    """Wait until the job has ended. Returns the job."""
    return _seen(job, TERMINAL, seconds)


def all_finished(jobs: list[Job], *, seconds: float = 20.0) -> list[Job]:
    """Wait until all jobs have ended. Returns the jobs."""
    numbers = [job.number for job in jobs]
    rows = Job.objects.filter(number__in=numbers)

    def ended() -> bool:
        return not rows.exclude(status__in=TERMINAL).exists()

    until(ended, f"{len(jobs)} jobs have ended", seconds=seconds)
    return list(rows.order_by("number"))


def queued_without_message(
    principal: Principal, program: Program, parameters: dict[str, Any], *, count: int
) -> list[Job]:
    """Make QUEUED jobs without messages, which the test sends, doubles or leaves out."""
    return queued_each(principal, program, [parameters] * count)


def queued_each(principal: Principal, program: Program, parameters: Sequence[dict[str, Any]]) -> list[Job]:
    """The same, with one job for each of these parameters."""
    return [_queued(job) for job in pending_each(principal, program, parameters)]


def pending_each(principal: Principal, program: Program, parameters: Sequence[dict[str, Any]]) -> list[Job]:
    """Make PENDING jobs that are not dispatched, one for each of these parameters."""
    new = [NewJob(principal.tenant.pk, program.pk, json.dumps(one), principal.captured) for one in parameters]
    with connection.cursor() as cursor:
        numbers = [row.number for row in insert(cursor, new)]
    return list(Job.objects.filter(number__in=numbers).order_by("number"))


def _queued(job: Job) -> Job:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobsite_job SET status = 'QUEUED', queued_at = clock_timestamp() WHERE number = %s", [job.number]
        )
    job.refresh_from_db()
    return job


def send_group(jobs: Sequence[Job], *, queue: str = "default", limit: float | None = None) -> None:
    """Send one message with all these jobs."""
    brokers.publish([brokers.Message(TASK, queue, ([job.number for job in jobs],), limit)])


def _seen(job: Job, statuses: frozenset[str], seconds: float) -> Job:
    def now() -> Job | None:
        row = Job.objects.get(number=job.number)
        return row if row.status in statuses else None

    try:
        return until(now, "", seconds=seconds)
    except AssertionError:
        row = Job.objects.get(number=job.number)
        wanted = " or ".join(sorted(statuses))
        raise AssertionError(
            f"after {seconds:g} s job {row.number} is {row.status} (blocked {row.blocked}), not {wanted}; "
            f"history {history(row)}, error {row.error}"
        ) from None


def attempts(job: Job) -> list[JobAttempt]:
    """The job's ended runs, in order."""
    return list(JobAttempt.objects.filter(job=job).order_by("fence"))


def history(job: Job) -> list[str]:
    """How the job's runs ended, in order."""
    return [attempt.result for attempt in attempts(job)]


def effects(folder: Path) -> list[tuple[int, int]]:
    """(number, fence) of every run of `work` that reached its end, in order."""
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(number), int(fence)) for number, fence in (line.split() for line in lines)]


def effects_of(job: Job, folder: Path) -> list[int]:
    """The fences under which this job's `work` reached its end."""
    return [fence for number, fence in effects(folder) if number == job.number]


def process_of(job: Job, folder: Path, *, fence: int = 1, seconds: float = 20.0) -> int:
    """Wait until a process runs this job of `work`. Returns the process."""
    file = folder / f"{job.number}.{fence}"

    def pid() -> int:
        return int(file.read_text() or 0) if file.exists() else 0

    return until(pid, f"job {job.number} runs under fence {fence}", seconds=seconds)


def log_of(job: Job) -> list[str]:
    """The lines of the job's log."""
    return [entry.message for entry in JobLogEntry.objects.filter(job_number=job.number).order_by("sequence")]
