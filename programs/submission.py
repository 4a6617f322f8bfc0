"""Accept a job: permitted, valid, captured, inserted; dispatched once the caller's transaction commits."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import cache
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction

from jobsite.database import Cursor, prepared_cursor
from jobsite.errors import Conflict, Invalid, Refusal
from jobsite.programs import dispatch, parameters, preparation, principals, quotas
from jobsite.programs.lifecycle import OPEN, Overlap
from jobsite.programs.models import Job, Program
from jobsite.programs.preparation import DEFAULTS, Known, Options, Request
from jobsite.programs.principals import Principal
from jobsite.programs.transitions.submit import (
    KEEP_CONTEXT,
    Inserted,
    NewJob,
    Offered,
    insert,
    insert_all,
    insert_and_offer,
)
from jobsite.tenants.models import Tenant

MAX_JOBS = 10_000
CHUNK = 1_000
TRIES = 10  # the job in our way may have ended each time before we can name it


_OPTIONS = frozenset(field.name for field in fields(Options))


def submit(
    *,
    tenant: Tenant,
    program: str,
    parameters: Mapping[str, Any] | None = None,
    user: User | None = None,
    **options: Any,
) -> Job:
    """Submit a job of a program of this tenant, as `user`, or as the platform itself when there is none.

    The row is written in the caller's transaction and lives or dies with it; workers hear of it after the
    commit. `options` are the fields of Options.

    Returns the job; with an idempotency key that was used for the same request, the job of then.

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


def submit_many(*, tenant: Tenant, jobs: Iterable[Mapping[str, Any]], user: User | None = None) -> list[int]:
    """Submit up to 10,000 jobs at once, all or none, in the caller's transaction; their numbers, in the same order.

    Each job is a mapping with `program`, and `parameters` and the fields of Options as far as they are wanted.
    What was submitted before under the same idempotency key is not submitted again: its number of then is told.

    Raises what `submit` raises; Invalid, Conflict and NotFound carry pointers such as /jobs/17/parameters/cohort.
    """
    principal = principals.of_user(user, tenant) if user is not None else principals.system(tenant)
    return submit_many_as(principal, jobs)


def submit_many_as(principal: Principal, jobs: Iterable[Mapping[str, Any]]) -> list[int]:
    """`submit_many` for a principal that an entry point has made already."""
    principal.require("jobs:write")
    wanted = list(islice(jobs, MAX_JOBS + 1))
    if len(wanted) > MAX_JOBS:
        raise Invalid(f"more than {MAX_JOBS:,} jobs; submit them in several calls", code="too_many_jobs")
    quotas.take(principal.tenant, len(wanted))
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                numbers, first_ready, waiting = _all_inserted(principal, wanted)
                if None not in numbers:
                    for queue_id, number in first_ready.items():
                        dispatch.after_commit(number, queue_id, is_first_of_many=True)
                    if waiting:
                        dispatch.after_commit_let_in(waiting)
                    return [number for number in numbers if number is not None]
                transaction.set_rollback(True)
        except Invalid:
            # A refusal by a copy that is old is not believed.
            if not preparation.forget_old(principal, {str(job.get("program")) for job in wanted}):
                raise
            continue
        # Some program was edited meanwhile, or a job in our way has just ended.
        preparation.forget()
    raise Conflict("these jobs are contended; submit again", code="contended")


_Prepared = list[Request]
_Wanted = tuple[Known, Mapping[str, Any], Options]


_AllInserted = tuple[list[int | None], dict[int, int], list[int]]


def _all_inserted(principal: Principal, jobs: Sequence[Mapping[str, Any]]) -> _AllInserted:
    """The numbers (None where nothing accounts for a job), the first ready one of each queue, what waits for a key."""
    errors: list[dict[str, str]] = []
    wanted: list[_Wanted] = []
    for place, job in enumerate(jobs):
        try:
            code, given, options = _request(job)
            wanted.append((preparation.known_program(principal, code), given, options))
        except Refusal as error:
            _keep(error, place, errors)
    _raise_any(errors)
    chunks: list[_Prepared] = []

    def prepared() -> Iterator[list[NewJob]]:
        # While the database inserts one, the next is looked at.
        for begin in range(0, len(wanted), CHUNK):
            chunk: _Prepared = []
            for place, one in enumerate(wanted[begin : begin + CHUNK], start=begin):
                try:
                    chunk.append(preparation.prepare(principal, *one))
                except Refusal as error:
                    _keep(error, place, errors)
            if not errors:
                chunks.append(chunk)
                yield [new for new, _ in chunk]
        _raise_any(errors)

    with prepared_cursor() as cursor:
        rows = insert_all(cursor, prepared())
    return _accounted_for(zip(chunks, rows, strict=True))


def _keep(error: Refusal, place: int, errors: list[dict[str, str]]) -> None:
    """Note what is wrong with one of many jobs; raises when that is enough, or nothing about its values."""
    if not isinstance(error, Invalid):
        error.args = (f"/jobs/{place}: {error}",)
        raise error
    errors += _at(place, error)
    if len(errors) >= parameters.MAX_ERRORS:
        _raise_any(errors)


def _raise_any(errors: Sequence[dict[str, str]]) -> None:
    if errors:
        raise Invalid(f"{errors[0]['pointer']}: {errors[0]['message']}", code="invalid_parameters", errors=errors)


def _request(job: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Options]:
    options = dict(job)
    code, given = options.pop("program", None), options.pop("parameters", None)
    if not isinstance(code, str) or not isinstance(given, Mapping | None):
        raise Invalid("a job has a program, its code, and parameters, an object")
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise Invalid(f"{min(unknown)} is no option of a job; there are {', '.join(sorted(_OPTIONS))}")
    return code, given or {}, Options(**options) if options else DEFAULTS


