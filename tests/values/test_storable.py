"""Results of actions: made storable, or refused with a reason."""

import json
import timeit
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsite.values import storable
from jobsite.values.storable import MAX_BYTES, MAX_DEPTH, NotStorable

LONE = "\ud83d"
MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
TOO_LARGE = "it has more than 65,536 bytes as JSON"


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Ratio(float):
    """A subclass, like the float types of numerical libraries."""


class Student:
    """A class of its own, like a model."""


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (3, 3),
        pytest.param(10**300, 10**300, id="an integer beyond 64 bits"),
        (0.5, 0.5),
        ("Zoë", "Zoë"),
        ({"scored": 3}, {"scored": 3}),
        ({}, {}),
        ((1, 2, (3,)), [1, 2, [3]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        ({"a": [{"b": None}]}, {"a": [{"b": None}]}),
        (Color.RED, "red"),
        ({Color.RED: Level.HIGH}, {"red": 3}),
        (Ratio(0.25), 0.25),
        ("a\0b", "a�b"),
        ({"k\0": [f"x{LONE}y"]}, {"k�": ["x�y"]}),
        (nested(MAX_DEPTH), nested(MAX_DEPTH)),
    ],
)
def test_a_result_becomes_plain_json(value, stored):
    result = storable.result(value)

    assert result == stored
    assert json.loads(json.dumps(result)) == result


def test_the_copy_has_only_the_plain_types():
    assert [type(each) for each in storable.result([Color.RED, Level.HIGH, Ratio(1)])] == [str, int, float]


def test_the_copy_shares_nothing_with_the_original():
    original = {"rows": [{"id": 1}]}

    copy = storable.result(original)
    original["rows"][0]["id"] = 2

    assert copy == {"rows": [{"id": 1}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (MOMENT, "it is a datetime; use text, numbers, lists or objects"),
        ({"rows": [1, 2, 3, MOMENT]}, "/rows/3 is a datetime; use text, numbers, lists or objects"),
        ({"sum": Decimal(1)}, "/sum is a Decimal"),
        ({"id": UUID(int=1)}, "/id is a UUID"),
        ({"ids": {1, 2}}, "/ids is a set"),
        ([b"x"], "/0 is a bytes"),
        ([Student()], "/0 is a Student"),
        ([iter([])], "/0 is a list_iterator"),
        ([object()], "/0 is an object"),
        ({"a/b~c": {1}}, "/a~1b~0c is a set"),
        ({3: "x"}, "it has a key of type int; keys must be text"),
        ({"a": {None: 1}}, "/a has a key of type NoneType; keys must be text"),
        ([float("nan")], "/0 is nan; JSON has finite numbers only"),
        ([1, float("-inf")], "/1 is -inf; JSON has finite numbers only"),
        pytest.param(16**9_000, "it is an integer of more than 4,096 bits", id="a huge integer"),
        pytest.param("x" * MAX_BYTES, TOO_LARGE, id="a long text"),
        pytest.param("é" * (MAX_BYTES // 2), TOO_LARGE, id="a text long in bytes only"),
        pytest.param(list(range(20_000)), TOO_LARGE, id="a long list"),
        pytest.param([0] * 1_000_000, TOO_LARGE, id="a list that is given up early"),
    ],
)
def test_a_value_that_cannot_be_stored_is_named_with_its_place(value, message):
    with pytest.raises(NotStorable) as refused:
        storable.result(value)

    assert str(refused.value).startswith(f"result could not be stored: {message}")


def test_the_limit_of_size_is_exact():
    assert storable.result("x" * (MAX_BYTES - 2)) == "x" * (MAX_BYTES - 2)
    with pytest.raises(NotStorable):
        storable.result("x" * (MAX_BYTES - 1))


def test_nesting_beyond_the_limit_is_refused_at_its_place():
    with pytest.raises(NotStorable, match=r"(/0){32} is nested deeper than 32 levels"):
        storable.result(nested(MAX_DEPTH + 1))


def test_a_value_that_contains_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(NotStorable, match="nested deeper"):
        storable.result(endless)


def test_a_value_that_doubles_with_every_level_is_refused_soon():
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value, value]

    with pytest.raises(NotStorable, match="more than 65,536 bytes"):
        storable.result(value)


def test_a_refuse_that_returns_gets_every_problem_and_the_copy_has_null():
    heard: list[tuple[str, str]] = []

    copy = storable.plain(
        {"a": {1}, "b": ["x\0"], "c\0": 1, "d": float("inf")},
        refuse=lambda at, message: heard.append((at, message)),
        mend=False,
    )

    assert copy == {"a": None, "b": ["x�"], "c�": 1, "d": None}
    assert heard == [
        ("/a", "is a set; use text, numbers, lists or objects"),
        ("/b/0", "contains a NUL character or a lone surrogate"),
        ("", "has a key that contains a NUL character or a lone surrogate"),
        ("/d", "is inf; JSON has finite numbers only"),
    ]


@pytest.mark.parametrize(
    ("value", "limit", "stored"),
    [
        ("", 40, ""),
        ("hello", 40, "hello"),
        ("a\0b", 40, "a�b"),
        (f"{LONE}a\udfff", 40, "�a�"),
        ("🎓", 40, "🎓"),
        ("x" * 40, 40, "x" * 40),
        ("x" * 41, 40, "x" * 21 + " … (20 bytes cut)"),
        ("é" * 50, 60, "é" * 20 + " … (60 bytes cut)"),
        pytest.param("x" * 100_000, 100, "x" * 77 + " … (99923 bytes cut)", id="a long text"),
    ],
)
def test_text_is_repaired_and_cut_with_a_mark(value, limit, stored):
    assert storable.text(value, limit=limit) == stored
    assert len(stored.encode()) <= limit


@pytest.mark.parametrize(
    ("keys", "text"), [([], ""), (["a"], "/a"), (["a", 0, ""], "/a/0/"), (["a/b", "~1"], "/a~1b/~01")]
)
def test_a_pointer_escapes_as_rfc_6901_says(keys, text):
    assert storable.pointer(keys) == text


@pytest.mark.parametrize(("text", "expected"), [("Zoë 🎓", True), ("", True), ("\0", False), (LONE, False)])
def test_storable_text_is_recognized(text, expected):
    assert storable.is_storable(text) is expected


ANY_TEXT = st.text(st.characters())  # surrogates included
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.datetimes() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT | st.integers(), inner) | st.tuples(inner, inner),
)


@settings(deadline=None)
@given(ANYTHING)
def test_every_accepted_result_can_be_stored(value):
    try:
        result = storable.result(value)
    except NotStorable as error:
        assert str(error).startswith("result could not be stored: ")
        return

    document = json.dumps(result, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    assert len(document.encode()) <= MAX_BYTES
    assert "\\u0000" not in document
    assert storable.result(result) == result


@given(st.text(st.characters(), max_size=200), st.integers(40, 300))
def test_any_text_fits_its_limit_and_can_be_stored(value, limit):
    stored = storable.text(value, limit=limit)

    assert len(stored.encode()) <= limit
    assert "\0" not in stored
    assert stored.endswith(" bytes cut)") or stored == storable.mended(value)


def test_a_usual_result_takes_microseconds():
    runs = 2_000
    best = min(timeit.repeat(lambda: storable.result({"scored": 3}), number=runs, repeat=5)) / runs

    assert best < 50e-6  # 2.5 µs measured; a wide margin for a busy machine
