"""What the stories ask of jobs: how far they are, what their history says, what they really did."""

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
    """The job, once a worker has claimed it."""
    return _seen(job, frozenset({"RUNNING"}), seconds)


def finished(job: Job, *, seconds: float = 20.0) -> Job:
    """The job, once it has come to its end."""
    return _seen(job, TERMINAL, seconds)


def all_finished(jobs: list[Job], *, seconds: float = 20.0) -> list[Job]:
    """The jobs, once all of them have come to their ends."""
    numbers = [job.number for job in jobs]
    rows = Job.objects.filter(number__in=numbers)

    def ended() -> bool:
        return not rows.exclude(status__in=TERMINAL).exists()

    until(ended, f"{len(jobs)} jobs have ended", seconds=seconds)
    return list(rows.order_by("number"))


def queued_without_message(
    principal: Principal, program: Program, parameters: dict[str, Any], *, count: int
) -> list[Job]:
    """Jobs that dispatch has moved, and whose messages are the test's to send, double or lose."""
    return queued_each(principal, program, [parameters] * count)


def queued_each(principal: Principal, program: Program, parameters: Sequence[dict[str, Any]]) -> list[Job]:
    """The same, one job for each of these parameters."""
    return [_queued(job) for job in pending_each(principal, program, parameters)]


def pending_each(principal: Principal, program: Program, parameters: Sequence[dict[str, Any]]) -> list[Job]:
    """Jobs that dispatch has not heard of, one for each of these parameters."""
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
    """One message that carries all these jobs."""
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
    """Its ended runs, in order."""
    return list(JobAttempt.objects.filter(job=job).order_by("fence"))


def history(job: Job) -> list[str]:
    """How its runs ended, in order."""
    return [attempt.result for attempt in attempts(job)]


def effects(folder: Path) -> list[tuple[int, int]]:
    """(number, fence) of every `work` that came to its end, in order."""
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(number), int(fence)) for number, fence in (line.split() for line in lines)]


def effects_of(job: Job, folder: Path) -> list[int]:
    """The fences under which this job's `work` came to its end."""
    return [fence for number, fence in effects(folder) if number == job.number]


def process_of(job: Job, folder: Path, *, fence: int = 1, seconds: float = 20.0) -> int:
    """The process that runs a job of `work`, once it does."""
    file = folder / f"{job.number}.{fence}"

    def pid() -> int:
        return int(file.read_text() or 0) if file.exists() else 0

    return until(pid, f"job {job.number} runs under fence {fence}", seconds=seconds)


def log_of(job: Job) -> list[str]:
    """What its log says, line by line."""
    return [entry.message for entry in JobLogEntry.objects.filter(job_number=job.number).order_by("sequence")]
