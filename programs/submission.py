"""Accept a job: permitted, valid, captured, inserted; dispatched once the caller's transaction commits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from jobsite import brokers
from jobsite.database import Cursor, prepared_cursor
from jobsite.errors import Conflict, Forbidden, Invalid, NotFound, Refusal
from jobsite.tenants.models import CODE_PATTERN, Tenant
from programs import dispatch, parameters, principals, secrets, storable, times
from programs.lifecycle import OPEN, Overlap, Trigger
from programs.models import Job, Program
from programs.principals import Principal
from programs.transitions.submit import (
    KEEP_CONTEXT,
    Inserted,
    NewJob,
    Offered,
    insert,
    insert_all,
    insert_and_offer,
)

MAX_REASON = 1_000
MAX_IDEMPOTENCY_KEY = 200
MAX_JOBS = 10_000
MAX_KNOWN_PROGRAMS = 1_000
CHUNK = 1_000
TRIES = 3


@dataclass(frozen=True)
class Options:
    """How a submission differs from the program's defaults."""

    scheduled_at: datetime | str | None = None
    priority: int | None = None
    hold: bool = False
    hold_reason: str = ""
    idempotency_key: str | None = None
    trigger: Trigger = Trigger.MANUAL


DEFAULTS = Options()
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
    for _ in range(TRIES):
        with transaction.atomic():
            numbers, first_ready = _all_inserted(principal, wanted)
            if None not in numbers:
                for queue_id, number in first_ready.items():
                    dispatch.after_commit(number, queue_id, is_first_of_many=True)
                return [number for number in numbers if number is not None]
            transaction.set_rollback(True)
        # Some program was edited meanwhile, or a job in our way has just ended.
        _programs.clear()
    raise Conflict("these jobs are contended; submit again", code="contended")


_Prepared = list[tuple[NewJob, list[str]]]
_Wanted = tuple["_Known", Mapping[str, Any], Options]


def _all_inserted(principal: Principal, jobs: Sequence[Mapping[str, Any]]) -> tuple[list[int | None], dict[int, int]]:
    """The numbers, None for a job that nothing accounts for; and the first ready number of each queue."""
    errors: list[dict[str, str]] = []
    wanted: list[_Wanted] = []
    for place, job in enumerate(jobs):
        try:
            code, given, options = _request(job)
            wanted.append((_known_program(principal, code), given, options))
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
                    chunk.append(_prepare(principal, *one))
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


def _accounted_for(inserted: Iterable[tuple[_Prepared, list[Inserted]]]) -> tuple[list[int | None], dict[int, int]]:
    numbers: list[int | None] = []
    first_ready: dict[int, int] = {}
    for prepared, rows in inserted:
        by_place = {row.position: row for row in rows}
        for place, (new, request) in enumerate(prepared):
            if row := by_place.get(place):
                numbers.append(row.number)
                if row.blocked is None:
                    first_ready.setdefault(row.queue_id, row.number)
                continue
            try:
                earlier = _earlier(new, request)
            except Conflict as error:
                error.args = (f"/jobs/{len(numbers)}: {error}",)
                raise
            numbers.append(earlier.number if earlier else None)
    return numbers, first_ready


def submit_as(principal: Principal, code: str, given: Mapping[str, Any], options: Options = DEFAULTS) -> Job:
    """`submit` for a principal that an entry point has made already."""
    principal.require("jobs:write")
    for _ in range(TRIES):
        known = _known_program(principal, code)
        new, request = _prepare(principal, known, given, options)
        with prepared_cursor() as cursor:
            row = _insert_one(cursor, new)
        if row is not None:
            return _accepted(row, principal, known.program)
        if existing := _earlier(new, request):
            return existing
        # The first job of this principal; or the program was edited since it was read, or the job in our way has ended.
        with prepared_cursor() as cursor:
            cursor.execute(KEEP_CONTEXT, [new.context.key, new.context.content])
        _programs.pop((principal.tenant.pk, code), None)
    raise Conflict(f"program {code} is contended; submit again", code="contended")


def _insert_one(cursor: Cursor, new: NewJob) -> Inserted | None:
    """The job, committed and perhaps QUEUED; in a transaction of the caller's PENDING, and sent when that commits."""
    if connection.get_autocommit():
        return insert_and_offer(cursor, new, lock_seconds=settings.JOBSITE_LOCK_SECONDS)
    inserted = insert(cursor, [new])
    return inserted[0] if inserted else None


@dataclass(frozen=True)
class _Known:
    """What accepting a job takes of its program."""

    program: Program
    validator: parameters.Validator
    engine: str


# Programs as they were when last read. An insert goes by the version that it was validated with, so that one that
# was edited since is read again.
_programs: dict[tuple[int, str], _Known] = {}


