"""Parameters against a program's schema: errors are named, defaults are filled in, and nothing hangs."""

import json
import pickle
import threading
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from jobsite.programs.parameters import (
    MAX_ERRORS,
    ParametersError,
    canonical,
    check_schema,
    compiled,
    did_you_mean,
    from_text,
    validate,
)
from jobsite.programs.parameters.schema_checks import quick_check

SCORES = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/scores",
    "type": "object",
    "required": ["cohort"],
    "additionalProperties": False,
    "properties": {
        "cohort": {"type": "string", "minLength": 1},
        "year": {"type": "integer", "minimum": 2000, "default": 2026},
        "mode": {"enum": ["fast", "slow"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "address": {"$ref": "#/$defs/address"},
        "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}},
    },
    "$defs": {
        "address": {
            "type": "object",
            "default": {},
            "additionalProperties": False,
            "properties": {"street": {"type": "string", "default": "Main Street"}},
        },
        "row": {"type": "object", "required": ["id"], "properties": {"weight": {"default": 1}}},
    },
}


def with_properties(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def errors_of(call: Callable[..., object], *arguments: object) -> list[tuple[str, str]]:
    with pytest.raises(ParametersError) as refused:
        call(*arguments)
    return [tuple(error) for error in refused.value.errors]


# Valid parameters


def test_defaults_are_filled_in_at_the_top_in_objects_in_items_and_through_references():
    parameters = {"cohort": "2026", "rows": [{"id": 1}, {"id": 2, "weight": 3}]}

    assert validate(SCORES, parameters) == {
        "cohort": "2026",
        "year": 2026,
        "address": {"street": "Main Street"},
        "rows": [{"id": 1, "weight": 1}, {"id": 2, "weight": 3}],
    }
    assert parameters == {"cohort": "2026", "rows": [{"id": 1}, {"id": 2, "weight": 3}]}


@pytest.mark.parametrize(
    ("schema", "given_", "completed"),
    [
        (with_properties(a={"default": None}), {}, {"a": None}),
        (with_properties(a={"default": 1}), {"a": None}, {"a": None}),
        (with_properties(a={"properties": {"b": {"default": 1}}}), {}, {}),
        (with_properties(a={"properties": {"b": {"default": 1}}}), {"a": {}}, {"a": {"b": 1}}),
        (with_properties(a={"properties": {"b": {"default": 1}}}), {"a": "text"}, {"a": "text"}),
        (
            with_properties(a={"prefixItems": [{}, {"properties": {"b": {"default": 1}}}]}),
            {"a": [{}, {}, {}]},
            {"a": [{}, {"b": 1}, {}]},
        ),
        (
            {**with_properties(a={"$ref": "#/$defs/x", "default": 2}), "$defs": {"x": {"default": 1}}},
            {},
            {"a": 2},
        ),
        (
            {**with_properties(a={"$ref": "#/$defs/x%20y~1z"}), "$defs": {"x y/z": {"default": 1}}},
            {},
            {"a": 1},
        ),
        (
            with_properties(a={"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}),
            {"a": {"a": {"a": {}}}},
            {"a": {"a": {"a": {}}}},
        ),
    ],
)
def test_a_default_replaces_only_what_is_missing(schema, given_, completed):
    assert validate(schema, given_) == completed


def test_a_default_is_never_shared_between_jobs():
    schema = with_properties(tags={"type": "array", "default": []})

    validate(schema, {})["tags"].append("mine")

    assert validate(schema, {}) == {"tags": []}


def test_the_copy_is_deep():
    rows = [{"id": 1}]

    copy = validate(SCORES, {"cohort": "a", "rows": rows})
    rows[0]["id"] = 2

    assert copy["rows"][0]["id"] == 1


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ({"type": "integer"}, 2**80),
        ({"type": "integer"}, 5.0),
        ({"type": "number", "multipleOf": 0.01}, 19.99),
        ({"type": "number", "multipleOf": 0.5}, 10**400),
        ({"type": "string"}, "🎓"),
        ({"type": "array"}, (1, 2)),
        ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}, {"a": True}]),
        ({"format": "date-time"}, "2026-11-22T01:02:03+01:00"),
        ({"format": "date-time"}, 5),
        ({"format": "date"}, "2026-11-22"),
        ({"format": "email"}, "alice@example.com"),
        ({"format": "uri"}, "https://example.com/a?b=c#d"),
        ({"format": "uuid"}, "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ({"format": "no-such-format"}, "x"),
    ],
)
def test_valid_values_pass(member, value):
    expected = list(value) if isinstance(value, tuple) else value

    assert validate(with_properties(x=member), {"x": value}) == {"x": expected}


