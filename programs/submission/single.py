"""Submit one job: permitted, valid, captured, inserted; dispatched once the caller's transaction commits."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction

from jobsite.database import Cursor, prepared_cursor
from jobsite.errors import Conflict
from jobsite.programs import dispatch
from jobsite.programs.models import Job, Program
from jobsite.programs.submission import preparation, quotas
from jobsite.programs.submission.conflicts import TRIES, earlier_job
from jobsite.programs.submission.preparation import DEFAULTS, Known, Options, Request
from jobsite.programs.transitions.submit import KEEP_CONTEXT, Inserted, NewJob, Offered, insert, insert_and_offer
from jobsite.tenants import principals
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Principal


def submit(
    *,
    tenant: Tenant,
    program: str,
    parameters: Mapping[str, Any] | None = None,
    user: User | None = None,
    **options: Any,
) -> Job:
    """Submit a job of a program of this tenant, as `user`, or as the platform itself where none is given.

    The row is written in the caller's transaction and is rolled back with it; the job is dispatched after the
    commit. `options` are the fields of Options.

    Returns the job; with an idempotency key that was used for the same request, the earlier job.

    Raises:
        NotFound: no such program, or the user is no member.
        Forbidden: the user lacks jobs:write.
        Invalid: parameters (code invalid_parameters, with pointers), time, priority.
        Conflict: duplicate_job with the number of the job that holds the overlap key;
            idempotency_key_reused when the key was used for another request.
        TooMany: over the tenant's quota of pending jobs or of submissions a minute.
    """
    principal = principals.of_user(user, tenant) if user is not None else principals.system(tenant)
    return submit_as(principal, program, parameters or {}, Options(**options))


def submit_as(principal: Principal, code: str, given: Mapping[str, Any], options: Options = DEFAULTS) -> Job:
    """`submit` for a principal that an entry point has made already."""
    return _submitted(principal, code, lambda known: preparation.prepare(principal, known, given, options))


def retry_as(principal: Principal, retried: Job, given: Mapping[str, Any] | None = None) -> Job:
    """A new job of an ended job's program, with its priority and its parameters or those given; it runs as `principal`.

    It is MANUAL and has no parent, however the first one came about. Raises what `submit` raises, and Conflict:
    retry_open with `existing_job` while another retry of the job is open, program_deleted.
    """

    def prepare(known: Known) -> Request:
        if known.program.pk != retried.program_id:
            raise program_deleted(retried)
        values = preparation.retried_values(known, retried, given)
        new = preparation.new_job(principal, known, values, Options(priority=retried.priority))
        return replace(new, retry_of=retried.number), []

    return _submitted(principal, retried.program.code, prepare)


def carry_as(principal: Principal, code: str, stored: dict[str, Any], options: Options, *, whose: str) -> Job:
    """A new job with stored parameters, of which it carries the secrets. Raises what `submit` raises."""

    def prepare(known: Known) -> Request:
        return preparation.new_job(principal, known, preparation.carried_values(known, stored, whose), options), []

    return _submitted(principal, code, prepare)


def program_deleted(job: Job) -> Conflict:
    """The error for a retry of a job whose program is deleted."""
    return Conflict(
        f"program {job.program.code} of job {job.number} is deleted; submit a job of another program instead",
        code="program_deleted",
    )


def _submitted(principal: Principal, code: str, prepare: Callable[[Known], Request]) -> Job:
    principal.require("jobs:write")
    for turn in range(TRIES):
        known, new, request = preparation.with_program(principal, code, lambda known: (known, *prepare(known)))
        if turn == 0:
            quotas.take(principal.tenant, 1)
        with prepared_cursor() as cursor:
            row = _insert_one(cursor, new)
        if row is not None:
            return _accepted(row, principal, known.program)
        if existing := earlier_job(new, request):
            return existing
        # This is the principal's first job; or the program was edited since it was read, or the other job has ended.
        with prepared_cursor() as cursor:
            cursor.execute(KEEP_CONTEXT, [new.context.key, new.context.content])
        preparation.forget(principal, code)
    raise Conflict(f"program {code} is contended; submit again", code="contended")


def _insert_one(cursor: Cursor, new: NewJob) -> Inserted | None:
    """The job: committed, and QUEUED where there is room; PENDING within a transaction of the caller's."""
    if connection.get_autocommit() and not new.notifies:
        return insert_and_offer(cursor, new, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
    # Together with the deliveries that its program's rules ask for.
    with transaction.atomic() if new.notifies else nullcontext():
        inserted = insert(cursor, [new])
    return inserted[0] if inserted else None


def _accepted(row: Inserted, principal: Principal, program: Program) -> Job:
    # The other columns are read when they are asked for: a submission costs one statement.
    values = {
        "number": row.number,
        "tenant_id": principal.tenant.pk,
        "program_id": program.pk,
        "queue_id": row.queue_id,
        "status": "QUEUED" if isinstance(row, Offered) and row.is_queued else "PENDING",
        "priority": row.priority,
        "blocked": row.blocked,
        "scheduled_at": row.scheduled_at,
        "created_at": row.created_at,
    }
    loaded = _in_order(frozenset(values))
    job = Job.from_db(None, loaded, [values[name] for name in loaded])
    job.program = program
    if row.blocked is None:
        if isinstance(row, Offered):
            dispatch.follow_up(row)
        else:
            dispatch.after_commit(row.number, row.queue_id)
    elif row.blocked == "OVERLAP":
        dispatch.after_commit_let_in([row.number])
    return job


@cache
def _in_order(names: frozenset[str]) -> list[str]:
    """In the order of the model's fields, as from_db takes them."""
    return [field.attname for field in Job._meta.concrete_fields if field.attname in names]
