"""Where a schema may mark a secret, which parameters are secret, and that no error reveals one."""

from typing import Any

import pytest

from jobsite.programs import definitions, parameters
from jobsite.programs.definitions import DefinitionError
from jobsite.programs.parameters import MAX_SECRETS, ParametersError, check_schema, compiled
from jobsite.programs.parameters.schema_checks import TooMuchWorkError, begin_work
from jobsite.programs.parameters.schema_rules import schemas_in
from jobsite.programs.parameters.schema_secrets import Secrets
from jobsite.values.masking import MASK

SECRET: dict[str, Any] = {"type": "string", "writeOnly": True}
CLEAR = "hunter2-and-more"


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# A schema with marks, a value, and the paths of the secrets in it.
ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str | int, ...]]]] = {
    "a property": (an_object(a=SECRET, b={}), {"a": "x", "b": "y"}, [("a",)]),
    "not given": (an_object(a=SECRET), {}, []),
    "a member of an object": (an_object(a=an_object(b=SECRET)), {"a": {"b": "x", "c": 2}}, [("a", "b")]),
    "each item": (an_object(a={"items": SECRET}), {"a": ["x", "y"]}, [("a", 0), ("a", 1)]),
    "one of the first items": (an_object(a={"prefixItems": [{}, SECRET]}), {"a": [1, "x", "y"]}, [("a", 1)]),
    "items behind the first": (an_object(a={"prefixItems": [{}], "items": SECRET}), {"a": [1, "x"]}, [("a", 1)]),
    "a whole object": (an_object(a={"type": "object", "writeOnly": True}), {"a": {"b": ["x"]}}, [("a",)]),
    "behind a reference": (
        {**an_object(a={"$ref": "#/$defs/s"}), "$defs": {"s": SECRET}},
        {"a": "x"},
        [("a",)],
    ),
    "beside a reference": (
        {**an_object(a={"$ref": "#/$defs/s", "writeOnly": True}), "$defs": {"s": {"type": "string"}}},
        {"a": "x"},
        [("a",)],
    ),
    "behind several": (
        {**an_object(a={"$ref": "#/$defs/l"}), "$defs": {"l": {"items": {"$ref": "#/$defs/s"}}, "s": SECRET}},
        {"a": ["x"]},
        [("a", 0)],
    ),
    "in a schema that holds itself": (
        an_object(secret=SECRET, below={"$ref": "#"}),
        {"secret": "x", "below": {"below": {"secret": "y"}}},
        [("secret",), ("below", "below", "secret")],
    ),
    "a name with strokes": (an_object(**{"a/b~c": SECRET}), {"a/b~c": "x"}, [("a/b~c",)]),
    "a definition that nothing uses": ({**an_object(a={}), "$defs": {"s": SECRET}}, {"a": "x"}, []),
    "false": (an_object(a={"writeOnly": False}), {"a": "x"}, []),
    "a property of that name": (an_object(writeOnly={"default": True}), {"writeOnly": True}, []),
    "a default inside, which is filled in": (
        an_object(a=an_object(b=SECRET, c={"default": 1})),
        {"a": {"b": "x", "c": 1}},
        [("a", "b")],
    ),
}


