"""A job's parameters by the JSON Schema (2020-12) of its program: checked, completed, typed from text."""

import difflib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from programs import storable
from programs.times import TimeError, parse_time

MAX_ERRORS = 20
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Keywords looked at: more than 64 KiB of parameters need in earnest, about a second at most.
_MAX_WORK = 200_000
# Schemas that apply to one and the same value, each inside the one before.
_MAX_IN_PLACE = 32

Schema = Mapping[str, Any] | bool


class PointerError(NamedTuple):
    """One thing that is wrong: the JSON pointer (RFC 6901) to it, and expected and got in words."""

    pointer: str
    message: str


class ParametersError(ValueError):
    """Parameters or a schema are invalid: all `errors`, at most twenty, never empty."""

    def __init__(self, errors: Iterable[PointerError]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "; ".join(f"{error.pointer} {error.message}".lstrip() for error in self.errors)


def canonical(parameters: object) -> bytes:
    """The one JSON text of a value, for fingerprints: sorted keys, no spaces, UTF-8. `1` and `1.0` differ."""
    return json.dumps(parameters, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def check_schema(schema: object) -> None:
    """Raise ParametersError, with pointers into the schema, unless `validate` can work with it.

    That is: within 64 KiB and 32 levels, an object at the top, valid under the metaschema; patterns compile;
    every `$ref` is a pointer to a schema in this one and never leads back to itself; defaults fit their own
    schemas; nothing is `writeOnly`, because secrets are not supported by this version.
    """
    Validator(_plain(schema))


def validate(schema: object, parameters: object) -> dict[str, Any]:
    """A copy of `parameters` with the schema's defaults, or ParametersError; see `Validator.validate`."""
    return compiled(schema).validate(parameters)


def from_text(schema: object, pairs: Sequence[str]) -> dict[str, Any]:
    """Parameters from `KEY=VALUE` texts, typed by the schema; see `Validator.from_text`."""
    return compiled(schema).from_text(pairs)


def compiled(schema: object) -> "Validator":
    """The validator of a schema, from a cache by content. Raises ParametersError as `check_schema` does."""
    try:
        content = canonical(schema)
    except (TypeError, ValueError, RecursionError):
        check_schema(schema)
        raise
    return _compiled(content)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean "cohort"?)` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f' (did you mean "{close[0]}"?)' if close else ""


class Validator:
    """A schema that was found good, ready for many parameters; safe to share between threads."""

    def __init__(self, schema: object) -> None:
        """Check the schema as `check_schema` promises; it must not change afterwards."""
        _raise_any(_shape_errors(schema))
        assert isinstance(schema, dict)
        self._schemas = dict(_schemas_of("", schema))
        _raise_any(_keyword_errors(self._schemas))
        _raise_any(_loop_errors(self._schemas))
        # $id and $schema would change how the library reads references, which are all local here.
        self._schema: Schema = {key: schema[key] for key in schema if key not in ("$id", "$schema")}
        self._checker = _Checker(self._schema, registry=Registry(), format_checker=_formats)
        _work.left = _MAX_WORK
        _raise_any(self._default_errors())

    def validate(self, parameters: object) -> dict[str, Any]:
        """A deep copy of `parameters` with defaults, valid in every respect.

        Defaults of missing members are filled in through `properties`, `prefixItems`, `items` and `$ref`,
        and validated like what was given. Raises ParametersError with all that is wrong.
        """
        _work.left = _MAX_WORK
        wrong: list[PointerError] = []
        copy = storable.plain(parameters, refuse=_noted_in(wrong), mend=False)
        seen = {error.pointer for error in wrong}
        wrong += [error for error in self._errors(self._schema, copy) if error.pointer not in seen]
        _raise_any(wrong)
        assert isinstance(copy, dict)
        return copy

    def from_text(self, pairs: Sequence[str]) -> dict[str, Any]:
        """Parameters from `KEY=VALUE` texts, not validated yet.

        A string stays as it stands; a number, boolean, null, array or object is read as JSON; where the
        schema allows strings among others, what is not JSON of an allowed type stays text, as does the
        value of an unknown key. Raises ParametersError for a pair without key, a key given twice, and
        text that cannot be read.
        """
        _work.left = _MAX_WORK
        parameters: dict[str, Any] = {}
        wrong: list[PointerError] = []
        for pair in pairs:
            key, equals, text = pair.partition("=")
            if not key or not equals:
                wrong.append(PointerError("", f"-p {_shown(pair)}: expected KEY=VALUE"))
            elif key in parameters:
                wrong.append(PointerError(storable.pointer([key]), "is given twice"))
            else:
                parameters[key] = self._read(key, text, wrong)
        _raise_any(wrong)
        return parameters

    def _errors(self, schema: Schema, value: object) -> list[PointerError]:
        """Fill `value` in place, then tell what is wrong with it."""
        wrong: list[PointerError] = []
        try:
            if self._fill(schema, value):
                storable.plain(value, refuse=_noted_in(wrong), mend=False)
            errors = self._checker.evolve(schema=schema).iter_errors(value)
            explained = (line for error in errors for line in _explain(error))
            return [*wrong, *islice(_unique(explained), MAX_ERRORS)]
        except (_TooMuchWorkError, RecursionError):
            return [_TOO_MUCH]

    def _default_errors(self) -> Iterator[PointerError]:
        for at, schema in self._schemas.items():
            if isinstance(schema, dict) and "default" in schema:
                for error in self._errors(schema, deepcopy(schema["default"])):
                    yield PointerError(f"{at}/default{error.pointer}", error.message)

    def _fill(self, schema: Schema, value: Any) -> bool:
        """Put the defaults of missing members into `value`; whether there were any."""
        filled = False
        for part in self._chain(schema):
            for member, key in _members(part, value):
                _spend(1)
                if isinstance(value, dict) and key not in value:
                    default = self._default(member)
                    if default is _MISSING:
                        continue
                    _spend(len(canonical(default)))
                    value[key] = deepcopy(default)
                    filled = True
                filled |= self._fill(member, value[key])
        return filled

    def _default(self, schema: Schema) -> object:
        return next((part["default"] for part in self._chain(schema) if "default" in part), _MISSING)

    def _chain(self, schema: Schema) -> Iterator[Mapping[str, Any]]:
        """The schema and what its `$ref` leads to, as far as that goes."""
        while isinstance(schema, Mapping):
            _spend(1)
            yield schema
            if "$ref" not in schema:
                return
            schema = self._schemas[_target(schema["$ref"])]

    def _read(self, key: str, text: str, wrong: list[PointerError]) -> object:
        try:
            types = self._types(self._member(key))
        except _TooMuchWorkError:
            types = _ALL_TYPES
        if types == {"string"}:
            return text
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            value = _MISSING
        if value is not _MISSING and ("string" not in types or _is_any(value, types)):
            return value
        if "string" not in types:
            expected = " or ".join(sorted(types)).replace("boolean", "boolean (true or false)")
            message = f"expected {expected} as JSON, got {_shown(text)}"
            wrong.append(PointerError(storable.pointer([key]), message))
        return text

    def _member(self, key: str) -> Schema:
        """What applies to a member of the parameters, or, for an unknown one, what allows text."""
        for part in self._chain(self._schema):
            members: Mapping[str, Schema] = part.get("properties", {})
            if key in members:
                return members[key]
            patterns: Mapping[str, Schema] = part.get("patternProperties", {})
            for pattern, schema in patterns.items():
                if re.search(pattern, key):
                    return schema
            others: Schema = part.get("additionalProperties", True)
            if isinstance(others, Mapping):
                return others
        return {"type": "string"}

    def _types(self, schema: Schema) -> frozenset[str]:
        """The JSON types that a schema lets through, as far as its own keywords tell."""
        for part in self._chain(schema):
            if "type" in part:
                return frozenset([part["type"]] if isinstance(part["type"], str) else part["type"])
            values = part.get("enum", [part["const"]] if "const" in part else [])
            if values:
                return frozenset(map(_type_of, values))
            for keyword in ("anyOf", "oneOf"):
                if keyword in part:
                    return frozenset().union(*(self._types(choice) for choice in part[keyword]))
        return _ALL_TYPES


_MISSING = object()
_TOO_MUCH = PointerError("", "nests too deep, or takes too much work, to be checked by this schema")
_ALL_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


@lru_cache(maxsize=256)
def _compiled(content: bytes) -> Validator:
    return Validator(_plain(json.loads(content)))


def _plain(schema: object) -> object:
    wrong: list[PointerError] = []
    copy = storable.plain(schema, refuse=_noted_in(wrong), mend=False)
    _raise_any(wrong)
    return copy


def _noted_in(wrong: list[PointerError]) -> storable.Refuse:
    return lambda at, message: wrong.append(PointerError(at, message))


def _raise_any(errors: Iterable[PointerError]) -> None:
    found = list(islice(errors, MAX_ERRORS))
    if found:
        raise ParametersError(found)


def _unique(errors: Iterable[PointerError]) -> Iterator[PointerError]:
    seen: set[PointerError] = set()
    for error in errors:
        if error not in seen:
            seen.add(error)
            yield error


def _members(schema: Mapping[str, Any], value: object) -> Iterator[tuple[Schema, Any]]:
    """The schemas of the parts of a value, each with the key or index of its part."""
    if isinstance(value, dict):
        for key, member in schema.get("properties", {}).items():
            yield member, key
    elif isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        for index in range(len(value)):
            yield prefix[index] if index < len(prefix) else schema.get("items", True), index


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


# What a schema may say, beyond the metaschema.

_ONE = frozenset(
    {"items", "contains", "unevaluatedItems", "additionalProperties", "unevaluatedProperties"}
    | {"propertyNames", "contentSchema", "not", "if", "then", "else"}
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})


def _children(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The schemas directly inside a schema: keyword, pointer from here, schema."""
    for keyword, value in schema.items() if isinstance(schema, Mapping) else ():
        if keyword in _ONE:
            yield keyword, storable.pointer([keyword]), value
        elif keyword in _LISTS:
            yield from ((keyword, storable.pointer([keyword, i]), part) for i, part in enumerate(value))
        elif keyword in _MAPS:
            yield from ((keyword, storable.pointer([keyword, name]), part) for name, part in value.items())


def _schemas_of(at: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schema and all schemas inside it, by pointer."""
    yield at, schema
    for _, below, child in _children(schema):
        yield from _schemas_of(at + below, child)


def _target(reference: str) -> str:
    """The pointer of the schema that a local `$ref` names."""
    return unquote(reference.removeprefix("#"))


def _shape_errors(schema: object) -> Iterator[PointerError]:
    if not isinstance(schema, dict):
        yield PointerError("", f"expected a schema (an object), got {_described(schema)}")
        return
    if schema.get("type") != "object":
        yield PointerError("/type", f'expected "object" at the top, got {_described(schema.get("type"))}')
    if str(schema.get("$schema", DIALECT)).removesuffix("#") != DIALECT:
        yield PointerError("/$schema", f"expected {DIALECT}, got {_described(schema['$schema'])}")
    try:
        errors = list(islice(_metaschema.iter_errors(schema), MAX_ERRORS * 10))
    except RecursionError:
        yield PointerError("", "nests too deep to be checked")
        return
    yield from _unique(line for error in errors for line in _explain(error))


def _keyword_errors(schemas: Mapping[str, Schema]) -> Iterator[PointerError]:
    for at, schema in schemas.items():
        for keyword, value in schema.items() if isinstance(schema, Mapping) else ():
            if keyword in ("$id", "$schema") and at:
                yield PointerError(f"{at}/{keyword}", "belongs to the top of the schema only")
            elif keyword == "$dynamicRef":
                yield PointerError(f"{at}/{keyword}", "is not supported by this version; use $ref")
            elif keyword == "writeOnly" and value is True:
                yield PointerError(f"{at}/{keyword}", "secret parameters are not supported by this version")
            elif keyword == "$ref" and not (value.startswith("#") and _target(value) in schemas):
                message = f'expected "#/…", the place of a schema in this one, got {_described(value)}'
                yield PointerError(f"{at}/$ref", message)
            elif keyword in ("pattern", "patternProperties"):
                yield from _pattern_errors(f"{at}/{keyword}", value)


def _pattern_errors(at: str, patterns: str | Mapping[str, Any]) -> Iterator[PointerError]:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            yield PointerError(at, f"{_shown(pattern)} is not a pattern that compiles: {error}")


def _loop_errors(schemas: Mapping[str, Schema]) -> Iterator[PointerError]:
    """The first schema that applies itself, or too many others in a row, to the very same value."""
    heights: dict[str, int] = {}
    for at in schemas:
        if _height(at, schemas, heights, above=0) > _MAX_IN_PLACE:
            yield PointerError(at, f"leads back to itself, or through more than {_MAX_IN_PLACE} schemas")
            return


def _height(at: str, schemas: Mapping[str, Schema], heights: dict[str, int], *, above: int) -> int:
    if above > _MAX_IN_PLACE:
        return above
    if at not in heights:
        schema = schemas[at]
        inside = [at + below for keyword, below, _ in _children(schema) if keyword in _IN_PLACE]
        if isinstance(schema, Mapping) and "$ref" in schema:
            inside.append(_target(schema["$ref"]))
        below = (_height(each, schemas, heights, above=above + 1) for each in inside)
        heights[at] = 1 + max(below, default=0)
    return heights[at]


# The library's validator with a bound on its work, and with keywords whose errors point at the member.

_work = threading.local()


class _TooMuchWorkError(Exception):
    """A schema and a value that multiply each other; without a bound they would hold a process for years."""


def _spend(amount: int) -> None:
    _work.left -= amount
    if _work.left < 0:
        raise _TooMuchWorkError


_Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _bounded(keyword: _Keyword) -> _Keyword:
    def check(checker: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        _spend(1 + len(value) // 20 if isinstance(value, (dict, list)) else 1)
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
    """Hashable, and equal where JSON Schema says equal: 1 and 1.0, but not 1 and true."""
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
_metaschema = Draft202012Validator(Draft202012Validator.META_SCHEMA, registry=Registry())
_is_type = Draft202012Validator.TYPE_CHECKER.is_type

_formats = FormatChecker(["date", "email", "ipv4", "ipv6", "uuid"])
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]+")


@_formats.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or _URI.fullmatch(value) is not None


@_formats.checks("date-time", raises=TimeError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(parse_time(value))


# Errors in words: what was expected and what was got.

_FORMATS = {
    "date": "a date such as 2026-11-22",
    "date-time": "a time with a zone such as 2026-11-22T01:02:03Z",
    "email": "an e-mail address",
    "uri": "a URI such as https://example.com/a",
    "uuid": "a UUID",
}
_EXPECTED: dict[str, Callable[[Any], str]] = {
    "type": lambda types: types if isinstance(types, str) else " or ".join(types),
    "const": lambda value: _shown(value),
    "enum": lambda values: "one of " + _listed(map(_shown, values)),
    "minimum": lambda bound: f"at least {bound}",
    "maximum": lambda bound: f"at most {bound}",
    "exclusiveMinimum": lambda bound: f"more than {bound}",
    "exclusiveMaximum": lambda bound: f"less than {bound}",
    "multipleOf": lambda divisor: f"a multiple of {divisor}",
    "minLength": lambda bound: f"at least {bound} characters",
    "maxLength": lambda bound: f"at most {bound} characters",
    "pattern": lambda pattern: f"text that matches {_shown(pattern)}",
    "format": lambda name: _FORMATS.get(name, name),
    "minItems": lambda bound: f"at least {bound} items",
    "maxItems": lambda bound: f"at most {bound} items",
    "uniqueItems": lambda _: "items that all differ",
    "contains": lambda _: 'an item as "contains" describes it',
    "minContains": lambda bound: f'at least {bound} items as "contains" describes them',
    "maxContains": lambda bound: f'at most {bound} items as "contains" describes them',
    "minProperties": lambda bound: f"at least {bound} members",
    "maxProperties": lambda bound: f"at most {bound} members",
    "not": lambda _: 'what "not" does not describe',
}


def _explain(error: ValidationError) -> Iterator[PointerError]:
    at = storable.pointer(error.absolute_path)
    if error.validator in ("anyOf", "oneOf") and error.context:
        yield from _explain_choice(at, error)
    elif error.validator in _EXPECTED:
        yield PointerError(at, f"expected {_wanted(error)}, got {_described(error.instance)}")
    elif error.validator == "additionalProperties":
        yield PointerError(at, _unknown(error))
    elif error.validator in ("properties", "required"):
        yield PointerError(at, error.message)
    elif error.validator == "oneOf":
        yield PointerError(at, f"fits more than one of the allowed forms, got {_described(error.instance)}")
    elif error.schema is False:
        yield PointerError(at, "is not allowed")
    else:
        yield PointerError(at, _short(error.message, 200))


def _explain_choice(at: str, error: ValidationError) -> Iterator[PointerError]:
    """A value that fits none of several schemas: what they want, or else what the nearest of them misses."""
    if all(not each.path and each.validator in ("type", "const", "enum") for each in error.context):
        wanted = " or ".join(dict.fromkeys(map(_wanted, error.context)))
        yield PointerError(at, f"expected {_short(wanted, 200)}, got {_described(error.instance)}")
        return
    branches: dict[object, list[ValidationError]] = {}
    for each in error.context:
        branches.setdefault(each.schema_path[0], []).append(each)
    yield from (line for each in min(branches.values(), key=_distance) for line in _explain(each))


def _distance(branch: list[ValidationError]) -> tuple[bool, int]:
    return any(not error.path and error.validator == "type" for error in branch), len(branch)


def _wanted(error: ValidationError) -> str:
    return _EXPECTED[str(error.validator)](error.validator_value)


def _unknown(error: ValidationError) -> str:
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    known = sorted(schema.get("properties", {}))
    place = "a parameter of this program" if len(error.absolute_path) == 1 else "a member here"
    suggestion = did_you_mean(str(error.path[-1]), known)
    return f"is not {place} (known: {_listed(known) if known else 'none'}){suggestion}"


def _listed(words: Iterable[str]) -> str:
    return _short(", ".join(words), 200)


def _described(value: object) -> str:
    return "null" if value is None else f"{_type_of(value)} {_shown(value)}"


def _shown(value: object) -> str:
    return _short(storable.mended(json.dumps(value, ensure_ascii=False)), 80)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _type_of(value: object) -> str:
    names = ("null", "boolean", "integer", "number", "string", "array")
    return next((name for name in names if _is_type(value, name)), "object")


def _is_any(value: object, types: Iterable[str]) -> bool:
    return any(_is_type(value, name) for name in types)