# Invalid parameters


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ({"cohort": 2026}, [("/cohort", "expected string, got integer 2026")]),
        ({}, [("/cohort", "is required")]),
        ([], [("", "expected object, got array []")]),
        (None, [("", "expected object, got null")]),
        ("x", [("", 'expected object, got string "x"')]),
        (
            {"cohort": "a", "yaer": 1},
            [
                (
                    "/yaer",
                    "is not a parameter of this program "
                    '(known: address, cohort, mode, note, rows, year) (did you mean "year"?)',
                )
            ],
        ),
        (
            {"cohort": "a", "address": {"zip": 1}},
            [("/address/zip", "is not a member here (known: street)")],
        ),
        ({"cohort": "a", "rows": [{"id": 1}, {}]}, [("/rows/1/id", "is required")]),
        ({"cohort": "a", "year": True}, [("/year", "expected integer, got boolean true")]),
        ({"cohort": "a", "year": 1999}, [("/year", "expected at least 2000, got integer 1999")]),
        ({"cohort": "a", "mode": "slwo"}, [("/mode", 'expected one of "fast", "slow", got string "slwo"')]),
        ({"cohort": "a", "note": 5}, [("/note", "expected string or null, got integer 5")]),
        ({"cohort": ""}, [("/cohort", 'expected at least 1 characters, got string ""')]),
        (
            {"cohort": ["x" * 200]},
            [("/cohort", f'expected string, got array ["{"x" * 77}…')],
        ),
        ({"cohort": "a\0"}, [("/cohort", "contains a NUL character or a lone surrogate")]),
        ({"cohort": "\ud83d"}, [("/cohort", "contains a NUL character or a lone surrogate")]),
        ({"cohort": "a", "year": float("nan")}, [("/year", "is nan; JSON has finite numbers only")]),
        ({"cohort": "a", "year": float("inf")}, [("/year", "is inf; JSON has finite numbers only")]),
        (
            {"cohort": datetime(2026, 1, 1, tzinfo=UTC)},
            [("/cohort", "is a datetime; use text, numbers, lists or objects")],
        ),
        ({"cohort": "x" * 65_536}, [("", "has more than 65,536 bytes as JSON")]),
    ],
)
def test_an_error_says_where_what_was_expected_and_what_was_there(parameters, errors):
    assert errors_of(validate, SCORES, parameters) == errors


