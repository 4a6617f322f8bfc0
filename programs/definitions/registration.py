"""Store programs as their definitions say: checked first, all or none, idempotent, audited."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from jobsite import outgoing
from jobsite.database import Cursor
from jobsite.errors import Forbidden, Invalid, NotFound
from jobsite.notifications.models import Group
from jobsite.programs import queues
from jobsite.programs.actions import python, templates
from jobsite.programs.context import UnknownAction
from jobsite.programs.definitions.actions import ActionDefinition
from jobsite.programs.definitions.program_file import ProgramDefinition
from jobsite.programs.models import Action, Program, Queue
from jobsite.programs.parameters import secrets
from jobsite.programs.parameters.secrets import SecretLost
from jobsite.tenants import audit
from jobsite.tenants.principals import Principal
from jobsite.values import masking


@dataclass(frozen=True)
class Loaded:
    """What became of one definition: `change` is created, updated or unchanged."""

    code: str
    change: str


def load(principal: Principal, definitions: Iterable[ProgramDefinition]) -> list[Loaded]:
    """Create or update the tenant's programs as defined, all or none; loading the same again changes nothing.

    Programs that are not among the definitions are left alone.

    Raises:
        Forbidden: jobs:admin is missing, or only the platform may define such an action.
        Invalid: an action cannot be imported, or a template does not parse.
    """
    definitions = list(definitions)
    for definition in definitions:
        if definition.scope == "SYSTEM":
            raise Invalid(f'program "{definition.code}": scope SYSTEM is for the programs that come with jobsite')
    return load_system(principal, definitions)


def load_system(principal: Principal, definitions: Iterable[ProgramDefinition]) -> list[Loaded]:
    """`load` for jobsite's own programs as well."""
    principal.require("jobs:admin")
    definitions = list(definitions)
    for definition in definitions:
        _check(principal, definition)
    with transaction.atomic(), connection.cursor() as cursor:
        queues.register(cursor)
        return [_save(cursor, principal, definition) for definition in definitions]


def _check(principal: Principal, definition: ProgramDefinition) -> None:
    where = f'program "{definition.code}"'
    places = [(f"action {number}", action) for number, action in enumerate(definition.actions, start=1)]
    for place, action in [*places, *([("callback", definition.callback)] if definition.callback else [])]:
        at, is_callback = f"{where}: {place}", action is definition.callback
        if action.kind == "python":
            _check_python(principal, action, at)
        elif action.kind in ("command", "container"):
            _check_platform_only(principal, action, at, is_callback=is_callback)
        else:
            _check_request(action, at, is_callback=is_callback)


def _check_python(principal: Principal, action: ActionDefinition, at: str) -> None:
    target = action.configuration["target"]
    if not principal.is_platform and not python.is_allowed(target, settings.JOBSITE_ACTIONS):
        raise Forbidden(
            f"{at}: {target} is not in a module that tenants may use "
            f"(JOBSITE_ACTIONS: {', '.join(settings.JOBSITE_ACTIONS) or 'none'})",
            code="platform_only",
        )
    try:
        python.find_function(target)
    except UnknownAction as error:
        raise Invalid(f"{at}: {error}") from error


def _check_platform_only(principal: Principal, action: ActionDefinition, at: str, *, is_callback: bool) -> None:
    if not principal.is_platform:
        raise Forbidden(f"{at}: only the platform's operators may define {action.kind} actions", code="platform_only")
    texts = [action.configuration.get(key) for key in ("argv", "image", "command", "env")]
    _check_templates(texts, at, is_callback=is_callback)


def _check_request(action: ActionDefinition, at: str, *, is_callback: bool) -> None:
    """A URL with placeholders is checked when it is sent; so is the network address of any URL."""
    url = action.configuration["url"]
    if "{" not in url:
        try:
            outgoing.check_url(url)
        except outgoing.OutgoingRefused as error:
            raise Invalid(f"{at}: url: {error}") from error
    texts = [action.configuration.get(key) for key in ("url", "headers", "body")]
    _check_templates(texts, at, is_callback=is_callback)


