"""The rules for the schema of a program's parameters, beyond those of JSON Schema's own metaschema."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from referencing import Registry

from jobsite.programs.parameters.schema_errors import MAX_ERRORS, PointerError, described, in_words, raise_any, shown
from jobsite.values import storable

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = Mapping[str, Any] | bool
"""Keywords and their values; or true, which allows everything, or false, which allows nothing."""

# How many schemas, each inside the one before, may apply to the same value.
_MAX_IN_PLACE = 32

_ONE = frozenset(
    {"items", "contains", "unevaluatedItems", "additionalProperties", "unevaluatedProperties"}
    | {"propertyNames", "contentSchema", "not", "if", "then", "else"}
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
_metaschema = Draft202012Validator(Draft202012Validator.META_SCHEMA, registry=Registry())


def schemas_in(schema: object) -> dict[str, Schema]:
    """The schema and all schemas inside it, by pointer. Raises ParametersError if it breaks a rule."""
    raise_any(_shape_errors(schema))
    assert isinstance(schema, dict)
    schemas = dict(_schemas_of("", schema))
    raise_any(_keyword_errors(schemas))
    raise_any(_loop_errors(schemas))
    return schemas


def target(reference: str) -> str:
    """The pointer of the schema that a local `$ref` names."""
    return unquote(reference.removeprefix("#"))


def children(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The schemas directly inside a schema: keyword, pointer from here, schema."""
    for keyword, value in schema.items() if isinstance(schema, Mapping) else ():
        if keyword in _ONE:
            yield keyword, storable.pointer([keyword]), value
        elif keyword in _LISTS:
            yield from ((keyword, storable.pointer([keyword, i]), part) for i, part in enumerate(value))
        elif keyword in _MAPS:
            yield from ((keyword, storable.pointer([keyword, name]), part) for name, part in value.items())


def _schemas_of(at: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield at, schema
    for _, below, child in children(schema):
        yield from _schemas_of(at + below, child)


def _shape_errors(schema: object) -> Iterator[PointerError]:
    if not isinstance(schema, dict):
        yield PointerError("", f"expected a schema (an object), got {described(schema)}")
        return
    if schema.get("type") != "object":
        yield PointerError("/type", f'expected "object" at the top, got {described(schema.get("type"))}')
    if str(schema.get("$schema", DIALECT)).removesuffix("#") != DIALECT:
        yield PointerError("/$schema", f"expected {DIALECT}, got {described(schema['$schema'])}")
    try:
        errors = list(islice(_metaschema.iter_errors(schema), MAX_ERRORS * 10))
    except RecursionError:
        yield PointerError("", "is nested too deeply to be checked")
        return
    yield from in_words(errors)


def _keyword_errors(schemas: Mapping[str, Schema]) -> Iterator[PointerError]:
    for at, schema in schemas.items():
        for keyword, value in schema.items() if isinstance(schema, Mapping) else ():
            if keyword in ("$id", "$schema") and at:
                yield PointerError(f"{at}/{keyword}", "is allowed only at the top of the schema")
            elif keyword == "$dynamicRef":
                yield PointerError(f"{at}/{keyword}", "is not supported by this version; use $ref")
            elif keyword == "$ref" and not (value.startswith("#") and target(value) in schemas):
                message = f'expected "#/…", the pointer to a schema in this one, got {described(value)}'
                yield PointerError(f"{at}/$ref", message)
            elif keyword in ("pattern", "patternProperties"):
                yield from _pattern_errors(f"{at}/{keyword}", value)


def _pattern_errors(at: str, patterns: str | Mapping[str, Any]) -> Iterator[PointerError]:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            yield PointerError(at, f"{shown(pattern)} is not a pattern that compiles: {error}")


def _loop_errors(schemas: Mapping[str, Schema]) -> Iterator[PointerError]:
    """The first schema that applies itself, or too many nested schemas, to the same value."""
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
        inside = [at + below for keyword, below, _ in children(schema) if keyword in _IN_PLACE]
        if isinstance(schema, Mapping) and "$ref" in schema:
            inside.append(target(schema["$ref"]))
        below = (_height(each, schemas, heights, above=above + 1) for each in inside)
        heights[at] = 1 + max(below, default=0)
    return heights[at]
