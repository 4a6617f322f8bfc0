"""The content of a program file as plain values: every key is known, every value checked, every default filled in."""

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jobsite.programs.definitions import values
from jobsite.programs.definitions.actions import KINDS, ActionDefinition, check_maximum, read_action
from jobsite.programs.parameters import compiled
from jobsite.programs.rules.lifecycle import Overlap
from jobsite.programs.rules.retries import RetryPolicy
from jobsite.values import storable
from jobsite.values.durations import format_duration

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_DOTTED = re.compile(rf"{_NAME}(\.{_NAME})*")


class DefinitionError(ValueError):
    """A definition is wrong: one sentence with source, program, key, what is wrong and what is allowed."""


@dataclass(frozen=True)
class ProgramDefinition:
    """One program with all defaults filled in; durations in seconds, `name` by language."""

    code: str
    name: dict[str, str]
    timeout: float
    actions: tuple[ActionDefinition, ...]
    description: str = ""
    queue: str = "default"
    priority: int = 0
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "additionalProperties": False})
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    overlap: Overlap = Overlap.ALLOW
    overlap_keys: tuple[str, ...] = ()
    max_consecutive_failures: int | None = None
    notification_group: str | None = None
    scope: str = "TENANT"
    max_worker_losses: int = 3
    on_worker_lost: str = "RETRY"
    retry_on_timeout: bool = False
    cancel_grace: float = 10.0
    on_child_failure: str = "WARN"
    cancel_children_on_failure: bool = False
    callback: ActionDefinition | None = None
    transient: tuple[str, ...] = ()
    permanent: tuple[str, ...] = ()
    group: bool = True