@pytest.mark.parametrize(("schema", "value", "paths"), ALLOWED.values(), ids=ALLOWED)
def test_secrets_are_found_wherever_they_may_be_marked(schema, value, paths):
    validator = compiled(schema)

    assert sorted(validator.secrets_in(validator.validate(value)), key=str) == sorted(paths, key=str)
    assert validator.has_secrets or not paths


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "all parameters": ({**an_object(a={}), "writeOnly": True}, "/writeOnly"),
    **{
        keyword: ({"type": "object", keyword: inside}, at)
        for keyword, inside, at in [
            ("additionalProperties", SECRET, "/additionalProperties/writeOnly"),
            ("unevaluatedProperties", SECRET, "/unevaluatedProperties/writeOnly"),
            ("patternProperties", {"^a": SECRET}, "/patternProperties/^a/writeOnly"),
            ("propertyNames", SECRET, "/propertyNames/writeOnly"),
            ("dependentSchemas", {"a": an_object(a=SECRET)}, "/dependentSchemas/a/properties/a/writeOnly"),
            ("definitions", {"a": SECRET}, "/definitions/a/writeOnly"),
            ("not", an_object(a=SECRET), "/not/properties/a/writeOnly"),
            ("if", an_object(a=SECRET), "/if/properties/a/writeOnly"),
        ]
    },
    **{
        keyword: (
            an_object(a={keyword: [{}, an_object(b=SECRET)]}),
            f"/properties/a/{keyword}/1/properties/b/writeOnly",
        )
        for keyword in ("anyOf", "oneOf", "allOf")
    },
    "contains": (an_object(a={"contains": SECRET}), "/properties/a/contains/writeOnly"),
    "a reference from elsewhere": (
        {**an_object(a={"anyOf": [{"$ref": "#/$defs/s"}]}), "$defs": {"s": SECRET}},
        "/properties/a/anyOf/0/$ref",
    ),
    "a reference from elsewhere to what holds one": (
        {**an_object(), "additionalProperties": {"$ref": "#/$defs/o"}, "$defs": {"o": an_object(s=SECRET)}},
        "/additionalProperties/$ref",
    ),
    "a reference to elsewhere": (
        {**an_object(a={"$ref": "#/patternProperties/x"}), "patternProperties": {"x": SECRET}},
        "/patternProperties/x/writeOnly",
    ),
    "default": (an_object(a={**SECRET, "default": "x"}), "/properties/a/default"),
    "const": (an_object(a={**SECRET, "const": "x"}), "/properties/a/const"),
    "enum": (an_object(a={**SECRET, "enum": ["x"]}), "/properties/a/enum"),
    "a default behind the reference": (
        {**an_object(a={"$ref": "#/$defs/s", "writeOnly": True}), "$defs": {"s": {"default": "x"}}},
        "/$defs/s/default",
    ),
    "a default before the reference": (
        {**an_object(a={"$ref": "#/$defs/s", "default": "x"}), "$defs": {"s": SECRET}},
        "/properties/a/default",
    ),
    "a default around it": (an_object(a={**an_object(b=SECRET), "default": {"b": "x"}}), "/properties/a/default"),
    "an enum around it": (an_object(a={"items": SECRET, "enum": [[], ["x"]]}), "/properties/a/enum"),
}


@pytest.mark.parametrize(("schema", "at"), REFUSED.values(), ids=REFUSED)
def test_a_secret_that_would_be_missed_or_revealed_is_refused_with_its_place(schema, at):
    with pytest.raises(ParametersError) as refusal:
        check_schema(schema)

    assert [error.pointer for error in refusal.value.errors] == [at]
    assert "secret" in refusal.value.errors[0].message


def test_a_default_around_a_secret_that_leaves_it_out_is_fine():
    schema = an_object(a={**an_object(b=SECRET, c={}), "default": {"c": 1}})

    assert compiled(schema).validate({}) == {"a": {"c": 1}}


@pytest.mark.parametrize("inside", [SECRET, an_object(b=SECRET), {"items": SECRET}])
def test_a_secret_is_no_overlap_key(inside):
    program = {
        "code": "p",
        "overlap": "REJECT",
        "overlap_keys": ["open", "token"],
        "parameters": an_object(token=inside, open={}),
        "action": [{"kind": "command", "argv": ["true"]}],
    }

    with pytest.raises(
        DefinitionError, match=r'program "p": overlap_keys: parameters: /properties/token is or contains'
    ):
        definitions.from_mapping(program, where="program", queues=["default"])


# ---- errors ----------------------------------------------------------------------------------------------


