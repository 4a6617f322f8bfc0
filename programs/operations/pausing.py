"""Pause and resume programs, schedules, queues and tenants: one model, permitted, audited, the same for every door.

What is paused starts nothing new; what runs goes on to its end; nothing that waits is lost. A pause ends when somebody
resumes it, or by itself at the moment given.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from django.conf import settings
from django.db import connection, transaction

from jobsite.database import Cursor, prepared_cursor
from jobsite.errors import Conflict, Forbidden, NotFound
from jobsite.programs import dispatch, schedules
from jobsite.programs.models import Lane, Program, Queue
from jobsite.programs.rules.recurrence import pause_of
from jobsite.programs.sql.failures import IS_TERMINATED
from jobsite.programs.submission import find_program
from jobsite.programs.transitions import pause as pause_transition
from jobsite.programs.transitions.dispatch import wake
from jobsite.programs.transitions.pause import GOES_ON, LANE, PROGRAM, QUEUE, SCHEDULE, TENANT, Level
from jobsite.tenants import audit
from jobsite.tenants.models import SYSTEM, Tenant
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason, end_of
from jobsite.values import times

BATCHES = 50
"""At most this many batches of jobs are moved at once; of a larger backlog the claim moves the rest."""
RECENT_SECONDS = 600.0


# ---- Programs -------------------------------------------------------------------------------------------------


def pause_program(principal: Principal, code: str, *, reason: str = "", until: datetime | str | None = None) -> Program:
    """Pause a program: its jobs wait, and so do those that are submitted later.

    Raises Forbidden without jobs:admin, NotFound, Conflict (invalid_transition) unless it is ACTIVE.
    """
    program = _own_program(principal, code)
    with _refused_by_status(program, "pause"):
        _pause(principal, PROGRAM, program.pk, code, reason, until)
    with connection.cursor() as cursor:
        _in_batches(partial(_block, cursor, program))
    return program


def _block(cursor: Cursor, program: Program, after: int) -> int | None:
    return pause_transition.block(cursor, tenant_id=program.tenant_id, program_id=program.pk, after=after)


def resume_program(principal: Principal, code: str, *, reason: str = "") -> Program:
    """Let a paused program go on. Raises Conflict (invalid_transition) where it is not paused."""
    program = _own_program(principal, code)
    with _refused_by_status(program, "resume"):
        _resume(principal, PROGRAM, program.pk, code, reason)
    transaction.on_commit(lambda: _bring_back(program), robust=True)
    return program


def terminate_program(principal: Principal, code: str, *, reason: str = "") -> Program:
    """Terminate a program: schedules make no more jobs of it, and those that they made and that wait are canceled.

    Jobs that people submit still run. Raises Conflict (invalid_transition) where it is terminated already.
    """
    program = _own_program(principal, code)
    _set_program(principal, program, "terminate", reason, f"""
        UPDATE jobsite_program SET status = 'TERMINATED', updated_at = clock_timestamp(), {GOES_ON}
        WHERE id = %(id)s AND status <> 'TERMINATED'""")  # fmt: skip
    with connection.cursor() as cursor:
        _cancel_automatic(cursor, program.tenant_id, program.pk, by=principal.name, reason=reason or IS_TERMINATED)
    if program.status == Program.Status.PAUSED:
        transaction.on_commit(lambda: _bring_back(program), robust=True)
    return program


def reactivate_program(principal: Principal, code: str, *, reason: str = "") -> Program:
    """Let schedules run a terminated program again, with no failures in a row."""
    program = _own_program(principal, code)
    _set_program(principal, program, "reactivate", reason, f"""
        UPDATE jobsite_program SET status = 'ACTIVE', consecutive_failures = 0,
               updated_at = clock_timestamp(), {GOES_ON}
        WHERE id = %(id)s AND status = 'TERMINATED'""")  # fmt: skip
    return program


def _cancel_automatic(cursor: Cursor, tenant_id: int, program_id: int, *, by: str, reason: str) -> None:
    def move(after: int) -> int | None:
        return pause_transition.cancel_automatic(
            cursor, tenant_id=tenant_id, program_id=program_id, by=by, reason=reason, after=after
        )

    _in_batches(move)


def _own_program(principal: Principal, code: str) -> Program:
    principal.require("jobs:read")
    program = find_program(principal, code)
    principal.require("jobs:admin")
    return program


def _set_program(principal: Principal, program: Program, act: str, reason: str, statement: str) -> None:
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        program.status = Program.objects.select_for_update().values_list("status", flat=True).get(pk=program.pk)
        cursor.execute(statement, {"id": program.pk})
        if cursor.rowcount == 0:
            raise _refused(program, act)
        before: dict[str, object] = {"status": program.status}
        audit.record(cursor, principal, f"{act} program", "program", program.code, reason, before, None)


@contextmanager
def _refused_by_status(program: Program, act: str) -> Iterator[None]:
    """Make a Conflict name the status that the program has now."""
    try:
        yield
    except Conflict:
        program.refresh_from_db(fields=["status"])
        raise _refused(program, act) from None


def _refused(program: Program, act: str) -> Conflict:
    return Conflict(f'Cannot {act} a program with status "{program.status}"', code="invalid_transition")


def _bring_back(program: Program) -> None:
    with connection.cursor() as cursor:
        for _ in range(BATCHES):
            back = pause_transition.unblock(cursor, program_id=program.pk)
            if not back:
                break
            wake(cursor, [number for number, _ in back])
            dispatch.let_in(cursor, [number for number, _ in back])
    _dispatch([program.queue_id])


# ---- Schedules ------------------------------------------------------------------------------------------------


def pause_schedule(principal: Principal, code: str, *, reason: str = "", until: datetime | str | None = None) -> None:
    """Pause a schedule: each of its times is skipped, with this reason. Jobs that it has made still run.

    Raises Forbidden without jobs:admin, NotFound, Conflict (invalid_transition) when it is paused already.
    """
    row = schedules.find(principal, code)
    principal.require("jobs:admin")
    _pause(principal, SCHEDULE, row.pk, code, reason, until)


def resume_schedule(principal: Principal, code: str, *, reason: str = "") -> None:
    """Let a paused schedule go on with its next time, never at once. Raises Conflict where it is not paused."""
    with transaction.atomic():
        row = schedules.locked(principal, code)
        principal.require("jobs:admin")
        _resume(principal, SCHEDULE, row.pk, code, reason)
        schedules.go_on(row, str(pause_of(row)))


# ---- Queues ---------------------------------------------------------------------------------------------------


def pause_queue(
    principal: Principal,
    name: str,
    *,
    whole: bool = False,
    reason: str = "",
    until: datetime | str | None = None,
) -> None:
    """Pause a queue for the principal's tenant, or the `whole` of it, which only the platform's operator may do.

    Raises NotFound, Forbidden, Conflict (invalid_transition) when it is paused already.
    """
    level, key = _queue(principal, name, whole=whole)
    _pause(principal, level, key, name, reason, until)


def resume_queue(principal: Principal, name: str, *, whole: bool = False, reason: str = "") -> None:
    """Let a paused queue go on, for the principal's tenant or the `whole`. Raises Conflict where it is not paused."""
    level, key = _queue(principal, name, whole=whole)
    _resume(principal, level, key, name, reason)
    queue_id = Queue.objects.values_list("pk", flat=True).get(name=name)
    transaction.on_commit(lambda: _dispatch([queue_id]), robust=True)