@pytest.mark.parametrize(
    ("member", "value", "at", "message"),
    [
        ({"type": ["string", "null"]}, 5, "/x", "expected string or null, got integer 5"),
        ({"const": "a"}, "b", "/x", 'expected "a", got string "b"'),
        ({"maximum": 5}, 6, "/x", "expected at most 5, got integer 6"),
        ({"exclusiveMinimum": 5}, 5, "/x", "expected more than 5, got integer 5"),
        ({"exclusiveMaximum": 5}, 5.5, "/x", "expected less than 5, got number 5.5"),
        ({"multipleOf": 0.01}, 0.005, "/x", "expected a multiple of 0.01, got number 0.005"),
        ({"maxLength": 2}, "abc", "/x", 'expected at most 2 characters, got string "abc"'),
        ({"pattern": "^[a-z]+$"}, "A", "/x", 'expected text that matches "^[a-z]+$", got string "A"'),
        ({"minItems": 1}, [], "/x", "expected at least 1 items, got array []"),
        ({"maxItems": 1}, [1, 2], "/x", "expected at most 1 items, got array [1, 2]"),
        ({"uniqueItems": True}, [1, 1.0], "/x", "expected items that all differ, got array [1, 1.0]"),
        ({"uniqueItems": True}, [{"a": [1]}, {"a": [1]}], "/x", "expected items that all differ"),
        ({"minProperties": 1}, {}, "/x", "expected at least 1 members, got object {}"),
        ({"maxProperties": 0}, {"a": 1}, "/x", 'expected at most 0 members, got object {"a": 1}'),
        ({"contains": {"const": 1}}, [2], "/x", 'expected an item as "contains" describes it, got array [2]'),
        ({"contains": {"const": 1}, "maxContains": 1}, [1, 1], "/x", "expected at most 1 items as"),
        ({"contains": {"const": 1}, "minContains": 2}, [1], "/x", "expected at least 2 items as"),
        ({"not": {"type": "null"}}, None, "/x", 'expected a value that "not" does not describe, got null'),
        (False, 1, "/x", "is not allowed"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "/x", "Expected at most 1 item but found 1 extra: 2"),
        ({"items": {"type": "string"}}, ["a", 1], "/x/1", "expected string, got integer 1"),
        (
            {"additionalProperties": {"type": "string"}},
            {"a/b": 1},
            "/x/a~1b",
            "expected string, got integer 1",
        ),
        ({"patternProperties": {"^a": {"type": "string"}}}, {"ab": 1}, "/x/ab", "expected string"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            "/x",
            'expected at most 1 characters, got string "ab"',
        ),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "/x", "'b' is a dependency of 'a'"),
        ({"unevaluatedProperties": False}, {"a": 1}, "/x", "Unevaluated properties are not allowed ('a'"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, 1, "/x", "fits more than one of the allowed"),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, "c", "/x", 'expected "a" or "b", got string "c"'),
        (
            {"format": "date-time"},
            "2026-11-22",
            "/x",
            "expected a time with a zone such as 2026-11-22T01:02:03Z",
        ),
        ({"format": "date"}, "22.11.2026", "/x", "expected a date such as 2026-11-22"),
        ({"format": "email"}, "alice", "/x", 'expected an e-mail address, got string "alice"'),
        ({"format": "uri"}, "example.com/a", "/x", "expected a URI such as https://example.com/a"),
        ({"format": "uri"}, "https://example.com/a b", "/x", "expected a URI"),
        ({"format": "uuid"}, "7c9e6679", "/x", 'expected a UUID, got string "7c9e6679"'),
        ({"format": "ipv4"}, "1.2.3", "/x", 'expected ipv4, got string "1.2.3"'),
        ({"$ref": "#/properties/y"}, 1, "/x", "expected string, got integer 1"),
    ],
)
def test_every_keyword_says_what_it_expects(member, value, at, message):
    [(pointer, said)] = errors_of(validate, with_properties(x=member, y={"type": "string"}), {"x": value})

    assert (pointer, said[: len(message)]) == (at, message)


def test_of_several_forms_the_nearest_one_is_explained():
    circle = {"required": ["radius"], "properties": {"kind": {"const": "circle"}}}
    square = {"required": ["side"], "properties": {"kind": {"const": "square"}}}
    schema = with_properties(shape={"oneOf": [{"type": "null"}, circle, square]})

    assert errors_of(validate, schema, {"shape": {"kind": "square"}}) == [("/shape/side", "is required")]


def test_all_errors_are_reported_at_once():
    parameters = {"colour": 1, "year": "x", "note": "a\0", "rows": [{}, 5]}

    assert dict(errors_of(validate, SCORES, parameters)) == {
        "/note": "contains a NUL character or a lone surrogate",
        "/colour": "is not a parameter of this program (known: address, cohort, mode, note, rows, year)",
        "/year": 'expected integer, got string "x"',
        "/rows/0/id": "is required",
        "/rows/1": "expected object, got integer 5",
        "/cohort": "is required",
    }


def test_at_most_twenty_errors_are_reported():
    schema = with_properties(x={"items": {"type": "string"}})

    errors = errors_of(validate, schema, {"x": list(range(100))})

    assert [pointer for pointer, _ in errors] == [f"/x/{index}" for index in range(MAX_ERRORS)]


def test_an_error_reads_as_one_line_and_survives_pickling():
    with pytest.raises(ParametersError) as refused:
        validate(SCORES, {"year": "x"})

    assert str(refused.value) == '/year expected integer, got string "x"; /cohort is required'
    assert pickle.loads(pickle.dumps(refused.value)).errors == refused.value.errors


# Schemas