def _at(place: int, error: Invalid) -> list[dict[str, str]]:
    """The errors of one of many jobs, with pointers from the top."""
    inner = error.details.get("errors")
    if not isinstance(inner, list):
        return [{"pointer": f"/jobs/{place}", "message": str(error)}]
    return [{"pointer": f"/jobs/{place}/parameters{one['pointer']}", "message": one["message"]} for one in inner]


def _accounted_for(inserted: Iterable[tuple[_Prepared, list[Inserted]]]) -> _AllInserted:
    numbers: list[int | None] = []
    first_ready: dict[int, int] = {}
    waiting: list[int] = []
    for prepared, rows in inserted:
        by_place = {row.position: row for row in rows}
        for place, (new, request) in enumerate(prepared):
            if row := by_place.get(place):
                numbers.append(row.number)
                if row.blocked is None:
                    first_ready.setdefault(row.queue_id, row.number)
                elif row.blocked == "OVERLAP":
                    waiting.append(row.number)
                continue
            try:
                earlier = _earlier(new, request)
            except Conflict as error:
                error.args = (f"/jobs/{len(numbers)}: {error}",)
                raise
            numbers.append(earlier.number if earlier else None)
    return numbers, first_ready, waiting


def submit_as(principal: Principal, code: str, given: Mapping[str, Any], options: Options = DEFAULTS) -> Job:
    """`submit` for a principal that an entry point has made already."""
    return _submitted(principal, code, lambda known: preparation.prepare(principal, known, given, options))


def retry_as(principal: Principal, retried: Job, given: Mapping[str, Any] | None = None) -> Job:
    """A new job of an ended one's program, for whoever retries, with its priority and its parameters or those given.

    It is MANUAL and has no parent, whoever asked for the first one. Raises what `submit` raises, and Conflict:
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
    """A new job with parameters that are stored already, whose secrets it carries. Raises what `submit` raises."""

    def prepare(known: Known) -> Request:
        return preparation.new_job(principal, known, preparation.carried_values(known, stored, whose), options), []

    return _submitted(principal, code, prepare)


def program_deleted(job: Job) -> Conflict:
    """The refusal to run anything like this job again."""
    return Conflict(
        f"program {job.program.code} of job {job.number} is deleted; submit a job of another program instead",
        code="program_deleted",
    )


def _submitted(principal: Principal, code: str, prepare: Callable[[Known], Request]) -> Job:
    principal.require("jobs:write")
    for turn in range(TRIES):
        known, new, request = preparation.by_the_program(principal, code, lambda known: (known, *prepare(known)))
        if turn == 0:
            quotas.take(principal.tenant, 1)
        with prepared_cursor() as cursor:
            row = _insert_one(cursor, new)
        if row is not None:
            return _accepted(row, principal, known.program)
        if existing := _earlier(new, request):
            return existing
        # The first job of this principal; or the program was edited since it was read, or the job in our way has ended.
        with prepared_cursor() as cursor:
            cursor.execute(KEEP_CONTEXT, [new.context.key, new.context.content])
        preparation.forget(principal, code)
    raise Conflict(f"program {code} is contended; submit again", code="contended")


def _insert_one(cursor: Cursor, new: NewJob) -> Inserted | None:
    """The job, committed and perhaps QUEUED; in a transaction of the caller's PENDING, and sent when that commits."""
    if connection.get_autocommit() and not new.tells:
        return insert_and_offer(cursor, new, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
    # Together with what its program's rules tell of it.
    with transaction.atomic() if new.tells else nullcontext():
        inserted = insert(cursor, [new])
    return inserted[0] if inserted else None


def _accepted(row: Inserted, principal: Principal, program: Program) -> Job:
    # The rest is read when somebody asks for it: a submission costs one statement.
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
    """As from_db wants them: in the order of the model's fields."""
    return [field.attname for field in Job._meta.concrete_fields if field.attname in names]


def _earlier(new: NewJob, request: list[str]) -> Job | None:
    """The job that a unique key made us meet; raises Conflict unless it is our own earlier one."""
    if new.retry_of is not None:
        retry = Job.objects.filter(retry_of=new.retry_of, status__in=sorted(OPEN)).first()
        if retry is not None:
            raise Conflict(
                f"job {new.retry_of} is being retried by job {retry.number} already, which is {retry.status}",
                code="retry_open",
                existing_job=retry.number,
            )
    if new.idempotency_key is not None:
        earlier = Job.objects.filter(tenant_id=new.tenant_id, idempotency_key=new.idempotency_key).first()
        if earlier is not None:
            if earlier.fingerprint in request:
                return earlier
            raise Conflict(
                f"idempotency key {new.idempotency_key!r} was used for job {earlier.number} with another request",
                code="idempotency_key_reused",
                existing_job=earlier.number,
            )
    refuse_duplicate(new)
    return None


def refuse_duplicate(new: NewJob) -> None:
    """Raise Conflict (duplicate_job) with the number of the open job that holds this one's REJECT key, if any."""
    if new.overlap_policy is Overlap.REJECT:
        holder = Job.objects.filter(
            program_id=new.program_id,
            overlap_policy=Overlap.REJECT,
            overlap_key=new.overlap_key,
            status__in=sorted(OPEN),
        ).first()
        if holder is not None:
            raise Conflict(
                f"duplicate of job {holder.number}, which is {holder.status}",
                code="duplicate_job",
                existing_job=holder.number,
            )