def _queue(principal: Principal, name: str, *, whole: bool) -> tuple[Level, int]:
    principal.require("jobs:admin")
    queue = Queue.objects.filter(name=name).first()
    if queue is None:
        raise NotFound(f"no queue {name}; there are {', '.join(settings.JOBSITE_QUEUES)}")
    if not whole:
        lane, _ = Lane.objects.get_or_create(queue=queue, tenant=principal.tenant)
        return LANE, lane.pk
    _require_platform(principal, "pauses or resumes a whole queue")
    return QUEUE, queue.pk


# ---- Tenants --------------------------------------------------------------------------------------------------


def suspend_tenant(principal: Principal, *, reason: str = "", until: datetime | str | None = None) -> None:
    """Suspend the principal's tenant: its running jobs go on to their end, no other starts, none fails or is lost.

    Raises Forbidden for all but the platform's operator, Conflict (invalid_transition) where it is suspended already.
    """
    _require_platform(principal, "suspends a tenant")
    if principal.tenant.code == SYSTEM:
        raise Conflict("the system tenant is never suspended", code="invalid_transition")
    _pause(principal, TENANT, principal.tenant.pk, principal.tenant.code, reason, until)


def resume_tenant(principal: Principal, *, reason: str = "") -> None:
    """Let a suspended tenant go on. Raises Conflict (invalid_transition) where it is active."""
    _require_platform(principal, "resumes a tenant")
    _resume(principal, TENANT, principal.tenant.pk, principal.tenant.code, reason)
    queues = Lane.objects.filter(tenant=principal.tenant, is_waiting=True).values_list("queue", flat=True)
    transaction.on_commit(lambda: _dispatch(list(queues)), robust=True)