@pytest.mark.parametrize(
    ("schema", "at", "message"),
    [
        (None, "", "expected a schema (an object), got null"),
        (True, "", "expected a schema (an object), got boolean true"),
        ([], "", "expected a schema (an object), got array []"),
        ({}, "/type", 'expected "object" at the top, got null'),
        ({"type": "array"}, "/type", 'expected "object" at the top, got string "array"'),
        (
            {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"},
            "/$schema",
            "expected https",
        ),
        (with_properties(a={"type": "strin"}), "/properties/a/type", 'expected one of "array"'),
        (with_properties(a={"minimum": "1"}), "/properties/a/minimum", "expected number, got string"),
        (
            with_properties(a={"required": ["b", "b"]}),
            "/properties/a/required",
            "expected items that all differ",
        ),
        (with_properties(a=5), "/properties/a", "expected object or boolean, got integer 5"),
        (with_properties(a={"pattern": "("}), "/properties/a/pattern", '"(" is not a pattern that compiles'),
        (with_properties(a={"pattern": r"\p{L}"}), "/properties/a/pattern", "is not a pattern that compiles"),
        (with_properties(a={"pattern": "a{99999999999}"}), "/properties/a/pattern", "is not a pattern"),
        ({"type": "object", "patternProperties": {"*": {}}}, "/patternProperties", '"*" is not a pattern'),
        (
            with_properties(a={"$ref": "https://example.com/s"}),
            "/properties/a/$ref",
            'expected "#/…", the pointer',
        ),
        (with_properties(a={"$ref": "other.json#/x"}), "/properties/a/$ref", 'expected "#/…"'),
        (with_properties(a={"$ref": "#/$defs/none"}), "/properties/a/$ref", 'expected "#/…"'),
        (with_properties(a={"$ref": "#anchor", "$anchor": "anchor"}), "/properties/a/$ref", 'expected "#/…"'),
        (
            with_properties(a={"$ref": "#/properties/a/default", "default": {}}),
            "/properties/a/$ref",
            "expected",
        ),
        (with_properties(a={"$id": "https://example.com/a"}), "/properties/a/$id", "is allowed only at the top"),
        (with_properties(a={"$schema": "x"}), "/properties/a/$schema", "is allowed only at the top"),
        (
            with_properties(a={"$dynamicRef": "#"}),
            "/properties/a/$dynamicRef",
            "is not supported by this version",
        ),
        (
            with_properties(a={"type": "integer", "default": "x"}),
            "/properties/a/default",
            "expected integer, got",
        ),
        (
            with_properties(a={"default": {}, "properties": {"b": {"default": 1, "type": "string"}}}),
            "/properties/a/default/b",
            "expected string, got integer 1",
        ),
        (
            with_properties(a={"default": datetime(2026, 1, 1, tzinfo=UTC)}),
            "/properties/a/default",
            "is a datetime",
        ),
        (with_properties(a={"minimum": float("nan")}), "/properties/a/minimum", "is nan; JSON has finite"),
        (with_properties(a={"title": "\0"}), "/properties/a/title", "contains a NUL character"),
        ({"type": "object", 5: 1}, "", "has a key of type int; keys must be text"),
        pytest.param(
            with_properties(a={"description": "x" * 65_536}),
            "",
            "has more than 65,536 bytes",
            id="a large one",
        ),
    ],
)
def test_an_invalid_schema_is_refused_with_the_place(schema, at, message):
    (pointer, said), *_ = errors_of(check_schema, schema)

    assert pointer == at
    assert message in said


@pytest.mark.parametrize(
    "schema",
    [
        SCORES,
        {"type": "object"},
        {"type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema#"},
        with_properties(writeOnly={"type": "boolean", "default": True}),
        with_properties(**{"$ref": {"type": "string"}, "$id": {}, "pattern": {"pattern": "^a"}}),
        with_properties(a={"writeOnly": False}),
        with_properties(a={"enum": [{"writeOnly": True, "$ref": "https://example.com"}]}),
        with_properties(a={"default": {"pattern": "("}}),
        with_properties(a={"type": "object", "properties": {"child": {"$ref": "#/properties/a"}}}),
        with_properties(a={"items": {"$ref": "#"}}),
        with_properties(a=True, b=False, c={"$ref": "#/properties/b"}),
        {"type": "object", "x-form": {"pattern": "("}},
    ],
)
def test_a_valid_schema_is_accepted(schema):
    check_schema(schema)


def nested_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return {**schema, "type": "object"}


def test_a_schema_may_nest_32_levels_deep_and_no_deeper():
    check_schema(nested_schema(32))

    assert errors_of(check_schema, nested_schema(33)) == [("/items" * 32, "is nested deeper than 32 levels")]


NODE = {"$ref": "#/$defs/node"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "$ref": "#"},
        {"type": "object", "allOf": [{"$ref": "#"}]},
        with_properties(a={"$ref": "#/properties/a"}),
        with_properties(a={"$ref": "#/properties/b"}, b={"not": {"$ref": "#/properties/a"}}),
        with_properties(a={"if": {"$ref": "#/properties/a"}}),
        with_properties(a={"dependentSchemas": {"x": {"$ref": "#/properties/a"}}}),
        {"type": "object", "$defs": {"node": {"anyOf": [NODE] * 50}}},
        {
            "type": "object",
            "$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(1_000)} | {"1000": {}},
        },
    ],
)
def test_references_in_a_circle_or_a_long_chain_are_refused(schema):
    [(_, message)] = errors_of(check_schema, schema)

    assert message == "leads back to itself, or through more than 32 schemas"


