"""Submit many jobs at once, all or none: a chunk is validated while the one before is inserted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from jobsite.database import prepared_cursor
from jobsite.errors import Conflict, Invalid, Refusal
from jobsite.programs import dispatch, parameters
from jobsite.programs.submission import preparation, quotas
from jobsite.programs.submission.conflicts import TRIES, earlier_job
from jobsite.programs.submission.preparation import DEFAULTS, Known, Options, Request
from jobsite.programs.transitions.submit import Inserted, NewJob, insert_all
from jobsite.tenants import principals
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Principal

MAX_JOBS = 10_000
CHUNK = 1_000

_OPTIONS = frozenset(field.name for field in fields(Options))
_Prepared = list[Request]
_Wanted = tuple[Known, Mapping[str, Any], Options]
_AllInserted = tuple[list[int | None], dict[int, int], list[int]]


def submit_many(*, tenant: Tenant, jobs: Iterable[Mapping[str, Any]], user: User | None = None) -> list[int]:
    """Submit up to 10,000 jobs at once, all or none, in the caller's transaction. Returns their numbers in order.

    Each job is a mapping with `program`, and where wanted `parameters` and the fields of Options. A job that was
    submitted before under the same idempotency key is not submitted again: its earlier number is returned.

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
            # The copy of a program may be out of date: then the jobs are validated again.
            if not preparation.forget_old(principal, {str(job.get("program")) for job in wanted}):
                raise
            continue
        # Some program was edited meanwhile, or a job that kept one out has just ended.
        preparation.forget()
    raise Conflict("these jobs are contended; submit again", code="contended")


def _all_inserted(principal: Principal, jobs: Sequence[Mapping[str, Any]]) -> _AllInserted:
    """The numbers (None where a job must be tried again), the first ready one of each queue, those blocked OVERLAP."""
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
        # While the database inserts one chunk, the next is validated.
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
    """Note what is wrong with one of many jobs; raises once that is enough, or where its values are not the reason."""
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
        raise Invalid("a job needs `program`, a program's code, and may have `parameters`, an object")
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise Invalid(f"{min(unknown)} is not an option of a job; the options are {', '.join(sorted(_OPTIONS))}")
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
                earlier = earlier_job(new, request)
            except Conflict as error:
                error.args = (f"/jobs/{len(numbers)}: {error}",)
                raise
            numbers.append(earlier.number if earlier else None)
    return numbers, first_ready, waiting