WRONG: dict[str, tuple[dict[str, Any], Any, str, str]] = {
    "type": (an_object(a={"type": "integer", "writeOnly": True}), CLEAR, "/a", f"expected integer, got string {MASK}"),
    "length": (an_object(a={**SECRET, "maxLength": 3}), CLEAR, "/a", "expected at most 3 characters, got string"),
    "pattern": (an_object(a={**SECRET, "pattern": "^[0-9]+$"}), CLEAR, "/a", "expected text that matches"),
    "number": (an_object(a={"maximum": 9, "writeOnly": True}), 123456, "/a", f"expected at most 9, got integer {MASK}"),
    "an object in place of a text": (an_object(a=SECRET), {"b": CLEAR}, "/a", f"expected string, got object {MASK}"),
    "a key inside": (
        an_object(a={"writeOnly": True, "additionalProperties": {"type": "integer"}}),
        {CLEAR: "x"},
        "/a",
        "contains something that is not allowed there",
    ),
    "the array around it": (an_object(a={"items": SECRET, "maxItems": 1}), [CLEAR, "x"], "/a", f"got array {MASK}"),
    "the same one twice": (an_object(a={"items": SECRET, "uniqueItems": True}), [CLEAR, CLEAR], "/a", "got array"),
    "the object around it": (
        an_object(a={**an_object(b=SECRET), "maxProperties": 0}),
        {"b": CLEAR},
        "/a",
        "got object",
    ),
    "a text in place of the object": (an_object(a=an_object(b=SECRET)), CLEAR, "/a", f"got string {MASK}"),
    "an array in place of the object": (an_object(a=an_object(b=SECRET)), [{"b": CLEAR}], "/a", f"got array {MASK}"),
    "another schema of the same value": (
        {**an_object(a=SECRET), "allOf": [{"properties": {"a": {"const": "x"}}}]},
        CLEAR,
        "/a",
        f'expected "x", got string {MASK}',
    ),
    "a choice": (
        an_object(a={"writeOnly": True, "anyOf": [{"type": "integer"}, {"type": "array"}]}),
        CLEAR,
        "/a",
        f"expected integer or array, got string {MASK}",
    ),
    "the library's own words": (
        an_object(a={"writeOnly": True, "unevaluatedItems": False}),
        [CLEAR],
        "/a",
        f'is not what "unevaluatedItems" allows, got array {MASK}',
    ),
    "what cannot be stored": (
        an_object(a={"writeOnly": True}),
        {CLEAR: "\0"},
        "/a",
        "contains something that is not allowed there",
    ),
}


@pytest.mark.parametrize(("schema", "value", "at", "message"), WRONG.values(), ids=WRONG)
def test_an_error_names_the_pointer_of_a_secret_and_never_the_value(schema, value, at, message):
    with pytest.raises(ParametersError) as refusal:
        parameters.validate(schema, {"a": value})

    assert refusal.value.errors[0].pointer == at
    assert message in refusal.value.errors[0].message
    assert CLEAR not in repr(refusal.value)
    assert "123456" not in repr(refusal.value)


def test_values_beside_a_secret_are_shown():
    schema = {**an_object(a=an_object(b=SECRET, c={"type": "integer"})), "additionalProperties": False}

    with pytest.raises(ParametersError) as refusal:
        parameters.validate(schema, {"a": {"b": CLEAR, "c": "open"}, "z": 1})

    assert sorted(refusal.value.errors) == [
        ("/a/c", 'expected integer, got string "open"'),
        ("/z", "is not a parameter of this program (known: a)"),
    ]


