"""Enter programs from their definitions: permitted, importable, idempotent, audited."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from jobsite.database import Cursor
from jobsite.errors import Forbidden, Invalid, NotFound
from programs import audit, queues
from programs.actions import UnknownAction, python, templates
from programs.definitions import ActionDefinition, ProgramDefinition
from programs.models import Action, Program, Queue
from programs.principals import Principal


@dataclass(frozen=True)
class Loaded:
    """What became of one definition: `change` is created, updated or unchanged."""

    code: str
    change: str


def load(principal: Principal, definitions: Iterable[ProgramDefinition]) -> list[Loaded]:
    """Make the tenant's programs be as defined, all or none; loading the same again changes nothing.

    Programs that are not among the definitions are left alone.

    Raises:
        Forbidden: jobs:admin is missing, or an action that only the platform may define.
        Invalid: an action that cannot be imported, a template that does not parse, a feature not built yet.
    """
    principal.require("jobs:admin")
    definitions = list(definitions)
    for definition in definitions:
        _check(principal, definition)
    with transaction.atomic(), connection.cursor() as cursor:
        queues.register(cursor)
        return [_save(cursor, principal, definition) for definition in definitions]


def _check(principal: Principal, definition: ProgramDefinition) -> None:
    where = f'program "{definition.code}"'
    if definition.scope == "SYSTEM":
        raise Invalid(f"{where}: scope SYSTEM is for the programs that come with jobsite")
    for number, action in enumerate(definition.actions, start=1):
        at = f"{where}: action {number}"
        if action.kind == "python":
            _check_python(principal, action, at)
        elif action.kind == "command":
            _check_command(principal, action, at)


def _check_python(principal: Principal, action: ActionDefinition, at: str) -> None:
    target = action.configuration["target"]
    if not principal.is_platform and not python.is_allowed(target, settings.JOBSITE_ACTIONS):
        raise Forbidden(
            f"{at}: {target} is in none of the modules that tenants may use "
            f"({', '.join(settings.JOBSITE_ACTIONS)}; JOBSITE_ACTIONS)",
            code="platform_only",
        )
    if ":" not in target:
        raise Invalid(f"{at}: a target is module:function, not {target!r}")
    try:
        python.find_function(target)
    except UnknownAction as error:
        raise Invalid(f"{at}: {error}") from error


def _check_command(principal: Principal, action: ActionDefinition, at: str) -> None:
    if not principal.is_platform:
        raise Forbidden(f"{at}: only the platform's operator defines commands", code="platform_only")
    strings = [*action.configuration["argv"], *action.configuration.get("env", {}).values()]
    for string in strings:
        if wrong := templates.check(string):
            raise Invalid(f"{at}: {string!r}: {wrong}")


def _save(cursor: Cursor, principal: Principal, definition: ProgramDefinition) -> Loaded:
    program = (
        Program.objects.select_for_update(no_key=True)
        .filter(tenant=principal.tenant, code=definition.code, deleted_at__isnull=True)
        .first()
    )
    wanted, actions = _columns(definition), _actions(definition)
    if program is None:
        program = Program.objects.create(tenant=principal.tenant, **wanted)
        change, before = "created", None
    else:
        before = {name: getattr(program, name) for name in wanted}
        stored = list(program.actions.values("position", "name", "kind", "configuration", "timeout_seconds"))
        if before == wanted and stored == actions:
            return Loaded(definition.code, "unchanged")
        # A new version makes every worker read the program anew at its next claim.
        Program.objects.filter(pk=program.pk).update(**wanted, version=program.version + 1, updated_at=Now())
        program.actions.all().delete()
        change = "updated"
    Action.objects.bulk_create(Action(tenant=principal.tenant, program=program, **action) for action in actions)
    after = asdict(definition)
    audit.record(cursor, principal, f"program {change}", "program", definition.code, "", before, after)
    return Loaded(definition.code, change)


def _columns(definition: ProgramDefinition) -> dict[str, object]:
    queue = Queue.objects.filter(name=definition.queue).first()
    if queue is None:
        raise NotFound(f'program "{definition.code}": no queue {definition.queue}')
    retry = definition.retry
    return {
        "code": definition.code,
        "names": definition.name,
        "description": definition.description,
        "queue_id": queue.pk,
        "priority": definition.priority,
        "parameters_schema": definition.parameters,
        "timeout_seconds": definition.timeout,
        "max_attempts": retry.max_attempts,
        "initial_interval": retry.initial_interval,
        "coefficient": retry.coefficient,
        "maximum_interval": retry.maximum_interval,
        "jitter": retry.jitter,
        "retry_on_timeout": definition.retry_on_timeout,
        "transient": list(definition.transient),
        "permanent": list(definition.permanent),
        "max_worker_losses": definition.max_worker_losses,
        "on_worker_lost": definition.on_worker_lost,
        "cancel_grace_seconds": definition.cancel_grace,
        "overlap_policy": str(definition.overlap),
        "overlap_keys": list(definition.overlap_keys),
        "max_consecutive_failures": definition.max_consecutive_failures,
        "travels_in_groups": definition.group and all(action.kind == "python" for action in definition.actions),
    }


def _actions(definition: ProgramDefinition) -> list[dict[str, object]]:
    return [
        {
            "position": position,
            "name": action.name,
            "kind": action.kind,
            "configuration": action.configuration,
            "timeout_seconds": action.timeout,
        }
        for position, action in enumerate(definition.actions, start=1)
    ]