@pytest.mark.parametrize(
    ("schema", "parameters"),
    [
        pytest.param(
            {**with_properties(x=NODE), "$defs": {"node": {"items": {"allOf": [NODE, NODE]}}}},
            {"x": json.loads("[" * 31 + "]" * 31)},
            id="twice the work with every level of the value",
        ),
        pytest.param(
            {
                **with_properties(x={"$ref": "#/$defs/0"}),
                "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 4} for n in range(15)} | {"15": {}},
            },
            {"x": 1},
            id="four times the work with every reference",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            with_properties(x={"items": {"enum": list(range(10_000))}}),
            {"x": list(range(9_000, 15_000))},
            id="many values against many",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                **with_properties(x=NODE),
                "$defs": {"node": {"properties": {"a": NODE, "b": {"default": "y" * 500}}, "items": NODE}},
            },
            {"x": [{}] * 5_000},
            id="large defaults many times",
        ),
    ],
)
def test_a_schema_and_a_value_that_need_too_much_work_end_in_an_error(schema, parameters):
    errors = dict(errors_of(validate, schema, parameters))

    assert "to be checked by this schema" in errors[""]


@pytest.mark.parametrize(
    "node",
    [
        {"type": "object", "default": {}, "properties": {"child": NODE}},
        {"type": "object", "default": {}, "properties": {"left": NODE, "right": NODE}},
    ],
)
def test_endless_defaults_are_refused(node):
    schema = {**with_properties(a=NODE), "$defs": {"node": node}}

    [(pointer, message)] = errors_of(check_schema, schema)

    assert pointer == "/$defs/node/default"
    assert "too deep" in message


def test_defaults_count_towards_the_limit_of_size():
    row = {"type": "object", "properties": {"note": {"default": "x" * 100}}}
    schema = with_properties(rows={"items": row})

    assert errors_of(validate, schema, {"rows": [{}] * 1_000}) == [("", "has more than 65,536 bytes as JSON")]


def test_a_large_real_case_is_well_within_the_limit_of_work():
    names = [f"k{number}" for number in range(20)]
    row = {
        "type": "object",
        "required": names,
        "additionalProperties": False,
        "properties": {name: {"type": "integer", "minimum": 0} for name in names},
    }
    parameters = {"rows": [dict.fromkeys(names, 1)] * 350}

    assert validate(with_properties(rows={"type": "array", "items": row}), parameters) == parameters


def test_a_long_list_of_choices_is_within_the_limit_of_work():
    countries = [f"{number:03}" for number in range(250)]
    schema = with_properties(countries={"type": "array", "items": {"type": "string", "enum": countries}})
    parameters = {"countries": countries * 40}

    assert validate(schema, parameters) == parameters


# Text from a command line


@pytest.mark.parametrize(
    ("member", "text", "value"),
    [
        ({"type": "string"}, "2026", "2026"),
        ({"type": "string"}, "a=b", "a=b"),
        ({"type": "string"}, "", ""),
        ({"type": "integer"}, "2026", 2026),
        ({"type": "integer"}, "-1", -1),
        ({"type": "integer"}, "1.5", 1.5),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "null"}, "null", None),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "5", "5"),
        ({"type": ["string", "integer"]}, "5", 5),
        ({"type": ["string", "integer"]}, '"5"', "5"),
        ({"type": ["string", "integer"]}, "five", "five"),
        ({"type": ["integer", "null"]}, "null", None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "5", "5"),
        ({"oneOf": [{"type": "integer"}, {"$ref": "#/properties/named"}]}, "5", 5),
        ({"$ref": "#/properties/named"}, "5", "5"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"enum": [1, 2]}, "1", 1),
        ({"const": True}, "true", True),
        ({}, "5", 5),
        ({}, "five", "five"),
        (True, "five", "five"),
    ],
)
def test_a_text_gets_its_type_from_the_schema(member, text, value):
    schema = with_properties(x=member, named={"type": "string"})

    assert from_text(schema, [f"x={text}"]) == {"x": value}