def test_a_key_that_is_missing_or_unknown_beside_a_secret_is_named():
    beside = an_object(a=SECRET, b={})
    secret = {"type": "object", "writeOnly": True}

    with pytest.raises(ParametersError, match="'b' is a dependency of 'a'") as refusal:
        parameters.validate({**beside, "dependentRequired": {"a": ["b"]}}, {"a": CLEAR})
    assert CLEAR not in str(refusal.value)
    with pytest.raises(ParametersError, match=r"not allowed \('c' was unexpected\)") as refusal:
        parameters.validate({**beside, "unevaluatedProperties": False}, {"a": CLEAR, "c": 1})
    assert CLEAR not in str(refusal.value)
    with pytest.raises(ParametersError, match=f'/a is not what "unevaluatedProperties" allows, got object {MASK}'):
        parameters.validate(an_object(a={**secret, "unevaluatedProperties": False}), {"a": {CLEAR: 1}})


def test_a_wrong_default_beside_a_secret_is_shown():
    with pytest.raises(ParametersError, match='/properties/b/default expected integer, got string "x"'):
        check_schema(an_object(a=SECRET, b={"type": "integer", "default": "x"}))


@pytest.mark.parametrize("key", ["token", "several"])
def test_text_for_a_secret_that_cannot_be_read_is_not_repeated(key):
    schema = an_object(token={"type": "integer", "writeOnly": True}, several={"type": "array", "items": SECRET})

    with pytest.raises(ParametersError) as refusal:
        parameters.from_text(schema, [f"{key}={CLEAR}", CLEAR])

    assert [error.pointer for error in refusal.value.errors] == [f"/{key}", ""]
    assert CLEAR not in str(refusal.value)


@pytest.mark.parametrize(
    "schema", [an_object(), an_object(a=SECRET), an_object(a={"type": "object", "writeOnly": True})]
)
@pytest.mark.parametrize(
    ("given", "at"),
    [
        ({"a": {"$secret": "gAAAA"}}, "/a"),
        ({"$secret": "gAAAA"}, ""),
        ({"b": [{"c": {"$secret": 1, "d": 2}}]}, "/b/0/c"),
    ],
)
def test_a_value_that_looks_encrypted_is_refused(schema, given, at):
    with pytest.raises(ParametersError) as refusal:
        parameters.validate(schema, given)

    assert (at, 'has the key "$secret", which is reserved') in refusal.value.errors


def test_a_default_that_looks_encrypted_is_refused():
    with pytest.raises(ParametersError, match=r'/properties/a/default has the key "\$secret"'):
        check_schema(an_object(a={"default": {"$secret": "gAAAA"}}))


def test_a_job_has_a_hundred_secrets_at_most():
    schema = an_object(a={"items": {"writeOnly": True}})

    parameters.validate(schema, {"a": [1] * MAX_SECRETS})
    with pytest.raises(ParametersError, match=f"holds more than {MAX_SECRETS} secrets"):
        parameters.validate(schema, {"a": [1] * (MAX_SECRETS + 1)})


def test_the_search_for_secrets_has_a_limit_of_its_own():
    steps = {f"s{n}": {"$ref": f"#/$defs/s{n + 1}", "items": an_object(s=SECRET)} for n in range(20)}
    schema = {**an_object(a={"$ref": "#/$defs/s0"}), "$defs": {**steps, "s20": {}}}
    secrets = Secrets(schemas_in(schema))

    begin_work()
    assert len(secrets.found_in({"a": [0] * 1_000})) == 1_002
    with pytest.raises(TooMuchWorkError):
        secrets.found_in({"a": [0] * 20_000})


def test_a_schema_and_a_value_that_need_too_much_work_are_refused():
    double = {"properties": {"x": {"$ref": "#/$defs/b"}}, "$ref": "#/$defs/a"}
    tree = {
        "properties": {"x": {"$ref": "#/$defs/b"}, "s": SECRET, **{f"p{n}": {"$ref": "#/$defs/b"} for n in range(40)}}
    }
    schema = {"type": "object", "$ref": "#/$defs/b", "$defs": {"a": tree, "b": double}}
    value: dict[str, Any] = {}
    for _ in range(30):
        value = {"x": value, "s": CLEAR}

    with pytest.raises(ParametersError, match="takes too much work") as refusal:
        parameters.validate(schema, value)

    assert CLEAR not in repr(refusal.value)
