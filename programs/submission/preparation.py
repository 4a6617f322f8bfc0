"""Validate a job before it is inserted: its program, from a copy in memory, its parameters and its options."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from django.utils import timezone

from jobsite import brokers
from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs import parameters
from jobsite.programs.models import Job, Program
from jobsite.programs.parameters import Path, secrets
from jobsite.programs.rules.lifecycle import Overlap, Trigger
from jobsite.programs.transitions.submit import NewJob
from jobsite.tenants.models import CODE_PATTERN
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason
from jobsite.values import storable, times

T = TypeVar("T")
MAX_IDEMPOTENCY_KEY = 200
MAX_KNOWN_PROGRAMS = 1_000


@dataclass(frozen=True)
class Options:
    """How a submission differs from the program's defaults."""

    scheduled_at: datetime | str | None = None
    priority: int | None = None
    hold: bool = False
    hold_reason: str = ""
    idempotency_key: str | None = None
    trigger: Trigger = Trigger.MANUAL
    notify: bool = False


DEFAULTS = Options()


@dataclass(frozen=True)
class Known:
    """A program as it was when last read, with all that is needed to accept its jobs."""

    program: Program
    validator: parameters.Validator
    engine: str


# Programs as they were when last read. An insert names the version that its job was validated with. Where the program
# was edited since, nothing is inserted, and it is read again.
_programs: dict[tuple[int, str], Known] = {}


def known_program(principal: Principal, code: str) -> Known:
    """The program as it was when last read; raises NotFound, and Invalid (unknown_queue)."""
    key = (principal.tenant.pk, code)
    if (known := _programs.get(key)) is None:
        program = find_program(principal, code)
        known = Known(program, parameters.compiled(program.parameters_schema), _engine(program))
        if len(_programs) >= MAX_KNOWN_PROGRAMS:
            _programs.clear()
        _programs[key] = known
    return known


def forget(principal: Principal | None = None, code: str | None = None) -> None:
    """Drop the copy of this program of the principal's tenant, or all copies, so that they are read again."""
    if principal is None or code is None:
        _programs.clear()
    else:
        _programs.pop((principal.tenant.pk, code), None)


def forget_old(principal: Principal, codes: Iterable[str]) -> bool:
    """Drop the copies of these programs that are out of date. Returns whether there were any."""
    keys = [(principal.tenant.pk, code) for code in codes]
    known = {key: _programs[key].program for key in keys if key in _programs}
    rows = Program.objects.filter(pk__in=[program.pk for program in known.values()], deleted_at__isnull=True)
    versions = dict(rows.values_list("pk", "version"))
    old = [key for key, program in known.items() if versions.get(program.pk) != program.version]
    for key in old:
        del _programs[key]
    return bool(old)


def with_program(principal: Principal, code: str, use: Callable[[Known], T]) -> T:
    """Call `use` with the program. Where it refuses a copy that is out of date, call it again with a new one.

    Raises what `known_program` and `use` raise.
    """
    try:
        return use(known_program(principal, code))
    except Invalid:
        if not forget_old(principal, [code]):
            raise
    return use(known_program(principal, code))


def find_program(principal: Principal, code: str) -> Program:
    """The program of this code in the principal's tenant; NotFound names it."""
    program = None
    if CODE_PATTERN.fullmatch(code):
        found = Program.objects.select_related("queue").filter(tenant=principal.tenant, deleted_at__isnull=True)
        program = found.filter(code=code).first()
    if program is None:
        raise NotFound(f"no program {storable.mended(code)[:100]} in tenant {principal.tenant.code}")
    return program


Request = tuple[NewJob, list[str]]
"""A job to insert, and where it has an idempotency key the fingerprints of the request."""