def test_unknown_keys_stay_text_and_validation_refuses_them():
    typed = from_text(SCORES, ["colour=1", "year=2025"])

    assert typed == {"colour": "1", "year": 2025}


def test_members_without_a_name_get_the_type_of_the_pattern_that_allows_them():
    schema = {
        "type": "object",
        "patternProperties": {"^n_": {"type": "integer"}},
        "additionalProperties": {"type": "boolean"},
    }

    assert from_text(schema, ["n_a=1", "b=true"]) == {"n_a": 1, "b": True}


@pytest.mark.parametrize(
    ("pairs", "errors"),
    [
        (["cohort"], [("", '-p "cohort": expected KEY=VALUE')]),
        (["=5"], [("", '-p "=5": expected KEY=VALUE')]),
        (["cohort=a", "cohort=b"], [("/cohort", "is given twice")]),
        (["year=soon"], [("/year", 'expected integer as JSON, got "soon"')]),
        (["year="], [("/year", 'expected integer as JSON, got ""')]),
        (["year=NaN"], [("/year", 'expected integer as JSON, got "NaN"')]),
        (["rows=1,2"], [("/rows", 'expected array as JSON, got "1,2"')]),
        (["rows=" + "[" * 100_000], [("/rows", f'expected array as JSON, got "{"[" * 78}…')]),
        (["year=a", "x", "address=b"], [("/year", ...), ("", ...), ("/address", ...)]),
    ],
)
def test_unreadable_text_is_refused_with_all_errors(pairs, errors):
    found = errors_of(from_text, SCORES, pairs)

    assert [at for at, _ in found] == [at for at, _ in errors]
    assert all(expected in (..., said) for (_, said), (_, expected) in zip(found, errors, strict=True))


def test_the_error_for_a_boolean_names_true_and_false():
    schema = with_properties(force={"type": "boolean"})

    assert errors_of(from_text, schema, ["force=yes"]) == [
        ("/force", 'expected boolean (true or false) as JSON, got "yes"')
    ]


def test_a_type_that_takes_too_long_to_find_counts_as_any():
    choices = {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 4} for n in range(15)}
    schema = {**with_properties(x={"$ref": "#/$defs/0"}), "$defs": choices | {"15": {"type": "string"}}}

    assert from_text(schema, ["x=5"]) == {"x": 5}


# Canonical JSON, the cache, and everything else


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.0, None, True]}, '{"a":[1.0,null,true],"b":1}'),
        ({"ü": "é"}, '{"ü":"é"}'),
        ({}, "{}"),
    ],
)
def test_canonical_json_is_sorted_compact_and_utf_8(value, text):
    assert canonical(value) == text.encode()


def test_equal_schemas_share_one_compiled_validator_whatever_their_order():
    first = compiled({"type": "object", "properties": {"a": {}, "b": {}}})
    second = compiled({"properties": {"b": {}, "a": {}}, "type": "object"})

    assert first is second


def test_a_schema_changed_after_compilation_does_not_change_the_validator():
    schema = with_properties(a={"type": "string"})
    validator = compiled(schema)

    schema["properties"]["a"]["type"] = "integer"

    assert validator.validate({"a": "x"}) == {"a": "x"}
    assert errors_of(validate, schema, {"a": "x"}) == [("/a", 'expected integer, got string "x"')]


@pytest.mark.parametrize("schema", [{"type": "object", "x": {1}}, {"type": "object", "x": float("nan")}, None])
def test_a_schema_that_is_not_json_is_refused_by_every_call(schema):
    for call in (compiled, check_schema, lambda each: validate(each, {}), lambda each: from_text(each, [])):
        with pytest.raises(ParametersError):
            call(schema)