def _known_program(principal: Principal, code: str) -> _Known:
    key = (principal.tenant.pk, code)
    if (known := _programs.get(key)) is None:
        program = find_program(principal, code)
        known = _Known(program, parameters.compiled(program.parameters_schema), _engine(program))
        if len(_programs) >= MAX_KNOWN_PROGRAMS:
            _programs.clear()
        _programs[key] = known
    return known


def find_program(principal: Principal, code: str) -> Program:
    """The program of this code in the principal's tenant; NotFound names it."""
    program = None
    if CODE_PATTERN.fullmatch(code):
        found = Program.objects.select_related("queue").filter(tenant=principal.tenant, deleted_at__isnull=True)
        program = found.filter(code=code).first()
    if program is None:
        raise NotFound(f"no program {storable.mended(code)[:100]} in tenant {principal.tenant.code}")
    return program


def _prepare(
    principal: Principal, known: _Known, given: Mapping[str, Any], options: Options
) -> tuple[NewJob, list[str]]:
    program = known.program
    if program.status == Program.Status.TERMINATED and options.trigger is Trigger.AUTOMATIC:
        raise Forbidden(f"program {program.code} is terminated", code="program_terminated")
    values = _validated(known, given)
    scheduled_at = _scheduled_at(options.scheduled_at)
    _check(options)
    request: list[str] = []
    if options.idempotency_key is not None:
        canonical = {
            "program": program.code,
            "parameters": dict(given),
            "scheduled_at": times.format_time(scheduled_at) if scheduled_at else None,
            "priority": options.priority,
            "hold": options.hold,
        }
        request = secrets.fingerprints(parameters.canonical(canonical))
    overlap = Overlap(program.overlap_policy)
    places = known.validator.secrets_in(values) if known.validator.has_secrets else []
    new = NewJob(
        tenant_id=principal.tenant.pk,
        program_id=program.pk,
        program_version=program.version,
        parameters=parameters.canonical(secrets.encrypted(values, places) if places else values).decode(),
        context=principal.captured,
        engine=known.engine,
        trigger=options.trigger,
        priority=options.priority,
        scheduled_at=scheduled_at,
        hold_by=principal.name if options.hold else None,
        hold_reason=options.hold_reason,
        overlap_policy=overlap,
        overlap_key=None if overlap is Overlap.ALLOW else overlap_key(program, values),
        idempotency_key=options.idempotency_key,
        fingerprint=request[0] if request else "",
        has_secrets=bool(places),
    )
    return new, request


def _engine(program: Program) -> str:
    try:
        return brokers.engine_of(program.queue.name)
    except KeyError:
        raise Invalid(
            f"queue {program.queue.name} of program {program.code} is not among JOBSITE_QUEUES", code="unknown_queue"
        ) from None


def _validated(known: _Known, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return known.validator.validate(dict(given))
    except parameters.ParametersError as error:
        raise Invalid(
            f"parameters of {known.program.code}: {error}",
            code="invalid_parameters",
            errors=[{"pointer": one.pointer, "message": one.message} for one in error.errors],
        ) from error


def _scheduled_at(given: datetime | str | None) -> datetime | None:
    if given is None:
        return None
    try:
        return times.parse_scheduled_at(given, now=timezone.now())
    except times.TimeError as error:
        raise Invalid(f"scheduled_at: {error}", code="invalid_time") from error


def _check(options: Options) -> None:
    priority, key = options.priority, options.idempotency_key
    if priority is not None and (
        isinstance(priority, bool) or not isinstance(priority, int) or not -100 <= priority <= 100
    ):
        raise Invalid(f"priority must be a whole number from -100 to 100, not {priority!r}", code="invalid_priority")
    if key is not None and not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isprintable()):
        raise Invalid(
            f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} printable characters",
            code="invalid_idempotency_key",
        )
    if len(options.hold_reason) > MAX_REASON or not storable.is_storable(options.hold_reason):
        raise Invalid(f"a reason has at most {MAX_REASON} characters of valid text", code="invalid_reason")


def overlap_key(program: Program, values: Mapping[str, Any]) -> str:
    """What two jobs of a program must share to overlap: the named parameters' values, or the program itself."""
    return parameters.canonical({name: values.get(name) for name in program.overlap_keys}).decode()


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
    return job


@cache
def _in_order(names: frozenset[str]) -> list[str]:
    """As from_db wants them: in the order of the model's fields."""
    return [field.attname for field in Job._meta.concrete_fields if field.attname in names]


def _earlier(new: NewJob, request: list[str]) -> Job | None:
    """The job that a unique key made us meet; raises Conflict unless it is our own earlier one."""
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
    return None
