"""What a program file says, as plain values: every key known, every value checked, defaults filled in."""

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from programs import storable
from programs.durations import DurationError, format_duration, parse_duration
from programs.lifecycle import Overlap
from programs.parameters import ParametersError, check_schema, did_you_mean
from programs.retries import RetryPolicy

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_DOTTED = re.compile(rf"{_NAME}(\.{_NAME})*")
_TARGET = re.compile(rf"{_NAME}(\.{_NAME})*[.:]{_NAME}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_MAX_INTEGER = 2**31 - 1


class DefinitionError(ValueError):
    """A definition is wrong: one sentence with source, program, key, what is wrong and what is allowed."""


@dataclass(frozen=True)
class ActionDefinition:
    """One step of a program: its kind, the keys of that kind, its own limit in seconds where it has one."""

    kind: str
    configuration: dict[str, Any]
    name: str = ""
    timeout: float | None = None


@dataclass(frozen=True)
class ProgramDefinition:
    """One program with nothing left open; durations in seconds, `name` by language."""

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
    scope: str = "TENANT"
    max_worker_losses: int = 3
    on_worker_lost: str = "RETRY"
    retry_on_timeout: bool = False
    cancel_grace: float = 10.0
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
        programs = _members(data, {"program": _list_of(_table, least=1)}, required=["program"])["program"]
    except _WrongError as error:
        raise DefinitionError(f"{source}: {error}") from error
    found: dict[str, ProgramDefinition] = {}
    for number, program in enumerate(programs, start=1):
        where = f"{source}: program {number}"
        definition = from_mapping(program, where=where, queues=queues)
        if definition.code in found:
            raise DefinitionError(f'{where} "{definition.code}": code: stands twice in this file')
        found[definition.code] = definition
    return tuple(found.values())


def from_mapping(data: Mapping[str, object], *, where: str, queues: Collection[str]) -> ProgramDefinition:
    """One program from the keys of a program file; a key whose value is None counts as absent.

    Errors begin with `where` and the program's code. Raises DefinitionError.
    """
    try:
        return _program(data, queues)
    except _WrongError as error:
        code = data.get("code")
        place = f'{where} "{storable.mended(code):.100}"' if isinstance(code, str) else where
        raise DefinitionError(f"{place}: {error}") from error


def _program(data: Mapping[str, object], queues: Collection[str]) -> ProgramDefinition:
    readers = {**_PROGRAM_KEYS, "queue": _one_of(queues)}
    values = _members(
        {"queue": "default", **_present(data)},
        readers,
        required=["code", "action"],
        later=_PROGRAM_KEYS_LATER,
    )
    actions = values.pop("action")
    values.setdefault("name", {"en": values["code"]})
    values["timeout"] = _program_timeout(values.get("timeout"), actions)
    program = ProgramDefinition(actions=actions, **values)
    _check_overlap(program)
    both = sorted({*program.transient} & {*program.permanent})
    if both:
        raise _WrongError(f"permanent: {both[0]} stands in transient too, expected one of the two")
    return program


def _program_timeout(timeout: float | None, actions: Iterable[ActionDefinition]) -> float:
    """SPEC 5: at most the longest maximum among the kinds; by default the sum of their defaults."""
    kinds = [KINDS[action.kind] for action in actions]
    maximum = max(kind.maximum_timeout for kind in kinds)
    if timeout is None:
        timeout = min(sum(kind.default_timeout for kind in kinds), maximum)
    _check_maximum(timeout, maximum)
    for number, action in enumerate(actions, start=1):
        if action.timeout is not None and action.timeout > timeout:
            raise _WrongError(
                f"action: item {number}: timeout: expected at most the program's timeout of "
                f"{format_duration(timeout)}, got {format_duration(action.timeout)}"
            )
    return timeout


def _check_maximum(timeout: float, maximum: float) -> None:
    if timeout > maximum:
        longest, got = format_duration(maximum), format_duration(timeout)
        raise _WrongError(f"timeout: expected at most {longest} for this kind of action, got {got}")


def _check_overlap(program: ProgramDefinition) -> None:
    if program.overlap_keys and program.overlap is Overlap.ALLOW:
        raise _WrongError('overlap_keys: go with overlap = "REJECT" or "QUEUE" only, got "ALLOW"')
    for key in program.overlap_keys:
        _inside("overlap_keys", _one_of(sorted(program.parameters.get("properties", {}))), key)


def _action(value: object) -> ActionDefinition:
    table = _table(value)
    name = table.get("kind")
    if name in _KINDS_LATER:
        raise _WrongError(f'kind: "{name}" is not supported by this version, only {_listed(KINDS)}')
    kind = KINDS[_inside("kind", _one_of(KINDS), name)]
    readers = {**_ACTION_KEYS, **kind.required, **kind.optional}
    values = _members(table, readers, required=["kind", *kind.required])
    if "timeout" in values:
        _check_maximum(values["timeout"], kind.maximum_timeout)
    return ActionDefinition(
        kind=values["kind"],
        configuration={key: values[key] for key in values if key not in _ACTION_KEYS},
        name=values.get("name", ""),
        timeout=values.get("timeout"),
    )


# What the value of a key may be: a reader gives what is kept, or raises _WrongError.

_Reader = Callable[[object], Any]


class _WrongError(ValueError):
    """What is wrong with a value, from its key inwards; whoever knows the place puts it in front."""


def _members(
    table: Mapping[str, object],
    readers: Mapping[str, _Reader],
    *,
    required: Iterable[str] = (),
    later: Collection[str] = (),
) -> dict[str, Any]:
    table = _present(table)
    for key in table:
        if key in later:
            raise _WrongError(f"{key}: is not supported by this version")
        if key not in readers:
            suggestion = did_you_mean(str(key), readers)
            raise _WrongError(f"{key!s:.80}: is not a known key{suggestion}, known are {_listed(readers)}")
    for key in required:
        if key not in table:
            raise _WrongError(f"{key}: is required")
    return {key: _inside(key, readers[key], value) for key, value in table.items()}


def _present(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if value is not None}


def _inside(key: str, reader: _Reader, value: object) -> Any:
    try:
        return reader(value)
    except _WrongError as error:
        raise _WrongError(f"{key}: {error}") from error


def _any_text(value: object) -> str:
    if not isinstance(value, str):
        raise _expected("text", value)
    if not storable.is_storable(value):
        raise _WrongError("contains a NUL character or a lone surrogate")
    return value


def _text(value: object) -> str:
    if not _any_text(value).strip():
        raise _expected("text that is not empty", value)
    return _any_text(value)


def _matching(pattern: re.Pattern[str], form: str) -> _Reader:
    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _expected(form, value)
        return value

    return read


def _one_of(allowed: Collection[str]) -> _Reader:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            suggestion = did_you_mean(value, allowed) if isinstance(value, str) else ""
            raise _WrongError(f"{_expected(f'one of {_listed(allowed)}', value)!s}{suggestion}")
        return value

    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _expected("true or false", value)
    return value


def _integer(low: int, high: int = _MAX_INTEGER) -> _Reader:
    form = f"an integer from {low} to {high}" if high < _MAX_INTEGER else f"an integer of at least {low}"

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _expected(form, value)
        return value

    return read


def _number(low: float, high: float) -> _Reader:
    def read(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            raise _expected(f"a number from {low:g} to {high:g}", value)
        return float(value)

    return read


def _duration(value: object) -> float:
    try:
        return parse_duration(value)
    except DurationError as error:
        raise _WrongError(str(error)) from error


def _some_time(value: object) -> float:
    seconds = _duration(value)
    if not seconds:
        raise _expected("a duration above zero", value)
    return seconds


def _list_of(item: _Reader, *, least: int = 0) -> _Reader:
    def read(value: object) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            raise _expected("a list that is not empty" if least else "a list", value)
        return [_inside(f"item {number}", item, each) for number, each in enumerate(value, start=1)]

    return read


def _distinct(item: _Reader) -> _Reader:
    def read(value: object) -> tuple[str, ...]:
        items: list[str] = _list_of(item)(value)
        if len(set(items)) < len(items):
            raise _WrongError("the same stands twice in it, expected different ones")
        return tuple(items)

    return read


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _expected("a table", value)
    return value


def _table_of(key: _Reader, item: _Reader) -> _Reader:
    def read(value: object) -> dict[str, Any]:
        return {key(name): _inside(str(name), item, each) for name, each in _table(value).items()}

    return read


def _names(value: object) -> dict[str, str]:
    if isinstance(value, str):
        return {"en": _text(value)}
    by_language: dict[str, str] = _table_of(_matching(_LANGUAGE, 'a language such as "en"'), _text)(value)
    if not by_language:
        raise _expected("text, or a text by language", value)
    return by_language


def _schema(value: object) -> object:
    try:
        check_schema(value)
    except ParametersError as error:
        raise _WrongError(str(error)) from error
    return value


def _retry(value: object) -> RetryPolicy:
    policy = RetryPolicy(**_members(_table(value), _RETRY_KEYS))
    if policy.maximum_interval < policy.initial_interval:
        first, longest = format_duration(policy.initial_interval), format_duration(policy.maximum_interval)
        raise _WrongError(f"maximum_interval: expected at least the initial_interval, {first}, got {longest}")
    return policy


def _expected(form: str, value: object) -> _WrongError:
    return _WrongError(f"expected {form}, got {_got(value)}")


def _got(value: object) -> str:
    """The type of a value in TOML's words, and the value where it is short."""
    name = _TYPE_NAMES.get(type(value), type(value).__name__)
    if isinstance(value, str):
        return f'{name} "{storable.mended(value):.80}"'
    if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**20):
        return f"{name} {str(value).lower()}"
    return f"empty {name}" if value in ([], (), {}) else name


def _listed(allowed: Iterable[str]) -> str:
    return ", ".join(allowed) or "none"


_TYPE_NAMES = {
    str: "text",
    bool: "boolean",
    int: "integer",
    list: "list",
    dict: "table",
    type(None): "nothing",
}
_exceptions = _distinct(_matching(_DOTTED, 'the name of an exception, bare or such as "billing.Refused"'))
_PROGRAM_KEYS: dict[str, _Reader] = {
    "code": _matching(_CODE, 'up to 100 of "a-z0-9_.-", beginning with a letter or digit'),
    "name": _names,
    "description": _any_text,
    "queue": _text,
    "priority": _integer(-100, 100),
    "parameters": _schema,
    "timeout": _some_time,
    "retry": _retry,
    "overlap": lambda value: Overlap(_one_of([*Overlap])(value)),
    "overlap_keys": _distinct(_text),
    "max_consecutive_failures": _integer(3, 100),
    "scope": _one_of(["TENANT", "SYSTEM"]),
    "max_worker_losses": _integer(1),
    "on_worker_lost": _one_of(["RETRY", "FAIL"]),
    "retry_on_timeout": _flag,
    "cancel_grace": _duration,
    "transient": _exceptions,
    "permanent": _exceptions,
    "group": _flag,
    "action": lambda value: tuple(_list_of(_action, least=1)(value)),
}
_PROGRAM_KEYS_LATER = ("notification_group", "callback", "on_child_failure", "cancel_children_on_failure")
_RETRY_KEYS: dict[str, _Reader] = {
    "max_attempts": _integer(1),
    "initial_interval": _duration,
    "coefficient": _number(1, 1_000),
    "maximum_interval": _duration,
    "jitter": _number(0, 1),
}
_ACTION_KEYS: dict[str, _Reader] = {"kind": _text, "name": _text, "timeout": _some_time}


@dataclass(frozen=True)
class Kind:
    """A kind of action: the seconds it gets and may get (SPEC 5), the keys that it needs and may have."""

    default_timeout: float
    maximum_timeout: float
    required: Mapping[str, _Reader]
    optional: Mapping[str, _Reader] = field(default_factory=dict)


_environment_name = _matching(re.compile(r"[^=\0\ud800-\udfff]+"), "the name of an environment variable")
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "python": Kind(
            default_timeout=300.0,
            maximum_timeout=86_400.0,
            required={"target": _matching(_TARGET, '"module:function" or the dotted name of a Celery task')},
        ),
        "command": Kind(
            default_timeout=30.0,
            maximum_timeout=3_600.0,
            required={"argv": _list_of(_any_text, least=1)},
            optional={"env": _table_of(_environment_name, _any_text), "cwd": _text},
        ),
    }
)
_KINDS_LATER = ("http", "heartbeat", "webhook", "container")
