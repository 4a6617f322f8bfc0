"""Make, change, delete and look at schedules; the same for every door."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from jobsite.errors import Conflict, NotFound
from jobsite.programs.models import CRON_FIELDS, Firing, Job, Schedule
from jobsite.programs.rules.recurrence import jitter_of, recurrence_of
from jobsite.programs.schedules.checks import Wanted, check, invalid
from jobsite.tenants import audit
from jobsite.tenants.models import CODE_PATTERN
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason
from jobsite.values import masking, storable, times

MAX_PREVIEW = 1_000
HISTORY = 50
CHANGED = "the schedule was changed before it fired"
INSTANT = timedelta(microseconds=1)


_TIMING = (*CRON_FIELDS, "interval_minutes", "time_zone", "jitter_minutes", "starts_at", "ends_at")
_NAMES = frozenset(one.name for one in fields(Wanted))


# ---- Make, change, delete -------------------------------------------------------------------------------------


def create(principal: Principal, code: str, wanted: Wanted) -> Schedule:
    """A new schedule, whose jobs run as the principal; its first time lies in the future.

    Raises Forbidden without jobs:admin, NotFound for the program, Invalid (invalid_schedule) with an error for each
    field that is wrong, Conflict (code_taken).
    """
    principal.require("jobs:admin")
    if not CODE_PATTERN.fullmatch(code):
        raise invalid({"code": "expected up to 100 lower-case letters, digits, and _ . - inside"})
    columns = check(principal, wanted)
    now = timezone.now()
    row = Schedule(tenant=principal.tenant, code=code, anchor_at=_anchor(columns, now), **columns, **_owner(principal))
    with transaction.atomic(), connection.cursor() as cursor:
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            if "schedule_code_once_per_tenant" not in str(error):
                raise
            raise Conflict(f"there is a schedule {code} already", code="code_taken") from None
        _move_on(row, now, "")
        _refuse_if_it_never_fires(row)
        row.save(update_fields=["next_at", "due_at"])
        audit.record(cursor, principal, "schedule created", "schedule", code, "", None, _recorded(row))
    return row


def change(principal: Principal, code: str, changes: Mapping[str, Any]) -> Schedule:
    """Change these fields of Wanted; from now on the schedule's jobs run as the principal.

    A change of its times never makes it fire at once: a time that has passed without firing is skipped. Raises what
    `create` raises, and NotFound for the schedule.
    """
    principal.require("jobs:admin")
    now = timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        row = locked(principal, code)
        before = _recorded(row)
        columns = check(principal, replace(_wanted(row), **changes), kept=row)
        is_moved = any(getattr(row, name) != columns[name] for name in _TIMING)
        if any(getattr(row, name) != columns[name] for name in ("interval_minutes", "starts_at")):
            columns["anchor_at"] = _anchor(columns, now, earlier=row)
        for name, value in {**columns, **_owner(principal)}.items():
            setattr(row, name, value)
        if is_moved:
            _move_on(row, now, CHANGED)
            _refuse_if_it_never_fires(row)
        row.updated_at = Now()
        row.save()
        audit.record(cursor, principal, "schedule changed", "schedule", code, "", before, _recorded(row))
    row.refresh_from_db()
    return row


def delete(principal: Principal, code: str, *, reason: str = "") -> None:
    """Delete a schedule: it fires no more, its code is free, its history stays. Jobs that it has made still run."""
    principal.require("jobs:admin")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        row = locked(principal, code)
        before = _recorded(row)
        row.deleted_at, row.next_at, row.due_at = Now(), None, None
        row.save(update_fields=["deleted_at", "next_at", "due_at"])
        audit.record(cursor, principal, "schedule deleted", "schedule", code, reason, before, None)


def locked(principal: Principal, code: str) -> Schedule:
    """`find`, with the row locked until the end of the transaction."""
    rows = Schedule.objects.select_for_update(no_key=True, of=("self",)).select_related("program", "tenant")
    return _found(principal, code, rows)


def _owner(principal: Principal) -> dict[str, object]:
    return {"kind": principal.kind, "user_id": principal.user_id, "owner": principal.name}


def _anchor(columns: Mapping[str, Any], now: datetime, *, earlier: Schedule | None = None) -> datetime:
    """Where an interval counts from: it fires first at its start, or else one interval after the last time or now."""
    minutes, starts_at = columns["interval_minutes"], columns["starts_at"]
    if minutes is not None and starts_at is not None:
        anchor: datetime = starts_at - timedelta(minutes=minutes)
        return anchor
    if earlier is not None and earlier.interval_minutes is not None and earlier.anchor_at <= now:
        return earlier.anchor_at + (now - earlier.anchor_at) // _minutes(earlier) * _minutes(earlier)
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _minutes(row: Schedule) -> timedelta:
    assert row.interval_minutes is not None
    return timedelta(minutes=row.interval_minutes)


def _refuse_if_it_never_fires(row: Schedule) -> None:
    if row.next_at is None:
        raise invalid({"ends_at" if row.ends_at else "day_of_month": "it would never fire"})


def go_on(row: Schedule, reason: str) -> None:
    """Let a locked row go on with its next time after now; a time that passed unfired is skipped for this reason."""
    _move_on(row, timezone.now(), reason)
    row.save(update_fields=["next_at", "due_at", "retry_at", "late_at"])


def _move_on(row: Schedule, now: datetime, reason: str) -> None:
    """Set the next time: the first after now, so that nothing fires at once.

    A time that has come and only waits for its jitter stays the next one. Any other that has passed and was not fired
    yet is skipped with the reason.
    """
    recurrence, jitter, pending = recurrence_of(row), jitter_of(row), row.next_at
    coming = recurrence.next_after(now)
    if pending is not None and pending <= now:
        if pending + jitter > now and recurrence.next_after(pending - INSTANT) == pending:
            coming = pending
        else:
            _skip(row, pending, reason)
    row.next_at, row.retry_at, row.late_at = coming, None, None
    row.due_at = None if coming is None else coming + jitter


def _skip(row: Schedule, at: datetime, reason: str) -> None:
    known = {"tenant_id": row.tenant_id, "schedule": row, "nominal_at": at, "reason": reason}
    Firing.objects.bulk_create([Firing(**known, result=Firing.Result.SKIPPED)], ignore_conflicts=True)


# ---- Look -----------------------------------------------------------------------------------------------------


def find(principal: Principal, code: str) -> Schedule:
    """A schedule of the principal's tenant; NotFound for any other, there or not."""
    return _found(principal, code, Schedule.objects.select_related("program", "tenant"))


