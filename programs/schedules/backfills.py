"""Run a schedule by hand: one job now, or jobs for the times of a range that have none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db import connection, transaction
from django.utils import timezone

from jobsite.database import prepared_cursor
from jobsite.errors import Conflict, Invalid
from jobsite.programs import submission
from jobsite.programs.models import Firing, Job, Schedule
from jobsite.programs.rules.recurrence import Decision, Fate, recurrence_of
from jobsite.programs.schedules import editing, occurrences
from jobsite.programs.schedules.occurrences import Occurrence
from jobsite.programs.submission import Options, preparation, quotas
from jobsite.tenants import audit
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason
from jobsite.values import times

MAX_TIMES = 1_000


def run(principal: Principal, code: str, *, reason: str = "") -> Job:
    """Submit the schedule's job now, as the principal; the schedule's own times do not change.

    Raises what a submission raises, and Conflict (secrets_lost) where no key opens its secrets.
    """
    principal.require("jobs:write")
    check_reason(reason)
    row = editing.find(principal, code)
    _refuse_deleted(row)
    with transaction.atomic(), connection.cursor() as cursor:
        options = Options(priority=row.priority)
        job = submission.carry_as(principal, row.program.code, row.parameters, options, whose=f"schedule {code}")
        after: dict[str, object] = {"job": job.number}
        audit.record(cursor, principal, "run schedule", "schedule", code, reason, None, after)
    return job


def _refuse_deleted(row: Schedule) -> None:
    """Raise where the program is deleted: another program may have its code now."""
    if row.program.deleted_at is not None:
        raise Conflict(f"program {row.program.code} of schedule {row.code} is deleted", code="program_deleted")


@dataclass(frozen=True)
class Backfill:
    """The times of a range that have no job and are to run; `done` says how many have one."""

    times: Sequence[datetime]
    done: int


def backfill(principal: Principal, code: str, *, begin: datetime, end: datetime) -> Backfill:
    """The times that a backfill would run between two moments in the past, both included; nothing is done yet.

    Raises Invalid: invalid_time, and too_many_jobs for more than 1,000 times.
    """
    principal.require("jobs:admin")
    row = editing.find(principal, code)
    try:
        begin, end = times.within_reason(begin), times.within_reason(end)
    except times.TimeError as error:
        raise Invalid(str(error), code="invalid_time") from error
    if begin > end:
        raise Invalid("the range ends before it begins", code="invalid_time")
    if end > timezone.now():
        raise Invalid("a range to run again must lie in the past", code="invalid_time")
    wanted = list(islice(recurrence_of(row).between(begin - timedelta(microseconds=1), end), MAX_TIMES + 1))
    if len(wanted) > MAX_TIMES:
        raise Invalid(f"the range has more than {MAX_TIMES:,} times; take it in parts", code="too_many_jobs")
    fired = Firing.objects.filter(schedule=row, nominal_at__range=(begin, end), result=Firing.Result.FIRED)
    done = set(fired.values_list("nominal_at", flat=True))
    return Backfill([at for at in wanted if at not in done], len(done))


def begin_backfill(
    principal: Principal, code: str, *, begin: datetime, end: datetime, reason: str = ""
) -> list[occurrences.Recorded]:
    """Run a backfill: a job for each time, scheduled at it, as the principal. Returns the result of each, in order.

    A time that the program refuses is SKIPPED with the reason. Raises what `backfill` and a submission raise.
    """
    check_reason(reason)

    def act() -> list[occurrences.Recorded]:
        with transaction.atomic(), prepared_cursor() as cursor:
            row = editing.locked(principal, code)
            found = backfill(principal, code, begin=begin, end=end)
            _refuse_deleted(row)
            quotas.take(principal.tenant, len(found.times))
            occurrences.delete_unfired(cursor, row, begin=begin, end=end)
            recorded = occurrences.record(cursor, list(_to_fire(principal, row, found.times)), is_backfill=True)
            after: dict[str, object] = {"from": times.format_time(begin), "to": times.format_time(end)}
            after["jobs"] = sum(one.number is not None for one in recorded)
            audit.record(cursor, principal, "backfill schedule", "schedule", code, reason, None, after)
        return recorded

    return occurrences.with_current_programs(act)


def _to_fire(principal: Principal, row: Schedule, moments: Sequence[datetime]) -> Iterator[Occurrence]:
    known, values = preparation.with_program(
        principal,
        row.program.code,
        lambda known: (known, preparation.carried_values(known, row.parameters, f"schedule {row.code}")),
    )
    for at in moments:
        job = preparation.new_job(principal, known, values, Options(priority=row.priority), scheduled_at=at)
        yield Occurrence(row.tenant_id, row.pk, Decision(at, Fate.FIRES, was_missed=True), job)