def _require_platform(principal: Principal, what: str) -> None:
    if not principal.is_platform:
        raise Forbidden(f"only the platform's operator {what}", code="platform_only")


# ---- What they share ------------------------------------------------------------------------------------------


def cancel_of_terminated(cursor: Cursor) -> int:
    """Cancel jobs that schedules made of programs terminated in the last ten minutes. Returns how many programs."""
    cursor.execute(
        """
        SELECT tenant_id, id FROM jobsite_program
        WHERE status = 'TERMINATED' AND updated_at > clock_timestamp() - %s * interval '1 second' ORDER BY id
        """,
        [RECENT_SECONDS],
    )
    found = cursor.fetchall()
    for tenant_id, program_id in found:
        _cancel_automatic(cursor, tenant_id, program_id, by="system", reason=IS_TERMINATED)
    return len(found)


def end_pauses(cursor: Cursor) -> int:
    """End the pauses whose end has come. Returns how many ended."""
    ended = 0
    for level in (PROGRAM, SCHEDULE, QUEUE, LANE, TENANT):
        cursor.execute(level.end())
        ended += cursor.rowcount
    return ended


def _in_batches(move: Callable[[int], int | None]) -> None:
    after = 0
    for _ in range(BATCHES):
        last = move(after)
        if last is None:
            return
        after = last


def _dispatch(queues: Iterable[int]) -> None:
    with prepared_cursor() as cursor:
        for queue_id in queues:
            dispatch.dispatch(cursor, queue_id)


def _pause(principal: Principal, level: Level, key: int, name: str, reason: str, until: datetime | str | None) -> None:
    check_reason(reason)
    end = end_of(until)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(level.pause(), {"id": key, "by": principal.name, "reason": reason, "until": end})
        if cursor.rowcount == 0:
            raise Conflict(f"{level.kind} {name} is {level.state} already", code="invalid_transition")
        action = f"{level.verb} {level.whole}{level.kind}"
        after: dict[str, object] | None = {"until": times.format_time(end)} if end else None
        audit.record(cursor, _of(level, principal), action, level.kind, name, reason, None, after)


def _resume(principal: Principal, level: Level, key: int, name: str, reason: str) -> None:
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(level.resume(), {"id": key})
        if cursor.rowcount == 0:
            raise Conflict(f"{level.kind} {name} is not {level.state}", code="invalid_transition")
        action = f"resume {level.whole}{level.kind}"
        audit.record(cursor, _of(level, principal), action, level.kind, name, reason, None, None)


def _of(level: Level, principal: Principal) -> Principal:
    """Whose audit an act is written to: that of the system tenant for a whole queue, which belongs to no tenant."""
    return replace(principal, tenant=Tenant.objects.get(code=SYSTEM)) if level is QUEUE else principal