def prepare(principal: Principal, known: Known, given: Mapping[str, Any], options: Options) -> Request:
    """A job as it was asked for. Raises Forbidden (program_terminated), and Invalid with pointers."""
    program = known.program
    if program.status == Program.Status.TERMINATED and options.trigger is Trigger.AUTOMATIC:
        raise Forbidden(f"program {program.code} is terminated", code="program_terminated")
    values = validated(known, given)
    scheduled_at = _scheduled_at(options.scheduled_at)
    _check(options)
    if options.notify and principal.user_id is None:
        raise Invalid(f"notify: {principal.name} is not a user, so there is nobody to notify", code="nobody_to_tell")
    new = new_job(principal, known, values, options, scheduled_at)
    if options.idempotency_key is None:
        return new, []
    canonical = {
        "program": program.code,
        "parameters": dict(given),
        "scheduled_at": times.format_time(scheduled_at) if scheduled_at else None,
        "priority": options.priority,
        "hold": options.hold,
        **({"notify": True} if options.notify else {}),
    }
    request = secrets.fingerprints(parameters.canonical(canonical))
    return replace(new, fingerprint=request[0]), request


def new_job(
    principal: Principal,
    known: Known,
    values: dict[str, Any],
    options: Options,
    scheduled_at: datetime | None = None,
) -> NewJob:
    """A job with these parameters and options, which the caller has validated."""
    program = known.program
    overlap = Overlap(program.overlap_policy)
    places = known.validator.secrets_in(values) if known.validator.has_secrets else []
    return NewJob(
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
        has_secrets=bool(places),
        notify=options.notify,
        notifies=program.notification_group_id is not None,
    )


def _engine(program: Program) -> str:
    try:
        return brokers.engine_of(program.queue.name)
    except KeyError:
        raise Invalid(
            f"queue {program.queue.name} of program {program.code} is not among JOBSITE_QUEUES", code="unknown_queue"
        ) from None


def validated(known: Known, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the schema's defaults. Raises Invalid (invalid_parameters) with a pointer to each error."""
    try:
        return known.validator.validate(dict(given))
    except parameters.ParametersError as error:
        raise _refused(known, error) from error


def _refused(known: Known, error: parameters.ParametersError) -> Invalid:
    return Invalid(
        f"parameters of {known.program.code}: {error}",
        code="invalid_parameters",
        errors=[{"pointer": one.pointer, "message": one.message} for one in error.errors],
    )


def retried_values(known: Known, retried: Job, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters of a retry, valid by the program's current schema: the job's own, or edited ones.

    Raises what `carried_values` raises; secrets are carried only where nothing is edited.
    """
    whose = f"job {retried.number}"
    if given is None:
        return carried_values(known, retried.parameters, whose)
    sealed = secrets.sealed_in(retried.parameters) if retried.has_secrets else []
    shown = [path for path in sealed if secrets.is_shown(given, path)]
    _refuse(known, shown, f"is a secret of {whose}, carried only if nothing is edited; give it anew")
    return validated(known, given)


def carried_values(known: Known, stored: dict[str, Any], whose: str) -> dict[str, Any]:
    """Stored parameters of a job or schedule (`whose`) in clear, for a new job, valid by the current schema.

    Secrets are carried only where the schema still calls them secrets. Raises Invalid (invalid_parameters), and
    Conflict (secrets_lost) where no key opens them.
    """
    sealed = secrets.sealed_in(stored)
    if not sealed:
        return validated(known, stored)
    try:
        clear, _ = secrets.opened(stored)
    except secrets.SecretLost as error:
        raise Conflict(f"{whose}: {error}", code="secrets_lost") from None
    # Before any of them is shown or stored in clear.
    uncovered = sorted(set(sealed) - set(known.validator.secrets_in(clear)), key=sealed.index)
    _refuse(known, uncovered, f"is a secret of {whose}, but no longer one by the schema; give all parameters anew")
    return validated(known, clear)


def _refuse(known: Known, paths: Sequence[Path], why: str) -> None:
    if paths:
        wrong = [parameters.PointerError(storable.pointer(path), why) for path in paths]
        raise _refused(known, parameters.ParametersError(wrong[: parameters.MAX_ERRORS]))


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
    check_reason(options.hold_reason)


def overlap_key(program: Program, values: Mapping[str, Any]) -> str:
    """What two jobs of a program must share to overlap: the named parameters' values, or the program itself."""
    return parameters.canonical({name: values.get(name) for name in program.overlap_keys}).decode()