def test_many_threads_can_share_one_validator():
    validator = compiled(SCORES)
    results: list[object] = []

    def work(number: int) -> None:
        results.extend(validator.validate({"cohort": str(number)})["cohort"] == str(number) for _ in range(50))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [True] * 200


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("yaer", ' (did you mean "year"?)'), ("colour", ""), ("year", ' (did you mean "year"?)')],
)
def test_a_close_name_is_suggested(name, suggestion):
    assert did_you_mean(name, ["cohort", "year"]) == suggestion


ANY_TEXT = st.text(st.characters())
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)
NEARLY = st.fixed_dictionaries({}, optional=dict.fromkeys([*SCORES["properties"], "colour"], ANY_JSON))


@settings(deadline=None)
@given(ANY_JSON | NEARLY)
def test_any_json_is_valid_or_a_parameters_error(parameters):
    try:
        validated = validate(SCORES, parameters)
    except ParametersError as error:
        assert 1 <= len(error.errors) <= MAX_ERRORS
        assert all(len(each.message) < 400 for each in error.errors)
        str(error).encode()
        return

    assert validate(SCORES, validated) == validated
    assert canonical(json.loads(canonical(validated))) == canonical(validated)


KEYWORDS = [
    "type",
    "properties",
    "items",
    "$ref",
    "default",
    "enum",
    "allOf",
    "not",
    "required",
    "pattern",
    "minimum",
]
ANY_SCHEMA = st.recursive(
    st.booleans() | st.integers() | st.sampled_from(["string", "#", "#/properties/a", "("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYWORDS, "a"]), inner, max_size=4),
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries({"type": st.just("object")}, optional={"properties": ANY_SCHEMA, "$ref": ANY_SCHEMA}),
    ANY_JSON,
)
def test_any_schema_is_refused_or_validates_any_json(schema, parameters):
    for call in (lambda: check_schema(schema), lambda: validate(schema, parameters)):
        try:
            call()
        except ParametersError as error:
            str(error).encode()


@given(st.lists(st.text(st.characters()) | st.sampled_from(["cohort=1", "year=x", "rows=[1]"])))
def test_any_arguments_are_typed_or_a_parameters_error(pairs):
    try:
        assert isinstance(from_text(SCORES, pairs), dict)
    except ParametersError as error:
        assert error.errors


def test_validating_a_tiny_schema_costs_microseconds():
    schema = with_properties(cohort={"type": "string"})
    runs = 500
    best = min(timeit.repeat(lambda: validate(schema, {"cohort": "2026"}), number=runs, repeat=5)) / runs

    assert best < 100e-6  # 17 µs measured


# ---- the quick check --------------------------------------------------------------------------------------

TYPES = ["boolean", "integer", "null", "number", "string", "array", "object"]
MEMBERS = st.one_of(
    st.just({}),
    st.builds(lambda name: {"type": name, "title": "x"}, st.sampled_from(TYPES)),
    st.sampled_from(
        [{"type": ["integer", "null"]}, {"minimum": 3}, {"enum": ["a", 1]}, {"type": "string", "minLength": 2}]
    ),
)
SCHEMAS = st.builds(
    lambda members, required, others: {
        "type": "object",
        "properties": members,
        "required": required,
        **({"additionalProperties": others} if others is not None else {}),
    },
    st.dictionaries(st.sampled_from("abc"), MEMBERS),
    st.lists(st.sampled_from("abcd"), unique=True),
    st.sampled_from([None, True, False, {"type": "string"}]),
)
SCALARS = st.sampled_from([True, False, 0, 1, 5, 1.0, 2.5, None, "", "a", "abc"])
VALUES = st.dictionaries(st.sampled_from("abcd"), st.one_of(SCALARS, st.just([1]), st.just({"x": 1})))


@given(SCHEMAS, VALUES)
def test_the_quick_check_accepts_only_valid_values(schema, value):
    assert not quick_check(schema)(value) or Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        ({"cohort": "2024", "students": 3}, True),
        ({"cohort": "2024"}, True),
        ({"students": 3}, False),
        ({"cohort": "2024", "students": True}, False),
        ({"cohort": "2024", "other": 1}, False),
    ],
    ids=str,
)
def test_the_quick_check_is_enough_for_plain_schemas(value, is_accepted):
    schema = {
        "type": "object",
        "required": ["cohort"],
        "additionalProperties": False,
        "properties": {"cohort": {"type": "string", "description": "of students"}, "students": {"type": "integer"}},
    }

    assert quick_check(schema)(value) is is_accepted