def _check_templates(values: object, at: str, *, is_callback: bool) -> None:
    for string in templates.strings_in(values):
        if wrong := templates.check(string, in_callback=is_callback):
            raise Invalid(f"{at}: {string!r}: {wrong}")


def _save(cursor: Cursor, principal: Principal, definition: ProgramDefinition) -> Loaded:
    program = (
        Program.objects.select_for_update(no_key=True)
        .filter(tenant=principal.tenant, code=definition.code, deleted_at__isnull=True)
        .first()
    )
    wanted, actions = _columns(principal, definition), _actions(definition)
    if program is None:
        program = Program.objects.create(tenant=principal.tenant, **wanted)
        change, before = "created", None
    else:
        before = {name: getattr(program, name) for name in wanted}
        stored = program.actions.values("position", "name", "kind", "configuration", "timeout_seconds", "is_callback")
        if before == wanted and [_opened(dict(one)) for one in stored] == actions:
            return Loaded(definition.code, "unchanged")
        # A new version makes every worker read the program again at its next claim.
        Program.objects.filter(pk=program.pk).update(**wanted, version=program.version + 1, updated_at=Now())
        program.actions.all().delete()
        change = "updated"
    Action.objects.bulk_create(
        Action(tenant=principal.tenant, program=program, **_sealed(action)) for action in actions
    )
    masked = [_masked(action) for action in actions]
    after = asdict(replace(definition, actions=(), callback=None)) | {"actions": masked}
    audit.record(cursor, principal, f"program {change}", "program", definition.code, "", before, after)
    return Loaded(definition.code, change)


def _columns(principal: Principal, definition: ProgramDefinition) -> dict[str, object]:
    queue = Queue.objects.filter(name=definition.queue).first()
    if queue is None:
        raise NotFound(f'program "{definition.code}": no queue {definition.queue}')
    retry = definition.retry
    return {
        "code": definition.code,
        "scope": definition.scope,
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
        "on_child_failure": definition.on_child_failure,
        "cancel_children_on_failure": definition.cancel_children_on_failure,
        "overlap_policy": str(definition.overlap),
        "overlap_keys": list(definition.overlap_keys),
        "max_consecutive_failures": definition.max_consecutive_failures,
        "notification_group_id": _group(principal, definition),
        "travels_in_groups": definition.group and all(action["kind"] == "python" for action in _actions(definition)),
    }


def _group(principal: Principal, definition: ProgramDefinition) -> int | None:
    """The notification group, locked until the commit so that nobody deletes it meanwhile."""
    code = definition.notification_group
    if code is None:
        return None
    rows = Group.objects.filter(tenant=principal.tenant, code=code, deleted_at__isnull=True)
    if (group := rows.select_for_update(no_key=True).first()) is None:
        raise Invalid(f'program "{definition.code}": there is no notification group {code}; create it first')
    return group.pk


def _sealed(action: dict[str, Any]) -> dict[str, Any]:
    """The action as it is stored: its secret encrypted."""
    return action | {"configuration": secrets.encrypted(action["configuration"], [("secret",)])}


def _opened(action: dict[str, Any]) -> dict[str, Any]:
    """A stored action as it was defined. One whose secret no key decrypts stays encrypted and equals no definition."""
    try:
        return action | {"configuration": dict(secrets.opened(action["configuration"])[0])}
    except SecretLost:
        return action


def _masked(action: dict[str, Any]) -> dict[str, Any]:
    return masking.masked(_sealed(action))  # type: ignore[no-any-return]


def _actions(definition: ProgramDefinition) -> list[dict[str, Any]]:
    """All actions in order, the callback last."""
    callback = [definition.callback] if definition.callback else []
    return [
        {
            "position": position,
            "name": action.name,
            "kind": action.kind,
            "configuration": action.configuration,
            "timeout_seconds": action.timeout,
            "is_callback": action is definition.callback,
        }
        for position, action in enumerate([*definition.actions, *callback], start=1)
    ]