def parse(text: str, *, source: str, queues: Collection[str]) -> tuple[ProgramDefinition, ...]:
    """The programs of a program file, in its order; `source` names it in errors. Raises DefinitionError."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{source}: is not TOML: {error}") from error
    try:
        tables = values.list_of(values.table, least=1)
        programs = values.members(data, {"program": tables}, required=["program"])["program"]
    except values.WrongError as error:
        raise DefinitionError(f"{source}: {error}") from error
    found: dict[str, ProgramDefinition] = {}
    for number, program in enumerate(programs, start=1):
        where = f"{source}: program {number}"
        definition = from_mapping(program, where=where, queues=queues)
        if definition.code in found:
            raise DefinitionError(f'{where} "{definition.code}": code: appears twice in this file')
        found[definition.code] = definition
    return tuple(found.values())


def from_mapping(data: Mapping[str, object], *, where: str, queues: Collection[str]) -> ProgramDefinition:
    """One program from the keys of a program file; a key whose value is None counts as absent.

    Errors begin with `where` and the program's code. Raises DefinitionError.
    """
    try:
        return _program(data, queues)
    except values.WrongError as error:
        code = data.get("code")
        place = f'{where} "{storable.mended(code):.100}"' if isinstance(code, str) else where
        raise DefinitionError(f"{place}: {error}") from error


def _program(data: Mapping[str, object], queues: Collection[str]) -> ProgramDefinition:
    readers = {**_PROGRAM_KEYS, "queue": values.one_of(queues)}
    given = values.members(
        {"queue": "default", **values.present(data)},
        readers,
        required=["code", "action"],
    )
    actions = given.pop("action")
    callback = given.get("callback")
    if callback is not None:
        callback = given["callback"] = replace(callback, name=callback.name or "callback")
    _check_names(actions, callback)
    given.setdefault("name", {"en": given["code"]})
    given["timeout"] = _program_timeout(given.get("timeout"), actions, callback)
    program = ProgramDefinition(actions=actions, **given)
    _check_overlap(program)
    both = sorted({*program.transient} & {*program.permanent})
    if both:
        raise values.WrongError(f"permanent: {both[0]} is also in transient, expected in one of the two")
    return program


def _check_names(actions: Iterable[ActionDefinition], callback: ActionDefinition | None) -> None:
    """Names must differ: by them a retry finds the actions that have ended, and later actions find results."""
    seen: set[str] = set()
    for number, action in enumerate(actions, start=1):
        name = action.name_at(number)
        if name in seen:
            raise values.WrongError(f'action: item {number}: name: "{name}" appears twice, expected different names')
        seen.add(name)
    if callback is not None and callback.name in seen:
        raise values.WrongError(f'callback: name: "{callback.name}" is also the name of an action, expected another')


def _program_timeout(
    timeout: float | None, actions: Iterable[ActionDefinition], callback: ActionDefinition | None
) -> float:
    """SPEC 5: at most the longest maximum among the kinds; by default the sum of their defaults.

    It bounds one run, and the callback is a run of its own.
    """
    kinds = [KINDS[action.kind] for action in actions]
    called_back = [KINDS[callback.kind]] if callback else []
    maximum = max(kind.maximum_timeout for kind in [*kinds, *called_back])
    if timeout is None:
        runs = [kinds, called_back]
        timeout = min(max(sum(kind.default_timeout for kind in run) for run in runs), maximum)
    check_maximum(timeout, maximum)
    places = [(f"action: item {number}", action) for number, action in enumerate(actions, start=1)]
    for place, action in [*places, *([("callback", callback)] if callback else [])]:
        if action.timeout is not None and action.timeout > timeout:
            raise values.WrongError(
                f"{place}: timeout: expected at most the program's timeout of "
                f"{format_duration(timeout)}, got {format_duration(action.timeout)}"
            )
    return timeout


def _check_overlap(program: ProgramDefinition) -> None:
    if program.overlap_keys and program.overlap is Overlap.ALLOW:
        raise values.WrongError('overlap_keys: need overlap = "REJECT" or "QUEUE", got "ALLOW"')
    validator = compiled(program.parameters) if program.overlap_keys else None
    for key in program.overlap_keys:
        values.inside("overlap_keys", values.one_of(sorted(program.parameters.get("properties", {}))), key)
        if validator is not None and validator.is_secret(key):
            at = storable.pointer(["properties", key])
            raise values.WrongError(
                f"overlap_keys: parameters: {at} is or contains a secret (writeOnly), expected none"
            )


def _retry(value: object) -> RetryPolicy:
    policy = RetryPolicy(**values.members(values.table(value), _RETRY_KEYS))
    if policy.maximum_interval < policy.initial_interval:
        first, longest = format_duration(policy.initial_interval), format_duration(policy.maximum_interval)
        raise values.WrongError(f"maximum_interval: expected at least the initial_interval, {first}, got {longest}")
    return policy


_exceptions = values.distinct(values.matching(_DOTTED, 'the name of an exception, bare or such as "billing.Refused"'))
_code = values.matching(_CODE, 'up to 100 of "a-z0-9_.-", beginning with a letter or digit')
_PROGRAM_KEYS: dict[str, values.Reader] = {
    "code": _code,
    "name": values.names,
    "description": values.any_text,
    "queue": values.text,
    "priority": values.integer(-100, 100),
    "parameters": values.schema,
    "timeout": values.positive_duration,
    "retry": _retry,
    "overlap": lambda value: Overlap(values.one_of([*Overlap])(value)),
    "overlap_keys": values.distinct(values.text),
    "max_consecutive_failures": values.integer(3, 100),
    "notification_group": _code,
    "scope": values.one_of(["TENANT", "SYSTEM"]),
    "max_worker_losses": values.integer(1),
    "on_worker_lost": values.one_of(["RETRY", "FAIL"]),
    "retry_on_timeout": values.flag,
    "cancel_grace": values.duration,
    "on_child_failure": values.one_of(["WARN", "FAIL", "IGNORE"]),
    "cancel_children_on_failure": values.flag,
    "callback": read_action,
    "transient": _exceptions,
    "permanent": _exceptions,
    "group": values.flag,
    "action": lambda value: tuple(values.list_of(read_action, least=1)(value)),
}
_RETRY_KEYS: dict[str, values.Reader] = {
    "max_attempts": values.integer(1),
    "initial_interval": values.duration,
    "coefficient": values.number(1, 1_000),
    "maximum_interval": values.duration,
    "jitter": values.number(0, 1),
}
