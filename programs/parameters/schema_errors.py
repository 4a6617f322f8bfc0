"""What is wrong with parameters or their schema, in words: where, what was expected, and what was there instead."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from jobsite.values import storable
from jobsite.values.masking import MASK

MAX_ERRORS = 20

Path = tuple[str | int, ...]
"""Where a part of the parameters is: the keys and indexes that lead to it."""
Hidden = Mapping[Path, bool]
"""Values that no message may show: secrets with everything inside (true), and values that contain a secret (false)."""


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


def raise_any(errors: Iterable[PointerError]) -> None:
    """Raise ParametersError with the first twenty errors, if there are any."""
    found = list(islice(errors, MAX_ERRORS))
    if found:
        raise ParametersError(found)


def in_words(errors: Iterable[ValidationError], hidden: Hidden | None = None) -> Iterator[PointerError]:
    """The library's errors in our words, each line once; of a hidden value they show only the pointer and the type."""
    seen: set[PointerError] = set()
    for error in errors:
        for line in _explain(error, hidden or {}):
            if line not in seen:
                seen.add(line)
                yield line


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean "cohort"?)` if a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f' (did you mean "{close[0]}"?)' if close else ""


def described(value: object) -> str:
    """A value with its JSON type: `integer 5`."""
    return "null" if value is None else f"{type_of(value)} {shown(value)}"


def shown(value: object) -> str:
    """A value as JSON that can be stored, cut at 80 characters."""
    return _short(storable.mended(json.dumps(value, ensure_ascii=False)), 80)


def type_of(value: object) -> str:
    """The JSON type of a value, the narrower one if two fit: 1.0 is an integer."""
    names = ("null", "boolean", "integer", "number", "string", "array")
    return next((name for name in names if _is_type(value, name)), "object")


def is_any(value: object, types: Iterable[str]) -> bool:
    """Whether a value is of one of these JSON types; an integer is a number too."""
    return any(_is_type(value, name) for name in types)


_is_type = Draft202012Validator.TYPE_CHECKER.is_type

_FORMATS = {
    "date": "a date such as 2026-11-22",
    "date-time": "a time with a zone such as 2026-11-22T01:02:03Z",
    "email": "an e-mail address",
    "uri": "a URI such as https://example.com/a",
    "uuid": "a UUID",
}
_EXPECTED: dict[str, Callable[[Any], str]] = {
    "type": lambda types: types if isinstance(types, str) else " or ".join(types),
    "const": lambda value: shown(value),
    "enum": lambda values: "one of " + _listed(map(shown, values)),
    "minimum": lambda bound: f"at least {bound}",
    "maximum": lambda bound: f"at most {bound}",
    "exclusiveMinimum": lambda bound: f"more than {bound}",
    "exclusiveMaximum": lambda bound: f"less than {bound}",
    "multipleOf": lambda divisor: f"a multiple of {divisor}",
    "minLength": lambda bound: f"at least {bound} characters",
    "maxLength": lambda bound: f"at most {bound} characters",
    "pattern": lambda pattern: f"text that matches {shown(pattern)}",
    "format": lambda name: _FORMATS.get(name, name),
    "minItems": lambda bound: f"at least {bound} items",
    "maxItems": lambda bound: f"at most {bound} items",
    "uniqueItems": lambda _: "items that all differ",
    "contains": lambda _: 'an item as "contains" describes it',
    "minContains": lambda bound: f'at least {bound} items as "contains" describes them',
    "maxContains": lambda bound: f'at most {bound} items as "contains" describes them',
    "minProperties": lambda bound: f"at least {bound} members",
    "maxProperties": lambda bound: f"at most {bound} members",
    "not": lambda _: 'a value that "not" does not describe',
}


def curtailed(errors: Iterable[PointerError], hidden: Hidden) -> list[PointerError]:
    """The errors, with those inside a secret moved to the secret itself: its keys are secret too."""
    secrets = [storable.pointer(path) for path, is_secret in hidden.items() if is_secret]
    short = []
    for error in errors:
        around = next((at for at in secrets if error.pointer.startswith(f"{at}/")), None)
        short.append(error if around is None else PointerError(around, _WRONG_INSIDE))
    return short


# The library's messages for these name only keys. Keys are not secret in a value that merely contains a secret.
_NAMING_KEYS = frozenset({"dependentRequired", "unevaluatedProperties"})
_WRONG_INSIDE = "contains something that is not allowed there"


def _explain(error: ValidationError, hidden: Hidden) -> Iterator[PointerError]:
    path = tuple(error.absolute_path)
    at = storable.pointer(path)
    around = next((path[:end] for end in range(len(path)) if hidden.get(path[:end])), None)
    if around is not None:
        yield PointerError(storable.pointer(around), _WRONG_INSIDE)
    elif error.validator in ("anyOf", "oneOf") and error.context:
        yield from _explain_choice(at, error, hidden)
    elif error.validator in _EXPECTED:
        yield PointerError(at, f"expected {_wanted(error)}, got {_got(error, hidden)}")
    elif error.validator == "additionalProperties":
        yield PointerError(at, _unknown(error))
    elif error.validator in ("properties", "required"):
        yield PointerError(at, error.message)
    elif error.validator == "oneOf":
        yield PointerError(at, f"fits more than one of the allowed forms, got {_got(error, hidden)}")
    elif error.schema is False:
        yield PointerError(at, "is not allowed")
    elif path in hidden and (hidden[path] or error.validator not in _NAMING_KEYS):
        yield PointerError(at, f'is not what "{error.validator}" allows, got {_got(error, hidden)}')
    else:
        yield PointerError(at, _short(error.message, 200))


def _got(error: ValidationError, hidden: Hidden) -> str:
    if tuple(error.absolute_path) not in hidden or error.instance is None:
        return described(error.instance)
    return f"{type_of(error.instance)} {MASK}"


def _explain_choice(at: str, error: ValidationError, hidden: Hidden) -> Iterator[PointerError]:
    """A value that fits none of several schemas: what they expect, or else the errors of the nearest of them."""
    if all(not each.path and each.validator in ("type", "const", "enum") for each in error.context):
        wanted = " or ".join(dict.fromkeys(map(_wanted, error.context)))
        yield PointerError(at, f"expected {_short(wanted, 200)}, got {_got(error, hidden)}")
        return
    branches: dict[object, list[ValidationError]] = {}
    for each in error.context:
        branches.setdefault(each.schema_path[0], []).append(each)
    yield from (line for each in min(branches.values(), key=_distance) for line in _explain(each, hidden))


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


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