def _found(principal: Principal, code: str, rows: QuerySet[Schedule]) -> Schedule:
    principal.require("jobs:read")
    row = None
    if CODE_PATTERN.fullmatch(code):
        row = rows.filter(tenant=principal.tenant, code=code, deleted_at__isnull=True).first()
    if row is None:
        raise NotFound(f"no schedule {storable.mended(code)[:100]} in tenant {principal.tenant.code}")
    return row


def of_tenant(principal: Principal) -> QuerySet[Schedule]:
    """All schedules of the principal's tenant, by code."""
    principal.require("jobs:read")
    rows = Schedule.objects.filter(tenant=principal.tenant, deleted_at__isnull=True)
    return rows.select_related("program", "tenant").order_by("code")


@dataclass(frozen=True)
class Coming:
    """A future time of a schedule; it fires at the nominal time plus the jitter."""

    nominal_at: datetime
    fires_at: datetime


def coming(row: Schedule, *, count: int, after: datetime) -> list[Coming]:
    """The next `count` times after this moment, whether or not the schedule is paused."""
    jitter = jitter_of(row)
    return [Coming(at, at + jitter) for at in islice(recurrence_of(row).after(after), count)]


def history(row: Schedule, *, limit: int = HISTORY) -> list[tuple[Firing, Job | None]]:
    """The last times of a schedule, the newest first, each with its job if that still exists."""
    firings = list(Firing.objects.filter(schedule=row).order_by("-nominal_at")[:limit])
    numbers = [one.job_number for one in firings if one.job_number is not None]
    jobs = Job.objects.filter(tenant=row.tenant_id).in_bulk(numbers)
    return [(one, jobs.get(one.job_number or 0)) for one in firings]


def _wanted(row: Schedule) -> Wanted:
    values = {name: getattr(row, name) for name in _NAMES - {"program"}}
    return Wanted(program=row.program.code, **values)


def _recorded(row: Schedule) -> dict[str, object]:
    """The schedule as the audit keeps it."""
    recorded: dict[str, object] = asdict(_wanted(row)) | {"owner": row.owner}
    recorded["parameters"] = masking.masked(row.parameters)
    return {
        name: times.format_time(value) if isinstance(value, datetime) else value
        for name, value in recorded.items()
        if value not in (None, "", {}, 0)
    }
