"""Readers of the values in a program file: each returns the value to keep, or raises WrongError."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from jobsite.programs.parameters import ParametersError, check_schema, did_you_mean
from jobsite.values import storable
from jobsite.values.durations import DurationError, parse_duration

_SIZE = re.compile(r"(\d{1,15})(KiB|MiB|GiB)")
_MAX_SIZE = 2**50
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_MAX_INTEGER = 2**31 - 1

_TYPE_NAMES = {
    str: "text",
    bool: "boolean",
    int: "integer",
    list: "list",
    dict: "table",
    type(None): "nothing",
}

Reader = Callable[[object], Any]


class WrongError(ValueError):
    """What is wrong with a value. Each caller that knows the key or the place around it puts that in front."""


def members(
    content: Mapping[str, object],
    readers: Mapping[str, Reader],
    *,
    required: Iterable[str] = (),
) -> dict[str, Any]:
    """The values of a table whose keys are all known and allowed, each read by its reader."""
    content = present(content)
    for key in content:
        if key not in readers:
            suggestion = did_you_mean(str(key), readers)
            raise WrongError(f"{key!s:.80}: is not a known key{suggestion}, known are {listed(readers)}")
    for key in required:
        if key not in content:
            raise WrongError(f"{key}: is required")
    return {key: inside(key, readers[key], value) for key, value in content.items()}


def present(content: Mapping[str, object]) -> dict[str, object]:
    """A table without the keys whose value is None."""
    return {key: value for key, value in content.items() if value is not None}


def inside(key: str, reader: Reader, value: object) -> Any:
    """Read the value of a key; the message of an error begins with the key."""
    try:
        return reader(value)
    except WrongError as error:
        raise WrongError(f"{key}: {error}") from error


def any_text(value: object) -> str:
    """Text that PostgreSQL can store."""
    if not isinstance(value, str):
        raise _expected("text", value)
    if not storable.is_storable(value):
        raise WrongError("contains a NUL character or a lone surrogate")
    return value


def text(value: object) -> str:
    """Text that is not blank."""
    if not any_text(value).strip():
        raise _expected("text that is not empty", value)
    return any_text(value)


def matching(pattern: re.Pattern[str], form: str, *, is_secret: bool = False) -> Reader:
    """A reader of text that matches a pattern as a whole; `form` describes it. The error does not repeat a secret."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise WrongError(f"expected {form}") if is_secret else _expected(form, value)
        return value

    return read


def one_of(allowed: Collection[str]) -> Reader:
    """A reader of one of these texts."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            suggestion = did_you_mean(value, allowed) if isinstance(value, str) else ""
            raise WrongError(f"{_expected(f'one of {listed(allowed)}', value)!s}{suggestion}")
        return value

    return read


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _expected("true or false", value)
    return value


def integer(low: int, high: int = _MAX_INTEGER) -> Reader:
    """A reader of integers in these bounds, both included."""
    form = f"an integer from {low} to {high}" if high < _MAX_INTEGER else f"an integer of at least {low}"

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _expected(form, value)
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A reader of numbers in these bounds, both included; they are kept as float."""

    def read(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            raise _expected(f"a number from {low:g} to {high:g}", value)
        return float(value)

    return read


def duration(value: object) -> float:
    """Seconds, from a number or a text such as "5m"."""
    try:
        return parse_duration(value)
    except DurationError as error:
        raise WrongError(str(error)) from error


def positive_duration(value: object) -> float:
    """A duration above zero, in seconds."""
    seconds = duration(value)
    if not seconds:
        raise _expected("a duration above zero", value)
    return seconds


def size(value: object) -> int:
    """Bytes, from a text such as "64MiB"; at least one mebibyte."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    count = int(found[1]) * _UNITS[found[2]] if found else 0
    if not _UNITS["MiB"] <= count <= _MAX_SIZE:
        raise _expected('a size of 1MiB or more, such as "64MiB" or "2GiB"', value)
    return count


def list_of(item: Reader, *, least: int = 0) -> Reader:
    """A reader of lists of `least` items or more, each read by `item`."""

    def read(value: object) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            raise _expected("a list that is not empty" if least else "a list", value)
        return [inside(f"item {place}", item, each) for place, each in enumerate(value, start=1)]

    return read


def distinct(item: Reader) -> Reader:
    """A reader of lists of texts that all differ."""

    def read(value: object) -> tuple[str, ...]:
        items: list[str] = list_of(item)(value)
        if len(set(items)) < len(items):
            raise WrongError("contains the same item twice, expected different ones")
        return tuple(items)

    return read


def json_value(value: object) -> object:
    """A text, number, list or table that can be stored and sent as JSON."""

    def refuse(at: str, message: str) -> None:
        raise WrongError(f"{at or 'it'} {message}")

    return storable.plain(value, refuse=refuse, mend=False)


def table(value: object) -> Mapping[str, object]:
    """A table whose members are not read."""
    if not isinstance(value, Mapping):
        raise _expected("a table", value)
    return value


def table_of(key: Reader, item: Reader) -> Reader:
    """A reader of tables with any keys that `key` reads, and values that `item` reads."""

    def read(value: object) -> dict[str, Any]:
        return {key(name): inside(str(name), item, each) for name, each in table(value).items()}

    return read


def names(value: object) -> dict[str, str]:
    """A text for each language; one text alone is English."""
    if isinstance(value, str):
        return {"en": text(value)}
    by_language: dict[str, str] = table_of(matching(_LANGUAGE, 'a language such as "en"'), text)(value)
    if not by_language:
        raise _expected("text, or a text by language", value)
    return by_language


def schema(value: object) -> object:
    """A schema that parameters can be checked with."""
    try:
        check_schema(value)
    except ParametersError as error:
        raise WrongError(str(error)) from error
    return value


def listed(allowed: Iterable[str]) -> str:
    """The allowed names in one line."""
    return ", ".join(allowed) or "none"


def _expected(form: str, value: object) -> WrongError:
    return WrongError(f"expected {form}, got {_got(value)}")


def _got(value: object) -> str:
    """The type of a value in TOML's words, and the value where it is short."""
    name = _TYPE_NAMES.get(type(value), type(value).__name__)
    if isinstance(value, str):
        return f'{name} "{storable.mended(value):.80}"'
    if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**20):
        return f"{name} {str(value).lower()}"
    return f"empty {name}" if value in ([], (), {}) else name
