"""Acts on all jobs that match: their numbers are stored once, then done one by one, each permitted and audited.

Each job is a transaction of its own that also moves the act's place, under the lock of the act's row. So each job is
done once, even where a process is lost in between, and any number of processes may work at the same act.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Q, QuerySet

from jobsite.database import Cursor
from jobsite.errors import Conflict, Invalid, NotFound, Refusal
from jobsite.logs import get_logger
from jobsite.programs.models import BulkAct, Job
from jobsite.programs.operations import jobs
from jobsite.programs.rules.lifecycle import OPEN, TERMINAL
from jobsite.tenants import audit, principals
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason, end_of
from jobsite.values import storable, times

log = get_logger(__name__)

MAX_JOBS = 10_000
SAMPLE = 5
NAMED_REFUSALS = 20
"""At most this many refusals are kept with their reasons; the others are only counted."""
BATCH = 200
BATCH_SECONDS = 1.0
ACTS_AT_ONCE = 20

Order = Mapping[str, Any]
"""What was given with an act: `reason`, and `until` for a hold."""


def _cancel(principal: Principal, number: int, order: Order) -> None:
    jobs.cancel(principal, number, reason=order["reason"])


def _hold(principal: Principal, number: int, order: Order) -> None:
    jobs.hold(principal, number, reason=order["reason"], until=order["until"])


def _release(principal: Principal, number: int, order: Order) -> None:
    jobs.release(principal, number, reason=order["reason"])


def _retry(principal: Principal, number: int, order: Order) -> None:
    jobs.retry(principal, number, reason=order["reason"])


def _acknowledge(principal: Principal, number: int, order: Order) -> None:
    if not jobs.acknowledge(principal, [number], reason=order["reason"]):
        raise Conflict(f"job {number} needs no review", code="no_review")


@dataclass(frozen=True)
class Act:
    """What is done to each job, and which of the matching jobs it fits."""

    run: Callable[[Principal, int, Order], None]
    fits: Q


ACTS = {
    "cancel": Act(_cancel, Q(status__in=sorted(OPEN))),
    "hold": Act(_hold, Job.MAY_BE_HELD),
    "release": Act(_release, Q(status="PENDING", hold_at__isnull=False)),
    "retry": Act(_retry, Q(status__in=sorted(TERMINAL))),
    "acknowledge": Act(_acknowledge, Q(status="FAILED", needs_review=True)),
}


@dataclass(frozen=True)
class Sample:
    """How many of the jobs belong to a program, and the first numbers."""

    program: str
    count: int
    numbers: Sequence[int]


@dataclass(frozen=True)
class Match:
    """The jobs that an act would change, in order."""

    act: str
    numbers: Sequence[int]
    samples: Sequence[Sample]


def match(principal: Principal, act: str, rows: QuerySet[Job], *, names_status: bool) -> Match:
    """The jobs among these rows, of the principal's tenant, that the act fits; nothing is done yet.

    Raises Invalid: too_many_jobs for more than 10,000; status_required for a retry whose filter names no status.
    """
    principal.require("jobs:write")
    if act == "retry" and not names_status:
        raise Invalid(
            "name a status, such as FAILED, to retry all that match; otherwise jobs that COMPLETED would run again too",
            code="status_required",
        )
    fitting = rows.filter(ACTS[act].fits, tenant=principal.tenant).order_by("number")
    found = list(fitting.values_list("number", "program__code")[: MAX_JOBS + 1])
    if len(found) > MAX_JOBS:
        raise Invalid(
            f"more than {MAX_JOBS:,} jobs match; narrow the filter, by program or by time", code="too_many_jobs"
        )
    by_program: dict[str, list[int]] = {}
    for number, code in found:
        by_program.setdefault(code, []).append(number)
    samples = [Sample(code, len(numbers), numbers[:SAMPLE]) for code, numbers in sorted(by_program.items())]
    return Match(act, [number for number, _ in found], samples)


def begin(
    principal: Principal, found: Match, *, reason: str = "", until: datetime | str | None = None, filter: str = ""
) -> BulkAct:
    """Store what matched as an act that `work_off` and the sweep carry out; `filter` says in words what was asked for.

    Raises Invalid for a reason or an end of a hold that no job would accept, and where nothing matched.
    """
    principal.require("jobs:write")
    check_reason(reason)
    end = end_of(until)
    if not found.numbers:
        raise Invalid("no job matches", code="nothing_matches")
    with transaction.atomic(), connection.cursor() as cursor:
        row = BulkAct.objects.create(
            tenant=principal.tenant,
            act=found.act,
            order={"reason": reason, "until": times.format_time(end) if end else None},
            numbers=list(found.numbers),
            total=len(found.numbers),
            filter=filter,
            kind=principal.kind,
            user_id=principal.user_id,
            actor=principal.name,
            door=principal.door,
            scopes=sorted(principal.scopes),
        )
        after: dict[str, object] = {"jobs": row.total, "filter": filter}
        audit.record(cursor, principal, f"{found.act} all", "act on many jobs", str(row.pk), reason, None, after)
    return row


def find(principal: Principal, key: int) -> BulkAct:
    """An act of the principal's tenant, without its numbers; NotFound for any other, there or not."""
    principal.require("jobs:read")
    row = BulkAct.objects.defer("numbers").filter(tenant=principal.tenant, pk=key).first()
    if row is None:
        raise NotFound(f"no act {key} on many jobs")
    return row


