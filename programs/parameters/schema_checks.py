"""The library's validator with a limit on its work, and with keywords whose errors point at the member."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry

from jobsite.programs.parameters.schema_rules import Schema, target
from jobsite.values.times import TimeError, parse_time

# Keywords evaluated: more than 64 KiB of honest parameters need, and at most about a second of work.
_MAX_WORK = 200_000

_work = threading.local()


class TooMuchWorkError(Exception):
    """A schema and a value multiply each other's work; without a limit they could keep a process busy for years."""


def begin_work() -> None:
    """Give this thread its whole limit of work again; called once for each call from outside."""
    _work.left = _MAX_WORK


def spend(amount: int) -> None:
    """Count work towards the limit of this thread. Raises TooMuchWorkError past it."""
    _work.left -= amount
    if _work.left < 0:
        raise TooMuchWorkError


def checker_for(schema: Schema) -> Validator:
    """The library's validator of a schema; it raises TooMuchWorkError past the limit of this thread."""
    made: Validator = _Checker(schema, registry=Registry(), format_checker=_formats)
    return made


def chain(schemas: Mapping[str, Schema], schema: Schema) -> Iterator[Mapping[str, Any]]:
    """The schema and what its `$ref` leads to among these, as far as that goes; each counts as work."""
    while isinstance(schema, Mapping):
        spend(1)
        yield schema
        if "$ref" not in schema:
            return
        schema = schemas[target(schema["$ref"])]


_Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _bounded(keyword: _Keyword) -> _Keyword:
    def check(checker: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        spend(1 + len(value) // 20 if isinstance(value, (dict, list)) else 1)
        return keyword(checker, value, instance, schema)

    return check


def _required(checker: Any, names: list[str], value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        yield from (ValidationError("is required", path=[name]) for name in names if name not in value)


def _properties(checker: Any, members: dict[str, Schema], value: Any, schema: Any) -> Iterator[ValidationError]:
    for name, member in members.items() if isinstance(value, dict) else ():
        if name in value and member is False:
            yield ValidationError("is not allowed", path=[name])
        elif name in value:
            yield from checker.descend(value[name], member, path=name, schema_path=name)


def _additional(checker: Any, allowed: Schema, value: Any, schema: Any) -> Iterator[ValidationError]:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in value if isinstance(value, dict) else ():
        if name in known or any(re.search(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield ValidationError("is not known", path=[name])
        else:
            yield from checker.descend(value[name], allowed, path=name)


def _multiple_of(checker: Any, divisor: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    # Decimal as written: 19.99 is a multiple of 0.01, and no integer is too large to divide.
    if checker.is_type(value, "number") and Fraction(str(value)) % Fraction(str(divisor)):
        yield ValidationError("")


def _unique_items(checker: Any, wanted: bool, value: Any, schema: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(value, list) and len({_identity(item) for item in value}) < len(value):
        yield ValidationError("")


def _identity(value: object) -> object:
    """A hashable form that is equal where JSON Schema says equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((key, _identity(member)) for key, member in value.items())
    if isinstance(value, list):
        return tuple(map(_identity, value))
    return (bool, value) if isinstance(value, bool) else value


_OWN_KEYWORDS: dict[str, _Keyword] = {
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
}
_Checker = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _bounded(keyword) for name, keyword in (Draft202012Validator.VALIDATORS | _OWN_KEYWORDS).items()},
)

_formats = FormatChecker(["date", "email", "ipv4", "ipv6", "uuid"])
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]+")


@_formats.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or _URI.fullmatch(value) is not None


@_formats.checks("date-time", raises=TimeError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(parse_time(value))


_ANNOTATIONS = frozenset({"$comment", "default", "deprecated", "description", "examples", "title", "writeOnly"})
_EXACT: dict[object, tuple[type, ...]] = {
    "boolean": (bool,), "integer": (int,), "null": (type(None),), "number": (int, float), "string": (str,),
    "array": (list,), "object": (dict,),
}  # fmt: skip


def quick_check(schema: Mapping[str, Any]) -> Callable[[object], bool]:
    """A fast test that accepts only valid values, and most of them if the schema is a list of members with types.

    It costs a tenth of the library's check. The library judges and explains what this test does not accept.
    """
    members = schema.get("properties", {})
    is_plain = schema.keys() <= _ANNOTATIONS | {"type", "properties", "required", "additionalProperties"}
    is_flat = all(isinstance(one, dict) and one.keys() <= _ANNOTATIONS | {"type"} for one in members.values())
    others = schema.get("additionalProperties", True)
    if not (is_plain and is_flat and schema.get("type") == "object" and isinstance(others, bool)):
        return lambda value: False
    if any(isinstance(one.get("type"), list) for one in members.values()):
        return lambda value: False
    types = {name: _EXACT[one["type"]] if "type" in one else None for name, one in members.items()}
    required = frozenset(schema.get("required", ()))

    def accepts(value: object) -> bool:
        if type(value) is not dict or not required <= value.keys() or not (others or value.keys() <= types.keys()):
            return False
        return all((exact := types.get(name)) is None or type(member) in exact for name, member in value.items())

    return accepts