def stop(principal: Principal, key: int, *, reason: str = "") -> BulkAct:
    """Stop an act; what is done stays done. Raises Conflict (invalid_transition) where it has ended."""
    principal.require("jobs:write")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        if not _end(cursor, key, principal.tenant.pk, f"stopped by {principal.name}"):
            raise Conflict(f"act {key} is {find(principal, key).state} already", code="invalid_transition")
        row = find(principal, key)
        after: dict[str, object] = {"done": row.done, "refused": row.refused, "left": row.total - row.place}
        audit.record(cursor, principal, f"stop {row.act} all", "act on many jobs", str(key), reason, None, after)
    return row


STOP = """
UPDATE jobsite_bulkact SET state = 'STOPPED', ended_at = clock_timestamp(), why_stopped = %s
WHERE id = %s AND tenant_id = %s AND state = 'RUNNING'
"""


def _end(cursor: Cursor, key: int, tenant_id: int, why: str) -> bool:
    cursor.execute(STOP, [why, key, tenant_id])
    return cursor.rowcount == 1


def sweep(keys: Sequence[int]) -> int:
    """Work at each of these acts for a while, then close Django's connection. Returns how many jobs were done."""
    worked = 0
    try:
        for key in keys:
            worked += work_off(key, limit=max(1, BATCH // len(keys)), seconds=BATCH_SECONDS / len(keys))
    finally:
        # Otherwise the thread that sweeps would keep it for days, and not notice that it broke.
        connection.close()
    return worked


def work_off(key: int, *, limit: int, seconds: float) -> int:
    """Do the next jobs of an act, at most `limit` and for at most `seconds`. Returns how many were done.

    None is done where the act has ended, or another process works at it. What the person who began it may no longer do
    is refused; if they left the tenant, the act is stopped.
    """
    row = BulkAct.objects.select_related("tenant").defer("numbers").get(pk=key)
    try:
        principal = _principal_of(row)
    except NotFound:
        with connection.cursor() as cursor:
            _end(cursor, key, row.tenant_id, f"{row.actor} is no active member of tenant {row.tenant.code} any more")
        return 0
    end = time.monotonic() + seconds
    worked = 0
    while worked < limit and time.monotonic() < end and _do_next(row, principal):
        worked += 1
    return worked


def _principal_of(row: BulkAct) -> Principal:
    principal = principals.again(row.tenant, kind=row.kind, user_id=row.user_id, name=row.actor, door=row.door)
    return replace(principal, scopes=principal.scopes & frozenset(row.scopes))


# A process that does not get the row at once does not wait: another one works at the act, and may hang.
NEXT = """
SELECT numbers[place + 1] FROM jobsite_bulkact WHERE id = %s AND state = 'RUNNING' FOR NO KEY UPDATE SKIP LOCKED
"""
MOVE = """
UPDATE jobsite_bulkact SET
    place = place + 1,
    done = done + CASE WHEN %(refusal)s::jsonb IS NULL THEN 1 ELSE 0 END,
    refused = refused + CASE WHEN %(refusal)s::jsonb IS NULL THEN 0 ELSE 1 END,
    refusals = CASE WHEN %(refusal)s::jsonb IS NULL OR jsonb_array_length(refusals) >= %(named)s THEN refusals
                    ELSE refusals || %(refusal)s::jsonb END,
    state = CASE WHEN place + 1 < total THEN 'RUNNING' ELSE 'ENDED' END,
    ended_at = CASE WHEN place + 1 < total THEN NULL ELSE clock_timestamp() END
WHERE id = %(key)s
"""


def _do_next(row: BulkAct, principal: Principal) -> bool:
    """Do the next job of the act and move the act's place, both or neither; False where there is nothing to do."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(NEXT, [row.pk])
        found = cursor.fetchone()
        if found is None:
            return False
        [number] = found
        why = _refusal(row, principal, number)
        refusal = None if why is None else json.dumps({"job": number, "why": storable.mended(why)})
        cursor.execute(MOVE, {"key": row.pk, "refusal": refusal, "named": NAMED_REFUSALS})
    return True


def _refusal(row: BulkAct, principal: Principal, number: int) -> str | None:
    """Do the act to one job. Returns the reason where it is refused."""
    try:
        with transaction.atomic():
            ACTS[row.act].run(principal, number, row.order)
    except Refusal as refusal:
        return str(refusal)
    except (OperationalError, InterfaceError):
        raise  # The database failed, which says nothing about this job: it is tried again.
    except Exception as error:
        # One job that raises must not keep the others waiting for ever.
        log.exception("bulk_act_broke", act=row.pk, job=number)
        return f"{type(error).__name__}: {error}"
    return None
